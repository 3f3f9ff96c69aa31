"""Report of a study from its run folder alone: Markdown and HTML to read, LaTeX for a paper, CSV for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from htt.evaluation.intervals import people, sampled
from htt.evaluation.metric_table import METRICS
from htt.files import write_text
from htt.pages import html
from htt.pages.html import Part
from htt.pages.table import Table, csv
from htt.text import escaped
from tune.reports import format as fmt
from tune.reports import study_table
from tune.reports.figures import study as figures
from tune.reports.study_table import DIFFERENCES
from tune.reports.template import fill
from tune.results import effects
from tune.results.run_folder import RunFolder
from tune.results.stats import Claim, Comparison
from tune.results.study_results import MetricResults, StudyResults, parts, read, results_by_metric

Judged = tuple[effects.Effect, Comparison]
COSTS = (
    ("seconds", "time", "the mean time of a trial on the machines used"),
    ("parameters", "parameters", "the parameters of its model"),
)
"""Kinds of cost of a variant: (field of a row, name of the picture, words of the caption)."""


def write(folder: RunFolder) -> None:
    """Write the report's files and pictures, each file atomically.

    Raises:
        RunError: the folder holds no readable study.
        StorageError: the disk is full or not writable.
    """
    results = read(folder)
    shared, *tuned = parts(results)
    found, title = results_by_metric(shared), results.record.name
    own_best = [result for each in tuned for result in results_by_metric(each)]
    factors = {metric: effects.compared(shared, metric) for metric in shared.study.metrics if shared.study.factors}
    html.publish(folder.path, title, content(results, found, factors, own_best))
    latex = _latex(title, found) + (_latex(f"{title}, tuned", own_best) if own_best else "")
    write_text(folder.path / "report.tex", latex)
    write_text(folder.path / "report.csv", csv([study_table.variants(result) for result in (*found, *own_best)]))
    if factors:
        tables = [study_table.effects(metric, compared) for metric, compared in factors.items()]
        write_text(folder.path / "effects.csv", csv(tables))


def content(
    results: StudyResults,
    found: Sequence[MetricResults],
    factors: Mapping[str, Sequence[Judged]],
    own_best: Sequence[MetricResults] = (),
) -> list[Part]:
    """Return all parts of the report in reading order.

    Args:
        results: contents of the run folder.
        found: results for each metric, at shared settings.
        factors: {metric: its effects}.
        own_best: results for each metric of the variants at their own best; empty if they were not tuned.
    """
    shared, spec = parts(results)[0], results.record.study
    trials = {f"{escaped(name)} with seed {seed}": trial for (name, seed), trial in results.pairs.items()}
    codes = {name: trial.code for name, trial in trials.items() if trial.epochs}
    taken = [trial.taken_from for trial in trials.values() if trial.taken_from]
    subjects = {each for clips in results.clips.values() if "subject" in clips.columns for each in clips["subject"]}
    fewest = min((result for result in found if result.clips), key=lambda result: result.clips, default=None)
    return fill(
        "study.md",
        study=shared.study,
        spec=spec,
        own_best={result.metric: result for result in own_best},
        own_tables={result.metric: study_table.variants(result).filled() for result in own_best},
        tuning=study_table.tuning(spec, own_best[0]) if own_best else None,
        record=results.record,
        order=results.order,
        seeds=results.seeds,
        missing=results.missing(),
        complete=sum(results.complete(name, seed) is not None for name in results.order for seed in results.seeds),
        taken=len(taken),
        origins=sorted({re.sub("/[^ ]*", "", origin) for origin in taken}),
        other_code=Markup(fmt.other_code(next(iter(results.record.codes), None), codes)),
        conclusions=[Markup(line) for result in (*found, *own_best) for line in _conclusions(result)],
        results_by_metric=found,
        tables={result.metric: study_table.variants(result).filled() for result in found},
        effects=_effects(factors),
        contrast=lambda first, second: study_table.contrasts(second, effects.contrast(shared, first, second)),
        figures=figures,
        differences={result.metric: _differences(result) for result in found},
        own_differences={result.metric: _differences(result) for result in own_best},
        means={result.metric: _means(result) for result in found},
        same_windows=shared.study.cut_alike(results.base),
        costs={result.metric: _costs(result) for result in found},
        clips=fewest.clips if fewest else 0,
        groups=fewest.groups if fewest else 0,
        sampled=sampled,
        people=people(len(subjects)),
        over_seeds=[METRICS[result.metric].title.lower() for result in found if not result.clips],
        published=any(not math.isnan(row.paper) for result in found for row in result.rows),
    )


def _conclusions(result: MetricResults) -> list[str]:
    """Return the conclusions for one metric: a line for each claim, then one for each reason to claim nothing."""
    about, reference = METRICS[result.metric], escaped(result.reference.variant)
    lines = []
    for claim in (Claim.BETTER, Claim.WORSE):
        for row, found in result.others:
            if found.claim is claim:
                span, p = fmt.difference_span(about, found.low, found.high), fmt.p_value(found.p_holm)
                p = p if p.startswith("<") else f"= {p}"
                lines.append(
                    f"{about.title}: **{escaped(row.variant)}** is {claim.value} than {reference}, "
                    f"{fmt.difference(about, found.difference)} (95 % interval {span}; p {p})."
                )
    silent: dict[str, list[str]] = {}
    for row, found in result.others:
        if not found.claim.differs:
            silent.setdefault(_silence(found), []).append(escaped(row.variant))
    everyone = len(result.others)
    for why, names in silent.items():
        listed = f"all {everyone} variants" if len(names) == everyone > 3 else ", ".join(names)
        lines.append(f"{about.title}: {why}: {listed}.")
    return lines


def _silence(found: Comparison) -> str:
    if found.claim is Claim.NOT_PRIMARY:
        return "not primary, so nothing is claimed for"
    if found.claim is Claim.UNTRAINED:
        return f"{found.claim_text}, so nothing is claimed for"
    return f"{found.claim_text} for" if found.claim in (Claim.NONE, Claim.NOT_MEASURED) else found.claim_text


def _effects(factors: Mapping[str, Sequence[Judged]]) -> dict[str, Table[Judged]]:
    """Return {metric: table of the effects of factors}."""
    tables = {metric: study_table.effects(metric, compared) for metric, compared in factors.items() if compared}
    return {metric: table.select("Effect", *DIFFERENCES) for metric, table in tables.items()}


def _differences(result: MetricResults) -> str:
    about = METRICS[result.metric]
    return "; ".join(f"{row.variant}: {fmt.difference(about, found.difference)}" for row, found in result.others)


def _means(result: MetricResults) -> str:
    about = METRICS[result.metric]
    return "; ".join(f"{row.variant}: mean {fmt.number(about, row.summary.mean)}" for row in result.rows)


def _costs(result: MetricResults) -> list[tuple[str, str, Figure]]:
    """Return (name, words of the caption, figure) of each kind of cost in which the variants differ."""
    differ = [
        each for each in COSTS if len({x for row in result.rows if math.isfinite(x := getattr(row, each[0]))}) > 1
    ]
    drawn = [(name, price, figures.cost(result, by)) for by, name, price in differ]
    return [(name, price, figure) for name, price, figure in drawn if figure]


def _latex(title: str, found: Sequence[MetricResults]) -> str:
    """Return LaTeX with a table for each metric: without the changes, and with the claim as the last column."""
    tables = []
    for result in found:
        about, table = METRICS[result.metric], study_table.variants(result).filled()
        caption = (
            f"{title}: {about.title.lower()} on the validation split "
            f"({'higher' if about.higher_is_better else 'lower'} is better). Mean over seeds and difference to the "
            "reference, with 95 % intervals; p of an exact sign-flip test over seeds after Holm's correction."
        )
        label = re.sub(r"[^a-z0-9]+", "-", f"{title}-{result.metric}".lower()).strip("-")
        titles = [column.title for column in table.shown if column.title not in ("Changes", "Claim")]
        tables.append(table.select(*titles, "Claim").latex(caption, label))
    return "% \\usepackage{booktabs,graphicx}\n\n" + "\n".join(tables)
