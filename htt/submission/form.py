"""Form of the submission files: their names, their content, and the clips and frames they must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from htt.data.shards import manifest as manifests
from htt.errors import DataError
from htt.hand import HANDS, JOINTS_PER_HAND
from htt.submission import h2o_test
from htt.vocabulary import ACTIONS

SOURCE = "h2o"
"""Data set with a test server."""
ARCHIVE = "answer.zip"
LABELS, POSES = "action_labels.json", "hand_poses.json"
MODALITY = "RGB"
"""Input of this project's predictions; the server's own examples have other texts, such as "hand+obj"."""
NEAREST_M, FARTHEST_M = 0.1, 5.0
"""Expected range of the distance of a hand's joint from a head-mounted camera, m."""
LAST_ACTION = len(ACTIONS)
"""Highest action id; ids start at 1."""
NUMBERS = 3 * len(HANDS) * JOINTS_PER_HAND
"""Numbers of a frame."""

Vote = Literal["soft", "hard"]
"""Vote of a clip's windows on its action: by summed probabilities, or by one vote each."""


@dataclass(frozen=True)
class Expected:
    """Clips and frames a submission must have, no more and no less."""

    frames: Mapping[str, range | None]
    """Frame numbers of each clip, by its id; None allows any consecutive numbers."""
    total: int | None = None
    """Number of frames of all clips, or None if the frame numbers give it."""


H2O_TEST = Expected(h2o_test.frames(), total=23_391)
"""Clips and frames of H2O's test split, known without the data. Source: H2O's label files."""


def expected(root: Path, split: str) -> Expected:
    """Return the clips and frames that a submission for a folder of shards must have.

    Raises:
        DataError: there are no shards or no such split, or they are not of H2O.
    """
    manifest = manifests.read(root)
    if manifest.source != SOURCE:
        raise DataError(
            f"Only H2O has a test server; {root} holds {manifest.source}. Evaluate it with: "
            f"python -m htt.evaluate --checkpoint CHECKPOINT --data {root} --split {split}"
        )
    return Expected(manifest.numbers(split))


def frame_name(number: int) -> str:
    """Return the name of a frame in a submission: ``000120.txt``."""
    return f"{number:06d}.txt"
