"""Study of two variants and two seeds that is planned and never trained, and trials as a training leaves them."""

import dataclasses

from cluster import revision
from htt.config import Config, override
from htt.data.location import data_key
from htt.testing import TINY
from report_folders import record
from tune.experiments.spec import StudySpec
from tune.experiments.study import Study
from tune.results.run_folder import RunFolder, Trial

STUDY = Study("Which?", {"a": {}, "b": {"model.pose.window": 1}}, "a", seeds=(0, 1), base={"optim.lr": 0.01})


def study_spec(study=STUDY, values=None, **options):
    base = override(Config(), {**TINY, **(values or {})}).model_dump(mode="json")
    return StudySpec(study_name="which", study=study, base=base, **options)


def finished(tmp_path, config, **changes):
    """Write a run in which this configuration has been trained, with its clips."""
    metrics = {"action_accuracy": 0.5, "hand_error_mm": 9.0}
    trial = Trial("t1", 1, config.fingerprint(), "complete", 2, 30.0, 0.0, {}, metrics, data=data_key(config))
    changes = {"code": revision.identity(), **changes}
    folder = RunFolder(tmp_path / "old")
    folder.path.mkdir()
    folder.write_record(record(name="old", base=config.model_dump(mode="json")))
    folder.write_trials([dataclasses.replace(trial, **changes)])
    folder.clips.mkdir()
    (folder.clips / "t1.parquet").write_bytes(b"clips")
    return folder
