"""True content of a written clip, and its comparison with a read clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg

from htt import camera
from htt.data.sources import ClipRecord

JOINTS_WITHIN_M = 1e-5
COLOUR_WITHIN = 3.0
"""Tolerance of an image's mean colour, of 255: JPEG and resizing change it a little."""


@dataclass(frozen=True, eq=False)
class TrueClip:
    """A clip as it was written."""

    split: str
    id: str
    action: int
    """Action, or -1 if the data set does not give it."""
    object: int
    numbers: list[int]
    """Numbers of its frames."""
    joints_m: np.ndarray
    """[t j 3] float32, camera space, metres; arbitrary where the hand is not valid."""
    hand_valid: np.ndarray
    """[t hands]."""
    intrinsics: np.ndarray
    """[3 3] px, of ``images``."""
    images: np.ndarray
    """[t h w 3] uint8, of the size on the disk."""
    group: str = ""
    """Recording that the clip was cut from, or "" if the data set names none."""


@dataclass(frozen=True)
class Lost:
    """Parts of a clip that were not read, by frame number."""

    frames: list[int]
    """Missing frames."""
    hands: list[int]
    """Frames that were read with hands that are not valid but should be."""
    object: bool
    """True if the object is unknown."""


def check_clip(record: ClipRecord, true: TrueClip) -> Lost:
    """Compare a read clip with the truth: check everything that was read, and return what is missing.

    Raises:
        AssertionError: a label, a joint, the intrinsics, a frame number or the colours of a frame are wrong.
    """
    assert record.id == true.id
    assert record.action == true.action, f"{true.id}: action {record.action}, not {true.action}"
    assert record.object in (true.object, -1), f"{true.id}: object {record.object}, not {true.object}"
    assert (record.group or record.id) == (true.group or true.id)
    height, width = true.images.shape[1:3]
    intrinsics = camera.resized(true.intrinsics, record.width / width, record.height / height)
    np.testing.assert_allclose(record.intrinsics, intrinsics, rtol=1e-5)
    assert sorted(set(record.frame_numbers)) == record.frame_numbers
    unknown = [number for index, number in enumerate(record.frame_numbers) if not _check_frame(record, index, true)]
    return Lost(sorted(set(true.numbers) - set(record.frame_numbers)), unknown, record.object != true.object)


def _check_frame(record: ClipRecord, index: int, true: TrueClip) -> bool:
    """Check one frame, and return whether its hands are known."""
    where = true.numbers.index(record.frame_numbers[index])
    image = simplejpeg.decode_jpeg(record.jpegs[index], "RGB")
    assert image.shape == (record.height, record.width, 3)
    colour, expected = (each.reshape(-1, 3).mean(axis=0) for each in (image, true.images[where]))
    np.testing.assert_allclose(colour, expected, atol=COLOUR_WITHIN)
    valid = record.hand_valid[index]
    if not valid.any() and true.hand_valid[where].any():
        return False
    assert valid.tolist() == true.hand_valid[where].tolist()
    joints_m = record.joints_m[index].reshape(len(valid), -1)[valid]
    expected_m = true.joints_m[where].reshape(len(valid), -1)[valid]
    np.testing.assert_allclose(joints_m, expected_m, rtol=0, atol=JOINTS_WITHIN_M)
    return True
