"""Terminal output of a final training: each epoch when it ends, and the final evaluation on both splits."""

from __future__ import annotations

from collections.abc import Mapping

from htt import console
from htt.evaluation.metric_table import METRICS
from htt.training.messages import Step

SHOWN = ("hand_error_mm", "action_accuracy", "object_accuracy")


class EpochDisplay:
    """Display of a training: a progress bar for the current epoch, and one line with its metrics when it has ended.

    ``with progress.EpochDisplay(45) as display: ...``
    """

    def __init__(self, epochs: int) -> None:
        """Start without output, for a training of so many epochs."""
        self._epochs = epochs
        self._counting: console.Counting | None = None
        self._at: Step | None = None

    def __enter__(self) -> EpochDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def step(self, step: Step) -> None:
        """Advance the progress bar of the current epoch."""
        if self._at is None or step.epoch != self._at.epoch or step.done < self._at.done:
            self._close()
            title = f"epoch {step.epoch}/{self._epochs}"
            self._counting = console.Counting(title, step.of, "windows", done=step.done, passing=True)
            self._counting.__enter__()
        elif self._counting:
            self._counting.advance(step.done - self._at.done)
        self._at = step

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Print the metrics of an epoch that has ended."""
        self._close()
        console.print_folded(epoch_line(metrics, self._epochs))

    def _close(self) -> None:
        if self._counting:
            self._counting.__exit__()
        self._counting = self._at = None


def epoch_line(metrics: Mapping[str, float], epochs: int) -> str:
    """Return one line with an epoch's metrics, its duration, and the time left of a training of ``epochs`` epochs."""
    left = console.clock((epochs - metrics["epoch"]) * metrics["seconds"])
    shown = "  ".join(
        f"{METRICS[name].title.lower()} {METRICS[name].number(metrics[name])}" for name in SHOWN if name in metrics
    )
    return f"epoch {metrics['epoch']:.0f}/{epochs}  {left} left  {shown}  {metrics['seconds']:.1f} s an epoch"


def final_table(metrics: Mapping[str, float]) -> str:
    """Return the final evaluation as a table: one row per metric, with validation and test columns."""
    rows = [["Final evaluation", "validation", "test"]]
    for name in SHOWN:
        values = [metrics.get(f"{split}{name}") for split in ("", "test_")]
        if any(value is not None for value in values):
            numbers = [METRICS[name].number(value) if value is not None else "-" for value in values]
            rows.append([METRICS[name].title, *numbers])
    if len(rows) == 1:
        return "Final evaluation: the data have no validation or test clips with labels."
    return console.table(rows, console.width())
