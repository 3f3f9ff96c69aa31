"""Finding the project's own error behind Ray's, and giving up where repeating cannot help."""

import pytest
import ray.train

from htt.errors import DataError, NonFiniteLossError
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
