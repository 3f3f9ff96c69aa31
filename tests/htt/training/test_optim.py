"""The learning rate as a function of the step, and the three optimisers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from htt.config import OptimConfig
from htt.training.optim import learning_rate, optimizer, set_learning_rate


def test_step_schedule_halves_the_rate_every_15_epochs():
    config = OptimConfig()
    rates = [learning_rate(config, epoch * 10, 10, 45) for epoch in (0, 14, 15, 29, 30, 44)]
    assert rates == [3e-5, 3e-5, 1.5e-5, 1.5e-5, 0.75e-5, 0.75e-5]


def test_cosine_schedule_falls_from_one_to_zero():
    config = OptimConfig(lr=1.0, schedule="cosine")
    rates = [learning_rate(config, step, 10, 4) for step in (0, 20, 40)]
    assert rates == pytest.approx([1.0, 0.5, 0.0])


def test_warmup_rises_linearly_to_the_full_rate():
    config = OptimConfig(lr=1.0, schedule="constant", warmup_epochs=0.5)
    assert [learning_rate(config, step, 8, 4) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@given(st.sampled_from(["constant", "step", "cosine"]), st.floats(0, 2), st.integers(1, 7), st.integers(1, 40))
def test_schedule_stays_between_zero_and_one(schedule, warmup, steps, epochs):
    config = OptimConfig(lr=0.3, schedule=schedule, warmup_epochs=warmup)
    rates = [learning_rate(config, step, steps, epochs) for step in range(steps * epochs)]
    assert all(0 <= rate <= 0.3 + 1e-12 for rate in rates)
    late = rates[int(warmup * steps) + 1 :]
    assert late == sorted(late, reverse=True)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimisers_take_trained_parameters_only(name, kind):
    layer = torch.nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    built = optimizer(OptimConfig(name=name, lr=0.1, weight_decay=0.01), layer.parameters())
    assert type(built) is kind
    assert built.param_groups[0]["params"] == [layer.weight]
    assert built.param_groups[0]["weight_decay"] == 0.01
    set_learning_rate(built, 0.5)
    assert built.param_groups[0]["lr"] == 0.5


def test_encoder_rate_follows_the_same_schedule():
    encoder, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    parameters = [*encoder.parameters(), *head.parameters()]
    config = OptimConfig(lr=0.1, backbone_lr=0.01, warmup_epochs=1, schedule="cosine")
    built = optimizer(config, parameters, encoder.parameters())
    assert [len(group["params"]) for group in built.param_groups] == [2, 2]
    assert built.param_groups[1]["params"] == list(encoder.parameters())
    for step in (0, 3, 7):
        rate = learning_rate(config, step, 4, 3)
        set_learning_rate(built, rate)
        assert [group["lr"] for group in built.param_groups] == pytest.approx([rate, 0.1 * rate])
    one = optimizer(OptimConfig(lr=0.1), parameters, encoder.parameters())
    assert [each["params"] for each in one.param_groups] == [parameters], "as in older checkpoints"
    encoder.requires_grad_(False)
    assert len(optimizer(config, parameters, encoder.parameters()).param_groups) == 1
