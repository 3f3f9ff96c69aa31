"""Tuned ablation: the variants of a study at shared settings, and each at its own best.

A plain ablation trains all variants with the settings of the reference, which may suit the reference alone. Here the
study runs first, at shared settings. Then each variant, the reference too, gets a search of its own: the same space,
number of trials and seed, with the changes of the variant fixed. Then the study is continued with "<variant>, tuned",
the best of each search, trained with the study's seeds, none of which the searches used.

The searches are ordinary runs in ``tuning/`` of the study's folder. A resumed run continues where it was stopped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console

from cluster.storage import join_uri
from htt import console
from htt.config import changed, override
from htt.data.store.remote import is_remote
from tune.execution import plan as plans
from tune.execution import search, study
from tune.execution.plan import Plan
from tune.execution.runner import Outcome
from tune.execution.trainable import TrialFunctions
from tune.experiments.spec import SearchSpec, Tuned
from tune.results import selection
from tune.results.run_folder import RunFolder
from tune.results.sync import Storage

FOLDER = "tuning"
"""Folder of the searches, in the folder of the study."""


def run(plan: Plan, *, training: TrialFunctions | None = None, show: Console = console.out) -> Outcome:
    """Run a study and, with ``--tune``, search each variant and continue the study with the best of each.

    Raises:
        ConfigError, ClusterError, DataError, RunError, StorageError: the request is invalid; nothing was started.
        TrainingError: no trial of the study or of a search was completed.
    """
    outcome = study.run(plan, training=training, show=show)
    if outcome.exit_code or plan.spec.tune is None or plan.spec.tuned:
        return outcome
    tuned = {}
    for variant, spec in _searches(plan, outcome.folder):
        storage = Storage(str(spec.name), outcome.folder.path / FOLDER, spec.storage)
        if not _is_done(RunFolder(storage.local), spec):
            show.print(f"\nTuning '{variant}':", markup=False)
            ended = search.run(spec, runs=storage.local.parent, resume=storage.exists(), training=training, show=show)
            if ended.exit_code:
                return replace(outcome, stopped=ended.stopped)
        tuned[variant] = _result(RunFolder(storage.local), spec)
    continued = replace(plan.spec, name=outcome.folder.name, tuned=tuned)
    return study.run(plans.plan(continued, runs=plan.runs, resume=True), training=training, show=show)


def _searches(plan: Plan, folder: RunFolder) -> Iterator[tuple[str, SearchSpec]]:
    """Yield each variant with its search, which is named by the variant's place and name."""
    uri = plan.spec.storage
    inside = join_uri(uri, folder.name, FOLDER) if uri and is_remote(uri) else None
    for place, variant in enumerate(plan.spec.study.variants, 1):
        word = re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")[:40]
        yield variant, replace(plan.spec.search(variant), name=f"{place}-{word}".rstrip("-"), storage=inside)


def _is_done(folder: RunFolder, spec: SearchSpec) -> bool:
    """Return True if a search has all its trials and its best configuration."""
    ended = sum(trial.state != "stopped" for trial in folder.trials())
    return folder.best.exists() and ended >= (spec.trials or 0)


def _result(folder: RunFolder, spec: SearchSpec) -> Tuned:
    """Return the result of a search that has ended."""
    trials, base = folder.trials(), spec.config()
    best = selection.ranked(trials, spec.metric)[0]
    return Tuned(
        values=changed(override(base, best.values), base),
        value=selection.value(best, spec.metric),
        trials=len(trials),
        pruned=sum(trial.state == "pruned" for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
    )
