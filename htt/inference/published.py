"""Location of a trained model: a folder on this machine, or a folder of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from htt.errors import CheckpointError
from htt.model.weights import RECORD
from htt.training.checkpoint import MODEL

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""Owner and model of the hub."""


def located(source: str | Path) -> Path:
    """Return the folder of a checkpoint or published model; one of the hub is downloaded to its cache.

    Raises:
        CheckpointError: it is a file, or a hub name that is not in the cache and cannot be downloaded.
    """
    path = Path(source).expanduser()
    if path.is_file():
        raise CheckpointError(
            f"Invalid checkpoint {path}: expected the folder that a training or python -m htt.publish wrote, got "
            "a file."
        )
    if path.exists() or not _HUB_NAME.fullmatch(str(source)):
        return path
    from htt.model.backbones._hub import hub_file  # transformers' Auto classes are slow to import

    hub_file(str(source), MODEL, "--checkpoint")
    return hub_file(str(source), RECORD, "--checkpoint").parent
