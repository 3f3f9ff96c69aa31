"""Retrainings as final trainings leave them, made of numbers that a test can know."""

import json

from cluster import run_folder as final_folder
from htt.evaluation.metric_table import METRICS
from report_folders import search_folder
from tune.results import retrain
from tune.results.selection import ranked

EPOCHS = 45
FINALS = {1: (80.0, 0.5, 90.0), 2: (82.0, 0.25, 94.0), 3: (84.0, 0.75, 98.0)}
"""{seed: hand error and action accuracy on the validation clips, hand error on the test clips}."""


def searched(path, count=12, **changes):
    """Write a search; return it and its best trial."""
    run = search_folder(path, count, **changes)
    return run, ranked(run.trials(), "hand_error_mm")[0]


def asked(path, count=3, **options):
    """Write a retraining of a search's best trial of which nothing was trained."""
    run, best = searched(path) if not (path / "run.yaml").exists() else (None, None)
    if run is None:
        run = retrain.RunFolder(path)
        best = ranked(run.trials(), "hand_error_mm")[0]
    return retrain.plan(run, best, options.pop("metric", "hand_error_mm"), count, **options)


def end(found, seed, values=None, test=True):
    """Write a seed's finished training."""
    final_folder.write_folder(found.folder(seed), found.config_of(seed))
    mm, accuracy, test_mm = values or FINALS[seed]
    final = {"epoch": EPOCHS, "lr": 0.1, "hand_error_mm": mm, "action_accuracy": accuracy}
    final |= {"test_hand_error_mm": test_mm} if test else {}
    assert set(final) - {"epoch", "lr"} <= {*METRICS, *(f"test_{name}" for name in METRICS)}
    (found.folder(seed) / "metrics.json").write_text(json.dumps({"final": final, "epochs": [final]}))


def ended(path, **options):
    """Write a retraining of three seeds, all finished."""
    found = asked(path)
    for seed in found.seeds:
        end(found, seed, **options)
    found.write()
    return found
