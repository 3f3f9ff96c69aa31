"""What the files are called, what they hold, and which clips and frames belong in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from htt.data.shards import manifest as manifests
from htt.data.sources.h2o import ACTIONS
from htt.errors import DataError
from htt.hand import HANDS, JOINTS_PER_HAND
from htt.submission import h2o_test

SOURCE = "h2o"
"""The data set that has a server."""
ARCHIVE = "answer.zip"
LABELS, POSES = "action_labels.json", "hand_poses.json"
MODALITY = "RGB"
"""What the predictions of this project are made from; the server's own examples have other texts, as "hand+obj"."""
NEAREST_M, FARTHEST_M = 0.1, 5.0
"""Between these, a joint of a hand that a head camera sees is to be expected."""
LAST_ACTION = len(ACTIONS)
"""Actions are numbered from 1."""
NUMBERS = 3 * len(HANDS) * JOINTS_PER_HAND
"""Of a frame."""

Vote = Literal["soft", "hard"]
"""How the windows of a clip decide on its action: by summed probabilities, or by one vote each."""


@dataclass(frozen=True)
class Expected:
    """The clips and frames a submission must hold, no more and no less."""

    frames: Mapping[str, range | None]
    """The frame numbers of each clip, by its id; none: any that follow one another."""
    total: int | None = None
    """Frames of all clips together, where it is known without their numbers."""


H2O_TEST = Expected(h2o_test.frames(), total=23_391)
"""What is known of H2O's test split without the data. Source: H2O's label files."""


def expected(root: Path, split: str) -> Expected:
    """The clips and frames a submission of a folder of shards must hold.

    Raises:
        DataError: there are no shards or no such split, or they are not of H2O.
    """
    manifest = manifests.read(root)
    if manifest.source != SOURCE:
        raise DataError(
            f"Submissions are for the server of H2O, and {root} holds {manifest.source}, which has none: score it here "
            f"with python -m htt.evaluate --checkpoint CHECKPOINT --data {root} --split {split}."
        )
    return Expected(manifest.numbers(split))


def frame_name(number: int) -> str:
    """What a submission calls a frame: ``000120.txt``."""
    return f"{number:06d}.txt"
