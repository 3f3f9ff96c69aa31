"""Plan of a study, made before resources are requested: all trials, those already finished, and the expected duration.

This module does not import Ray. It imports torch only to build each variant's model on the meta device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from htt.config import Config, override
from htt.cores import cores
from htt.data.prepare import facts
from htt.errors import CheckpointError, ConfigError, shown
from htt.text import plural
from tune.experiments import checks
from tune.experiments import spec as specs
from tune.experiments.candidate import Candidate
from tune.experiments.space import raise_faults
from tune.experiments.spec import RUNS, StudySpec
from tune.experiments.study import MOST_SEEDS, SEED, Pair, Study, pairs
from tune.results.cache import CachedTrial, TrialCache
from tune.results.retrain import fresh_seeds
from tune.results.run_folder import RunFolder, Trial


@dataclass(frozen=True)
class Plan:
    """A study that has passed all checks."""

    spec: StudySpec
    """Its base includes that of the study."""
    runs: Path
    """Folder of all runs on this machine, unless the storage is a local folder."""
    resume: bool
    pairs: Sequence[Pair]
    parameters: Mapping[str, int]
    """{variant: number of trainable parameters}."""
    warnings: Sequence[str]
    recorded: Mapping[tuple[str, int], Trial]
    """Trials of this run by pair of variant and seed, complete or not."""
    shared: Mapping[tuple[str, int], CachedTrial]
    """Finished trials of other runs to reuse, by pair of variant and seed."""
    seconds: Mapping[str, float]
    """{variant: duration of a trial, s}, for variants of which a similar trial has ended."""
    estimated: Mapping[str, float] = field(default_factory=dict)
    """{variant: duration of a trial, s} of other variants, estimated from a few timed steps; empty unless ``timed``."""

    @property
    def study(self) -> Study:
        """Study of all trainings."""
        return self.spec.whole

    @cached_property
    def base(self) -> Config:
        """Configuration that trials start from, including the study's base."""
        return self.spec.config()

    @property
    def left(self) -> list[Pair]:
        """Pairs of variant and seed that are left to train."""
        return [pair for pair in self.pairs if not self.has(pair) and pair.key not in self.shared]

    def has(self, pair: Pair) -> bool:
        """Return True if the run has a complete trial of the pair."""
        trial = self.recorded.get(pair.key)
        return trial is not None and trial.state == "complete"

    @property
    def at_once(self) -> int:
        """Number of trials that fit on this machine's cores."""
        fitting = int(cores() / ((self.spec.cpus_per_worker or 1.0) * self.spec.workers_per_trial))
        return max(1, min(fitting, self.spec.max_concurrent or fitting))

    @property
    def expected_s(self) -> float | None:
        """Expected duration of the remaining trials here, s, or None if no similar trial has ended or was timed."""
        known = {**self.estimated, **self.seconds}
        if not known:
            return None
        usual = sum(known.values()) / len(known)
        return sum(known.get(pair.variant, usual) for pair in self.left) / self.at_once


def plan(spec: StudySpec, *, runs: Path = RUNS, resume: bool = False) -> Plan:
    """Check a study, and find its finished trials.

    Args:
        spec: definition of the study; values of ``spec.assignments`` override the study's own base.
        runs: folder of all runs on this machine, unless ``spec.storage`` is a local folder.
        resume: True to resume the run ``spec.name``.

    Raises:
        ConfigError: one error for all invalid options, variants and models.
        DataError: the data are missing.
    """
    checks.check_run(spec)
    free = {path: value for path, value in spec.study.base.items() if path not in spec.assignments}
    study, home = replace(spec.study, base=free), specs.home(spec.storage, runs)
    warnings = [*study.check(spec.config()), *_check_assignments(spec, resume)]
    base = override(spec.config(), study.base)
    spec = replace(spec, study=study, base=base.model_dump(mode="json"))
    checks.check_tuning(spec)
    trials = RunFolder(home / str(spec.name)).trials() if resume else []
    recorded = {trial.pair: trial for trial in trials if trial.pair is not None}
    cache = TrialCache.of_runs(home, study.metrics, share_any=spec.share_any)
    listed = pairs(spec.whole)
    shared = {}
    if spec.share:
        wanted = [pair for pair in listed if pair.key not in recorded or recorded[pair.key].state == "failed"]
        cached = {pair.key: cache.find(Candidate.of(base, pair.values)) for pair in wanted}
        shared = {key: one for key, one in cached.items() if one is not None}
        if cache.other_code:
            names = ", ".join(sorted({one.folder.name for one in cache.other_code}))
            warnings.append(
                f"{plural(len(cache.other_code), 'finished training')} of {names} came from other code or libraries "
                "and will be trained again; --share-any reuses them."
            )
    seconds = {name: cache.seconds(spec.whole.config(base, name, 0)) for name in spec.whole.variants}
    return Plan(
        spec=spec,
        runs=runs,
        resume=resume,
        pairs=listed,
        parameters=parameters(study, base) | (parameters(tuned, base) if (tuned := spec.tuned_study) else {}),
        warnings=warnings,
        recorded=recorded,
        shared=shared,
        seconds={name: each for name, each in seconds.items() if each is not None},
    )


def _check_assignments(spec: StudySpec, resume: bool) -> list[str]:
    """Return warnings about variants that --set does not affect.

    Raises:
        ConfigError: an assignment affects no variant; for a resumed run this is a warning instead.
    """
    faults, warnings, variants = [], [], spec.study.variants
    for path, value in spec.assignments.items():
        own = [name for name, changes in variants.items() if path in changes]
        if path == SEED:
            faults.append(f"Cannot use --set {SEED}={value}: --seeds sets the seeds.")
        elif len(own) == len(variants):
            faults.append(f"--set {path}={value} has no effect: every variant has its own {path}.")
        elif own:
            named = ", ".join(f"'{name}'" for name in own)
            warnings.append(f"--set {path}={value} has no effect on variants with their own {path}: {named}.")
    if faults and not resume:
        raise ConfigError.of(faults)
    return [*faults, *warnings]


def timed(plan: Plan, steps: int, tell: Callable[[str], None]) -> Plan:
    """Return the plan with estimated durations of the variants of which no similar trial has ended.

    Args:
        plan: plan without estimates.
        steps: number of steps to time for each such variant in this process; its data are prepared first.
        tell: called with each variant's name before it is timed.
    """
    from tune.execution.cost import training_seconds

    estimated, unfinished = {}, {pair.variant for pair in plan.left}
    for name, config in plan.study.configs(plan.base).items():
        if name in unfinished and name not in plan.seconds:
            tell(name)
            estimated[name] = training_seconds(config, steps, threads=max(1, int(plan.spec.cpus_per_worker or 1)))
    return replace(plan, estimated=estimated)


def parameters(study: Study, base: Config) -> dict[str, int]:
    """Return {variant: number of trainable parameters}; each model is built on the meta device, without memory.

    Raises:
        ConfigError: one error for all variants whose model cannot be built.
        DataError: the data are missing, so the number of classes is unknown.
    """
    from htt.model import size

    counts, faults = {}, []
    for name, config in study.configs(base).items():
        info = facts(config)
        try:
            counts[name] = size.parameters(config.model, info)
        except (ConfigError, CheckpointError, RuntimeError, ValueError) as error:
            faults.append(f"'{name}': {' '.join(str(error).split())}")
    raise_faults("Cannot build the model of a variant", faults)
    return counts


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a count, such as "6" (0 to 5), or of a list, such as "0,1,7".

    Raises:
        ConfigError: the text is neither.
    """
    words = [word.strip() for word in text.split(",")]
    if all(re.fullmatch(r"[0-9]{1,10}", word) for word in words):
        numbers = tuple(map(int, words))
        if len(numbers) > 1:
            return numbers
        if 0 < numbers[0] <= MOST_SEEDS:
            return tuple(range(numbers[0]))
    raise ConfigError(
        f"--seeds must be a count up to {MOST_SEEDS}, such as 6, or a list, such as 0,1,2; got {shown(text)}."
    )


def with_seeds(study: Study, text: str) -> Study:
    """Return the study with more seeds after its own: up to a total of "8", or those of "0,1,7". Its own are kept.

    Raises:
        ConfigError: the text is neither.
    """
    named = parse_seeds(text)
    more = named if "," in text else fresh_seeds(len(named), (), study.seeds)
    return replace(study, seeds=tuple(dict.fromkeys((*study.seeds, *more))))
