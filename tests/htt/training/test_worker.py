"""Finding the project's own error behind Ray's, and giving up where repeating cannot help."""

import pytest
import ray.train

from htt.config import override
from htt.errors import DataError, NonFiniteLossError, RunError
from htt.model.htt import HTT
from htt.testing import tiny_config, tiny_info
from htt.training import checkpoint, optim, worker
from htt.training.worker import GiveUp, our_error


def test_our_error_is_found_behind_rays():
    ours = DataError("no data")
    behind = RuntimeError("ray")
    behind.__cause__ = ValueError("between")
    behind.__cause__.__cause__ = ours
    assert our_error(ray.train.WorkerGroupError("workers", {0: KeyError("other"), 1: behind})) is ours
    assert our_error(ray.train.ControllerError(ours)) is ours


def test_an_error_of_nobody_we_know_is_none_of_ours():
    assert our_error(ray.train.WorkerGroupError("workers", {0: KeyError("x")})) is None


def test_it_gives_up_for_ours_alone():
    GiveUp().after_exception(None, {0: ConnectionError("a worker was lost")})
    with pytest.raises(NonFiniteLossError):
        GiveUp().after_exception(None, {1: NonFiniteLossError(1, 2, ["action"])})


def test_it_goes_on_from_checkpoints_of_the_same_training_alone(tmp_path):
    config = tiny_config()
    model = HTT(config.model, tiny_info())
    moves = optim.optimizer(config.optim, model.parameters())
    checkpoint.save(tmp_path / "c", model, moves, checkpoint.Progress(1, 4), config, tiny_info(), {})
    elsewhere = override(config, {"runtime.loader_workers": 2})
    assert worker._progress(tmp_path / "c", elsewhere) == checkpoint.Progress(1, 4)
    other = override(config, {"optim.lr": 0.5})
    told = f"are of configuration {config.fingerprint()}, and this is {other.fingerprint()}"
    with pytest.raises(RunError, match=rf"goes on from its own checkpoints; .* {told}\. Choose another --name"):
        worker._progress(tmp_path / "c", other)
