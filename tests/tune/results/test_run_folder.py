import math
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from htt import config as configuration
from htt import files
from htt.config import Config, override
from htt.errors import ConfigError, RunError, StorageError
from tune.experiments import constraints
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, LogUniform
from tune.experiments.spec import SearchSpec
from tune.reports import report
from tune.results import run_folder, selection, trials
from tune.results.run_folder import RunFolder, Trial
from tune.results.run_record import RunRecord


def trial(number, value=30.0, state="complete", **changes):
    values = {"optim.lr": 10.0**-number, "model.action.cues": ["hands"], "model.pose.depth": number}
    metrics = {} if state == "failed" else {"hand_error_mm": value, "action_accuracy": number / 10}
    plain = {
        "id": f"t{number}",
        "number": number,
        "fingerprint": f"f{number}",
        "state": state,
        "epochs": 4,
        "seconds": 1.5,
        "finished_s": 10.0 * number,
        "values": values,
        "metrics": metrics,
        "best": metrics,
        "curve": (50.0, value),
    }
    return Trial(**{**plain, **changes})


RECORD = RunRecord(
    spec=SearchSpec(
        name="run",
        domains={
            "optim.lr": LogUniform(1e-5 / 3, 0.1, why="wide"),
            "model.action.cues": Choice(["hands"], ["feature"]),
        },
        base=Config().model_dump(mode="json"),
        seed=3,
        trials=4,
        constraints=parse(["parameters<=2e6"]),
        gpus_per_trial=0.0,
        storage="runs",
    ),
    command="python tune/search.py",
    started="2026-01-01T00:00:00",
    commit="abc",
    versions={"python": "3.11"},
)
FAILED = trial(3, state="failed", values={"optim.lr": 0.1}, curve=(), error="NonFiniteLossError: no")
TRIALS = [trial(1, 40.0), trial(2, 25.0), FAILED, trial(4, 30.0, "pruned")]


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_record(RECORD)
    folder.write_trials(TRIALS)
    return folder


def test_trials_and_spec_are_read_as_written(folder):
    assert folder.trials() == TRIALS
    assert RunFolder(folder.path).record == RECORD
    assert RunFolder(folder.path).record.config() == Config()


def test_trials_table_has_a_column_per_path_and_metric(folder):
    frame = pl.read_parquet(folder.path / "trials.parquet")
    assert frame["optim.lr"].to_list() == [0.1, 0.01, 0.1, 0.0001]
    assert frame["model.action.cues"][0] == '["hands"]'
    assert frame["hand_error_mm"].to_list() == [40.0, 25.0, None, 30.0]
    assert frame["best_action_accuracy"][1] == 0.2


def test_mixed_columns_are_text():
    mixed = [trial(1, values={"a": 1, "b": None}), trial(2, values={"a": "x", "b": 0.5})]
    frame = trials.frame(mixed)
    assert frame["a"].to_list() == ["1", '"x"']
    assert frame["b"].to_list() == [None, 0.5]


def test_best_trial_omits_failed_and_follows_direction():
    assert [one.number for one in selection.ranked(TRIALS, "hand_error_mm")] == [2, 4, 1]
    assert [one.number for one in selection.ranked(TRIALS, "action_accuracy")] == [4, 2, 1]
    assert not selection.ranked([trial(1, math.nan)], "hand_error_mm")


def test_best_yaml_is_a_configuration_with_its_origin(folder):
    text = selection.best_text(RECORD, TRIALS[1], "hand_error_mm", len(TRIALS))
    files.write_text(folder.best, text)
    best = configuration.read(folder.best)
    assert best == override(Config(), TRIALS[1].values)
    plain = yaml.safe_load(text)
    assert plain["changed"] == {"model.action.cues": ["hands"], "optim.lr": 0.01}
    assert plain["found_by"]["value"] == 25.0
    assert plain["found_by"]["unit"] == "mm"
    assert {"run", "metric", "epoch", "seed", "trials", "commit"} <= set(plain["found_by"])


def test_failed_write_keeps_the_old_file(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        folder.write_trials(TRIALS[:1])
    assert folder.trials() == TRIALS
    assert not [path for path in folder.path.iterdir() if path.name.startswith(".trials")]


def test_find_accepts_name_or_folder_and_suggests_the_nearest(folder, tmp_path):
    assert run_folder.find("run", tmp_path).path == run_folder.find(str(folder.path)).path == folder.path
    with pytest.raises(RunError, match=r"No run 'rum' in .*\. Available: run\. Did you mean 'run'\?"):
        run_folder.find("rum", tmp_path)
    with pytest.raises(RunError, match="There are no runs yet"):
        run_folder.find("run", tmp_path / "elsewhere")


def test_find_refuses_a_final_training(tmp_path):
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "metrics.json").write_text("{}")
    for name in ("final", str(tmp_path / "final")):
        with pytest.raises(RunError, match=r"final is a final training, .*launch\.py --config .*/final/config\.yaml"):
            run_folder.find(name, tmp_path)


def test_unknown_metric_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"No such metric: 'hand_eror_mm'.*Did you mean 'hand_error_mm'\?"):
        constraints.check_metric("hand_eror_mm")


@pytest.mark.parametrize(("name", "text"), [("run.yaml", "[1]"), ("run.yaml", "{"), ("trials.parquet", "no")])
def test_damaged_run_folder_names_the_file(folder, name, text):
    (folder.path / name).write_text(text)
    folder = RunFolder(folder.path)
    with pytest.raises(RunError, match=name):
        _ = folder.record if name == "run.yaml" else folder.trials()


def test_report_states_command_and_results(folder):
    report.write(folder)
    text = folder.report.read_text()
    for words in ("python tune/search.py", "| Hand error |", "| 2 | complete |", "optim.lr: 0.01", "progress.png"):
        assert words in text
    assert "cluster/launch.py --config" in text
    assert (folder.path / "progress.png").read_bytes().startswith(b"\x89PNG")


def test_report_without_trials_is_written(tmp_path):
    empty = RunFolder(tmp_path)
    empty.write_record(RECORD)
    report.write(empty)
    assert "No trial has a value yet" in empty.report.read_text()


def best(folder, *options):
    command = [sys.executable, "tune/best.py", str(folder.path), *options]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "", "COLUMNS": "160"}, check=False)


def test_best_command_writes_the_file_and_shows_the_table(folder, tmp_path):
    answer = best(folder, "--top", "2")
    assert answer.returncode == 0, answer.stderr
    assert "hand_error_mm" in answer.stdout
    assert "python cluster/launch.py --config" in answer.stdout
    assert configuration.read(folder.best).optim.lr == 0.01
    answer = best(folder, "--metric", "action_accuracy", "--out", str(tmp_path / "action.yaml"))
    assert answer.returncode == 0, answer.stderr
    assert configuration.read(tmp_path / "action.yaml").optim.lr == 0.0001


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "loss"], "No such metric: 'loss'. Available: hand_error_mm, action_accuracy"),
        (["--top", "0"], "--top must be 1 or more; got 0"),
    ],
)
def test_best_command_refuses_in_one_sentence(folder, options, message):
    answer = best(folder, *options)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_best_command_of_no_run_is_one_sentence(tmp_path):
    answer = best(RunFolder(tmp_path / "nothing"))
    assert answer.returncode == 2
    assert "No run " in answer.stderr


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_run_file_modes_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "best.yaml", "a: 1")
        RunFolder(tmp_path).write_trials([trial(1)])
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        "best.yaml": oct(mode),
        "trials.parquet": oct(mode),
    }


def test_overlong_name_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match=r"No run 'x{90,200}") as refused:
        run_folder.find("x" * 300, tmp_path)
    assert "x" * 201 not in str(refused.value)
