"""The loss: its numbers, what takes no part in it, and that parts of a batch join to the whole."""

import dataclasses

import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from htt import losses as module
from htt.batch import Batch
from htt.config import LossConfig
from htt.losses import AHEAD, TERMS, Mean, counts_of, counts_of_labels, losses, merge, share, total, weights_of
from htt.model.htt import HTT
from htt.testing import random_batch, random_prediction, tiny_config, tiny_info

losses = jaxtyped(typechecker=beartype)(losses)


def part(batch: Batch, windows: slice) -> Batch:
    chosen = torch.zeros(len(batch.valid), dtype=torch.bool)
    chosen[windows] = True
    here = chosen[batch.valid.nonzero()[:, 0]]
    per_window = ("valid", "intrinsics", "action", "clip", "view")
    values = {name: tensor[chosen if name in per_window else here] for name, tensor in batch.tensors().items()}
    return Batch(**values)


def test_losses_equal_l1_and_cross_entropy_means():
    info = tiny_info(1)
    batch = random_batch(info, [2, 3])
    prediction = random_prediction(info, batch)
    means = losses(prediction, batch)
    expected = {
        "joints_px": (prediction.joints_px - batch.joints_px).abs().mean(),
        "depth_m": (prediction.depth_m - batch.joints_m[..., 2]).abs().mean(),
        "object": torch.nn.functional.cross_entropy(prediction.object_logits, batch.object),
        "action": torch.nn.functional.cross_entropy(prediction.action_logits, batch.action),
        "hand_type": torch.nn.functional.cross_entropy(prediction.hand_type_logits[:, 0], batch.hand_type[:, 0]),
    }
    assert tuple(means) == TERMS
    for term, mean in means.items():
        torch.testing.assert_close(mean.value, expected[term])
    weights = LossConfig(joints_px=2.0, depth_m=3.0, object=5.0, action=7.0, hand_type=11.0)
    weighted = 2 * expected["joints_px"] + 3 * expected["depth_m"] + 5 * expected["object"] + 7 * expected["action"]
    torch.testing.assert_close(total(means, weights), weighted + 11 * expected["hand_type"])
    plain = losses(dataclasses.replace(prediction, hand_type_logits=None), batch)
    assert tuple(plain) == TERMS[:-1], "a model without the head has no such term"
    torch.testing.assert_close(total(plain, weights), weighted)


def test_terms_equal_the_fields_of_the_loss_config():
    assert {*TERMS, "forecast"} == set(LossConfig.model_fields)
    assert set(weights_of(LossConfig())) == {*TERMS, *AHEAD}


def test_targets_in_the_image_may_be_given():
    batch = random_batch(tiny_info())
    prediction = random_prediction(tiny_info(), batch)
    assert losses(prediction, batch, joints_px=prediction.joints_px)["joints_px"].value == 0


def test_absent_hands_take_no_part_whatever_their_joints_hold():
    info = tiny_info()
    batch = random_batch(info)
    batch.joint_valid[:, 21:] = False
    prediction = random_prediction(info, batch)
    before = losses(prediction, batch)
    batch.joints_m[:, 21:] = torch.nan
    batch.joints_px[:, 21:] = torch.nan
    after = losses(prediction, batch)
    for term in TERMS:
        torch.testing.assert_close(after[term].value, before[term].value)
    expected = (prediction.joints_px - batch.joints_px)[:, :21].abs().mean()
    torch.testing.assert_close(after["joints_px"].value, expected)


def test_nothing_known_is_a_loss_of_0_with_a_gradient_of_0():
    info = tiny_info()
    batch = random_batch(info)
    unknown = dataclasses.replace(
        batch,
        joint_valid=torch.zeros_like(batch.joint_valid),
        joints_m=torch.full_like(batch.joints_m, torch.nan),
        joints_px=torch.full_like(batch.joints_px, torch.nan),
        object=torch.full_like(batch.object, -1),
        action=torch.full_like(batch.action, -1),
    )
    model = HTT(tiny_config().model, info)
    loss = total(losses(model(batch.frames, batch.valid, batch.intrinsics), unknown), LossConfig())
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad.abs().max() == 0 for parameter in model.parameters())


def test_losses_ignore_unknown_labels():
    batch = random_batch(tiny_info(), [3, 4])
    batch.action[0] = -1
    batch.object[:2] = -1
    means = losses(random_prediction(tiny_info(), batch), batch)
    assert means["action"].count == 1
    assert means["object"].count == 5


def test_losses_ignore_unknown_hand_types():
    batch = random_batch(tiny_info(), [3, 4])
    batch.hand_type[1] = -1
    prediction = random_prediction(tiny_info(), batch)
    found = losses(prediction, batch)["hand_type"]
    assert found.count == 12
    prediction.hand_type_logits[1] = 100 * torch.randn(2, 3)
    assert losses(prediction, batch)["hand_type"].total == found.total
    unnamed = losses(prediction, dataclasses.replace(batch, hand_type=None))["hand_type"]
    assert (unnamed.value, unnamed.count) == (0, 0)


@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(1, 4), min_size=2, max_size=4), cut=st.integers(1, 3), absent=st.integers(0, 2**12))
def test_merged_losses_of_parts_equal_the_whole_batch(lengths, cut, absent):
    cut = min(cut, len(lengths) - 1)
    info = tiny_info(1)
    batch = random_batch(info, lengths)
    batch.joint_valid[:] = torch.rand(batch.joint_valid.shape, generator=torch.Generator().manual_seed(absent)) < 0.5
    model = HTT(tiny_config().model, info).eval()

    def means(of: Batch):
        return losses(model(of.frames, of.valid, of.intrinsics), of)

    with torch.no_grad():
        joined = merge(means(part(batch, slice(cut))), means(part(batch, slice(cut, None))))
        whole = means(batch)
    for term in TERMS[:-1]:
        torch.testing.assert_close(joined[term].value, whole[term].value, rtol=1e-4, atol=1e-5)
        assert joined[term].count == whole[term].count


def gradients(model: HTT) -> list[torch.Tensor]:
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return found


def test_averaged_worker_gradients_equal_the_whole_batch():
    info, config = tiny_info(), LossConfig()
    batch = random_batch(info, [2, 7, 4])
    batch.joint_valid[:3, :21] = False
    batch.action[0] = -1
    torch.manual_seed(0)
    model = HTT(tiny_config().model, info)

    def means(of: Batch):
        return losses(model(of.frames, of.valid, of.intrinsics), of)

    total(means(batch), config).backward()
    whole = gradients(model)
    parts = [part(batch, slice(1)), part(batch, slice(1, None))]
    counts = sum(counts_of(means(one)) for one in parts)
    averaged = [torch.zeros_like(gradient) for gradient in whole]
    for one in parts:
        total(share(means(one), counts, len(parts)), config).backward()
        averaged = [mean + gradient / len(parts) for mean, gradient in zip(averaged, gradients(model), strict=True)]
    for found, expected in zip(averaged, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_mean_without_values_is_0():
    assert Mean(torch.tensor(0.0), torch.tensor(0.0)).value == 0
    assert Mean(torch.tensor(3.0), torch.tensor(2.0)).merge(Mean(torch.tensor(3.0), torch.tensor(1.0))).value == 2


@pytest.mark.parametrize("term", TERMS)
def test_non_finite_term_makes_its_total_non_finite(term):
    batch = random_batch(tiny_info())
    prediction = random_prediction(tiny_info(), batch)
    field = term if term in ("joints_px", "depth_m") else f"{term}_logits"
    getattr(prediction, field)[0] = torch.nan
    assert not module.losses(prediction, batch)[term].total.isfinite()


def test_losses_gradient_of_a_far_target_equals_a_near_one():
    """Its distance is seen in the value alone: an L1 loss has the same gradient at 10 px and at 17,210 px."""
    info = tiny_info(1)
    batch = random_batch(info, [4, 4])
    near = random_prediction(info, batch).joints_px
    far = batch.joints_px.clone()
    far[2] = 17_210.0
    values, gradients = [], []
    for target in (batch.joints_px, far):
        predicted = near.clone().requires_grad_()
        prediction = dataclasses.replace(random_prediction(info, batch), joints_px=predicted)
        value = losses(prediction, batch, joints_px=target)["joints_px"].value
        value.backward()
        values.append(value.item())
        gradients.append(predicted.grad.abs().flatten(1).sum(dim=1))
    assert values[1] > values[0] + 17_210 / 8 * 0.9
    torch.testing.assert_close(gradients[0], torch.full((8,), 1 / 8))
    torch.testing.assert_close(gradients[1], gradients[0])


def test_smoothed_labels_leave_a_share_to_every_class():
    batch = random_batch(tiny_info())
    prediction = random_prediction(tiny_info(), batch)
    plain, smooth = losses(prediction, batch), losses(prediction, batch, smoothing=0.2)
    logs = prediction.action_logits.log_softmax(dim=-1)
    expected = 0.8 * plain["action"].value - 0.2 * logs.mean(dim=-1).mean()
    assert smooth["action"].value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert smooth["object"].value != plain["object"].value
    assert smooth["joints_px"].value == plain["joints_px"].value


def test_counts_are_known_from_the_labels():
    batch = random_batch(tiny_info(), ahead=2)
    batch.ahead_valid[3:] = False
    batch.action[1], batch.object[3:6], batch.joint_valid[2:9] = -1, -1, False
    batch.hand_type[2:5, 0] = -1
    found = counts_of(losses(random_prediction(tiny_info(), batch), batch))
    assert torch.equal(counts_of_labels(batch, hand_types=True), found)
    assert torch.equal(counts_of_labels(batch), torch.cat([found[:4], found[5:]]))
