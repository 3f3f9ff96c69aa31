"""Finding the project's own error behind Ray's, and giving up where repeating cannot help."""

import queue
from types import SimpleNamespace

import pytest
import ray.exceptions
import ray.train

from htt.config import override
from htt.errors import (
    CheckpointError,
    ClusterError,
    DataError,
    DeviceMemoryError,
    NonFiniteLossError,
    RunError,
    StorageError,
)
from htt.group import Group
from htt.model.htt import HTT
from htt.testing import tiny_config, tiny_info
from htt.training import checkpoint, optim, worker
from htt.training.worker import GiveUp, our_error


def test_our_error_is_found_inside_rays():
    ours = DataError("no data")
    behind = RuntimeError("ray")
    behind.__cause__ = ValueError("between")
    behind.__cause__.__cause__ = ours
    assert our_error(ray.train.WorkerGroupError("workers", {0: KeyError("other"), 1: behind})) is ours
    assert our_error(ray.train.ControllerError(ours)) is ours


def test_our_error_of_an_unknown_error_is_none():
    assert our_error(ray.train.WorkerGroupError("workers", {0: KeyError("x")})) is None


def test_worker_gives_up_for_project_errors_only():
    GiveUp().after_exception(None, {0: ConnectionError("a worker was lost")})
    with pytest.raises(NonFiniteLossError):
        GiveUp().after_exception(None, {1: NonFiniteLossError(1, 2, ["action"])})
    with pytest.raises(DeviceMemoryError, match="too large"):
        GiveUp().after_exception(None, {1: DeviceMemoryError("too large")})


def test_worker_resumes_only_checkpoints_of_its_training(tmp_path):
    config = tiny_config()
    model = HTT(config.model, tiny_info())
    moves = optim.optimizer(config.optim, model.parameters())
    checkpoint.save(tmp_path / "c", model, moves, checkpoint.Progress(1, 4), config, tiny_info(), {})
    elsewhere = override(config, {"runtime.loader_workers": 2})
    assert worker._progress(tmp_path / "c", elsewhere) == checkpoint.Progress(1, 4)
    other = override(config, {"optim.lr": 0.5})
    told = f"are of configuration {config.fingerprint()}, this training has {other.fingerprint()}"
    with pytest.raises(RunError, match=rf"Cannot resume: .* {told}\. Choose another --name"):
        worker._progress(tmp_path / "c", other)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Two checkpoints of a training, of which Ray Train gives the newest; gives the folder of each."""
    config = tiny_config()
    model = HTT(config.model, tiny_info())
    moves = optim.optimizer(config.optim, model.parameters())
    places = [tmp_path / "run-train" / f"checkpoint_{number}" for number in (1, 2)]
    for epoch, place in enumerate(places, 1):
        checkpoint.save(place, model, moves, checkpoint.Progress(epoch), config, tiny_info(), {})
    newest = ray.train.Checkpoint.from_directory(str(places[1]))
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: newest)
    return places


def spoil(place):
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def test_worker_resumes_before_a_damaged_checkpoint(stored, tmp_path):
    folder, note = worker._resume(tmp_path / "a", Group(), final=True)
    assert (checkpoint.read(folder).progress.epoch, note) == (2, "")
    spoil(stored[1])
    folder, note = worker._resume(tmp_path / "b", Group(), final=True)
    assert checkpoint.read(folder).progress.epoch == 1
    assert note.startswith(f"Damaged checkpoint: {stored[1]}/model.safetensors has sha")
    assert note.endswith(f"The training resumes from {stored[0]}.")


def test_worker_without_a_whole_checkpoint_fails_or_restarts(stored, tmp_path):
    for place in stored:
        spoil(place)
    with pytest.raises(
        CheckpointError,
        match=rf"none of the 2 checkpoints in {stored[0].parent} is usable\. .* --resume to start from scratch",
    ):
        worker._resume(tmp_path / "a", Group(), final=True)
    folder, note = worker._resume(tmp_path / "b", Group(), final=False)
    assert folder is None
    assert note.endswith("The training starts from scratch.")


def test_workers_agree_on_a_checkpoint_all_can_read(stored, tmp_path, monkeypatch):
    answers = iter([1.0, 0.0])  # of both workers together: another one found fault with the newest
    monkeypatch.setattr(Group, "sum", lambda self, values: values + next(answers))
    folder, note = worker._resume(tmp_path / "a", Group(), final=True)
    assert checkpoint.read(folder).progress.epoch == 1
    assert "Another worker cannot read" in note


def test_worker_on_an_unready_machine_trains_nothing():
    def ready():
        raise ClusterError("it is not")

    with pytest.raises(ClusterError, match="it is not"):
        worker.train_loop({"config": None, "ready": ready})


class Queue(queue.Queue):
    """Ray's, in this process; one that is given an error raises it, as one that is gone."""

    def __init__(self, actor_options):
        super().__init__()

    def get(self):
        told = super().get()
        if isinstance(told, ray.exceptions.RayError):
            raise told
        return told

    def shutdown(self, force):
        pass


@pytest.fixture
def listening(monkeypatch):
    monkeypatch.setattr("ray.util.queue.Queue", Queue)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "ab" * 28))
    return worker.listening


def test_listener_receives_messages_in_order(listening):
    heard = []
    with listening(heard.append) as told:
        for number in range(5):
            told.put(number)
    assert heard == [0, 1, 2, 3, 4]


def test_listener_error_is_raised_at_the_end(listening):
    heard, went_on = [], []

    def take(number):
        heard.append(number)
        if number in (1, 3):
            raise StorageError(f"no space for {number}")

    def listened():
        with listening(take) as told:
            for number in range(5):
                told.put(number)
            went_on.append(True)

    with pytest.raises(StorageError, match="no space for 1"):
        listened()
    assert went_on
    assert heard == [0, 1, 2, 3, 4]


def test_body_error_takes_precedence_over_listener_error(listening):
    def take(number):
        raise StorageError("no space")

    def listened():
        with listening(take) as told:
            told.put(1)
            raise DataError("no data")

    with pytest.raises(DataError, match="no data"):
        listened()


def test_closed_queue_raises_no_further_error(listening):
    with listening(pytest.fail) as told:
        told.put(ray.exceptions.RayActorError())


@pytest.mark.parametrize(("gpus", "backend"), [(0.0, "gloo"), (0.5, "gloo"), (1.0, "nccl"), (2.0, "nccl")])
def test_workers_that_share_a_gpu_use_gloo(monkeypatch, gpus, backend):
    made = {}
    monkeypatch.setattr(ray.train.torch, "TorchTrainer", lambda loop, **options: made.update(options))
    worker.torch_trainer(print, {}, ray.train.RunConfig(), workers=2, gpus_per_worker=gpus)
    assert made["torch_config"].backend == backend
    assert made["scaling_config"].use_gpu == (gpus > 0)
