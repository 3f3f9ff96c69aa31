"""Tasks of ``htt.training.tasks`` on Ray Train workers."""

from __future__ import annotations

import contextlib
import functools
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray.exceptions
import ray.train
import ray.train.torch
import ray.util.queue
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from htt import parallel
from htt.config import Config, from_plain
from htt.errors import CheckpointError, HTTError, RunError, TrainingError, chain
from htt.evaluation.metrics import Evaluation
from htt.group import Group
from htt.training import checkpoint as checkpoints
from htt.training.loop import fit
from htt.training.messages import Start, Step, StepReporter
from htt.training.older import NOTE, older
from htt.training.saving import Saving
from htt.training.tasks import EvaluationJob, incomplete, metrics_of_test, open_splits

LOST_IN_A_ROW = 3
LOST_S = 120.0
"""A training gives up after more than ``LOST_IN_A_ROW`` lost workers in more than this time, s, without a checkpoint in
between. A dead machine is noticed after up to half a minute, and until then workers may be started on it again."""


def train_loop(job: dict[str, Any]) -> dict[str, Any]:
    """Train ``job["config"]``, a configuration as plain data; the ``train_loop_per_worker`` of Ray Train.

    Reports every epoch with its checkpoint, and resumes from the last one after a failure. ``job["ready"]``, if given,
    is called first and raises if the machine is not ready for a training. With ``job["queue"]`` it is a final training:
    it puts ``Start`` and ``Step`` messages into the queue, also saves within epochs, and evaluates the test split at
    its end.

    Returns:
        {"epochs": metrics of every epoch, including those before a failure, "final": the last metrics, with the test
        split's under ``test_...`` if the data have one, "incomplete": a sentence for each incomplete split}

    Raises:
        RunError: the checkpoints under the run's name are of another configuration.
    """
    if ready := job.get("ready"):
        ready()
    config: Config = from_plain(job["config"])
    group = _group()
    queue: Any = job.get("queue")
    final = queue is not None  # not its truth value: an empty queue is false
    with tempfile.TemporaryDirectory(prefix="htt-") as scratch:
        resume, note = _resume(Path(scratch), group, final=final)
        folder = Path(job.get("folder") or scratch)
        progress = _progress(resume, config) if resume else checkpoints.Progress(0)
        epochs = list(progress.extra.get("epochs", []))
        if final and group.first:
            queue.put(Start(len(epochs), progress.cursor, group.size, note))
            note = ""

        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            nonlocal note
            epochs.append(metrics)
            _report({**metrics, NOTE: note} if note else metrics, checkpoint)
            note = ""

        on_step = StepReporter(functools.partial(_send, queue)) if group.first else None
        saving = _saving(config, on_step) if final else None
        model = fit(config, open_splits(config), report, folder=folder, group=group, resume=resume, saving=saving)
        tested = metrics_of_test(model, config, group) if final else {}
        lacking = incomplete(config) if final else []
    return {"epochs": epochs, "final": {**epochs[-1], **tested}, "incomplete": lacking}


def _progress(resume: Path, config: Config) -> checkpoints.Progress:
    """Return the progress of a checkpoint, or raise ``RunError`` if it is of another configuration.

    Ray Train compares only the names of trainings.
    """
    saved = checkpoints.read(resume)
    if saved.config.fingerprint() != config.fingerprint():
        raise RunError(
            "Cannot resume: the checkpoints of this name in the storage are of configuration "
            f"{saved.config.fingerprint()}, this training has {config.fingerprint()}. Choose another --name "
            "or --storage."
        )
    return saved.progress


def _report(metrics: Mapping[str, Any], checkpoint: Path | None) -> None:
    saved = ray.train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None
    ray.train.report(dict(metrics), checkpoint=saved)


def _send(queue: ray.util.queue.Queue, step: Step) -> None:
    with contextlib.suppress(ray.exceptions.RayError):  # the driver is gone, and training continues without it
        queue.put(step)


def _saving(config: Config, on_step: StepReporter | None) -> Saving:
    """Return the schedule of checkpoints within epochs: at an interval, and before a preemption."""
    minutes = config.runtime.save_minutes
    every_s = minutes * 60 if minutes else None
    return Saving(functools.partial(_report, {}), PreemptionNotices(), every_s=every_s, on_step=on_step)


class PreemptionNotices:
    """Detector of newly announced preemptions of this training's nodes.

    Every worker must call it as often as the others, because they use the answer together.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self) -> bool:
        """Return True once per newly announced preemption; Ray Train looks for draining nodes every five seconds."""
        info = ray.train.get_preemption_info()
        going = set(info.preempted_node_ids) if info else set()
        new = not going <= self._known
        self._known |= going
        return new


def evaluate_loop(job: dict[str, Any]) -> Evaluation | None:
    """Evaluate ``job["evaluation"]``, and return the evaluation on the first worker, None on the others."""
    group = _group()
    evaluation: EvaluationJob = job["evaluation"]
    result = evaluation(group, job["queue"].put)
    return result if group.first else None


def evaluate_on_workers(
    job: EvaluationJob, done: Callable[[int], object], *, workers: int, gpus_per_worker: float | None, folder: Path
) -> Evaluation:
    """Evaluate on several Ray Train workers; the result equals that of one worker.

    Args:
        job: evaluation to run.
        done: callback in this process that gets the number of windows of each finished batch.
        workers: number of processes, with one core each.
        gpus_per_worker: GPUs of each worker, a fraction to share one, or None for one if there are any.
        folder: folder that every worker's machine can write to; nothing is left in it.

    Raises:
        HTTError: an error of a worker, as it was raised there.
    """
    callbacks: list[Any] = [GiveUp()]  # Ray's annotations name the callbacks of its older version
    with (
        parallel.ray_here(workers, train=True),
        listening(done) as queue,
        tempfile.TemporaryDirectory(dir=folder, prefix=".evaluating-") as scratch,
    ):
        trainer = torch_trainer(
            evaluate_loop,
            {"evaluation": job, "queue": queue},
            ray.train.RunConfig(name="evaluation", storage_path=str(Path(scratch).resolve()), callbacks=callbacks),
            workers=workers,
            gpus_per_worker=parallel.gpus_per_worker() if gpus_per_worker is None else gpus_per_worker,
        )
        try:
            with interruptible():
                result: Any = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise our_error(error) or stopped(error, "evaluation") from error
    evaluation: Evaluation = result.return_value
    return evaluation


def torch_trainer(
    loop: Callable[[dict[str, Any]], Any],
    job: dict[str, Any],
    run: ray.train.RunConfig,
    *,
    workers: int,
    least: int | None = None,
    resize_s: float = 60.0,
    cpus_per_worker: float = 1.0,
    gpus_per_worker: float = 0.0,
) -> ray.train.torch.TorchTrainer:
    """Return a Ray Train trainer that runs ``loop(job)`` on every worker: nccl with whole GPUs, else gloo.

    NCCL refuses two workers on one GPU.

    With ``least`` it starts as soon as that many workers fit, and continues with more or fewer as machines come and go,
    each time from the last checkpoint; it looks for more room every ``resize_s`` seconds.
    """
    use_gpu = gpus_per_worker > 0
    scaling: dict[str, Any] = {  # Ray's annotations name the class of its older version
        "num_workers": workers if least is None else (least, workers),
        "use_gpu": use_gpu,
        "resources_per_worker": {"CPU": cpus_per_worker, **({"GPU": gpus_per_worker} if use_gpu else {})},
        "elastic_resize_monitor_interval_s": resize_s,
    }
    return ray.train.torch.TorchTrainer(
        loop,  # its return value becomes the result's return_value
        train_loop_config=job,
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if gpus_per_worker >= 1 else "gloo"),
        scaling_config=ray.train.ScalingConfig(**scaling),
        run_config=run,
    )


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` on Ctrl-C during ``trainer.fit()``, and restore the signal handler afterwards.

    On Ctrl-C Ray Train stops the workers and raises ``SystemExit`` with code 0; it leaves its handler installed.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


class GiveUp(ray.train.UserCallback):
    """Ray Train callback that ends a run on an error that would repeat itself, or after too many lost workers."""

    def __init__(self) -> None:
        self._lost = 0
        self._since = 0.0

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:  # noqa: ARG002
        """Reset the count of lost workers; called by Ray Train on the controller."""
        self._lost = 0

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:  # noqa: ARG002
        """Raise an error that ends the run, if it must end; called by Ray Train on the controller."""
        for error in worker_exceptions.values():
            if ours := our_error(error):
                raise ours
        self._lost += 1
        self._since = self._since if self._lost > 1 else time.monotonic()
        if self._lost > LOST_IN_A_ROW and time.monotonic() - self._since > LOST_S:
            line = _last_line(next(iter(worker_exceptions.values())))
            raise TrainingError(f"The training lost workers {self._lost} times in a row. Last error: {line}")


def our_error(error: BaseException) -> HTTError | None:
    """Return the project's error behind an error of Ray, or None."""
    behind = chain(error, "_base_exc", "cause", "controller_failure", "worker_failures")
    return next((each for each in behind if isinstance(each, HTTError)), None)


def stopped(error: Exception, task: str) -> TrainingError:
    """Return a ``TrainingError`` for an error of Ray Train that has no error of the project behind it."""
    return TrainingError(f"The {task} failed: {_last_line(error)} (--debug shows the traceback)")


def _last_line(error: BaseException) -> str:
    """Return the last line of an error, or a sentence if Ray ran out of memory."""
    text = f"{type(error).__name__}: {error}"
    return parallel.out_of_memory(text) or (str(error).strip().splitlines() or [type(error).__name__])[-1]


@contextlib.contextmanager
def listening(take: Callable[[Any], object]) -> Iterator[ray.util.queue.Queue]:
    """Yield a queue for workers and controllers on any machine; ``take`` is called here with each item.

    The queue lives on this machine, because it would be lost with another one. Items must be plain data; otherwise the
    queue's process would import their modules, such as torch, while the workers wait for a core.

    Raises:
        Exception: the first error of ``take``, raised at the end of the block, because workers do not wait for
            ``take``.
    """
    this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = ray.util.queue.Queue(actor_options={"num_cpus": 0, "scheduling_strategy": this_node})
    errors: list[Exception] = []

    def listen() -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # the queue is gone; its reason is reported elsewhere
            while (message := queue.get()) is not None:
                try:
                    take(message)
                except Exception as error:  # an error in a thread would be lost
                    errors.append(error)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield queue
    finally:
        with contextlib.suppress(ray.exceptions.RayError):  # as above
            queue.put(None)
        listener.join(timeout=10)
        queue.shutdown(force=True)
    if errors:
        raise errors[0]


def _group() -> Group:
    """Return the group of Ray Train workers, and use as many threads as this worker has cores."""
    parallel.use_assigned()
    context = ray.train.get_context()
    return Group(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())


def _resume(scratch: Path, group: Group, *, final: bool) -> tuple[Path | None, str]:
    """Fetch the newest complete checkpoint, the same on every worker; return its folder and a note for the user.

    Args:
        scratch: folder for the fetched checkpoints.
        group: this worker and the others.
        final: whether it is an error if no checkpoint is complete; a trial restarts from scratch instead.

    Raises:
        CheckpointError: there are checkpoints, and none is complete.
    """
    newest = ray.train.get_checkpoint()
    if newest is None:
        return None, ""
    faults: list[str] = []
    paths = [newest.path, *older(newest.path, newest.filesystem)]
    for number, path in enumerate(paths):
        fetched = scratch / f"resume-{number}"
        fault = _fault(ray.train.Checkpoint(path, newest.filesystem), fetched)
        if not group.sum(torch.tensor([float(fault is not None)])).item():
            note = f"{'; '.join(faults)}. The training resumes from {path}." if faults else ""
            return fetched, note
        faults.append((fault or f"Another worker cannot read {path}").rstrip("."))
    folder = newest.path.rpartition("/")[0]
    if final:
        raise CheckpointError(
            f"Cannot resume: none of the {len(paths)} checkpoints in {folder} is usable. {'; '.join(faults)}. Start "
            f"again under another --name, or remove {folder} and use --resume to start from scratch."
        )
    return None, f"{'; '.join(faults)}. The training starts from scratch."


def _fault(checkpoint: ray.train.Checkpoint, folder: Path) -> str | None:
    """Fetch a checkpoint, and return why it cannot be used, or None if it can."""
    try:
        checkpoints.verify(checkpoint.to_directory(str(folder)))
    except CheckpointError as error:
        return str(error).replace(str(folder), checkpoint.path)
    return None
