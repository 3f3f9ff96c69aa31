"""Command that trains every variant of a study with every seed and reports differences with intervals.

::

    python tune/ablate.py --study headline                              # on the rendered benchmark
    python tune/ablate.py --study headline --dry-run                    # only show the plan and the expected duration
    python tune/ablate.py --study headline --dry-run --time-steps 3     # time 3 steps of each variant first
    python tune/ablate.py --study cues --preset paper --set data.root=/data/h2o --set data.source=h2o
    python tune/ablate.py --study headline --tune 20 --space quick      # also each variant at its own best
    python tune/ablate.py --resume study-headline-20260101-120000 --seeds 8   # resume with more seeds

Finished trainings are not repeated, neither by ``--resume`` nor by another study with the same variant.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # top-level modules are in the project's root, not in tune/ or cluster/
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import tyro

import tune.experiments.spaces
import tune.experiments.studies
from htt import config as configs
from htt import console, presets, registry
from htt.config import Config, Value, override, parse_set
from htt.errors import ConfigError, did_you_mean, shown
from tune.execution import cost, plan, study_progress
from tune.execution.resume import check_name, resumed
from tune.experiments.space import Domain, Space
from tune.experiments.spec import RUNS, StudyOptions, StudySpec
from tune.experiments.study import Study
from tune.reports import commands
from tune.results.sync import Storage

DEFAULT_PRESETS = ("bench", "quick")
"""Default presets in order of preference; the first that exists is used."""


@dataclass
class Options(console.Options):
    """Train all variants of a study with all its seeds, and write a report with intervals to runs/<name>."""

    study: console.OptionalText = None
    """Study to run, a module of tune/experiments/studies."""
    resume: console.OptionalText = None
    """Resume a run, given its name or folder; failed trainings are tried again."""
    preset: console.OptionalText = None
    """Base configuration, a module of htt/presets (default: bench)."""
    config: console.OptionalPath = None
    """File of the base configuration, such as a best.yaml, instead of a preset."""
    set: console.Assignments = field(default_factory=list)
    """Change a field for all variants, as in --set data.root=/data/h2o; repeat for more."""
    seeds: console.OptionalText = None
    """Number of seeds (6) or a list of them (0,1,2) (default: the study's own). With --resume: the number in the end,
    or further seeds."""
    dry_run: bool = False
    """Only print the plan."""
    time_steps: console.OptionalInt = None
    """Estimate the duration by timing this number of steps of each variant first (default: estimate from finished
    trainings only)."""
    spec: Annotated[StudyOptions, tyro.conf.arg(name="")] = field(default_factory=StudyOptions)


def main(options: Options) -> None:
    """Print the plan of the study, run it, and print the results."""
    spec, runs = resume(options) if options.resume else (new(options), RUNS)
    cost.check_steps(options.time_steps)
    if spec.name:
        check_name(Storage(spec.name, runs, spec.storage), resume=bool(options.resume))
    made = plan.plan(spec, runs=runs, resume=bool(options.resume))
    if options.time_steps is not None:
        made = plan.timed(made, options.time_steps, lambda name: console.out.print(f"Timing {name} ...", markup=False))
    study_progress.show_plan(made, partial(command, options))
    study_progress.show_tuning(made)
    if options.dry_run:
        return
    loading = console.print_later()
    from tune.execution.tuning import run  # imported late: a dry run needs no Ray

    loading.cancel()
    outcome = run(made)
    again = commands.quoted(outcome.folder.path)
    if outcome.exit_code:
        console.err.print(f"Stopped. To resume: python tune/ablate.py --resume {again}")
    study_progress.show_results(outcome.folder)
    if outcome.exit_code:
        sys.exit(outcome.exit_code)


def command(options: Options, **changes: Any) -> str:
    """Return this command with some options changed."""
    return console.command("tune/ablate.py", replace(options, **changes))


def new(options: Options) -> StudySpec:
    """Return the study that the options describe."""
    known = registry.names(tune.experiments.studies)
    if options.study not in known:
        near = did_you_mean(options.study or "", known)
        given = "" if options.study is None else f"; got {shown(options.study)}"
        raise ConfigError(f"--study must name a study{given}. Available: {', '.join(known)}.{near}")
    study = registry.value(tune.experiments.studies, options.study, "STUDY", Study)
    if options.seeds is not None:
        study = replace(study, seeds=plan.parse_seeds(options.seeds))
    assignments = parse_set(options.set)
    base = override(start(options), assignments).model_dump(mode="json")
    fields = {**vars(options.spec), "assignments": assignments, "base": base}
    return StudySpec(**fields, study_name=options.study, study=study, domains=searched(options, study, assignments))


def searched(options: Options, study: Study, assignments: Mapping[str, Value]) -> Mapping[str, Domain]:
    """Return the domains of ``--space`` that neither the study nor ``--set`` fixes; empty without that option."""
    if options.spec.space is None:
        return {}
    space = registry.value(tune.experiments.spaces, options.spec.space, "SPACE", Space)
    return space.without({*study.varied, *assignments}).domains


def resume(options: Options) -> tuple[StudySpec, Path]:
    """Return the recorded study with the seeds of the options, and the folder of its runs."""
    spec, folder = resumed(options, StudySpec, ("study", "preset", "config", "set", "name"))
    if options.seeds is not None:
        spec = replace(spec, study=plan.with_seeds(spec.study, options.seeds))
    return spec, folder.path.parent


def start(options: Options) -> Config:
    """Return the configuration named by ``--preset`` or ``--config``, or that of the default preset."""
    if options.preset and options.config:
        raise ConfigError("Cannot combine --preset with --config. Drop one of them.")
    if options.config:
        return configs.read(options.config)
    known = registry.names(presets)
    return registry.preset(options.preset or next(name for name in DEFAULT_PRESETS if name in known))


if __name__ == "__main__":
    console.run(Options, main)
