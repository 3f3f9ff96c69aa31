"""Command that trains every variant of a study with every seed and reports differences with intervals.

::

    python tune/ablate.py --study headline                              # on the rendered benchmark
    python tune/ablate.py --study headline --dry-run                    # only show the plan and the expected duration
    python tune/ablate.py --study headline --dry-run --time-steps 3     # time 3 steps of each variant first
    python tune/ablate.py --study cues --preset paper --set data.root=/data/h2o --set data.source=h2o
    python tune/ablate.py --resume study-headline-20260101-120000 --seeds 8   # resume with more seeds

Finished trainings are not repeated, neither by ``--resume`` nor by another study with the same variant.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # top-level modules are in the project's root, not in tune/ or cluster/
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import shlex
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import tune.experiments.studies
from htt import config as configs
from htt import console, presets, registry
from htt.config import Config, override, parse_set
from htt.errors import ConfigError, RunError, did_you_mean, shown
from tune.execution import cost, plan, study_progress
from tune.execution.plan import Ablation
from tune.experiments.machines import OF_TRIAL, MachineOptions, Machines
from tune.experiments.study import Study
from tune.reports import report
from tune.results import run_record
from tune.results.run_folder import RunFolder
from tune.results.sync import Storage, locate

DEFAULT_PRESETS = ("bench", "quick")
"""Default presets in order of preference; the first that exists is used."""


@dataclass
class Options(console.Options):
    """Train all variants of a study with all its seeds, and write a report with intervals to runs/<name>."""

    study: console.Word = None
    """The question: a module of tune/experiments/studies."""
    preset: console.Word = None
    """What it starts from: a module of htt/presets (default: bench)."""
    config: console.File = None
    """Or a configuration's file, such as a best.yaml."""
    set: console.Assignments = field(default_factory=list)
    """Change a field for all variants, as in --set data.root=/data/h2o; repeat for more."""
    seeds: console.Word = None
    """How many (6), or which (0,1,2)(default: the study's own). With --resume: how many in the end, or which as
    well."""
    dry_run: bool = False
    """Only say what would be trained."""
    time_steps: console.Count = None
    """Guess how long it takes by timing so many steps of each variant first (default: only what has
    ended tells)."""
    share: bool = True
    """Take over finished trainings of the same configuration, data and seed from other runs."""
    share_any: bool = False
    """Also take over trainings of other code or other libraries, and go on with a run of other code; the report says
    which these are."""
    name: console.Word = None
    """Name of the run (default: study-<study>-<date>-<time>)."""
    resume: console.Word = None
    """Go on with a run, by its name or folder; failed trainings are tried again."""
    machines: MachineOptions = field(default_factory=Machines)


def main(options: Options) -> None:
    """Print the plan of the study, run it, and print the results."""
    ablation, folder = resume(options) if options.resume else (new(options), None)
    cost.check_steps(options.time_steps)
    if ablation.name:
        run_record.check_name_is_free(ablation, Storage(ablation.name, ablation.runs, ablation.storage))
    asked = plan.plan(ablation, folder)
    if options.time_steps is not None:
        asked = plan.timed(
            asked, options.time_steps, lambda name: console.out.print(f"Timing {name} ...", markup=False)
        )
    study_progress.show_plan(asked, partial(command, options))
    if options.dry_run:
        return
    loading = console.say_later()
    from tune.execution.study import run  # imported late: a dry run needs no Ray

    loading.cancel()
    outcome = run(ablation, asked)
    again = report.typed(outcome.folder.path)
    if outcome.exit_code:
        console.err.print(f"Stopped. Go on with: python tune/ablate.py --resume {again}")
    study_progress.show_results(outcome.folder)
    if outcome.exit_code:
        sys.exit(outcome.exit_code)


def command(options: Options, **changes: Any) -> str:
    """Return this command with some options changed."""
    return console.command("tune/ablate.py", replace(options, **changes))


def new(options: Options) -> Ablation:
    """Return the study that the options describe."""
    known = registry.names(tune.experiments.studies)
    if options.study is None:
        raise ConfigError(f"--study names the question. There are: {', '.join(known)}.")
    if options.study not in known:
        near = did_you_mean(options.study, known)
        raise ConfigError(f"--study must name one; got {shown(options.study)}. There are: {', '.join(known)}.{near}")
    study = registry.value(tune.experiments.studies, options.study, "STUDY", Study)
    if options.seeds is not None:
        study = replace(study, seeds=plan.parse_seeds(options.seeds))
    assignments = parse_set(options.set)
    return Ablation(
        study_name=options.study,
        study=study,
        base=override(start(options), assignments),
        assignments=assignments,
        name=options.name,
        **machines(options),
    )


def resume(options: Options) -> tuple[Ablation, RunFolder]:
    """Return the study that resumes a run, and the folder of the run."""
    if options.study or options.preset or options.config or options.set or options.name:
        raise RunError(
            "A run is resumed with the question it was asked; leave --study, --preset, --config, --set and --name out."
        )
    folder = locate(str(options.resume), options.machines.storage)
    asked = folder.asked()
    run_record.check_kind(asked, "study")
    run_record.check_same_options(asked, options.machines.of_trial())
    study = Study.from_plain(asked.study)
    if options.seeds is not None:
        study = plan.with_seeds(study, options.seeds)
    ablation = Ablation(
        study_name=asked.study_name,
        study=study,
        base=asked.config(),
        assignments=dict(asked.assignments),
        name=asked.name,
        resume=True,
        **machines(options),
    )
    resources = {name: getattr(asked, name) for name in OF_TRIAL}
    return run_record.located(replace(ablation, **resources), folder, asked), folder


def start(options: Options) -> Config:
    """Return the configuration named by ``--preset`` or ``--config``, or that of the default preset."""
    if options.preset and options.config:
        raise ConfigError("A study starts from --preset or from --config; got both.")
    if options.config:
        return configs.read(options.config)
    there = registry.names(presets)
    return registry.preset(options.preset or next(name for name in DEFAULT_PRESETS if name in there))


def machines(options: Options) -> dict[str, Any]:
    """Return the keyword arguments of ``Ablation`` for machines, sharing and the command line."""
    shared = {"share": options.share, "share_any": options.share_any}
    return {**options.machines.options(), **shared, "command": shlex.join(["python", *sys.argv])}


if __name__ == "__main__":
    console.run(Options, main)
