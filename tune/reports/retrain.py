"""Report of a retraining from its folder alone: results of fresh seeds beside the result of the search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from markupsafe import Markup

from htt.evaluation.metric_table import METRICS
from htt.files import write_text
from htt.pages import html
from htt.pages.html import Part
from htt.pages.table import Column, Table
from htt.text import csv, plural
from tune.reports import format as fmt
from tune.reports.figures import retrain as figures
from tune.reports.template import fill
from tune.reports.trial_table import SHOWN
from tune.results.retrain import SPLITS, TEST, VALIDATION, Retraining
from tune.results.stats import Summary, summarise

COLUMNS = ("split", "metric", "unit", "seeds", "mean", "deviation", "low", "high", "searched")
"""Columns of ``retrain.csv``: unrounded numbers in the metric's own unit; empty where there is no number."""
SEED_COLUMNS = ("seed", "split", "metric", "unit", "value")


def write(retraining: Retraining) -> None:
    """Write the report's files, each file atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    html.publish(retraining.path, f"{retraining.found_by['run']}: trained again", content(retraining))
    write_text(retraining.path / "retrain.csv", _table_csv(retraining))
    seeds = ((seed, split, name, METRICS[name].unit, value) for seed, split, name, value in retraining.rows())
    write_text(retraining.path / "seeds.csv", csv(SEED_COLUMNS, seeds))


def content(retraining: Retraining) -> list[Part]:
    """Return all parts of the report in reading order."""
    done, metrics = retraining.done, shown(retraining)
    every = list(dict.fromkeys(name for split in SPLITS for name in retraining.metrics(split)))
    codes = {f"the search's trial {retraining.found_by['trial']}": retraining.found_code}
    codes |= {f"seed {seed}": ", then ".join(retraining.codes_of(seed)) or None for seed in done}
    return fill(
        "retrain.md",
        retraining=retraining,
        by=retraining.found_by,
        epochs=retraining.config.train.epochs,
        done=done,
        left=retraining.left,
        other_code=Markup(fmt.other_code(retraining.codes[0], codes)) if retraining.codes else "",
        sentences=map(Markup, in_short(retraining)) if done else (),
        figure=figures.seeds(retraining, metrics) if done else None,
        means=_means(retraining, metrics),
        table=table(retraining, every),
        seed_table=_seed_table(retraining),
        tested=bool(retraining.metrics(TEST)),
    )


def summary(retraining: Retraining, split: str, metric: str) -> Summary:
    """Return mean, deviation and interval of a metric over the finished seeds."""
    return summarise(retraining.values(split, metric), METRICS[metric].range)


def in_short(retraining: Retraining) -> list[str]:
    """Return sentences that compare the results of fresh seeds with the number the trial was selected by."""
    about = METRICS[retraining.metric]
    searched = float(retraining.found_by["value"])
    mean = summary(retraining, VALIDATION, retraining.metric)
    trials = plural(int(retraining.found_by["trials"]), "trial")
    how = "picked from the front of" if "objectives" in retraining.found_by else "the best of"
    sentences = [f"{about.title}: {fmt.number(about, searched)} in the search, {how} {trials}, with one seed."]
    if mean.n:
        sentences.append(
            f"{about.title}: {fmt.number(about, mean.mean)} on the same validation clips over "
            f"{plural(mean.n, 'fresh seed')} (95 % interval {fmt.span(about, mean.low, mean.high)}; "
            f"{fmt.difference(about, mean.mean - searched)} to the search's number)."
        )
    for metric in shown(retraining):
        if metric in retraining.metrics(TEST):
            about, mean = METRICS[metric], summary(retraining, TEST, metric)
            span = fmt.span(about, mean.low, mean.high)
            sentences.append(f"{about.title}: {fmt.number(about, mean.mean)} on the test split (95 % interval {span}).")
    return sentences


def shown(retraining: Retraining) -> list[str]:
    """Return the metrics of small tables and figures: the one selected by, then the most important ones."""
    known = {*retraining.metrics(VALIDATION), *retraining.metrics(TEST)}
    return [name for name in dict.fromkeys([retraining.metric, *SHOWN[:3]]) if name in known]


def table(retraining: Retraining, metrics: Sequence[str]) -> Table[str]:
    """Return a table with a row for each metric: the search's number, then each split that has values."""

    def column(title: str, show: Callable[..., str], *values: Mapping[str, float]) -> Column[str]:
        return Column(
            "", lambda name: [METRICS[name], *(each[name] for each in values)], title, lambda all_: show(*all_)
        )

    searched = {name: retraining.searched.get(name, math.nan) for name in metrics}
    columns = [column("Metric", lambda about: about.title), column("Search (one seed)", fmt.number, searched)]
    for split in SPLITS:
        if retraining.metrics(split):
            means = {name: summary(retraining, split, name) for name in metrics}
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


def _seed_table(retraining: Retraining) -> Table[int]:
    """Return a table with a row for each finished seed."""
    columns: list[Column[int]] = [Column("", int, "Seed")]
    for metric, split in itertools.product(shown(retraining), SPLITS):
        if metric in retraining.metrics(split):
            about = METRICS[metric]
            values = dict(zip(retraining.done, retraining.values(split, metric), strict=True))
            columns.append(Column("", values.__getitem__, f"{about.title}, {split}", partial(fmt.number, about)))
    return Table(columns, retraining.done)


def _table_csv(retraining: Retraining) -> str:
    """Return the text of ``retrain.csv``: a line for each split and metric."""
    lines = []
    for split in SPLITS:
        for metric in retraining.metrics(split):
            mean = summary(retraining, split, metric)
            searched = retraining.searched.get(metric, math.nan) if split == VALIDATION else math.nan
            line = [split, metric, METRICS[metric].unit, mean.n, mean.mean, mean.deviation, mean.low, mean.high]
            lines.append([*line, searched])
    return csv(COLUMNS, lines)


def _means(retraining: Retraining, metrics: Sequence[str]) -> str:
    return "; ".join(
        f"{METRICS[metric].title}, {split}: mean {fmt.number(METRICS[metric], float(np.nanmean(values)))}"
        for metric, split in itertools.product(metrics, SPLITS)
        if metric in retraining.metrics(split) and np.isfinite(values := retraining.values(split, metric)).any()
    )
