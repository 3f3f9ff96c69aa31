"""Plans of clips, and rendering of their frames and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from htt.camera import project, resized
from htt.errors import ConfigError, did_you_mean
from htt.hand import HANDS, JOINTS_PER_HAND
from htt.info import UNKNOWN
from htt.scene.camera import exposure
from htt.scene.camera.head import FOCAL
from htt.scene.motion.programs import MOTIONS
from htt.scene.render.raster import NEAR_M, Fragments, rasterise
from htt.scene.render.shading import background, surface
from htt.scene.stage import Stage, set_stage
from htt.scene.subject import SUBJECTS
from htt.vocabulary import ACTIONS, OBJECTS, VERB_AND_NOUN

SPLITS = tuple(SUBJECTS)
SMALLEST_IMAGE_PX = 16
_SEEDS_PER_SPLIT = 1 << 40
_SHORTEST = 0.6
"""Shortest length of a clip, as a share of the requested length."""
_CAMERA = 1 << 20
"""Stream of random numbers that chooses the camera of a motion."""
_SAMPLES = 2
"""Samples per pixel in each direction, for smooth outlines."""


@dataclass(frozen=True)
class ClipPlan:
    """Complete description of one clip.

    Attributes:
        split: "train", "val" or "test".
        index: Index of the clip within its split.
        subject: Number of the person, see ``htt.scene.subject``.
        seed: Seed of everything else: room, motion, head path, and the objects if they are new.
        action: Index into ACTIONS.
        frames: Number of frames of the clip.
        new_objects: Whether the clip has objects of its own instead of the eight that all clips share.
        focal: Focal length of the camera in image widths.
        distance: Distance of the camera from the work, as a multiple of the usual distance.
    """

    split: str
    index: int
    subject: int
    seed: int
    action: int
    frames: int
    new_objects: bool = False
    focal: float = FOCAL
    distance: float = 1.0

    @property
    def object(self) -> int:
        """Index into OBJECTS of the handled object."""
        return OBJECTS.index(VERB_AND_NOUN[self.action][1])

    @property
    def group(self) -> str:
        """Name of the motion; one that is shown forwards and backwards gives two clips with the same seed."""
        return f"motion-{self.seed}"

    @property
    def clip_id(self) -> str:
        """Name of the clip, such as "train-00012"."""
        return f"{self.split}-{self.index:05d}"


@dataclass(frozen=True)
class RenderedClip:
    """Frames and labels of a clip.

    Attributes:
        frames: uint8 [t height width 3] RGB.
        joints_m: float32 [t 42 3], camera space, metres; left hand 0-20, right hand 21-41.
        intrinsics: float64 [3 3], pixels.
        hand_valid: bool [t 2], left and right hand: true if at least one joint of the hand is in the image.
        hand_types: int64 [t 2], index into HAND_TYPES; -1 for a hand that is not in the image.
    """

    frames: np.ndarray
    joints_m: np.ndarray
    intrinsics: np.ndarray
    hand_valid: np.ndarray
    hand_types: np.ndarray


def plan(
    clips: Mapping[str, int],
    frames: int,
    seed: int,
    new_objects: bool = False,
    focals: Sequence[float] = (FOCAL,),
    distances: Sequence[float] = (1.0,),
) -> list[ClipPlan]:
    """Return the plans of a benchmark's clips.

    Actions alternate in a seeded order. In one round "grab milk" and "place milk" are the same motion, played forwards
    and backwards, so that they differ only in the order of their frames. No two splits share subjects or seeds (hence
    rooms, motions and head paths). As in H2O, all clips share eight objects, unless these are new in every clip.

    Args:
        clips: Number of clips of each split, by split name.
        frames: Largest number of frames of a clip; each clip has between 0.6 times this number and all of it.
        seed: Seed of the plans, an integer from 0.
        new_objects: Whether every clip has objects of its own.
        focals: Focal lengths in image widths; each motion is seen by a camera with one of them.
        distances: Distances of the camera from the work, as multiples of the usual distance; likewise.

    Raises:
        ConfigError: If a split is unknown, a number of clips or the seed is negative, or frames is below one.
    """
    _check_plan(clips, frames, seed)
    plans = [each for split, count in clips.items() for each in _plan_split(split, count, frames, seed)]
    return [_seen_by(replace(each, new_objects=new_objects), focals, distances) for each in plans]


def _seen_by(plan: ClipPlan, focals: Sequence[float], distances: Sequence[float]) -> ClipPlan:
    """Return the plan with one of the cameras, the same for all clips of a motion."""
    rng = np.random.default_rng([plan.seed, _CAMERA])
    return replace(plan, focal=float(rng.choice(focals)), distance=float(rng.choice(distances)))


def _plan_split(split: str, count: int, frames: int, seed: int) -> list[ClipPlan]:
    number = SPLITS.index(split)
    order = np.random.default_rng([seed, number]).permutation(len(ACTIONS)).tolist()
    drawn = (_draw(split, index, order[index % len(ACTIONS)], frames, seed) for index in range(count))
    return list(drawn)


def _draw(split: str, index: int, action: int, frames: int, seed: int) -> ClipPlan:
    """Return one plan; two actions that undo each other share subject, seed and length in each round of actions."""
    motion, round_, number, subjects = MOTIONS[action], index // len(ACTIONS), SPLITS.index(split), SUBJECTS[split]
    rng = np.random.default_rng([seed, number, round_, motion])
    # The subject advances after each round, so that no action always has the same subject.
    person = subjects[(motion + round_) % len(subjects)]
    length = max(1, round(frames * rng.uniform(_SHORTEST, 1.0)))
    clip_seed = number * _SEEDS_PER_SPLIT + int(rng.integers(_SEEDS_PER_SPLIT))
    return ClipPlan(split, index, person, clip_seed, action, length)


def render(plan: ClipPlan, width: int, height: int) -> RenderedClip:
    """Render a clip; the same plan and size give the same bytes in every process.

    Raises:
        ConfigError: If the image is too small or the plan is invalid.
    """
    _check_size(width, height)
    _check_clip(plan)
    seen = plan.new_objects, plan.focal, plan.distance
    stage = set_stage(plan.action, plan.subject, plan.seed, plan.frames, width, height, *seen)
    film = exposure.load(stage.cameras, np.random.default_rng([plan.seed, plan.action, width, height]))
    pixels = [film.develop(draw(stage, frame), frame) for frame in range(plan.frames)]
    matrix = stage.cameras[0].matrix
    in_view = hands_in_view(stage.joints_m, matrix, width, height)
    types = np.where(in_view, stage.hand_types, UNKNOWN)
    return RenderedClip(np.stack(pixels), stage.joints_m.astype(np.float32), matrix, in_view, types)


def draw(stage: Stage, frame: int, samples: int = _SAMPLES) -> np.ndarray:
    """Return one frame of a stage as an image [h*w 3] in 0..1, from ``samples`` x ``samples`` samples per pixel."""
    camera = stage.cameras[frame]
    rays = camera.rays()
    shadow = stage.caster.shadow(stage.vertices_m[frame], stage.room.light)
    image = background(camera, rays, stage.room, shadow)
    seen = visible(stage, frame, samples)
    fine_width = samples * camera.width
    pixel = seen.pixel // fine_width // samples * camera.width + seen.pixel % fine_width // samples
    colour = surface(seen, stage.faces, stage.normals[frame], stage.colours, rays[pixel], stage.room)
    share = samples**-2
    image *= (1.0 - share * np.bincount(pixel, minlength=len(image))).astype(np.float32)[:, None]
    for channel in range(3):
        image[:, channel] += share * np.bincount(pixel, colour[:, channel], len(image))
    exposed: np.ndarray = image * stage.room.gain
    return exposed


def visible(stage: Stage, frame: int, samples: int = 1) -> Fragments:
    """Return the visible fragments of one frame, on a grid ``samples`` times finer than the image."""
    camera = stage.cameras[frame]
    matrix = resized(camera.matrix, samples, samples)
    points = camera.view(stage.vertices_m[frame])
    return rasterise(points, stage.faces, matrix, samples * camera.width, samples * camera.height)


def hands_in_view(joints_m: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return for joints [t 42 3] in camera space whether any joint of each hand projects into the image, bool [t 2]."""
    ahead = joints_m[..., 2] > NEAR_M
    pixels = project(np.where(ahead[..., None], joints_m, 1.0), matrix)
    inside = ahead & ((pixels >= 0) & (pixels < [width, height])).all(axis=-1)
    in_view: np.ndarray = inside.reshape(-1, len(HANDS), JOINTS_PER_HAND).any(axis=-1)
    return in_view


def _check_plan(clips: Mapping[str, int], frames: int, seed: int) -> None:
    wrong = [
        f"a split must be one of {', '.join(SPLITS)}; got {split!r}.{did_you_mean(split, SPLITS)}"
        for split in clips
        if split not in SPLITS
    ]
    wrong += [
        f"the number of clips of {split} must be 0 or more; got {count}. Leave the split out or give a positive number."
        for split, count in clips.items()
        if count < 0
    ]
    if frames < 1:
        wrong.append(f"frames must be 1 or more; got {frames}. Use 48, the usual length.")
    if seed < 0:
        wrong.append(f"the seed must be 0 or more; got {seed}. Use any whole number from 0.")
    _refuse(wrong)


def _check_size(width: int, height: int) -> None:
    sides = (("width", width), ("height", height))
    _refuse(
        [
            f"the image {name} must be {SMALLEST_IMAGE_PX} px or more; got {side}. Use 96 x 54, the default, or larger."
            for name, side in sides
            if side < SMALLEST_IMAGE_PX
        ]
    )


def _check_clip(plan: ClipPlan) -> None:
    wrong = []
    if not 0 <= plan.action < len(ACTIONS):
        wrong.append(f"action must be 0 to {len(ACTIONS) - 1}; got {plan.action}. Use an index into ACTIONS.")
    if plan.frames < 1:
        wrong.append(f"frames must be 1 or more; got {plan.frames}. Use 48, the usual length.")
    if plan.split not in SPLITS:
        wrong.append(f"a split must be one of {', '.join(SPLITS)}; got {plan.split!r}. Build plans with plan().")
    _refuse(wrong)


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise ConfigError("\n".join(message[0].upper() + message[1:] for message in wrong))
