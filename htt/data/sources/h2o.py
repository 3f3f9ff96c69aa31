"""H2O: two hands and an object, from the head camera.

Read from the folder the data set unpacks to::

    action_labels/action_{train,val,test}.txt       header, then: id path action start_act end_act start_frame end_frame
    subject1/h1/0/cam4/cam_intrinsics.txt           fx fy cx cy width height
    subject1/h1/0/cam4/{rgb,rgb256}/000000.png      frames, of any size; rgb is preferred
    subject1/h1/0/cam4/hand_pose/000000.txt         flag and 63 numbers of the left hand, then of the right; metres
    subject1/h1/0/cam4/obj_pose/000000.txt          number of the object, then its pose; used if no action is known

Ends of actions are inclusive. Test clips have no action. A hand whose flag is 0 is not valid in that frame.

Source: H2O data set documentation (Kwon et al. 2021).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from htt import camera
from htt.config import DataConfig
from htt.data import pixels
from htt.data.source import ClipKey, ClipRecord, UnreadableError
from htt.errors import DataError
from htt.hand import HANDS, JOINTS_PER_HAND

if TYPE_CHECKING:
    from htt.batch import DataInfo

OBJECTS = ("book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")
"""H2O's objects 1 to 8."""

_VERBS = (
    ("grab", OBJECTS),
    ("place", OBJECTS),
    ("open", ("lotion", "milk", "chips")),
    ("close", ("lotion", "milk", "chips")),
    ("pour", ("milk",)),
    ("take out", ("espresso", "cocoa", "chips", "cappuccino")),
    ("put in", ("espresso", "cocoa", "cappuccino")),
    ("apply", ("lotion", "spray")),
    ("read", ("book", "espresso")),
    ("spray", ("spray",)),
    ("squeeze", ("lotion",)),
)
_NOUNS = tuple(OBJECTS.index(noun) for _, nouns in _VERBS for noun in nouns)
ACTIONS = tuple(f"{verb} {noun}" for verb, nouns in _VERBS for noun in nouns)
"""H2O's actions 1 to 36."""

SPLITS = ("train", "val", "test")
_LABEL_FOLDERS = ("action_labels", "label_split")
_IMAGE_FOLDERS = ("rgb", "rgb256")
_SUFFIXES = (".png", ".jpg", ".jpeg")
_UNKNOWN = -1
_HAND_NUMBERS = 1 + 3 * JOINTS_PER_HAND


@dataclass(frozen=True)
class Place:
    """Where a clip is: frames ``first`` to ``last``, inclusive, of a recording."""

    recording: str
    action: int
    first: int
    last: int


@dataclass(frozen=True)
class H2OSource:
    """The data set below ``root``."""

    root: Path
    name: str = "h2o"
    pixels: str = f"Pillow, bilinear with antialiasing; {pixels.JPEG}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Those whose label file is there."""
        found = tuple(split for split in SPLITS if self._label_file(split))
        if not found:
            wanted = self.root / _LABEL_FOLDERS[0] / "action_train.txt"
            raise DataError(f"The folder of H2O must hold label files, such as {wanted}; it has none. Check --root.")
        return found

    def info(self, width: int, height: int) -> DataInfo:
        """The facts of H2O."""
        from htt.batch import DataInfo

        return DataInfo(self.name, ACTIONS, OBJECTS, len(HANDS), width, height)

    def clips(self, split: str) -> list[ClipKey]:
        """The clips of a label file, in its order; a clip's id is the data set's."""
        path = self._label_file(split)
        if path is None:
            raise DataError(f"H2O must have the label file action_{split}.txt; {self.root} has none. Check --root.")
        lines = path.read_text(encoding="utf-8").splitlines()
        labelled = "action_label" in lines[0].split() if lines else True
        keys, faults = [], []
        for number, line in enumerate(lines[1:], start=2):
            if line.strip():
                try:
                    keys.append(_clip_key(line.split(), labelled))
                except ValueError as error:
                    faults.append(f"line {number}: {error}")
        if faults:
            raise DataError(f"{path} must list one clip a line; " + "; ".join(faults) + ". Get the file again.")
        return keys

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[str]]:
        """Read a clip; a frame whose image or pose is missing or broken is left out."""
        place: Place = key.place
        folder = self._recording(place.recording)
        try:
            matrix = _intrinsics(folder / "cam_intrinsics.txt", width, height)
        except UnreadableError as error:
            return None, [f"{error}; clip {key.id} was left out"]
        numbers, jpegs, poses, problems = [], [], [], []
        for number, image in _images(folder, place):
            try:
                pose = _hands(folder / "hand_pose" / f"{number:06d}.txt")
                jpeg = pixels.encode(pixels.read(image, width, height), quality)
            except UnreadableError as error:
                problems.append(f"{error}; the frame was left out")
                continue
            numbers.append(number)
            poses.append(pose)
            jpegs.append(jpeg)
        if not numbers:
            return None, [*problems, f"{folder}: clip {key.id} has no readable frame; it was left out"]
        hand_valid, joints_m = (np.stack(parts) for parts in zip(*poses, strict=True))
        record = ClipRecord(
            id=key.id,
            subject=place.recording.split("/")[0],
            action=place.action,
            object=_NOUNS[place.action] if place.action != _UNKNOWN else _object(folder, numbers),
            intrinsics=matrix,
            width=width,
            height=height,
            frame_numbers=numbers,
            jpegs=jpegs,
            joints_m=joints_m,
            hand_valid=hand_valid,
        )
        return record, problems

    def _label_file(self, split: str) -> Path | None:
        paths = [self.root / folder / f"action_{split}.txt" for folder in _LABEL_FOLDERS]
        return next((path for path in paths if path.is_file()), None)

    def _recording(self, recording: str) -> Path:
        """Its head camera's folder; the release with that camera alone has subject1_ego for subject1."""
        subject, _, rest = recording.partition("/")
        ego = self.root / f"{subject}_ego" / rest / "cam4"
        return ego if ego.is_dir() else self.root / recording / "cam4"


def source(root: Path | None, config: DataConfig) -> H2OSource:  # noqa: ARG001 - H2O has no options
    """H2O below ``root``.

    Raises:
        DataError: there is no such folder.
    """
    if root is None or not root.is_dir():
        raise DataError(f"--root must be the folder H2O was unpacked to; got {root}, which is no folder.")
    return H2OSource(root)


def _clip_key(words: list[str], labelled: bool) -> ClipKey:
    """A clip from the words of its line."""
    if len(words) != 6 + labelled:
        raise ValueError(f"{6 + labelled} words are expected, there are {len(words)}")
    action = int(words[2]) - 1 if labelled else _UNKNOWN
    if labelled and not 0 <= action < len(ACTIONS):
        raise ValueError(f"an action is 1 to {len(ACTIONS)}, this one is {words[2]}")
    first, last = (int(word) for word in words[-4:-2])
    if last < first:
        raise ValueError(f"the action ends in frame {last}, before its start in frame {first}")
    return ClipKey(words[0], last - first + 1, Place(words[1], action, first, last))


def _intrinsics(path: Path, width: int, height: int) -> np.ndarray:
    """The [3 3] intrinsics of a recording, for images of width x height."""
    numbers = _numbers(path, 6)
    return np.asarray(camera.resized(camera.intrinsics(*numbers[:4]), width / numbers[4], height / numbers[5]))


def _hands(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Which hands are in a frame [2], and its joints [42 3]."""
    hands = _numbers(path, len(HANDS) * _HAND_NUMBERS).reshape(len(HANDS), _HAND_NUMBERS)
    return hands[:, 0] == 1, hands[:, 1:].reshape(-1, 3).astype(np.float32)


def _object(folder: Path, numbers: list[int]) -> int:
    """The object most frames show, or -1."""
    counts: Counter[int] = Counter()
    for number in numbers:
        try:
            seen = int(float((folder / "obj_pose" / f"{number:06d}.txt").read_text().split()[0]))
        except (OSError, ValueError, IndexError):
            continue  # a frame without one does not vote
        if 1 <= seen <= len(OBJECTS):
            counts[seen - 1] += 1
    return counts.most_common(1)[0][0] if counts else _UNKNOWN


def _images(folder: Path, place: Place) -> list[tuple[int, Path]]:
    """(frame number, where its image is or should be) of every frame of a clip."""
    kind = next((name for name in _IMAGE_FOLDERS if (folder / name).is_dir()), _IMAGE_FOLDERS[0])
    there = {path.name for path in (folder / kind).iterdir()} if (folder / kind).is_dir() else set()
    images = []
    for number in range(place.first, place.last + 1):
        names = [f"{number:06d}{suffix}" for suffix in _SUFFIXES]
        images.append((number, folder / kind / next((name for name in names if name in there), names[0])))
    return images


def _numbers(path: Path, count: int) -> np.ndarray:
    """The numbers in a text file.

    Raises:
        UnreadableError: it is missing, cut short or holds something else; the message names it.
    """
    try:
        numbers = np.array([float(word) for word in path.read_text(encoding="utf-8").split()])
    except FileNotFoundError:
        raise UnreadableError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path} holds no numbers: {error}") from error
    if len(numbers) != count:
        raise UnreadableError(f"{path} has {len(numbers)} numbers, not {count}")
    if not np.isfinite(numbers).all():
        raise UnreadableError(f"{path} has numbers that are not finite")
    return numbers
