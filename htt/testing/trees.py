"""Small folders of H2O, FPHA and own data, in the file formats of the downloads, with their true content.

The rendered world stands in for both data sets: its clips are written as the images and text files of a download, and
returned as ``TrueClip`` for comparison. H2O's label rows are arguments, so that real ones can be used. FPHA has its 45
actions; the names of its 26 objects are placeholders. Object poses are not written: obj_pose has the object's number
and zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from htt import camera, scene
from htt.data.sources import fpha
from htt.data.sources.fpha.skeleton import CAMERA_FROM_WORLD, CANONICAL
from htt.hand import HANDS, JOINTS_PER_HAND
from htt.scene.subject import SUBJECTS
from htt.testing.truth import TrueClip
from htt.vocabulary import ACTIONS, OBJECTS

__all__ = ["FPHA_ACTIONS", "TrueClip", "write_fpha", "write_h2o", "write_own", "write_video"]

_FPHA_ACTIONS = """
    open_juice_bottle close_juice_bottle pour_juice_bottle open_peanut_butter close_peanut_butter prick sprinkle
    scoop_spoon put_sugar stir open_milk close_milk pour_milk drink_mug put_tea_bag put_salt open_liquid_soap
    close_liquid_soap pour_liquid_soap wash_sponge flip_sponge scratch_sponge squeeze_sponge open_soda_can use_flash
    write tear_paper squeeze_paper open_letter take_letter_from_enveloppe read_letter flip_pages use_calculator
    light_candle charge_cell_phone unfold_glasses clean_glasses open_wallet give_coin receive_coin give_card pour_wine
    toast_wine handshake high_five"""
FPHA_ACTIONS = tuple(_FPHA_ACTIONS.split())
"""Names in the data set's order and spelling."""
_RIGHT_HANDED = (0, 1, 3, 4)
"""Right-handed subjects of the rendered world: FPHA shows only the right hand, which should be the active one."""
_CAMERA_PX = (1280, 720)
"""Size of the images that H2O's intrinsics refer to."""
_rendered = functools.lru_cache(maxsize=64)(scene.render)
"""Function that renders a clip; those of several folders of own data are alike."""
_SUFFIXES = {"rgb": ".png", "rgb256": ".jpg", "rgb480_270": ".jpg"}


class _Frame(NamedTuple):
    image: np.ndarray
    joints_m: np.ndarray
    hand_valid: np.ndarray
    object: int


def write_h2o(
    root: Path,
    labels: Mapping[str, Sequence[str]],
    *,
    width: int = 128,
    height: int = 72,
    images: str = "rgb",
    pose_lists: bool = False,
) -> list[TrueClip]:
    """Write a folder with the layout of an unpacked H2O, with the frames of some label rows and those between them.

    Args:
        root: folder to write.
        labels: rows of the label file of each split, without a header; those of "test" have no action.
        width: width of the images, px.
        height: height of the images, px; width:height is about 16:9, as the camera's is.
        images: folder of the images: rgb (PNG), rgb256 or rgb480_270 (JPEG).
        pose_lists: whether to write label_split/pose_{split}.txt, which names every frame.
    """
    clips: list[TrueClip] = []
    for split, lines in labels.items():
        rows = [_Row.of(line.split(), split) for line in lines]
        _write_labels(root / "action_labels" / f"action_{split}.txt", lines, split)
        listed: list[str] = []
        for recording in dict.fromkeys(row.recording for row in rows):
            those = [row for row in rows if row.recording == recording]
            frames, matrix = _record(those, split, width, height)
            _write_recording(root / recording / "cam4", frames, matrix, images)
            listed += [f"{recording}/cam4/{images}/{number:06d}{_SUFFIXES[images]}\n" for number in frames]
            clips += [_true(row, split, frames, matrix) for row in those]
        if pose_lists:
            _write(root / "label_split" / f"pose_{split}.txt", "".join(listed))
    return clips


class _Row(NamedTuple):
    """A label row; ``action`` is the rendered one, even if the row does not contain it."""

    id: str
    recording: str
    action: int
    known: bool
    first: int
    last: int

    @classmethod
    def of(cls, words: Sequence[str], split: str) -> _Row:
        known = split != "test"
        action = int(words[2]) - 1 if known else 7 * int(words[0]) % len(ACTIONS)
        return cls(words[0], words[1], action, known, int(words[-4]), int(words[-3]))


def _write_labels(path: Path, lines: Iterable[str], split: str) -> None:
    action = "" if split == "test" else "action_label "
    _write(path, "\n".join([f"id path {action}start_act end_act start_frame end_frame", *lines, ""]))


def _record(rows: Sequence[_Row], split: str, width: int, height: int) -> tuple[dict[int, _Frame], np.ndarray]:
    """Return the frames and intrinsics of a recording.

    A frame of two rows belongs to the earlier one; a frame between rows repeats the frame before.
    """
    people = SUBJECTS[split]
    frames: dict[int, _Frame] = {}
    for row in sorted(rows, key=lambda row: row.first):
        person = people[int("".join(filter(str.isdigit, row.recording.split("/")[0])) or 0) % len(people)]
        plan = scene.ClipPlan(split, 0, person, int(row.id), row.action, row.last - row.first + 1)
        clip = scene.render(plan, width, height)
        for index in range(plan.frames):
            parts = clip.frames[index], clip.joints_m[index], clip.hand_valid[index]
            frames.setdefault(row.first + index, _Frame(*parts, plan.object))
    for number in range(min(frames), max(frames)):
        frames.setdefault(number, frames.get(number - 1, frames[min(frames)]))
    return dict(sorted(frames.items())), clip.intrinsics


def _write_recording(folder: Path, frames: Mapping[int, _Frame], matrix: np.ndarray, images: str) -> None:
    for name in (images, "hand_pose", "obj_pose"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    height, width = next(iter(frames.values())).image.shape[:2]
    own = camera.resized(matrix, _CAMERA_PX[0] / width, _CAMERA_PX[1] / height)
    values = (own[0, 0], own[1, 1], own[0, 2], own[1, 2])
    _write(folder / "cam_intrinsics.txt", " ".join([*(f"{value:.4f}" for value in values), *map(str, _CAMERA_PX)]))
    for number, frame in frames.items():
        _save(folder / images / f"{number:06d}{_SUFFIXES[images]}", frame.image)
        hands = zip(frame.hand_valid, frame.joints_m.reshape(2, -1), strict=True)
        words = [word for valid, joints in hands for word in (f"{valid:d}", *_decimals(joints * valid, 6))]
        (folder / "hand_pose" / f"{number:06d}.txt").write_text(" ".join(words) + "\n")
        (folder / "obj_pose" / f"{number:06d}.txt").write_text(f"{frame.object + 1}{' 0.000000' * 63}\n")


def _true(row: _Row, split: str, frames: Mapping[int, _Frame], matrix: np.ndarray) -> TrueClip:
    numbers = list(range(row.first, row.last + 1))
    those = [frames[number] for number in numbers]
    return TrueClip(
        split,
        row.id,
        row.action if row.known else -1,
        scene.ClipPlan(split, 0, 0, 0, row.action, 1).object,
        numbers,
        np.stack([frame.joints_m for frame in those]),
        np.stack([frame.hand_valid for frame in those]),
        matrix,
        np.stack([frame.image for frame in those]),
        row.recording,
    )


def write_fpha(
    root: Path, clips: Mapping[str, int], *, width: int = 128, height: int = 72, frames: int = 24
) -> list[TrueClip]:
    """Write a folder with the layout of an unpacked FPHA.

    Args:
        root: folder to write.
        clips: number of clips in "train" and "test"; both splits go through the actions in order.
        width: width of the images, px.
        height: height of the images, px; width:height is about 16:9, as the camera's is.
        frames: frames of the longest clip; others have one or two less.
    """
    objects = [min(action, fpha.PUBLISHED_OBJECTS - 1) for action in range(len(FPHA_ACTIONS))]
    rows = [f"{i + 1} {name} object_{objects[i] + 1} no -" for i, name in enumerate(FPHA_ACTIONS)]
    _write(root / "action_object_info.txt", "\n".join(["id action object object_pose scenario", *rows, ""]))
    matrix = camera.resized(fpha.INTRINSICS, width / fpha.CAMERA_SIZE[0], height / fpha.CAMERA_SIZE[1])
    found: list[TrueClip] = []
    for split, count in clips.items():
        for index in range(count):
            action = index % len(FPHA_ACTIONS)
            instance = 1 + 2 * (index // len(FPHA_ACTIONS)) + (split == "test")
            name = f"Subject_{1 + index % 6}/{FPHA_ACTIONS[action]}/{instance}"
            seed = len(found)
            plan = scene.ClipPlan("train", 0, _RIGHT_HANDED[seed % 4], seed, action % 36, max(1, frames - index % 3))
            clip = _true_fpha(plan, (split, name, action, objects[action]), matrix, width, height)
            _write_fpha_clip(root, clip)
            found.append(clip)
    _write_fpha_lists(root, found)
    return found


def _true_fpha(
    plan: scene.ClipPlan, facts: tuple[str, str, int, int], matrix: np.ndarray, width: int, height: int
) -> TrueClip:
    """Return a rendered clip as seen by FPHA's camera, whose view is narrower, with the right hand only."""
    clip = scene.render(plan, width, height)
    return TrueClip(
        *facts,
        list(range(plan.frames)),
        clip.joints_m[:, JOINTS_PER_HAND:],
        np.ones((plan.frames, 1), bool),
        matrix,
        np.stack([_seen_by(matrix, image, clip.intrinsics) for image in clip.frames]),
    )


def _seen_by(matrix: np.ndarray, image: np.ndarray, taken_with: np.ndarray) -> np.ndarray:
    """Return the image that a camera with other intrinsics takes from the same position."""
    scale = taken_with[(0, 1), (0, 1)] / matrix[(0, 1), (0, 1)]
    shift = taken_with[:2, 2] - scale * matrix[:2, 2]
    lines = (scale[0], 0, shift[0], 0, scale[1], shift[1])
    whole = Image.fromarray(image)
    return np.asarray(whole.transform(whole.size, Image.Transform.AFFINE, lines, Image.Resampling.BILINEAR))


def _write_fpha_clip(root: Path, clip: TrueClip) -> None:
    folder = root / "Video_files" / clip.id / "color"
    folder.mkdir(parents=True)
    lines = []
    for number, image, joints_m in zip(clip.numbers, clip.images, clip.joints_m, strict=True):
        _save(folder / f"color_{number:04d}.jpeg", image)
        world_mm = np.empty((JOINTS_PER_HAND, 3))
        world_mm[list(CANONICAL)] = 1000 * joints_m.astype(np.float64)
        world_mm = (world_mm - CAMERA_FROM_WORLD[:3, 3]) @ np.linalg.inv(CAMERA_FROM_WORLD[:3, :3]).T
        lines.append(" ".join([str(number), *_decimals(world_mm.ravel(), 4)]) + "\n")
    _write(root / "Hand_pose_annotation_v1" / clip.id / "skeleton.txt", "".join(lines))


def _write_fpha_lists(root: Path, clips: Sequence[TrueClip]) -> None:
    lines, infos = [], dict[str, list[str]]()
    for header, split in (("Training", "train"), ("Test", "test")):
        those = [clip for clip in clips if clip.split == split]
        lines += [f"{header} {len(those)}", *(f"{clip.id} {clip.action}" for clip in those)]
    for clip in clips:
        subject, action, instance = clip.id.split("/")
        infos.setdefault(subject, []).append(f"{action} {instance} {len(clip.numbers)}")
    _write(root / "data_split_action_recognition.txt", "\n".join([*lines, ""]))
    for subject, rows in infos.items():
        path = root / "Subjects_info" / f"{subject}_info.txt"
        _write(path, "\n".join([subject, "-", "action instance frames", *rows, ""]))


def write_own(
    root: Path, clips: Mapping[str, int], *, kind: str = "images", width: int = 128, height: int = 72, frames: int = 12
) -> list[TrueClip]:
    """Write a folder of own data: ``clips.csv``, the images, videos or nothing of each clip, and its joints.

    Args:
        root: folder to write.
        clips: number of clips in "train", "val" and "test"; each split goes through the first four actions in order.
        kind: "images" (PNG), "video" (FFV1 in Matroska, lossless), or "poses" for joints alone.
        width: width of the images, px.
        height: height of the images, px.
        frames: frames of the longest clip; others have one or two less.
    """
    found: list[TrueClip] = []
    for split, count in clips.items():
        for index in range(count):
            people = SUBJECTS[split]
            plan = scene.ClipPlan(split, 0, people[index % len(people)], index, index % 4, frames - index % 3)
            clip = _rendered(plan, width, height)
            true = TrueClip(
                split, f"{split}/{index}", plan.action, plan.object, list(range(plan.frames)), clip.joints_m,
                clip.hand_valid, clip.intrinsics, np.stack(list(clip.frames)), f"recording {index // 2}",
            )  # fmt: skip
            _write_own_clip(root / true.id, true, kind)
            found.append(true)
    lines = ["id,split,action,object,subject,group,fx,fy,cx,cy"]
    for true in found:
        values = true.intrinsics[(0, 1, 0, 1), (0, 1, 2, 2)]
        words = [true.id, true.split, ACTIONS[true.action], OBJECTS[true.object], f"{true.split} person", true.group]
        lines.append(",".join([*words, *map(repr, values.tolist())]))
    _write(root / "clips.csv", "\n".join([*lines, ""]))
    return found


def _write_own_clip(path: Path, clip: TrueClip, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hands = clip.joints_m.reshape(len(clip.numbers), 2, -1)
    columns = {
        hand: [joints.tolist() if valid else None for joints, valid in zip(hands[:, place], known, strict=True)]
        for place, (hand, known) in enumerate(zip(HANDS, clip.hand_valid.T, strict=True))
    }
    pyarrow.parquet.write_table(pa.table(columns), path.with_name(f"{path.name}.parquet"))
    if kind == "images":
        path.mkdir()
        for number, image in zip(clip.numbers, clip.images, strict=True):
            _save(path / f"frame{number}.png", image)
    elif kind == "video":
        write_video(path.with_name(f"{path.name}.mkv"), clip.images)


def write_video(path: Path, images: np.ndarray, codec: str = "ffv1", pixels: str = "bgr0", rate: int = 15) -> None:
    """Write images [t h w 3] as a video, by default without loss."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = pixels
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _decimals(values: np.ndarray, count: int) -> list[str]:
    return [f"{value:.{count}f}" for value in values.ravel().tolist()]


def _save(path: Path, image: np.ndarray) -> None:
    options: dict[str, int] = {"compress_level": 1} if path.suffix == ".png" else {"quality": 95, "subsampling": 0}
    Image.fromarray(image).save(path, None, **options)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
