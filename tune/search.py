"""Command that searches a space for the best configuration.

::

    python tune/search.py                                                 # the quick space, minutes on any laptop
    python tune/search.py --space paper --set data.source=h2o --set data.root=/data/h2o-shards --trials 64
    python tune/search.py --objective hand_error_mm --objective latency_ms --constraint 'parameters<=1e6'
    python tune/search.py --warm-start search-quick-20260101-120000 --point 'optim.lr=1e-3 model.pose.window=8'
    python tune/search.py --resume search-quick-20260101-120000 --time-budget 30m

Without ``--trials`` and ``--time-budget``, a new search runs for seven minutes from when the data are ready, and a
resumed search keeps its original limits, with its whole time budget again. If only one of the two is given, the other
sets no limit.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # top-level modules are in the project's root, not in tune/ or cluster/
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from htt import console  # before the slow imports

    console.say_later()

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

import tune.experiments.spaces
from htt import console, registry
from htt.config import parse_set
from htt.errors import ConfigError, RunError
from tune.experiments import constraints, spec
from tune.experiments.machines import MachineOptions, Machines
from tune.experiments.space import Space
from tune.reports import report, trial_table
from tune.results import run_record
from tune.results.run_folder import RunFolder
from tune.results.sync import locate

if TYPE_CHECKING:
    from tune.execution.experiment import Outcome

DEFAULT_BUDGET = "7m"
Several = Annotated[list[str], tyro.conf.UseAppendAction]
"""Type of an option that can be repeated."""


@dataclass
class Options(console.Options):
    """Search for the best configuration of a space, and write it to runs/<name>/best.yaml."""

    space: console.Word = None
    """What to search: a module of tune/experiments/spaces (default: quick)."""
    set: console.Assignments = field(default_factory=list)
    """Fix a field, as in --set data.root=/data/h2o; repeat for more."""
    trials: console.Count = None
    """Trials in all, those before --resume included (default: as many as the time allows)."""
    time_budget: console.Word = None
    """Time from when the data are ready: 90s, 8m, 1h30m (default: 7m, or no limit where --trials is given). With
    --resume and neither of the two: both as the run began."""
    seed: console.Count = None
    """Determines what is tried (default: 0)."""
    metric: console.Word = None
    """What to select by, on the validation split (default: hand_error_mm)."""
    objective: Annotated[Several, tyro.conf.arg(metavar="METRIC")] = field(default_factory=list)
    """Instead of --metric: make several metrics good at once; repeat it. The scheduler watches the first one, and may
    stop a trial that is good in another: --scheduler none stops none."""
    pick: console.Word = None
    """Which trial of their Pareto front is the best: knee (nearest to the ideal point), first (best in the first
    objective), or the best in the first with a bound, as in 'latency_ms<=30' (default: knee)."""
    constraint: Annotated[Several, tyro.conf.arg(metavar="METRIC<=NUMBER")] = field(default_factory=list)
    """What the best trial must keep, as in 'parameters<=2e6'; repeat for more."""
    warm_start: Annotated[Several, tyro.conf.arg(metavar="RUN")] = field(default_factory=list)
    """Begin with the finished trials of an earlier run that fit this search, its best ones among the trials of this
    one; repeat for more."""
    share_any: bool = False
    """Also begin with trials that other code or other libraries trained, and go on with a run of other code; the report
    says which numbers these are."""
    point: Annotated[Several, tyro.conf.arg(metavar="FILE|PATH=VALUE ...")] = field(default_factory=list)
    """Try this first: a best.yaml, or 'optim.lr=1e-3 model.pose.window=8'; repeat for more."""
    algorithm: console.Word = None
    """Who chooses the next trial: tpe or random (default: tpe)."""
    scheduler: console.Word = None
    """Who stops hopeless trials early: asha, or the word none (default: asha)."""
    name: console.Word = None
    """Name of the run (default: search-<space>-<date>-<time>)."""
    resume: console.Word = None
    """Go on with a run, by its name or folder: same question and machines of a trial, its own limits or others."""
    machines: MachineOptions = field(default_factory=Machines)


RECORDED = ("space", "seed", "pick", "algorithm", "scheduler")
"""Options whose defaults are those of ``tune.experiments.spec.Search``."""


def main(options: Options) -> None:
    """Run the search, then print the best trials and suggested next commands."""
    from tune.execution.search import run  # imported late: Ray takes seconds to import, and --help must be fast

    search = resume(options) if options.resume else new(options)
    space = registry.value(tune.experiments.spaces, search.space, "SPACE", Space)
    outcome = run(search, space)
    if outcome.exit_code:
        console.err.print(f"Stopped. Go on with: {again(options, outcome.folder)}", markup=False)
    finish(outcome, search)
    if outcome.exit_code:
        sys.exit(outcome.exit_code)


def new(options: Options) -> spec.Search:
    """Return the search that the options describe."""
    goals = options.objective
    if goals and options.metric not in (None, goals[0]):
        raise ConfigError(f"--metric is the first --objective; got {options.metric} and {goals[0]}. Leave one out.")
    if options.pick is not None and len(goals) < 2 and not options.resume:
        raise ConfigError(
            f"--pick chooses from the front of several objectives; got {len(goals) or 'no'} --objective. Name two or "
            "more, or leave --pick out."
        )
    return spec.Search(
        assignments=parse_set(options.set),
        trials=options.trials,
        time_budget_s=budget(options),
        metric=goals[0] if goals else options.metric or spec.METRIC,
        objectives=tuple(goals) if len(goals) > 1 else (),
        constraints=constraints.parse(options.constraint),
        warm_start=tuple(options.warm_start),
        points=tuple(options.point),
        share_any=options.share_any,
        name=options.name,
        command=shlex.join(["python", *sys.argv]),
        **{name: given for name in RECORDED if (given := getattr(options, name)) is not None},
        **options.machines.options(),
    )


def resume(options: Options) -> spec.Search:
    """Return the search that resumes a run."""
    named = ("objective", "constraint", "warm_start", "point")
    given = [f"--{name.replace('_', '-')}, " for name in named if getattr(options, name)]
    if options.set or options.name or given:
        raise RunError(f"A run is resumed with the question it was asked; leave {''.join(given)}--set and --name out.")
    folder = locate(str(options.resume), options.machines.storage)
    asked = folder.asked()
    run_record.check_kind(asked, "search")
    now = {name: getattr(options, name) for name in ("metric", *RECORDED)}
    run_record.check_same_options(asked, {**now, **options.machines.of_trial()})
    return run_record.located(run_record.resumed(asked, new(options)), folder, asked)


def again(options: Options, folder: RunFolder) -> str:
    """Return the command that resumes the run within the same limits; its original limits are stored in its folder."""
    limits = {"--trials": options.trials, "--time-budget": options.time_budget} if options.resume else {}
    given = [str(word) for limit in limits.items() if limit[1] is not None for word in limit]
    return shlex.join(["python", "tune/search.py", "--resume", report.shown(folder.path), *given])


def budget(options: Options) -> float | None:
    """Return the time budget in seconds; None means no limit, or for a resumed run its original limits."""
    if options.time_budget is None and (options.resume or options.trials is not None):
        return None
    return spec.parse_budget(options.time_budget or DEFAULT_BUDGET)


def finish(outcome: Outcome, search: spec.Search) -> None:
    """Print the best trials, the files written and the suggested next commands."""
    if outcome.best is None:
        return
    if search.objectives:
        trial_table.show_front(outcome.trials, search.objectives, outcome.best, search.pick)
    else:
        trial_table.show(outcome.trials, search.metric, top=10, shown=[each.metric for each in search.constraints])
    for warning in outcome.folder.asked().incomplete:
        console.say_error("warning:", warning)
    kept = report.checkpoint(outcome.folder, outcome.best)
    files = {
        "Best configuration": outcome.folder.best,
        **({"Best checkpoint": kept} if kept else {}),
        "Report": outcome.folder.report,
        "Page": outcome.folder.report.with_suffix(".html"),
    }
    console.out.print("")
    for title, path in files.items():
        console.out.print(f"{title:<18}  {report.shown(path)}")
    console.out.print("\nNext:")
    for command in report.next_commands(outcome.folder, outcome.best).splitlines():
        console.out.print(f"  {command}", markup=False)


if __name__ == "__main__":
    console.run(Options, main)
