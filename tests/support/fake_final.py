"""Stand-in for ``cluster.training.run`` without torch; Ray's workers import it."""

import os
import time
from pathlib import Path

from cluster.run_folder import EpochLog
from fake_training import metrics_of, note, wait_while_held
from htt.config import Config
from htt.errors import NonFiniteLossError


def run(config: Config, folder: Path, workers, on_epoch, *, storage=None):
    """Resume after the epochs in ``metrics.json``; with momentum 0.1, seed 2 diverges the first time."""
    log = EpochLog(folder / "metrics.json")
    if log.final:
        return
    began = {"seed": config.train.seed, "start": len(log.epochs), "pid": os.getpid(), "at": time.time()}
    note(config, {**began, "workers": workers.count})
    for epoch in range(len(log.epochs) + 1, config.train.epochs + 1):
        wait_while_held(config, epoch)
        time.sleep(config.optim.step_epochs / 1000)
        misbehave(config, epoch, folder)
        metrics = metrics_of(config, epoch)
        log.add(metrics)
        on_epoch(metrics)
    note(config, {"seed": config.train.seed, "ended": time.time()})
    metrics = metrics_of(config, config.train.epochs)
    error = metrics["hand_error_mm"] + 5
    log.finish([], {**metrics, "test_hand_error_mm": error})


def misbehave(config: Config, epoch: int, folder: Path) -> None:
    mark = folder / "diverged"
    if epoch == 2 and config.train.seed == 2 and config.optim.momentum == 0.1 and not mark.exists():
        mark.touch()
        raise NonFiniteLossError(epoch, 7, ["action"])


def prepare(config: Config) -> None:
    note(config, {"prepared": config.fingerprint()})
