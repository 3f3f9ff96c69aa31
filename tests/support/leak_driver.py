"""Script: a search whose trials are Ray Train runs, all but the first stopped early; reports what they leave.

Its words: how many trials, how many at once, and the file for what was found, as JSON.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from ray.util import placement_group_table
from ray.util.state import list_actors
from rich.console import Console

from cluster import connect
from fake_training import BASE, TRAINING
from tune.execution import progress
from tune.execution import search as search_execution
from tune.experiments.space import LogUniform, Space
from tune.experiments.spec import SearchSpec
from tune.searchers import warm_start

SPACE = Space({"optim.lr": LogUniform(1e-3, 1e0)}, base={**BASE, "optim.lr": 1e-3})
WORKERS, CPUS = 2, 0.5
"""Of each trial: 0.5 leaves room for two trials on two cores."""
OF_RAY = "_AutoscalingCoordinatorActor"
"""One of each Ray, for as long as it runs."""
LEAVE_S = 30.0
"""What a trial leaves may take so long to go."""


def points(count):
    """Return points each worse than all before it, so that the scheduler stops it after its first epoch."""
    return tuple(f"optim.lr={1e-3 * 1.1**place:.6g}" for place in range(count))


def held():
    """Return what this process holds: open files and sockets, and memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    handles = sorted(target for target in map(_target, Path("/proc/self/fd").iterdir()) if target)
    return {"handles": handles, "memory_mb": pages * os.sysconf("SC_PAGE_SIZE") / 2**20}


def _target(handle):
    """Return the target of a handle without socket numbers, or None if the handle was closed meanwhile."""
    try:
        return os.readlink(handle).partition(":[")[0]
    except FileNotFoundError:
        return None


def in_ray():
    """Return the actors and placement groups that are left."""
    actors = list_actors(filters=[("state", "!=", "DEAD")])
    groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    names = [actor.class_name for actor in actors if actor.class_name != OF_RAY]
    return {"actors": names, "groups": [group["state"] for group in groups]}


def watch(found):
    """Append to ``found`` what this process holds whenever a trial ends."""
    said = progress.Display.on_end

    def on_end(display, search, trial):
        said(display, search, trial)
        found.append({"trial": trial.number, "state": trial.state, "epochs": trial.epochs, **held()})

    progress.Display.on_end = on_end


def main(trials, concurrent, file):
    ended = []
    watch(ended)
    spec = SearchSpec(
        space="fake", name="run", trials=trials, workers_per_trial=WORKERS, cpus_per_worker=CPUS,
        max_concurrent=concurrent,
    ).over(SPACE, {"optim.step_epochs": 1000})  # fmt: skip
    spec = replace(spec, points=tuple(warm_start.points(points(trials), SPACE, spec.config())))
    with connect.connect(cpus=2):
        before = held()
        search_execution.run(spec, runs=Path(), training=TRAINING, show=Console(file=sys.stdout, width=200))
        deadline = time.monotonic() + LEAVE_S
        while any((left := in_ray()).values()) and time.monotonic() < deadline:
            time.sleep(0.2)
        after = held()
    file.write_text(json.dumps({"before": before, "after": after, "ended": ended, "left": left}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    os._exit(0)
