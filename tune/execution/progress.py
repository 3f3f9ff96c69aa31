"""Progress display of a search: running trials, their epochs, the best so far, and the time left.

A terminal shows one live view. Otherwise a line is printed for each ended trial, and a status line at intervals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from htt import console as consoles
from htt.config import Value
from htt.console import clock
from htt.evaluation.metric_table import METRICS
from tune.execution.recorder import Recorder
from tune.experiments.space import LENGTH
from tune.reports import format as fmt
from tune.results.run_folder import Trial
from tune.results.selection import value

PICTURES_A_SECOND = 2.0
RUNNING_SHOWN = 16
RUNNING_IN_A_LINE = 8
ENDED_SHOWN = 5
STOPPING = "Stopping: saving running trials, then writing the report. Press Ctrl-C again to exit at once."


class Display:
    """Progress display of one search."""

    def __init__(self, console: Console, *, trials: int | None, epochs: int, metric: str, best: bool = True) -> None:
        """Create the display; nothing is shown yet.

        Args:
            console: console to show on.
            trials: total number of trials, or None for as many as the time budget allows.
            epochs: number of epochs of a full trial.
            metric: metric that selects trials.
            best: True to show the best trial so far; False for a study.
        """
        self.console, self.trials, self.metric = console, trials, metric
        self._epochs, self._best = epochs, best
        self.live = Live(console=console, auto_refresh=False, transient=True) if consoles.is_live(console) else None
        self.ended: list[str] = []
        self.shown_at = time.monotonic()
        self.stopping = False

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def tick(self, search: Recorder) -> None:
        """Update the display if enough time has passed."""
        if search.stop_reason == "interrupted" and not self.stopping:
            self.stopping = True
            self.console.print(STOPPING)
        now = time.monotonic()
        if now - self.shown_at < (1 / PICTURES_A_SECOND if self.live else consoles.pause(search.elapsed_s)):
            return
        self.shown_at = now
        if self.live:
            self.live.update(self._picture(search), refresh=True)
        else:
            self.console.print(Text("  ".join(self._lines(search))))

    def on_end(self, search: Recorder, trial: Trial) -> None:
        """Show an ended trial."""
        reached = f"epoch {trial.epochs}/{self._whole(trial.values)}"
        best = search.best() if self._best else None
        result = f"{self._value(trial):>12}"
        result += f"  best so far by {self._title}" if best and best.id == trial.id else ""
        trying = pair_words(trial.variant, trial.seed) if trial.variant is not None else fmt.sample(trial.values)
        line = f"trial {trial.number:>3}  {trial.state:<8}  {result}  {reached}  {trying}"
        line += f"  as {trial.taken_from}" if trial.taken_from else ""
        line += f"  breaks: {trial.violation}" if trial.violation else ""
        line += f"\n           {trial.error}" if trial.error else ""
        if self.live:
            self.ended = [line, *self.ended][:ENDED_SHOWN]
        else:
            self.console.print(Text(line))
            self.shown_at = time.monotonic()

    def _picture(self, search: Recorder) -> RenderableType:
        """Return the live view; the best and the time left come first, as a small terminal cuts off the end."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column, justify in (("trial", "right"), ("epoch", "right"), (METRICS[self.metric].title, "right")):
            table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        table.add_column("trying", overflow="fold")
        shown = min(RUNNING_SHOWN, max(2, self.console.height // 4))
        for trial_id, trial in list(search.live.items())[:shown]:
            epoch = search.epoch(trial_id)
            last = search.history.of(trial_id).get(epoch, {}).get(self.metric, math.nan)
            number = str(search.searcher.number(trial_id))
            variant, values = trial.config.get("variant"), trial.config["values"]
            trying = pair_words(variant, trial.config["seed"]) if variant is not None else fmt.sample(values)
            table.add_row(number, f"{epoch}/{self._whole(values)}", show(last, self.metric), Text(trying))
        more = len(search.live) - shown
        rest = [Text(f"... and {more} more running")] if more > 0 else []
        first, second, _ = self._lines(search)
        ended = [Text("\nended, newest first:", style="dim"), *map(_folded, self.ended)] if self.ended else []
        return Group(_folded(first, "bold"), _folded(second), Text(""), table, *rest, *ended)

    def _lines(self, search: Recorder) -> tuple[str, str, str]:
        """Return three lines: the best so far and the time left, the counts of ended trials, and the running trials."""
        best = search.best()
        best_words = f"best {self._title} {self._value(best)} (trial {best.number})" if best else "no value yet"
        counts = ", ".join(f"{count} {state}" for state, count in search.counts().items()) or "none ended"
        of = f" of {self.trials}" if self.trials else ""
        running = " ".join(
            f"{search.searcher.number(name)}:{search.epoch(name)}/{self._whole(trial.config['values'])}"
            for name, trial in list(search.live.items())[:RUNNING_IN_A_LINE]
        )
        more = len(search.live) - RUNNING_IN_A_LINE
        running += f" and {more} more" if more > 0 else ""
        times = "  ".join(filter(None, [self._left(search), f"{clock(search.elapsed_s)} elapsed"]))
        first = f"{best_words}  {times}" if self._best else times
        return first, f"trials{of}: {counts}", f"running {running or 'none: waiting for a process or for resources'}"

    def _left(self, search: Recorder) -> str:
        """Return the time left: by the budget or by the duration of the trials so far, whichever is less."""
        ended = len(search.done) - search.done_before
        expected = math.inf
        if self.trials and ended > 0:
            expected = search.elapsed_s / ended * (self.trials - len(search.done))
        left = min(search.left_s, expected)
        return f"{clock(left)} left" if math.isfinite(left) else ""

    def _whole(self, values: Mapping[str, Value]) -> int:
        """Return the number of epochs of a full trial."""
        return int(values.get(LENGTH, self._epochs))

    @property
    def _title(self) -> str:
        """Title of the metric; of several objectives, only the first is shown."""
        return METRICS[self.metric].title.lower()

    def _value(self, trial: Trial) -> str:
        return show(value(trial, self.metric), self.metric)


def show(number: float, metric: str) -> str:
    """Return a metric's number with its unit."""
    return METRICS[metric].number(number) if math.isfinite(number) else "-"


def _folded(text: str, style: str = "") -> Text:
    """Return text that wraps between words, although the console itself does not wrap lines."""
    return Text(text, style, no_wrap=False, overflow="fold")


def pair_words(variant: str, seed: int | None) -> str:
    """Return a short description of a study's trial."""
    return f"{variant}, seed {seed}"
