"""Final training of one configuration with Ray Train, on one worker or many.

::

    python cluster/launch.py --config runs/<name>/best.yaml
    python cluster/launch.py --config runs/<name>/best.yaml --workers 4 --gpus-per-worker 1 --address auto
    python cluster/launch.py --config runs/<name>/best.yaml --workers 1:8 --gpus-per-worker 1 --address auto
    python cluster/launch.py --preset paper --set data.source=h2o --set data.root=/data/h2o-shards --gpus-per-worker 1
    python cluster/launch.py --config runs/<name>/best.yaml --set train.epochs=40 --name long
    python cluster/launch.py --config runs/<name>/best.yaml --resume --name long
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # tune/ and cluster/ hold no top-level modules, the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from htt import console  # before the slow imports

    console.print_later()

import contextlib
import re
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cluster import progress
from cluster.run_folder import (
    CONFIG_FILE,
    METRICS_FILE,
    check_folder,
    check_name,
    check_same,
    lease_run,
    reserved_name,
    shared_folder,
    write_folder,
)
from cluster.storage import absolute_uri
from htt import console, driver_log, heartbeat
from htt.config import Config, override, parse_set, read
from htt.data.shards.manifest import TEST, TRAIN, VAL
from htt.data.store.remote import refuse_password
from htt.errors import ConfigError, RunError, shown
from htt.evaluation.metric_table import EVALUATED
from htt.heartbeat import LostRayError
from htt.registry import check_plugins, preset
from htt.training.messages import Start

if TYPE_CHECKING:  # imported late otherwise: Ray and torch take seconds to import, and --help must be fast
    from cluster import training

WAIT_S = 20.0
WAITING = (
    "No worker has started yet: workers are still starting, or the cluster has no free resources. Ray keeps the "
    "resources of a killed training for three more minutes."
)
"""Message after ``WAIT_S`` without a worker; repeated after pauses that double each time."""


@dataclass
class Options(console.Options):
    """Train one configuration, evaluate it, and save a checkpoint."""

    config: console.OptionalPath = None
    """YAML file of the configuration to train, such as runs/<name>/best.yaml."""
    preset: console.OptionalText = None
    """Preset to train instead, a module of htt/presets: paper is the recipe of HTT's authors."""
    set: console.Assignments = field(default_factory=list)
    """Change a field, as in --set train.epochs=40; may be repeated."""
    workers: str = "1"
    """Number of training processes, over all machines. A range such as 1:8 uses as many as there are resources for,
    and continues with more or fewer as machines come and go."""
    cpus_per_worker: console.OptionalFloat = None
    """Cores of each worker, and its number of threads (default: 1, or with GPUs the machine's cores for each GPU)."""
    gpus_per_worker: console.OptionalFloat = None
    """GPUs of each worker (default: 1 if the machines have GPUs)."""
    name: console.OptionalText = None
    """Name of the run (default: final-<date>-<time>)."""
    runs: Path = Path("runs")
    """Folder of the runs."""
    storage: console.OptionalText = None
    """Folder or URI (s3://, gs://) for checkpoints that all machines can write to (default: the run's folder)."""
    address: console.OptionalText = None
    """Ray cluster to join, "auto" or host:port (default: this machine)."""
    resume: bool = False
    """Resume the run --name from its last checkpoint."""
    share_any: bool = False
    """Resume also if other code or libraries trained the run so far; the run's began.json names them."""


def main(options: Options) -> None:
    """Train, evaluate, and print where the files are."""
    config = override(_config(options), parse_set(options.set))
    check_plugins(config)
    refuse_password(config.data.root or "", "data.root")
    if options.resume and not options.name:
        raise RunError("--resume requires --name, the name of the run to resume.")
    workers = _workers(options, config)
    storage = absolute_uri(options.storage) if options.storage else None
    with reserved_name(options.name, options.runs, "final", storage) as name:
        _train(options, config, options.runs / name, workers, storage)


def _train(options: Options, config: Config, folder: Path, workers: training.Workers, storage: str | None) -> None:
    from cluster import connect, resources, training
    from cluster.preflight import check
    from htt.data.loading.splits import incomplete
    from htt.training.encoding import data_folder

    check_folder(folder, config, resume=options.resume, storage=storage)
    if earlier := training.finished(folder):
        console.out.print(f"Already finished; files in {folder}", markup=False)
        _show(earlier, folder, storage, config)
        return
    check.check_backbones([config.model.backbone])
    if options.resume:
        check_same(folder, config, storage=storage, share_any=options.share_any)
    console.out.print(f"Starting on {connect.target(options.address)} ...")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_resumable(options, folder))
        joined = not stack.enter_context(connect.connect(options.address)).started
        workers = workers.settled()
        resources.require(workers.resources, workers.least or workers.count)
        target, mark = (storage, f"{folder.name}/{CONFIG_FILE}") if storage else (str(folder), CONFIG_FILE)
        count, gpus = workers.count, workers.gpus or 0.0
        ready = check.worker_check(config, storage=target, mark=mark, workers=count, gpus=gpus) if joined else None
        check.check([config], storage=target, workers=count, gpus=gpus)
        lease = stack.enter_context(lease_run(folder, storage))
        check_name(folder, config, resume=options.resume, storage=storage)  # again: the name may be taken by now
        write_folder(folder, config, storage, lease)
        for warning in incomplete(data_folder(config), config.data, TRAIN, VAL, TEST):
            _warn(warning)
        stack.enter_context(driver_log.written(folder))
        epochs = f"{config.train.epochs} epoch{'s' if config.train.epochs > 1 else ''}"
        console.out.print(f"Training {epochs} on {workers}; files in {folder}", markup=False)
        console.out.print("Starting the workers takes about ten seconds ...")
        display = stack.enter_context(progress.EpochDisplay(config.train.epochs))
        on_start = stack.enter_context(_patient(_show_starts()))
        result = training.run(
            config, folder, workers, display.epoch,
            on_start=on_start, on_step=display.step, storage=storage, ready=ready,
        )  # fmt: skip
    _show(result, folder, storage, config)


@contextlib.contextmanager
def _resumable(options: Options, folder: Path) -> Iterator[None]:
    """Print the command that resumes the training if it is interrupted or Ray dies, once the run folder exists."""
    again = console.command("cluster/launch.py", replace(options, name=folder.name, resume=True))
    hint = f"Resume with: {again}"
    heartbeat.set_resume_hint(hint)
    printed = False

    def show(*lines: str) -> None:
        nonlocal printed
        if not printed and (folder / CONFIG_FILE).exists():
            lines, printed = (*lines, hint), True
        for line in lines:
            console.err.print(line, markup=False)

    try:
        with _on_interrupt(lambda: show("Stopping; this takes a few seconds.")):
            yield
    except (KeyboardInterrupt, LostRayError) as error:
        show()
        if printed and isinstance(error, KeyboardInterrupt):
            sys.exit(console.INTERRUPTED)
        raise


@contextlib.contextmanager
def _on_interrupt(show: Callable[[], None]) -> Iterator[None]:
    """Call ``show`` at once at the first signal that interrupts this process.

    Ray Train replaces the signal handlers and stops the workers for seconds without a message; Python writes every
    signal to the wakeup descriptor before it calls a handler.
    """
    received, sent = socket.socketpair()
    sent.setblocking(False)
    interrupts = {signal.SIGINT, *console.INTERRUPTS}

    def watch() -> None:
        while numbers := received.recv(16):
            if interrupts.intersection(numbers):
                show()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sent.close()
        watcher.join()
        received.close()


def _config(options: Options) -> Config:
    """Return the configuration that the options name."""
    if (options.config is None) == (options.preset is None):
        raise ConfigError(
            f"Expected either --config FILE or --preset NAME; got {'both' if options.config else 'neither'}."
        )
    return read(options.config) if options.config else preset(str(options.preset))


def _workers(options: Options, config: Config) -> training.Workers:
    """Return the workers that --workers asks for: a number, or minimum and maximum.

    Raises:
        ConfigError: the value is neither, or a step cannot be divided among so many workers.
    """
    from cluster import training

    match = re.fullmatch(r"(?:([1-9][0-9]{0,5}):)?([1-9][0-9]{0,5})", options.workers)
    least, most = (int(match[1]) if match[1] else None, int(match[2])) if match else (None, 0)
    if most < (least or 1):
        raise ConfigError(
            f"Invalid --workers {shown(options.workers)}: expected a number such as 4, or a range such as 1:8."
        )
    workers = training.Workers(most, options.cpus_per_worker, options.gpus_per_worker, None if least == most else least)
    workers.check(config)
    return workers


def _show_starts() -> training.OnStart:
    """Return a function that prints where the training starts or resumes, and on how many workers."""
    starts = 0

    def show(start: Start) -> None:
        nonlocal starts
        starts += 1
        verb = "Starting" if starts == 1 else "Resuming"
        workers = f"{start.workers} worker{'s' if start.workers > 1 else ''}"
        console.out.print(f"{verb} {'within' if start.cursor else 'at'} epoch {start.epochs + 1} on {workers}.")

    return show


@contextlib.contextmanager
def _patient(show: training.OnStart, after_s: float = WAIT_S) -> Iterator[training.OnStart]:
    """Yield ``show``, and print ``WAITING`` from time to time until a worker has started."""
    started = threading.Event()

    def wait() -> None:
        pause = after_s
        while not started.wait(pause):
            console.out.print(WAITING, markup=False)
            pause *= 2

    def on_start(start: Start) -> None:
        started.set()
        show(start)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield on_start
    finally:
        started.set()


def _show(result: training.TrainingResult, folder: Path, storage: str | None, config: Config) -> None:
    """Print the final evaluation, warnings about incomplete splits, and the next commands."""
    console.out.print(_summary(result, folder, storage, config), markup=False)
    for warning in result.incomplete:
        _warn(warning)


def _warn(warning: str) -> None:
    console.print_message("warning:", warning)


def _summary(result: training.TrainingResult, folder: Path, storage: str | None, config: Config) -> str:
    lines = ["", progress.final_table(result.metrics), "", f"Checkpoint   {result.checkpoint}"]
    lines.append(f"All numbers  {folder / METRICS_FILE}")
    curves = shared_folder(folder, storage) if config.runtime.tensorboard else None
    lines += [f"Curves       {shlex.join(['tensorboard', '--logdir', str(curves)])}"] if curves else []
    return "\n".join([*lines, "", "Next:", *(f"  {shlex.join(words)}" for words in _next(result, config))])


def _next(result: training.TrainingResult, config: Config) -> list[list[str]]:
    """Return the next commands: an evaluation with intervals, and for H2O the submission files for its server."""
    checkpoint = ["--checkpoint", str(result.checkpoint)]
    tested = any(name.startswith("test_") for name in result.metrics)
    validated = any(name in EVALUATED for name in result.metrics)
    splits = [split for split, evaluated in ((VAL, validated), (TEST, tested)) if evaluated]
    commands = [["python", "-m", "htt.evaluate", *checkpoint, "--split", split] for split in splits]
    if config.data.source == "h2o" and config.data.root:
        commands.append(["python", "-m", "htt.submit", *checkpoint, "--data", config.data.root])
    return commands


if __name__ == "__main__":
    console.run(Options, main)
