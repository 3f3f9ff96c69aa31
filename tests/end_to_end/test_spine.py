"""The whole road as a user types it: search, best.yaml, final training, checkpoint."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import launch
from htt import console
from htt.config import AugmentConfig, override, read
from htt.testing import TINY
from htt.training import checkpoint
from tune.results.run_folder import RunFolder

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
NO_AUGMENTATION = [f"data.augment.{name}=0.0" for name in AugmentConfig.model_fields if name != "views"]
SET = [word for path, value in TINY.items() for word in ("--set", f"{path}={str(value).lower()}")]
NOISE = re.compile(r"warning|deprecat|traceback|\(pid=|ray::|INFO|WARNING", re.IGNORECASE)


def command(*words, cwd, code=0):
    """Run a command of the project; its output, which must be free of noise."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=1200, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert not NOISE.search(said), said
    return said


def test_search_prints_table_best_and_next_command(searched):
    folder, said = searched
    assert not NOISE.search(said), said
    assert "python cluster/launch.py --config runs/tiny/best.yaml" in said
    assert "trial   3" in said
    run = RunFolder(folder / "runs" / "tiny")
    assert sorted(trial.state for trial in run.trials())[0] in ("complete", "pruned")
    assert len(run.trials()) == 3
    assert read(folder / "runs/tiny/best.yaml").model.width == TINY["model.width"]


FEW, EPOCHS = 3, 100  # many, since an epoch takes 0.1 s and a signal longer
FINAL = ["--config", "runs/tiny/best.yaml", "--workers", 2, "--set", "runtime.tensorboard=true"]
SHORT = [*FINAL, "--set", f"train.epochs={FEW}"]
LONG = [*FINAL, "--set", f"train.epochs={EPOCHS}"]
"""Long enough to be stopped three times."""


def trained(words, name, epochs, folder):
    """Run a final training on two workers that nobody stops; return its folder."""
    said = command(ROOT / "cluster/launch.py", *words, "--name", name, cwd=folder)
    assert f"epoch {epochs}/{epochs}" in said
    assert "Final evaluation" in said
    return folder / "runs" / name


@pytest.fixture(scope="module")
def final(searched):
    return trained(SHORT, "final", FEW, searched[0])


@pytest.fixture(scope="module")
def whole(searched):
    return trained(LONG, "whole", EPOCHS, searched[0])


def test_final_training_checkpoint_loads_strictly(searched, final):
    folder, _ = searched
    model, record = checkpoint.load(final / "checkpoint")
    best = read(folder / "runs/tiny/best.yaml")
    assert record.config.fingerprint() == override(best, {"train.epochs": FEW}).fingerprint()
    assert model.info.joints == 42
    found = json.loads((final / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in found["epochs"]] == list(range(1, FEW + 1))
    assert found["final"]["test_hand_error_mm"] > 0
    assert list((final / "tensorboard").iterdir())


def test_finished_training_is_not_repeated(searched, final, refused, capsys):
    folder, _ = searched
    words = [*map(str, SHORT), "--name", final.name]
    assert "is taken" in refused(launch, *words, cwd=folder)  # starts no Ray, nor does what follows
    console.run(launch.Options, launch.main, [*words, "--resume"])
    said = capsys.readouterr().out
    assert "Final evaluation" in said
    assert "epoch 1/" not in said


@pytest.mark.slow
def test_one_and_several_workers_give_equal_numbers(searched):
    """A final training on one worker, and the same configuration as a trial of two."""
    folder, _ = searched
    same = ["optim.name=sgd", "model.backbone.batch_norm=frozen", "train.batch_size=2", *NO_AUGMENTATION]
    fixed = [*SET, *(word for assignment in same for word in ("--set", assignment))]
    command(ROOT / "tune/search.py", "--trials", 1, "--name", "two", "--workers-per-trial", 2, *fixed, cwd=folder)
    (trial,) = RunFolder(folder / "runs" / "two").trials()
    assert trial.state == "complete"
    said = command(ROOT / "cluster/launch.py", "--config", "runs/two/best.yaml", "--name", "one", cwd=folder)
    assert "on 1 worker;" in said
    final = json.loads((folder / "runs/one/metrics.json").read_text())["final"]
    for metric in ("hand_error_mm", "loss", "object_accuracy"):
        assert trial.metrics[metric] == pytest.approx(final[metric], rel=1e-3), metric


def test_best_reads_a_run_and_writes_another_choice(searched):
    folder, _ = searched
    said = command(
        ROOT / "tune/best.py", "tiny", "--top", 2, "--metric", "action_accuracy", "--out", "other.yaml", cwd=folder
    )
    assert "other.yaml" in said
    assert read(folder / "other.yaml").model.width == TINY["model.width"]


MISTAKES = {
    "an unknown path": (["tune/search.py", "--set", "optim.lrr=1"], "optim.lrr: no such field. Did you mean"),
    "no such data": (["tune/search.py", "--set", "data.root=/no/such/data"], "/no/such/data"),
    "data not converted": (["tune/search.py", "--set", "data.source=h2o"], "python -m htt.data.convert --source h2o"),
    "too many resources": (["tune/search.py", "--gpus-per-trial", "64"], "Missing: 6"),
    "no such run to read": (["tune/best.py", "never"], "never"),
    "too many workers": (
        ["cluster/launch.py", "--config", "{best}", "--workers", "99", "--set", "train.scaling=linear"],
        "Missing:",
    ),
}
"""One of each script, and those that are found when Ray is there; others are in the tests of the scripts."""
MINUTES = ("no such data", "too many resources", "too many workers")
"""Those that start a Ray to say what another says too."""


@pytest.mark.parametrize(
    "mistake", [pytest.param(each, marks=pytest.mark.slow if each in MINUTES else ()) for each in MISTAKES]
)
def test_user_error_is_one_sentence_with_exit_code_2(searched, mistake):
    folder, _ = searched
    words, message = MISTAKES[mistake]
    script, *options = [word.format(best="runs/tiny/best.yaml") for word in words]
    said = command(ROOT / script, *options, cwd=folder, code=2)
    assert message in said, said
    assert said.count("error:") == 1


class Launched:
    """A final training that is stopped on its way."""

    def __init__(self, *words, cwd):
        self.process = subprocess.Popen(
            [sys.executable, "-u", *map(str, words)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def until(self, epoch):
        """Wait for the end of this epoch, or of the first one that is shown if the workers were further already."""
        for line in self.process.stdout:
            self.said += line
            shown = re.match(r"epoch (\d+)/", line)
            if shown and int(shown[1]) >= epoch:
                return
        pytest.fail(f"it ended before epoch {epoch}:\n{self.said}")

    def ended(self, code):
        self.said += self.process.communicate(timeout=600)[0]
        assert self.process.returncode == code, self.said
        assert not NOISE.search(self.said), self.said
        return self.said


@pytest.mark.slow
def test_final_training_stopped_three_ways_gives_equal_weights(searched, whole):
    """Its driver killed, then Ctrl-C, then one of its two workers killed: an epoch at most is repeated each time."""
    folder, _ = searched
    words = [ROOT / "cluster/launch.py", *LONG, "--name", "stopped"]
    killed = Launched(*words, cwd=folder)
    killed.until(1)
    killed.process.kill()
    killed.ended(-signal.SIGKILL)
    interrupted = Launched(*words, "--resume", cwd=folder)
    interrupted.until(4)
    interrupted.process.send_signal(signal.SIGINT)
    assert "--name stopped --resume" in interrupted.ended(130)
    lost = Launched(*words, "--resume", cwd=folder)
    lost.until(7)
    workers = [pid for pid in below(lost.process.pid) if "RayTrainWorker" in command_line(pid)]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    assert re.search(r"^Resuming at epoch \d+ on 2 workers\.$", lost.ended(0), re.MULTILINE), lost.said

    said = killed.said + interrupted.said + lost.said
    shown = [int(epoch) for epoch in re.findall(r"^epoch (\d+)/", said, re.MULTILINE)]
    assert set(shown) <= set(range(1, EPOCHS + 1))  # workers outlive a killed driver by seconds, and nobody shows these
    assert len(shown) <= EPOCHS + 3
    epochs = json.loads((folder / "runs/stopped/metrics.json").read_text())["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, EPOCHS + 1))
    undisturbed = checkpoint.load(whole / "checkpoint")[0].state_dict()
    stopped = checkpoint.load(folder / "runs/stopped/checkpoint")[0].state_dict()
    assert list(stopped) == list(undisturbed)
    for name, value in undisturbed.items():
        assert value.equal(stopped[name]), name


@pytest.mark.slow
def test_final_training_resumes_before_a_damaged_checkpoint(searched, whole):
    """The newest has a flipped bit, and Ray Train's list of them was cut short: to the same weights, and said."""
    folder, _ = searched
    words = [ROOT / "cluster/launch.py", *LONG, "--name", "spoilt"]
    killed = Launched(*words, cwd=folder)
    killed.until(4)
    killed.process.kill()
    killed.ended(-signal.SIGKILL)
    time.sleep(10)  # workers outlive their driver by seconds, and may save once more
    train = folder / "runs/spoilt/spoilt-train"
    older, newest = sorted(train.glob("checkpoint_2*"))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    snapshot = train / "checkpoint_manager_snapshot.json"
    snapshot.write_bytes(snapshot.read_bytes()[:100])
    again = Launched(*words, "--resume", cwd=folder)
    said = again.ended(0)
    assert "was damaged and has been repaired; the training resumes from" in said.replace("\n", " ")
    assert f"The training resumes from {older.resolve()}." in said.replace("\n", "")
    undisturbed = checkpoint.load(whole / "checkpoint")[0].state_dict()
    for name, value in checkpoint.load(folder / "runs/spoilt/checkpoint")[0].state_dict().items():
        assert value.equal(undisturbed[name]), name


def below(pid):
    """The processes that a process has started, and they in turn."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return [each for child in children for each in (child, *below(child))]


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()
