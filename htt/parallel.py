"""Parallel ``map`` over independent items, on all cores or all machines, with progress on the screen.

It is used to render and convert data. Results come in the order of their items for any number of workers, and the
number of tasks under way is limited to keep memory small. The tasks run on Ray: on the running one, on that of the job
this process was submitted as, or on a local one for the time of the call. A single worker needs no Ray.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import signal
import socket
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from htt import console, driver_log, heartbeat, ray_folder, token_file
from htt.cores import cores
from htt.errors import ClusterError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 3
"""Tasks under way per worker: enough that none waits, few enough that results stay small."""

LOW_MEMORY = ("OutOfMemoryError", "running low on memory", "out-of-memory")
"""Parts of Ray's messages about a worker killed for lack of memory."""

LOOPBACK = "127.0.0.1"

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}
"""Settings of a Ray started here: no output, and a Train run ends with its workers, not two seconds later."""
KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "30000")
"""Setting of torch's library for CPUs: number of kernels it keeps. Numbers of frames differ from step to step, and each
needs its own kernels; with the library's 1,024, small networks train 10 to 14 % more slowly."""
METRICS = "RAY_enable_metrics_collection"
"""Environment variable of Ray's metrics, which Ray serves on all addresses of the machine; off unless set to 1."""


@dataclass(frozen=True)
class Amount:
    """Unit of work for items that differ in size, for the rate and the time left."""

    unit: str
    """Unit, such as "frames"."""
    expected: Callable[[Any], int]
    """Expected amount of an item."""
    actual: Callable[[Any], int]
    """Actual amount of a result; less than expected if something is missing."""
    expected_before: int = 0
    """Expected amount of the items finished earlier."""
    actual_before: int = 0
    """Actual amount of the items finished earlier."""


def map(  # noqa: A001 - used as parallel.map, it is what the builtin is
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    unit: str,
    workers: int | None = None,
    amount: Amount | None = None,
    done: int = 0,
    gpus: bool = False,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item, in order.

    Args:
        function: picklable function that uses one thread.
        items: picklable items.
        title: title of the progress line, such as "Rendering the benchmark".
        unit: unit of the items, such as "clips".
        workers: number of tasks at once, or None for one per core, on all machines of a job; inside a Ray task, None
            means one. With 1, items run in this process, without Ray.
        amount: unit of work, or None to count items.
        done: number of items finished earlier; they count as done, but not in the rate.
        gpus: True to give each task a GPU, if there are any.

    Raises:
        Exception: the error of ``function``, unchanged.
    """
    with contextlib.ExitStack() as stack:
        if len(items) > 1 and workers != 1 and (in_job() or (workers or _cores()) > 1):
            stack.enter_context(ray_here(workers))
            count = min(workers or _cores(), len(items))
        else:
            count = 1
        results = _in_process(function, items) if count == 1 else _on_ray(function, items, count, gpus)
        stack.enter_context(contextlib.closing(results))
        shown = stack.enter_context(_counting(title, unit, items, amount, done))
        for index, (item, result) in enumerate(zip(items, results, strict=True), start=done + 1):
            if amount is not None:
                note = f"{index:,}/{done + len(items):,} {unit}"
                shown.advance(amount.expected(item), amount.actual(result), note)
            else:
                shown.advance(1)
            yield result


def _counting(title: str, unit: str, items: Sequence[Item], amount: Amount | None, done: int) -> console.Counting:
    if amount is None:
        return console.Counting(title, done + len(items), unit, done=done, found=done)
    total = amount.expected_before + sum(amount.expected(item) for item in items)
    return console.Counting(title, total, amount.unit, done=amount.expected_before, found=amount.actual_before)


def _in_process(function: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
    for item in items:
        yield function(item)


def _on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, gpus: bool
) -> Generator[Result, None, None]:
    import ray
    import ray.exceptions

    def run(item: Item) -> Result:
        return function(item)

    task = ray.remote(num_cpus=1, num_gpus=gpus_per_worker() if gpus else 0)(run)
    ahead = workers if workers < _cores() else AHEAD * workers  # a Ray with more cores must not use them all
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(task.remote(item))
            if len(waiting) >= ahead:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:  # Ray has already retried
        text = f"{type(error).__name__}: {error}"
        raise ClusterError(out_of_memory(text) or f"Ray lost a worker: {first_line(error)}") from error
    finally:
        for left in waiting:
            ray.cancel(left)


def in_job() -> bool:
    """Return whether this process was submitted as a Ray job, whose cluster is then used."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextlib.contextmanager
def ray_here(workers: int | None = None, *, train: bool = False) -> Iterator[None]:
    """Yield within a Ray: the running one, that of this job, or a local one for the ``with`` block.

    A Ray that ran before is left running; a local one ends with the block.

    Args:
        workers: CPUs of a local Ray, or None for one per core.
        train: whether Ray Train will run in it. Its workers check one another through Ray's dashboard; without a
            dashboard they could ask that of another Ray on this machine, and count as lost.

    Raises:
        ClusterError: no Ray can be started here.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    before = dict(os.environ)
    with driver_log.off_screen(), contextlib.nullcontext() if in_job() else ray_folder.own() as folder:
        options = {"address": "auto"} if in_job() else {"_temp_dir": folder, **local(workers or _cores(), train=train)}
        try:
            try:
                init(options)
            except Exception as error:  # Ray raises a bare Exception if it starts too slowly
                raise cannot_start(error) from error
            with heartbeat.watched(started=not in_job()):
                yield
        finally:
            ray.shutdown()
            restore(before, SETTINGS)


def local(cpus: int, *, train: bool) -> dict[str, Any]:
    """Return the options of ``ray.init`` for a local Ray; its settings go to the environment. See ``ray_here``."""
    token_file.ensure()
    os.environ.update(SETTINGS)
    os.environ.setdefault(METRICS, "0")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    options: dict[str, Any] = {"address": "local", "num_cpus": cpus, "include_dashboard": train}
    if train:
        port = free_port()
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://{LOOPBACK}:{port}"  # inherited by all its processes
        options |= {"dashboard_host": LOOPBACK, "dashboard_port": port}
    return options


def init(options: Mapping[str, Any]) -> None:
    """Call ``ray.init`` with options, without output of Ray; signal handlers are restored."""
    import ray

    hush()
    ends = signal.getsignal(signal.SIGTERM)
    # Ray's processes inherit the mask: they must survive signals that SLURM or a closing terminal sends to all.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGHUP})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(log_to_driver=False, logging_level=logging.INFO, **options)  # see driver_log.off_screen
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if callable(ends) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)


def cannot_start(error: Exception) -> ClusterError:
    """Return the error for a machine on which no Ray can start."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = f" {ray_folder.FULL}" if full else ""
    return ClusterError(f"Cannot start Ray on this machine: {first_line(error)}{remedy}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error, or its class name."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def out_of_memory(text: str) -> str | None:
    """Return a sentence if Ray's message is about a worker killed for lack of memory, or None."""
    if not any(mark in text for mark in LOW_MEMORY):
        return None
    amount = re.search(r"(\S+) used / (\S+) limit", text)
    used = f" ({amount[1]} of {amount[2]} in use)" if amount else ""
    return (
        f"Out of memory{used}: Ray ended a process. Run fewer at once (--max-concurrent, --workers), or lower "
        "train.batch_size or the size of the model."
    )


def free_port() -> int:
    """Return a port of this machine that is not in use."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def hush() -> None:
    """Stop Ray from printing its machines' messages on this process's output, independent of its log settings."""
    with contextlib.suppress(ImportError):
        from ray._private import ray_logging

        ray_logging.stdout_deduplicator.skip_re = re.compile("")
        ray_logging.stderr_deduplicator.skip_re = re.compile("")


def restore(before: Mapping[str, str], settings: Iterable[str]) -> None:
    """Undo the changes to the environment made for a Ray: ``settings``, addresses, tokens, code."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "PYTHONPATH", METRICS, token_file.MODE, token_file.TOKEN)
    for name in (*settings, *names):
        os.environ.pop(name, None)
        if name in before:
            os.environ[name] = before[name]


def _cores() -> int:
    """Return the number of tasks that can run at once: on the running Ray, or on the cores of this process."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        context = ray.get_runtime_context()
        if context.get_actor_id() or context.get_task_id():
            return 1  # a task that waits for tasks keeps the cores they need
        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return cores()


def gpus_per_worker() -> float:
    """Return the GPUs for each worker of the running Ray: one, if it has any."""
    import ray

    resources: Any = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return float(resources.get("GPU", 0) > 0)


def use_assigned() -> int:
    """Set the threads and GPUs of this worker to what Ray gave it, and return the number of threads.

    Idle OpenMP threads spin: two on one busy core cost most of its speed. Ray hides no GPU from workers without one;
    without this, all of them would use the first GPU.
    """
    import ray

    context: Any = ray.get_runtime_context()
    given = context.get_assigned_resources()
    threads = max(1, int(given.get("CPU", 1.0)))
    if not given.get("GPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault(*KERNELS)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    return threads
