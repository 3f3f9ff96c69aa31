"""The whole road as a user types it: search, best.yaml, final training, checkpoint."""

import functools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import launch
from htt.config import AugmentConfig, read
from htt.testing import TINY
from htt.training import checkpoint
from tune.results import RunFolder

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
NO_AUGMENTATION = [f"data.augment.{name}=0.0" for name in AugmentConfig.model_fields]
SET = [word for path, value in TINY.items() for word in ("--set", f"{path}={str(value).lower()}")]
NOISE = re.compile(r"warning|deprecat|traceback|\(pid=|ray::|INFO|WARNING", re.IGNORECASE)


def command(*words, cwd, code=0):
    """Run a command of the project; its output, which must be free of noise."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert not NOISE.search(said), said
    return said


@pytest.fixture(scope="module")
def searched(tmp_path_factory, cache):
    """A folder in which a tiny search has run, and what it said."""
    folder = tmp_path_factory.mktemp("spine")
    said = command(ROOT / "tune/search.py", "--trials", 3, "--name", "tiny", *SET, cwd=folder)
    return folder, said


def test_a_search_ends_with_a_table_the_best_configuration_and_the_next_command(searched):
    folder, said = searched
    assert "python cluster/launch.py --config runs/tiny/best.yaml" in said
    assert "trial   3" in said
    run = RunFolder(folder / "runs" / "tiny")
    assert sorted(trial.state for trial in run.trials())[0] in ("complete", "pruned")
    assert len(run.trials()) == 3
    assert read(folder / "runs/tiny/best.yaml").model.width == TINY["model.width"]


@pytest.fixture(scope="module")
def final(searched):
    """A function: the folder of a final training of the best configuration with so many workers, run once."""
    folder, _ = searched

    @functools.cache
    def train(workers):
        name = f"final-{workers}"
        said = command(
            ROOT / "cluster/launch.py", "--config", "runs/tiny/best.yaml", "--workers", workers, "--name", name,
            "--set", "runtime.tensorboard=true", cwd=folder,
        )  # fmt: skip
        assert "epoch 2/2" in said
        assert "Final evaluation" in said
        return folder / "runs" / name

    return train


@pytest.mark.parametrize("workers", [1, 2])
def test_final_training_leaves_a_checkpoint_that_loads_strictly(searched, final, workers):
    folder, _ = searched
    run = final(workers)
    model, record = checkpoint.load(run / "checkpoint")
    assert record.config.fingerprint() == read(folder / "runs/tiny/best.yaml").fingerprint()
    assert model.info.joints == 42
    found = json.loads((run / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2]
    assert found["final"]["test_hand_error_mm"] > 0
    assert list((run / "tensorboard").iterdir())


def test_a_finished_training_is_not_trained_again(searched, final, refused):
    folder, _ = searched
    words = ["--config", "runs/tiny/best.yaml", "--name", final(1).name]
    assert "is taken" in refused(launch, *words, cwd=folder)
    said = command(ROOT / "cluster/launch.py", *words, "--resume", cwd=folder)
    assert "Final evaluation" in said
    assert "epoch 1/2" not in said


def test_one_worker_and_several_give_the_same_numbers(searched):
    """A plain Tune trial, and the same configuration as a Ray Train trial of two workers."""
    folder, _ = searched
    same = ["optim.name=sgd", "model.backbone.batch_norm=frozen", "train.batch_size=2", *NO_AUGMENTATION]
    fixed = [*SET, *(word for assignment in same for word in ("--set", assignment))]
    values = {}
    for workers in (1, 2):
        name = f"trial-{workers}"
        options = ["--trials", 1, "--name", name, "--workers-per-trial", workers]
        command(ROOT / "tune/search.py", *options, *fixed, cwd=folder)
        (trial,) = RunFolder(folder / "runs" / name).trials()
        assert trial.state == "complete"
        values[workers] = {metric: trial.metrics[metric] for metric in ("hand_error_mm", "loss", "object_accuracy")}
    assert values[1] == pytest.approx(values[2], rel=1e-3)


def test_best_reads_a_run_and_writes_another_choice(searched):
    folder, _ = searched
    said = command(ROOT / "tune/best.py", "tiny", "--top", 2, "--metric", "loss", "--out", "other.yaml", cwd=folder)
    assert "other.yaml" in said
    assert read(folder / "other.yaml").model.width == TINY["model.width"]


MISTAKES = {
    "an unknown path": (["tune/search.py", "--set", "optim.lrr=1"], "optim.lrr: there is no such field. Did you mean"),
    "no such data": (["tune/search.py", "--set", "data.root=/no/such/data"], "/no/such/data"),
    "data not converted": (["tune/search.py", "--set", "data.source=h2o"], "python -m htt.data.convert --source h2o"),
    "too many resources": (["tune/search.py", "--gpus-per-trial", "64"], "Missing: 6"),
    "no such run to read": (["tune/best.py", "never"], "never"),
    "too many workers": (["cluster/launch.py", "--config", "{best}", "--workers", "99"], "Missing:"),
}
"""One of each script, and those that are found when Ray is there; others are in the tests of the scripts."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_with_2(searched, mistake):
    folder, _ = searched
    words, message = MISTAKES[mistake]
    script, *options = [word.format(best="runs/tiny/best.yaml") for word in words]
    said = command(ROOT / script, *options, cwd=folder, code=2)
    assert message in said, said
    assert said.count("error:") == 1


LONG = ["--config", "runs/tiny/best.yaml", "--set", "train.epochs=12"]


@pytest.fixture(scope="module")
def undisturbed(searched):
    """The weights of a longer final training that nobody stopped."""
    folder, _ = searched
    command(ROOT / "cluster/launch.py", *LONG, "--name", "whole", cwd=folder)
    return checkpoint.load(folder / "runs" / "whole" / "checkpoint")[0].state_dict()


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_final_training_is_resumed_to_the_same_weights_and_epochs(searched, undisturbed, stop, code):
    folder, _ = searched
    words = [ROOT / "cluster/launch.py", *LONG]
    process = subprocess.Popen(
        [sys.executable, "-u", *map(str, words), "--name", stop.name],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch 1/12"):
            process.send_signal(stop)
            break
    said = process.communicate(timeout=120)[0]
    assert process.returncode == code, said
    if stop == signal.SIGINT:
        assert f"--name {stop.name} --resume" in said
    assert not NOISE.search(said), said
    command(*words, "--name", stop.name, "--resume", cwd=folder)
    resumed = checkpoint.load(folder / "runs" / stop.name / "checkpoint")[0].state_dict()
    assert list(resumed) == list(undisturbed)
    for name, value in undisturbed.items():
        assert value.equal(resumed[name]), name
    epochs = json.loads((folder / "runs" / stop.name / "metrics.json").read_text())["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 13))
