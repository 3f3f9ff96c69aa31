"""Report of a study from its run folder alone: Markdown and HTML to read, LaTeX for a paper, CSV for programs."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from htt.evaluation.intervals import people
from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.reports import formatting, html, study_tables
from tune.reports.document import Heading, Listing, Part, Picture, Text, code, escaped
from tune.reports.figures import study as study_figures
from tune.reports.study_tables import table
from tune.results import effects
from tune.results.contrasts import contrast
from tune.results.run_folder import RunFolder, write_text
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
    found = findings(done)
    title = done.asked.name
    factors = {metric: effects.compared(done, metric) for metric in done.study.metrics if done.study.factors}
    html.publish(folder, title, content(done, found, factors))
    write_text(folder.path / "report.tex", study_tables.tex(title, found))
    write_text(folder.path / "report.csv", study_tables.csv(found))
    if factors:
        write_text(folder.path / "effects.csv", study_tables.effects_csv(factors))


def content(done: Done, found: Sequence[Finding], factors: Mapping[str, Sequence[Judged]]) -> list[Part]:
    """Return all parts of the report in reading order; ``factors`` is {metric: its effects}."""
    parts: list[Part] = [Text(f"**{escaped(done.study.question)}**"), *_missing(done), _asked(done), *_codes(done)]
    parts += [Heading("In short"), Listing([line for finding in found for line in _in_short(finding)])]
    for finding in found:
        about = METRICS[finding.metric]
        parts += [Heading(about.title), Text(f"{about.sentence} {_direction(finding)}"), table(finding)]
        parts += [
            *_effects(finding, done, factors.get(finding.metric, ())),
            *_contrasts(finding, done),
            *_pictures(finding, done),
        ]
    parts += [Heading("How to read it"), Listing(_notes(done, found))]
    return parts


def _missing(done: Done) -> list[Part]:
    """Return warnings about missing clips and trainings."""
    data: list[Part] = [Text(f"**{escaped(said)}**", warns=True) for said in done.asked.incomplete]
    missing = done.missing()
    if not missing:
        return data
    wanted = len(done.order) * len(done.seeds)
    complete = sum(done.complete(name, seed) is not None for name in done.order for seed in done.seeds)
    text = f"**Incomplete:** {complete} of {plural(wanted, 'training')} came to their end. What is missing:"
    items = [f"{escaped(name)}: {escaped('; '.join(why))}" for name, why in missing.items()]
    return [*data, Text(text, warns=True), Listing(items)]


def _asked(done: Done) -> Text:
    study, asked = done.study, done.asked
    lines = [
        f"{len(done.order)} variants, each trained with {plural(len(done.seeds), 'seed')} "
        f"({', '.join(map(str, done.seeds))}); the reference is **{escaped(study.reference)}**."
    ]
    if study.primary:
        named = ", ".join(f"**{escaped(name)}**" for name in study.primary)
        lines.append(f"Named beforehand, so that claims are about them alone: {named}.")
    if study.base:
        lines.append(f"All variants change in the base: {escaped(formatting.changes(study.base))}.")
    taken = [trial.taken_from for trial in done.pairs.values() if trial.taken_from]
    if taken:
        runs = sorted({re.sub("/[^ ]*", "", origin) for origin in taken})
        lines.append(
            f"{plural(len(taken), 'training')} taken over from other runs (their commit): {escaped(', '.join(runs))}."
        )
    lines.append(f"Asked by {code(asked.command)}, commit {escaped(asked.commit)}, {escaped(asked.started)}.")
    if asked.later_commits:
        lines.append(f"Gone on with at commit {escaped(', '.join(asked.later_commits))}.")
    added = len(done.seeds) - asked.first_seeds
    if asked.first_seeds and added > 0:
        lines.append(
            f"**{plural(added, 'seed')} added later**, to the {asked.first_seeds} of the beginning: p values and "
            "intervals suppose a number of seeds that was settled before the first look. Where seeds were added "
            "because of what was seen, they claim too easily."
        )
    return Text(" ".join(lines))


def _codes(done: Done) -> list[Part]:
    """Return a warning about numbers that came from other code, if there are any."""
    codes = {
        f"{escaped(variant)} with seed {seed}": trial.code
        for (variant, seed), trial in done.pairs.items()
        if trial.epochs
    }
    said = formatting.other_code(next(iter(done.asked.codes), None), codes)
    return [Text(said, warns=True)] if said else []


def _direction(finding: Finding) -> str:
    higher = METRICS[finding.metric].higher_is_better
    return f"{'Higher' if higher else 'Lower'} is better. Validation split, last epoch."


def _in_short(finding: Finding) -> list[str]:
    """Return the conclusions for one metric: a line for each claim, then one for each reason to claim nothing."""
    about, reference = METRICS[finding.metric], escaped(finding.reference.variant)
    said = []
    for claim in (Claim.BETTER, Claim.WORSE):
        for row, found in finding.others:
            if found.claim is claim:
                claimed = f"**{escaped(row.variant)}** is {claim.value} than {reference}"
                said.append(f"{about.title}: {claimed}, {_by(found, finding)}.")
    silent: dict[str, list[str]] = {}
    for row, found in finding.others:
        if not found.claim.differs:
            silent.setdefault(_silence(found), []).append(escaped(row.variant))
    everyone = len(finding.others)
    for why, names in silent.items():
        listed = f"all {everyone} variants" if len(names) == everyone > 3 else ", ".join(names)
        said.append(f"{about.title}: {why}: {listed}.")
    return said


def _by(found: Comparison, finding: Finding) -> str:
    about = METRICS[finding.metric]
    span = formatting.difference_span(about, found.low, found.high)
    difference, p = formatting.difference(about, found.difference), formatting.p_value(found.p_holm)
    return f"{difference} (95 % interval {span}; p = {p})"


def _silence(found: Comparison) -> str:
    if found.claim is Claim.NOT_PRIMARY:
        return "not named beforehand, so nothing is claimed of"
    return f"{found.claim_text} of" if found.claim is Claim.NONE else found.claim_text


def _effects(finding: Finding, done: Done, found: Sequence[Judged]) -> list[Part]:
    """Return the effects of the factors; empty for a study without factors."""
    if not found:
        return []
    given = {effect.factors for effect, _ in found}
    said = (
        "What each factor does: the mean over all variants with the level, less that over those with the reference's. "
        "A product of two is how much the effect of one changes with the other."
    )
    silent = [" × ".join(pair) for pair in itertools.combinations(done.study.factors, 2) if pair not in given]
    if silent:
        said += f" These variants cannot tell from other effects: {escaped(', '.join(silent))}."
    aliased = {effect.factors[0]: " or ".join(map(" × ".join, effect.aliases)) for effect, _ in found if effect.aliases}
    if aliased:
        listed = "; ".join(f"of {factor} could be that of {other}" for factor, other in aliased.items())
        said += f" What is given as the effect {escaped(listed)}, if that is not small."
    return [Text(said), study_tables.effects(finding.metric, found)]


def _contrasts(finding: Finding, done: Done) -> list[Part]:
    """Return tables that compare this metric with others of the same trainings, if the study has contrasts."""
    parts: list[Part] = []
    for first, second in done.study.contrasts:
        if second == finding.metric:
            said = f"{METRICS[second].title} less {METRICS[first].title.lower()}, within each training:"
            parts += [Text(said), study_tables.contrasts(second, contrast(done, first, second))]
    return parts


def _pictures(finding: Finding, done: Done) -> list[Part]:
    """Return the figures of one metric with their captions."""
    metric, reference = finding.metric, escaped(finding.reference.variant)
    title = METRICS[metric].title
    lower = METRICS[metric].title.lower()
    listed = _listed(finding)
    parts: list[Part] = [
        Picture(
            f"forest-{metric}",
            study_figures.forest(finding),
            f"{title}: each variant less the reference, {reference}, with its 95 % interval over seeds"
            f"{' and clips' if finding.clips else ''}. An interval that leaves out zero is needed for a claim, and a "
            "small p after Holm's correction; filled dots have both. The shaded side is the better one.",
            f"Forest plot of differences in {lower} to {finding.reference.variant}. {listed}",
        ),
        Picture(
            f"seeds-{metric}",
            study_figures.seeds(finding, done.seeds),
            f"{title} of every training. A line joins the trainings of one seed{_paired(done)}. Bars are means. "
            f"{_claimed(finding)}",
            f"Dots of {lower}, one for each seed and variant, joined by seed. "
            + "; ".join(
                f"{row.variant}: mean {formatting.number(METRICS[metric], row.summary.mean)}" for row in finding.rows
            ),
        ),
    ]
    for by, name, price in COSTS:
        differ = len({getattr(row, by) for row in finding.rows if math.isfinite(getattr(row, by))}) > 1
        if differ and (cost := study_figures.cost(finding, by)):
            caption = (
                f"What a variant costs, {price}, against its difference to the reference, with its 95 % interval. Up "
                "is better."
            )
            drawn = f"Scatter of cost against the difference in {lower}. {listed}"
            parts.append(Picture(f"{name}-{metric}", cost, caption, drawn))
    if curves := study_figures.curves(finding):
        caption = f"{title} after each epoch: the mean over seeds, and the band from the lowest to the highest seed."
        drawn = f"Learning curves of {lower} over epochs, a line for each of: {', '.join(finding.curves)}."
        parts.append(Picture(f"curves-{metric}", curves, caption, drawn))
    return parts


def _claimed(finding: Finding) -> str:
    """Return a caption that names the claimed differences, because a picture of single seeds may suggest others."""
    names = [escaped(row.variant) for row, found in finding.others if found.claim.differs]
    if not names:
        return "No difference is claimed, also where all lines lean one way."
    return f"A difference to the reference is claimed of {', '.join(names)}, and of no other variant."


def _paired(done: Done) -> str:
    same = done.study.cut_alike(done.base)
    return ", which saw the same windows in the same order" if same else ": the same clips, cut into other windows"


def _listed(finding: Finding) -> str:
    about = METRICS[finding.metric]
    return "; ".join(
        f"{row.variant}: {formatting.difference(about, found.difference)}" for row, found in finding.others
    )


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
        subjects = [each["subject"] for each in done.clips.values() if "subject" in each.columns]
        notes += [said] if (said := people(len({one for each in subjects for one in each}))) else []
    if by_seeds:
        notes.append(
            f"Of {', '.join(by_seeds)}, intervals of differences are over seeds alone: values of each clip were not "
            "kept by every training."
        )
    if any(not math.isnan(row.paper) for finding in found for row in finding.rows):
        lacking = "; the clips of these trainings are not all of it, so the two cannot be compared"
        whole = lacking if done.asked.incomplete else ""
        notes.append(f"Paper: HTT, Wen et al., CVPR 2023, on H2O's whole validation split{whole}.")
    notes += [f"{escaped(name)}: {escaped(note)}" for name, note in done.study.notes.items()]
    return notes
