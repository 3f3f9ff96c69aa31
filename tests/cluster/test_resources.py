import pytest
import yaml

from cluster import resources as resources_module
from cluster.resources import Machine, require
from cluster.training import Workers
from htt.errors import ClusterError

LAPTOP = [Machine("laptop", 2.0, 0.0)]
RACK = [Machine("a", 8.0, 2.0), Machine("b", 8.0, 1.0)]


@pytest.mark.parametrize(
    ("resources", "workers", "there", "times"),
    [
        ({"CPU": 1}, 1, LAPTOP, 2),
        ({"CPU": 1, "GPU": 0.0}, 2, LAPTOP, 1),
        ({"CPU": 0.5}, 1, LAPTOP, 4),
        ({"CPU": 1, "GPU": 1}, 1, RACK, 3),
        ({"CPU": 1, "GPU": 0.5}, 1, RACK, 6),
        ({"CPU": 1, "GPU": 0.4}, 1, RACK, 6),
        ({"CPU": 1, "GPU": 1}, 2, RACK, 1),
        ({"CPU": 4, "GPU": 0.1}, 1, RACK, 4),
        ({"GPU": 2}, 1, RACK, 1),
    ],
)
def test_require_returns_how_often_workers_fit(resources, workers, there, times):
    assert require(resources, workers, there) == times


@pytest.mark.parametrize(
    ("resources", "workers", "there", "message"),
    [
        ({"CPU": 1}, 5, LAPTOP, r"5 workers of 1 CPU and 0 GPU at the same time: 2 would fit\. .*Missing: 3 CPU\."),
        ({"CPU": 1, "GPU": 0.5}, 1, LAPTOP, r"Available: laptop \(2 CPU, 0 GPU\)\. Missing: 0\.5 GPU"),
        ({"CPU": 2, "GPU": 2}, 2, RACK, r"Missing: 1 GPU"),
        ({"CPU": 12}, 1, RACK, r"Missing: a machine with enough of both at once"),
        ({"CPU": 1}, 1, [], r"Available: nothing\. Missing: 1 CPU"),
        ({"CPU": 1}, 0, LAPTOP, "Invalid number of workers 0: expected at least 1"),
        ({"CPU": 0}, 1, LAPTOP, "Invalid resources of a worker: 0 CPU, 0 GPU"),
        ({"CPU": 1, "GPU": -1}, 1, LAPTOP, "Invalid resources of a worker: 1 CPU, -1 GPU"),
        ({"CPU": 1, "GPU": 1.5}, 1, RACK, r"Invalid number of GPUs of a worker 1\.5: expected at most 1, or a whole"),
    ],
)
def test_require_names_available_and_missing_resources(resources, workers, there, message):
    with pytest.raises(ClusterError, match=message):
        require(resources, workers, there)


@pytest.mark.parametrize(
    ("there", "asked", "each", "cpus"),
    [
        (LAPTOP, None, 0.0, 1.0),
        (RACK, None, 1.0, 4.0),
        (RACK, 0.0, 0.0, 1.0),
        (RACK, 0.5, 0.5, 2.0),
        (RACK, 2.0, 2.0, 8.0),
        (LAPTOP, 2.0, 2.0, 1.0),
        ([Machine("small", 2.0, 8.0)], None, 1.0, 1.0),
    ],
)
def test_gpus_defaults_to_one_where_available_and_cpus_to_their_share(monkeypatch, there, asked, each, cpus):
    monkeypatch.setattr(resources_module, "machines", lambda: there)
    assert resources_module.gpus(asked) == each
    assert resources_module.gpus(asked, workers=3) == (3 * each if asked is None else each)
    settled = Workers(2, gpus=asked).settled()
    assert settled.resources == {"CPU": cpus, **({"GPU": each} if each else {})}
    assert Workers(2, cpus=3.0, gpus=asked).settled().cpus == 3.0


def test_workers_text_names_gpus_of_each():
    assert str(Workers(4, gpus=1.0)) == "4 workers with 1 GPU each"
    assert str(Workers(1, gpus=2.0, least=None)) == "1 worker with 2 GPUs each"
    assert str(Workers(8, gpus=0.0, least=1)) == "1 to 8 workers"


LAUNCHED = {
    "provider": {"type": "aws"},
    "head_node_type": "head",
    "max_workers": 3,
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 2},
        "large": {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 2},
    },
}


class TestMachinesToCome:
    @pytest.mark.parametrize(("workers", "gpus"), [(0, [1, 1, 4]), (1, [1, 4]), (3, []), (5, [])])
    def test_launchable_respects_limits_per_kind_and_in_total(self, workers, gpus):
        assert [machine.gpus for machine in resources_module.launchable(LAUNCHED, workers)] == gpus

    def test_launchable_is_empty_on_premises(self):
        assert resources_module.launchable({**LAUNCHED, "provider": {"type": "local"}}, 0) == []

    def test_machines_counts_launchable_for_jobs_on_head_only(self, monkeypatch, tmp_path):
        head = {"NodeManagerHostname": "head", "Alive": True, "Resources": {resources_module.HEAD: 1.0}}
        monkeypatch.setattr(resources_module.ray, "nodes", lambda: [head])
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / resources_module.CLUSTER_CONFIG).write_text(yaml.safe_dump(LAUNCHED))
        monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
        assert [str(machine) for machine in resources_module.machines()] == ["head (0 CPU, 0 GPU)"]
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
        assert resources_module.require({"CPU": 1, "GPU": 1}) == 6
        with pytest.raises(ClusterError, match=r"Available: head \(0 CPU, 0 GPU\), gpu, when needed \(4 CPU, 1 GPU\)"):
            resources_module.require({"CPU": 1, "GPU": 8})
