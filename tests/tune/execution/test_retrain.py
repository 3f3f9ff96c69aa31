"""Final trainings with fresh seeds, by a stand-in: together, gone on with after a kill, and never done twice."""

import concurrent.futures
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

import fake_final
import fake_training
from cluster.training import Workers
from htt.config import Config, override
from htt.errors import RunError, TrainingError
from project import SUPPORT, environment
from report_folders import search_folder
from tune.execution import retrain as retrain_execution
from tune.results import retrain
from tune.results.selection import ranked
from tune.results.sync import Storage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("undrawn")]

TRAINING = retrain_execution.RetrainFunctions(fake_final.run, fake_final.prepare)


def searched(tmp_path, **values):
    """A search whose trials the stand-in can train."""
    base = override(Config(), {"train.epochs": 4, "runtime.cache": str(tmp_path / "events"), **values})
    return search_folder(tmp_path / "runs" / "run", 6, base=base.model_dump(mode="json"))


def again(run, count, **options):
    """Train the best trial again; what came of it, and what was shown."""
    best = ranked(run.trials(), "hand_error_mm")[0]
    asked = retrain.plan(run, best, "hand_error_mm", count)
    shown = io.StringIO()
    place = Storage("retrain", run.path)
    found = retrain_execution.run(
        asked, place, Workers(), training=TRAINING, show=Console(file=shown, width=300), **options
    )
    return found, shown.getvalue()


def events(tmp_path, word):
    return [event for event in fake_training.events(tmp_path / "events") if word in event]


@contextlib.contextmanager
def held_until_started(tmp_path, count):
    """Hold all trainings in their first epoch until so many have started, at most for five minutes."""
    hold = tmp_path / "events" / "hold-1"
    hold.parent.mkdir()
    hold.touch()

    def release():
        deadline, file = time.monotonic() + 300, hold.parent / "events"
        while time.monotonic() < deadline and not (file.exists() and len(events(tmp_path, "at")) >= count):
            time.sleep(0.05)
        hold.unlink()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        released = pool.submit(release)
        yield
        released.result()


def test_retraining_trains_seeds_at_once_and_adds_more(local_ray, tmp_path, monkeypatch):
    run = searched(tmp_path, **{"optim.step_epochs": 800})
    with held_until_started(tmp_path, 2):
        found, shown = again(run, 3)
    assert found.done == [1, 2, 3]
    assert found.failed == {}
    assert "3 fresh seeds (1, 2, 3), 2 at once" in shown
    for seed in (1, 2, 3):
        assert re.search(rf"seed {seed}  epoch 4/4 +\d+:\d\d left  hand error", shown)
        assert found.finals[seed]["test_hand_error_mm"] == found.finals[seed]["hand_error_mm"] + 5
    begins, ends = ({one["seed"]: one[key] for one in events(tmp_path, key)} for key in ("at", "ended"))
    assert max(begins[1], begins[2]) < min(ends[1], ends[2]), "two at once"
    assert len({one["pid"] for one in events(tmp_path, "pid")} & {os.getpid()}) == 0
    assert len(events(tmp_path, "prepared")) == 1
    more, shown = again(run, 4, max_concurrent=1)
    assert [one["seed"] for one in events(tmp_path, "at")] == [*sorted(begins, key=begins.get), 4]
    assert "1 fresh seed (4), 1 at once" in shown
    assert retrain.read(more.path).seeds == [1, 2, 3, 4]
    monkeypatch.setattr("cluster.connect.connect", lambda *_: pytest.fail("nothing is left to train"))
    (more.path / "report.md").unlink()
    again(run, 4)
    assert (more.path / "report.md").exists()


def test_retraining_keeps_other_seeds_and_retries_a_failed_one(local_ray, tmp_path):
    run = searched(tmp_path, **{"optim.momentum": 0.1})
    found, shown = again(run, 3)
    assert found.done == [1, 3]
    assert "seed 2  failed: NonFiniteLossError" in shown
    assert "Failed seeds are a property of this configuration" in (found.path / "report.md").read_text()
    message = r"1 of 3 seeds failed\. Repeat the same command to retry them\.\n  - seed 2: NonF"
    with pytest.raises(TrainingError, match=message):
        retrain_execution.check_all(found)
    assert list(retrain.read(found.path).failed) == [2]
    better, _ = again(run, 3)
    assert better.done == [1, 2, 3]
    assert better.failed == retrain.read(found.path).failed == {}
    retrain_execution.check_all(better)
    assert [(one["seed"], one["start"]) for one in events(tmp_path, "at")][3:] == [(2, 1)]


def test_retraining_refuses_a_seed_folder_of_another_training(local_ray, tmp_path):
    run = searched(tmp_path)
    (run.path / "retrain" / "seed-1").mkdir(parents=True)
    best = ranked(run.trials(), "hand_error_mm")[0]
    with pytest.raises(RunError, match="it holds other files"):
        retrain.plan(run, best, "hand_error_mm", 2)
    asked = retrain.plan(run, best, "hand_error_mm", 2, name="fresh")
    asked.folder(2).mkdir(parents=True)
    (asked.folder(2) / "config.yaml").write_text("optim:\n  lr: 0.5\n")
    with pytest.raises(RunError, match="Cannot resume with another configuration"):
        retrain_execution.run(
            asked, Storage("fresh", run.path), Workers(), training=TRAINING, show=Console(file=io.StringIO())
        )
    assert not (tmp_path / "events").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_stopped_retraining_resumes_without_repeats(tmp_path, stop):
    run = searched(tmp_path, **{"optim.step_epochs": 300})
    command = [sys.executable, str(SUPPORT / "retrain_driver.py"), "run", "--retrain-seeds", "3"]
    env = {name: value for name, value in environment().items() if name != "OMP_NUM_THREADS"}
    with (tmp_path / "first").open("w") as out:
        first = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=out, stderr=out, start_new_session=True)
        until = time.monotonic() + 600
        while not ((tmp_path / "events" / "events").exists() and events(tmp_path, "ended")):
            assert first.poll() is None, (tmp_path / "first").read_text()
            assert time.monotonic() < until, (tmp_path / "first").read_text()
            time.sleep(0.05)
        os.killpg(first.pid, stop) if stop == signal.SIGINT else os.kill(first.pid, stop)
        code = first.wait(300)
    shown = (tmp_path / "first").read_text()
    assert code == (130 if stop == signal.SIGINT else -9), shown
    assert stop != signal.SIGINT or "Repeat the same command to resume" in shown
    assert "Traceback" not in shown
    done = {one["seed"] for one in events(tmp_path, "ended")}
    assert done < {1, 2, 3}
    second = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Traceback" not in second.stdout + second.stderr
    ended = [one["seed"] for one in events(tmp_path, "ended")]
    assert sorted(ended) == [1, 2, 3], "what was finished was trained once"
    assert {one["seed"] for one in events(tmp_path, "at") if one["start"] == 0} == {1, 2, 3}
    assert "Report  runs/run/retrain/report.md" in second.stdout
    assert retrain.read(run.path / "retrain").done == [1, 2, 3]
