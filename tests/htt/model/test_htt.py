"""The whole model: shapes, independence of padding and of other clips, and every choice of a configuration."""

import dataclasses

import pytest
import torch
from beartype import beartype
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float, UInt8, jaxtyped
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from htt import registry
from htt.batch import Batch, Prediction, window_of_frame
from htt.config import Config
from htt.errors import ConfigError
from htt.info import DataInfo
from htt.losses import losses
from htt.model import blocks
from htt.model.blocks import transformer
from htt.model.heads import FrameOutputs, decode_pose, encode_pose, with_truth
from htt.model.htt import HTT
from htt.testing import random_batch, tiny_config, tiny_info
from htt.training.loop import Precision

BLOCKS = registry.names(blocks)
ALWAYS = [field for field in dataclasses.fields(Prediction) if field.default is dataclasses.MISSING]
"""Fields of the predictions of every model."""


def model_of(info: DataInfo | None = None, **overrides) -> HTT:
    torch.manual_seed(0)
    return HTT(tiny_config(**overrides).model, info or tiny_info()).eval()


@torch.no_grad()
def predict(model: HTT, batch: Batch, attention: bool = False) -> Prediction:
    return model(batch.frames, batch.valid, batch.intrinsics, attention)


def same(found: Prediction, expected: Prediction) -> None:
    for field in ALWAYS:
        got, wanted = getattr(found, field.name), getattr(expected, field.name)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3, msg=lambda text, n=field.name: f"{n}: {text}")


def one_clip(batch: Batch, place: int) -> Batch:
    here = batch.valid.nonzero()[:, 0] == place
    alone = batch.valid[place : place + 1]
    return dataclasses.replace(
        batch, frames=batch.frames[here], valid=alone, intrinsics=batch.intrinsics[place : place + 1]
    )


@jaxtyped(typechecker=beartype)
def shapes_agree(
    frames: UInt8[Tensor, "n 3 h w"],
    valid: Bool[Tensor, "b t"],
    raw: Float[Tensor, "n j 3"],
    px: Float[Tensor, "n j 2"],
    depth: Float[Tensor, "n j"],
    metres: Float[Tensor, "n j 3"],
    objects: Float[Tensor, "n o"],
    actions: Float[Tensor, "b a"],
) -> None: ...


@pytest.mark.parametrize("hands", [1, 2])
def test_model_outputs_have_expected_shapes(hands):
    info = tiny_info(hands)
    batch = random_batch(info)
    found = predict(model_of(info), batch)
    shapes_agree(
        batch.frames,
        batch.valid,
        found.joints_raw,
        found.joints_px,
        found.depth_m,
        found.joints_m,
        found.object_logits,
        found.action_logits,
    )
    assert found.joints_px.shape[1] == 21 * hands
    assert found.object_logits.shape[1] == len(info.objects)
    assert found.action_logits.shape[1] == len(info.actions)
    assert found.attention is None


CHOICES = {
    "kind": st.sampled_from(BLOCKS),
    "window": st.integers(1, 9),
    "lengths": st.lists(st.integers(1, 9), min_size=1, max_size=3),
    "padding": st.integers(0, 6),
}


@settings(deadline=None, max_examples=25)
@given(**CHOICES)
def test_model_ignores_padding(kind, window, lengths, padding):
    model = model_of(**{"model.pose.block": kind, "model.action.block": kind, "model.pose.window": window})
    padded = random_batch(tiny_info(), lengths, padding=padding)
    same(predict(model, padded), predict(model, random_batch(tiny_info(), lengths)))


@settings(deadline=None, max_examples=25)
@given(**CHOICES)
def test_model_treats_clips_of_a_batch_independently(kind, window, lengths, padding):
    model = model_of(**{"model.pose.block": kind, "model.action.block": kind, "model.pose.window": window})
    batch = random_batch(tiny_info(), lengths, padding=padding)
    alone = [predict(model, one_clip(batch, place)) for place in range(len(lengths))]
    fields = [field.name for field in ALWAYS]
    joined = Prediction(*(torch.cat([getattr(one, name) for one in alone]) for name in fields))
    same(predict(model, batch), joined)


@pytest.mark.parametrize("kind", BLOCKS)
def test_model_gives_every_parameter_a_gradient(kind):
    model = model_of(**{"model.pose.block": kind, "model.action.block": kind}).train()
    batch = random_batch(tiny_info())
    found = model(batch.frames, batch.valid, batch.intrinsics)
    (found.joints_m.sum() + found.object_logits.square().sum() + found.action_logits.square().sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def info_of(actions: int, objects: int, hands: int) -> DataInfo:
    return DataInfo("x", tuple(map(str, range(actions))), tuple(map(str, range(objects))), hands, 480, 270)


@pytest.mark.parametrize(("info", "millions"), [(info_of(36, 8, 2), 25.50), (info_of(45, 26, 1), 25.47)])
def test_default_model_has_parameter_count_of_the_paper(info, millions):
    model = HTT(Config().model, info)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert sum(p.numel() for p in model.features.parameters()) / 1e6 == pytest.approx(11.18, abs=0.005)


def test_model_scales_integer_images_to_0_to_1():
    model, batch = model_of(), random_batch(tiny_info())
    floats = dataclasses.replace(batch, frames=batch.frames.float() / 255)
    same(predict(model, floats), predict(model, batch))


def test_pose_output_uses_image_centre_and_focal_length():
    info = tiny_info()
    model = model_of(info, **{"model.pose.pixel_scale": 50.0, "model.pose.depth_offset_m": 0.5})
    batch = random_batch(info)
    found = predict(model, batch)
    centre = torch.tensor([info.width / 2, info.height / 2])
    torch.testing.assert_close(found.joints_px, 50 * found.joints_raw[..., :2] + centre)
    torch.testing.assert_close(found.depth_m, 0.5 + info.width * 1e-4 * found.joints_raw[..., 2])
    torch.testing.assert_close(found.joints_m[..., 2], found.depth_m)


@pytest.mark.parametrize(("back_projection", "focal"), [("focal_x", (64.0, 64.0)), ("both", (64.0, 1.1 * 64))])
def test_back_projection_uses_configured_focal_lengths(back_projection, focal):
    batch = random_batch(tiny_info())
    found = predict(model_of(**{"model.pose.back_projection": back_projection}), batch)
    centre = torch.tensor([32.0, 18.0])
    expected = (found.joints_px - centre) / torch.tensor(focal) * found.depth_m[..., None]
    torch.testing.assert_close(found.joints_m[..., :2], expected)


def test_cues_are_selected_independently_of_their_order():
    orders = [["feature", "hands", "object"], ["object", "feature", "hands"]]
    batch = random_batch(tiny_info())
    first, second = (predict(model_of(**{"model.action.cues": cues}), batch) for cues in orders)
    same(first, second)
    assert set(model_of(**{"model.action.cues": ["hands"]}).action_input.cues) == {"hands"}


def test_hands_cue_contains_depth_only_in_3d():
    for hands, coordinates in (("2d", 2), ("3d", 3)):
        cue = model_of(**{"model.action.hands": hands}).action_input.cues["hands"]
        assert cue.embed.in_features == coordinates * tiny_info().joints


def test_batch_norm_updates_statistics_only_if_live():
    batch = random_batch(tiny_info())
    for choice, moves in (("frozen", False), ("live", True)):
        torch.manual_seed(0)
        model = HTT(tiny_config(**{"model.backbone.batch_norm": choice}).model, tiny_info())
        for again in (False, True):
            before = model.features.backbone.network.embedder.embedder.normalization.running_mean.clone()
            predict(model.train() if again else model, batch)
            after = model.features.backbone.network.embedder.embedder.normalization.running_mean
            assert bool((before != after).any()) == moves


def test_last_layer_of_block_a_computes_the_action_token_alone():
    width, depth, clips, frames = 16, 2, 3, 7
    config = tiny_config(**{"model.width": width, "model.action.feedforward": 32, "model.action.depth": depth}).model
    torch.manual_seed(0)
    readout = transformer.readout(width, config.action).eval()
    tokens, valid = torch.randn(clips, frames, width), torch.arange(frames) < torch.tensor([[7], [5], [2]])
    with FlopCounterMode(display=False) as counter:
        logits = readout(tokens, valid, torch.nn.Identity())
    every = readout(tokens, valid, torch.nn.Identity(), attention=[])
    torch.testing.assert_close(logits, every)
    linear = 2 * clips * width * width
    layer, last = (frames + 1) * (4 + 2 * 2), (frames + 1) * 2 + (2 + 2 * 2)
    counted = sum(count for name, count in counter.get_flop_counts()["Global"].items() if "attention" not in str(name))
    assert counted == linear * (layer + last)


def test_attention_is_returned_on_request_and_changes_nothing():
    model, batch = model_of(), random_batch(tiny_info(), [2, 6], padding=3)
    found = predict(model, batch, attention=True)
    same(found, predict(model, batch))
    (pose,), (action,) = found.attention["pose"], found.attention["action"]
    assert pose.shape == (2 * 3, 2, 4, 4)
    assert pose[[1, 2, 5]].abs().max() == 0, "windows without a frame"
    torch.testing.assert_close(pose[0, :, :, :2].sum(-1), torch.ones(2, 4))
    assert action.shape == (2, 2, 1 + 9, 1 + 9)
    assert action[0, :, :, 3:].abs().max() == 0, "padding"


def test_model_refuses_unknown_block():
    with pytest.raises(ConfigError, match=r"No 'lstn' in blocks\. Available: identity, lstm, mean, transformer"):
        model_of(**{"model.pose.block": "lstn"})


def test_lstm_block_refuses_odd_width():
    odd = {"model.width": 33, "model.pose.block": "lstm", "model.action.block": "mean"}
    with pytest.raises(ConfigError, match=r"model\.width must be even for an lstm block; got 33\. Choose 34"):
        model_of(**odd)


def test_encode_pose_is_the_inverse_of_decode_pose():
    info, config, batch = (
        tiny_info(),
        tiny_config(**{"model.pose.pixel_scale": 50.0}).model.pose,
        random_batch(tiny_info()),
    )
    camera = batch.intrinsics[window_of_frame(batch.valid)]
    raw = encode_pose(batch.joints_px, batch.joints_m[..., 2], camera, config, info)
    joints_px, depth_m, _ = decode_pose(raw, camera, config, info)
    torch.testing.assert_close(joints_px, batch.joints_px)
    torch.testing.assert_close(depth_m, batch.joints_m[..., 2])


def action_logits(batch: Batch, change: str = "", **overrides) -> Tensor:
    """Return the action logits of a model, after all weights of the part ``change`` were replaced."""
    model = model_of(**overrides)
    for parameter in model.get_submodule(change).parameters() if change else ():
        torch.nn.init.normal_(parameter)
    with torch.no_grad():
        return model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth).action_logits


@pytest.mark.parametrize(
    ("cue", "head", "other"), [("object", "object_head", "pose_head"), ("hands", "pose_head", "object_head")]
)
@pytest.mark.parametrize("hands", ["2d", "3d"])
def test_given_cue_makes_the_action_ignore_its_head_only(cue, head, other, hands):
    batch, how = random_batch(tiny_info()), {"model.action.hands": hands}
    given = how | {"model.action.given": [cue]}
    assert torch.equal(action_logits(batch, **given), action_logits(batch, head, **given))
    assert not torch.equal(action_logits(batch, **given), action_logits(batch, other, **given))
    assert not torch.equal(action_logits(batch, **how), action_logits(batch, head, **how))


def test_truth_changes_nothing_unless_a_cue_is_given():
    model, batch = model_of(), random_batch(tiny_info())
    with torch.no_grad():
        with_labels = model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth)
    without = predict(model, batch)
    for field in ALWAYS:
        assert torch.equal(getattr(with_labels, field.name), getattr(without, field.name))


def test_with_truth_keeps_predictions_where_labels_are_missing():
    info, batch = tiny_info(), random_batch(tiny_info())
    batch.joint_valid[0, :21] = False
    batch.joints_px[0, :21] = batch.joints_m[0, :21] = torch.nan
    batch.object[1] = batch.hand_type[2, 0] = -1
    cues = ["object", "hands", "hand_type"]
    config = tiny_config(**{"model.action.cues": cues, "model.action.given": cues}).model
    raw, logits = torch.randn(13, info.joints, 3), torch.randn(13, 3)
    camera = batch.intrinsics[window_of_frame(batch.valid)]
    predicted = torch.randn(13, 2, 3)
    outputs = FrameOutputs(torch.randn(13, 32), raw, logits, predicted)
    tokens, joints, objects, types = with_truth(outputs, batch.truth, camera, config, info)
    assert tokens is outputs.tokens
    px, depth_m, _ = decode_pose(joints, camera, config.pose, info)
    assert torch.equal(joints[0, :21], raw[0, :21])
    torch.testing.assert_close(px[batch.joint_valid], batch.joints_px[batch.joint_valid])
    torch.testing.assert_close(depth_m[batch.joint_valid], batch.joints_m[batch.joint_valid][:, 2])
    labelled = [frame for frame in range(13) if frame != 1]
    assert torch.equal(objects[1], logits[1])
    assert torch.equal(objects.softmax(-1)[labelled], torch.nn.functional.one_hot(batch.object[labelled], 3).float())
    assert torch.equal(types[2, 0], predicted[2, 0])
    known = batch.hand_type != -1
    assert torch.equal(types.softmax(-1)[known], torch.nn.functional.one_hot(batch.hand_type[known], 3).float())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("given", "zero"), [([], False), (["hands"], True)])
def test_action_loss_has_no_gradient_in_the_head_of_a_given_cue(given, zero, precision):
    model, batch = model_of(**{"model.action.given": given}).train(), random_batch(tiny_info())
    with Precision(precision, torch.device("cpu")).autocast():
        found = model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth)
    losses(found, batch)["action"].value.backward()
    gradients = [parameter.grad for parameter in model.pose_head.parameters()]
    assert all(gradient is None or not gradient.any() for gradient in gradients) == zero
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_given_cue_without_labels_is_refused():
    with pytest.raises(ConfigError, match=r"model\.action\.given is object: the model needs the labels of its frames"):
        predict(model_of(**{"model.action.given": ["object"]}), random_batch(tiny_info()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"given": ["object"], "cues": ["feature"]}, r"given must list cues of model\.action\.cues \['feature'\]"),
        ({"given": ["hands", "hands"]}, r"each once; got \['hands', 'hands'\]"),
        ({"given": ["feature"]}, r"model\.action\.given.*'hands', 'object' or 'hand_type'; got 'feature'"),
    ],
)
def test_invalid_given_cues_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(**{f"model.action.{name}": value for name, value in values.items()})


def later_changed(batch: Batch, count: int) -> Batch:
    """Return the batch with other images after the first ``count`` frames of each window."""
    late = (batch.valid.cumsum(dim=1) > count)[batch.valid]
    return dataclasses.replace(batch, frames=torch.where(late[:, None, None, None], 255 - batch.frames, batch.frames))


def states_of_block_a(batch: Batch, **overrides) -> Tensor:
    """Return the states [b 1+t d] that the last layer of block A reads: of the action token, then of the frames."""
    model, found = model_of(**{"model.action.depth": 3, **overrides}), []
    model.action_block.encoder.layers[-1].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    predict(model, batch)
    return found[0]


@pytest.mark.parametrize("causal", [True, False])
def test_causal_block_a_computes_nothing_of_a_frame_from_later_ones(causal):
    """Frames are cut where a window of block P ends, since block P sees each of its windows as a whole."""
    batch, how = random_batch(tiny_info(), [8, 7]), {"model.action.causal": causal}
    whole, changed = (states_of_block_a(each, **how) for each in (batch, later_changed(batch, 4)))
    until = states_of_block_a(batch.first(torch.tensor([4, 4])), **how)
    frames = slice(1, 5)
    assert torch.allclose(whole[:, frames], changed[:, frames], atol=1e-5) is causal
    assert torch.allclose(whole[:, frames], until[:, frames], atol=1e-5) is causal
    assert not torch.allclose(whole[:, 0], changed[:, 0], atol=1e-3), "the action is that of all frames"
    assert not torch.allclose(whole[:, 5], changed[:, 5], atol=1e-3)


def test_causal_attention_of_frames_is_to_the_past_and_of_the_token_to_all():
    model, batch = model_of(**{"model.action.causal": True}), random_batch(tiny_info(), [8])
    attention = model(batch.frames, batch.valid, batch.intrinsics, attention=True).attention["action"][0][0]
    assert (attention[:, 0] > 0).all(), "the token sees itself and all frames"
    assert attention[:, 1:, 1:].triu(1).abs().max() == 0, "no frame sees a later one"
    assert attention[:, 1:, 0].abs().max() == 0, "no frame sees the token, which knows later frames"


def test_causal_block_a_has_the_weights_of_the_released_one():
    plain, causal = model_of(), model_of(**{"model.action.causal": True})
    assert {name: value.shape for name, value in plain.state_dict().items()} == {
        name: value.shape for name, value in causal.state_dict().items()
    }
    causal.load_state_dict(plain.state_dict())
    batch = random_batch(tiny_info())
    found, released = predict(causal, batch), predict(plain, batch)
    assert torch.equal(found.joints_m, released.joints_m)
    torch.testing.assert_close(found.action_logits, released.action_logits)  # in one layer the token alone is read
    deep = {"model.action.depth": 2}
    assert not torch.allclose(
        predict(model_of(**deep), batch).action_logits,
        predict(model_of(**deep, **{"model.action.causal": True}), batch).action_logits,
    )


@pytest.mark.parametrize("kind", ["mean", "identity"])
def test_causal_changes_nothing_in_blocks_without_exchange(kind):
    batch, how = random_batch(tiny_info()), {"model.action.block": kind}
    same(predict(model_of(**how, **{"model.action.causal": True}), batch), predict(model_of(**how), batch))


def test_causal_lstm_reads_forwards_only():
    how = {"model.action.block": "lstm", "model.action.causal": True, "model.width": 31, "model.pose.block": "identity"}
    model = model_of(**how)
    assert not [name for name, _ in model.action_block.named_parameters() if "reverse" in name]
    tokens, states = torch.randn(1, 6, 31), []
    for count in (4, 6):
        read, last, _ = model.action_block.reader.read(tokens[:, :count], torch.ones(1, count, dtype=torch.bool))
        states.append(read)
        torch.testing.assert_close(read[:, -1], last)
    torch.testing.assert_close(states[0], states[1][:, :4])


CAMERAS = torch.tensor([[[focal, 0, 30.0], [0, focal, 20.0], [0, 0, 1]] for focal in (16.0, 32.0, 80.0)])
VIRTUAL = {"model.pose.joint_depth": "virtual_camera", "model.pose.virtual_focal": 0.5}


def test_virtual_camera_equals_the_released_depth_for_its_own_focal_length():
    raw, info = torch.randn(1, 42, 3), tiny_info()  # images of 64 px: the second camera
    found, released = (decode_pose(raw, CAMERAS[1:2], tiny_config(**how).model.pose, info) for how in (VIRTUAL, {}))
    for one, other in zip(found, released, strict=True):
        torch.testing.assert_close(one, other)


def test_virtual_camera_predicts_depths_in_proportion_to_the_focal_length():
    """The same output means the same image: twice the focal length at twice the depth shows a hand of the same size."""
    raw, pose = 50 * torch.randn(1, 42, 3).expand(3, 42, 3), tiny_config(**VIRTUAL).model.pose
    px, depth_m, joints_m = decode_pose(raw, CAMERAS, pose, tiny_info())
    assert torch.equal(px[0], px[2])
    torch.testing.assert_close(depth_m / CAMERAS[:, 0, 0, None], (depth_m[0] / 16).expand(3, 42))
    torch.testing.assert_close(joints_m[..., :2], joints_m[:1, :, :2].expand(3, 42, 2), msg="no larger or smaller hand")


@pytest.mark.parametrize("how", [VIRTUAL, {}, {**VIRTUAL, "model.pose.back_projection": "both"}])
def test_encode_pose_inverts_decode_pose_for_every_camera(how):
    raw, pose = torch.randn(3, 42, 3), tiny_config(**how).model.pose
    px, depth_m, _ = decode_pose(raw, CAMERAS, pose, tiny_info())
    torch.testing.assert_close(encode_pose(px, depth_m, CAMERAS, pose, tiny_info()), raw, rtol=1e-3, atol=1e-3)


TYPED = {"model.action.cues": ["feature", "hands", "object", "hand_type"]}


@pytest.mark.parametrize("hands", [1, 2])
def test_hand_type_cue_has_a_head_whose_probabilities_block_a_sees(hands):
    info = tiny_info(hands)
    batch, model = random_batch(info), model_of(info, **TYPED)
    found = predict(model, batch)
    assert found.hand_type_logits.shape == (13, hands, 3)
    assert found.hand_type_logits.dtype == torch.float32
    with torch.no_grad():
        model.hand_type_head.classify.bias += torch.tensor([9.0, 0.0, 0.0] * hands)
    other = predict(model, batch)
    assert not torch.equal(other.action_logits, found.action_logits)
    assert torch.equal(other.joints_px, found.joints_px)


def test_true_hand_types_replace_the_predicted_ones():
    batch, model = random_batch(tiny_info()), model_of(**TYPED, **{"model.action.given": ["hand_type"]})

    def actions(of: Batch) -> Tensor:
        with torch.no_grad():
            return model(of.frames, of.valid, of.intrinsics, truth=of.truth).action_logits

    found = actions(batch)
    assert not torch.equal(actions(dataclasses.replace(batch, hand_type=(batch.hand_type + 1) % 3)), found)
    with torch.no_grad():
        model.hand_type_head.classify.bias += torch.arange(6.0)
    assert torch.equal(actions(batch), found), "the head's own output is not seen"


def test_hand_types_add_no_parameter_unless_block_a_sees_them():
    plain, typed = ({name for name, _ in model_of(**how).named_parameters()} for how in ({}, TYPED))
    added = {f"hand_type_head.{layer}.{kind}" for layer in ("embed", "classify") for kind in ("weight", "bias")}
    assert typed - plain == added | {f"action_input.cues.hand_type.embed.{kind}" for kind in ("weight", "bias")}
    assert predict(model_of(), random_batch(tiny_info())).hand_type_logits is None


def test_hand_type_cue_is_refused_if_the_data_do_not_name_hand_types():
    info = dataclasses.replace(tiny_info(), hand_types=())
    with pytest.raises(
        ConfigError, match=r"cues has hand_type, but the data do not name hand types\. Use data that do"
    ):
        model_of(info, **TYPED)


def test_model_without_an_encoder_sees_given_hand_types():
    values = {"model.backbone.name": "none", "model.pose.block": "identity", "model.action.cues": ["hand_type"]}
    values |= {
        "model.action.given": ["hand_type"],
        **{f"loss.{term}": 0.0 for term in ("joints_px", "depth_m", "object")},
    }
    batch, model = random_batch(tiny_info()), model_of(**values)
    batch = dataclasses.replace(batch, frames=torch.zeros(13, 0))
    found = model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth)
    other = dataclasses.replace(batch, hand_type=(batch.hand_type + 1) % 3)
    assert found.hand_type_logits is None
    changed = model(batch.frames, batch.valid, batch.intrinsics, truth=other.truth)
    assert not torch.equal(changed.action_logits, found.action_logits)
