"""Paths of the checkout, and the environment of processes that must find the project and these helpers."""

import os
from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]


def environment() -> dict[str, str]:
    """Return the environment of a process that imports the project and the stand-in training."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]), "OMP_NUM_THREADS": "1"}
