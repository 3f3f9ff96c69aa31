"""The folder of a final training, readable without Ray and torch.

It holds ``config.yaml`` (what is trained), ``metrics.json`` (every epoch, and the final evaluation on the validation
and the test split), ``checkpoint/`` (read by ``htt.training.checkpoint.load``), ``tensorboard/`` and Ray Train's own
files, from which a training goes on. A ``.lock`` says which process works on it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from htt.config import Config, read, to_yaml
from htt.errors import RunError, storage_errors

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
CHECKPOINT_FOLDER = "checkpoint"
LOCK = ".lock"

try:
    import fcntl
except ImportError:  # another system: no lock, and no protection from two drivers
    fcntl = None  # type: ignore[assignment]


class EpochLog:
    """``metrics.json``: every epoch as it comes, then the final evaluation. A resumed run goes on with the old file."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one.

        Raises:
            RunError: it is not what a training wrote.
        """
        self._file = file
        try:
            found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            self.epochs: dict[int, dict[str, float]] = {int(entry["epoch"]): entry for entry in found.get("epochs", [])}
            self.final: dict[str, float] = found.get("final", {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{file} is damaged ({type(error).__name__}: {error}). Remove it and resume: the last checkpoint knows "
                "the epochs before it, and the file is written again."
            ) from None

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


@contextlib.contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """Work on a run alone; the lock dies with its owner.

    Raises:
        RunError: another process works on it.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunError(
                f"One process at a time works on a run; {folder} is taken by process {file.read() or '?'}. "
                "Wait for it, or stop it with Ctrl-C and resume."
            ) from None
        except OSError:
            pass  # a file system without locks, as some clusters share: no protection there either
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_folder(folder: Path, config: Config, *, resume: bool) -> None:
    """Check that a run's name is free, or that its folder holds the same training when resuming.

    Raises:
        RunError: the name is taken, the folder to resume holds another configuration or none, or a process works there.
    """
    file = folder / CONFIG_FILE
    if resume:
        if not file.exists():
            raise RunError(f"--resume needs a run that was started; there is no {file}.")
        if read(file).fingerprint() != config.fingerprint():
            raise RunError(f"--resume goes on with the same training; {file} holds another configuration.")
        with one_process(folder):
            return
    if file.exists():
        raise RunError(f"A run needs a name of its own; {folder} is taken. Choose another --name, or --resume it.")


def claim_folder(folder: Path, config: Config) -> None:
    """Make a run's folder and write down what is trained in it."""
    file = folder / CONFIG_FILE
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(to_yaml(config), encoding="utf-8")
