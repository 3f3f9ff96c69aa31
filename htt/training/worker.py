"""The jobs of ``htt.training.tasks`` on Ray Train workers. This file is one of the two in ``htt`` that know Ray."""

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
from htt.training.messages import Start, Step, Telling
from htt.training.older import NOTE, older
from htt.training.saving import Saving
from htt.training.tasks import EvaluationJob, incomplete, metrics_of_test, open_splits

LOST_IN_A_ROW = 3
LOST_S = 120.0
"""A training that lost workers more often than that, and for longer, without having saved itself between, gives up. A
machine that dies takes up to half a minute to be missed, and until then workers may be started on it again."""


def train_loop(job: dict[str, Any]) -> dict[str, Any]:
    """``train_loop_per_worker`` of Ray Train: trains ``job["config"]``, a configuration as plain data.

    Reports every epoch with its checkpoint, and goes on from the last one after a failure. A ``job["ready"]`` is called
    first, and raises where the machine is not ready for a training. With a ``job["queue"]`` it is a final training:
    tells the queue of each ``Start`` and ``Step``, saves itself within epochs too, and evaluates
    the test split at its end. Gives {"epochs": the metrics of every epoch, also of those before a failure, "final":
    the last ones, with the test split's under ``test_...`` if the data have one, "incomplete": a sentence for each
    split that is not there as a whole}.

    Raises:
        RunError: the name of the run has the checkpoints of another configuration.
    """
    if ready := job.get("ready"):
        ready()
    config: Config = from_plain(job["config"])
    group = _group()
    queue: Any = job.get("queue")
    final = queue is not None  # an empty queue is false
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

        tell = Telling(functools.partial(_tell, queue)) if group.first else None
        saving = _saving(config, tell) if final else None
        model = fit(config, open_splits(config), report, folder=folder, group=group, resume=resume, saving=saving)
        tested = metrics_of_test(model, config, group) if final else {}
        lacking = incomplete(config) if final else []
    return {"epochs": epochs, "final": {**epochs[-1], **tested}, "incomplete": lacking}


def _progress(resume: Path, config: Config) -> checkpoints.Progress:
    """Where a training stands; Ray Train only knows that the checkpoint has the training's name."""
    kept = checkpoints.read(resume)
    if kept.config.fingerprint() != config.fingerprint():
        raise RunError(
            "A training goes on from its own checkpoints; those below its name in the storage are of configuration "
            f"{kept.config.fingerprint()}, and this is {config.fingerprint()}. Choose another --name or --storage."
        )
    return kept.progress


def _report(metrics: Mapping[str, Any], checkpoint: Path | None) -> None:
    kept = ray.train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None
    ray.train.report(dict(metrics), checkpoint=kept)


def _tell(queue: ray.util.queue.Queue, step: Step) -> None:
    with contextlib.suppress(ray.exceptions.RayError):  # nobody listens any more: no reason not to train
        queue.put(step)


def _saving(config: Config, tell: Telling | None) -> Saving:
    """Within epochs: now and then, and at once when the cloud says that it takes a machine back."""
    minutes = config.runtime.save_minutes
    every_s = minutes * 60 if minutes else None
    return Saving(functools.partial(_report, {}), Notices(), every_s=every_s, tell=tell)


class Notices:
    """Whether a machine of this training is about to go that was not when it was last asked.

    Every worker must ask as often as the others: they agree on the answer.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self) -> bool:
        """Ask Ray Train, which looks every five seconds for machines that are drained."""
        told = ray.train.get_preemption_info()
        going = set(told.preempted_node_ids) if told else set()
        new = not going <= self._known
        self._known |= going
        return new


def evaluate_loop(job: dict[str, Any]) -> Evaluation | None:
    """``train_loop_per_worker`` of Ray Train: the first worker gives the evaluation of ``job["evaluation"]``."""
    group = _group()
    evaluation: EvaluationJob = job["evaluation"]
    found = evaluation(group, job["queue"].put)
    return found if group.first else None


def evaluate_on_workers(
    job: EvaluationJob, done: Callable[[int], object], *, workers: int, gpus_per_worker: float | None, folder: Path
) -> Evaluation:
    """An evaluation on several Ray Train workers: what it would be on one.

    Args:
        job: what is to be evaluated.
        done: told, in this process, how many windows of a batch are done.
        workers: processes of one core each.
        gpus_per_worker: GPUs of each worker, fractions share one; none: one, where there are any.
        folder: that every worker's machine can write to; nothing stays there.

    Raises:
        HTTError: what went wrong on a worker, as it was raised there.
    """
    told: list[Any] = [GiveUp()]  # Ray's annotations name the callbacks of its older version
    with (
        parallel.ray_here(workers, train=True),
        listening(done) as queue,
        tempfile.TemporaryDirectory(dir=folder, prefix=".evaluating-") as scratch,
    ):
        trainer = torch_trainer(
            evaluate_loop,
            {"evaluation": job, "queue": queue},
            ray.train.RunConfig(name="evaluation", storage_path=str(Path(scratch).resolve()), callbacks=told),
            workers=workers,
            gpus_per_worker=parallel.gpus_there() if gpus_per_worker is None else gpus_per_worker,
        )
        try:
            with interruptible():
                result: Any = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise our_error(error) or stopped(error, "evaluation") from error
    found: Evaluation = result.return_value
    return found


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
    """A trainer that runs ``loop(job)`` on every worker: gloo on CPUs, nccl on GPUs.

    With ``least`` it starts as soon as that many workers have room, and goes on with more or fewer as machines come and
    go, each time from the last checkpoint; it looks for more room every ``resize_s`` seconds.
    """
    use_gpu = gpus_per_worker > 0
    scaling: dict[str, Any] = {  # Ray's annotations name the class of its older version
        "num_workers": workers if least is None else (least, workers),
        "use_gpu": use_gpu,
        "resources_per_worker": {"CPU": cpus_per_worker, **({"GPU": gpus_per_worker} if use_gpu else {})},
        "elastic_resize_monitor_interval_s": resize_s,
    }
    return ray.train.torch.TorchTrainer(
        loop,  # what it returns comes back as the result's return_value
        train_loop_config=job,
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(**scaling),
        run_config=run,
    )


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C be a ``KeyboardInterrupt`` around ``trainer.fit()``, and after it as before.

    Ray Train answers it by a ``SystemExit`` of code 0, having stopped the workers, and listens on when it has ended.
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
    """Ends a run at once for an error that would only repeat itself, and where lost workers are all that happens."""

    def __init__(self) -> None:
        self._lost = 0
        self._since = 0.0

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:  # noqa: ARG002
        """Called by Ray Train, on the controller: the training got somewhere."""
        self._lost = 0

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train, on the controller; what it raises ends the run."""
        for error in worker_exceptions.values():
            if ours := our_error(error):
                raise ours
        self._lost += 1
        self._since = self._since if self._lost > 1 else time.monotonic()
        if self._lost > LOST_IN_A_ROW and time.monotonic() - self._since > LOST_S:
            why = _last_word(next(iter(worker_exceptions.values())))
            raise TrainingError(f"The training lost workers {self._lost} times in a row. The last one said: {why}")


def our_error(error: BaseException) -> HTTError | None:
    """The error of the project behind one of Ray's, if there is one."""
    behind = chain(error, "_base_exc", "cause", "controller_failure", "worker_failures")
    return next((each for each in behind if isinstance(each, HTTError)), None)


def stopped(error: Exception, what: str) -> TrainingError:
    """An error of Ray Train's that is none of the project's, in a sentence."""
    return TrainingError(f"The {what} stopped: {_last_word(error)} (--debug shows all of it)")


def _last_word(error: BaseException) -> str:
    """Its last line; of a lack of memory a sentence."""
    said = f"{type(error).__name__}: {error}"
    return parallel.out_of_memory(said) or (str(error).strip().splitlines() or [type(error).__name__])[-1]


@contextlib.contextmanager
def listening(take: Callable[[Any], object]) -> Iterator[ray.util.queue.Queue]:
    """A queue for workers and controllers anywhere; what they put there, ``take`` is called with in this process.

    It lives on this machine: on another it could be lost with that one. What is put there is plain data, or the
    queue's process would import what the data are made of, torch for one, while the workers wait for a core.

    Raises:
        Exception: the first that ``take`` raised, at the end of the block: what trains does not wait for who listens.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = ray.util.queue.Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    errors: list[Exception] = []

    def listen() -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # the queue is gone: what ended it is what counts
            while (told := queue.get()) is not None:
                try:
                    take(told)
                except Exception as error:  # in a thread, nobody would hear of it
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
    """This Ray Train worker and the others, with as many threads as it was given cores."""
    parallel.use_given()
    context = ray.train.get_context()
    return Group(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())


def _resume(scratch: Path, group: Group, *, final: bool) -> tuple[Path | None, str]:
    """Fetch the newest checkpoint that is whole, the same on every worker; gives its folder, and what is to be said.

    Args:
        scratch: where to fetch it.
        group: this worker and the others.
        final: whether a training that has no whole checkpoint is an error; a trial then begins anew.

    Raises:
        CheckpointError: there are checkpoints, and not one is whole.
    """
    newest = ray.train.get_checkpoint()
    if newest is None:
        return None, ""
    faults: list[str] = []
    places = [newest.path, *older(newest.path, newest.filesystem)]
    for number, place in enumerate(places):
        fetched = scratch / f"resume-{number}"
        fault = _fault(ray.train.Checkpoint(place, newest.filesystem), fetched)
        if not group.sum(torch.tensor([float(fault is not None)])).item():
            note = f"{'; '.join(faults)}. The training goes on from {place}." if faults else ""
            return fetched, note
        faults.append(f"{place} is damaged: {fault or 'another worker cannot read it'}")
    folder = newest.path.rpartition("/")[0]
    if final:
        raise CheckpointError(
            f"A training goes on from a whole checkpoint; none of the {len(places)} in {folder} is. "
            f"{'; '.join(faults)}. Train anew under another --name, or remove {folder} and --resume: that begins anew."
        )
    return None, f"{'; '.join(faults)}. The training begins anew."


def _fault(checkpoint: ray.train.Checkpoint, folder: Path) -> str | None:
    """Fetch a checkpoint; gives why it cannot be used, if it cannot."""
    try:
        checkpoints.verify(checkpoint.to_directory(str(folder)))
    except CheckpointError as error:
        return str(error).replace(str(folder), checkpoint.path)
    return None
