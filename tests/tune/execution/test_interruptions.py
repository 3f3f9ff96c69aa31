"""What a killed or interrupted driver leaves, and how it is gone on with."""

import os
import signal

import pytest

from driven import output, wait_for
from fake_training import events
from tune.results.run_folder import RunFolder
from unrayed import replace_tune

pytestmark = pytest.mark.ray


def running(folder):
    """Whether two trials are done and another has begun."""
    done = len(folder.trials())
    begun = len(list((folder.path / "trials").glob("*/checkpoints/*"))) if (folder.path / "trials").exists() else 0
    return done >= 2 and begun >= 1


ASK = ("--space", "fake", "--name", "run", "--trials", "6", "--scheduler", "none", "--set", "optim.step_epochs=150")


def states(folder):
    import optuna

    from tune.searchers.optuna_study import open_journal

    study = optuna.load_study(study_name="run", storage=open_journal(folder.journal))
    return [trial.state.name for trial in study.get_trials()]


@pytest.mark.slow
def test_killed_driver_loses_no_finished_trial(driver, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "run")
    first = driver(*ASK)
    wait_for(first, lambda: running(folder), tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = {trial.id: trial for trial in folder.trials()}
    assert len(before) >= 2
    again = driver("--resume", "run")
    assert again.wait(600) == 0, output(tmp_path, 1)
    after = {trial.id: trial for trial in folder.trials()}
    assert {name: after[name] for name in before} == before
    assert [trial.state for trial in after.values()] == ["complete"] * 6
    assert states(folder).count("COMPLETE") == 6
    assert "RUNNING" not in states(folder)
    shown = output(tmp_path, 1)
    assert "python cluster/launch.py --config runs/run/best.yaml" in shown
    for noise in ("Traceback", "Warning", "raylet", "WARNING"):
        assert noise not in output(tmp_path, 0) + shown


@pytest.mark.slow
def test_killed_search_keeps_objectives_constraints_warm_start(driver, search, tmp_path, monkeypatch):
    """Objectives, constraints and a warm start: told once, and never lost."""
    with monkeypatch.context() as patch:
        replace_tune(patch, [])
        slow = {"optim.step_epochs": 150}
        search(name="before", runs=tmp_path / "runs", trials=2, scheduler="none", assignments=slow)
    folder = RunFolder(tmp_path / "runs" / "run")
    wishes = ("--objective", "hand_error_mm", "--objective", "latency_ms", "--constraint", "latency_ms<=15")
    first = driver(*ASK, *wishes, "--warm-start", "before", "--point", "optim.lr=2e-3 model.action.cues=[hands]")
    wait_for(first, lambda: running(folder), tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    kept = {trial.id: trial for trial in folder.trials()}
    again = driver("--resume", "run")
    assert again.wait(600) == 0, output(tmp_path, 1)
    trials = folder.trials()
    assert {trial.id: trial for trial in trials if trial.id in kept} == kept
    assert [trial.number for trial in trials] == list(range(1, 7))
    assert trials[0].values == {"optim.lr": 2e-3, "model.action.cues": ["hands"]}
    assert trials[1].state == "cached"
    assert states(folder).count("COMPLETE") == 2 + 6
    assert "RUNNING" not in states(folder)
    slower = {f"latency_ms {cues}0.0 ms > 15.0 ms" for cues in (2, 3)}
    assert {trial.violation for trial in trials} <= {None, *slower}
    assert "Warm start with 2 of the 2 trials of before." in output(tmp_path, 0)
    shown = output(tmp_path, 1)
    assert "On the front of 6 trials by hand_error_mm, latency_ms" in shown
    assert "Picked: trial " in shown
    assert "runs/run/report.html" in shown


def test_ctrl_c_stops_a_search_and_prints_the_resume_command(driver, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "run")
    process = driver(*ASK)
    wait_for(process, lambda: running(folder), tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all its processes
    assert process.wait(300) == 130, output(tmp_path, 0)
    shown = output(tmp_path, 0)
    assert "python tune/search.py --resume runs/run" in shown
    assert "Traceback" not in shown
    assert {"complete", "stopped"} == {trial.state for trial in folder.trials()}
    assert folder.best.exists()
    assert folder.report.exists()
    assert "RUNNING" not in states(folder)


STUDY = ("ablate", "--study", "fake", "--preset", "quick", "--name", "run", "--seeds", "3", "--max-concurrent", "2")


@pytest.mark.slow
def test_killed_study_resumes_without_loss_or_repeats(driver, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "run")
    notes = tmp_path / "notes"
    slow = ("--set", "optim.step_epochs=150", "--set", f"runtime.cache={notes}")
    first = driver(*STUDY, *slow)
    wait_for(first, lambda: running(folder), tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = {trial.id: trial for trial in folder.trials()}
    kept = {path.name: path.read_bytes() for path in folder.clips.iterdir()}
    assert set(kept) >= {f"{name}.parquet" for name in before}
    again = driver("ablate", "--resume", "run", "--seeds", "4")
    assert again.wait(600) == 0, output(tmp_path, 1)
    after = folder.trials()
    assert {trial.id: trial for trial in after if trial.id in before} == before
    pairs = [(variant, seed) for seed in range(4) for variant in ("1e-3", "1e-2", "1e-4")]
    assert [trial.pair for trial in after] == pairs
    assert [trial.number for trial in after] == list(range(1, 13))
    assert {trial.state for trial in after} == {"complete"}
    assert {path.stem for path in folder.clips.iterdir()} == {trial.id for trial in after}
    assert {name: (folder.clips / name).read_bytes() for name in kept} == kept
    whole = [event["trial"] for event in events(notes) if event.get("start") == 0 and event["trial"] in before]
    assert sorted(whole) == sorted(before), "what was finished was trained once"
    shown = output(tmp_path, 1)
    assert "python tune/ablate.py --resume runs/run --seeds 7" in shown, "what two comparisons need"
    for noise in ("Traceback", "Warning", "raylet", "WARNING"):
        assert noise not in output(tmp_path, 0) + shown


@pytest.mark.slow
def test_ctrl_c_stops_a_study_in_good_order(driver, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "run")
    process = driver(*STUDY, "--set", "optim.step_epochs=150")
    wait_for(process, lambda: running(folder), tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(300) == 130, output(tmp_path, 0)
    shown = output(tmp_path, 0)
    assert "python tune/ablate.py --resume runs/run" in shown
    assert "Traceback" not in shown
    assert {"complete", "stopped"} == {trial.state for trial in folder.trials()}
    assert "Missing" in shown
    assert folder.report.exists()
