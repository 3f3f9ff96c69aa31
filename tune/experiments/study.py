"""A study is data: a question, variants, the one they are compared to, and seeds. It is checked before Ray starts.

::

    STUDY = Study(
        question="How many frames should block P see?",
        variants={"1 frame": {"model.pose.window": 1}, "16 frames": {"model.pose.window": 16}},
        reference="16 frames",
    )

A variant is what it changes in the base, {dotted path: value}, as a sample of a search is; {} is the base itself. All
variants are trained with the same seeds, so that differences are paired. ``designs.py`` makes variants of factors and
parts, ``tune/results/stats.py`` says what may be claimed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from htt.config import Config, Value, override, plain_value
from htt.data.loading.windows import cutting
from htt.errors import ConfigError, did_you_mean
from htt.evaluation.metric_table import METRICS
from htt.registry import check_plugins
from htt.text import plural
from tune.experiments.power import comparisons_possible, seeds_needed

SEED = "train.seed"
MOST_SEEDS = 1000
"""What a command may ask for by a count: more is a slip of the hand."""
PAPERS_SOURCE = "h2o"
"""The data that the numbers in ``paper_value`` are of: H2O's validation split."""


@dataclass(frozen=True)
class Study:
    """A question, and the trainings that answer it.

    Raises:
        ConfigError: nothing to compare, no such reference, seeds or metrics that cannot be, names of no variant.
    """

    question: str
    variants: Mapping[str, Mapping[str, Value]]
    """{name: {dotted path: value}}."""
    reference: str
    """The variant the others are compared to."""
    base: Mapping[str, Value] = field(default_factory=dict)
    """What all variants change in the configuration they start from."""
    seeds: Sequence[int] = ()
    """What each variant is trained with; none named: 0, 1, ... as many as it takes to claim a difference."""
    metrics: Sequence[str] = ("action_accuracy", "hand_error_mm")
    contrasts: Sequence[tuple[str, str]] = ()
    """Pairs of ``metrics`` that are compared within each training: the second less the first."""
    primary: Sequence[str] = ()
    """The variants this study is about, named before it runs: claims are corrected over these, and made of these alone.
    None named: all."""
    paper_value: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """{variant: {metric: value}} as published for H2O's validation split; only what a source gives."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """{variant: what a reader of its numbers should know}."""
    factors: Mapping[str, Mapping[str, Mapping[str, Value]]] = field(default_factory=dict)
    """{factor: {level: {dotted path: value}}} that ``designs.py`` made the variants of; none: effects of factors are
    not asked for."""

    def __post_init__(self) -> None:
        seeds = self.seeds if len(self.seeds) else range(seeds_needed(max(1, len(self.compared))))
        pairs = [tuple(pair) for pair in self.contrasts]
        lists = {"seeds": seeds, "metrics": self.metrics, "contrasts": pairs, "primary": self.primary}
        for name, values in lists.items():
            object.__setattr__(self, name, tuple(map(plain_value, values)))
        _raise("The study cannot be asked", list(self._own_faults()))

    @property
    def others(self) -> list[str]:
        """Every variant but the reference."""
        return [name for name in self.variants if name != self.reference]

    @property
    def compared(self) -> list[str]:
        """The variants of which a difference may be claimed."""
        return list(self.primary) or self.others

    def config(self, base: Config, variant: str, seed: int) -> Config:
        """What is trained: the base, what all variants change, what this one changes, and the seed."""
        return override(base, {**self.base, **self.variants[variant], SEED: seed})

    def levels(self) -> dict[str, dict[str, str]]:
        """{variant: {factor: level}} of a study of factors; empty of any other."""
        if not self.factors:
            return {}
        return {name: levels_of(changes, self.factors) for name, changes in self.variants.items()}

    def cut_alike(self, base: Config) -> bool:
        """Whether all variants are trained on the same windows, whatever the clips."""
        first, *others = (cutting(self.config(base, name, self.seeds[0])) for name in self.variants)
        return all(each == first for each in others)

    def paper(self, base: Config, variant: str) -> Mapping[str, float]:
        """{metric: what the paper has for this variant}; empty on other data than the paper's."""
        return self.paper_value.get(variant, {}) if base.data.source == PAPERS_SOURCE else {}

    def check(self, base: Config) -> list[str]:
        """Prove that every variant is a configuration of its own, and say what these variants and seeds cannot tell.

        Raises:
            ConfigError: one error with every path that does not exist, every value that cannot be, and all variants
                that are the same.
        """
        _raise("The study cannot be run", list(self._faults(base)))
        return [*self._twins(base), *self._warnings()]

    def plain(self) -> dict[str, Any]:
        """As plain data, for a run's record."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Study:
        """The study that ``plain`` wrote down.

        Raises:
            ConfigError: it is none.
        """
        try:
            return Study(**plain)
        except (TypeError, AttributeError) as error:
            raise ConfigError(f"The record of the run must hold a study; {error}.") from error

    def _own_faults(self) -> Iterator[str]:
        if self.reference not in self.variants:
            there = ", ".join(self.variants)
            near = did_you_mean(self.reference, list(self.variants))
            yield f"the reference must be one of the variants; got '{self.reference}'. There are: {there}.{near}"
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
        odd = [pair for pair in self.contrasts if len({*pair} & {*self.metrics}) != 2]
        if odd:
            yield f"contrasts must be pairs of the study's metrics; got {odd}."
        for word, names in (("primary", self.primary), ("paper_value", self.paper_value), ("notes", self.notes)):
            strangers = [name for name in names if name not in self.variants]
            if strangers:
                yield f"{word} must name variants; got {strangers}."
        yield from self._faults_of_factors()
        if self.reference in self.primary:
            yield f"primary must name what is compared to the reference; got the reference, '{self.reference}'."

    def _faults_of_factors(self) -> Iterator[str]:
        levels = self.levels()
        odd = [name for name, has in levels.items() if len(has) < len(self.factors)]
        if odd:
            yield f"variants of a study of factors must be combinations of levels and nothing else; {odd} are not."
        elif levels:
            for first, second in itertools.combinations(self.factors, 2):
                cells = itertools.product(self.factors[first], self.factors[second])
                counts = {sum((has[first], has[second]) == cell for has in levels.values()) for cell in cells}
                if len(counts) > 1:
                    yield (
                        f"effects can be told where each pair of levels is in equally many variants; those of {first} "
                        f"and {second} are not. Use factorial or fractional of tune/experiments/designs.py."
                    )

    def _faults(self, base: Config) -> Iterator[str]:
        faults = {name: self._attempt(base, name) for name in self.variants}
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

    def _attempt(self, base: Config, variant: str) -> list[str]:
        """What is wrong with a variant's configuration."""
        try:
            check_plugins(self.config(base, variant, min(self.seeds)))
        except ConfigError as error:
            return error.faults
        return []

    def _twins(self, base: Config) -> Iterator[str]:
        """Variants that differ, but not on clips as short as these."""
        alike: dict[str, list[str]] = {}
        for name in self.variants:
            config = self.config(base, name, self.seeds[0])
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
        could = f"over {possible} named in `primary`" if possible else "over none, however clear"
        yield (
            f"{plural(count, 'seed')} cannot carry a claim over {plural(len(self.compared), 'comparison')} at the 5 % "
            f"level; {needed} can. With {count}, a difference could be claimed {could}. Intervals are given all the "
            "same."
        )


def within_clips(config: Config) -> Config:
    """The same with no window longer than the longest clip, where that is known without the data."""
    if config.data.source != "synthetic" or config.data.root:
        return config
    longest = -(-config.data.synthetic.frames // config.data.spacing)
    window = config.model.pose.window if config.data.shifted_starts else min(config.model.pose.window, longest)
    return override(
        config, {"model.action.length": min(config.model.action.length, longest), "model.pose.window": window}
    )


def levels_of(changes: Mapping[str, Value], factors: Mapping[str, Mapping[str, Mapping[str, Value]]]) -> dict[str, str]:
    """{factor: level} of a variant that changes so much.

    A factor of which it has no level is left out, and all of them where it changes more than they do.
    """
    found, known = {}, set()
    for factor, levels in factors.items():
        paths = {path for level in levels.values() for path in level}
        own = {path: value for path, value in changes.items() if path in paths}
        same = [level for level, wanted in levels.items() if _plain(wanted) == _plain(own)]
        if same:
            found[factor] = same[0]
        known |= paths
    return found if set(changes) <= known else {}


def _raise(rule: str, faults: list[str]) -> None:
    if len(faults) == 1:
        raise ConfigError(f"{rule}: {faults[0]}")
    if faults:
        raise ConfigError(f"{rule}; {len(faults)} faults:\n" + "\n".join(f"  - {fault}" for fault in faults))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else plain_value(value)


@dataclass(frozen=True)
class Pair:
    """One training of a study."""

    number: int
    """Its place in the study, from 1."""
    variant: str
    seed: int
    values: Mapping[str, Value]
    """What it changes in the run's base, the seed included."""

    @property
    def key(self) -> tuple[str, int]:
        """What no other training of the study has."""
        return self.variant, self.seed


def pairs(study: Study) -> list[Pair]:
    """All trainings: every variant of a seed before the next seed, so that a study that is stopped stays paired."""
    keys = [(variant, seed) for seed in study.seeds for variant in study.variants]
    return [
        Pair(number, variant, seed, {**study.variants[variant], SEED: seed})
        for number, (variant, seed) in enumerate(keys, 1)
    ]
