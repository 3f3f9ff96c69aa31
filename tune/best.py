"""Command that shows and writes the best configuration of a finished run, and can retrain it with fresh seeds.

::

    python tune/best.py search-quick-20260101-120000
    python tune/best.py RUN --metric action_accuracy --top 5 --out action.yaml
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
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from cluster.storage import join_uri
from htt import console
from htt.config import parse_set
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, RunError
from htt.registry import check_plugins
from tune.experiments import constraints, spec
from tune.reports import report, trial_table
from tune.results import run_folder, selection
from tune.results.retrain import NAME, Retrained, ask, fetch
from tune.results.run_folder import Asked, RunFolder, Trial
from tune.results.sync import Storage, locate


@dataclass
class Options(console.Options):
    """Show the best trials of a run and write the best configuration."""

    run: Annotated[str, tyro.conf.Positional]
    """The run: its name in runs/, or its folder."""
    top: int = 10
    """Trials to show."""
    metric: console.Word = None
    """What to select by (default: as the search selected)."""
    pick: console.Word = None
    """Of a search with several objectives: which trial of its front, knee, first or a bound (default: as it was
    asked)."""
    out: console.File = None
    """Where to write the configuration (default: the run's best.yaml, or best-<metric>.yaml,
    best-<pick>.yaml)."""
    retrain_seeds: console.Count = None
    """Train the best configuration to the end with so many seeds that the run has not used (default: do not train)."""
    set: console.Assignments = field(default_factory=list)
    """Change a field for these trainings, as in --set train.epochs=45; repeat for more."""
    workers: int = 1
    """Processes of each training, over all machines."""
    cpus_per_worker: float = 1.0
    """Cores of each worker, and its threads."""
    gpus_per_worker: console.Number = None
    """GPUs of each worker (default: one, where the machines have any)."""
    max_concurrent: console.Count = None
    """Trainings at once (default: as many as fit on the machines)."""
    share_any: bool = False
    """Go on with these trainings also where other code or other libraries trained the first; the report says which."""
    name: console.Word = None
    """Name of the trainings' folder inside the run's (default: retrain, or retrain-<metric>, retrain-<pick>)."""
    storage: console.Word = None
    """Folder or URI (s3://, gs://) of the runs, as the search had it (default: runs)."""
    address: console.Word = None
    """A Ray cluster to join ("auto" or host:port) (default: this machine)."""


OF_RETRAINING = (
    "set",
    "workers",
    "cpus_per_worker",
    "gpus_per_worker",
    "max_concurrent",
    "share_any",
    "name",
    "address",
)
"""Options that are valid only with ``--retrain-seeds``."""


def main(options: Options) -> None:
    """Print the table, write the configuration, and retrain it if ``--retrain-seeds`` is given."""
    check_options(options)
    folder = locate(options.run, options.storage)
    asked, trials = folder.asked(), folder.trials()
    check_is_search(asked, folder)
    check_out(options.out)
    chosen = choose(options, folder)
    again = retraining_of(options, folder, chosen) if options.retrain_seeds is not None else None
    if chosen.pick:
        trial_table.show_front(trials, asked.objectives, chosen.trial, chosen.pick)
    else:
        trial_table.show(trials, chosen.metric, options.top)
    out = options.out or folder.best.with_stem(chosen.name(folder.best.stem))
    run_folder.write_text(
        out, run_folder.best_text(asked, chosen.trial, chosen.metric, len(trials), chosen.rule(asked))
    )
    console.out.print(f"\nBest configuration  {report.shown(out)}", markup=False)
    kept = report.checkpoint(folder, chosen.trial)
    if kept:
        console.out.print(f"Best checkpoint     {report.shown(kept)}", markup=False)
    if again:
        retrain(options, *again)
        return
    console.out.print("\nNext:")
    by = {"--metric": options.metric, "--pick": options.pick}
    same = [word for option in by.items() if option[1] for word in option if word]
    again_words = ["python", "tune/best.py", report.shown(folder.path), *same, "--retrain-seeds", "5"]
    for words in (again_words, ["python", "cluster/launch.py", "--config", report.shown(out)]):
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

    def rule(self, asked: Asked) -> str:
        """Return the rule in words, or an empty string if the trial was not picked from a front."""
        return selection.words(self.pick, asked.objectives) if self.pick else ""

    def name(self, usual: str) -> str:
        """Return the name of a file or folder: ``usual``, with the metric or rule appended if ``differs`` is set."""
        return f"{usual}-{re.sub(r'[^A-Za-z0-9_.]+', '-', self.differs)}" if self.differs else usual


def choose(options: Options, folder: RunFolder) -> Chosen:
    """Return the best trial by the metric or rule of the search, or by that of the options.

    Raises:
        ConfigError: the metric or rule is invalid.
        RunError: no trial has a value of the metric, or none on the front keeps the rule.
    """
    asked, trials = folder.asked(), folder.trials()
    if options.pick is not None:
        constraints.check_rule(options.pick)
        if options.metric or not asked.objectives:
            why = f"it had {asked.metric} alone" if options.metric is None else "leave out --metric"
            raise ConfigError(f"--pick chooses from the front of a search with several objectives; {why}.")
    metric = options.metric or asked.metric
    recorded = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    constraints.check_metric(metric, recorded or None)
    spec.check_comparable(
        [metric, *(bound.metric for bound in constraints.bounds(options.pick or constraints.FIRST))], asked.domains
    )
    order = run_folder.ranked(trials, metric)
    if not order:
        raise RunError(f"At least one trial must have given {metric}; none of the {len(trials)} in {folder.path} did.")
    if options.metric or not asked.objectives:
        return Chosen(order[0], metric, None, metric if metric != asked.metric or asked.objectives else None)
    pick = options.pick or asked.pick
    best = selection.chosen(replace(asked, pick=pick), trials)
    if best is None:
        raise RunError(f"A trial on the front must keep {pick}; none of the {len(trials)} in {folder.path} does.")
    return Chosen(best, metric, pick, pick if pick != asked.pick else None)


def check_options(options: Options) -> None:
    """Raise a ``ConfigError`` for an invalid option, or for one that would be ignored."""
    if options.top < 1:
        raise ConfigError(f"--top must be 1 or more; got {options.top}.")
    usual = Options(run="")
    given = [name for name in OF_RETRAINING if getattr(options, name) != getattr(usual, name)]
    if given and options.retrain_seeds is None:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{named} say how to train again; add --retrain-seeds 5, or leave them out.")
    spec.check_run(spec.Run(name=options.name, max_concurrent=options.max_concurrent))


def check_is_search(asked: Asked, folder: RunFolder) -> None:
    """Raise a ``RunError`` for a study, because its best trial is only the one with the luckiest seed."""
    if asked.kind != "search":
        raise RunError(
            f"The best configuration is that of a search; {asked.name} is a {asked.kind}, whose variants are compared "
            f"over all their seeds. Read its report, {report.shown(folder.report)}, and train the variant you choose: "
            "python cluster/launch.py --config FILE --set PATH=VALUE"
        )


def check_out(out: Path | None) -> None:
    """Raise a ``ConfigError`` if no file can be written to this path."""
    if out is None:
        return
    try:
        above, is_folder = next(path for path in out.absolute().parents if path.exists()), out.is_dir()
    except OSError as error:  # such as a file name that is too long
        raise ConfigError(f"--out takes a file in a folder, such as best.yaml; {error.strerror}.") from None
    if is_folder or not above.is_dir():
        what = out if is_folder else above
        raise ConfigError(
            f"--out takes a file in a folder, such as best.yaml; {what} is a {'folder' if is_folder else 'file'}."
        )


def retraining_of(options: Options, folder: RunFolder, chosen: Chosen) -> tuple[Retrained, Storage]:
    """Return the retraining to run, and the storage of its files."""
    asked = folder.asked()
    uri = options.storage or asked.storage
    name = options.name or chosen.name(NAME)
    place = Storage(name, folder.path, join_uri(uri, asked.name) if is_remote(uri) else None)
    fetch(place)
    again = ask(
        folder,
        chosen.trial,
        chosen.metric,
        int(options.retrain_seeds or 0),
        name=name,
        rule=chosen.rule(asked),
        assignments=parse_set(options.set),
        command=shlex.join(["python", *sys.argv]),
        share_any=options.share_any,
    )
    check_plugins(again.config)
    return again, place


def retrain(options: Options, again: Retrained, place: Storage) -> None:
    """Train with fresh seeds and print the results."""
    loading = console.say_later()
    from cluster.training import Workers  # imported late: only a retraining needs Ray and torch
    from htt.heartbeat import LostRayError
    from tune.execution import retrain_progress
    from tune.execution.retrain import check_all, run

    loading.cancel()
    workers = Workers(options.workers, options.cpus_per_worker, options.gpus_per_worker)
    workers.check(again.config)
    try:
        found = run(again, place, workers, address=options.address, max_concurrent=options.max_concurrent)
    except (KeyboardInterrupt, LostRayError) as error:
        console.err.print("Stopped. The same command goes on; a seed that is done is not trained again.")
        if isinstance(error, LostRayError):
            raise
        sys.exit(console.INTERRUPTED)
    retrain_progress.show(found)
    check_all(found)


if __name__ == "__main__":
    console.run(Options, main)
