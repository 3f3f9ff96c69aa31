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
    built = optimizer(config, parameters, encoder)
    assert [len(group["params"]) for group in built.param_groups] == [2, 2]
    assert built.param_groups[1]["params"] == list(encoder.parameters())
    for step in (0, 3, 7):
        rate = learning_rate(config, step, 4, 3)
        set_learning_rate(built, rate)
        assert [group["lr"] for group in built.param_groups] == pytest.approx([rate, 0.1 * rate])
    one = optimizer(OptimConfig(lr=0.1), parameters, encoder)
    assert [each["params"] for each in one.param_groups] == [parameters], "as in older checkpoints"
    encoder.requires_grad_(False)
    assert len(optimizer(config, parameters, encoder).param_groups) == 1


class Encoder(torch.nn.Module):
    """Embedding, three layers with a norm, and a norm after them, named as in an encoder of the hub."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(2, 2, bias=False)
        self.layer = torch.nn.ModuleList(torch.nn.LayerNorm(2, bias=False) for _ in range(3))
        self.norm = torch.nn.LayerNorm(2, bias=False)


def rates(encoder, **settings):
    """{name of a parameter of the encoder: its rate}, and the rate of the rest."""
    head = torch.nn.Linear(2, 2)
    built = optimizer(OptimConfig(lr=0.1, **settings), [*encoder.parameters(), *head.parameters()], encoder)
    set_learning_rate(built, 1.0)
    rate = {id(parameter): group["lr"] for group in built.param_groups for parameter in group["params"]}
    assert built.param_groups[0]["params"] == list(head.parameters())
    return {name: rate[id(parameter)] for name, parameter in encoder.named_parameters()}, rate[id(head.weight)]


def test_earlier_encoder_layers_learn_more_slowly():
    found, head = rates(Encoder(), layer_decay=0.5, backbone_lr_factor=0.8)
    assert head == 1.0
    assert found == pytest.approx(
        {"embed.weight": 0.1, "layer.0.weight": 0.2, "layer.1.weight": 0.4, "layer.2.weight": 0.8, "norm.weight": 0.8}
    )
    assert set(rates(torch.nn.Linear(2, 2), backbone_lr_factor=0.3)[0].values()) == {0.3}


def test_biases_norms_and_token_are_not_decayed_on_request():
    from htt.model.htt import HTT
    from htt.testing import tiny_config, tiny_info

    model = HTT(tiny_config().model, tiny_info())
    config = OptimConfig(weight_decay=0.1, decayed="matrices")
    built = optimizer(config, model.parameters(), model.features.backbone)
    decay = {id(parameter): group["weight_decay"] for group in built.param_groups for parameter in group["params"]}
    found = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    exempt = {name for name, value in found.items() if value == 0}
    assert exempt == {name for name in found if name.endswith(("bias", "token")) or "norm" in name}
    assert len(found) > len(exempt) > 0
    assert len(optimizer(OptimConfig(weight_decay=0.1), model.parameters()).param_groups) == 1, "as released"
