"""H2O: two hands and an object, recorded by the head camera.

Files, in the folder the data set was unpacked to::

    action_labels/action_{train,val,test}.txt       header, then: id path action start_act end_act start_frame end_frame
    subject1/h1/0/cam4/cam_intrinsics.txt           fx fy cx cy width height
    label_split/pose_{train,val,test}.txt           optional; one line per frame that has a hand pose
    subject1/h1/0/cam4/{rgb,rgb256,rgb480_270}/000000.png
                                                    frames, of any size
    subject1/h1/0/cam4/hand_pose/000000.txt         flag and 63 numbers of the left hand, then of the right; metres
    subject1/h1/0/cam4/obj_pose/000000.txt          number and pose of the object; used if the action is unknown
    subject1/h1/0/cam4/action_label/000000.txt      optional; number of the frame's action, used for comparison

Each of these may be in a subfolder, if an archive was unpacked into one: subject1_v1_1/subject1/h1/... If there are
several folders of images, the one with most of a clip's frames is used, then the one nearest to the requested size.

The last frames of actions are inclusive. Test clips have no action. A hand is not valid in a frame if its flag is 0, if
its joints are at an impossible distance, or if the frame has no hand pose.

Source: H2O data set documentation (Kwon et al. 2021).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from htt import camera
from htt.config import DataConfig
from htt.data.sources import (
    CLIP_LEFT_OUT,
    HANDS_NOT_KNOWN,
    ClipKey,
    ClipRecord,
    Problem,
    UnreadableError,
    _frames,
    _images,
    _text,
)
from htt.data.sources._frames import Findings
from htt.data.sources.h2o import lists
from htt.errors import DataError
from htt.hand import HANDS, JOINTS_PER_HAND
from htt.info import DataInfo
from htt.vocabulary import ACTIONS, OBJECTS, VERB_AND_NOUN

PUBLISHED = {"train": (569, 55_747), "val": (122, 11_638), "test": (242, 23_391)}
"""Clips and frames of each split. Source: H2O's label files."""
SPLITS = tuple(PUBLISHED)
IMAGE_FOLDERS = ("rgb", "rgb256", "rgb480_270")
"""Folders of the original images, small images, and images as resized by the released code."""
_PAIRS_SHOWN = 5
"""Number of reported pairs of clips that share frames."""

_LABEL_FOLDERS = ("action_labels", "label_split")
_NAMES = _frames.Names(re.compile(r"(\d{6})"), (".png", ".jpg", ".jpeg"), "{:06d}.png".format)
_HAND_NUMBERS = 1 + 3 * JOINTS_PER_HAND


@dataclass(frozen=True)
class H2OEntry:
    """Recording of a clip, and its entries in the lists."""

    recording: str
    action: int
    unlisted: tuple[range, ...] = ()
    """Frames of the clip that are not in the pose list."""
    pose_list: str = ""


@dataclass(frozen=True)
class H2OSource:
    """H2O data set in the folder ``root``."""

    root: Path
    name: str = "h2o"
    pixels: str = f"{_images.RESIZED}; {_images.JPEG}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have a label file."""
        splits = tuple(split for split in SPLITS if self._label_file(split))
        if not splits:
            wanted = _text.printable(self.root / _LABEL_FOLDERS[0] / "action_train.txt")
            raise DataError(f"No label files of H2O, such as {wanted}. Check --root.")
        return splits

    def info(self, width: int, height: int) -> DataInfo:
        """Return the facts of H2O."""
        return DataInfo(self.name, ACTIONS, OBJECTS, len(HANDS), width, height)

    def clips(self, split: str) -> list[ClipKey]:
        """Return the clips of a label file, in its order, with the ids of the data set."""
        path = self._label_file(split)
        if path is None:
            root = _text.printable(self.root)
            raise DataError(f"No label file action_{split}.txt in {root}. Check --root.")
        labels = lists.labels(path, len(ACTIONS), unlabelled=split == SPLITS[-1])
        pose_list = self._pose_list(split)
        listed = lists.poses(pose_list) if os.path.lexists(pose_list) else None
        keys = []
        for label in labels:
            named = listed.get(_plain(label.recording), ()) if listed is not None else label.numbers
            unlisted = tuple(_text.gaps(label.numbers, named))
            entry = H2OEntry(label.recording, label.action, unlisted, pose_list.name)
            keys.append(ClipKey(label.id, len(label.numbers), entry, label.first))
        if keys and all(key.entry.unlisted == (key.numbers,) for key in keys):
            raise DataError(
                f"The pose list {_text.printable(pose_list)} names no frame of the clips in {_text.printable(path)}. "
                "Is one of them of another split? Get the files again."
            )
        return keys

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """Read a clip; frames with a missing or broken image are left out, frames without a hand pose are kept.

        Its group is its recording: the actions of one sequence folder, one after the other, show the same person, place
        and light.
        """
        entry: H2OEntry = key.entry
        folders, findings = self._recordings(entry.recording), Findings(self.root)
        try:
            intrinsics, seen = _camera(_first(folders, "cam_intrinsics.txt"))
        except UnreadableError as error:
            findings.add(error, CLIP_LEFT_OUT, key.frames)
            return None, findings.problems
        kinds = [folder / kind for folder in folders for kind in IMAGE_FOLDERS]
        images = _NAMES.look(kinds, key.numbers, (width, height), findings)
        jpegs = _frames.read(images, key.numbers, seen, (width, height, quality), findings)
        if not jpegs:
            findings.add(UnreadableError(f"clip {key.id}", "has no readable frame", entry.recording), CLIP_LEFT_OUT)
            return None, findings.problems
        hand_valid, joints_m = _all_hands(_most(folders, "hand_pose", key.numbers), list(jpegs), entry, findings)
        _compare_actions(_most(folders, "action_label", key.numbers), entry, list(jpegs), findings)
        record = ClipRecord(
            id=key.id,
            subject=entry.recording.split("/")[0],
            action=entry.action,
            object=_object(_most(folders, "obj_pose", key.numbers), key, list(jpegs), findings),
            intrinsics=np.asarray(camera.resized(intrinsics, width / seen[0], height / seen[1])),
            width=width,
            height=height,
            frame_numbers=list(jpegs),
            jpegs=list(jpegs.values()),
            joints_m=joints_m,
            hand_valid=hand_valid,
            group=_plain(entry.recording),
        )
        return record, findings.problems

    def differences(self) -> list[str]:
        """Return differences from the published numbers of clips and frames, and pairs of clips that share frames."""
        lines, splits = [], self.splits
        labels: dict[str, list[lists.Label]] = {}
        for split, (clips, frames) in PUBLISHED.items():
            path = self._label_file(split) if split in splits else None
            listed = labels[split] = lists.labels(path, len(ACTIONS), split == SPLITS[-1]) if path else []
            total = sum(len(label.numbers) for label in listed)
            if (len(listed), total) != (clips, frames):
                lines.append(f"{split}: {len(listed)} clips, {total:,} frames; published are {clips} and {frames:,}")
            pose_list = self._pose_list(split)
            if os.path.lexists(pose_list) and lists.poses(pose_list) is None:
                lines.append(f"{split}: {pose_list.name} has an unknown form and is not used")
        pairs = lists.shared(labels)
        more = [f"{len(pairs) - _PAIRS_SHOWN:,} more pairs of clips share frames"] if len(pairs) > _PAIRS_SHOWN else []
        return [*lines, *pairs[:_PAIRS_SHOWN], *more]

    def _pose_list(self, split: str) -> Path:
        return _frames.find(self.root, f"label_split/pose_{split}.txt")

    def _label_file(self, split: str) -> Path | None:
        path = _frames.find(self.root, *(f"{folder}/action_{split}.txt" for folder in _LABEL_FOLDERS))
        return path if os.path.lexists(path) else None

    def _recordings(self, recording: str) -> list[Path]:
        """Return the head camera folders of a recording; the head-camera release has subject1_ego for subject1."""
        subject, _, rest = recording.partition("/")
        names = (f"{subject}_ego/{rest}", recording)
        folders = [root / name / "cam4" for root in _frames.roots(self.root) for name in names]
        return [folder for folder in folders if os.path.isdir(folder)] or [self.root / recording / "cam4"]


def source(root: Path | None, config: DataConfig) -> H2OSource:  # noqa: ARG001 - H2O has no options
    """Open H2O in the folder ``root``.

    Raises:
        DataError: there is no such folder.
    """
    return H2OSource(_frames.data_folder(root, "H2O"))


def _plain(recording: str) -> str:
    """Return the name of a recording without the suffix of the head-camera release."""
    return recording.replace("_ego/", "/")


def _first(folders: Sequence[Path], name: str) -> Path:
    """Return the first existing file ``name`` in the folders, or its path in the first folder if there is none."""
    return next((folder / name for folder in folders if os.path.lexists(folder / name)), folders[0] / name)


def _most(folders: Sequence[Path], name: str, wanted: range) -> Path:
    """Return the subfolder ``name`` that has files for the most wanted frames."""
    paths = [folder / name for folder in folders]
    return max(paths, key=lambda path: _files(path, wanted)) if len(paths) > 1 else paths[0]


def _files(folder: Path, wanted: range) -> int:
    """Return the number of wanted frames that have a text file in a folder."""
    try:
        return sum(number in wanted for number in _text.numbered(folder, _NAMES.pattern, (".txt",)))
    except UnreadableError:
        return 0


def _camera(path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the [3 3] intrinsics of a recording, and the (width, height) of the images they are for, px."""
    values = _text.numbers(path, 6)
    if not (values > 0).all():
        raise UnreadableError(path, _text.WRONG_NUMBERS, f"{values.min():g} is not above 0")
    return camera.intrinsics(*values[:4]), (float(values[4]), float(values[5]))


def _all_hands(folder: Path, numbers: list[int], entry: H2OEntry, findings: Findings) -> tuple[np.ndarray, np.ndarray]:
    """Return hand validity [t 2] and joints [t 42 3] in camera space, metres; False and 0 where unknown."""
    valid = np.zeros((len(numbers), len(HANDS)), bool)
    joints_m = np.zeros((len(numbers), len(HANDS) * JOINTS_PER_HAND, 3), np.float32)
    for frame, number in enumerate(numbers):
        path = folder / f"{number:06d}.txt"
        try:
            if any(number in run for run in entry.unlisted):
                raise UnreadableError(path, f"is not in {entry.pose_list}")
            valid[frame], joints_m[frame], fault = _hands(path)
            if fault:
                findings.frame(number, UnreadableError(path, _text.WRONG_NUMBERS, fault), HANDS_NOT_KNOWN)
        except UnreadableError as error:
            findings.frame(number, error, HANDS_NOT_KNOWN)
    return valid, joints_m


def _hands(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Return hand validity [2], joints [42 3] (0 where not valid), and a description of the first fault, or ""."""
    content = _text.text(path)
    hands = _text.numbers(path, len(HANDS) * _HAND_NUMBERS, content).reshape(len(HANDS), _HAND_NUMBERS)
    flags, joints_m = hands[:, 0], hands[:, 1:].reshape(len(HANDS), JOINTS_PER_HAND, 3)
    wrong = flags[(flags != 0) & (flags != 1)]
    if len(wrong):
        raise UnreadableError(path, _text.WRONG_NUMBERS, f"the flag of a hand must be 0 or 1, not {wrong[0]:g}")
    valid, fault = flags == 1, ""
    last_hand = " ".join(content.split()[1 - _HAND_NUMBERS :]) + content[len(content.rstrip()) :]
    if valid[-1] and _text.cut_short(last_hand):
        raise _text.cut(path, content.split())
    for hand in np.flatnonzero(valid):
        wrong_distance = _frames.distance_fault(joints_m[hand])
        valid[hand] &= not wrong_distance
        fault = fault or (wrong_distance and f"{wrong_distance}, {HANDS[hand]} hand")
    return valid, np.where(valid[:, None, None], joints_m, 0.0).reshape(-1, 3).astype(np.float32), fault


def _compare_actions(folder: Path, entry: H2OEntry, numbers: Sequence[int], findings: Findings) -> None:
    """Report frames whose action differs from the list; the action of the list is used."""
    if entry.action == lists.UNKNOWN or not os.path.isdir(folder):
        return
    counts = Counter(each for number in numbers if (each := _first_number(folder, number)) is not None)
    others = Counter({each: count for each, count in counts.items() if each != entry.action + 1})
    if others:
        detail = f"{others.total()} of {counts.total()} frames, most {others.most_common(1)[0][0]:g}"
        error = UnreadableError(folder, "has another action than the list", f"{detail}, not {entry.action + 1}")
        findings.add(error, "action of the list used", others.total())


def _first_number(folder: Path, number: int) -> float | None:
    """Return the first number in the file of a frame, or None if there is none."""
    try:
        return float(_text.text(folder / f"{number:06d}.txt").split()[0])
    except (UnreadableError, ValueError, IndexError):
        return None


def _object(folder: Path, key: ClipKey, numbers: Sequence[int], findings: Findings) -> int:
    """Return the object of the clip's action, or, if unknown, the most frequent one in the frames, or -1."""
    entry: H2OEntry = key.entry
    seen = (_first_number(folder, number) for number in numbers)
    counts = Counter(int(each) - 1 for each in seen if each is not None and each in range(1, len(OBJECTS) + 1))
    shown = counts.most_common(1)[0][0] if counts else lists.UNKNOWN
    if entry.action == lists.UNKNOWN:
        if not counts:
            error = UnreadableError(f"clip {key.id}", "has no object in obj_pose", entry.recording)
            findings.add(error, "object not known")
        return shown
    expected = OBJECTS.index(VERB_AND_NOUN[entry.action][1])
    if counts and shown != expected:
        detail = f"{OBJECTS[shown]} in {counts[shown]} of {counts.total()} frames, not {OBJECTS[expected]}"
        findings.add(
            UnreadableError(folder, "has another object than the clip's action", detail), "object of the action used"
        )
    return expected
