"""Command that searches a space for the best configuration.

::

    python tune/search.py                                                 # the quick space, minutes on any laptop
    python tune/search.py --space paper --set data.source=h2o --set data.root=/data/h2o-shards --trials 64
    python tune/search.py --objective hand_error_mm --objective latency_ms --constraint 'parameters<=1e6'
    python tune/search.py --warm-start search-quick-20260101-120000 --point 'optim.lr=1e-3 model.pose.window=8'
    python tune/search.py --finalists 3 --trials 40                       # then train the three best end to end
    python tune/search.py --resume search-quick-20260101-120000 --time-budget 30m

Without ``--trials`` and ``--time-budget``, a new search runs for 8.5 minutes from when the data are ready, and a
resumed search keeps its original limits, with its whole time budget again. If only one of the two is given, the other
sets no limit. With ``--finalists``, a fifth of the time budget is kept for stage two, which also gets what stage
one leaves. A search that was stopped in stage two goes on with stage two.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # top-level modules are in the project's root, not in tune/ or cluster/
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from htt import console  # before the slow imports

    console.print_later()

import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import tyro

import tune.experiments.spaces
from htt import console, registry
from htt.config import parse_set
from htt.errors import ConfigError
from tune.execution.resume import check_unchanged, resumed
from tune.experiments import constraints, spec
from tune.experiments.space import Space
from tune.experiments.spec import SearchOptions, SearchSpec
from tune.reports import commands, conclusions, finalists, trial_table
from tune.results import search_results, selection
from tune.results.run_folder import RunFolder
from tune.results.run_record import RunRecord
from tune.searchers import warm_start

if TYPE_CHECKING:
    from tune.execution.runner import Outcome

DEFAULT_BUDGET = "8m30s"
Several = Annotated[list[str], tyro.conf.UseAppendAction]
"""Type of an option that can be repeated."""


@dataclass
class Options(console.Options):
    """Search for the best configuration of a space, and write it to runs/<name>/best.yaml."""

    resume: console.OptionalText = None
    """Resume a run, given its name or folder; only limits and location may change."""
    set: console.Assignments = field(default_factory=list)
    """Fix a field, as in --set data.root=/data/h2o; repeat for more."""
    time_budget: console.OptionalText = None
    """Time from when the data are ready: 90s, 10m, 1h30m (default: 8m30s, or no limit if --trials is given). With
    --resume and neither of the two: the original limits."""
    metric: console.OptionalText = None
    """Metric to select by, on the validation split (default: hand_error_mm, or action_accuracy for a model without an
    image encoder)."""
    objective: Annotated[Several, tyro.conf.arg(metavar="METRIC")] = field(default_factory=list)
    """Optimise several metrics instead of --metric; repeat for each. The scheduler watches the first one, and may stop
    a trial that is good in another: --scheduler none stops none."""
    pick: console.OptionalText = None
    """Rule that picks the best trial of their Pareto front: knee (nearest to the ideal point), first (best in the first
    objective), or the best in the first with a bound, as in 'latency_ms<=30' (default: knee)."""
    constraint: Annotated[Several, tyro.conf.arg(metavar="METRIC<=NUMBER")] = field(default_factory=list)
    """Bound that the best trial must keep, as in 'parameters<=2e6'; repeat for more."""
    point: Annotated[Several, tyro.conf.arg(metavar="FILE|PATH=VALUE ...")] = field(default_factory=list)
    """Sample to try first: a best.yaml, or 'optim.lr=1e-3 model.pose.window=8'; repeat for more."""
    spec: Annotated[SearchOptions, tyro.conf.arg(name="")] = field(default_factory=SearchOptions)


def main(options: Options) -> None:
    """Run the search, then print the best trials and suggested next commands."""
    from tune.execution.search import run  # imported late: Ray takes seconds to import, and --help must be fast

    if options.resume:
        search, folder = resume(options)
        outcome = run(search, runs=folder.path.parent, resume=True)
    else:
        search = new(options)
        outcome = run(search)
    if outcome.exit_code:
        console.err.print(f"Stopped. To resume: {again(options, outcome.folder)}", markup=False)
    finish(outcome, search)
    if outcome.exit_code:
        sys.exit(outcome.exit_code)


def new(options: Options) -> SearchSpec:
    """Return the search that the options describe."""
    objectives = options.objective
    if objectives and options.metric not in (None, objectives[0]):
        raise ConfigError(
            f"Cannot combine --metric {options.metric} with --objective {objectives[0]}: the first objective is the "
            "metric. Drop one of them."
        )
    if options.pick is not None and len(objectives) < 2:
        raise ConfigError(
            f"--pick needs several objectives to choose from; got {len(objectives) or 'no'} --objective. Add another, "
            "or drop --pick."
        )
    searched = registry.value(tune.experiments.spaces, options.spec.space, "SPACE", Space)
    search = SearchSpec(**vars(options.spec)).over(searched, parse_set(options.set))
    search = replace(
        search,
        time_budget_s=budget(options),
        metric=objectives[0] if objectives else options.metric or spec.default_metric(search.config()),
        objectives=tuple(objectives) if len(objectives) > 1 else (),
        constraints=constraints.parse(options.constraint),
        pick=options.pick or constraints.KNEE,
    )
    points = warm_start.points(options.point, Space(search.domains), search.config()) if options.point else []
    return replace(search, points=tuple(points))


def resume(options: Options) -> tuple[SearchSpec, RunFolder]:
    """Return the recorded search with the limits of the options, and its folder."""
    fixed = ("set", "objective", "constraint", "point", "warm_start", "name")
    chosen = {name: given for name in ("metric", "pick") if (given := getattr(options, name))}
    search, folder = resumed(options, SearchSpec, fixed, chosen)
    if options.spec.trials is not None or options.time_budget is not None:
        search = replace(search, trials=options.spec.trials, time_budget_s=budget(options))
    record = folder.record
    return (exact(record, search) if record.schema == 0 else search), folder


def exact(record: RunRecord, search: SearchSpec) -> SearchSpec:
    """Return the search of an old run, whose record has only rounded domains, with the domains of its space."""
    searched = registry.value(tune.experiments.spaces, search.space, "SPACE", Space)
    domains = search.over(searched, search.assignments)
    check_unchanged(record, domains)
    return replace(search, domains=domains.domains)


def again(options: Options, folder: RunFolder) -> str:
    """Return the command that resumes the run within the same limits; its original limits are stored in its folder."""
    limits = {"--trials": options.spec.trials, "--time-budget": options.time_budget} if options.resume else {}
    given = [str(word) for limit in limits.items() if limit[1] is not None for word in limit]
    return shlex.join(["python", "tune/search.py", "--resume", commands.relative(folder.path), *given])


def budget(options: Options) -> float | None:
    """Return the time budget in seconds; None means no limit, or for a resumed run its original limits."""
    if options.time_budget is None and (options.resume or options.spec.trials is not None):
        return None
    return spec.parse_budget(options.time_budget or DEFAULT_BUDGET)


def finish(outcome: Outcome, search: SearchSpec) -> None:
    """Print the best trials, the files written and the suggested next commands."""
    if outcome.best is None:
        return
    folder, record, order = outcome.folder, outcome.folder.record, selection.ranked(outcome.trials, search.metric)
    results = search_results.read(folder, record, outcome.trials)
    if search.objectives:
        trial_table.show_front(outcome.trials, search.objectives, outcome.best, search.pick)
    else:
        shown, base = [each.metric for each in search.constraints], search_results.base_trial(record, order)
        trial_table.show(outcome.trials, search.metric, 10, shown, base, record.baselines)
    for line in conclusions.sentences(results, record.baselines) if results else ():
        console.out.print(f"- {line}", markup=False)
    if found := finalists.section(folder, outcome.trials):
        finalists.show(found)
    for warning in record.incomplete:
        console.print_message("warning:", warning)
    kept = commands.newest_checkpoint(folder, outcome.best)
    files = {
        "Best configuration": folder.best,
        **({"Best checkpoint": kept} if kept else {}),
        "Report": folder.report,
        "Page": folder.report.with_suffix(".html"),
    }
    console.out.print("")
    for title, path in files.items():
        console.out.print(f"{title:<18}  {commands.relative(path)}")
    first = ""
    if results:
        why, first = conclusions.next_step(folder, record, order, results)
        console.out.print(f"\n{why}:\n  {first}", markup=False, soft_wrap=True)
    console.out.print("\nThen:" if first else "\nNext:")
    for command in commands.next_commands(folder, outcome.best).splitlines():
        if shlex.split(command)[:4] != shlex.split(first)[:4]:  # the same command, perhaps with another limit
            console.out.print(f"  {command}", markup=False)


if __name__ == "__main__":
    console.run(Options, main)
