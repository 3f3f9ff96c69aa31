"""Attention of a trained model, and the removal test: exact numbers of hand-made weights and models."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from htt.config import override
from htt.data.loading.splits import open_named
from htt.data.prepare import prepare
from htt.errors import ConfigError, DataError
from htt.evaluation.report import Provenance
from htt.inference import attention, attention_report
from htt.inference.attention import ATTENDED, RANDOM, SHIFTED, USUAL, Removal, chosen_frames, measure, profile
from htt.info import UNKNOWN
from htt.model.htt import HTT
from htt.testing import tiny_config

CLIPS = 6


class OneFrame(nn.Module):
    """Block A that attends to the frame ``position``, and names action 0 only while the frame ``uses`` is valid."""

    def __init__(self, position: int, uses: int) -> None:
        super().__init__()
        self.position, self.uses = position, uses

    def forward(self, tokens, valid, head, attention=None):
        if attention is not None:
            weights = torch.full((len(valid), 2, 1 + valid.shape[1], 1 + valid.shape[1]), 0.0)
            weights[:, :, 0, 1 + self.position] = 0.5
            weights[:, :, 0, 0] = 0.5
            attention.append(weights)
        logits = torch.zeros(len(valid), 36)
        logits[:, 0] = torch.where(valid[:, self.uses], 20.0, -20.0)
        return logits


def model_of(config, info, block=None) -> HTT:
    torch.manual_seed(0)
    model = HTT(config.model, info).eval()
    if block is not None:
        model.action_block = block
    return model


@pytest.fixture(scope="module")
def config():
    return tiny_config(**{"data.synthetic.val_clips": CLIPS, "train.batch_size": 1})


@pytest.fixture(scope="module")
def clips(config, cache):
    return open_named(prepare(config, workers=1), "val", config.data)


def removal_of(config, clips, block, **how) -> Removal:
    """The test of a model with this block A, as if every clip were of action 0."""
    found = measure(model_of(config, clips.info, block), clips, config, **how)
    return dataclasses.replace(found.removal, label=np.zeros(len(clips), int))


@pytest.mark.parametrize("count", [1, 2])
def test_removal_of_the_only_used_frame_ruins_the_prediction(config, clips, count):
    shortest = int(clips.frame_counts.min())
    assert shortest > 3
    found = removal_of(config, clips, OneFrame(2, uses=2), counts=[count], draws=200)
    assert found.after("accuracy", ATTENDED).mean() == 0
    assert found.after("probability", ATTENDED).max() < 1e-6
    expected = np.mean([1 - count / frames for frames in clips.frame_counts])
    assert found.after("accuracy", RANDOM).mean() == pytest.approx(expected, abs=0.05)
    of_all = {(fall.measure, fall.control): fall for fall in found.falls if fall.frames == count}
    fall = of_all["accuracy", RANDOM]
    assert fall.difference == pytest.approx(expected, abs=0.05)
    assert 0.4 < fall.interval[0] < fall.difference < fall.interval[1] <= 1
    if count == 1:  # a single frame that is moved is never the attended one
        assert of_all["accuracy", SHIFTED].difference == 1


def test_removal_of_an_unused_attended_frame_costs_nothing(config, clips):
    found = removal_of(config, clips, OneFrame(2, uses=0), counts=[1], draws=50)
    assert found.after("accuracy", ATTENDED).mean() == 1
    others = [fall.difference for fall in found.falls if fall.control != USUAL]
    assert max(others) < 0, "a random frame is the needed one at times"
    assert found.whole[:, 0] == pytest.approx(1.0)


def test_token_attention_is_relative_to_equal_attention(config, clips):
    found = measure(model_of(config, clips.info, OneFrame(1, uses=0)), clips, config, counts=[1], draws=1)
    for frames, token in zip(clips.frame_counts, found.token, strict=True):
        expected = np.zeros((1, 2, frames))
        expected[..., 1] = frames
        np.testing.assert_allclose(token, expected)
    np.testing.assert_allclose(found.own, 0.5)
    assert found.profiles(4).mean(axis=-1) == pytest.approx(1.0)
    assert found.top_share(0.5) == pytest.approx(1.0)


def test_several_windows_of_a_clip_are_joined(config, clips):
    short = override(config, {"model.action.length": 3, "data.spacing": 2})
    model = model_of(short, clips.info)
    found = measure(model, clips, short, counts=[1, 2], draws=3)
    for frames, token in zip(clips.frame_counts, found.token, strict=True):
        assert token.shape == (1, 2, frames)
        assert (token > 0).all()
        assert token.mean(axis=-1) == pytest.approx(1.0)
    assert found.removal.whole.sum(axis=-1) == pytest.approx(1.0)
    for probabilities in found.removal.without.values():
        assert probabilities.sum(axis=-1) == pytest.approx(1.0)


def test_nothing_but_block_a_loses_the_frame(config, clips):
    """The whole model's own answer is given, and its cues and pose are computed once, from all frames."""
    model = model_of(config, clips.info)
    cues, masks = [], []
    model.action_block.register_forward_pre_hook(lambda _, given: cues.append(given[0]) or masks.append(given[1]))
    calls = []
    model.pose_block.register_forward_pre_hook(lambda *_: calls.append(1))
    found = measure(model, clips, config, counts=[2], draws=2)
    windows = len(cues) // (1 + 1 + 2 + 2 + 1)
    assert len(calls) == windows
    assert cues[0] is cues[1]
    assert cues[0] is cues[5]
    assert (masks[0].sum(dim=1) - masks[1].sum(dim=1)).unique().tolist() == [2]
    assert not hasattr(found, "pose")


def test_removal_does_not_depend_on_the_batches(config, clips):
    model = model_of(config, clips.info)
    one, other = (
        measure(model, clips, override(config, {"train.batch_size": size}), counts=[1, 3], draws=2).removal
        for size in (1, 4)
    )
    for which in (ATTENDED, RANDOM, SHIFTED, USUAL):
        np.testing.assert_allclose(one.without[which], other.without[which], rtol=1e-4, atol=1e-6)


def test_chosen_frames_are_most_attended_and_equal_controls():
    scores, random = np.array([0.1, 0.4, 0.4, 0.05, 0.05]), np.random.default_rng(0)
    chosen = chosen_frames(scores, scores[::-1], 2, 50, random)
    assert chosen[ATTENDED].tolist() == [[False, True, True, False, False]]
    assert (chosen[RANDOM].sum(axis=1) == 2).all()
    assert chosen[USUAL].tolist() == [[False, False, True, True, False]]
    assert chosen[RANDOM].mean(axis=0) == pytest.approx(0.4, abs=0.2)
    for each in chosen[SHIFTED]:
        assert any((each == np.roll(chosen[ATTENDED][0], by)).all() for by in range(1, 5))
    assert {each.sum() for each in chosen_frames(scores[:2], None, 4, 3, random)[RANDOM]} == {1}, "one frame stays"
    assert not any(each.any() for each in chosen_frames(scores[:1], None, 4, 3, random).values())


def test_profile_keeps_the_mean_of_frames_that_are_cut():
    assert profile(np.array([0.0, 3.0]), 4).tolist() == [0, 0, 3, 3]
    np.testing.assert_allclose(profile(np.array([0.0, 3.0, 0.0]), 2), [1.0, 1.0])
    np.testing.assert_allclose(profile(np.arange(6.0).reshape(2, 3), 1), [[1.0], [4.0]])


def test_distances_of_known_weights(config, clips):
    """Each frame of a window of two attends to the one before, or to itself."""
    sums = attention._Seen(clips, 4)
    weights = torch.zeros(2, 1, 4, 4)
    weights[0, 0, [0, 1, 2, 3], [0, 0, 1, 2]] = 1.0
    weights[1, 0, [0, 1], [0, 0]] = 1.0
    sums.add_pose([weights], torch.tensor([[True] * 6]))
    found = sums.distances
    assert found.distance.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert found.weight[0, 0].tolist() == [0, 0, 4, 2, 0, 0, 0]
    np.testing.assert_allclose(found.equal, [0.25, 0.5, 1.25, 2.0, 1.25, 0.5, 0.25])
    np.testing.assert_allclose(found.relative[0, 0], [0, 0, 3.2, 1, 0, 0, 0])
    assert found.mean[0, 0] == pytest.approx(4 / 6)
    assert found.mean_equal == pytest.approx((0.75 * 2 + 1 * 2 + 1.25 * 2) / 6)


def test_falls_are_paired_and_drawn_by_group():
    label, groups = np.zeros(4, int), ["a", "a", "b", "c"]
    whole = np.tile([0.9, 0.1], (4, 1))
    bad, good = np.array([0.3, 0.7]), np.array([0.8, 0.2])
    attended = np.stack([bad, bad, good, good])[None, None]
    control = np.tile(good, (1, 2, 4, 1))
    removal = Removal((2,), label, groups, whole, {ATTENDED: attended, RANDOM: control, SHIFTED: control}, np.ones(1))
    by_name = {(fall.measure, fall.frames, fall.control): fall for fall in removal.falls}
    fall = by_name["accuracy", 2, RANDOM]
    assert (fall.attended, fall.value, fall.difference) == (0.5, 1.0, 0.5)
    assert fall.interval == (0.0, 1.0), "some draws of groups have only clips that fall, some none"
    assert by_name["probability", None, SHIFTED].difference == pytest.approx(0.25)
    alone = Removal((2,), label, ["a"] * 4, whole, removal.without, np.ones(1))
    assert {fall.interval for fall in alone.falls} == {None}


@pytest.mark.parametrize("block", ["lstm", "mean", "identity"])
def test_model_without_attention_says_so(config, clips, block):
    blind = override(config, {"model.pose.block": block, "model.action.block": block})
    with pytest.raises(ConfigError, match=rf"no attention: block P is '{block}' and block A '{block}'\. Use a model"):
        measure(model_of(blind, clips.info), clips, blind, counts=[1], draws=1)


def test_model_with_attention_in_one_block_is_measured_there(config, clips):
    pose = override(config, {"model.action.block": "mean"})
    found = measure(model_of(pose, clips.info), clips, pose, counts=[1], draws=1)
    assert (found.token, found.removal) == ([], None)
    assert found.distances.weight.shape == (1, 2, 7)
    action = override(config, {"model.pose.block": "lstm"})
    found = measure(model_of(action, clips.info), clips, action, counts=[1], draws=1)
    assert found.distances is None
    assert len(found.token) == CLIPS


@pytest.mark.parametrize(
    ("counts", "draws", "message"),
    [
        ([0, 2], 1, "numbers of frames from 1, each once; got 0, 2"),
        ([2, 2], 1, "numbers of frames from 1, each once; got 2, 2"),
        ([1, 7], 1, r"got 1, 7, and the longest window of these clips has 7 frames\. Choose numbers up to 6"),
        ([1], 0, "--draws must be 1 or more; got 0"),
    ],
)
def test_numbers_of_frames_and_draws_are_checked(config, clips, counts, draws, message):
    with pytest.raises(ConfigError, match=message):
        attention.removals(counts, draws, clips, config)


def test_default_removals_leave_a_frame(config, clips):
    assert attention.removals((), 1, clips, config) == (1, 2, 4)
    short = override(config, {"model.action.length": 1})
    with pytest.raises(ConfigError, match="every window of these clips has 1 frame"):
        attention.removals((), 1, clips, short)


def test_clips_with_unknown_actions_are_left_out(clips):
    some = clips.only(range(CLIPS))
    some.action[[0, 3]] = UNKNOWN
    assert attention.labelled(some).ids == [clips.ids[index] for index in (1, 2, 4, 5)]
    some.action[:] = UNKNOWN
    with pytest.raises(DataError, match="The actions of split 'val' are unknown"):
        attention.labelled(some)


def with_falls(**accuracies: float) -> Removal:
    """The test of 40 clips, each its own group, whose accuracy after each removal is given."""
    clips = 40
    without = {}
    for which, accuracy in accuracies.items():
        right = np.arange(clips) < accuracy * clips
        without[which] = np.stack([right, ~right], axis=-1).astype(float)[None, None]
    groups = list(map(str, range(clips)))
    return Removal((1,), np.zeros(clips, int), groups, without[ATTENDED][0, 0], without, np.ones(1))


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ((0.2, 0.9, 0.8, 0.7), "attends to frames that the model needs more than others, and finds them in each clip."),
        ((0.2, 0.9, 0.8, 0.2), "more than others, but it is not shown that it finds them in each clip"),
        ((0.5, 0.5, 0.9, 0.9), "It is not shown that the model needs the frames"),
        ((0.5, 0.9, 0.5, 0.9), "It is not shown that the model needs the frames"),
        ((0.9, 0.5, 0.5, 0.5), "It is not shown that the model needs the frames"),
    ],
)
def test_verdict_needs_every_interval_above_zero(accuracies, sentence):
    removal = with_falls(**dict(zip((ATTENDED, RANDOM, SHIFTED, USUAL), accuracies, strict=True)))
    assert sentence in attention_report.verdict(removal)
    one = dataclasses.replace(removal, groups=["a"] * 40)
    assert "of one group" in attention_report.verdict(one)


def test_examples_are_the_ends_and_the_middle_of_the_falls():
    removal = with_falls(**{ATTENDED: 0.5, RANDOM: 1.0, SHIFTED: 1.0, USUAL: 1.0})
    assert attention_report.examples(removal) == [20, 0, 19]


def test_clips_without_images_have_no_film_strips(config, clips, tmp_path):
    found = measure(model_of(config, clips.info), clips, config, counts=[1], draws=1)
    poses = clips.only(range(CLIPS))
    poses.poses_only = True
    about = Provenance("checkpoint", "data", "command", 1, "fingerprint")
    attention_report.write(tmp_path, dataclasses.replace(found, clips=poses), "val", about)
    assert "no images, so there are no film strips" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "strips.png").exists()
