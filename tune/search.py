"""Search for the best configuration.

::

    python tune/search.py                                                 # the quick space, minutes on any laptop
    python tune/search.py --space paper --set data.root=/data/h2o --trials 64 --gpus-per-trial 0.5
    python tune/search.py --resume search-quick-20260101-120000 --time-budget 30m

With neither ``--trials`` nor ``--time-budget`` a search takes seven minutes from when the data are ready. With one of
them the other sets no limit.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # tune/ and cluster/ hold no top-level modules: the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import shlex
from dataclasses import dataclass, field

import tune.spaces
from htt import console, registry
from htt.config import parse_set
from htt.errors import RunError
from tune import question, report, runner, table
from tune.road import Outcome
from tune.storage import locate

DEFAULT_BUDGET = "7m"


@dataclass
class Options(console.Options):
    """Search for the best configuration of a space, and write it to runs/<name>/best.yaml."""

    space: str = "quick"
    """What to search: a module of tune/spaces."""
    set: console.Assignments = field(default_factory=list)
    """Fix a field, as in --set data.root=/data/h2o; repeat for more."""
    trials: int | None = None
    """Trials in all; none: as many as the time allows."""
    time_budget: str | None = None
    """Time from when the data are ready: 90s, 8m, 1h30m; none: 7m, or no limit where --trials is given."""
    max_concurrent: int | None = None
    """Trials at once; none: as many as fit on the machines."""
    seed: int = 0
    """Determines what is tried."""
    metric: str = question.METRIC
    """What to select by, on the validation split."""
    algorithm: str = "tpe"
    """Who chooses the next trial: tpe or random."""
    scheduler: str = "asha"
    """Who stops hopeless trials early: asha or none."""
    workers_per_trial: int = 1
    """Processes of a trial; several train it together by Ray Train."""
    cpus_per_worker: float = 1.0
    """Cores of each process, and its threads."""
    gpus_per_trial: float = 0.0
    """GPUs of a trial, over all its processes; 0.5 puts two trials on one."""
    storage: str | None = None
    """Folder or URI (s3://, gs://) all machines can write to; none: runs."""
    address: str | None = None
    """A Ray cluster to join ("auto" or host:port); none: this machine."""
    name: str | None = None
    """Name of the run; none: search-<space>-<date>-<time>."""
    resume: str | None = None
    """Go on with a run, by its name or folder: same question, more time or trials."""


def main(options: Options) -> None:
    """Search, and say what was found and what to type next."""
    search = resume(options) if options.resume else new(options)
    space = registry.load(tune.spaces, search.space).SPACE
    outcome = runner.run(search, space)
    if outcome.stopped == "interrupted":
        console.err.print(f"Stopped. Go on with: python tune/search.py --resume {report.shown(outcome.folder.path)}")
    finish(outcome, search)
    if outcome.stopped == "interrupted":
        sys.exit(130)


def new(options: Options) -> question.Search:
    """The search the options ask for."""
    return question.Search(
        space=options.space,
        assignments=parse_set(options.set),
        trials=options.trials,
        time_budget_s=budget(options),
        max_concurrent=options.max_concurrent,
        seed=options.seed,
        metric=options.metric,
        algorithm=options.algorithm,
        scheduler=options.scheduler,
        workers_per_trial=options.workers_per_trial,
        cpus_per_worker=options.cpus_per_worker,
        gpus_per_trial=options.gpus_per_trial,
        storage=options.storage,
        address=options.address,
        name=options.name,
        command=shlex.join(["python", *sys.argv]),
    )


def resume(options: Options) -> question.Search:
    """The search that goes on with a run."""
    if options.set or options.name:
        raise RunError("A run is resumed with the question it was asked; leave --set and --name out.")
    folder = locate(str(options.resume), options.storage)
    asked = folder.asked()
    return question.located(question.resumed(asked, new(options)), folder, asked)


def budget(options: Options) -> float | None:
    """Seconds, or no limit."""
    if options.time_budget is None and options.trials is not None:
        return None
    return question.parse_budget(options.time_budget or DEFAULT_BUDGET)


def finish(outcome: Outcome, search: question.Search) -> None:
    """Say what was found."""
    if outcome.best is None:
        return
    table.show(outcome.trials, search.metric, top=10)
    console.out.print(f"\nBest configuration  {report.shown(outcome.folder.best)}")
    console.out.print(f"Report              {report.shown(outcome.folder.report)}\n\nNext:")
    for command in report.next_commands(outcome.folder, found=True).splitlines():
        console.out.print(f"  {command}", markup=False)


if __name__ == "__main__":
    console.run(Options, main)
