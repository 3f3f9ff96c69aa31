"""The folder of a final training, readable without Ray and torch.

It holds ``config.yaml`` (what is trained), ``metrics.json`` (every epoch, and the final evaluation on the validation
and the test split), ``checkpoint/`` (read by ``htt.training.checkpoint.load``), ``tensorboard/`` and Ray Train's own
files, from which a training goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from htt.config import Config, read, to_yaml
from htt.errors import RunError, storage_errors

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
CHECKPOINT_FOLDER = "checkpoint"


class EpochLog:
    """``metrics.json``: every epoch as it comes, then the final evaluation. A resumed run goes on with the old file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.epochs: dict[int, dict[str, float]] = {int(entry["epoch"]): entry for entry in found.get("epochs", [])}
        self.final: dict[str, float] = found.get("final", {})

    def add(self, metrics: dict[str, float]) -> None:
        """Write down an epoch; one that was repeated after a failure replaces the first."""
        self.epochs[int(metrics["epoch"])] = metrics
        self._write()

    def finish(self, epochs: Sequence[dict[str, float]], final: dict[str, float]) -> None:
        """Write down the final evaluation, and epochs that workers finished while nobody listened."""
        self.epochs |= {int(metrics["epoch"]): metrics for metrics in epochs}
        self.final = final
        self._write()

    def _write(self) -> None:
        plain = {"final": self.final, "epochs": [self.epochs[epoch] for epoch in sorted(self.epochs)]}
        with storage_errors(self._file):
            beside = self._file.with_suffix(".tmp")
            beside.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
            beside.replace(self._file)


def check_folder(folder: Path, config: Config, *, resume: bool) -> None:
    """Check that a run's name is free, or that its folder holds the same training when resuming.

    Raises:
        RunError: the name is taken, or the folder to resume holds another configuration or none.
    """
    file = folder / CONFIG_FILE
    if resume:
        if not file.exists():
            raise RunError(f"--resume needs a run that was started; there is no {file}.")
        if read(file).fingerprint() != config.fingerprint():
            raise RunError(f"--resume goes on with the same training; {file} holds another configuration.")
        return
    if file.exists():
        raise RunError(f"A run needs a name of its own; {folder} is taken. Choose another --name, or --resume it.")


def claim_folder(folder: Path, config: Config) -> None:
    """Make a run's folder and write down what is trained in it."""
    file = folder / CONFIG_FILE
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(to_yaml(config), encoding="utf-8")
