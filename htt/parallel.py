"""One ``map`` over independent items, on all cores or all machines, with progress on the screen.

Rendering and converting are such maps. Results come in the order of their items whatever the number of workers, and
only so many are under way that memory stays small. The tasks run on Ray: the one that is running, or a quiet local one
for the time of the call. A single worker needs no Ray at all. This file is one of the two in ``htt`` that know Ray.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

from htt import console

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 3
"""Tasks under way for each worker: enough that none waits, few enough that results stay small."""

LINE_EVERY_S = 15.0
"""Where the output is no terminal, a line says so often how far it is."""


def map(  # noqa: A001 - used as parallel.map, it is what the builtin is
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    unit: str,
    workers: int | None = None,
    amount: Callable[[Result], int] | None = None,
    of: str = "",
    done: int = 0,
) -> Generator[Result, None, None]:
    """``function(item)`` of each item, in order.

    Args:
        function: pickles, and uses one thread.
        items: pickle.
        title: of the progress line, such as "Rendering the benchmark".
        unit: what the items are, such as "clips".
        workers: how many tasks run at once; None: as many as there are cores, or one
            inside a Ray task. 1: in this process, without Ray.
        amount: how much a result is; the progress line shows its rate.
        of: what ``amount`` counts, such as "frames".
        done: items that were finished earlier; they count in the progress line.

    Raises:
        Exception: what ``function`` raised, as it raised it.
    """
    count = min(workers or _cores(), max(1, len(items)))
    results = _in_process(function, items) if count == 1 else _on_ray(function, items, count)
    started, total = time.monotonic(), 0
    said = started
    with contextlib.closing(results), console.progress(unit) as progress:
        task = progress.add_task(title, total=done + len(items), completed=done, note="")
        for result in results:
            note = ""
            if amount:
                total += amount(result)
                note = f"{total / max(time.monotonic() - started, 1e-3):,.0f} {of}/s"
            progress.update(task, advance=1, note=note)
            if not console.out.is_terminal and time.monotonic() - said > LINE_EVERY_S:
                said = time.monotonic()
                console.out.print(f"{title}: {progress.tasks[task].completed:.0f}/{done + len(items)} {unit} {note}")
            yield result


def _in_process(function: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
    for item in items:
        yield function(item)


def _on_ray(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result, None, None]:
    import ray
    import ray.exceptions

    def run(item: Item) -> Result:
        return function(item)

    with _ray_running(ray, workers):
        task = ray.remote(num_cpus=1)(run)
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(task.remote(item))
                if len(waiting) >= AHEAD * workers:
                    yield ray.get(waiting.popleft())
            while waiting:
                yield ray.get(waiting.popleft())
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        finally:
            for left in waiting:
                ray.cancel(left)


@contextlib.contextmanager
def _ray_running(ray: Any, workers: int) -> Iterator[None]:
    """The Ray that is running, or a quiet one of this process alone, stopped at the end."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns of a coming default
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()


def _cores() -> int:
    """How many tasks can run at once: on the running Ray, or on the cores this process may use."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        context = ray.get_runtime_context()
        if context.get_actor_id() or context.get_task_id():
            return 1  # a task that waits for tasks keeps the cores they need
        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_given_cpus() -> int:
    """Compute with as many threads as CPUs Ray gave this worker, and say how many.

    Idle OpenMP threads spin: two on one busy core cost most of its speed.
    """
    import ray

    context: Any = ray.get_runtime_context()
    given = context.get_assigned_resources().get("CPU", 1.0)
    threads = max(1, int(given))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    return threads
