"""The road of ``docs/cluster.md`` for machines of one's own, on three hosts, from ``ray up`` to ``ray down``."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from fake_training import events
from hosts import HOME, ROOT
from htt.config import read
from htt.testing import TINY
from htt.training import checkpoint
from on_premises import LAPTOP
from tune.results.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.cluster]

SET = " ".join(f"--set {path}={str(value).lower()}" for path, value in TINY.items())
TOKEN = f"{HOME}/.ray/auth_token"
GET = "python -c 'import urllib.request as r; print(r.urlopen(\"{url}\", timeout=20).status)'"
QUIET = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
RAY_PROCESSES = "ps axo args | grep -E 'raylet/raylet|gcs_server|ray::|log_monitor.py' | grep -v grep || true"


def hosts(cluster):
    return [cluster.head, *cluster.workers]


def test_ray_up_starts_every_host_with_a_private_token(cluster):
    assert cluster.nodes() == {"head": "ALIVE", "node1": "ALIVE", "node2": "ALIVE"}
    token = cluster.hosts.file(LAPTOP, TOKEN)
    for host in hosts(cluster):
        copy = cluster.hosts.file(host, TOKEN)
        assert copy.read_text() == token.read_text()
        assert copy.stat().st_mode & 0o777 == 0o600
        logs = cluster.hosts.run(host, "grep -rl -f ~/.ray/auth_token /tmp/ray ~ --exclude=auth_token || true")
        assert logs == "", "the token is in its file alone"
        assert token.read_text() not in cluster.hosts.run(host, "ps axeo args")
    assert token.stat().st_mode & 0o777 == 0o600


def test_ray_up_refuses_requests_without_the_token(cluster):
    stranger = "env -u RAY_AUTH_MODE RAY_AUTH_TOKEN_PATH=/nowhere HOME=/tmp"
    said = cluster.type(f"{stranger} ray job submit -- touch /mnt/shared/taken", code=1)
    assert "Authentication required" in said
    assert "401" in cluster.type(GET.format(url="http://127.0.0.1:8265/api/jobs/"), code=1)
    head = cluster.hosts.addresses["head"]
    said = cluster.type(f"{stranger} python tune/search.py --address {head}:6379", code=2)
    assert f"Cannot join the cluster at '{head}:6379': it requires its token, and there is none in /nowhere." in said
    assert "refused" in cluster.type(GET.format(url=f"http://{head}:8265"), code=1), "the dashboard is the head's own"
    assert not (cluster.shared / "taken").exists()


def test_ray_up_job_uses_its_own_code(cluster):
    """Not that of ``ray up`` is used, on no machine."""
    edited = cluster.hosts.file(LAPTOP, ROOT / "htt" / "hand.py")
    edited.write_text(edited.read_text() + "\n# edited\n")
    said = cluster.submit("-m cluster.preflight --storage /mnt/shared/runs")
    assert "3 machines, 0 GPUs: same code and versions, storage reachable." in said


def test_ray_up_search_job_uses_all_hosts(cluster):
    """With the stand-in training; the real one takes minutes."""
    options = "--space fake --scheduler none --trials 3 --set optim.step_epochs=2000 --name noted"
    places = "--storage /mnt/shared/runs --set runtime.cache=/mnt/shared/notes"
    said = cluster.submit(f"tests/end_to_end/noted_search.py {options} {places}")
    assert "Searching space fake with 3 trials at once" in said
    assert "succeeded" in said
    trials = RunFolder(cluster.shared / "runs" / "noted").trials()
    assert [(trial.number, trial.state) for trial in trials] == [(number, "complete") for number in (1, 2, 3)]
    assert {event["host"] for event in events(cluster.shared / "notes") if "host" in event} == set(hosts(cluster))


@pytest.fixture(scope="module")
def first(cluster):
    """The folder of a search that ran as a job, and what it said."""
    said = cluster.submit(f"tune/search.py --storage /mnt/shared/runs --name first --trials 3 {SET}")
    return RunFolder(cluster.shared / "runs" / "first"), said


@pytest.mark.slow
def test_ray_up_search_job_with_real_training_uses_all_hosts(cluster, first):
    folder, said = first
    assert "Searching space quick with 3 trials at once" in said
    assert "succeeded" in said
    assert [trial.number for trial in folder.trials()] == [1, 2, 3]
    assert {trial.state for trial in folder.trials()} <= {"complete", "pruned"}
    trainers = actors(cluster, "ImplicitFunc")
    assert len({actor["node_id"] for actor in trainers}) == 3


def actors(cluster, kind):
    """The actors of a class that there are and were."""
    there = json.loads(cluster.type("ray list actors --format json --limit 1000"))
    return [actor for actor in there if actor["class_name"].rpartition(".")[2] == kind]


@pytest.mark.slow
def test_ray_up_best_is_trained_on_two_hosts(cluster, first):
    folder, _ = first
    said = cluster.submit("tune/best.py first --storage /mnt/shared/runs")
    assert re.search(r"Best configuration +/mnt/shared/runs/first/best\.yaml", said)
    best = read(folder.best)
    assert best.model.width == TINY["model.width"]

    job = "cluster/launch.py --config /mnt/shared/runs/first/best.yaml --runs /mnt/shared/runs --name final --workers 2"
    said = cluster.submit(job)
    assert "epoch 2/2" in said
    assert "Final evaluation" in said
    assert len({actor["node_id"] for actor in actors(cluster, "RayTrainWorker")}) == 2
    run = cluster.shared / "runs" / "final"
    _, record = checkpoint.load(run / "checkpoint")
    assert record.config.fingerprint() == best.fingerprint()
    found = json.loads((run / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2]
    assert found["final"]["test_hand_error_mm"] > 0


def test_ray_down_leaves_nothing_on_the_hosts(cluster):
    """``ray down`` stops the head; what is on the others notices within two minutes, or is told."""
    assert "No nodes remaining" in cluster.down()
    assert cluster.hosts.run("head", RAY_PROCESSES) == ""
    with ThreadPoolExecutor() as pool:  # each stop waits for its own host
        list(pool.map(partial(stop, cluster), cluster.workers))


def stop(cluster, host):
    assert "raylet" in cluster.hosts.run(host, RAY_PROCESSES)
    cluster.type(f"ssh {QUIET} root@{cluster.hosts.addresses[host]} ray stop")
    assert cluster.hosts.run(host, RAY_PROCESSES) == ""
