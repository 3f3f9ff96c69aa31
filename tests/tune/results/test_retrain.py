"""What is trained again, and what its folder says of it: no Ray, no torch."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from htt.config import read as read_config
from htt.errors import ConfigError, RunError
from report_folders import search_folder, study_folder, windows
from retrained_folders import FINALS, asked, end, ended, searched
from tune.results import retrain
from tune.results.retrain import fresh_seeds
from tune.results.sync import Storage

ROOT = Path(__file__).resolve().parents[3]


def test_fresh_seeds_are_the_lowest_unused():
    assert fresh_seeds(3, {0}) == [1, 2, 3]
    assert fresh_seeds(3, {1, 3}) == [0, 2, 4]
    assert fresh_seeds(3, {0}, [5, 1]) == [5, 1, 2]
    assert fresh_seeds(1, {0}, [5, 1]) == [5, 1]


def test_plan_trains_the_best_configuration_with_unused_seeds(tmp_path):
    run, best = searched(tmp_path / "run")
    found = asked(tmp_path / "run", 4)
    assert (found.seeds, found.used_seeds) == ([1, 2, 3, 4], [0])
    assert found.config.optim.lr == best.values["optim.lr"]
    assert found.config_of(3).train.seed == 3
    assert dataclasses.replace(found, seeds=()).config.train.seed == run.record.config().train.seed
    assert found.found_by["value"] == best.metrics["hand_error_mm"]
    assert found.found_by["trials"] == 12
    assert found.searched == best.metrics
    assert found.path == tmp_path / "run" / "retrain"
    assert not found.path.exists(), "asking writes nothing"


def test_searched_seeds_are_not_fresh(tmp_path):
    run = search_folder(tmp_path / "run", 6)
    run.write_trials(
        [dataclasses.replace(one, values={**one.values, "train.seed": one.number % 3}) for one in run.trials()]
    )
    assert asked(tmp_path / "run").seeds == [3, 4, 5]
    study = study_folder(tmp_path / "study", windows(2))
    (best, *_) = [trial for trial in study.trials() if trial.seed == 4]
    again = retrain.plan(study, best, "hand_error_mm", 2)
    assert again.seeds == [6, 7]
    assert again.used_seeds == [0, 1, 2, 3, 4, 5]


def test_assignments_are_trained_and_recorded(tmp_path):
    found = asked(tmp_path / "run", assignments={"train.epochs": 3}, name="short")
    assert found.config.train.epochs == 3
    assert found.path.name == "short"
    found.write()
    assert retrain.read(found.path).assignments == {"train.epochs": 3}


def test_record_is_read_as_written(tmp_path):
    found = dataclasses.replace(asked(tmp_path / "run", command="python tune/best.py"), failed={2: "TrainingError: x"})
    found.write()
    assert retrain.read(found.path) == found
    assert read_config(found.path / "retrain.yaml") == found.config, "cluster/launch.py --config takes it"


def test_values_are_of_finished_seeds(tmp_path):
    found = asked(tmp_path / "run")
    assert (found.left, found.done) == ([1, 2, 3], [])
    end(found, 1)
    end(found, 3)
    assert (found.left, found.done) == ([2], [1, 3])
    assert found.values("validation", "hand_error_mm").tolist() == [80.0, 84.0]
    assert found.values("test", "hand_error_mm").tolist() == [90.0, 98.0]
    assert math.isnan(found.values("test", "action_accuracy")[0])
    assert found.metrics("validation") == ["hand_error_mm", "action_accuracy"]
    assert found.metrics("test") == ["hand_error_mm"]
    assert len(list(found.rows())) == 2 * 3
    (found.folder(1) / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"seed-1/metrics\.json is damaged .*Remove it and resume"):
        _ = found.left


def test_more_seeds_are_added_and_finished_ones_kept(tmp_path):
    found = ended(tmp_path / "run")
    more = asked(tmp_path / "run", 5)
    assert (more.seeds, more.left) == ([1, 2, 3, 4, 5], [4, 5])
    assert asked(tmp_path / "run", 2).seeds == [1, 2, 3]
    (found.folder(1) / "metrics.json").unlink()
    (found.folder(3) / "metrics.json").unlink()
    assert asked(tmp_path / "run", 2).seeds == [1, 2], "a seed that was begun and is not wanted is left alone"


@pytest.mark.parametrize("count", [1, 0, -3])
def test_plan_needs_two_seeds(tmp_path, count):
    with pytest.raises(ConfigError, match=f"Invalid --retrain-seeds {count}: expected 2 to 1000, since one seed"):
        asked(tmp_path / "run", count)


def test_plan_refuses_a_seed_in_assignments(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot --set train\.seed=3: seeds are given by --retrain-seeds"):
        asked(tmp_path / "run", assignments={"train.seed": 3})


def test_name_belongs_to_one_configuration(tmp_path):
    ended(tmp_path / "run")
    with pytest.raises(RunError, match=r"Cannot retrain trial \d+ with train\.epochs=3 in .*retrain: it holds the "
                       r"retraining of trial \d+\. Choose another --name"):  # fmt: skip
        asked(tmp_path / "run", assignments={"train.epochs": 3})
    assert asked(tmp_path / "run", assignments={"train.epochs": 3}, name="other").left == [1, 2, 3]
    (tmp_path / "run" / "clips").mkdir()
    (tmp_path / "run" / "clips" / "t1.parquet").touch()
    with pytest.raises(RunError, match=r"Cannot retrain in .*clips: it holds other files\. Choose another"):
        asked(tmp_path / "run", name="clips")
    with pytest.raises(ConfigError, match=r"Invalid --name .*expected letters"):
        asked(tmp_path / "run", name="../x")


def test_folder_without_a_retraining_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"Cannot read .*retrain\.yaml, the record of a retraining: "):
        retrain.read(tmp_path)
    (tmp_path / "retrain.yaml").write_text("seeds: [1]\n")
    with pytest.raises(RunError, match="the record of a retraining"):
        retrain.read(tmp_path)


def test_retraining_in_a_bucket_continues_on_another_machine(tmp_path, monkeypatch):
    bucket = tmp_path / "bucket"
    bucket.mkdir()

    def from_uri(uri):
        return fs.SubTreeFileSystem(str(bucket), fs.LocalFileSystem()), uri.removeprefix("mock://")

    monkeypatch.setattr("cluster.storage.open_uri", from_uri)
    found = ended(tmp_path / "here" / "run")
    place = Storage("retrain", tmp_path / "here" / "run", "mock://runs/run")
    place.push_reports()
    place.push(*(f"seed-{seed}/{name}" for seed in found.seeds for name in ("config.yaml", "metrics.json")))
    (bucket / "runs/run/retrain/seed-1-train").mkdir()
    there = tmp_path / "there" / "run"
    searched(there)
    retrain.fetch(Storage("retrain", there, "mock://runs/run"))
    assert asked(there).left == []
    names = sorted(path.name for path in (there / "retrain").glob("[!.]*"))
    assert names == ["retrain.yaml", "seed-1", "seed-2", "seed-3"]
    assert retrain.read(there / "retrain").values("test", "hand_error_mm").tolist() == [v[2] for v in FINALS.values()]
    retrain.fetch(Storage("retrain", there))
    retrain.fetch(Storage("other", there, "mock://runs/run"))
    assert not (there / "other").exists()


def test_fetch_gets_what_another_machine_added(tmp_path, monkeypatch):
    (tmp_path / "bucket").mkdir()
    system = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    monkeypatch.setattr("cluster.storage.open_uri", lambda uri: (system, uri.removeprefix("mock://")))
    monkeypatch.setattr("cluster.lock.SETTLE_S", 0.0)
    places = {}
    for machine, seeds in (("a", (1,)), ("b", (1, 2, 3))):
        found = ended(tmp_path / machine / "run")
        for seed in {1, 2, 3} - set(seeds):
            (found.folder(seed) / "metrics.json").unlink()
        place = places[machine] = Storage("retrain", tmp_path / machine / "run", "mock://runs/run")
        place.check()
        with place.lock():
            place.push(
                "retrain.yaml", *(f"seed-{seed}/{name}" for seed in seeds for name in ("config.yaml", "metrics.json"))
            )
    assert asked(tmp_path / "a" / "run").left == [2, 3]
    retrain.fetch(places["a"])
    assert asked(tmp_path / "a" / "run").left == []


def test_retrain_imports_no_torch_or_ray():
    code = (
        "import sys\nfrom tune.execution import retrain_progress\nfrom tune.results import retrain\n"
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
