"""Report of a study from its run folder alone: Markdown and HTML to read, LaTeX for a paper, CSV for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from htt.evaluation.intervals import people
from htt.evaluation.metric_table import METRICS
from htt.files import write_text
from htt.text import escaped
from tune.reports import format as fmt
from tune.reports import html, study_table
from tune.reports.figures import study as figures
from tune.reports.html import Part
from tune.reports.study_table import DIFFERENCES
from tune.reports.table import Table, csv
from tune.results import effects
from tune.results.run_folder import RunFolder
from tune.results.stats import Claim, Comparison
from tune.results.study_results import Done, Finding, findings, read

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
    done = read(folder)
    found, title = findings(done), done.record.name
    factors = {metric: effects.compared(done, metric) for metric in done.study.metrics if done.study.factors}
    html.publish(folder, title, content(done, found, factors))
    write_text(folder.path / "report.tex", _latex(title, found))
    write_text(folder.path / "report.csv", csv([study_table.variants(finding) for finding in found]))
    if factors:
        tables = [study_table.effects(metric, compared) for metric, compared in factors.items()]
        write_text(folder.path / "effects.csv", csv(tables))


def content(done: Done, found: Sequence[Finding], factors: Mapping[str, Sequence[Judged]]) -> list[Part]:
    """Return all parts of the report in reading order; ``factors`` is {metric: its effects}."""
    trials = {f"{escaped(name)} with seed {seed}": trial for (name, seed), trial in done.pairs.items()}
    codes = {name: trial.code for name, trial in trials.items() if trial.epochs}
    taken = [trial.taken_from for trial in trials.values() if trial.taken_from]
    subjects = {each for clips in done.clips.values() if "subject" in clips.columns for each in clips["subject"]}
    return html.fill(
        "study.md",
        study=done.study,
        record=done.record,
        order=done.order,
        seeds=done.seeds,
        missing=done.missing(),
        complete=sum(done.complete(name, seed) is not None for name in done.order for seed in done.seeds),
        taken=len(taken),
        origins=sorted({re.sub("/[^ ]*", "", origin) for origin in taken}),
        other_code=Markup(fmt.other_code(next(iter(done.record.codes), None), codes)),
        conclusions=[Markup(line) for finding in found for line in _conclusions(finding)],
        findings=found,
        tables={finding.metric: study_table.variants(finding).filled() for finding in found},
        effects=_effects(factors),
        contrast=lambda first, second: study_table.contrasts(second, effects.contrast(done, first, second)),
        figures=figures,
        differences={finding.metric: _differences(finding) for finding in found},
        means={finding.metric: _means(finding) for finding in found},
        same_windows=done.study.cut_alike(done.base),
        costs={finding.metric: _costs(finding) for finding in found},
        clips=min((finding.clips for finding in found if finding.clips), default=0),
        people=people(len(subjects)),
        over_seeds=[METRICS[finding.metric].title.lower() for finding in found if not finding.clips],
        published=any(not math.isnan(row.paper) for finding in found for row in finding.rows),
    )


def _conclusions(finding: Finding) -> list[str]:
    """Return the conclusions for one metric: a line for each claim, then one for each reason to claim nothing."""
    about, reference = METRICS[finding.metric], escaped(finding.reference.variant)
    lines = []
    for claim in (Claim.BETTER, Claim.WORSE):
        for row, found in finding.others:
            if found.claim is claim:
                span, p = fmt.difference_span(about, found.low, found.high), fmt.p_value(found.p_holm)
                lines.append(
                    f"{about.title}: **{escaped(row.variant)}** is {claim.value} than {reference}, "
                    f"{fmt.difference(about, found.difference)} (95 % interval {span}; p = {p})."
                )
    silent: dict[str, list[str]] = {}
    for row, found in finding.others:
        if not found.claim.differs:
            silent.setdefault(_silence(found), []).append(escaped(row.variant))
    everyone = len(finding.others)
    for why, names in silent.items():
        listed = f"all {everyone} variants" if len(names) == everyone > 3 else ", ".join(names)
        lines.append(f"{about.title}: {why}: {listed}.")
    return lines


def _silence(found: Comparison) -> str:
    if found.claim is Claim.NOT_PRIMARY:
        return "not primary, so nothing is claimed for"
    return f"{found.claim_text} for" if found.claim is Claim.NONE else found.claim_text


def _effects(factors: Mapping[str, Sequence[Judged]]) -> dict[str, Table[Judged]]:
    """Return {metric: table of the effects of factors}."""
    tables = {metric: study_table.effects(metric, compared) for metric, compared in factors.items() if compared}
    return {metric: table.select("Effect", *DIFFERENCES) for metric, table in tables.items()}


def _differences(finding: Finding) -> str:
    about = METRICS[finding.metric]
    return "; ".join(f"{row.variant}: {fmt.difference(about, found.difference)}" for row, found in finding.others)


def _means(finding: Finding) -> str:
    about = METRICS[finding.metric]
    return "; ".join(f"{row.variant}: mean {fmt.number(about, row.summary.mean)}" for row in finding.rows)


def _costs(finding: Finding) -> list[tuple[str, str, Figure]]:
    """Return (name, words of the caption, figure) of each kind of cost in which the variants differ."""
    differ = [
        each for each in COSTS if len({x for row in finding.rows if math.isfinite(x := getattr(row, each[0]))}) > 1
    ]
    drawn = [(name, price, figures.cost(finding, by)) for by, name, price in differ]
    return [(name, price, figure) for name, price, figure in drawn if figure]


def _latex(title: str, found: Sequence[Finding]) -> str:
    """Return LaTeX with a table for each metric: without the changes, and with the claim as the last column."""
    tables = []
    for finding in found:
        about, table = METRICS[finding.metric], study_table.variants(finding).filled()
        caption = (
            f"{title}: {about.title.lower()} on the validation split "
            f"({'higher' if about.higher_is_better else 'lower'} is better). Mean over seeds and difference to the "
            "reference, with 95 % intervals; p of an exact sign-flip test over seeds after Holm's correction."
        )
        label = re.sub(r"[^a-z0-9]+", "-", f"{title}-{finding.metric}".lower()).strip("-")
        titles = [column.title for column in table.shown if column.title not in ("Changes", "Claim")]
        tables.append(table.select(*titles, "Claim").latex(caption, label))
    return "% \\usepackage{booktabs,graphicx}\n\n" + "\n".join(tables)
