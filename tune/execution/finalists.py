"""Finalists: stage two of a search, a study that the search itself defines and runs in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from htt.errors import RunError
from htt.text import plural
from tune.execution import plan, study
from tune.execution.experiment import newest_checkpoint
from tune.execution.trainable import TrialFunctions
from tune.experiments.spec import WEIGHTS, RunOptions, SearchSpec, StudySpec, options
from tune.experiments.study import Study
from tune.results import finalists
from tune.results.run_folder import RunFolder, Trial
from tune.results.sync import Storage


def run(
    spec: SearchSpec,
    folder: RunFolder,
    storage: Storage,
    time_budget_s: float | None,
    training: TrialFunctions | None,
    show: Console,
) -> str | None:
    """Train the finalists of a search that has ended, or resume them.

    Args:
        spec: definition of the search, with the current options of its finalists.
        folder: folder of the search.
        storage: its storage, locked by this process.
        time_budget_s: time left, s, or None for no limit.
        training: functions that a trial calls, or None for the project's own.
        show: console for progress.

    Returns:
        Reason why they ended early, as in ``Outcome.stopped``, or None.

    Raises:
        HTTError: as ``tune.execution.study.run`` raises; the results of the search are not touched.
    """
    wanted = spec.finalists or 0
    chosen = finalists.choose(folder.record, folder.trials(), wanted)
    if not chosen:
        show.print("No finalists: no trial of the search is complete.")
        return None
    defined = finalists.study_of(spec, chosen, _weights(storage, chosen) if WEIGHTS in spec.finalist_starts else {})
    name, resume = _place(folder, defined)
    settings = {**vars(options(RunOptions, spec)), "name": name, "storage": storage.uri if storage.remote else None}
    study_spec = StudySpec(**settings, base=spec.base, study_name=finalists.FOLDER, study=defined)
    made = plan.plan(study_spec, runs=folder.path, resume=resume)
    listed = ", ".join(f"trial {trial.number}" for trial in chosen)
    show.print(f"\nStage two: {plural(len(chosen), 'finalist')} end to end ({listed}).")
    if len(chosen) < wanted:
        show.print(f"{wanted} were asked for, and {len(chosen)} different configurations are complete.")
    ended = study.run(made, training=training, show=show, time_budget_s=time_budget_s, search=folder.path)
    return ended.stopped


def _weights(storage: Storage, chosen: Sequence[Trial]) -> Mapping[str, str]:
    """Return {trial id: location of its newest checkpoint}.

    Raises:
        RunError: a checkpoint is missing.
    """
    found = {}
    for trial in chosen:
        checkpoint = newest_checkpoint(storage, trial.id)
        if checkpoint is None:
            raise RunError(
                f"Cannot start from the weights of trial {trial.number}: its checkpoint is no longer in "
                f"{storage.shown}. Add --finalist-start scratch."
            )
        found[trial.id] = storage.location(checkpoint)
    return found


def _place(folder: RunFolder, defined: Study) -> tuple[str, bool]:
    """Return the name of the folder of a study of finalists, and whether the study is in it already."""
    before = finalists.newest(folder)
    if before is None:
        return finalists.FOLDER, False
    if finalists.is_same(before.record.study.study, defined):
        return before.name, True
    number = int(before.name.rpartition("-")[2]) + 1 if "-" in before.name else 2
    return f"{finalists.FOLDER}-{number}", False
