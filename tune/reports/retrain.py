"""Report of a retraining from its folder alone: results of fresh seeds beside the result of the search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from htt.evaluation.metric_table import METRICS
from htt.files import write_text
from htt.text import code, csv, escaped, plural
from tune.reports import format as fmt
from tune.reports import html
from tune.reports.figures import retrain as figures
from tune.reports.html import Part, Picture, bullets, warnings
from tune.reports.table import Column, Table
from tune.reports.trial_table import SHOWN
from tune.results.retrain import SPLITS, TEST, VALIDATION, Retrained
from tune.results.run_folder import RunFolder
from tune.results.stats import Summary, summarise

COLUMNS = ("split", "metric", "unit", "seeds", "mean", "deviation", "low", "high", "searched")
"""Columns of ``retrain.csv``: unrounded numbers in the metric's own unit; empty where there is no number."""
SEED_COLUMNS = ("seed", "split", "metric", "unit", "value")


def write(retrained: Retrained) -> None:
    """Write the report's files, each file atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    html.publish(RunFolder(retrained.path), f"{retrained.found_by['run']}: trained again", content(retrained))
    write_text(retrained.path / "retrain.csv", _table_csv(retrained))
    seeds = ((seed, split, name, METRICS[name].unit, value) for seed, split, name, value in retrained.rows())
    write_text(retrained.path / "seeds.csv", csv(SEED_COLUMNS, seeds))


def content(retrained: Retrained) -> list[Part]:
    """Return all parts of the report in reading order."""
    parts: list[Part] = [_settings(retrained), *_missing(retrained), *_codes(retrained)]
    if not retrained.done:
        return parts
    every = list(dict.fromkeys([*retrained.metrics(VALIDATION), *retrained.metrics(TEST)]))
    return [
        *parts,
        *("## In short", bullets(in_short(retrained)), _picture(retrained)),
        *("## Over the seeds", table(retrained, every)),
        *("## Seed by seed", _seed_table(retrained)),
        *("## How to read it", bullets(_notes(retrained))),
    ]


def summary(retrained: Retrained, split: str, metric: str) -> Summary:
    """Return mean, deviation and interval of a metric over the finished seeds."""
    return summarise(retrained.values(split, metric), METRICS[metric].range)


def in_short(retrained: Retrained) -> list[str]:
    """Return sentences that compare the results of fresh seeds with the number the trial was selected by."""
    about = METRICS[retrained.metric]
    searched = float(retrained.found_by["value"])
    mean = summary(retrained, VALIDATION, retrained.metric)
    trials = plural(int(retrained.found_by["trials"]), "trial")
    how = "picked from the front of" if "objectives" in retrained.found_by else "the best of"
    sentences = [f"{about.title}: {fmt.number(about, searched)} in the search, {how} {trials}, with one seed."]
    if mean.n:
        sentences.append(
            f"{about.title}: {fmt.number(about, mean.mean)} on the same validation clips over "
            f"{plural(mean.n, 'fresh seed')} (95 % interval {fmt.span(about, mean.low, mean.high)}; "
            f"{fmt.difference(about, mean.mean - searched)} to the search's number)."
        )
    for metric in shown(retrained):
        if metric in retrained.metrics(TEST):
            about, mean = METRICS[metric], summary(retrained, TEST, metric)
            span = fmt.span(about, mean.low, mean.high)
            sentences.append(f"{about.title}: {fmt.number(about, mean.mean)} on the test split (95 % interval {span}).")
    return sentences


def shown(retrained: Retrained) -> list[str]:
    """Return the metrics of small tables and figures: the one selected by, then the most important ones."""
    known = {*retrained.metrics(VALIDATION), *retrained.metrics(TEST)}
    return [name for name in dict.fromkeys([retrained.metric, *SHOWN[:3]]) if name in known]


def table(retrained: Retrained, metrics: Sequence[str]) -> Table[str]:
    """Return a table with a row for each metric: the search's number, then each split that has values."""

    def column(title: str, show: Callable[..., str], *values: Mapping[str, float]) -> Column[str]:
        return Column(
            "", lambda name: [METRICS[name], *(each[name] for each in values)], title, lambda all_: show(*all_)
        )

    searched = {name: retrained.searched.get(name, math.nan) for name in metrics}
    columns = [column("Metric", lambda about: about.title), column("Search (one seed)", fmt.number, searched)]
    for split in SPLITS:
        if retrained.metrics(split):
            means = {name: summary(retrained, split, name) for name in metrics}
            mean, low, high, deviation = (
                {name: getattr(each, part) for name, each in means.items()}
                for part in ("mean", "low", "high", "deviation")
            )
            columns += [
                column(f"{split.capitalize()} mean", fmt.number, mean),
                column("95 % interval", fmt.span, low, high),
                column("Deviation", fmt.deviation, deviation),
            ]
    return Table([replace(columns[0], number=False), *columns[1:]], metrics)


def _seed_table(retrained: Retrained) -> Table[int]:
    """Return a table with a row for each finished seed."""
    columns: list[Column[int]] = [Column("", int, "Seed")]
    for metric, split in itertools.product(shown(retrained), SPLITS):
        if metric in retrained.metrics(split):
            about = METRICS[metric]
            values = dict(zip(retrained.done, retrained.values(split, metric), strict=True))
            columns.append(Column("", values.__getitem__, f"{about.title}, {split}", partial(fmt.number, about)))
    return Table(columns, retrained.done)


def _table_csv(retrained: Retrained) -> str:
    """Return the text of ``retrain.csv``: a line for each split and metric."""
    lines = []
    for split in SPLITS:
        for metric in retrained.metrics(split):
            mean = summary(retrained, split, metric)
            searched = retrained.searched.get(metric, math.nan) if split == VALIDATION else math.nan
            line = [split, metric, METRICS[metric].unit, mean.n, mean.mean, mean.deviation, mean.low, mean.high]
            lines.append([*line, searched])
    return csv(COLUMNS, lines)


def _settings(retrained: Retrained) -> str:
    by = retrained.found_by
    chosen = f"picked as {by['rule']}" if "rule" in by else f"selected by {retrained.metric}"
    sentences = [
        f"The configuration of trial {by['trial']} of {escaped(str(by['run']))}, {chosen}, trained "
        f"from scratch with {plural(len(retrained.seeds), 'seed')} that the run had not used "
        f"({', '.join(map(str, retrained.seeds))}), each for {plural(retrained.config.train.epochs, 'epoch')}."
    ]
    if retrained.assignments:
        sentences.append(f"Changed for these trainings: {escaped(fmt.changes(retrained.assignments))}.")
    sentences.append(
        f"Asked by {code(retrained.command)}, commit {escaped(retrained.commit)}, {escaped(retrained.started)}."
    )
    return " ".join(sentences)


def _missing(retrained: Retrained) -> list[Part]:
    """Return warnings about missing clips and seeds."""
    data = warnings(*(f"**{escaped(message)}**" for message in retrained.incomplete))
    if not retrained.left:
        return data
    count = plural(len(retrained.seeds), "training")
    text = f"**Incomplete:** {len(retrained.done)} of {count} came to their end."
    if retrained.failed:
        text += " Seeds that failed are part of what this configuration does; the numbers below leave them out."
    reasons = {seed: retrained.failed.get(seed, "not trained to its end yet") for seed in retrained.left}
    return [*data, *warnings(text), bullets(f"seed {seed}: {escaped(why)}" for seed, why in reasons.items())]


def _codes(retrained: Retrained) -> list[Part]:
    """Return a warning about numbers that came from other code, if there are any."""
    if not retrained.codes:
        return []
    codes = {f"the search's trial {retrained.found_by['trial']}": retrained.found_code}
    codes |= {f"seed {seed}": ", then ".join(retrained.codes_of(seed)) or None for seed in retrained.done}
    return warnings(fmt.other_code(retrained.codes[0], codes))


def _picture(retrained: Retrained) -> Picture:
    metrics = shown(retrained)
    means = "; ".join(
        f"{METRICS[metric].title}, {split}: mean {fmt.number(METRICS[metric], float(np.nanmean(values)))}"
        for metric in metrics
        for split in SPLITS
        if metric in retrained.metrics(split) and np.isfinite(values := retrained.values(split, metric)).any()
    )
    return Picture(
        "seeds",
        figures.seeds(retrained, metrics),
        "Dots are fresh seeds, the bar is their mean with its 95 % interval. The star is what the picked trial had in "
        "the search.",
        f"Dots of every seed on both splits. {means}",
    )


def _notes(retrained: Retrained) -> list[str]:
    notes = [
        "The search's number is optimistic: it was picked from many, so luck of its seed and of its clips was selected "
        "with it. The fresh seeds had no part in the search, so their mean is free of the luck of a seed. The "
        "configuration was still chosen on the validation clips; only the test split had no part in any choice.",
        "Mean, standard deviation (n - 1) and 95 % t interval are over seeds: what another seed would give on the same "
        "clips. How other clips would vary is not in them. Points: percentage points.",
    ]
    epochs, reached = retrained.config.train.epochs, int(retrained.found_by["epoch"])
    if reached < epochs:
        notes.append(
            f"The search had stopped its trial after {plural(reached, 'epoch')}; the fresh trainings took all {epochs}."
        )
    if retrained.assignments:
        notes.append("The search's number is of the configuration before the changes named above.")
    if not retrained.metrics(TEST):
        notes.append("These data have no test split with joints and labels.")
    return notes
