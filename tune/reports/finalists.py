"""Section of a search's report, and terminal output, on its finalists: both stages beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from htt import console
from htt.evaluation.metric_table import METRICS
from htt.pages.table import Column, Table
from htt.text import plural
from tune.experiments.spec import WEIGHTS
from tune.reports import format as fmt
from tune.results import finalists
from tune.results.finalists import WORDS, Finalist, Finals
from tune.results.run_folder import RunFolder, Trial
from tune.results.selection import value
from tune.results.stats import FEWEST_RANKS


@dataclass(frozen=True)
class Section:
    """Content of the section."""

    finals: Finals
    trials: int
    """Number of trials of the search that have a value."""

    @property
    def best(self) -> Trial:
        """Best trial of both stages."""
        return self.finals.best

    @property
    def from_weights(self) -> bool:
        """True if finalists start from the weights of their trials."""
        return any(each.start == WEIGHTS for each in self.finals.finalists)

    @property
    def missing(self) -> dict[str, list[str]]:
        """{variant: reasons for missing seeds}."""
        return self.finals.results.missing()

    @property
    def tables(self) -> list[tuple[str, Table[Finalist]]]:
        """Title and table of each metric."""
        rows = [self.finals.reference, *self.finals.finalists]
        return [(METRICS[metric].title, _table(rows, metric)) for metric in self.finals.results.study.metrics]

    @property
    def sentences(self) -> list[str]:
        """Conclusions: the best configuration, the luck of the selection, and the agreement of both stages."""
        starts = dict.fromkeys(each.start for each in self.finals.finalists)
        return [self._answer(), self._luck(), *map(self._agreement, starts)]

    def _answer(self) -> str:
        finals, about = self.finals, METRICS[self.finals.metric]
        first = f"trial {finals.stage_one.number} with {about.number(value(finals.stage_one, about.name))}"
        if not finals.seeds:
            return f"No seed is complete for all finalists yet; the best configuration is that of stage one, {first}."
        if finals.winner is None:
            return f"No finalist is better than the best of stage one, {first}, so this stays the best configuration."
        mean = about.number(value(finals.best, about.name))
        over = f"{'the mean of ' if len(finals.seeds) > 1 else ''}{plural(len(finals.seeds), 'seed')}"
        return f"Best configuration: {finals.winner.variant}, with {mean} ({over}); the best of stage one is {first}."

    def _luck(self) -> str:
        about, reference = METRICS[self.finals.metric], self.finals.reference
        before, again = value(reference.found, about.name), reference.summary(about.name)
        was = f"trial {reference.found.number} had {about.number(before)} in stage one, as the best of {self.trials}"
        if not again.n:
            return f"Luck of the selection: not known yet; {was}."
        text = (
            f"Luck of the selection: {was}; with {plural(again.n, 'fresh seed')} on features, the same configuration "
        )
        text += f"has {about.number(again.mean)}"
        if not again.low <= again.high:
            return f"{text}. One seed gives no interval."
        luck = "its first value is inside the interval" if again.low <= before <= again.high else "outside it"
        return f"{text} (95 % interval {fmt.span(about, again.low, again.high)}): {luck}."

    def _agreement(self, start: str) -> str:
        rank = self.finals.agreement(start)
        over = f"{plural(rank.n, 'finalist')} {WORDS[start]}"
        if rank.n < FEWEST_RANKS:
            return f"Agreement of both stages: a rank correlation needs {FEWEST_RANKS} finalists; got {over}."
        text = f"Agreement of both stages, over {over}: "
        if math.isnan(rank.rho):
            return f"{text}unknown, as all have the same value."
        text += f"rank correlation (Spearman) {rank.rho:.2f}"
        return f"{text}, 95 % interval {rank.low:.2f} to {rank.high:.2f}."


def section(run: RunFolder, trials: Sequence[Trial]) -> Section | None:
    """Return the section on the finalists of a search, or None if it has none.

    Args:
        run: folder of the search.
        trials: trials of the search.

    Raises:
        RunError: the folder of the finalists cannot be read.
    """
    finals = finalists.read(run, trials)
    metric = run.record.search.metric
    return Section(finals, sum(metric in trial.metrics for trial in trials)) if finals else None


def show(found: Section) -> None:
    """Print the tables and the conclusions."""
    for title, table in found.tables:
        console.out.print(f"\nStages one and two by {title.lower()}", style="bold")
        console.out.print(table.terminal(console.width()), markup=False)
    console.out.print("")
    for sentence in found.sentences:
        console.out.print(sentence, markup=False)
    for variant, why in found.missing.items():
        console.out.print(f"Missing of {variant}: {'; '.join(why)}", markup=False)


def _table(rows: Sequence[Finalist], metric: str) -> Table[Finalist]:
    """Return the table of a metric in both stages."""
    about = METRICS[metric]
    number = partial(fmt.number, about)
    columns: list[Column[Finalist]] = [
        Column("", lambda row: row.variant, "Configuration", number=False),
        Column("", lambda row: value(row.found, metric), "Stage one", number),
        Column("", lambda row: row.summary(metric).n, "Seeds"),
        Column("", lambda row: row.summary(metric).mean, "Stage two", number),
        Column("", lambda row: row.summary(metric), "95 % interval", lambda each: fmt.span(about, each.low, each.high)),
    ]
    return Table(columns, rows)
