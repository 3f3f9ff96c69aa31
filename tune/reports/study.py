"""Report of a study from its run folder alone: Markdown and HTML to read, LaTeX for a paper, CSV for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from htt.evaluation.intervals import people
from htt.evaluation.metric_table import METRICS
from htt.files import write_text
from htt.text import code, escaped, plural
from tune.reports import format as fmt
from tune.reports import html, study_table
from tune.reports.figures import study as figures
from tune.reports.html import Part, Picture, bullets, warnings
from tune.reports.study_table import DIFFERENCES
from tune.reports.table import csv
from tune.results import effects
from tune.results.effects import contrast
from tune.results.run_folder import RunFolder
from tune.results.stats import Claim, Comparison
from tune.results.study_results import Done, Finding, findings, read

Judged = tuple[effects.Effect, Comparison]
COSTS = (
    ("seconds", "time", "the mean time of a training on the machines used"),
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
    parts: list[Part] = [f"**{escaped(done.study.question)}**", *_missing(done), _settings(done), *_codes(done)]
    parts += ["## In short", bullets(line for finding in found for line in _conclusions(finding))]
    for finding in found:
        about = METRICS[finding.metric]
        better = "Higher" if about.higher_is_better else "Lower"
        parts += [
            f"## {about.title}",
            f"{about.sentence} {better} is better. Validation split, last epoch.",
            study_table.variants(finding).filled(),
            *_effects(finding, factors.get(finding.metric, ())),
            *_contrasts(finding, done),
            *_pictures(finding, done),
        ]
    return [*parts, "## How to read it", bullets(_notes(done, found))]


def _missing(done: Done) -> list[Part]:
    """Return warnings about missing clips and trainings."""
    data = warnings(*(f"**{escaped(message)}**" for message in done.record.incomplete))
    missing = done.missing()
    if not missing:
        return data
    wanted = len(done.order) * len(done.seeds)
    complete = sum(done.complete(name, seed) is not None for name in done.order for seed in done.seeds)
    text = f"**Incomplete:** {complete} of {plural(wanted, 'training')} came to their end. What is missing:"
    items = bullets(f"{escaped(name)}: {escaped('; '.join(why))}" for name, why in missing.items())
    return [*data, *warnings(text), items]


def _settings(done: Done) -> str:
    study, record = done.study, done.record
    lines = [
        f"{len(done.order)} variants, each trained with {plural(len(done.seeds), 'seed')} "
        f"({', '.join(map(str, done.seeds))}); the reference is **{escaped(study.reference)}**."
    ]
    if study.primary:
        named = ", ".join(f"**{escaped(name)}**" for name in study.primary)
        lines.append(f"Named beforehand, so that claims are about them alone: {named}.")
    if study.base:
        lines.append(f"All variants change in the base: {escaped(fmt.changes(study.base))}.")
    taken = [trial.taken_from for trial in done.pairs.values() if trial.taken_from]
    if taken:
        runs = sorted({re.sub("/[^ ]*", "", origin) for origin in taken})
        lines.append(
            f"{plural(len(taken), 'training')} taken over from other runs (their commit): {escaped(', '.join(runs))}."
        )
    lines.append(f"Asked by {code(record.command)}, commit {escaped(record.commit)}, {escaped(record.started)}.")
    if record.later_commits:
        lines.append(f"Gone on with at commit {escaped(', '.join(record.later_commits))}.")
    added = len(done.seeds) - record.first_seeds
    if record.first_seeds and added > 0:
        lines.append(
            f"**{plural(added, 'seed')} added later**, to the {record.first_seeds} of the beginning: p values and "
            "intervals suppose a number of seeds that was settled before the first look. Where seeds were added "
            "because of what was seen, they claim too easily."
        )
    return " ".join(lines)


def _codes(done: Done) -> list[Part]:
    """Return a warning about numbers that came from other code, if there are any."""
    pairs = {pair: trial.code for pair, trial in done.pairs.items() if trial.epochs}
    codes = {f"{escaped(variant)} with seed {seed}": code for (variant, seed), code in pairs.items()}
    return warnings(fmt.other_code(next(iter(done.record.codes), None), codes))


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
        return "not named beforehand, so nothing is claimed of"
    return f"{found.claim_text} of" if found.claim is Claim.NONE else found.claim_text


def _effects(finding: Finding, found: Sequence[Judged]) -> list[Part]:
    """Return the effects of the factors; empty for a study without factors."""
    if not found:
        return []
    text = (
        "What each factor does: the mean over all variants with the level, less that over those with the reference's. "
        "A product of two is how much the effect of one changes with the other."
    )
    return [text, study_table.effects(finding.metric, found).select("Effect", *DIFFERENCES)]


def _contrasts(finding: Finding, done: Done) -> list[Part]:
    """Return tables that compare this metric with others of the same trainings, if the study has contrasts."""
    parts: list[Part] = []
    for first, second in done.study.contrasts:
        if second == finding.metric:
            parts += [
                f"{METRICS[second].title} less {METRICS[first].title.lower()}, within each training:",
                study_table.contrasts(second, contrast(done, first, second)),
            ]
    return parts


def _pictures(finding: Finding, done: Done) -> list[Part]:
    """Return the figures of one metric with their captions."""
    metric, about, reference = finding.metric, METRICS[finding.metric], finding.reference.variant
    lower = about.title.lower()
    differences = "; ".join(f"{row.variant}: {fmt.difference(about, each.difference)}" for row, each in finding.others)
    means = "; ".join(f"{row.variant}: mean {fmt.number(about, row.summary.mean)}" for row in finding.rows)
    same = done.study.cut_alike(done.base)
    paired = ", which saw the same windows in the same order" if same else ": the same clips, cut into other windows"
    parts: list[Part] = [
        Picture(
            f"forest-{metric}",
            figures.forest(finding),
            f"{about.title}: each variant less the reference, {escaped(reference)}, with its 95 % interval over seeds"
            f"{' and clips' if finding.clips else ''}. An interval that leaves out zero is needed for a claim, and a "
            "small p after Holm's correction; filled dots have both. The shaded side is the better one.",
            f"Forest plot of differences in {lower} to {reference}. {differences}",
        ),
        Picture(
            f"seeds-{metric}",
            figures.seeds(finding, done.seeds),
            f"{about.title} of every training. A line joins the trainings of one seed{paired}. Bars are means. "
            f"{_claimed(finding)}",
            f"Dots of {lower}, one for each seed and variant, joined by seed. {means}",
        ),
    ]
    for by, name, price in COSTS:
        differ = len({getattr(row, by) for row in finding.rows if math.isfinite(getattr(row, by))}) > 1
        if differ and (cost := figures.cost(finding, by)):
            caption = (
                f"What a variant costs, {price}, against its difference to the reference, with its 95 % interval. Up "
                "is better."
            )
            drawn = f"Scatter of cost against the difference in {lower}. {differences}"
            parts.append(Picture(f"{name}-{metric}", cost, caption, drawn))
    if curves := figures.curves(finding):
        caption = (
            f"{about.title} after each epoch: the mean over seeds, and the band from the lowest to the highest seed."
        )
        drawn = f"Learning curves of {lower} over epochs, a line for each of: {', '.join(finding.curves)}."
        parts.append(Picture(f"curves-{metric}", curves, caption, drawn))
    return parts


def _claimed(finding: Finding) -> str:
    """Return a caption that names the claimed differences, because a picture of single seeds may suggest others."""
    names = [escaped(row.variant) for row, found in finding.others if found.claim.differs]
    if not names:
        return "No difference is claimed, also where all lines lean one way."
    return f"A difference to the reference is claimed of {', '.join(names)}, and of no other variant."


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


def _notes(done: Done, found: Sequence[Finding]) -> list[str]:
    by_clips = sorted({finding.clips for finding in found if finding.clips})
    by_seeds = [METRICS[finding.metric].title.lower() for finding in found if not finding.clips]
    notes = [
        "Mean: over seeds, with its 95 % t interval. Difference: the variant less the reference, seed by seed. Points: "
        "percentage points.",
        "A claim takes two things: the exact sign-flip p over seeds, after Holm's correction over the variants "
        "compared, is 0.05 at most; and the 95 % interval of the difference leaves out zero. P(better) is the share of "
        "drawn differences on the better side.",
    ]
    if by_clips:
        notes.append(
            f"Intervals of differences are over seeds and the {plural(by_clips[0], 'clip')} of the validation "
            "split that every training was judged by (a hierarchical bootstrap)."
        )
        subjects = {each for clips in done.clips.values() if "subject" in clips.columns for each in clips["subject"]}
        notes += filter(None, [people(len(subjects))])
    if by_seeds:
        notes.append(
            f"Of {', '.join(by_seeds)}, intervals of differences are over seeds alone: values of each clip were not "
            "kept by every training."
        )
    if any(not math.isnan(row.paper) for finding in found for row in finding.rows):
        lacking = "; the clips of these trainings are not all of it, so the two cannot be compared"
        whole = lacking if done.record.incomplete else ""
        notes.append(f"Paper: HTT, Wen et al., CVPR 2023, on H2O's whole validation split{whole}.")
    return [*notes, *(f"{escaped(name)}: {escaped(note)}" for name, note in done.study.notes.items())]
