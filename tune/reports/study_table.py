"""Tables of a study: its variants, the effects of its factors, and contrasts of two metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

from htt.evaluation.metric_table import METRICS, Metric
from htt.pages.table import Column, RowT, Table
from htt.text import NOTHING
from tune.experiments.spec import StudySpec, Tuned
from tune.experiments.study import TUNED
from tune.reports import format as fmt
from tune.results.effects import Effect
from tune.results.stats import Comparison
from tune.results.study_results import MetricResults, VariantResults

REFERENCE = "reference"
TERMINAL = ("Variant", "Seeds", "Mean", "95 % interval", "Difference", "Its 95 % interval", "p (Holm)")
"""Titles of the columns that a terminal shows of the variants, beside the whole claim."""
DIFFERENCES = ("Difference", "95 % interval", "p (Holm)", "Claim")


def variants(result: MetricResults) -> Table[VariantResults]:
    """Return the table of the variants for one metric."""
    about = METRICS[result.metric]
    columns: list[Column[VariantResults]] = [
        *_metric(about),
        Column("variant", attrgetter("variant"), "Variant", number=False),
        Column("changes", lambda row: fmt.changes(row.changes), "Changes", number=False),
        Column("seeds", attrgetter("summary.n"), "Seeds"),
        Column("mean", attrgetter("summary.mean"), "Mean", partial(fmt.number, about)),
        Column("iqm", attrgetter("summary.iqm")),
        Column("", attrgetter("summary"), "95 % interval", lambda each: fmt.span(about, each.low, each.high)),
        Column("mean_low", attrgetter("summary.low")),
        Column("mean_high", attrgetter("summary.high")),
        *_comparison(about, attrgetter("comparison"), "Its 95 % interval", "difference_"),
        Column("claim", lambda row: row.comparison.claim_text if row.comparison else REFERENCE),
        Column("", lambda row: row.comparison.claim.value if row.comparison else REFERENCE, "Claim", number=False),
        Column("parameters", attrgetter("parameters"), "Parameters", fmt.count),
        Column("seconds_per_trial", attrgetter("seconds"), "Time a trial", fmt.duration),
        Column("paper", attrgetter("paper"), "Paper", partial(fmt.number, about)),
    ]
    return Table(columns, result.rows)


def terminal(table: Table[VariantResults]) -> Table[VariantResults]:
    """Return the table of the variants for a terminal, with the number of seeds needed in claims that lack seeds."""
    claim = next(replace(column, title="Claim", number=False) for column in table.columns if column.name == "claim")
    return replace(table, columns=[*table.select(*TERMINAL).columns, claim])


def tuning(spec: StudySpec, result: MetricResults) -> Table[tuple[str, Tuned]]:
    """Return the table of the searches of a tuned study: what each cost and found, and what fresh seeds give.

    Args:
        spec: tuned study.
        result: results of the variants at their own best for the metric of the searches.
    """
    about, means = METRICS[spec.metric], {row.variant: row.summary.mean for row in result.rows}
    columns: list[Column[tuple[str, Tuned]]] = [
        Column("variant", lambda row: row[0], "Variant", number=False),
        Column("trials", lambda row: row[1].trials, "Trials"),
        Column("pruned", lambda row: row[1].pruned, "Stopped early"),
        Column("seconds", lambda row: row[1].seconds, "Time of all trials", fmt.duration),
        Column("best", lambda row: row[1].value, "Best trial", partial(fmt.number, about)),
        Column("mean", lambda row: means[f"{row[0]}{TUNED}"], "Its mean over fresh seeds", partial(fmt.number, about)),
        Column("settings", lambda row: fmt.changes(row[1].values), "Its settings", number=False),
    ]
    return Table(columns, list(spec.tuned.items()))


def effects(metric: str, compared: Sequence[tuple[Effect, Comparison]]) -> Table[tuple[Effect, Comparison]]:
    """Return the table of the effects of factors on one metric."""
    about = METRICS[metric]
    comparison: list[Column[tuple[Effect, Comparison]]] = _comparison(about, lambda row: row[1])
    columns: list[Column[tuple[Effect, Comparison]]] = [
        *_metric(about),
        Column("effect", lambda row: row[0].title, "Effect", number=False),
        Column("factors", lambda row: " x ".join(row[0].factors)),
        *(column for column in comparison if column.name == "paired_seeds"),
        *(column for column in comparison if column.name != "paired_seeds"),
        Column("claim", lambda row: _effect_claim(*row), "Claim", number=False),
    ]
    return Table(columns, compared)


def contrasts(metric: str, compared: Mapping[str, Comparison]) -> Table[tuple[str, Comparison]]:
    """Return the table that compares one metric with another of the same trials."""
    comparison: list[Column[tuple[str, Comparison]]] = _comparison(METRICS[metric], lambda row: row[1])
    columns: list[Column[tuple[str, Comparison]]] = [
        Column("variant", lambda row: row[0], "Variant", number=False),
        *comparison,
        Column("claim", lambda row: row[1].claim.value, "Claim", number=False),
    ]
    return Table(columns, list(compared.items())).select("Variant", *DIFFERENCES)


def _metric(about: Metric) -> list[Column[RowT]]:
    return [Column("metric", lambda _: about.name), Column("unit", lambda _: about.unit)]


def _comparison(
    about: Metric, of: Callable[[RowT], Comparison | None], interval: str = "95 % interval", prefix: str = ""
) -> list[Column[RowT]]:
    """Return the columns of the comparison that ``of`` returns for a row, or None.

    Args:
        about: metric that is compared.
        of: returns the comparison of a row, or None.
        interval: title of the interval.
        prefix: prefix of the names of the interval's ends in CSV.
    """

    def part(name: str) -> Callable[[RowT], object]:
        return lambda row: getattr(found, name) if (found := of(row)) else ""

    def whole(row: RowT) -> object:
        return of(row) or ""

    return [
        Column("difference", part("difference"), "Difference", partial(fmt.difference, about)),
        Column("", whole, interval, lambda each: fmt.difference_span(about, each.low, each.high)),
        Column(f"{prefix}low", part("low")),
        Column(f"{prefix}high", part("high")),
        Column("paired_seeds", part("n")),
        Column("p", part("p")),
        Column("p_holm", part("p_holm")),
        Column("", whole, "p (Holm)", lambda each: fmt.p_value(each.p_holm) if each.n else NOTHING),
        Column("p_better", part("better"), "P(better)", fmt.probability),
    ]


def _effect_claim(effect: Effect, found: Comparison) -> str:
    """Return the claim in a few words; for an interaction, it compares both together with the sum of each."""
    claim = found.claim.value
    return f"together {claim} than added up" if len(effect.factors) > 1 and found.claim.differs else claim
