"""Study of two variants and two seeds that is planned and never trained, and trials as a training leaves them."""

import dataclasses

from cluster import revision
from htt.config import Config, override
from htt.data.location import data_key
from htt.testing import TINY
from tune.execution.plan import Ablation
from tune.experiments import spec
from tune.experiments.study import Study
from tune.results import run_record
from tune.results.run_folder import Asked, RunFolder, Trial

STUDY = Study("Which?", {"a": {}, "b": {"model.pose.window": 1}}, "a", seeds=(0, 1), base={"optim.lr": 0.01})


def ablation(tmp_path, study=STUDY, values=None, **options):
    base = override(Config(), {**TINY, **(values or {})})
    return Ablation(study_name="which", study=study, base=base, runs=tmp_path, **options)


def finished(tmp_path, config, **changes):
    """Write a run in which this configuration has been trained, with its clips."""
    run = spec.Run()
    rest = {"space": "", "domains": {}, "metric": "hand_error_mm", "seed": 0, "trials": 1, "time_budget_s": None}
    asked = Asked(**run_record.record_of(run, config, "old"), **rest, algorithm="", scheduler="", assignments={})
    metrics = {"action_accuracy": 0.5, "hand_error_mm": 9.0}
    trial = Trial("t1", 1, config.fingerprint(), "complete", 2, 30.0, 0.0, {}, metrics, data=data_key(config))
    changes = {"code": revision.identity(), **changes}
    folder = RunFolder(tmp_path / "old")
    folder.path.mkdir()
    folder.write_asked(asked)
    folder.write_trials([dataclasses.replace(trial, **changes)])
    folder.clips.mkdir()
    (folder.clips / "t1.parquet").write_bytes(b"clips")
    return folder
