"""A final training with ``--workers 1:3``: a host goes, without a word or after the cloud's notice, and comes back."""

import json
import re

import pytest

from htt.config import AugmentConfig
from htt.testing import TINY, tiny_config
from htt.training.jobs import train

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.slow]

EPOCHS = 60
ALIKE = {f"data.augment.{name}": 0.0 for name in AugmentConfig.model_fields}
CHANGED = {
    **ALIKE,
    "optim.name": "sgd",
    "optim.lr": 1e-3,
    "train.batch_size": 3,
    "train.epochs": EPOCHS,
    "train.windows_per_epoch": 300,
    "data.synthetic.train_clips": 40,
}
RUNTIME = {"runtime.resize_minutes": 0.1}
SET = " ".join(f"--set {path}={str(value).lower()}" for path, value in {**TINY, **CHANGED, **RUNTIME}.items())
WARNING_S = 20


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    """The last metrics of the same training by one worker that nothing befalls."""
    reports = []
    train(tiny_config(**CHANGED), tmp_path_factory.mktemp("alone"), lambda metrics, _: reports.append(metrics))
    return reports[-1]


@pytest.mark.parametrize("told", [False, True], ids=["lost without a word", "after a notice"])
def test_a_training_goes_on_without_a_host_and_takes_it_in_again(cluster, undisturbed, tmp_path, told):
    name = f"elastic-{told}".lower()
    words = f"cluster/launch.py --preset quick --workers 1:3 --runs /mnt/shared/runs --name {name} {SET}"
    file = cluster.shared / "runs" / name / "metrics.json"
    job = cluster.start(words, tmp_path / "job")
    job.wait_for(lambda: file.exists() and len(json.loads(file.read_text())["epochs"]) >= 3)
    if told:
        cluster.hosts.run("node1", f"python -c 'from cluster import notices; notices.drain({WARNING_S})'")
        job.wait_for(lambda: "Going on" in job.said())
    cluster.hosts.kill("node1")
    job.wait_for(lambda: "on 2 workers" in job.said())
    cluster.hosts.start("node1")
    said = job.ended()
    starts = re.findall(r"(Beginning|Going on) (with|within) epoch (\d+), on (\d) workers", said)
    assert [int(workers) for *_, workers in starts] == [3, 2, 3], said
    assert starts[0][:3] == ("Beginning", "with", "1")
    if told:
        assert starts[1][1] == "within", "it saved itself in the middle of an epoch"
    shown = [int(epoch) for epoch in re.findall(rf"^epoch (\d+)/{EPOCHS}", said, re.MULTILINE)]
    assert set(shown) == set(range(1, EPOCHS + 1))
    assert len(shown) - EPOCHS <= len(starts) - 1, "an epoch at most is repeated for each change"
    kept = json.loads(file.read_text())
    assert [epoch["epoch"] for epoch in kept["epochs"]] == list(range(1, EPOCHS + 1))
    for metric in ("loss", "hand_error_mm", "train_joints_px"):
        assert kept["final"][metric] == pytest.approx(undisturbed[metric], rel=1e-3), metric
