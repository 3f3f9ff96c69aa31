"""Definitions of searches and studies: the options that a command parses, and the spec that a run saves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro

from cluster.storage import absolute_uri
from htt import console
from htt.config import Config, Value, from_plain, override
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, shown
from htt.evaluation.metric_table import EARLY
from htt.text import plural
from tune.experiments.constraints import KNEE, Constraint
from tune.experiments.space import Domain, Space
from tune.experiments.study import TUNED, Study

METRIC = "hand_error_mm"
"""Default metric that trials are selected by. It is known after every epoch, changes smoothly and does not depend on
the loss weights, as the loss does. Accuracy over a few dozen validation clips changes in coarse steps, with many ties.
``--metric action_accuracy`` selects by the action head instead."""
OF_ACTIONS = "action_accuracy"
"""Default metric of a model that predicts no hands."""
TUNING_SEED = 2**32 - 1
"""Training seed of the searches of ``--tune``, so that the best trials are compared with seeds that did not pick them.
"""
DEFAULT_FINALISTS = 2
"""Default number of finalists of a search with a frozen encoder and a time budget."""
WEIGHTS, SCRATCH, BOTH = "weights", "scratch", "both"
FINALIST_SHARE = 0.2
"""Share of a search's time budget that is kept for its finalists."""
RUNS = Path("runs")
"""Default folder of all runs on this machine."""


Text = Annotated[str, tyro.conf.arg(metavar="TEXT")]
OptionsT = TypeVar("OptionsT", bound="RunOptions")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The part of a run's spec that is parsed from the command line as it is."""

    name: console.OptionalText = None
    """Name of the run (default: its kind, its subject, date and time)."""
    max_concurrent: console.OptionalInt = None
    """Maximum number of trials at once (default: as many as fit on the machines)."""
    workers_per_trial: int = 1
    """Processes of a trial; several train it together by Ray Train."""
    cpus_per_worker: console.OptionalFloat = None
    """Cores of each process, and its threads (default: 1, or with GPUs the machine's cores for each GPU)."""
    gpus_per_trial: console.OptionalFloat = None
    """GPUs of a trial, over all its processes; 0.5 puts two trials on one (default: one for each process, if the
    machines have any)."""
    storage: console.OptionalText = None
    """Folder or URI (s3://, gs://) all machines can write to (default: runs)."""
    address: console.OptionalText = None
    """Address of a Ray cluster to join, "auto" or host:port (default: this machine)."""
    share_any: bool = False
    """Also accept results of other code or other libraries; the report names them."""


@dataclass(frozen=True, kw_only=True)
class RunSpec(RunOptions):
    """Definition of a run, saved in ``run.yaml`` and read by ``--resume``."""

    KIND: ClassVar[str]
    CHANGEABLE: ClassVar[frozenset[str]] = frozenset({"max_concurrent", "storage", "address", "share_any"})
    """Fields that may change when the run is resumed."""

    assignments: Mapping[str, Value] = field(default_factory=dict)
    """Values fixed by ``--set``: {dotted path: value}."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """Configuration that trials start from, with ``assignments``, as nested plain data."""

    def config(self) -> Config:
        """Return the base configuration; it measures the early action if the run names its metric."""
        config: Config = from_plain(self.base)
        return override(config, {"runtime.early_action": True}) if EARLY in self.measured else config

    @property
    def measured(self) -> Sequence[str]:
        """Metrics that the run selects or compares by."""
        return ()


@dataclass(frozen=True, kw_only=True)
class SearchOptions(RunOptions):
    """The part of a search's spec that is parsed from the command line as it is."""

    space: Text = "quick"
    """Space to search, a module of tune/experiments/spaces."""
    trials: console.OptionalInt = None
    """Total number of trials, including those before --resume (default: as many as the time allows)."""
    seed: int = 0
    """Random seed of the searcher."""
    algorithm: Text = "tpe"
    """Sampler of the trials: tpe or random."""
    scheduler: Text = "asha"
    """Early-stopping scheduler: asha, or none to train every trial to its end."""
    warm_start: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="RUN")] = ()
    """Start with the finished trials of an earlier run that fit this search, its best ones among the trials of this
    one; repeat for more."""
    finalists: console.OptionalInt = None
    """Number of the best configurations to train end to end afterwards (stage two), 0 for none. It needs a frozen
    encoder, which is then trained, too. The best of both stages is written to best.yaml. A fifth of
    --time-budget is kept for stage two (default: 2 if the encoder is frozen and --trials is not given, otherwise
    0)."""
    finalist_seeds: int = 2
    """Number of fresh seeds of each finalist, and of the best configuration on features, for comparison."""
    finalist_start: Text = WEIGHTS
    """Weights that a finalist starts from: weights (those of its trial), scratch (the encoder's alone, for as many
    epochs as its trial) or both (two trainings a seed)."""
    finalist_epochs: int = 3
    """Epochs of a finalist that starts from the weights of its trial."""
    finalist_lr: float = 3e-4
    """Learning rate of a finalist that starts from the weights of its trial; --set optim.backbone_lr=... gives the
    encoder another."""
    share_any: bool = False
    """Also start with trials of other code or other libraries, and resume a run of other code; the report names these
    trials."""


@dataclass(frozen=True, kw_only=True)
class SearchSpec(SearchOptions, RunSpec):
    """Definition of a search."""

    KIND: ClassVar[str] = "search"
    FINALISTS: ClassVar[frozenset[str]] = frozenset(
        {"finalists", "finalist_seeds", "finalist_start", "finalist_epochs", "finalist_lr"}
    )
    """Fields of stage two, which change nothing in the trials of the search."""
    CHANGEABLE: ClassVar[frozenset[str]] = RunSpec.CHANGEABLE | FINALISTS | {"trials", "time_budget_s"}

    time_budget_s: float | None = None
    """Time budget, s, from the moment the data are ready; None for no limit."""
    metric: str = METRIC
    """Metric that selects trials and that the scheduler reads."""
    objectives: tuple[str, ...] = ()
    """All objectives, ``metric`` first, if there are several; otherwise empty."""
    pick: str = KNEE
    """Rule that picks one trial from the Pareto front; see ``tune.results.selection``."""
    constraints: tuple[Constraint, ...] = ()
    points: tuple[Mapping[str, Value], ...] = ()
    """Samples to try first."""
    domains: Mapping[str, Domain] = field(default_factory=dict)
    """{dotted path: domain} of the space, without the paths of ``assignments``."""

    def over(self, space: Space, assignments: Mapping[str, Value]) -> SearchSpec:
        """Return this spec with the domains and the base of a space, both changed by ``--set``, and its finalists."""
        config, domains = space.start(assignments), space.without(assignments).domains
        finalists = self.finalists
        if finalists is None:
            finalists = 0 if config.model.backbone.trained or self.trials is not None else DEFAULT_FINALISTS
        base = config.model_dump(mode="json")
        return replace(self, domains=domains, base=base, assignments=dict(assignments), finalists=finalists)

    @property
    def all_objectives(self) -> Sequence[str]:
        """The objectives of the Optuna study: ``objectives``, or ``metric`` alone."""
        return self.objectives or [self.metric]

    @property
    def measured(self) -> Sequence[str]:
        """The objectives, and the metrics of the bounds."""
        return [*self.all_objectives, *(each.metric for each in self.constraints), *re.findall(r"\w+", self.pick)]

    @property
    def stage_one_s(self) -> float | None:
        """Time budget without that of the finalists, s; None for no limit."""
        kept = FINALIST_SHARE if self.finalists else 0.0
        return None if self.time_budget_s is None else (1 - kept) * self.time_budget_s

    @property
    def finalist_starts(self) -> Sequence[str]:
        """Starts of each finalist."""
        return (WEIGHTS, SCRATCH) if self.finalist_start == BOTH else (self.finalist_start,)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(RunOptions):
    """The part of a study's spec that is parsed from the command line as it is."""

    share: bool = True
    """Reuse finished trainings of the same configuration, data and seed from other runs."""
    share_any: bool = False
    """Also reuse trainings of other code or other libraries, and resume a run of other code; the report names
    these."""
    tune: console.OptionalInt = None
    """Also compare the variants at their own best: search each with this number of trials in --space, and train the
    best of each with the study's seeds."""
    space: console.OptionalText = None
    """Space of --tune, a module of tune/experiments/spaces; what the study or --set fixes is left out of it."""


@dataclass(frozen=True)
class Tuned:
    """Result of the search of one variant."""

    values: Mapping[str, Value]
    """Values of the best trial that differ from the variant's at shared settings: {dotted path: value}."""
    value: float
    """Metric of the best trial, in the search."""
    trials: int
    """Number of trials of the search."""
    pruned: int
    """Number of them that the scheduler stopped early."""
    seconds: float
    """Duration of all of them, s."""


@dataclass(frozen=True, kw_only=True)
class StudySpec(StudyOptions, RunSpec):
    """Definition of a study."""

    KIND: ClassVar[str] = "study"
    CHANGEABLE: ClassVar[frozenset[str]] = RunSpec.CHANGEABLE | {"share", "study", "base", "tuned"}

    study_name: str
    """Module in tune/experiments/studies."""
    study: Study
    """Question, variants and seeds; seeds may be added when the run is resumed."""
    domains: Mapping[str, Domain] = field(default_factory=dict)
    """{dotted path: domain} of ``space``, without the paths that the study or ``assignments`` fix."""
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    """{variant: result of its search}; empty until all searches have ended."""

    @property
    def metric(self) -> str:
        """The first metric of the study."""
        return self.study.metrics[0]

    @property
    def measured(self) -> Sequence[str]:
        """The metrics of the study."""
        return self.study.metrics

    @property
    def tuned_study(self) -> Study | None:
        """Study of the variants at their own best, or None before the searches have ended."""
        found = {name: each.values for name, each in self.tuned.items()}
        return self.study.tuned(found) if found else None

    @property
    def whole(self) -> Study:
        """Study of all trainings: at shared settings, and tuned if the search found other settings."""
        tuned = self.tuned_study
        if tuned is None:
            return self.study
        differ = [f"{name}{TUNED}" for name, each in self.tuned.items() if each.values]
        variants = {**self.study.variants, **{name: tuned.variants[name] for name in differ}}
        return replace(self.study, variants=variants, primary=self.study.compared, factors={})

    def search(self, variant: str) -> SearchSpec:
        """Return the search of one variant: the same space, trials, seed and machines for all."""
        config = self.study.config(self.config(), variant, TUNING_SEED)
        return SearchSpec(
            **{**vars(options(RunOptions, self)), "name": None},
            space=str(self.space),
            trials=self.tune,
            metric=self.metric,
            domains=self.domains,
            base=config.model_dump(mode="json"),
            assignments=self.assignments,
        )


def options(kind: type[OptionsT], spec: OptionsT) -> OptionsT:
    """Return the fields of ``spec`` that ``kind``, one of its base classes, has."""
    return kind(**{each.name: getattr(spec, each.name) for each in fields(kind)})


def default_metric(config: Config) -> str:
    """Return the metric that trials of a configuration are selected by unless another one is given."""
    return METRIC if config.model.backbone.reads_images else OF_ACTIONS


LONGEST_S = 366 * 24 * 3600.0
"""Longest time budget, s."""


def parse_budget(text: str) -> float:
    """Return the seconds of a duration such as "90", "8m", "1h30m" or "2h".

    Raises:
        ConfigError: the text is not a duration, or the duration is 0 or longer than ``LONGEST_S``.
    """
    number = r"([0-9]+(?:\.[0-9]+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    parts = zip(match.groups(), (3600, 60, 1), strict=True) if match else ()
    seconds = sum(float(part or 0) * unit for part, unit in parts)
    if not 0 < seconds <= LONGEST_S:
        raise ConfigError(
            f"--time-budget takes a time above 0 and up to a year, such as 90s, 8m or 1h30m; got {shown(text)}."
        )
    return seconds


def limits(search: SearchSpec) -> str:
    """Return the limits of a search as text, for example "8 trials are done or 10:00 min have passed"."""
    words = [f"{plural(search.trials, 'trial')} {'is' if search.trials == 1 else 'are'} done"] if search.trials else []
    if search.stage_one_s is not None:
        words.append(f"{console.clock(search.stage_one_s)} min have passed")
    then = f", then training the {plural(search.finalists, 'finalist')} end to end" if search.finalists else ""
    return " or ".join(words) + then


def home(uri: str | None, runs: Path = RUNS) -> Path:
    """Return the folder of all runs on this machine: the storage if it is a local folder, otherwise ``runs``.

    Raises:
        ConfigError: ``uri`` holds a password.
    """
    if uri is None:
        return runs
    place = absolute_uri(uri)
    return runs if is_remote(place) else Path(place)
