"""Checks of the definition of a search or study; they need no machine and no data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from cluster.run_folder import check_run_name
from htt.config import MOST
from htt.errors import ConfigError, did_you_mean, shown
from htt.evaluation.metric_table import METRICS, TIMES_MS, at_time, untrained_by
from tune.experiments import constraints
from tune.experiments.constraints import check_bounds, check_metric
from tune.experiments.space import Space, raise_faults
from tune.experiments.spec import (
    BOTH,
    METRIC,
    OF_ACTIONS,
    SCRATCH,
    TUNING_SEED,
    WEIGHTS,
    RunOptions,
    SearchSpec,
    StudySpec,
)
from tune.experiments.study import MOST_SEEDS, TUNED

WEIGHTED = "loss"
"""The metric that depends on the weights ``loss.*`` of a configuration; its terms, such as loss_action, do not."""
HORIZON = "model.forecast.frames"
LATENCY = "latency_ms"
ALGORITHMS = ("tpe", "random")
SCHEDULERS = ("asha", "none")
FEWEST_TRIALS = 2
"""Smallest number of trials of ``--tune``."""


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
    if off and not search.config().model.backbone.reads_images:
        raise ConfigError(
            f"Cannot select trials by {metric}: a model without an image encoder (model.backbone.name none) predicts "
            f"neither hands nor objects. Use --metric {OF_ACTIONS}."
        )
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
    backbone = search.config().model.backbone
    if not backbone.reads_images:
        raise ConfigError(
            f"--finalists {search.finalists} trains the image encoder of the best trials, and this search has none "
            "(model.backbone.name none). Drop --finalists."
        )
    if backbone.trained:
        raise ConfigError(
            f"--finalists {search.finalists} needs a search with a frozen encoder, which the finalists then train; in "
            "this one every trial trains it. Drop --finalists, or add --set model.backbone.trained=false."
        )


def check_comparable(metrics: Iterable[str], searched: Iterable[str]) -> None:
    """Raise a ``ConfigError`` if trials are judged by a metric that means something else for each of them.

    The loss does if its weights differ between trials, and the error of a whole forecast if its length does.

    Args:
        metrics: the metrics that trials are selected, bounded or compared by.
        searched: the dotted paths in which trials differ.
    """
    metrics, searched = list(metrics), list(searched)
    whole = [name for name in metrics if name.startswith("forecast_") and not name.endswith("ms_mm")]
    if whole and HORIZON in searched:
        raise ConfigError(
            f"Cannot compare trials by {whole[0]}: each has its own {HORIZON}, and the shortest would win. Use the "
            f"error at one time, such as {at_time(whole[0], TIMES_MS[1])}, or fix the frames: --set {HORIZON}=15."
        )
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
    if run.cpus_per_worker is not None and not 0 < run.cpus_per_worker < math.inf:
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
