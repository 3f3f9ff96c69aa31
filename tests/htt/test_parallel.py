"""One map over items: in order, bounded, with the errors of the function as they are."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from htt import console, parallel
from htt.errors import ClusterError

SQRT = "^(expected a nonnegative input|math domain error)"


def _squares(count: int, **options: object) -> Iterator[int]:
    return parallel.map(lambda item: item * item, range(count), title="Squaring", unit="numbers", **options)  # type: ignore[arg-type]


def test_one_worker_needs_no_ray(capsys: pytest.CaptureFixture[str]) -> None:
    before = "ray" in sys.modules
    assert list(_squares(5, workers=1)) == [0, 1, 4, 9, 16]
    assert ("ray" in sys.modules) == before


def test_nothing_to_do() -> None:
    assert list(_squares(0)) == []


def test_works_only_as_it_is_asked() -> None:
    begun: list[int] = []
    results = parallel.map(lambda item: begun.append(item), range(9), title="", unit="", workers=1)
    next(results)
    next(results)
    assert begun == [0, 1]


def test_amounts_are_shown_as_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    amount = parallel.Amount("frames", expected=lambda item: 10, actual=int, expected_before=60)
    list(_squares(4, workers=1, amount=amount, done=6))
    shown = capsys.readouterr().out
    assert "Squaring" in shown
    assert "100/100 frames" in shown
    assert "10/10 numbers" in shown
    assert "frames/s" in shown


def test_map_raises_the_original_error() -> None:
    with pytest.raises(ValueError, match=SQRT):
        list(parallel.map(math.sqrt, [1.0, -1.0], title="", unit="", workers=1))


def test_ray_here_names_why_ray_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(**_: object) -> None:
        raise RuntimeError("The current node timed out during startup.\nSee the logs.")

    monkeypatch.setattr("ray.init", slow)
    said = r"Cannot start Ray on this machine: The current node timed out during startup\.$"
    with pytest.raises(ClusterError, match=said), parallel.ray_here(1):
        pass


def _apart(program: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program that ran in a process of its own, where no Ray is named by the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.ray
class TestOnRay:
    """Several workers: Ray is started by programs, which may end without a word; pytest must not."""

    def test_in_order_and_stopped_at_the_end(self) -> None:
        done = _apart(IN_ORDER)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        shown = done.stdout.splitlines()
        assert shown[-1] == f"{[item * item for item in range(20)]} False"
        assert len(shown) <= 3

    def test_uses_the_ray_that_runs_and_leaves_it(self) -> None:
        done = _apart(WITHIN)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        said = [line.removeprefix("> ") for line in done.stdout.splitlines() if line.startswith("> ")]
        assert said == ["[0, 1, 4, 9, 16] True", "ValueError", "[1, 2] in a task", "0 at first"]

    @pytest.mark.slow
    def test_job_uses_its_cluster(self) -> None:
        """No second Ray on this machine, and all cores of the cluster, as a submitted job finds it."""
        done = _apart(CLUSTER, JOB)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        address, *_, said = done.stdout.splitlines()
        assert said == f"{ {address} } in parallel: 3"

    @pytest.mark.slow
    def test_train_runs_in_it(self, tmp_path: Path) -> None:
        """A script that evaluates on two Ray Train workers, and says nothing but what it prints."""
        done = _apart(TRAIN, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout == "3.0\n{'RAY_ADDRESS': 'elsewhere:1'}\n"


IN_ORDER = """
import ray
from htt import parallel

squares = parallel.map(lambda item: item * item, range(20), title="Squaring", unit="numbers", workers=2)
print(list(squares), ray.is_initialized())
"""

WITHIN = """
import math, ray
from htt import parallel

def squares(count, **options):
    return parallel.map(lambda item: item * item, range(count), title="", unit="", **options)

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
print(">", list(squares(5)), ray.is_initialized())
try:
    list(parallel.map(math.sqrt, [1.0, -1.0, 2.0], title="", unit="", workers=2))
except ValueError as error:
    print(">", type(error).__name__)
inside = ray.remote(num_cpus=2)(lambda: list(parallel.map(abs, [-1, -2], title="", unit="")))
print(">", ray.get(inside.remote(), timeout=300), "in a task")
results = squares(50, workers=2)
print(">", next(results), "at first")
results.close()
"""

CLUSTER = """
import os, subprocess, sys
import ray
from htt import parallel

with parallel.ray_here(3):
    address = ray.get_runtime_context().gcs_address
    print(address, flush=True)
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", "RAY_ADDRESS": address}
    subprocess.run([sys.executable, "-c", sys.argv[1]], env={**os.environ, **job}, check=True)
"""

JOB = """
import ray
from htt import parallel

def where(_):
    return ray.get_runtime_context().gcs_address, parallel._cores()

results = parallel.map(where, range(6), title="", unit="")
found = set()
for address, _ in results:
    found.add(address)
    cores = parallel._cores()
print(found, "in parallel:", cores)
"""

TRAIN = """
import os, sys
from htt import parallel

def work(_):
    import ray.train, torch, torch.distributed
    rank = torch.tensor(ray.train.get_context().get_world_rank() + 1.0)
    torch.distributed.all_reduce(rank)
    return rank.item()

names = [*parallel.SETTINGS, "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"]
os.environ["RAY_ADDRESS"] = "elsewhere:1"
with parallel.ray_here(2, train=True):
    import ray.train.torch
    scaling = ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    run = ray.train.RunConfig(name="sum", storage_path=sys.argv[1])
    trainer = ray.train.torch.TorchTrainer(work, train_loop_config={}, scaling_config=scaling, run_config=run)
    print(trainer.fit().return_value)
assert not ray.is_initialized()
print({name: os.environ[name] for name in names if name in os.environ})
"""


def test_off_a_terminal_a_line_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    list(_squares(3, workers=1, done=1))
    assert "Squaring: 2/4 numbers" in capsys.readouterr().out


@pytest.mark.parametrize("own", [None, "500"])
def test_use_assigned_sets_the_kernel_cache_unless_given(monkeypatch, own):
    import ray

    name, kept = parallel.KERNELS
    context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    for variable in (name, "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv(name, own) if own else monkeypatch.delenv(name)
    assert parallel.use_assigned() == 1
    assert os.environ[name] == (own or kept)
