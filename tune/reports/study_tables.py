"""Tables of a study: for the report, for a paper (LaTeX, booktabs) and for other programs (CSV)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from htt import text
from htt.evaluation.metric_table import METRICS, Metric
from tune.reports import formatting, latex
from tune.reports.document import Table, escaped
from tune.reports.formatting import NOTHING
from tune.results.effects import Effect
from tune.results.stats import Comparison
from tune.results.study_results import Finding, Row

REFERENCE = "reference"
COLUMNS = (
    "metric", "unit", "variant", "changes", "seeds", "mean", "iqm", "mean_low", "mean_high", "difference",
    "difference_low", "difference_high", "paired_seeds", "p", "p_holm", "p_better", "claim", "parameters",
    "seconds_per_trial", "paper",
)  # fmt: skip
"""Columns of the CSV: unrounded numbers in the metric's own unit (fractions, not percent); empty without a number."""
EFFECT_COLUMNS = (
    "metric", "unit", "effect", "factors", "paired_seeds", "difference", "low", "high", "p", "p_holm", "p_better",
    "claim", "could_be",
)  # fmt: skip
"""Columns of the CSV of effects; ``could_be``: interactions aliased with the effect in a fractional design."""


def table(finding: Finding) -> Table:
    """Return the table of one metric for the report."""
    columns = [(head, cells) for head, cells in _columns(finding) if any(cell != NOTHING for cell in cells)]
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return Table([head for head, _ in columns], [[escaped(cell) for cell in row] for row in rows])


def effects(metric: str, compared: Sequence[tuple[Effect, Comparison]]) -> Table:
    """Return the table of the effects of factors on one metric."""
    return _differences(
        metric, "Effect", [(effect.title, found, effect_claim(effect, found)) for effect, found in compared]
    )


def contrasts(metric: str, compared: Mapping[str, Comparison]) -> Table:
    """Return the table that compares one metric with another of the same trainings."""
    return _differences(metric, "Variant", [(name, found, found.claim.value) for name, found in compared.items()])


def _differences(metric: str, what: str, compared: Sequence[tuple[str, Comparison, str]]) -> Table:
    about = METRICS[metric]
    rows = [
        [
            escaped(title),
            formatting.difference(about, found.difference),
            formatting.difference_span(about, found.low, found.high),
            escaped(formatting.p_value(found.p_holm)) if found.n else NOTHING,
            escaped(claim),
        ]
        for title, found, claim in compared
    ]
    return Table([what, "Difference", "95 % interval", "p (Holm)", "Claim"], rows)


def effect_claim(effect: Effect, found: Comparison) -> str:
    """Return the claim in a few words; for an interaction, it compares both together with the sum of each."""
    claim = found.claim.value
    return f"together {claim} than added up" if len(effect.factors) > 1 and found.claim.differs else claim


def effects_csv(found: Mapping[str, Sequence[tuple[Effect, Comparison]]]) -> str:
    """Return CSV with a line for each metric and effect; ``found`` is {metric: effects}."""
    lines = []
    for metric, compared in found.items():
        for effect, one in compared:
            aliases = "; ".join(" x ".join(alias) for alias in effect.aliases)
            line = [metric, METRICS[metric].unit, effect.title, " x ".join(effect.factors), one.n, one.difference]
            line += [one.low, one.high, one.p, one.p_holm, one.better, effect_claim(effect, one), aliases]
            lines.append(line)
    return text.csv(EFFECT_COLUMNS, lines)


def tex(title: str, found: Sequence[Finding]) -> str:
    """Return LaTeX with a table for each metric; the first line names the packages needed."""
    return "% \\usepackage{booktabs,graphicx}\n\n" + "\n".join(_tex(title, one) for one in found)


def csv(found: Sequence[Finding]) -> str:
    """Return CSV with a line for each metric and variant."""
    return text.csv(COLUMNS, (_line(METRICS[finding.metric], row) for finding in found for row in finding.rows))


def _columns(finding: Finding) -> list[tuple[str, list[str]]]:
    """Return (head, cells) of every column, also of columns that hold only dashes."""
    about, rows = METRICS[finding.metric], finding.rows

    def each(write: Callable[[Row], str]) -> list[str]:
        return [write(row) for row in rows]

    return [
        ("Variant", each(lambda row: row.variant)),
        ("Changes", each(lambda row: formatting.changes(row.changes))),
        ("Seeds", each(lambda row: str(row.summary.n))),
        ("Mean", each(lambda row: formatting.number(about, row.summary.mean))),
        ("95 % interval", each(lambda row: formatting.span(about, row.summary.low, row.summary.high))),
        (
            "Difference",
            each(lambda row: formatting.difference(about, row.comparison.difference) if row.comparison else NOTHING),
        ),
        ("Its 95 % interval", each(lambda row: _difference_span(about, row))),
        (
            "p (Holm)",
            each(
                lambda row: (
                    formatting.p_value(row.comparison.p_holm) if row.comparison and row.comparison.n else NOTHING
                )
            ),
        ),
        ("P(better)", each(lambda row: formatting.probability(row.comparison.better) if row.comparison else NOTHING)),
        ("Claim", each(_claim)),
        ("Parameters", each(lambda row: formatting.count(row.parameters))),
        ("Time a trial", each(lambda row: formatting.duration(row.seconds))),
        ("Paper", each(lambda row: formatting.number(about, row.paper))),
    ]


def _claim(row: Row) -> str:
    return row.comparison.claim.value if row.comparison else REFERENCE


def _difference_span(about: Metric, row: Row) -> str:
    return formatting.difference_span(about, row.comparison.low, row.comparison.high) if row.comparison else NOTHING


def _tex(title: str, finding: Finding) -> str:
    about = METRICS[finding.metric]
    heads, rows = _narrow(finding)
    caption = (
        f"{title}: {about.title.lower()} on the validation split "
        f"({'higher' if about.higher_is_better else 'lower'} is better). Mean over seeds and difference to the "
        "reference, with 95 % intervals; p of an exact sign-flip test over seeds after Holm's correction."
    )
    label = re.sub(r"[^a-z0-9]+", "-", f"{title}-{finding.metric}".lower()).strip("-")
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex.escaped(caption)}}}",
        r"  \smallskip",
        rf"  \label{{tab:{label}}}",
        r"  \resizebox{\linewidth}{!}{%",
        rf"  \begin{{tabular}}{{l{'r' * (len(heads) - 2)}l}}",
        r"    \toprule",
        f"    {' & '.join(map(latex.escaped, heads))} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(map(latex.escaped, cells))} \\\\" for cells in rows),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _narrow(finding: Finding) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows for a printed page: without the changes, and with the claim as the last column."""
    columns = {head: cells for head, cells in _columns(finding) if any(cell != NOTHING for cell in cells)}
    columns.pop("Changes", None)
    columns["Claim"] = columns.pop("Claim")
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _line(about: Metric, row: Row) -> list[object]:
    found, mean = row.comparison, row.summary
    compared: list[object] = ["", "", "", "", "", "", "", REFERENCE]
    if found:
        compared = [found.difference, found.low, found.high, found.n, found.p, found.p_holm, found.better]
        compared.append(found.claim_text)
    changes = formatting.changes(row.changes)
    ours: list[object] = [
        about.name,
        about.unit,
        row.variant,
        changes,
        mean.n,
        mean.mean,
        mean.iqm,
        mean.low,
        mean.high,
    ]
    return [*ours, *compared, row.parameters, row.seconds, row.paper]
