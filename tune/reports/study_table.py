"""Tables of a study: its variants, the effects of its factors, and contrasts of two metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from htt.evaluation.metric_table import METRICS, Metric
from tune.reports import format as fmt
from tune.reports.format import NOTHING
from tune.reports.table import Column, RowT, Table
from tune.results.effects import Effect
from tune.results.stats import Comparison
from tune.results.study_results import Finding, Row

REFERENCE = "reference"
TERMINAL = ("Variant", "Seeds", "Mean", "95 % interval", "Difference", "Its 95 % interval", "p (Holm)", "Claim")
"""Titles of the columns that a terminal shows of the variants."""
DIFFERENCES = ("Difference", "95 % interval", "p (Holm)", "Claim")


def variants(finding: Finding) -> Table[Row]:
    """Return the table of the variants for one metric."""
    about = METRICS[finding.metric]
    difference, interval, paired, *tests = _comparison(
        about, attrgetter("comparison"), "Its 95 % interval", "difference_"
    )
    columns: list[Column[Row]] = [
        *_metric(about),
        Column.of("variant", attrgetter("variant"), "Variant"),
        Column.of("changes", lambda row: fmt.changes(row.changes), "Changes"),
        Column.of("seeds", attrgetter("summary.n"), "Seeds", number=True),
        Column("Mean", lambda row: fmt.number(about, row.summary.mean), values={"mean": attrgetter("summary.mean")}),
        Column.of("iqm", attrgetter("summary.iqm")),
        Column(
            "95 % interval",
            lambda row: fmt.span(about, row.summary.low, row.summary.high),
            values={"mean_low": attrgetter("summary.low"), "mean_high": attrgetter("summary.high")},
        ),
        difference,
        interval,
        paired,
        *tests,
        Column(
            "Claim",
            lambda row: row.comparison.claim.value if row.comparison else REFERENCE,
            False,
            {"claim": lambda row: row.comparison.claim_text if row.comparison else REFERENCE},
        ),
        Column("Parameters", lambda row: fmt.count(row.parameters), values={"parameters": attrgetter("parameters")}),
        Column(
            "Time a trial", lambda row: fmt.duration(row.seconds), values={"seconds_per_trial": attrgetter("seconds")}
        ),
        Column("Paper", lambda row: fmt.number(about, row.paper), values={"paper": attrgetter("paper")}),
    ]
    return Table(columns, finding.rows)


def effects(metric: str, compared: Sequence[tuple[Effect, Comparison]]) -> Table[tuple[Effect, Comparison]]:
    """Return the table of the effects of factors on one metric; ``could_be`` lists the aliases of an effect."""
    about = METRICS[metric]
    difference, interval, paired, *tests = _comparison(about, lambda row: row[1], "95 % interval")
    return Table(
        [
            *_metric(about),
            Column.of("effect", lambda row: row[0].title, "Effect"),
            Column.of("factors", lambda row: " x ".join(row[0].factors)),
            paired,
            difference,
            interval,
            *tests,
            Column.of("claim", lambda row: _effect_claim(*row), "Claim"),
            Column.of("could_be", lambda row: "; ".join(" x ".join(alias) for alias in row[0].aliases)),
        ],
        compared,
    )


def contrasts(metric: str, compared: Mapping[str, Comparison]) -> Table[tuple[str, Comparison]]:
    """Return the table that compares one metric with another of the same trials."""
    variant: Column[tuple[str, Comparison]] = Column.of("variant", lambda row: row[0], "Variant")
    claim: Column[tuple[str, Comparison]] = Column.of("claim", lambda row: row[1].claim.value, "Claim")
    columns = [variant, *_comparison(METRICS[metric], lambda row: row[1], "95 % interval"), claim]
    return Table(columns, list(compared.items())).select("Variant", *DIFFERENCES)


def _metric(about: Metric) -> list[Column[RowT]]:
    return [Column.of("metric", lambda _: about.name), Column.of("unit", lambda _: about.unit)]


def _comparison(
    about: Metric, of: Callable[[RowT], Comparison | None], interval: str, prefix: str = ""
) -> list[Column[RowT]]:
    """Return the columns of a comparison, empty for rows that have none.

    They are: difference, its interval, number of paired seeds (CSV), p (CSV), p after correction, P(better).

    Args:
        about: metric that is compared.
        of: returns the comparison of a row.
        interval: title of the interval.
        prefix: prefix of the names of the interval's ends in CSV.
    """

    def cell(show: Callable[[Comparison], str]) -> Callable[[RowT], str]:
        return lambda row: show(found) if (found := of(row)) else NOTHING

    def value(name: str) -> Callable[[RowT], object]:
        return lambda row: getattr(found, name) if (found := of(row)) else ""

    return [
        Column(
            "Difference",
            cell(lambda found: fmt.difference(about, found.difference)),
            values={"difference": value("difference")},
        ),
        Column(
            interval,
            cell(lambda found: fmt.difference_span(about, found.low, found.high)),
            values={f"{prefix}low": value("low"), f"{prefix}high": value("high")},
        ),
        Column.of("paired_seeds", value("n")),
        Column.of("p", value("p")),
        Column(
            "p (Holm)",
            cell(lambda found: fmt.p_value(found.p_holm) if found.n else NOTHING),
            values={"p_holm": value("p_holm")},
        ),
        Column("P(better)", cell(lambda found: fmt.probability(found.better)), values={"p_better": value("better")}),
    ]


def _effect_claim(effect: Effect, found: Comparison) -> str:
    """Return the claim in a few words; for an interaction, it compares both together with the sum of each."""
    claim = found.claim.value
    return f"together {claim} than added up" if len(effect.factors) > 1 and found.claim.differs else claim
