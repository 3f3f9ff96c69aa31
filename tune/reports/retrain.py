"""Report of a retraining from its folder alone: results of fresh seeds beside the result of the search."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from htt.evaluation.metric_table import METRICS
from htt.text import csv, plural
from tune.reports import formatting, html
from tune.reports.document import Heading, Listing, Part, Picture, Table, Text, code, escaped
from tune.reports.figures import retrain
from tune.results.retrain import SPLITS, TEST, VALIDATION, Retrained
from tune.results.run_folder import RunFolder, write_text
from tune.results.stats import Summary, summarise

SHOWN = ("hand_error_mm", "action_accuracy", "object_accuracy")
"""Metrics shown seed by seed, beside the one selected by."""
COLUMNS = ("split", "metric", "unit", "seeds", "mean", "deviation", "low", "high", "searched")
"""Columns of ``retrain.csv``: unrounded numbers in the metric's own unit; empty where there is no number."""
SEED_COLUMNS = ("seed", "split", "metric", "unit", "value")


def write(found: Retrained) -> None:
    """Write the report's files, each file atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    html.publish(RunFolder(found.path), f"{found.found_by['run']}: trained again", content(found))
    write_text(found.path / "retrain.csv", table_csv(found))
    write_text(found.path / "seeds.csv", seeds_csv(found))


def summaries(found: Retrained, split: str) -> dict[str, Summary]:
    """Return {metric: its mean, deviation and interval over the finished seeds}."""
    return {metric: _summary(found, split, metric) for metric in found.metrics(split)}


def _summary(found: Retrained, split: str, metric: str) -> Summary:
    return summarise(found.values(split, metric), METRICS[metric].range)


def content(found: Retrained) -> list[Part]:
    """Return all parts of the report in reading order."""
    parts: list[Part] = [Text(_asked(found)), *_missing(found), *_codes(found)]
    if not found.done:
        return parts
    parts += [Heading("In short"), Listing(in_short(found))]
    parts += [_picture(found), Heading("Over the seeds"), Table(*_rows(found, _all_metrics(found)))]
    parts += [Heading("Seed by seed"), Table(*_seed_rows(found)), Heading("How to read it"), Listing(_notes(found))]
    return parts


def in_short(found: Retrained) -> list[str]:
    """Return sentences that compare the results of fresh seeds with the number the trial was selected by."""
    about, number = METRICS[found.metric], formatting.number
    searched = float(found.found_by["value"])
    mean = _summary(found, VALIDATION, found.metric)
    trials = plural(int(found.found_by["trials"]), "trial")
    how = "picked from the front of" if "objectives" in found.found_by else "the best of"
    said = [f"{about.title}: {number(about, searched)} in the search, {how} {trials}, with one seed."]
    if mean.n:
        span = formatting.span(about, mean.low, mean.high)
        gap = formatting.difference(about, mean.mean - searched)
        said.append(
            f"{about.title}: {number(about, mean.mean)} on the same validation clips over "
            f"{plural(mean.n, 'fresh seed')} (95 % interval {span}; {gap} to the search's number)."
        )
    said += [_tested(found, metric) for metric in _shown(found) if metric in found.metrics(TEST)]
    return said


def table(found: Retrained) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of the terminal table, which shows the most important metrics."""
    return _rows(found, _shown(found))


def table_csv(found: Retrained) -> str:
    """Return the text of ``retrain.csv``: a line for each split and metric."""
    lines = []
    for split in SPLITS:
        for metric, mean in summaries(found, split).items():
            searched = found.searched.get(metric, math.nan) if split == VALIDATION else math.nan
            line = [split, metric, METRICS[metric].unit, mean.n, mean.mean, mean.deviation, mean.low, mean.high]
            lines.append([*line, searched])
    return csv(COLUMNS, lines)


def seeds_csv(found: Retrained) -> str:
    """Return the text of ``seeds.csv``: a line for each seed, split and metric."""
    rows = found.rows()
    return csv(SEED_COLUMNS, ([seed, split, name, METRICS[name].unit, value] for seed, split, name, value in rows))


def _asked(found: Retrained) -> str:
    by = found.found_by
    chosen = f"picked as {by['rule']}" if "rule" in by else f"selected by {found.metric}"
    lines = [
        f"The configuration of trial {by['trial']} of {escaped(str(by['run']))}, {chosen}, trained "
        f"from scratch with {plural(len(found.seeds), 'seed')} that the run had not used "
        f"({', '.join(map(str, found.seeds))}), each for {plural(found.config.train.epochs, 'epoch')}."
    ]
    if found.assignments:
        lines.append(f"Changed for these trainings: {escaped(formatting.changes(found.assignments))}.")
    lines.append(f"Asked by {code(found.command)}, commit {escaped(found.commit)}, {escaped(found.started)}.")
    return " ".join(lines)


def _missing(found: Retrained) -> list[Part]:
    """Return warnings about missing clips and seeds."""
    data: list[Part] = [Text(f"**{escaped(said)}**", warns=True) for said in found.incomplete]
    if not found.left:
        return data
    why = [f"seed {seed}: {escaped(found.failed.get(seed, 'not trained to its end yet'))}" for seed in found.left]
    said = f"**Incomplete:** {len(found.done)} of {plural(len(found.seeds), 'training')} came to their end."
    if found.failed:
        said += " Seeds that failed are part of what this configuration does; the numbers below leave them out."
    return [*data, Text(said, warns=True), Listing(why)]


def _codes(found: Retrained) -> list[Part]:
    """Return a warning about numbers that came from other code, if there are any."""
    by = {f"the search's trial {found.found_by['trial']}": found.found_code} if found.codes else {}
    seeds = {f"seed {seed}": ", then ".join(found.codes_of(seed)) or None for seed in found.done if found.codes}
    said = formatting.other_code(next(iter(found.codes), None), {**by, **seeds})
    return [Text(said, warns=True)] if said else []


def _tested(found: Retrained, metric: str) -> str:
    about, mean = METRICS[metric], _summary(found, TEST, metric)
    span = formatting.span(about, mean.low, mean.high)
    return f"{about.title}: {formatting.number(about, mean.mean)} on the test split (95 % interval {span})."


def _all_metrics(found: Retrained) -> list[str]:
    return list(dict.fromkeys([*found.metrics(VALIDATION), *found.metrics(TEST)]))


def _shown(found: Retrained) -> list[str]:
    known = _all_metrics(found)
    return [name for name in dict.fromkeys([found.metric, *SHOWN]) if name in known]


def _rows(found: Retrained, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return heads and a row for each metric: the search's number, then each split that has values."""
    splits = [split for split in SPLITS if found.metrics(split)]
    heads = ["Metric", "Search (one seed)"]
    for split in splits:
        heads += [f"{split.capitalize()} mean", "95 % interval", "Deviation"]
    rows = []
    for metric in metrics:
        about = METRICS[metric]
        cells = [about.title, formatting.number(about, found.searched.get(metric, math.nan))]
        for split in splits:
            mean = _summary(found, split, metric)
            cells += [formatting.number(about, mean.mean), formatting.span(about, mean.low, mean.high)]
            cells.append(formatting.deviation(about, mean.deviation))
        rows.append(cells)
    return heads, rows


def _seed_rows(found: Retrained) -> tuple[list[str], list[list[str]]]:
    columns = [(split, metric) for metric in _shown(found) for split in SPLITS if metric in found.metrics(split)]
    heads = ["Seed", *(f"{METRICS[metric].title}, {split}" for split, metric in columns)]
    values = [found.values(split, metric) for split, metric in columns]
    rows = [
        [
            str(seed),
            *(formatting.number(METRICS[metric], each[row]) for (_, metric), each in zip(columns, values, strict=True)),
        ]
        for row, seed in enumerate(found.done)
    ]
    return heads, rows


def _picture(found: Retrained) -> Picture:
    metrics = _shown(found)
    said = "; ".join(
        f"{METRICS[metric].title}, {split}: mean {formatting.number(METRICS[metric], float(np.nanmean(values)))}"
        for metric in metrics
        for split in SPLITS
        if metric in found.metrics(split) and np.isfinite(values := found.values(split, metric)).any()
    )
    return Picture(
        "seeds",
        retrain.seeds(found, metrics),
        "Dots are fresh seeds, the bar is their mean with its 95 % interval. The star is what the picked trial had in "
        "the search.",
        f"Dots of every seed on both splits. {said}",
    )


def _notes(found: Retrained) -> list[str]:
    notes = [
        "The search's number is optimistic: it was picked from many, so luck of its seed and of its clips was selected "
        "with it. The fresh seeds had no part in the search, so their mean is free of the luck of a seed. The "
        "configuration was still chosen on the validation clips; only the test split had no part in any choice.",
        "Mean, standard deviation (n - 1) and 95 % t interval are over seeds: what another seed would give on the same "
        "clips. How other clips would vary is not in them. Points: percentage points.",
    ]
    epochs, reached = found.config.train.epochs, int(found.found_by["epoch"])
    if reached < epochs:
        notes.append(
            f"The search had stopped its trial after {plural(reached, 'epoch')}; the fresh trainings took all {epochs}."
        )
    if found.assignments:
        notes.append("The search's number is of the configuration before the changes named above.")
    if not found.metrics(TEST):
        notes.append("These data have no test split with joints and labels.")
    return notes
