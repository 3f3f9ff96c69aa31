"""What a model costs: sizes that can be counted by hand, and what is the same however it is measured."""

import contextlib

import pytest
import torch
from torch import nn

from htt.evaluation import cost
from htt.evaluation.metric_table import COSTS
from htt.group import Group
from htt.model import size
from htt.model.htt import HTT
from htt.testing import tiny_config

PLAIN = contextlib.nullcontext


class Doubling(nn.Module):
    """Holds four learned numbers and two fixed ones; makes two images' worth of floats, one after the other."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))
        self.fixed = nn.Parameter(torch.zeros(2), requires_grad=False)

    def forward(self, frames, valid, intrinsics, truth):
        first = frames.float()
        second = first + 1
        view = second.reshape(-1)
        del first, second
        return view.sum()


class OneBatch:
    def __init__(self):
        self.frames = torch.zeros(1, 3, 10, 10, dtype=torch.uint8)
        self.valid = self.intrinsics = self.truth = None


def test_memory_is_the_peak_of_live_tensors():
    found = cost.memory_mb(Doubling(), [OneBatch()], PLAIN)
    assert found * 1e6 == 4 * (4 + 2) + 300 + 2 * 4 * 300, "weights, the frames, and two images of floats"


def test_memory_reuses_freed_tensors():
    one, two = OneBatch(), OneBatch()
    both = cost.memory_mb(Doubling(), [one, two], PLAIN)
    assert both * 1e6 == pytest.approx(cost.memory_mb(Doubling(), [one], PLAIN) * 1e6 + 300 + 4), "frames and one sum"


def test_parameters_count_only_trained_ones():
    assert cost.parameters(Doubling()) == 4


def test_latency_is_the_median_of_repeats(monkeypatch):
    ticks = iter([0.0, 0.010, 1.0, 1.030, 2.0, 2.020, 3.0, 3.050])
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    found = cost.latency_ms(Doubling(), [OneBatch()], PLAIN, torch.device("cpu"))
    assert found == pytest.approx(25.0), "10, 30, 20 and 50 ms: the fourth passes a tenth of a second"


def test_cost_measurement_leaves_no_trace(tiny_splits):
    config = tiny_config()
    torch.manual_seed(0)
    model = HTT(config.model, tiny_splits.info)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    found = cost.cost(model, tiny_splits.val, config, group=Group(), autocast=PLAIN)
    assert list(found) == [each.name for each in COSTS]
    assert found["parameters"] == size.parameters(config.model, tiny_splits.info)
    assert found["latency_ms"] > 0
    assert found["memory_mb"] * 1e6 > 4 * found["parameters"]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    again = cost.cost(model, tiny_splits.val, config, group=Group(), autocast=PLAIN)
    assert again["memory_mb"] == found["memory_mb"]


def test_cost_is_measured_by_the_first_worker_only(tiny_splits):
    class Second(Group):
        def gather(self, value):
            assert value == {}
            return [{"parameters": 1.0}, value]

    found = cost.cost(None, tiny_splits.val, tiny_config(), group=Second(rank=1, size=2), autocast=PLAIN)
    assert found == {"parameters": 1.0}


def test_cost_is_kept_by_a_resumed_training():
    assert cost.known_cost([]) == {}
    assert cost.known_cost([{"epoch": 1, "loss": 2.0, "latency_ms": 7.0}]) == {"latency_ms": 7.0}
