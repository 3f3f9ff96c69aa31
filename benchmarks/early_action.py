"""Curves of the study of the early action: accuracy of each variant over the observed share of the clips.

    python tune/ablate.py --study early_action --seeds 8 --name early_action
    python benchmarks/early_action.py runs/early_action --out benchmarks/results/early_action

Writes ``shares.csv`` and ``shares.png``. Differences are to the reference, paired by seed and clip, with 95 % intervals
over seeds and groups of clips, as in the study's report. Each share has its own interval, and no claim is made of a
single share: the study's test is of the area.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from htt.evaluation.clip_table import groups_of
from htt.evaluation.sums import SHARES
from htt.pages.style import COLOURS, MARKERS, canvas, plain_axes
from tune.results import stats, study_results
from tune.results.run_folder import RunFolder
from tune.results.study_results import StudyResults


def hits(results: StudyResults, variant: str) -> np.ndarray:
    """Return [seeds clips shares] 1 where a clip is named rightly, else 0; NaN for a seed that is not complete."""
    found = []
    for trial in results.trials(variant):
        table = results.clips.get(trial.id) if trial else None
        found.append(None if table is None else table.sort("clip")["correct_early"].to_numpy().astype(float))
    shape = next(each.shape for each in found if each is not None)
    return np.stack([np.full(shape, np.nan) if each is None else each for each in found])


def curves(results: StudyResults) -> pl.DataFrame:
    """Return a row for each variant and share: mean accuracy, and the difference to the reference with its interval."""
    by_variant = {name: hits(results, name) for name in results.order}
    tables = list(results.clips.values())
    groups = groups_of(sorted(tables[0]["clip"]), tables)
    rows = []
    for place, share in enumerate(SHARES):
        values = {name: each[..., place] for name, each in by_variant.items()}
        reference = values[results.study.reference]
        others = {name: values[name] for name in results.study.others}
        compared = stats.compare(reference, others, True, groups=groups)
        for name in results.order:
            mean, found = float(np.nanmean(values[name])), compared.get(name)
            ends = (found.difference, found.low, found.high) if found else (None, None, None)
            rows.append((name, share, mean, *ends))
    return pl.DataFrame(rows, ["variant", "share", "accuracy", "difference", "low", "high"], orient="row")


def draw(frame: pl.DataFrame, reference: str, path: Path) -> None:
    """Draw accuracies and differences over the observed share."""
    figure = canvas(4.6)
    figure.patch.set_alpha(1)
    left, right = figure.subplots(1, 2)
    for number, (name, rows) in enumerate(frame.group_by("variant", maintain_order=True)):
        share, colour = 100 * rows["share"].to_numpy(), COLOURS[number]
        style = {"color": colour, "marker": MARKERS[number], "label": str(name[0]), "linewidth": 1.5}
        left.plot(share, 100 * rows["accuracy"].to_numpy(), **style)
        if name[0] != reference:
            low, middle, high = (100 * rows[column].to_numpy() for column in ("low", "difference", "high"))
            right.plot(share, middle, **style)
            right.fill_between(share, low, high, color=colour, alpha=0.15, linewidth=0)
    right.axhline(0, color="black", linewidth=1)
    left.set(xlabel="Observed share of the clip [%]", ylabel="Action accuracy [%]", ylim=(0, 100))
    right.set(xlabel="Observed share of the clip [%]", ylabel=f"Difference to {reference} [points]")
    for axes in (left, right):
        plain_axes(axes)
    left.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the study's folder")
    parser.add_argument("--out", type=Path, help="folder of the files (default: that of the study)")
    arguments = parser.parse_args()
    results = study_results.read(RunFolder(arguments.run))
    out = arguments.out or arguments.run
    frame = curves(results)
    frame.write_csv(out / "shares.csv", float_precision=4)
    draw(frame, results.study.reference, out / "shares.png")
    print(frame.pivot("variant", index="share", values="accuracy"))


if __name__ == "__main__":
    main()
