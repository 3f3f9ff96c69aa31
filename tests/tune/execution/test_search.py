import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

import report_folders
from fake_training import BASE, SPACE, TRAINING, curve, events, prepare, train, trainer
from htt import config as configuration
from htt.config import override
from htt.errors import ClusterError, ConfigError, RunError, StorageError, TrainingError, UserError
from tune.execution import experiment, runner
from tune.execution import search as search_execution
from tune.execution.recorder import Recorder
from tune.execution.trainable import TrialFunctions
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, LogUniform, Space
from tune.experiments.spec import parse_budget
from tune.results.run_folder import RunFolder
from tune.results.trials import frame, trials_of
from tune.searchers.optuna_study import open_journal
from unrayed import FINITE

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("undrawn")]


def study_states(folder):
    import optuna

    study = optuna.load_study(study_name=folder.name, storage=open_journal(folder.journal))
    return [trial.state.name for trial in study.get_trials()]


def test_search_from_options_to_results(searched):
    place, outcome = searched
    folder = RunFolder(place / "run")
    trials = folder.trials()
    assert [trial.number for trial in trials] == list(range(1, 9))
    assert {trial.state for trial in trials} == {"complete", "pruned"}
    assert study_states(folder) == [trial.state.upper() for trial in trials]
    base = folder.record.config()
    for trial in trials:
        config = override(base, trial.values)
        assert trial.fingerprint == config.fingerprint()
        assert trial.metrics["hand_error_mm"] == pytest.approx(curve(config, trial.epochs))
        assert len(trial.curve) == trial.epochs
        assert isinstance(trial.values["model.action.cues"], list)
    best = min(trials, key=lambda trial: trial.metrics["hand_error_mm"])
    assert outcome.best == best
    plain = yaml.safe_load(folder.best.read_text())
    assert plain["found_by"]["value"] == best.metrics["hand_error_mm"]
    assert configuration.read(folder.best) == override(base, best.values)
    assert folder.report.exists()
    assert outcome.stopped is None


def test_actors_are_reused_and_data_prepared_once(searched):
    place, _ = searched
    seen = events(place / "events")
    assert sum("prepared" in event for event in seen) == 1
    trained = [event for event in seen if "pid" in event]
    assert len({event["pid"] for event in trained}) <= 2 < len(trained)
    assert {(event["threads"], event["gpus"]) for event in trained} == {("1", "")}  # one core, and no GPU it could see
    for trial in RunFolder(place / "run").trials():
        kept = list((place / "run" / "tune" / trial.id).glob("checkpoint_*"))
        assert len(kept) == (trial.state == "complete")
        assert not list((place / "run" / "trials" / trial.id).glob("checkpoints/*"))


MISCHIEF = Space({"optim.momentum": Choice(0.1, 0.2, 0.3, 0.9)}, base=BASE)


def test_nan_fails_a_crash_retries_and_lost_worker_resumes(local_ray, search, tmp_path):
    search(MISCHIEF, trials=8, algorithm="random", scheduler="none", seed=2, max_concurrent=2)
    folder = RunFolder(tmp_path / "run")
    by_momentum = {trial.values["optim.momentum"]: trial for trial in folder.trials()}
    assert set(by_momentum) == {0.1, 0.2, 0.3, 0.9}
    assert by_momentum[0.1].state == "failed"
    assert by_momentum[0.1].error.startswith("NonFiniteLossError: The loss is not finite: action became NaN")
    assert by_momentum[0.1].epochs == 1
    assert by_momentum[0.2].error == "ValueError: a bug"
    assert by_momentum[0.3].state == by_momentum[0.9].state == "complete"
    assert by_momentum[0.3].epochs == 4
    begun = [event for event in events(tmp_path / "events") if "start" in event]
    starts = [event["start"] for event in begun if event["trial"] == by_momentum[0.3].id]
    assert starts == [0, 1], "the retry should go on from the checkpoint of epoch 1"
    assert study_states(folder).count("FAIL") == sum(trial.state == "failed" for trial in folder.trials())
    assert "ValueError: a bug" in folder.report.read_text()


def test_epoch_without_the_metric_fails_its_trial(local_ray, search):
    """Tune itself ends the whole search for it, with a traceback."""
    space = Space({"optim.momentum": Choice(0.5, 0.9)}, base=BASE)
    outcome = search(space, trials=4, algorithm="random", scheduler="none", seed=1)
    by_momentum = {trial.values["optim.momentum"]: trial for trial in outcome.trials}
    assert (by_momentum[0.5].state, by_momentum[0.5].epochs) == ("failed", 1)
    assert by_momentum[0.5].error.startswith("TrainingError: Expected hand_error_mm in each epoch, because")
    assert (by_momentum[0.9].state, outcome.best.values) == ("complete", {"optim.momentum": 0.9})


@pytest.mark.slow
def test_epoch_of_several_workers_without_the_metric_fails(local_ray, search):
    space = Space({"optim.momentum": Choice(0.5, 0.9)}, base=BASE)
    outcome = search(space, trials=2, workers_per_trial=2, scheduler="none", seed=1)
    by_momentum = {trial.values["optim.momentum"]: trial for trial in outcome.trials}
    assert by_momentum[0.9].state == "complete"
    assert by_momentum[0.5].state == "failed"
    assert by_momentum[0.5].error.startswith("TrainingError: Expected hand_error_mm in each epoch, because")


def test_search_whose_trials_all_fail_gives_up(local_ray, search):
    with pytest.raises(TrainingError, match=r"(?s)No trial ended with .* out of \d.*NonFiniteLossError"):
        search(Space({"optim.momentum": Choice(0.1), "train.seed": Choice(1, 2, 3)}, base=BASE), trials=50)


def test_time_budget_ends_a_search_that_can_be_resumed(local_ray, search, tmp_path, monkeypatch):
    slow, hold, early = {"optim.step_epochs": 200}, tmp_path / "events" / "hold-3", set()
    hold.parent.mkdir()

    def left_s(recorder):
        """Return a budget that ends when a trial that began after two were done is held in its third epoch of four."""
        if len(recorder.done) < 2:
            early.update(recorder.live)
            return 60.0
        hold.touch()
        held = any(recorder.epoch(name) == 2 for name in recorder.live if name not in early)
        if held or recorder.stop_reason:
            hold.unlink()  # Tune waits for the worker, and this step takes one more result at most
        return 0.0 if held else 60.0

    monkeypatch.setattr(Recorder, "left_s", property(left_s))
    outcome = search(trials=6, time_budget_s=60.0, assignments=slow, scheduler="none", max_concurrent=2)
    monkeypatch.undo()
    folder = outcome.folder
    assert outcome.stopped == "time budget"
    before = {trial.id: trial for trial in folder.trials()}
    assert {trial.state for trial in before.values()} == {"complete", "stopped"}
    assert "RUNNING" not in study_states(folder)
    outcome = search(trials=6, assignments=slow, scheduler="none", resume=True)
    after = {trial.id: trial for trial in folder.trials()}
    assert len(after) == 6
    assert {trial.state for trial in after.values()} == {"complete"}
    for name, trial in before.items():
        if trial.state == "complete":
            assert after[name] == trial
        else:
            assert after[name].curve[: trial.epochs] == trial.curve
    goes_on = [event["start"] for event in events(tmp_path / "events") if "start" in event]
    assert any(start > 0 for start in goes_on)
    assert study_states(folder).count("COMPLETE") == 6
    more = search(trials=7, assignments=slow, scheduler="none", resume=True)
    assert len(more.trials) == 7


def test_trials_missing_in_tunes_state_are_not_repeated(local_ray, search, tmp_path):
    """A killed driver's last trials may be written down, but not yet be in the state Tune saved."""
    first = search(trials=3, scheduler="none")
    shutil.rmtree(tmp_path / "run" / experiment.STATE)
    again = search(trials=4, scheduler="none", resume=True)
    assert again.trials[:3] == first.trials
    assert [trial.state for trial in again.trials] == ["complete"] * 4
    assert study_states(again.folder) == ["COMPLETE"] * 4


@pytest.mark.slow
def test_several_workers_give_equal_numbers_by_ray_train(local_ray, search, tmp_path):
    base = {**BASE, "optim.lr": 1e-3}  # the good one first, so that the scheduler stops the others
    space = Space({"optim.lr": Choice(1e-3, 1e-2, 1e-1)}, base=base)
    slow = {"optim.step_epochs": 1000}
    group = search(space, name="group", trials=3, workers_per_trial=2, assignments=slow, seed=1, max_concurrent=None)
    alone = search(space, name="alone", trials=3, max_concurrent=1, seed=1)
    assert [trial.values for trial in group.trials] == [trial.values for trial in alone.trials]
    assert [trial.state for trial in group.trials] == ["complete", "pruned", "pruned"]  # a stopped one blocks no other
    for ours, theirs in zip(group.trials, alone.trials, strict=True):
        assert (ours.state, ours.epochs, ours.curve) == (theirs.state, theirs.epochs, theirs.curve)
        kept = [path.is_dir() for path in (tmp_path / "group" / "train" / f"train-{ours.id}").glob("checkpoint_*")]
        assert sum(kept) == (ours.state == "complete")
    _no_placement_groups_left()


@pytest.mark.slow
def test_finished_group_trial_unknown_to_tune_is_recorded(local_ray, search, tmp_path):
    """As after a driver that was killed between the end of a trial's Ray Train run and Tune's note of it."""

    def done_before(config, *, callbacks, **options):
        trainer(config, callbacks=[], **options).fit()
        return trainer(config, callbacks=callbacks, **options)

    (trial,) = search(trials=1, workers_per_trial=2, training=TrialFunctions(train, done_before, prepare)).trials
    assert (trial.state, trial.epochs) == ("complete", BASE["train.epochs"])
    begun = [event["epoch"] for event in events(tmp_path / "events") if "epoch" in event]
    assert sorted(begun) == [1, 1, 2, 2, 3, 3, 4, 4], "each worker trained once"


def test_trials_without_training_never_reach_tune(local_ray, search, tmp_path):
    """With trials running beside them, several objectives, and a resume; the rest is tested without Ray."""
    options = {"objectives": ("hand_error_mm", "latency_ms"), "constraints": parse(["latency_ms<=15"]), "seed": 1}
    options["max_concurrent"] = 2
    outcome = search(FINITE, trials=None, time_budget_s=120.0, scheduler="none", **options)
    states = [trial.state for trial in outcome.trials]
    complete = [trial for trial in outcome.trials if trial.state == "complete"]
    assert outcome.stopped == "used up"
    assert set(states) <= {"complete", "cached"}
    assert len({trial.fingerprint for trial in complete}) == 4
    assert len(complete) <= 5, "one that is still under way may be trained beside it"
    assert len([event for event in events(tmp_path / "events") if "start" in event]) == len(complete)
    assert [trial.number for trial in outcome.trials] == list(range(1, len(states) + 1))
    assert study_states(outcome.folder) == ["COMPLETE"] * len(states)
    assert outcome.best.metrics["latency_ms"] == 10.0
    resumed = search(FINITE, trials=None, time_budget_s=60.0, scheduler="none", resume=True, **options)
    assert resumed.trials == outcome.trials


def _no_placement_groups_left():
    import time

    from ray.util import placement_group_table

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        left = [one for one in placement_group_table().values() if one["state"] != "REMOVED"]
        if not left:
            return
        time.sleep(0.2)
    pytest.fail(f"placement groups leaked: {left}")


def test_bucket_holds_the_run_and_another_machine_resumes(local_ray, search, tmp_path, monkeypatch):
    from pyarrow import fs

    bucket = tmp_path / "bucket"
    bucket.mkdir()

    def from_uri(uri):
        assert uri.startswith("mock://"), uri
        return fs.SubTreeFileSystem(str(bucket), fs.LocalFileSystem()), uri.removeprefix("mock://")

    storage = search_execution.Storage("run", tmp_path / "here", "mock://runs")
    monkeypatch.setattr("cluster.storage.open_uri", from_uri)
    storage.check()
    (storage.local / "run.yaml").write_text("{}")
    storage.push()
    assert (bucket / "runs" / "run" / "run.yaml").read_text() == "{}"
    there = search_execution.Storage("run", tmp_path / "there", "mock://runs")
    assert there.exists()
    there.pull()
    assert (there.local / "run.yaml").read_text() == "{}"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"metric": "los"}, ConfigError, r"No such metric: 'los'.*Did you mean 'loss'\?"),
        (
            {"algorithm": "tpee"},
            ConfigError,
            r"--algorithm must be one of tpe, random; got 'tpee'\. Did you mean 'tpe'\?",
        ),
        ({"scheduler": "hyperband"}, ConfigError, "--scheduler must be one of asha, none"),
        ({"trials": 0}, ConfigError, "--trials must be 1 or more; got 0"),
        ({"name": "../x"}, ConfigError, "Invalid --name .*expected letters"),
        ({"assignments": {"optim.lrr": 1}}, ConfigError, "optim.lrr: no such field"),
        ({"assignments": {"optim.lr": -1.0}}, ConfigError, "optim.lr: should be greater than 0"),
        (
            {"workers_per_trial": 3},
            ClusterError,
            r"Not enough resources for 3 workers of 1 CPU and 0 GPU .*: 2 would fit.*Missing: 1 CPU",
        ),
        ({"gpus_per_trial": 0.5}, ClusterError, r"Missing: 0.5 GPU"),
        ({"workers_per_trial": 0}, ConfigError, "--workers-per-trial must be 1 or more; got 0"),
        ({"name": "nothing", "resume": True}, RunError, "No run to resume"),
        ({"storage": "/proc/nowhere"}, StorageError, "/proc/nowhere"),
        ({"storage": "nonsense://bucket"}, StorageError, "nonsense://bucket"),
    ],
)
def test_run_lists_all_faults_in_one_error_before_any_start(local_ray, search, tmp_path, options, kind, message):
    with pytest.raises(kind, match=f"(?s){message}"):
        search(**options)
    assert not (tmp_path / "events").exists()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_name_is_used_once_and_resume_checks_the_spec(finished, search):
    with pytest.raises(RunError, match=r"use a name twice: .*--resume run"):
        search(trials=1)
    other = Space({"optim.lr": LogUniform(1e-4, 1e-3)}, base=BASE)
    with pytest.raises(RunError, match="Cannot change the space when resuming run"):
        search(other, seed=1, resume=True)
    with pytest.raises(RunError, match="Cannot change the base configuration when resuming run"):
        search(assignments={"train.seed": 9}, seed=1, resume=True)


def test_two_drivers_of_one_run_are_refused(finished, search, tmp_path):
    storage = search_execution.Storage("run", tmp_path)
    code = (
        "from tune.results.sync import Storage; from pathlib import Path;"
        f"Storage('run', Path({str(tmp_path)!r})).lock().__enter__()"
    )
    with storage.lock():
        with pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
            search(trials=9, resume=True)
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "RunError" in answer.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, "the lock dies with its owner"


def test_full_disk_ends_the_search_and_keeps_finished_trials(local_ray, search, tmp_path, monkeypatch):
    written = RunFolder.write_trials

    def full(self, trials):
        if len(trials) > 2:
            raise StorageError("the disk is full")
        written(self, trials)

    monkeypatch.setattr(RunFolder, "write_trials", full)
    with pytest.raises(StorageError, match="the disk is full"):
        search(trials=6)
    assert len(RunFolder(tmp_path / "run").trials()) == 2
    monkeypatch.undo()
    assert len(search(trials=6, resume=True).trials) == 6


def test_display_shows_epochs_and_the_best(searched):
    shown = (searched[0] / "shown").read_text()
    assert shown.count("epoch ") == 8
    assert "best so far" in shown
    assert " mm" in shown


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("8m", 480), ("1h30m", 5400), ("1.5h", 5400)])
def test_parse_budget_accepts_units(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5m", "5 minutes", "m", "9" * 100, "99999999h", "٨m"])
def test_parse_budget_refuses_invalid_text(text):
    with pytest.raises(ConfigError, match=f"such as 90s, 8m or 1h30m; got '{text}'"):
        parse_budget(text)


def test_training_is_a_plain_value():
    assert dataclasses.replace(TRAINING) == TRAINING
    assert json.dumps(dict(SPACE.base))


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        (["StorageError", "DataError"], 2),
        (["StorageError", None], 1),
        (["StorageError", "ValueError"], 1),
        (["NonFiniteLossError"], 1),
        (["Path"], 1),
        ([], 1),
    ],
)
def test_user_error_of_all_trials_ends_with_exit_code_2(kinds, code):
    assert runner.kind_of(kinds).exit_code == code


def test_error_kind_is_not_read_from_its_text(tmp_path):
    """A bug whose text begins like one of the project's own errors is none that the user can mend."""
    bug = dataclasses.replace(report_folders.trial(1), state="failed", error="ConfigError: from a library of that name")
    mended = dataclasses.replace(bug, error_kind="ConfigError")
    for row, kind in ((bug, TrainingError), (mended, UserError)):
        (again,) = trials_of(frame([row]))
        assert again == row
        with pytest.raises(kind) as caught:
            runner.check_some(False, "One trial must end", [again], None, RunFolder(tmp_path))
        assert type(caught.value) is kind
