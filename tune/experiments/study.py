"""Study: a question, variants, a reference variant and seeds, as plain data. It is checked before Ray starts.

::

    STUDY = Study(
        question="How many frames should block P see?",
        variants={"1 frame": {"model.pose.window": 1}, "16 frames": {"model.pose.window": 16}},
        reference="16 frames",
    )

A variant is given by its changes to the base, {dotted path: value}, like a sample of a search; {} is the base itself.
All variants are trained with the same seeds, so that differences are paired. ``designs.py`` creates variants from
factors and parts; ``tune/results/stats.py`` defines when a difference may be claimed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from htt.config import Config, Value, override, plain_value
from htt.data.loading.windows import cutting
from htt.errors import ConfigError, did_you_mean
from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.experiments.power import comparisons_possible, seeds_needed
from tune.experiments.space import faults_of, raise_faults

SEED = "train.seed"
MOST_SEEDS = 1000
"""Largest number of seeds that a command accepts as a count; more is treated as a typing error."""
TUNED = ", tuned"
"""End of the name of a variant that has values of its own, found by a search."""
PAPERS_SOURCE = "h2o"
"""Source of the data that the numbers in ``paper_value`` belong to: H2O's validation split."""


@dataclass(frozen=True)
class Study:
    """Question, variants and seeds of a study.

    Raises:
        ConfigError: there is nothing to compare, the reference or another named variant does not exist, or seeds,
            metrics, contrasts or factors are invalid.
    """

    question: str
    variants: Mapping[str, Mapping[str, Value]]
    """{name: {dotted path: value}}."""
    reference: str
    """Variant that the others are compared to."""
    base: Mapping[str, Value] = field(default_factory=dict)
    """Changes to the base configuration that all variants share: {dotted path: value}."""
    seeds: Sequence[int] = ()
    """Seeds that each variant is trained with; if empty, 0, 1, ...: as many as a claim needs (``seeds_needed``)."""
    metrics: Sequence[str] = ("action_accuracy", "hand_error_mm")
    contrasts: Sequence[tuple[str, str]] = ()
    """Pairs of ``metrics`` that are compared within each trial: the second minus the first."""
    primary: Sequence[str] = ()
    """Variants that may be claimed to differ, named before the study runs: Holm's correction is over these alone. If
    empty, all variants except the reference."""
    paper_value: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """{variant: {metric: value}} as published for H2O's validation split; only values with a source."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """{variant: note for readers of its numbers}."""
    factors: Mapping[str, Mapping[str, Mapping[str, Value]]] = field(default_factory=dict)
    """{factor: {level: {dotted path: value}}} from which ``designs.py`` created the variants; if empty, no effects of
    factors are computed."""

    def __post_init__(self) -> None:
        seeds = self.seeds if len(self.seeds) else range(seeds_needed(max(1, len(self.compared))))
        object.__setattr__(self, "contrasts", tuple(tuple(pair) for pair in self.contrasts))
        for name, values in {"seeds": seeds, "metrics": self.metrics, "primary": self.primary}.items():
            object.__setattr__(self, name, tuple(map(plain_value, values)))
        raise_faults("Invalid study", list(self._own_faults()))

    @property
    def others(self) -> list[str]:
        """All variants except the reference."""
        return [name for name in self.variants if name != self.reference]

    @property
    def compared(self) -> list[str]:
        """Variants that may be claimed to differ from the reference."""
        return list(self.primary) or self.others

    def config(self, base: Config, variant: str, seed: int) -> Config:
        """Return the configuration of a trial: base, shared changes, changes of the variant, and seed."""
        return override(base, {**self.base, **self.variants[variant], SEED: seed})

    def configs(self, base: Config) -> dict[str, Config]:
        """Return {variant: configuration with the first seed}."""
        return {name: self.config(base, name, self.seeds[0]) for name in self.variants}

    def levels(self) -> dict[str, dict[str, str]]:
        """Return {variant: {factor: level}}; empty if the study has no factors."""
        if not self.factors:
            return {}
        return {name: levels_of(changes, self.factors) for name, changes in self.variants.items()}

    def cut_alike(self, base: Config) -> bool:
        """Return whether all variants cut every clip into the same training windows."""
        first, *others = ((cutting(each), each.data.observed) for each in self.configs(base).values())
        return all(each == first for each in others)

    def paper(self, base: Config, variant: str) -> Mapping[str, float]:
        """Return {metric: published value} of a variant; empty for other data than ``PAPERS_SOURCE``."""
        return self.paper_value.get(variant, {}) if base.data.source == PAPERS_SOURCE else {}

    @property
    def varied(self) -> set[str]:
        """Dotted paths that the base or a variant changes."""
        return {*self.base, *(path for changes in self.variants.values() for path in changes)}

    def tuned(self, values: Mapping[str, Mapping[str, Value]]) -> Study:
        """Return the study of the same variants, each with values of its own: {variant: {dotted path: value}}."""
        names = {name: f"{name}{TUNED}" for name in self.variants}
        return replace(
            self,
            variants={names[name]: {**changes, **values[name]} for name, changes in self.variants.items()},
            reference=names[self.reference],
            primary=[names[name] for name in self.primary],
            notes={names[name]: note for name, note in self.notes.items()},
            paper_value={},
            factors={},
        )

    def check(self, base: Config) -> list[str]:
        """Check that all variants are valid and distinct configurations.

        Returns:
            Warnings about variants that are equal on short clips and about too few seeds for a claim.

        Raises:
            ConfigError: one error with all unknown paths, invalid values and equal variants.
        """
        raise_faults("Invalid study", list(self._faults(base)))
        return [*self._twins(base), *self._warnings()]

    def plain(self) -> dict[str, Any]:
        """Return the study as plain data, for the record of a run."""
        return {entry.name: plain_value(getattr(self, entry.name)) for entry in fields(self)}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Study:
        """Return the study of the data that ``plain`` returned.

        Raises:
            ConfigError: the data are not a study.
        """
        try:
            return Study(**plain)
        except (TypeError, AttributeError) as error:
            raise ConfigError(f"The record of the run must hold a study; {error}.") from error

    def _own_faults(self) -> Iterator[str]:
        if self.reference not in self.variants:
            near = did_you_mean(self.reference, list(self.variants))
            known = ", ".join(self.variants)
            yield f"the reference must be one of the variants; got '{self.reference}'. Available: {known}.{near}"
        elif not self.others:
            yield f"it must have a variant beside the reference; got '{self.reference}' alone."
        if len(set(self.seeds)) < len(self.seeds):
            yield f"each seed must be named once; got {list(self.seeds)}."
        named = [*self.metrics, *(name for values in self.paper_value.values() for name in values)]
        unknown = [name for name in named if name not in METRICS]
        if unknown or not self.metrics:
            near = "".join(did_you_mean(name, list(METRICS)) for name in unknown)
            yield f"metrics must be those an evaluation gives, one at least; got {unknown or 'none'}.{near}"
        weighted = sorted({path for each in self.variants.values() for path in each if path.startswith("loss.")})
        if weighted and "loss" in self.metrics:
            yield (
                f"metrics must mean the same for all variants; loss is weighted by {', '.join(weighted)}, which they "
                "change. Use hand_error_mm or action_accuracy, or a term such as loss_action."
            )
        invalid = [pair for pair in self.contrasts if len({*pair} & {*self.metrics}) != 2]
        if invalid:
            yield f"contrasts must be pairs of the study's metrics; got {invalid}."
        for word, names in (("primary", self.primary), ("paper_value", self.paper_value), ("notes", self.notes)):
            unknown = [name for name in names if name not in self.variants]
            if unknown:
                yield f"{word} must name variants; got {unknown}."
        yield from self._faults_of_factors()
        if self.reference in self.primary:
            yield f"primary must name what is compared to the reference; got the reference, '{self.reference}'."

    def _faults_of_factors(self) -> Iterator[str]:
        levels = self.levels()
        invalid = [name for name, has in levels.items() if len(has) < len(self.factors)]
        if invalid:
            yield f"variants of a study of factors must be combinations of levels and nothing else; {invalid} are not."
        elif levels:
            for first, second in itertools.combinations(self.factors, 2):
                cells = itertools.product(self.factors[first], self.factors[second])
                counts = {sum((has[first], has[second]) == cell for has in levels.values()) for cell in cells}
                if len(counts) > 1:
                    yield (
                        f"effects need each pair of levels in equally many variants; those of {first} "
                        f"and {second} are not. Use factorial of tune/experiments/designs.py."
                    )

    def _faults(self, base: Config) -> Iterator[str]:
        seed = {SEED: min(self.seeds)}
        faults = {name: faults_of(base, {**self.base, **each, **seed}) for name, each in self.variants.items()}
        shared = [fault for fault in faults[self.reference] if all(fault in found for found in faults.values())]
        yield from shared
        seen: dict[str, str] = {}
        for name, found in faults.items():
            yield from (f"'{name}': {fault}" for fault in found if fault not in shared)
            if SEED in self.base or SEED in self.variants[name]:
                yield f"'{name}': {SEED} must be left to the study's seeds; else differences would not be paired."
            if not found:
                twin = seen.setdefault(self.config(base, name, self.seeds[0]).fingerprint(), name)
                if twin != name:
                    yield f"'{name}' must differ from '{twin}'; on this base both are the same configuration."

    def _twins(self, base: Config) -> Iterator[str]:
        """Yield a warning for each group of variants that are equal on clips as short as these."""
        alike: dict[str, list[str]] = {}
        for name, config in self.configs(base).items():
            alike.setdefault(within_clips(config).fingerprint(), []).append(f"'{name}'")
        for names in alike.values():
            if len(names) > 1:
                listed = f"{', '.join(names[:-1])} and {names[-1]}"
                frames = config.data.synthetic.frames
                yield f"{listed} are the same on clips of at most {frames} frames; a seed gives them the same values."

    def _warnings(self) -> Iterator[str]:
        count, needed = len(self.seeds), seeds_needed(len(self.compared))
        if count >= needed:
            return
        possible = comparisons_possible(count)
        claims = f"over {possible} named in `primary`" if possible else "over none, however clear"
        yield (
            f"{plural(count, 'seed')} cannot carry a claim over {plural(len(self.compared), 'comparison')} at the 5 % "
            f"level; {needed} can. With {count}, a difference could be claimed {claims}. Intervals are given all the "
            "same."
        )


def within_clips(config: Config) -> Config:
    """Return the configuration with windows cut to the longest clip, if that is known without reading data."""
    if config.data.source != "synthetic" or config.data.root:
        return config
    longest = -(-config.data.synthetic.frames // config.data.spacing)
    window = config.model.pose.window if config.data.shifted_starts else min(config.model.pose.window, longest)
    return override(
        config, {"model.action.length": min(config.model.action.length, longest), "model.pose.window": window}
    )


def levels_of(changes: Mapping[str, Value], factors: Mapping[str, Mapping[str, Mapping[str, Value]]]) -> dict[str, str]:
    """Return {factor: level} of a variant.

    A factor is omitted if the variant has none of its levels. The result is empty if the variant changes a path that
    belongs to no factor.
    """
    result, known = {}, set()
    for factor, levels in factors.items():
        paths = {path for level in levels.values() for path in level}
        own = {path: value for path, value in changes.items() if path in paths}
        same = [level for level, wanted in levels.items() if plain_value(wanted) == plain_value(own)]
        if same:
            result[factor] = same[0]
        known |= paths
    return result if set(changes) <= known else {}


@dataclass(frozen=True)
class Pair:
    """Variant and seed of one trial of a study."""

    number: int
    """Position in the study, from 1."""
    variant: str
    seed: int
    values: Mapping[str, Value]
    """Changes to the base of the run, including the seed: {dotted path: value}."""

    @property
    def key(self) -> tuple[str, int]:
        """Unique (variant, seed) within the study."""
        return self.variant, self.seed


def pairs(study: Study) -> list[Pair]:
    """Return all trials, ordered by seed and then variant, so that a study stopped early has complete pairs."""
    keys = [(variant, seed) for seed in study.seeds for variant in study.variants]
    return [
        Pair(number, variant, seed, {**study.variants[variant], SEED: seed})
        for number, (variant, seed) in enumerate(keys, 1)
    ]
