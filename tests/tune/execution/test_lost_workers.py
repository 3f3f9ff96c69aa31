"""What Ray says of a trial that Tune does not expect fails that trial; the search goes on, and can be resumed."""

import inspect
import pickle

import pytest
import ray.exceptions as rays
from ray.air.execution._internal.actor_manager import RayActorManager

from htt.parallel import out_of_memory
from tune.execution.ray_errors import as_actor_death
from tune.results.run_folder import RunFolder

OOM = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.1, ID: a8a4) was "
    "8.31GB used / 23.54GB limit (0.35)\nRefer to the documentation"
)


def test_out_of_memory_error_states_amounts_and_remedy():
    said = out_of_memory(f"RayActorError: {rays.OutOfMemoryError(OOM)}")
    assert said is not None
    assert "(8.31GB of 23.54GB in use)" in said
    assert "--max-concurrent" in said
    assert "\n" not in said
    assert out_of_memory("ActorDiedError: the actor died") is None


def test_actor_death_keeps_its_reason_when_pickled():
    error = pickle.loads(pickle.dumps(as_actor_death(rays.NodeDiedError("the node is gone"))))
    assert str(error) == "NodeDiedError: the node is gone"


@pytest.fixture
def faulty(monkeypatch):
    """Have Ray answer with an error whenever the second trial is asked something."""
    usual = RayActorManager._actor_task_resolved
    trials = []

    def arm(error):
        def resolved(self, tracked_actor_task, result):
            trial = inspect.getclosurevars(tracked_actor_task._on_result).nonlocals["trial"].trial_id
            if trial not in trials:
                trials.append(trial)
            if trials.index(trial) == 1:
                self._actor_task_failed(tracked_actor_task, error)
            else:
                usual(self, tracked_actor_task, result)

        monkeypatch.setattr(RayActorManager, "_actor_task_resolved", resolved)

    return arm


@pytest.mark.ray
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (rays.OutOfMemoryError(OOM), "TrainingError: Out of memory (8.31GB of"),
        pytest.param(
            ModuleNotFoundError("No module named 'plugin'"),
            "ModuleNotFoundError: No module named 'plugin'",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_search_continues_after_an_unknown_error_of_ray(local_ray, search, faulty, tmp_path, error, said):
    faulty(error)
    options = {"max_concurrent": 1, "scheduler": "none", "algorithm": "random"}
    outcome = search(trials=3, **options)
    assert [trial.state for trial in outcome.trials] == ["complete", "failed", "complete"]
    assert outcome.trials[1].error.startswith(said)
    assert RunFolder(tmp_path / "run").report.exists()
    again = search(trials=4, resume=True, **options)
    assert [trial.state for trial in again.trials] == ["complete", "failed", "complete", "complete"]
