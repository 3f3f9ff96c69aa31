"""Options of a run and of a search, and their checks, which need no machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import tyro

from cluster.run_folder import check_run_name
from cluster.storage import absolute_uri
from htt import console
from htt.config import MOST, Config, Value, from_plain
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, did_you_mean, shown
from htt.evaluation.metric_table import METRICS, untrained_by
from htt.text import plural
from tune.experiments import constraints
from tune.experiments.constraints import KNEE, Constraint, check_bounds, check_metric
from tune.experiments.space import Domain, Space, raise_faults
from tune.experiments.study import MOST_SEEDS, TUNED, Study

METRIC = "hand_error_mm"
"""Default metric that trials are selected by. It is known after every epoch, changes smoothly and does not depend on
the loss weights, as the loss does. Accuracy over a few dozen validation clips changes in coarse steps, with many ties.
``--metric action_accuracy`` selects by the action head instead."""
WEIGHTED = "loss"
"""The metric that depends on the weights ``loss.*`` of a configuration; its terms, such as loss_action, do not."""
LATENCY = "latency_ms"
ALGORITHMS = ("tpe", "random")
SCHEDULERS = ("asha", "none")
TUNING_SEED = 2**32 - 1
"""Training seed of the searches of ``--tune``, so that the best trials are compared with seeds that did not pick them.
"""
FEWEST_TRIALS = 2
"""Smallest number of trials of ``--tune``."""
DEFAULT_FINALISTS = 2
"""Default number of finalists of a search with a frozen encoder and a time budget."""
WEIGHTS, SCRATCH, BOTH = "weights", "scratch", "both"
FINALIST_SHARE = 1 / 4
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
    cpus_per_worker: float = 1.0
    """Cores of each process, and its threads."""
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
        """Return the base configuration."""
        return from_plain(self.base)


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
    encoder, which is then trained, too. The best of both stages is written to best.yaml. A quarter of --time-budget is
    kept for stage two (default: 2 if the encoder is frozen and --trials is not given, otherwise 0)."""
    finalist_seeds: int = 2
    """Number of fresh seeds of each finalist, and of the best configuration on features, for comparison."""
    finalist_start: Text = WEIGHTS
    """Weights that a finalist starts from: weights (those of its trial), scratch (the encoder's alone, for as many
    epochs as its trial) or both (two trainings a seed)."""
    finalist_epochs: int = 4
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


def check_search(search: SearchSpec) -> None:
    """Raise a ``ConfigError`` for the first invalid option of a search."""
    for name in search.all_objectives:
        check_metric(name)
        _check_trained(name, search)
    check_objectives(search.objectives)
    check_bounds(search.constraints)
    constraints.check_rule(search.pick)
    check_name("--algorithm", search.algorithm, ALGORITHMS)
    check_name("--scheduler", search.scheduler, SCHEDULERS)
    _check_positive("--trials", search.trials)
    if not 0 <= search.seed < 2**32:
        raise ConfigError(f"--seed must be 0 to {2**32 - 1}; got {shown(search.seed)}.")
    _check_finalists(search)
    check_run(search)


def check_tuning(spec: StudySpec) -> None:
    """Raise a ``ConfigError`` for all invalid options and searches of a tuned study; without ``--tune`` do nothing."""
    if (spec.tune is None) != (spec.space is None or not spec.space):
        raise ConfigError(
            "--tune and --space belong together: --tune 20 --space quick. Add the other one, or drop both."
        )
    if spec.tune is None:
        return
    if not FEWEST_TRIALS <= spec.tune < 2**31:
        raise ConfigError(f"--tune must be {FEWEST_TRIALS} trials or more for each variant; got {spec.tune}.")
    if not spec.domains:
        raise ConfigError(
            f"Nothing to tune: the study {spec.study_name} or --set fixes every path that the space {spec.space} "
            "searches. Use another space."
        )
    faults = []
    if TUNING_SEED in spec.study.seeds:
        faults.append(f"seed {TUNING_SEED} is that of the searches of --tune. Use another one.")
    for variant in spec.study.variants:
        if variant.endswith(TUNED):
            faults.append(f"the name '{variant}' ends like that of a tuned variant. Choose another one.")
        try:
            search = spec.search(variant)
            check_search(search)
            check_comparable([search.metric], search.domains)
            Space(search.domains).check(search.config())
        except ConfigError as error:
            faults += [f"'{variant}': {fault}" for fault in error.faults]
    raise_faults("Cannot tune the variants", faults)


def _check_trained(metric: str, search: SearchSpec) -> None:
    """Raise a ``ConfigError`` if a metric is of a head whose loss has the weight 0 in all trials."""
    paths = [f"loss.{term}" for term in untrained_by(metric, search.config().loss)]
    off = [path for path in paths if path not in search.domains]
    if off:
        raise ConfigError(
            f"Cannot select trials by {metric}: the weight {' and '.join(off)} is 0, so nothing trains what it "
            f"measures. Use another metric, or a weight above 0: --set {off[0]}=1."
        )


def _check_finalists(search: SearchSpec) -> None:
    """Raise a ``ConfigError`` for the first invalid option of stage two."""
    if not 0 <= (search.finalists or 0) <= MOST_SEEDS:
        raise ConfigError(f"--finalists must be 0 to {MOST_SEEDS}; got {shown(search.finalists)}.")
    if not 1 <= search.finalist_seeds <= MOST_SEEDS:
        raise ConfigError(f"--finalist-seeds must be 1 to {MOST_SEEDS}; got {shown(search.finalist_seeds)}.")
    check_name("--finalist-start", search.finalist_start, (WEIGHTS, SCRATCH, BOTH))
    _check_positive("--finalist-epochs", search.finalist_epochs)
    if not 0 < search.finalist_lr <= MOST:
        raise ConfigError(f"--finalist-lr must be a number above 0; got {search.finalist_lr:g}.")
    if not search.finalists:
        return
    if search.trials is not None and search.trials < search.finalists:
        raise ConfigError(
            f"--finalists {search.finalists} needs as many trials; got --trials {search.trials}. Raise --trials or "
            "lower --finalists."
        )
    if search.config().model.backbone.trained:
        raise ConfigError(
            f"--finalists {search.finalists} needs a search with a frozen encoder, which the finalists then train; in "
            "this one every trial trains it. Drop --finalists, or add --set model.backbone.trained=false."
        )


def check_comparable(metrics: Iterable[str], searched: Iterable[str]) -> None:
    """Raise a ``ConfigError`` if trials are judged by the loss while its weights differ between trials.

    Args:
        metrics: the metrics that trials are selected, bounded or compared by.
        searched: the dotted paths in which trials differ.
    """
    weights = [path for path in searched if path.startswith("loss.")]
    if WEIGHTED in metrics and weights:
        raise ConfigError(
            f"Cannot compare trials by {WEIGHTED}: each has its own {' and '.join(weights)}, so the smallest weights "
            f"would win. Use a metric that means the same for all, such as {METRIC} or "
            f"action_accuracy, or fix the weights: --set {weights[0]}=1."
        )


def check_objectives(names: Sequence[str]) -> None:
    """Raise a ``ConfigError`` for an objective that is given twice."""
    twice = list(dict.fromkeys(name for name in names if list(names).count(name) > 1))
    if twice:
        raise ConfigError(f"--objective names each metric once; got {', '.join(twice)} twice.")


def check_known(named: Sequence[str], unknown: Mapping[str, str]) -> None:
    """Raise a ``ConfigError`` for metrics that the validation clips cannot give.

    Args:
        named: the metrics that the run uses.
        unknown: {metric: why the clips cannot give it}.
    """
    can = ", ".join(name for name in METRICS if name not in unknown)
    faults = [f"The data cannot give {name}: {unknown[name]}." for name in named if name in unknown]
    if faults:
        faults[-1] += f" Metrics they can give: {can}."
        raise ConfigError.of(faults)


def check_run(run: RunOptions) -> None:
    """Raise a ``ConfigError`` for the first invalid option common to all runs."""
    _check_positive("--max-concurrent", run.max_concurrent)
    _check_positive("--workers-per-trial", run.workers_per_trial)
    if not 0 < run.cpus_per_worker < math.inf:
        raise ConfigError(f"--cpus-per-worker must be a number above 0; got {run.cpus_per_worker:g}.")
    if run.gpus_per_trial is not None and not 0 <= run.gpus_per_trial < math.inf:
        raise ConfigError(f"--gpus-per-trial must be a number of 0 or more; got {run.gpus_per_trial:g}.")
    if run.name is not None:
        check_run_name(run.name)


def check_latency(metrics: Sequence[str], workers: int, concurrent: int) -> None:
    """Raise a ``ConfigError`` if latency is a metric and several trials with several workers run at once.

    Latency must be measured while nothing else runs. Trials with one worker wait while another trial measures
    (``htt.neighbours``); trials with several workers cannot.
    """
    if LATENCY in metrics and workers > 1 and concurrent > 1:
        raise ConfigError(
            f"{LATENCY} must be measured with nothing else running; got {concurrent} trials of {workers} workers at "
            "once. Add --max-concurrent 1, or --workers-per-trial 1, whose trials wait for the one that measures."
        )


def _check_positive(option: str, number: int | None) -> None:
    if number is not None and not 1 <= number < 2**31:
        raise ConfigError(f"{option} must be {'1 or more' if number < 1 else 'below 2^31'}; got {shown(number)}.")


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """Raise a ``ConfigError`` unless ``name`` is one of ``known``."""
    if name not in known:
        raise ConfigError(f"{option} must be one of {', '.join(known)}; got {shown(name)}.{did_you_mean(name, known)}")


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
