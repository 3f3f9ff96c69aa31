"""What a search shows while it runs: which trials run, how far each is, the best so far, and the time left.

On a terminal that is one picture kept up to date; elsewhere a line for each trial that ends, and one every so often.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from htt.config import Value
from htt.console import clock
from htt.training.metric_table import METRICS
from tune.recorder import Recorder
from tune.results import Trial, value

LINE_EVERY_S = 15.0
"""Between two lines where the output is no terminal."""
PICTURES_A_SECOND = 2.0
RUNNING_SHOWN = 16
ENDED_SHOWN = 5


class Display:
    """The display of one search."""

    def __init__(self, console: Console, *, trials: int | None, epochs: int, metric: str) -> None:
        """Show nothing yet.

        Args:
            console: to show on.
            trials: asked for in all; none: as many as the time allows.
            epochs: of a whole trial.
            metric: selected by.
        """
        self.console, self.trials, self.epochs, self.metric = console, trials, epochs, metric
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self.ended: list[str] = []
        self.shown_at = time.monotonic()

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def tick(self, search: Recorder) -> None:
        """Show where the search is, if it is time to."""
        now = time.monotonic()
        if now - self.shown_at < (1 / PICTURES_A_SECOND if self.live else LINE_EVERY_S):
            return
        self.shown_at = now
        if self.live:
            self.live.update(self._picture(search), refresh=True)
        else:
            self.console.print(self._line(search))

    def on_end(self, search: Recorder, trial: Trial) -> None:
        """Show a trial that ended."""
        reached = f"epoch {trial.epochs}/{self.epochs}"
        words = f"trial {trial.number:>3}  {trial.state:<8}  {self._value(trial):>12}  {reached}"
        best = search.best()
        line = f"{words}  {describe(trial.values)}" + ("  best so far" if best and best.id == trial.id else "")
        line += f"\n           {trial.error}" if trial.error else ""
        if self.live:
            self.ended = [*self.ended, line][-ENDED_SHOWN:]
        else:
            self.console.print(Text(line))

    def _picture(self, search: Recorder) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", "epoch", METRICS[self.metric].title, "trying"):
            table.add_column(column)
        for trial_id, trial in list(search.live.items())[:RUNNING_SHOWN]:
            epoch = search.epoch(trial_id)
            last = search.history.get(trial_id, {}).get(epoch, {}).get(self.metric, math.nan)
            number = str(search.searcher.number(trial_id))
            table.add_row(number, f"{epoch}/{self.epochs}", self._number(last), describe(trial.config["values"]))
        more = len(search.live) - RUNNING_SHOWN
        rest = [Text(f"... and {more} more running")] if more > 0 else []
        return Group(*map(Text, self.ended), Text(""), table, *rest, Text(self._line(search), style="bold"))

    def _line(self, search: Recorder) -> str:
        ended = ", ".join(f"{count} {state}" for state, count in search.counts().items()) or "none ended"
        best = search.best()
        found = f"best {self._value(best)} (trial {best.number})" if best else "no value yet"
        running = " ".join(f"{search.searcher.number(one)}:{search.epoch(one)}/{self.epochs}" for one in search.live)
        return f"{clock(search.elapsed_s)}  trials: {ended}; running {running or 'none'}  {found}  {self._left(search)}"

    def _left(self, search: Recorder) -> str:
        """The time to the end: the budget's, or what the trials so far let expect, whichever is less."""
        done = len(search.done)
        expected = search.elapsed_s / done * (self.trials - done) if done and self.trials else math.inf
        left = min(search.left_s, expected)
        return f"{clock(left)} left" if math.isfinite(left) else ""

    def _value(self, trial: Trial) -> str:
        return self._number(value(trial, self.metric))

    def _number(self, number: float) -> str:
        return show(number, self.metric)


def show(number: float, metric: str) -> str:
    """A metric's number with its unit."""
    return METRICS[metric].number(number) if math.isfinite(number) else "-"


def describe(values: Mapping[str, Value]) -> str:
    """A sample in few words: the last two words of each path, with its value."""
    words = []
    for path, chosen in values.items():
        short = ".".join(path.split(".")[-2:])
        words.append(f"{short}={chosen:.3g}" if isinstance(chosen, float) else f"{short}={chosen}")
    return " ".join(words)
