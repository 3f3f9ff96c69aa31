"""What a final training shows on a terminal: each epoch as it comes, and in the end what was found on both splits."""

from __future__ import annotations

from collections.abc import Mapping

from htt import console
from htt.training.metric_table import METRICS

SHOWN = ("hand_error_mm", "action_accuracy", "object_accuracy")


def epoch_line(metrics: Mapping[str, float], epochs: int) -> str:
    """An epoch in one line: its numbers, the time it took, and the time left.

    Args:
        metrics: of the epoch.
        epochs: of the whole training.
    """
    left = console.clock((epochs - metrics["epoch"]) * metrics["seconds"])
    shown = "  ".join(_words(name, metrics[name]) for name in SHOWN if name in metrics)
    return f"epoch {metrics['epoch']:.0f}/{epochs}  {shown}  {metrics['seconds']:.1f} s an epoch, {left} left"


def final_table(metrics: Mapping[str, float]) -> str:
    """The final evaluation: a line for each metric, validation and test beside each other."""
    lines = ["Final evaluation              validation      test"]
    for name in SHOWN:
        values = [metrics.get(f"{split}{name}") for split in ("", "test_")]
        if any(value is not None for value in values):
            numbers = [METRICS[name].number(value) if value is not None else "-" for value in values]
            lines.append(f"  {METRICS[name].title:<26} {numbers[0]:>11} {numbers[1]:>9}")
    return "\n".join(lines)


def _words(name: str, value: float) -> str:
    return f"{METRICS[name].title.lower()} {METRICS[name].number(value)}"
