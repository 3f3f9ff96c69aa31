import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from htt.camera import project
from htt.errors import ConfigError
from htt.hand import BONES, JOINTS_PER_HAND
from htt.scene import ACTIONS, HAND_TYPES, OBJECTS, ClipPlan, plan, render
from htt.scene.clip import draw, hands_in_view, visible
from htt.scene.stage import PARTS, set_stage
from htt.scene.subject import SUBJECTS, subject

ROOT = Path(__file__).resolve().parents[3]
DIGEST = """
import hashlib
from htt.scene import plan, render
clip = render(plan({"val": 3}, 6, 11)[2], 48, 27)
print(hashlib.sha256(clip.frames.tobytes() + clip.joints_m.tobytes() + clip.hand_valid.tobytes()).hexdigest())
"""


def one(action, frames=4, person=0, seed=5):
    return ClipPlan("train", 0, person, seed, action, frames)


@pytest.mark.parametrize("action", range(len(ACTIONS)), ids=ACTIONS)
def test_render_returns_valid_arrays_for_every_action(action):
    clip = render(one(action), 48, 27)
    assert clip.frames.shape == (4, 27, 48, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.joints_m.shape == (4, 42, 3)
    assert clip.joints_m.dtype == np.float32
    assert clip.intrinsics.shape == (3, 3)
    assert clip.intrinsics.dtype == np.float64
    assert clip.hand_valid.shape == (4, 2)
    assert clip.hand_valid.any(axis=1).all(), "a hand is always at work"
    assert np.isfinite(clip.joints_m).all()
    assert clip.frames.std() > 10, "not an empty picture"
    assert ACTIONS[action].endswith(OBJECTS[one(action).object])


def test_render_is_deterministic_across_processes():
    clip = render(plan({"val": 3}, 6, 11)[2], 48, 27)
    here = hashlib.sha256(clip.frames.tobytes() + clip.joints_m.tobytes() + clip.hand_valid.tobytes()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "3", "PYTHONPATH": str(ROOT)}
    there = subprocess.run(
        [sys.executable, "-c", DIGEST], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert there.stdout.strip() == here


def test_render_varies_with_seed():
    first, second = render(one(4, seed=1), 32, 18), render(one(4, seed=2), 32, 18)
    assert (first.frames != second.frames).mean() > 0.5
    assert np.abs(first.joints_m - second.joints_m).max() > 0.01


def test_render_keeps_pose_at_any_image_size():
    small, large = render(one(4), 48, 27), render(one(4), 192, 108)
    np.testing.assert_allclose(small.joints_m, large.joints_m, atol=1e-6)
    np.testing.assert_allclose(small.intrinsics[:2] * 4, large.intrinsics[:2])


@pytest.mark.parametrize("action", [4, 16, 30, 34])
def test_joints_project_onto_pixels_of_their_hand(action):
    width, height = 128, 72
    stage = set_stage(action, 1, 9, 12, width, height)
    hits = total = 0
    for frame in range(0, 12, 2):
        seen = visible(stage, frame)
        part = np.full(width * height, -1)
        part[seen.pixel] = stage.part[stage.faces[0][seen.face]]
        part = part.reshape(height, width)
        pixels = project(stage.joints_m[frame], stage.cameras[frame].matrix).reshape(2, JOINTS_PER_HAND, 2)
        for hand in range(2):
            for column, row in np.floor(pixels[hand]).astype(int):
                if 1 <= column < width - 1 and 1 <= row < height - 1:
                    around = part[row - 1 : row + 2, column - 1 : column + 2]
                    hidden = np.isin(around, [i for i in range(len(PARTS)) if i != hand]).any()
                    own = (around == hand).any()
                    hits, total = hits + own, total + (own or not hidden)
    assert total > 50
    assert hits / total > 0.97


def test_render_keeps_bone_lengths_within_a_clip():
    joints = render(one(22, frames=8), 32, 18).joints_m.astype(float).reshape(8, 2, JOINTS_PER_HAND, 3)
    length = np.stack([np.linalg.norm(joints[:, :, b] - joints[:, :, a], axis=-1) for a, b in BONES])
    np.testing.assert_allclose(length, np.broadcast_to(length[:, :1, :1], length.shape), atol=1e-5)
    assert (length > 0.01).all()


def test_hands_in_view_excludes_hands_outside_the_image():
    matrix = np.array([[20.0, 0, 16], [0, 20, 9], [0, 0, 1]])
    joints = np.zeros((4, 42, 3))
    joints[..., 2] = 0.5
    joints[1, :21, 0] = 5.0  # to the right of the image
    joints[2, 21:, 2] = -0.5  # behind the camera
    joints[3, :21, 0] = 5.0
    joints[3, 7, 0] = 0.0  # one joint is enough
    expected = [[True, True], [False, True], [True, False], [True, True]]
    np.testing.assert_array_equal(hands_in_view(joints, matrix, 32, 18), expected)


def test_render_shows_hands_in_most_frames():
    plans = plan({"train": 36}, 2, 0)
    valid = np.concatenate([render(each, 16, 16).hand_valid for each in plans])
    assert 0.8 < valid.mean() < 1.0


def test_plan_balances_actions_and_varies_lengths():
    plans = plan({"train": 90, "val": 36}, 40, 0)
    counts = Counter(each.action for each in plans if each.split == "train")
    assert len(counts) == 36
    assert max(counts.values()) - min(counts.values()) <= 1
    lengths = {each.frames for each in plans}
    assert min(lengths) >= 24
    assert max(lengths) <= 40
    assert len(lengths) > 5
    assert plans[89].clip_id == "train-00089"
    assert next(each.clip_id for each in plans if each.split == "val") == "val-00000"


def test_plan_shares_no_subject_or_seed_between_splits():
    plans = plan({"train": 200, "val": 80, "test": 80}, 10, 0)
    for what in ("subject", "seed"):
        sets = [{getattr(each, what) for each in plans if each.split == split} for split in SUBJECTS]
        assert not sets[0] & sets[1]
        assert not sets[0] & sets[2]
        assert not sets[1] & sets[2]
    # Each split has its range of seeds, so training clips of other plans also differ from these test clips.
    assert {each.seed >> 40 for each in plans if each.split == "test"} == {2}
    assert {each.seed >> 40 for each in plans if each.split == "train"} == {0}


def test_plan_gives_every_action_to_every_subject():
    people = len(SUBJECTS["train"])
    plans = plan({"train": 36 * people}, 5, 0)
    assert len({(each.subject, each.action) for each in plans}) == 36 * people


def test_plan_gives_opposite_actions_the_same_motion():
    plans = plan({"train": 108}, 40, 0)
    by_round = [{each.action: each for each in plans[first : first + 36]} for first in (0, 36, 72)]
    grab, place = ACTIONS.index("grab milk"), ACTIONS.index("place milk")
    for clips in by_round:
        assert replace(clips[grab], action=place, index=clips[place].index) == clips[place]
    assert len({clips[grab].seed for clips in by_round}) == 3
    # Grab and place of 8 things, open and close of 3, take out and put in of 3 share a motion.
    assert len({each.seed for each in by_round[0].values()}) == 36 - 14
    groups = Counter(each.group for each in plans)
    assert by_round[0][grab].group == by_round[0][place].group
    assert Counter(groups.values()) == {2: 3 * 14, 1: 3 * 8}


@pytest.mark.parametrize(("doing", "undoing"), [("grab cocoa", "place cocoa"), ("open chips", "close chips")])
def test_set_stage_reverses_images_for_opposite_actions(doing, undoing):
    first, second = (set_stage(ACTIONS.index(name), 3, 8, 9, 48, 27) for name in (doing, undoing))
    np.testing.assert_array_equal(first.joints_m[::-1], second.joints_m)
    assert (np.abs(first.joints_m - second.joints_m) > 1e-3).any()
    np.testing.assert_array_equal(first.hand_types[::-1], second.hand_types)
    for frame in (0, 4, 8):
        np.testing.assert_allclose(draw(first, frame), draw(second, 8 - frame), atol=1e-6)


def test_plan_depends_on_seed_and_extends_with_more_clips():
    assert plan({"train": 10}, 30, 4) == plan({"train": 10}, 30, 4)
    assert plan({"train": 10}, 30, 4) == plan({"train": 20}, 30, 4)[:10]
    assert plan({"train": 10}, 30, 4) != plan({"train": 10}, 30, 5)


def test_subject_is_left_handed_for_a_minority():
    lead = Counter(subject(number).left_handed for numbers in SUBJECTS.values() for number in numbers)
    assert lead[True] >= 2
    assert lead[False] > lead[True]


@pytest.mark.parametrize(
    ("clips", "frames", "seed", "message"),
    [
        ({"trian": 1}, 10, 0, r"A split must be one of train, val, test; got 'trian'. Did you mean 'train'\?"),
        ({"train": -1}, 10, 0, "number of clips of train must be 0 or more; got -1. Leave"),
        ({"train": 1}, 0, 0, "Frames must be 1 or more; got 0. Use"),
        ({"train": 1}, 10, -1, "The seed must be 0 or more; got -1. Use"),
    ],
)
def test_plan_refuses_invalid_arguments(clips, frames, seed, message):
    with pytest.raises(ConfigError, match=message):
        plan(clips, frames, seed)


def test_plan_and_render_name_all_faults_at_once():
    with pytest.raises(ConfigError) as caught:
        plan({"trian": 1, "dev": 2}, 0, 0)
    assert all(word in str(caught.value) for word in ("trian", "dev", "Frames"))
    with pytest.raises(ConfigError) as caught:
        render(one(0), 8, 4)
    assert "width must be 16 px or more; got 8" in str(caught.value)
    assert "height must be 16 px or more; got 4" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": 36}, "Action must be 0 to 35; got 36"),
        ({"frames": 0}, "Frames must be 1 or more; got 0"),
        ({"split": "dev"}, "got 'dev'"),
    ],
)
def test_render_refuses_invalid_clip_plan(change, message):
    with pytest.raises(ConfigError, match=message):
        render(replace(one(0), **change), 32, 18)


@pytest.mark.parametrize("new_objects", [False, True])
def test_set_stage_shares_objects_among_clips_unless_new(new_objects):
    action = ACTIONS.index("grab cocoa")
    colours = []
    for person, seed in ((1, 5), (102, (1 << 40) + 6)):  # of the training and of the validation split
        stage = set_stage(action, person, seed, 3, 48, 27, new_objects)
        colours.append(stage.colours[stage.part == PARTS.index("thing")])
    assert np.array_equal(*colours) != new_objects


def test_plan_passes_new_objects_on():
    shared, new = plan({"val": 2}, 5, 0), plan({"val": 2}, 5, 0, new_objects=True)
    assert [replace(each, new_objects=True) for each in shared] == new
    assert not np.array_equal(render(shared[0], 48, 27).frames, render(new[0], 48, 27).frames)


def types_of(action, person, frames=24):
    """Names of the types of the left and of the right hand, each in order and once."""
    stage = set_stage(ACTIONS.index(action), person, 9, frames, 32, 18)
    return [list(dict.fromkeys(HAND_TYPES[index] for index in hand)) for hand in stage.hand_types.T]


def test_hand_types_follow_the_program_of_the_action():
    right_handed, left_handed = (
        next(number for number in SUBJECTS["train"] if subject(number).left_handed == left) for left in (False, True)
    )
    idle, lead = types_of("grab book", right_handed)
    assert idle == ["rest"]
    assert set(lead) <= {"rest", "reach", "edge"}
    assert lead[-1] == "edge"
    assert types_of("grab book", left_handed)[0][-1] == "edge", "the left hand leads"
    assert types_of("place book", right_handed)[1][0] == "edge"
    support, lead = types_of("open milk", right_handed)
    assert (support[-1], lead[-1]) == ("side", "top")
    assert types_of("read book", right_handed) == [["under"], ["under"]]
    assert types_of("apply spray", right_handed)[0][-1] == "receive"


def test_hand_types_are_unknown_for_hands_outside_the_image():
    clips = [render(each, 16, 16) for each in plan({"train": 12}, 4, 0)]
    hidden = np.concatenate([~clip.hand_valid for clip in clips])
    types = np.concatenate([clip.hand_types for clip in clips])
    assert hidden.any()
    assert (types[hidden] == -1).all()
    assert ((types[~hidden] >= 0) & (types[~hidden] < len(HAND_TYPES))).all()


def test_plan_gives_each_motion_one_camera():
    """A motion that is shown forwards and backwards has one camera; the usual one is the default."""
    usual = plan({"train": 72}, 8, 0)
    assert {(each.focal, each.distance) for each in usual} == {(0.8, 1.0)}
    several = plan({"train": 72}, 8, 0, focals=(0.6, 1.2), distances=(1.0, 1.5))
    assert [replace(each, focal=0.8, distance=1.0) for each in several] == usual
    assert {(each.focal, each.distance) for each in several} == {(0.6, 1.0), (0.6, 1.5), (1.2, 1.0), (1.2, 1.5)}
    cameras = {}
    for each in several:
        cameras.setdefault(each.group, set()).add((each.focal, each.distance))
    assert {len(of_motion) for of_motion in cameras.values()} == {1}


def test_render_shows_the_same_motion_with_another_camera():
    usual = render(one(4), 48, 27)
    wide = render(replace(one(4), focal=0.6), 48, 27)
    np.testing.assert_array_equal(wide.joints_m, usual.joints_m)
    np.testing.assert_allclose(wide.intrinsics[0, 0], 0.6 * 48)
    np.testing.assert_array_equal(wide.intrinsics[:, 2], usual.intrinsics[:, 2])
    assert (wide.frames != usual.frames).mean() > 0.5
    far = render(replace(one(4), distance=1.5), 48, 27)
    np.testing.assert_array_equal(far.intrinsics, usual.intrinsics)
    # 0.5 times the usual distance of 0.62 m, less the part of the eye's position that differs between people and clips.
    assert 0.25 < (far.joints_m - usual.joints_m)[..., 2].mean() < 0.37
