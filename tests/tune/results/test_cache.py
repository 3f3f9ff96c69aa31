import dataclasses
import math
import shutil

import pytest

from cluster import revision
from htt.config import Config, override
from htt.data.location import data_key
from htt.errors import StorageError
from planned_study import finished
from tune.experiments.candidate import Candidate
from tune.results.cache import CachedTrial, TrialCache
from tune.results.run_folder import RunFolder, Trial
from tune.results.sync import Storage

BASE = override(Config(), {"model.width": 64, "train.epochs": 4, "data.source": "synthetic"})
LR = {"optim.lr": 1e-3}


def trained(values, state="complete", **changes):
    metrics = changes.pop("metrics", {"hand_error_mm": 5.0})
    plain = {
        "id": "t1", "number": 1, "fingerprint": override(BASE, values).fingerprint(), "state": state, "epochs": 4,
        "seconds": 9.0, "finished_s": 3.0, "values": values, "metrics": metrics, "best": metrics, "curve": (7.0, 5.0),
        "data": data_key(BASE),
    }  # fmt: skip
    return Trial(**{**plain, **changes})


@pytest.fixture
def cache_of(tmp_path):
    """Return a cache of trials of one run."""

    def cache(*trials, metrics=("hand_error_mm",)):
        made = TrialCache(metrics)
        for trial in trials:
            made.add(trial, RunFolder(tmp_path / "run"))
        return made

    return cache


def test_find_returns_trial_of_equal_configuration(cache_of):
    cache = cache_of(trained(LR))
    cached = cache.find(Candidate.of(BASE, LR))
    assert (cached.trial, cached.origin) == (trained(LR), "run/t1")
    assert cached.row(state="cached", seconds=0.0) == trained(LR, "cached", seconds=0.0, taken_from="run/t1")
    other = Candidate.of(BASE, {"optim.lr": 2e-3})
    assert cache.find(other) is None
    cache.add(trained({"optim.lr": 2e-3}, taken_from="before/t9 (abc)"), RunFolder(cached.folder.path))
    assert cache.find(other).origin == "before/t9 (abc)"


@pytest.mark.parametrize(
    "other",
    [
        trained(LR, "pruned"),
        trained(LR, "failed"),
        trained(LR, "stopped"),
        trained(LR, data="other"),
        trained(LR, metrics={"loss": 1.0}),
        trained(LR, metrics={"hand_error_mm": math.nan}),
        trained({"optim.lr": 1e-3, "train.seed": 7}),
    ],
)
def test_find_omits_trials_without_a_result(cache_of, other):
    assert cache_of(other).find(Candidate.of(BASE, LR)) is None


def test_find_omits_trial_without_metric_of_a_constraint(cache_of):
    cache = cache_of(trained(LR), metrics=("hand_error_mm", "memory_mb"))
    assert cache.find(Candidate.of(BASE, LR)) is None, "its memory was never measured"


def test_find_accepts_old_trial_of_this_run(cache_of):
    assert cache_of(trained(LR, data=None, code=None)).find(Candidate.of(BASE, LR)) is not None


def test_find_refuses_trial_of_another_run_with_unknown_data(tmp_path):
    finished(tmp_path, BASE, data=None)
    assert TrialCache.of_runs(tmp_path, ["hand_error_mm"], share_any=True).find(Candidate.of(BASE, {})) is None


def test_find_refuses_trial_of_other_code_unless_allowed(tmp_path):
    finished(tmp_path, BASE, code="other")
    candidate = Candidate.of(BASE, {})
    cache = TrialCache.of_runs(tmp_path, ["hand_error_mm"])
    assert cache.find(candidate) is None
    assert [cached.trial.id for cached in cache.other_code] == ["t1"]
    assert TrialCache.of_runs(tmp_path, ["hand_error_mm"], share_any=True).find(candidate).trial.code == "other"


def test_find_prefers_trial_of_the_current_code(tmp_path):
    finished(tmp_path, BASE, code="other")
    (tmp_path / "old").rename(tmp_path / "a")
    finished(tmp_path, BASE)
    found = TrialCache.of_runs(tmp_path, ["hand_error_mm"], share_any=True).find(Candidate.of(BASE, {}))
    assert (found.folder.name, found.trial.code) == ("old", revision.identity())


@pytest.fixture
def cached(tmp_path):
    (tmp_path / "runs").mkdir()
    folder = finished(tmp_path / "runs", BASE)
    return CachedTrial(folder.trials()[0], folder, folder.record)


def test_copy_clips_copies_the_file(cached, tmp_path):
    storage = Storage("new", tmp_path)
    storage.local.mkdir()
    cached.copy_clips(storage)
    assert (storage.local / "clips" / "t1.parquet").read_bytes() == b"clips"
    assert [path.name for path in (storage.local / "clips").iterdir()] == ["t1.parquet"]


def test_copy_clips_leaves_no_partial_file_on_full_disk(cached, tmp_path, monkeypatch):
    def fill(source, target):
        target.write_bytes(b"cl")
        raise OSError(28, "No space left on device")

    storage = Storage("new", tmp_path)
    storage.local.mkdir()
    monkeypatch.setattr(shutil, "copyfile", fill)
    with pytest.raises(StorageError, match="the disk is full"):
        cached.copy_clips(storage)
    assert list((storage.local / "clips").iterdir()) == []


def test_row_of_a_study_has_the_curve_of_its_metric(cached):
    trial = dataclasses.replace(cached.trial, curve=(9.0,), curves={"loss": (1.0,)}, instead_of=("t0",))
    cached = dataclasses.replace(cached, trial=trial)
    assert [cached.curve(name) for name in ("hand_error_mm", "loss", "latency_ms")] == [(9.0,), (1.0,), ()]
    assert cached.row(number=3).instead_of == ()
