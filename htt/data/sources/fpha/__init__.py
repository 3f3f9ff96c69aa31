"""FPHA: the right hand and its actions, recorded by a camera on the shoulder.

Files, in the folder the data set was unpacked to::

    data_split_action_recognition.txt               "Training 600", then 600 lines "Subject_1/open_juice_bottle/2 0";
                                                    "Test 575", then 575 such lines
    action_object_info.txt                          header, then: id action object object_pose scenario
    Subjects_info/Subject_1_info.txt                three lines, then: action instance frames
    Hand_pose_annotation_v1/Subject_1/open_juice_bottle/2/skeleton.txt
                                                    frame x1 y1 z1 ... x21 y21 z21; millimetres, world
    Video_files/Subject_1/open_juice_bottle/2/color/color_0000.jpeg
                                                    frames; or in Video_files_480, as resized by the released code

Each of these may be in a subfolder, if an archive was unpacked into one. If there are several folders of images, the
one with most of a clip's frames is used, then the one nearest to the requested size; of several skeleton files, the one
with most frames.

Actions and objects have the order of action_object_info.txt, which is that of the released weights; the numbers in the
split file must match it. A clip without a skeleton file is left out. A frame without a line in it, or with joints at an
impossible distance, is kept, and its hand is not valid.

Source: FPHA documentation (Garcia-Hernando et al. 2018).
"""

from __future__ import annotations

import os
import re
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
    _text,
)
from htt.data.sources import _images as pixels
from htt.data.sources._frames import Findings, Images
from htt.data.sources.fpha import lists
from htt.data.sources.fpha import skeleton as _fpha_skeleton
from htt.errors import DataError
from htt.hand import JOINTS_PER_HAND
from htt.info import DataInfo

PUBLISHED = {"train": 600, "test": 575}
"""Clips of each split. Source: FPHA's split file."""
PUBLISHED_FRAMES, PUBLISHED_ACTIONS, PUBLISHED_OBJECTS = 105_459, 45, 26
INTRINSICS = camera.intrinsics(1395.749023, 1395.749268, 935.732544, 540.681030)
"""Intrinsics of the colour camera, px. Source: FPHA documentation."""
CAMERA_SIZE = (1920, 1080)
"""(width, height) of the images that ``INTRINSICS`` are for, px."""
POSE_FOLDERS = ("Hand_pose_annotation_v1", "Hand_pose_annotation_v1_1")
"""Names of the pose folder in the releases."""
IMAGE_FOLDERS = ("Video_files", "Video_files_480")
_NAMES = _frames.Names(re.compile(r"color_(\d{4}|[1-9]\d{4,5})"), (".jpeg", ".jpg", ".png"), "color_{:04d}.jpeg".format)

_NOT_KNOWN = np.zeros((JOINTS_PER_HAND, 3), np.float32)


@dataclass(frozen=True)
class FPHAEntry:
    """Entries of a clip in the lists."""

    action: int
    object: int
    uncounted: str = ""
    """Reason why the number of frames is not from the subject's info file, or ""."""


@dataclass(frozen=True)
class FPHASource:
    """FPHA data set in the folder ``root``."""

    root: Path
    name: str = "fpha"
    pixels: str = f"{pixels.RESIZED}; {pixels.JPEG}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits in the split file."""
        return tuple(PUBLISHED)

    def info(self, width: int, height: int) -> DataInfo:
        """Return the facts of FPHA, with the classes of its table."""
        table = lists.table(self.root)
        return DataInfo(self.name, table.actions, table.objects, 1, width, height)

    def clips(self, split: str) -> list[ClipKey]:
        """Return the clips of a split, in the order of the split file."""
        table = lists.table(self.root)
        ids = lists.clips(self.root, table)
        if split not in ids:
            raise DataError(f"No split '{split}' in FPHA. Available: {', '.join(self.splits)}.")
        counts = {subject: self._frame_counts(subject) for subject in {clip.split("/")[0] for clip in ids[split]}}
        keys = []
        for clip in ids[split]:
            subject, action, _ = clip.split("/")
            known, trouble = counts[subject]
            uncounted = "" if clip in known else trouble or "has no row for it"
            frames = known[clip] if clip in known else self._count(clip)
            keys.append(ClipKey(clip, frames, FPHAEntry(*table.labels(action), uncounted)))
        return keys

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """Read a clip; frames with a missing or broken image are left out, frames without a line of joints are kept.

        It is a group of its own: each of the 1,175 clips was recorded as a sequence of its own, and the files name no
        recording that holds several.
        """
        entry: FPHAEntry = key.entry
        findings = Findings(self.root)
        skeleton = self._skeleton(key.id, findings)
        self._report_count(key, findings)
        try:
            joints = _fpha_skeleton.read(skeleton, findings)
        except UnreadableError as error:
            findings.add(error, CLIP_LEFT_OUT, key.frames)
            return None, findings.problems
        images = self._images(key.id, key.numbers, (width, height), findings)
        jpegs = _frames.read(images, key.numbers, CAMERA_SIZE, (width, height, quality), findings)
        self._report_beyond(key, images, skeleton, joints, findings)
        if not jpegs:
            findings.add(UnreadableError(f"clip {key.id}", "has no readable frame"), CLIP_LEFT_OUT)
            return None, findings.problems
        for number in (each for each in jpegs if each not in joints):
            unknown = UnreadableError(f"{skeleton}, frame {number}", "has no line of joints")
            findings.frame(number, unknown, HANDS_NOT_KNOWN)
        record = ClipRecord(
            id=key.id,
            subject=key.id.split("/")[0],
            action=entry.action,
            object=entry.object,
            intrinsics=np.asarray(camera.resized(INTRINSICS, width / CAMERA_SIZE[0], height / CAMERA_SIZE[1])),
            width=width,
            height=height,
            frame_numbers=list(jpegs),
            jpegs=list(jpegs.values()),
            joints_m=np.stack([joints.get(number, _NOT_KNOWN) for number in jpegs]),
            hand_valid=np.array([[number in joints] for number in jpegs]),
        )
        return record, findings.problems

    def differences(self) -> list[str]:
        """Return differences from the published numbers of clips, frames and classes."""
        table = lists.table(self.root)
        keys = {split: self.clips(split) for split in self.splits}
        frames = sum(key.frames for of_split in keys.values() for key in of_split)
        compared = [(f"{split}: {{:,}} clips", len(keys[split]), count) for split, count in PUBLISHED.items()]
        compared += [
            ("{:,} frames in all", frames, PUBLISHED_FRAMES),
            ("{:,} actions", len(table.actions), PUBLISHED_ACTIONS),
            ("{:,} objects", len(table.objects), PUBLISHED_OBJECTS),
        ]
        return [f"{what.format(own)}; published are {count:,}" for what, own, count in compared if own != count]

    def _skeleton(self, clip: str, findings: Findings) -> Path:
        """Return the skeleton file of a clip; if there are several, the one with the most frames."""
        folders = [root / name for root in _frames.roots(self.root) for name in POSE_FOLDERS]
        paths = [folder / clip / "skeleton.txt" for folder in folders if os.path.isdir(folder)]
        existing = [path for path in paths if os.path.lexists(path)]
        if len(existing) < 2:
            return next(iter(existing or paths), folders[0] / clip / "skeleton.txt")
        counts = {path: len(_fpha_skeleton.frame_numbers(path)) for path in existing}
        taken = max(existing, key=lambda path: counts[path])
        others = "; ".join(f"{findings.name(path)} has {counts[path]}" for path in existing if path != taken)
        detail = f"{counts[taken]} frames; {others}"
        findings.add(UnreadableError(taken, "is one of several skeleton files of its clip", detail), "used")
        return taken

    def _images(self, clip: str, wanted: range, size: tuple[int, int], findings: Findings) -> Images:
        folders = [root / kind / clip / "color" for root in _frames.roots(self.root) for kind in IMAGE_FOLDERS]
        return _NAMES.look(folders, wanted, size, findings)

    def _frame_counts(self, subject: str) -> tuple[dict[str, int], str]:
        """Return the frame counts of a subject's clips, and the reason if there are none, else ""."""
        try:
            return lists.frame_counts(self.root, subject), ""
        except UnreadableError as error:
            return {}, error.reason

    def _count(self, clip: str) -> int:
        """Return the number of frames of a clip from its skeleton file, or else from its images."""
        findings = Findings(self.root)
        numbers = _fpha_skeleton.frame_numbers(self._skeleton(clip, findings))
        if not numbers:
            numbers = list(self._images(clip, range(_text.LARGEST_NUMBER), CAMERA_SIZE, findings).paths)
        return 1 + max(numbers, default=-1)

    def _report_count(self, key: ClipKey, findings: Findings) -> None:
        if key.entry.uncounted:
            info = lists.info_file(self.root, key.id.split("/")[0])
            reason = f"has no number of frames in {lists.INFOS}"
            detail = f"{info.name} {key.entry.uncounted}"
            findings.add(UnreadableError(f"clip {key.id}", reason, detail), "frames counted in its skeleton.txt")

    def _report_beyond(
        self, key: ClipKey, images: Images, skeleton: Path, joints: dict[int, np.ndarray], findings: Findings
    ) -> None:
        """Report lines of the skeleton file and images beyond the clip's number of frames."""
        for where, numbers in ((skeleton, joints), (images.name(0).parent, images.paths)):
            beyond = [number for number in numbers if number not in key.numbers]
            if beyond:
                detail = f"{len(beyond)} up to frame {max(beyond)}, the clip has {key.frames}"
                findings.add(
                    UnreadableError(where, "continues beyond its clip", detail), "the rest left out", len(beyond)
                )


def source(root: Path | None, config: DataConfig) -> FPHASource:  # noqa: ARG001 - FPHA has no options
    """Open FPHA in the folder ``root``.

    Raises:
        DataError: there is no such folder.
    """
    return FPHASource(_frames.data_folder(root, "FPHA"))
