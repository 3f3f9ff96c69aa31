"""Training of one trial in a worker.

The worker is sent the run's base once and each trial's values, not its whole configuration, because Tune writes the
settings of every trial again and again: 2.4 kB of state for a trial with values, 6.8 kB with its configuration.
The requested resources select one of two functions, with the same training and the same numbers:

- ``train_in_process``: one worker, which is the Tune trial itself. Its process runs one trial after another, so starts
  are cheap.
- ``train_with_ray_train``: several workers in a Ray Train run that the trial starts and observes. The trial itself
  takes no CPU, as otherwise it could keep its own workers from starting.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune

from cluster.storage import join_uri, list_names
from htt.config import Config, from_plain, override
from htt.errors import DamagedCheckpointError, HTTError, StorageError, TrainingError, storage_errors
from htt.evaluation.metric_table import EVALUATED
from htt.parallel import use_assigned
from htt.training.older import NOTE, older
from tune.searchers.generator import ERROR_KIND

Report = Callable[["dict[str, float]", "Path | None"], None]
DRIVER = {"node:__internal_head__": 0.001}
"""Resources of a trial that only starts workers: a slot on the head node, no CPU."""
ERROR = "error"
"""Key of a result that holds the error that ended the trial."""
REPORTS = 120
"""Number of times that a trial reports a storage error, once a second, before it fails."""
REPORTED = "metrics"
"""Key of a checkpoint's metadata that holds the metrics reported with it."""


@dataclass(frozen=True)
class TrialFunctions:
    """Functions that a trial calls: the project's training, or stand-ins for it."""

    train: Callable[..., None]
    """``train(config, folder, report, resume)``, as in ``htt.training.tasks``."""
    trainer: Callable[..., Any]
    """``trainer(config, workers=, ...)``, as in ``cluster.trainer``."""
    prepare: Callable[[Config], Any]
    """``prepare(config)``, as ``prepare_search`` in ``htt.training.tasks``; a stand-in may return None."""


def project_functions() -> TrialFunctions:
    """Return the project's own training functions."""
    from cluster.trainer import trainer
    from htt.training.tasks import prepare_search, train

    return TrialFunctions(train, trainer, prepare_search)


@dataclass(frozen=True)
class Job:
    """Settings shared by all trials of a run, as plain data."""

    base: Mapping[str, Any]
    """Configuration that trials start from."""
    metric: str
    folder: str | None
    """Folder for TensorBoard files, a subfolder for each trial, or None for the trial's temporary folder."""
    storage: str
    """Location of the checkpoints of Ray Train runs."""
    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_trial: float = 0.0
    needed: Sequence[str] = ()
    """Metrics that a trial must report, including ``metric``."""

    @property
    def worker_resources(self) -> dict[str, float]:
        """Resources of one worker."""
        return {"CPU": self.cpus_per_worker, "GPU": self.gpus_per_trial / max(1, self.workers)}

    @property
    def alone(self) -> bool:
        """True if a trial is a single process."""
        return self.workers == 1

    def config(self, settings: Mapping[str, Any]) -> Config:
        """Return the configuration of a trial, given its Tune settings."""
        return override(from_plain(self.base, Config), settings["values"])


def trainable(job: Job, training: TrialFunctions) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune runs for each trial, with its resources."""
    train = train_in_process if job.alone else train_with_ray_train
    function = functools.partial(train, training, job)  # bound once, not in every trial
    function.__name__ = "alone" if job.alone else "group"  # type: ignore[attr-defined]  # as older runs' states name it
    taken = {name: amount for name, amount in job.worker_resources.items() if amount}
    needs: Callable[[dict[str, Any]], None] = ray.tune.with_resources(function, taken if job.alone else DRIVER)
    return needs


def train_in_process(training: TrialFunctions, job: Job, settings: dict[str, Any]) -> None:
    """Train in this process, from the trial's checkpoint if it has one."""
    use_assigned()
    free()
    checkpoint = ray.tune.get_checkpoint()
    with _errors_as_results(job) as seen:
        config = job.config(settings)

        def report(metrics: dict[str, float], saved: Path | None) -> None:
            if lacking := lacks(job, metrics):
                raise TrainingError(lacking)
            seen.update(metrics)
            kept = ray.tune.Checkpoint.from_directory(str(saved)) if saved else None
            if kept:
                kept.set_metadata({REPORTED: metrics})
            copied.update([saved] if saved else [])
            ray.tune.report({**metrics, **({NOTE: notes.pop()} if notes else {})}, checkpoint=kept)

        copied: set[Path] = set()
        notes: list[str] = []
        try:
            folder = _folder(job)
            checkpoint = _train_from_newest(
                lambda resume: training.train(config, folder, report, resume), checkpoint, folder, notes
            )
            if checkpoint and not seen:  # killed between writing its last checkpoint and Tune's record of it
                ray.tune.report(checkpoint.get_metadata()[REPORTED])
        finally:  # also when the scheduler stops the trial, which ends this thread within a report
            for saved in copied:
                shutil.rmtree(saved, ignore_errors=True)
    free()


def _train_from_newest(
    train: Callable[[Path | None], None], newest: ray.tune.Checkpoint | None, folder: Path, notes: list[str]
) -> ray.tune.Checkpoint | None:
    """Train from the newest whole checkpoint, or from the start if there is none; return the checkpoint used.

    ``notes`` receives a message if the newest checkpoint is damaged.
    """
    system = newest.filesystem if newest else None
    before = [ray.tune.Checkpoint(place, system) for place in older(newest.path, system)] if newest else []
    for kept in [*([newest, *before] if newest else []), None]:
        try:
            place = kept.as_directory() if kept else contextlib.nullcontext()
            with storage_errors(folder), place as resume:
                train(Path(resume) if resume else None)
            return kept
        except DamagedCheckpointError as error:
            if kept is None:
                raise
            notes[:] = [f"{kept.path} is not used: {error} The trial resumes from an older checkpoint or restarts."]
    return None


def train_with_ray_train(training: TrialFunctions, job: Job, settings: dict[str, Any]) -> None:
    """Start a Ray Train run and forward its reports; a retry has the same name and resumes its checkpoint."""
    import ray.train
    from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY

    from htt.training.worker import our_error

    name = train_name(ray.tune.get_context().get_trial_id())
    with _errors_as_results(job):
        config = job.config(settings)
        run = training.trainer(
            config,
            workers=job.workers,
            cpus_per_worker=job.cpus_per_worker,
            gpus_per_worker=job.worker_resources["GPU"],
            storage=job.storage,
            name=name,
            callbacks=[complete_reports(job)],
            folder=str(_folder(job)) if job.folder else None,
        )
        before = list_names(join_uri(job.storage, name))
        try:
            result = run.fit()
        except ray.train.TrainingFailedError as error:
            if ours := our_error(error):
                raise ours from error
            raise
        done_before = result.checkpoint and Path(result.checkpoint.path).name in before
        if done_before:  # and Tune had not received it
            ray.tune.report({**result.metrics, CHECKPOINT_PATH_KEY: result.checkpoint.path})


def complete_reports(job: Job) -> Any:
    """Return Ray's callback from a Ray Train run to Tune, which marks an epoch without a needed metric as failed.

    Tune ends the whole run if a result lacks the metric that it selects by.
    """
    from ray.tune.integration.ray_train import TuneReportCallback

    class Complete(TuneReportCallback):
        lacking: str | None = None

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            first = metrics[0]
            self.lacking = self.lacking or (lacks(job, first) if first else None)
            if self.lacking:  # also of every later epoch: the trial has failed
                first = {**first, job.metric: math.nan, ERROR: f"{TrainingError.__name__}: {self.lacking}"}
            super().after_report(run_context, [first, *metrics[1:]], checkpoint)

    return Complete()  # type: ignore[no-untyped-call]


def lacks(job: Job, metrics: Mapping[str, float]) -> str | None:
    """Return a description of the needed metrics that an epoch lacks, or None if it has all.

    Costs such as the latency are measured once a training and not needed in each epoch.
    """
    missing = [name for name in job.needed if name in EVALUATED and name not in metrics]
    if not missing:
        return None
    reported = ", ".join(name for name in EVALUATED if name in metrics) or "none"
    return f"Expected {' and '.join(missing)} in each epoch, because the run selects by it; got {reported}."


def train_name(trial_id: str) -> str:
    """Return the name of a trial's Ray Train run; a finished run returns its old result under its name."""
    return f"train-{trial_id}"


def free() -> None:
    """Free the memory of the previous trial, since one process runs many trials."""
    gc.collect()
    if gc.get_freeze_count() == 0:  # before the first trial: exclude imported objects from later collections
        gc.freeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # other C libraries have no malloc_trim
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def _errors_as_results(job: Job) -> Any:
    """Report an error that would only recur as the trial's last result, without a retry; other errors are retried."""
    seen: dict[str, float] = {}
    try:
        yield seen
    except HTTError as error:
        kind = type(error).__name__
        last = {"epoch": 0, job.metric: math.nan, **seen, ERROR: f"{kind}: {error}", ERROR_KIND: kind}
        if isinstance(error, StorageError):
            ray.tune.report(last)
            _report_until_stopped(last)
            raise
        ray.tune.report({**last, job.metric: math.nan})


def _report_until_stopped(last: dict[str, Any]) -> None:
    """Repeat the report until the driver ends the run and Tune stops this thread within a report.

    A resumed run then resumes this trial. If the driver does not end the run, the trial must fail.
    """
    for _ in range(REPORTS):
        time.sleep(1.0)
        ray.tune.report(last)


def _folder(job: Job) -> Path:
    """Return the folder that a trial may write to."""
    context = ray.tune.get_context()
    folder = Path(job.folder) / context.get_trial_id() if job.folder else Path(context.get_trial_dir())
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
