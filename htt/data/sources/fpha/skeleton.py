"""FPHA's skeleton files: the right hand of a clip, converted from world space in mm to the colour camera in metres."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from htt import camera
from htt.data.sources import UnreadableError, _text
from htt.data.sources._frames import Findings, distance_fault
from htt.hand import JOINTS_PER_HAND

CAMERA_FROM_WORLD = np.array(
    [
        [0.999988496304, -0.00468848412856, 0.000982563360594, 25.7],
        [0.00469115935266, 0.999985218048, -0.00273845880292, 1.22],
        [-0.000969709653873, 0.00274303671904, 0.99999576807, 3.902],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""Transform [4 4] from world to colour camera, mm. Source: FPHA documentation."""
CANONICAL = (0, 1, 6, 7, 8, 2, 9, 10, 11, 3, 12, 13, 14, 4, 15, 16, 17, 5, 18, 19, 20)
"""Index in FPHA of each joint of ``htt.hand``; FPHA's order is wrist, five MCP, then PIP, DIP, tip of each finger."""
LINE_LEFT_OUT = "line left out"
_NUMBERS = 1 + 3 * JOINTS_PER_HAND


def read(path: Path, findings: Findings) -> dict[int, np.ndarray]:
    """Read the joints [21 3] of each frame, by frame number: camera space, metres; invalid lines are left out.

    Raises:
        UnreadableError: the file cannot be read or has no valid line.
    """
    content = _text.text(path)
    if not content.strip():
        raise UnreadableError(path, "is empty")
    lines = content.rstrip().splitlines()
    cut = _text.cut_short(content)
    frames: list[tuple[int, np.ndarray]] = []
    for line, words in enumerate(lines, start=1):
        try:
            if words.strip():
                frames.append(_line(path, words, cut and line == len(lines)))
        except UnreadableError as error:
            wrong = UnreadableError(f"{path}, line {line}", error.reason, error.detail)
            findings.frame(line, wrong, LINE_LEFT_OUT)
    repeated = {number for number, times in Counter(number for number, _ in frames).items() if times > 1}
    for number in sorted(repeated):
        findings.frame(number, UnreadableError(f"{path}, frame {number}", "has several lines"), LINE_LEFT_OUT)
    once = {number: joints_m for number, joints_m in frames if number not in repeated}
    if not once:
        raise UnreadableError(path, "has no readable line")
    return once


def frame_numbers(path: Path) -> list[int]:
    """Return the numbers of the readable frames in a file; none if it cannot be read."""
    try:
        return list(read(path, Findings(path.parent)))
    except UnreadableError:
        return []


def _line(path: Path, line: str, cut: bool) -> tuple[int, np.ndarray]:
    """Parse a line; return the frame number and the joints [21 3], camera space, metres."""
    words = line.split()
    if cut or len(words) < _NUMBERS:
        raise _text.cut(path, words)
    if len(words) > _NUMBERS:
        raise UnreadableError(path, _text.WRONG_NUMBERS, f"expected {_NUMBERS}, got {len(words)}")
    try:
        values = _text.floats(words)
    except ValueError as error:
        raise UnreadableError(path, _text.WRONG_NUMBERS, str(error)) from None
    if values[0] != int(values[0]) or not 0 <= values[0] <= _text.LARGEST_NUMBER:
        raise UnreadableError(path, _text.WRONG_NUMBERS, f"'{words[0]}' is not a frame number")
    joints_m = in_camera(values[1:].reshape(JOINTS_PER_HAND, 3))
    fault = distance_fault(joints_m)
    if fault:
        raise UnreadableError(path, _text.WRONG_NUMBERS, fault)
    return int(values[0]), joints_m.astype(np.float32)


def in_camera(world_mm: np.ndarray) -> np.ndarray:
    """Convert FPHA's joints [... 21 3], world space, mm, to colour camera space, metres, canonical order."""
    rotation, translation = CAMERA_FROM_WORLD[:3, :3], CAMERA_FROM_WORLD[:3, 3]
    camera_mm: np.ndarray = camera.transform(world_mm, rotation, translation)
    return camera_mm[..., CANONICAL, :] / 1000
