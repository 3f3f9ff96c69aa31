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
from tune.space import LENGTH

LINE_EVERY_S = 15.0
"""Between two lines where the output is no terminal."""
PICTURES_A_SECOND = 2.0
RUNNING_SHOWN = 16
ENDED_SHOWN = 5


class Display:
    """The display of one search."""

    def __init__(self, console: Console, *, trials: int | None, epochs: int, metric: str, best: bool = True) -> None:
        """Show nothing yet.

        Args:
            console: to show on.
            trials: asked for in all; none: as many as the time allows.
            epochs: of a whole trial.
            metric: selected by.
            best: whether the best so far is of interest; of a study it is not.
        """
        self.console, self.trials, self.metric = console, trials, metric
        self._epochs, self._best = epochs, best
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
        reached = f"epoch {trial.epochs}/{self._whole(trial.values)}"
        words = f"trial {trial.number:>3}  {trial.state:<8}  {self._value(trial):>12}  {reached}"
        best = search.best() if self._best else None
        trying = pair_words(trial.variant, trial.seed) if trial.variant is not None else describe(trial.values)
        line = f"{words}  {trying}" + ("  best so far" if best and best.id == trial.id else "")
        line += f"  as {trial.taken_from}" if trial.taken_from else ""
        line += f"  breaks: {trial.breaks}" if trial.breaks else ""
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
            last = search.history.of(trial_id).get(epoch, {}).get(self.metric, math.nan)
            number = str(search.searcher.number(trial_id))
            variant, values = trial.config.get("variant"), trial.config["values"]
            trying = pair_words(variant, trial.config["seed"]) if variant is not None else describe(values)
            table.add_row(number, f"{epoch}/{self._whole(values)}", self._number(last), trying)
        more = len(search.live) - RUNNING_SHOWN
        rest = [Text(f"... and {more} more running")] if more > 0 else []
        return Group(*map(Text, self.ended), Text(""), table, *rest, Text(self._line(search), style="bold"))

    def _line(self, search: Recorder) -> str:
        ended = ", ".join(f"{count} {state}" for state, count in search.counts().items()) or "none ended"
        best = search.best()
        found = f"  best {self._value(best)} (trial {best.number})" if best else "  no value yet"
        running = " ".join(
            f"{search.searcher.number(name)}:{search.epoch(name)}/{self._whole(trial.config['values'])}"
            for name, trial in search.live.items()
        )
        where = f"{clock(search.elapsed_s)}  trials: {ended}; running {running or 'none'}"
        return f"{where}{found if self._best else ''}  {self._left(search)}"

    def _left(self, search: Recorder) -> str:
        """The time to the end: the budget's, or what the trials so far let expect, whichever is less."""
        here = len(search.done) - search.done_before
        missing = self.trials - len(search.done) if self.trials else 0
        expected = search.elapsed_s / here * missing if here > 0 and self.trials else math.inf
        left = min(search.left_s, expected)
        return f"{clock(left)} left" if math.isfinite(left) else ""

    def _whole(self, values: Mapping[str, Value]) -> int:
        """Epochs of a whole trial."""
        return int(values.get(LENGTH, self._epochs))

    def _value(self, trial: Trial) -> str:
        return self._number(value(trial, self.metric))

    def _number(self, number: float) -> str:
        return show(number, self.metric)


def show(number: float, metric: str) -> str:
    """A metric's number with its unit."""
    return METRICS[metric].number(number) if math.isfinite(number) else "-"


def pair_words(variant: str, seed: int | None) -> str:
    """A study's training in few words."""
    return f"{variant}, seed {seed}"


def describe(values: Mapping[str, Value]) -> str:
    """A sample in few words: the last two words of each path, with its value."""
    words = []
    for path, chosen in values.items():
        short = ".".join(path.split(".")[-2:])
        words.append(f"{short}={chosen:.3g}" if isinstance(chosen, float) else f"{short}={chosen}")
    return " ".join(words)
