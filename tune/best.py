"""Command that shows and writes the best configuration of a finished run, and can retrain it with fresh seeds.

::

    python tune/best.py search-quick-20260101-120000
    python tune/best.py RUN --metric action_accuracy --top 5 --out action.yaml
    python tune/best.py RUN --pick knee                    # hand error and action accuracy together
    python tune/best.py RUN --pick 'latency_ms<=30'        # several objectives: pick another trial of the front
    python tune/best.py RUN --retrain-seeds 5              # final trainings: mean and interval, on validation and test
    python tune/best.py RUN --retrain-seeds 5 --gpus-per-worker 1 --set train.epochs=45 --name longer

Without ``--retrain-seeds`` it needs neither Ray nor a GPU. Repeat the same command to resume a stopped retraining.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # top-level modules are in the project's root, not in tune/ or cluster/
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from cluster.storage import join_uri
from htt import console, files
from htt.config import parse_set
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, RunError
from htt.registry import check_plugins
from tune.experiments import checks, constraints
from tune.experiments import spec as specs
from tune.reports import commands, finalists, trial_table
from tune.results import selection
from tune.results.retrain import NAME, Retraining, fetch, plan
from tune.results.run_folder import RunFolder, RunRecord, Trial
from tune.results.sync import Storage, locate


@dataclass
class TrainingOptions:
    """Options that need ``--retrain-seeds``."""

    set: console.Assignments = field(default_factory=list)
    """Change a field for these trainings, as in --set train.epochs=45; repeat for more."""
    workers: int = 1
    """Processes of each training, over all machines."""
    cpus_per_worker: console.OptionalFloat = None
    """Cores, and so threads, of each worker (default: 1, or with GPUs the machine's cores for each GPU)."""
    gpus_per_worker: console.OptionalFloat = None
    """GPUs of each worker (default: one, if the machines have any)."""
    max_concurrent: console.OptionalInt = None
    """Maximum number of trainings at once (default: as many as fit on the machines)."""
    share_any: bool = False
    """Resume these trainings even if other code or other libraries trained the first; the report names them."""
    name: console.OptionalText = None
    """Name of the trainings' folder inside the run's (default: retrain, or retrain-<metric>, retrain-<pick>)."""
    address: console.OptionalText = None
    """Address of a Ray cluster to join, "auto" or host:port (default: this machine)."""


@dataclass
class Options(console.Options):
    """Show the best trials of a run and write the best configuration."""

    run: Annotated[str, tyro.conf.Positional]
    """Name of the run in runs/, or its folder."""
    top: int = 10
    """Number of trials to show."""
    metric: console.OptionalText = None
    """Metric to select by (default: that of the search)."""
    pick: console.OptionalText = None
    """Rule that picks a trial from the Pareto front: knee, first or a bound (default: that of the search). With one
    objective, the front is that of hand error and action accuracy."""
    out: console.OptionalPath = None
    """File to write the configuration to (default: best.yaml in the run's folder, or best-<metric>.yaml,
    best-<pick>.yaml)."""
    retrain_seeds: console.OptionalInt = None
    """Train the best configuration to the end with this number of seeds that the run has not used (default: do not
    train)."""
    storage: console.OptionalText = None
    """Folder or URI (s3://, gs://) of the runs, as the search had it (default: runs)."""
    training: Annotated[TrainingOptions, tyro.conf.arg(name="")] = field(default_factory=TrainingOptions)


def main(options: Options) -> None:
    """Print the table, write the configuration, and retrain it if ``--retrain-seeds`` is given."""
    check_options(options)
    folder = locate(options.run, options.storage)
    record, trials = folder.record, folder.trials()
    check_is_search(record, folder)
    check_out(options.out)
    chosen = choose(options, record, trials, folder)
    found = finalists.section(folder, trials) if chosen.differs is None else None
    if found:
        chosen = replace(chosen, trial=found.best)
    retraining = retraining_of(options, folder, chosen) if options.retrain_seeds is not None else None
    if chosen.pick:
        trial_table.show_front(trials, chosen.objectives, chosen.trial, chosen.pick)
    else:
        trial_table.show(trials, chosen.metric, options.top)
    if found:
        finalists.show(found)
    out = options.out or folder.best.with_stem(chosen.name(folder.best.stem))
    text = selection.best_text(record, chosen.trial, chosen.metric, len(trials), chosen.rule)
    files.write_text(out, text)
    console.out.print(f"\nBest configuration  {commands.relative(out)}", markup=False)
    kept = commands.newest_checkpoint(folder, chosen.trial)
    if kept:
        console.out.print(f"Best checkpoint     {commands.relative(kept)}", markup=False)
    if retraining:
        retrain(options.training, *retraining)
        return
    console.out.print("\nNext:")
    selected = {"--metric": options.metric, "--pick": options.pick}
    same = [word for option in selected.items() if option[1] for word in option if word]
    again = ["python", "tune/best.py", commands.relative(folder.path), *same, "--retrain-seeds", "5"]
    for words in (again, ["python", "cluster/launch.py", "--config", commands.relative(out)]):
        console.out.print(f"  {shlex.join(words)}")


@dataclass(frozen=True)
class Chosen:
    """The selected trial, with the metric or rule that selected it."""

    trial: Trial
    metric: str
    pick: str | None
    """Rule that picked the trial from the Pareto front, or None if it is the best by the metric alone."""
    differs: str | None
    """The metric or rule if it differs from that of the search, or None."""
    objectives: Sequence[str] = ()
    """Metrics of the front."""

    @property
    def rule(self) -> str:
        """Rule in words, or an empty string if the trial was not picked from a front."""
        return selection.rule_text(self.pick, self.objectives) if self.pick else ""

    def name(self, usual: str) -> str:
        """Return the name of a file or folder: ``usual``, with the metric or rule appended if ``differs`` is set."""
        return f"{usual}-{re.sub(r'[^A-Za-z0-9_.]+', '-', self.differs)}" if self.differs else usual


def choose(options: Options, record: RunRecord, trials: Sequence[Trial], folder: RunFolder) -> Chosen:
    """Return the best trial by the metric or rule of the search, or by that of the options.

    Raises:
        ConfigError: the metric or rule is invalid.
        RunError: no trial has a value of the metric, or none on the front satisfies the rule.
    """
    spec = record.search
    objectives = spec.objectives or (selection.objectives(record, trials) if options.pick else ())
    if options.pick is not None:
        constraints.check_rule(options.pick)
        if options.metric or not objectives:
            why = "drop --metric" if options.metric else f"no trial has both {' and '.join(selection.PAIR)}"
            raise ConfigError(f"--pick needs several metrics to choose by; {why}.")
    metric = options.metric or spec.metric
    recorded = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    constraints.check_metric(metric, recorded or None)
    bounds = constraints.bounds(options.pick or constraints.FIRST)
    checks.check_comparable([metric, *(bound.metric for bound in bounds)], spec.domains)
    order = selection.ranked(trials, metric)
    if not order:
        raise RunError(f"No trial has a value of {metric}, out of {len(trials)} in {folder.path}.")
    if options.metric or not objectives:
        return Chosen(order[0], metric, None, metric if metric != spec.metric or spec.objectives else None)
    pick = options.pick or spec.pick
    best = selection.select(selection.pareto_front(trials, objectives), objectives, pick)
    if best is None:
        raise RunError(f"No trial on the Pareto front satisfies {pick}, out of {len(trials)} in {folder.path}.")
    return Chosen(best, metric, pick, None if spec.objectives and pick == spec.pick else pick, objectives)


def check_options(options: Options) -> None:
    """Raise a ``ConfigError`` for an invalid option, or for one that would be ignored."""
    if options.top < 1:
        raise ConfigError(f"--top must be 1 or more; got {options.top}.")
    training, default = options.training, TrainingOptions()
    given = [name for name, value in vars(training).items() if value != getattr(default, name)]
    if given and options.retrain_seeds is None:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{names} need --retrain-seeds, such as --retrain-seeds 5. Add it, or drop them.")
    checks.check_run(specs.RunOptions(name=training.name, max_concurrent=training.max_concurrent))


def check_is_search(record: RunRecord, folder: RunFolder) -> None:
    """Raise a ``RunError`` for a study, because its best trial is only the one with the luckiest seed."""
    if record.kind != "search":
        raise RunError(
            f"Expected a search; {record.name} is a {record.kind}, which compares variants over all their seeds and "
            f"has no best trial. Read its report, {commands.relative(folder.report)}, and train the variant you "
            "choose: python cluster/launch.py --config FILE --set PATH=VALUE"
        )


def check_out(out: Path | None) -> None:
    """Raise a ``ConfigError`` if no file can be written to this path."""
    if out is None:
        return
    try:
        above, is_folder = next(path for path in out.absolute().parents if path.exists()), out.is_dir()
    except OSError as error:  # such as a file name that is too long
        raise ConfigError(f"--out must be a file in a folder, such as best.yaml; {error.strerror}.") from None
    if is_folder or not above.is_dir():
        what = out if is_folder else above
        raise ConfigError(
            f"--out must be a file in a folder, such as best.yaml; {what} is a {'folder' if is_folder else 'file'}."
        )


def retraining_of(options: Options, folder: RunFolder, chosen: Chosen) -> tuple[Retraining, Storage]:
    """Return the retraining to run, and the storage of its files."""
    record = folder.record
    uri = options.storage or str(record.spec.storage)
    name = options.training.name or chosen.name(NAME)
    storage = Storage(name, folder.path, join_uri(uri, record.name) if is_remote(uri) else None)
    fetch(storage)
    retraining = plan(
        folder,
        chosen.trial,
        chosen.metric,
        int(options.retrain_seeds or 0),
        name=name,
        rule=chosen.rule,
        assignments=parse_set(options.training.set),
        share_any=options.training.share_any,
    )
    check_plugins(retraining.config)
    return retraining, storage


def retrain(options: TrainingOptions, retraining: Retraining, storage: Storage) -> None:
    """Train with fresh seeds and print the results."""
    loading = console.print_later()
    from cluster.training import Workers  # imported late: only a retraining needs Ray and torch
    from htt.heartbeat import LostRayError
    from tune.execution import retrain_progress
    from tune.execution.retrain import check_all, run

    loading.cancel()
    workers = Workers(options.workers, options.cpus_per_worker, options.gpus_per_worker)
    workers.check(retraining.config)
    try:
        result = run(retraining, storage, workers, address=options.address, max_concurrent=options.max_concurrent)
    except (KeyboardInterrupt, LostRayError) as error:
        console.err.print("Stopped. Repeat the same command to resume; finished seeds are not trained again.")
        if isinstance(error, LostRayError):
            raise
        sys.exit(console.INTERRUPTED)
    retrain_progress.show(result)
    check_all(result)


if __name__ == "__main__":
    console.run(Options, main)
