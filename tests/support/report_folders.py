"""Run folders as searches and studies leave them, made of numbers that a test can know."""

import dataclasses
import math
import random

import numpy as np
import polars as pl

from htt.config import Config, override
from tune.results import run_record
from tune.results.run_folder import RunFolder, Trial

LONG = "trained with a very long name that nobody should cut & 50 % more_words"
CLIPS = 12
PLAIN = {
    "command": "python tune/search.py", "space": "quick", "domains": {}, "base": Config().model_dump(mode="json"),
    "metric": "hand_error_mm", "seed": 0, "trials": 0, "time_budget_s": None, "algorithm": "tpe", "scheduler": "asha",
    "assignments": {}, "workers_per_trial": 1, "cpus_per_worker": 1.0, "gpus_per_trial": 0.0, "storage": "runs",
    "started": "2026-01-01T00:00:00", "commit": "abc123", "versions": {},
}  # fmt: skip


def leave_undrawn(patch):
    """Leave the figures of reports empty; ``patch`` is a MonkeyPatch."""
    from htt.pages import style

    patch.setattr(style, "svg", lambda figure, name, alternative: f'<svg id="{name}"></svg>')
    patch.setattr(style, "save_png", lambda figure, path: path.touch())


def record(**changes):
    """Return the record of a run; ``changes`` are in the form of an older version, whose domains are texts."""
    return dataclasses.replace(run_record.of_plain(run_record.upgrade({**PLAIN, **changes})), schema=run_record.SCHEMA)


def study_folder(
    path, variants, *, seeds=range(6), effects=None, missing=(), failed=(), clips=True, epochs=6, **changes
):
    """Write a study whose variants differ from the first by ``effects`` in mm, and a tenth of it in accuracy.

    ``missing`` and ``failed`` are pairs (variant, seed).
    """
    folder, random, rows = RunFolder(path), np.random.default_rng(0), []
    names = list(variants)
    effects = effects or {name: 2.0 * number for number, name in enumerate(names)}
    of_seeds, of_clips = random.normal(0, 0.6, 100), random.normal(0, 3.0, CLIPS)
    for number, (name, seed) in enumerate((name, seed) for seed in seeds for name in names):
        if (name, seed) in missing:
            continue
        broken = (name, seed) in failed
        errors = 22.0 + effects[name] + of_seeds[seed] + of_clips + random.normal(0, 0.3, CLIPS)
        correct = np.argsort(np.argsort(errors)) >= round(min(CLIPS - 1, 2 + effects[name] / 2 + seed % 2))
        error, accuracy = float(errors.mean()), float(correct.mean())
        metrics = {} if broken else {"hand_error_mm": error + 0.25, "action_accuracy": accuracy}
        curve = [error + 0.25 + 40 * (0.5**epoch - 0.5**epochs) for epoch in range(1, epochs + 1)]
        ended = Trial(
            id=f"t{number}", number=number + 1, fingerprint=f"f{number}", epochs=0 if broken else epochs,
            state="failed" if broken else "complete", seconds=40.0 + 9 * names.index(name) + seed,
            finished_s=50.0 * number, values={**variants[name], "train.seed": seed}, metrics=metrics, best=metrics,
            curves={} if broken else {"hand_error_mm": tuple(curve)},
            error="NonFiniteLossError: loss became nan" if broken else None, variant=name, seed=seed,
        )  # fmt: skip
        rows.append(ended)
        if clips and not broken:
            table = {"clip": [f"c{clip}" for clip in range(CLIPS)], "correct": correct, "hand_error_mm": errors}
            (path / "clips").mkdir(parents=True, exist_ok=True)
            pl.DataFrame(table).write_parquet(path / "clips" / f"t{number}.parquet")
    if rows:
        folder.write_trials(rows)
    study = {
        "question": "How many frames should block P see?", "reference": names[0],
        "variants": {name: dict(values) for name, values in variants.items()}, "base": {},
        "seeds": list(seeds), "metrics": ["action_accuracy", "hand_error_mm"],
        **changes.pop("study", {}),
    }  # fmt: skip
    plain = {
        "name": path.name, "command": "python tune/ablate.py --study pose_window", "kind": "study",
        "study_name": "pose_window", "study": study, **changes,
    }  # fmt: skip
    folder.write_record(record(**plain))
    return folder


def trial(number, mm=20.0, accuracy=0.5, state="complete", **changes):
    """Return a trial of a search."""
    metrics = {"hand_error_mm": mm, "action_accuracy": accuracy}
    plain = {
        "id": f"t{number}", "number": number, "fingerprint": "", "state": state, "epochs": 1, "seconds": 1.0,
        "finished_s": 1.0 * number, "values": {}, "metrics": metrics, "best": metrics,
    }  # fmt: skip
    return Trial(**{**plain, **changes})


def windows(count, *, long=False):
    """Return variants of the length of block P's window."""
    return {
        f"{2**number} frame{'s' if number else ''}" + (f", {LONG} {number}" if long else ""): {
            "model.pose.window": 2**number
        }
        for number in range(count)
    }


DOMAINS = {
    "model.pose.window": "one of 1, 4, 8, 16",
    "model.action.hands": "one of 2d, 3d",
    "model.pose.depth": "1 to 3",
    "loss.action": "0.3 to 3, logarithmic",
    "optim.lr": "0.0003 to 0.003, logarithmic",
    "model.pose.dropout": "0 to 0.3",
}


def search_folder(path, count, *, clips=False, base_trial=None, **changes):
    """Write a search in which the learning rate decides nearly alone, and every fifth trial failed.

    With ``clips`` trials have results per clip, in pairs that resemble each other. ``base_trial`` is the number of the
    trial that has the base configuration.
    """
    folder, source, trials = RunFolder(path), random.Random(1), []
    for number in range(1, count + 1):
        values = {
            "model.pose.window": source.choice([1, 4, 8, 16]),
            "model.action.hands": source.choice(["2d", "3d"]),
            "model.pose.depth": source.randint(1, 3),
            "loss.action": 10 ** source.uniform(math.log10(0.3), math.log10(3)),
            "optim.lr": 10 ** source.uniform(math.log10(3e-4), math.log10(3e-3)),
            "model.pose.dropout": source.uniform(0, 0.3),
        }
        off = abs(math.log10(values["optim.lr"]) + 2.8)
        error = 20.0 + 60 * off + source.uniform(0, 2) + 2 * (values["model.pose.window"] == 1)
        accuracy = min(0.95, max(0.05, 0.9 - 0.9 * off + source.uniform(-0.2, 0.05)))
        failed, pruned = number % 5 == 0, error > 40 and number % 2 == 0
        metrics = {} if failed else {"hand_error_mm": error, "action_accuracy": accuracy}
        if clips and not failed:
            write_clips(path, f"t{number}", error, number)
        trials.append(
            Trial(
                id=f"t{number}", number=number, fingerprint=f"f{number}",
                state="failed" if failed else "pruned" if pruned else "complete", epochs=2 if pruned else 8,
                seconds=20.0, finished_s=21.0 * number, values=values, metrics=metrics, best=metrics,
                curve=() if failed else (60.0, error), error="NonFiniteLossError: no" if failed else None,
            )
        )  # fmt: skip
    if base_trial:
        changes["base"] = override(Config(), trials[base_trial - 1].values).model_dump(mode="json")
    folder.write_record(record(**{"name": path.name, "domains": DOMAINS, "trials": count, **changes}))
    folder.write_trials(trials)
    return folder


def write_clips(path, name, error, seed):
    """Write a trial's errors on the clips, whose mean is about ``error``; both clips of a pair have nearly the same."""
    random = np.random.default_rng(seed)
    pairs = np.random.default_rng(0).normal(0, 3.0, CLIPS // 2) + random.normal(0, 1.0, CLIPS // 2)
    errors = error + np.repeat(pairs, 2) + random.normal(0, 0.1, CLIPS)
    table = {"clip": [f"c{clip}" for clip in range(CLIPS)], "group": [f"g{clip // 2}" for clip in range(CLIPS)]}
    (path / "clips").mkdir(parents=True, exist_ok=True)
    pl.DataFrame({**table, "hand_error_mm": errors}).write_parquet(path / "clips" / f"{name}.parquet")
