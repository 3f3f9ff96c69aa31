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

    console.say_later()

import contextlib
import re
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cluster import progress
from cluster import storage as stores
from cluster.run_folder import (
    CONFIG_FILE,
    METRICS_FILE,
    alone,
    check_folder,
    check_name,
    check_same,
    claim_folder,
    named,
    shared_folder,
)
from htt import console, driver_log, heartbeat
from htt.config import Config, override, parse_set, read
from htt.data.prepare import prepare
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
    "No worker has begun yet: it is starting, or waits for room on the cluster. Ray keeps the room of a training which "
    "was killed for three more minutes."
)
"""Message after ``WAIT_S`` without a worker; repeated after pauses that double each time."""


@dataclass
class Options(console.Options):
    """Train one configuration to the end, evaluate it, and leave a checkpoint."""

    config: console.File = None
    """A configuration: runs/<name>/best.yaml, or any YAML file of one."""
    preset: console.Word = None
    """Or one by its name, a module of htt/presets: paper is the recipe of HTT's authors."""
    set: console.Assignments = field(default_factory=list)
    """Change a field, as in --set train.epochs=40; repeat for more."""
    workers: str = "1"
    """Training processes, over all machines; 1:8 begins with as many of 8 as there is room for, one at least, and goes
    on with more or fewer as machines come and go."""
    cpus_per_worker: float = 1.0
    """Cores of each worker, and its threads."""
    gpus_per_worker: console.Number = None
    """GPUs of each worker (default: 1 if the machines have GPUs)."""
    name: console.Word = None
    """Name of the run (default: final-<date>-<time>)."""
    runs: Path = Path("runs")
    """Folder of the runs."""
    storage: console.Word = None
    """Folder or URI (s3://, gs://) all machines can write checkpoints to (default: the run's folder)."""
    address: console.Word = None
    """A Ray cluster to join, "auto" or host:port (default: this machine)."""
    resume: bool = False
    """Go on with the run --name from its last checkpoint."""
    share_any: bool = False
    """Go on also where other code or other libraries trained so far; the run's began.json names them."""


def main(options: Options) -> None:
    """Train, evaluate, and print where the files are."""
    config = override(_asked(options), parse_set(options.set))
    check_plugins(config)
    refuse_password(config.data.root or "", "data.root")
    if options.resume and not options.name:
        raise RunError("--resume needs the --name of the run to go on with.")
    workers = _workers(options, config)
    storage = stores.settled(options.storage) if options.storage else None
    with named(options.name, options.runs, "final", storage) as name:
        _train(options, config, options.runs / name, workers, storage)


def _train(options: Options, config: Config, folder: Path, workers: training.Workers, storage: str | None) -> None:
    from cluster import connect, resources, training
    from cluster.preflight import check
    from htt.data.loading.splits import incomplete

    check_folder(folder, config, resume=options.resume, storage=storage)
    if known := training.finished(folder):
        console.out.print(f"Finished before; its files are in {folder}", markup=False)
        _show(known, folder, storage, config)
        return
    check.check_backbones([config.model.backbone])
    if options.resume:
        check_same(folder, config, storage=storage, share_any=options.share_any)
    console.out.print(f"Starting on {connect.place(options.address)} ...")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_resumable(options, folder))
        joined = not stack.enter_context(connect.connect(options.address)).started
        workers = workers.settled()
        resources.require(workers.resources, workers.least or workers.count)
        place, mark = (storage, f"{folder.name}/{CONFIG_FILE}") if storage else (str(folder), CONFIG_FILE)
        many, gpus = workers.count, workers.gpus or 0.0
        ready = check.newcomers(config, storage=place, mark=mark, workers=many, gpus=gpus) if joined else None
        check.check([config], storage=place, workers=many, gpus=gpus)
        lease = stack.enter_context(alone(folder, storage))
        check_name(folder, config, resume=options.resume, storage=storage)  # again: the name may be taken by now
        claim_folder(folder, config, storage, lease)
        for warning in incomplete(prepare(config), config.data, TRAIN, VAL, TEST):
            _warn(warning)
        stack.enter_context(driver_log.written(folder))
        epochs = f"{config.train.epochs} epoch{'s' if config.train.epochs > 1 else ''}"
        console.out.print(f"Training {epochs} on {workers}; files in {folder}", markup=False)
        console.out.print("Starting the workers takes about ten seconds ...")
        shown = stack.enter_context(progress.Training(config.train.epochs))
        on_start = stack.enter_context(_patient(_show_starts()))
        try:
            outcome = training.run(
                config, folder, workers, shown.epoch,
                on_start=on_start, on_step=shown.step, storage=storage, ready=ready,
            )  # fmt: skip
        except KeyboardInterrupt:
            if lease:
                lease.check()
            raise
    _show(outcome, folder, storage, config)


@contextlib.contextmanager
def _resumable(options: Options, folder: Path) -> Iterator[None]:
    """Print the command that resumes the training if it is interrupted or Ray dies, once the run folder exists."""
    again = console.command("cluster/launch.py", replace(options, name=folder.name, resume=True))
    hint = f"Stopped. To resume: {again}"
    heartbeat.set_resume_hint(hint)
    try:
        yield
    except (KeyboardInterrupt, LostRayError) as error:
        if not (folder / CONFIG_FILE).exists():
            raise
        console.err.print(hint, markup=False)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(console.INTERRUPTED)
        raise


def _asked(options: Options) -> Config:
    """Return the configuration that the options name."""
    if (options.config is None) == (options.preset is None):
        raise ConfigError("One configuration is trained: name it with --config FILE or with --preset NAME.")
    return read(options.config) if options.config else preset(str(options.preset))


def _workers(options: Options, config: Config) -> training.Workers:
    """Return the workers that --workers asks for: a number, or minimum and maximum.

    Raises:
        ConfigError: the value is neither, or a step cannot be divided among so many workers.
    """
    from cluster import training

    found = re.fullmatch(r"(?:([1-9][0-9]{0,5}):)?([1-9][0-9]{0,5})", options.workers)
    least, most = (int(found[1]) if found[1] else None, int(found[2])) if found else (None, 0)
    if most < (least or 1):
        raise ConfigError(
            f"--workers takes a number, as 4, or the fewest and the most, as 1:8; got {shown(options.workers)}."
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
        many = f"{start.workers} worker{'s' if start.workers > 1 else ''}"
        place = f"within epoch {start.epochs + 1}" if start.cursor else f"with epoch {start.epochs + 1}"
        console.out.print(f"{'Beginning' if starts == 1 else 'Going on'} {place}, on {many}.")

    return show


@contextlib.contextmanager
def _patient(show: training.OnStart, after_s: float = WAIT_S) -> Iterator[training.OnStart]:
    """Yield ``show``, and print ``WAITING`` from time to time until a worker has started."""
    begun = threading.Event()

    def wait() -> None:
        pause = after_s
        while not begun.wait(pause):
            console.out.print(WAITING, markup=False)
            pause *= 2

    def started(start: Start) -> None:
        begun.set()
        show(start)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield started
    finally:
        begun.set()


def _show(outcome: training.Outcome, folder: Path, storage: str | None, config: Config) -> None:
    """Print the final evaluation, warnings about incomplete splits, and the next commands."""
    console.out.print(_summary(outcome, folder, storage, config), markup=False)
    for warning in outcome.incomplete:
        _warn(warning)


def _warn(warning: str) -> None:
    console.say_error("warning:", warning)


def _summary(outcome: training.Outcome, folder: Path, storage: str | None, config: Config) -> str:
    lines = ["", progress.final_table(outcome.metrics), "", f"Checkpoint   {outcome.checkpoint}"]
    lines.append(f"All numbers  {folder / METRICS_FILE}")
    curves = shared_folder(folder, storage) if config.runtime.tensorboard else None
    lines += [f"Curves       {shlex.join(['tensorboard', '--logdir', str(curves)])}"] if curves else []
    return "\n".join([*lines, "", "Next:", *(f"  {shlex.join(words)}" for words in _next(outcome, config))])


def _next(outcome: training.Outcome, config: Config) -> list[list[str]]:
    """Return the next commands: an evaluation with intervals, and for H2O the submission files for its server."""
    evaluate = ["python", "-m", "htt.evaluate", "--checkpoint", str(outcome.checkpoint), "--split"]
    tested = any(name.startswith("test_") for name in outcome.metrics)
    validated = any(name in EVALUATED for name in outcome.metrics)
    commands = [[*evaluate, split] for split, there in ((VAL, validated), (TEST, tested)) if there]
    if config.data.source == "h2o" and config.data.root:
        checkpoint = ["--checkpoint", str(outcome.checkpoint)]
        commands.append(["python", "-m", "htt.submit", *checkpoint, "--data", config.data.root])
    return commands


if __name__ == "__main__":
    console.run(Options, main)
