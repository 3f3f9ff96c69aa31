"""Searchers and schedulers compared on real trials of the default space, kept as a table.

::

    python benchmarks/searchers.py make      # train 500 configurations with two seeds (results/searchers.parquet)
    python benchmarks/searchers.py replay    # replay searches on them (results/searchers.md)

``make`` draws the configurations at random and trains each on the features of the frozen encoder, to its last epoch. A
stopped ``make`` continues, and one with more configurations adds to the table. ``replay`` runs the project's own
searcher and scheduler with two simulated workers. The learning curve of a trial is a smooth model of the table (radial
basis functions) with the difference between the two seeds of a random configuration as noise; an epoch costs the
processor time that it took. The result of a search is the model's value, without noise, of the configuration that the
search would choose. The compute to reach a target is the time after which this value stays at the target or below it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # benchmarks/ holds no top-level modules: the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import functools
import heapq
import json
import os
import shlex
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import polars as pl
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from ray.tune.schedulers import TrialScheduler
from scipy.interpolate import RBFInterpolator

from benchmarks.result import FOLDER, header, write
from htt.config import Config, Value, override
from tune.experiments.space import Choice, Integer, LogUniform
from tune.experiments.spaces.quick import SPACE
from tune.searchers.generator import EPOCH
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.optuna_study import CANDIDATES, STARTUP_TRIALS
from tune.searchers.recent_tpe import RecentTPE
from tune.searchers.scheduler import Asha

TABLE = FOLDER / "searchers.parquet"
METRIC = "hand_error_mm"
EPOCHS = 10
"""Epochs of a training; all rows of the table have as many, whatever the default search trains."""
FOLDS = 5
SMOOTHING = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
WORKERS = 2
GP_SEEDS = 8
"""Largest number of replays of a search by GP, whose own time is 20 times that of the others."""
Values = Mapping[str, Value]
MakeSampler = Callable[[int, Any], BaseSampler]


def main() -> None:
    """Parse the command and run it."""
    parser = argparse.ArgumentParser(description="Compare searchers and schedulers on real trials.")
    parser.add_argument("command", choices=("make", "replay"))
    parser.add_argument("--configs", type=int, default=500, help="configurations to train (default: 500)")
    parser.add_argument("--seeds", type=int, default=30, help="seeds of each replayed search (default: 30)")
    parser.add_argument("--budget-s", type=float, default=660.0, help="processor time of a search, s (default: 660)")
    parser.add_argument("--only", nargs="*", help="names of the searches to replay (default: all)")
    options = parser.parse_args()
    if options.command == "make":
        make(options.configs)
    else:
        replay(options.seeds, options.budget_s, options.only)


# -- make: real trials -------------------------------------------------------------------------------------------------


def make(configs: int) -> None:
    """Train the configurations with two seeds each, and write the table."""
    kept = TABLE.with_suffix(".jsonl")
    if TABLE.exists() and not kept.exists():  # add to the table
        kept.write_text("".join(json.dumps(row) + "\n" for row in pl.read_parquet(TABLE).to_dicts()))
    done = {(row["number"], row["seed"]) for row in _rows(kept)}
    tasks = [(number, seed) for number in range(configs) for seed in (0, 1) if (number, seed) not in done]
    _prepare()
    workers = ProcessPoolExecutor(WORKERS, get_context("spawn"))  # polars cannot be used after a fork
    with workers as pool, kept.open("a", encoding="utf-8") as file:
        for row in pool.map(_trained, tasks):
            file.write(json.dumps(row) + "\n")
            file.flush()
    pl.DataFrame(_rows(kept)).sort("number", "seed").write_parquet(TABLE)
    kept.unlink()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def drawn(number: int) -> dict[str, Value]:
    """Return the random configuration with a number."""
    rng = np.random.default_rng([7, number])
    return {path: _draw(domain, rng) for path, domain in SPACE.domains.items()}


def _draw(domain: Any, rng: np.random.Generator) -> Value:
    if isinstance(domain, Choice):
        return domain.values[int(rng.integers(len(domain.values)))]
    if isinstance(domain, Integer):
        return int(rng.integers(domain.low, domain.high + 1))
    assert isinstance(domain, LogUniform)
    return float(np.exp(rng.uniform(np.log(domain.low), np.log(domain.high))))


def _config(values: Values, seed: int = 0) -> Config:
    fixed = {"runtime.tensorboard": False, "train.epochs": EPOCHS, "train.seed": seed}
    return override(override(Config(), SPACE.base), {**fixed, **values})


def _prepare() -> Path:
    from htt.training.encoding import data_folder

    return data_folder(_config({}))


@functools.cache
def _splits() -> Any:
    import torch

    from htt.data.loading.splits import open_splits

    torch.set_num_threads(1)
    return open_splits(_prepare(), _config({}).data)


def _trained(task: tuple[int, int]) -> dict[str, Any]:
    """Train one configuration and return its row: its values, and a list over epochs for each metric."""
    from htt.training.loop import fit

    number, seed = task
    values, epochs, clock = drawn(number), [], [0.0]

    def report(metrics: dict[str, float], _: Path | None) -> None:
        epochs.append(metrics)
        clock.append(time.process_time())

    splits = _splits()
    clock[0] = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fit(_config(values, seed), splits, report, folder=Path(folder))
    curves = {name: [float(each[name]) for each in epochs] for name in (METRIC, "action_accuracy")}
    return {"number": number, "seed": seed, **values, **curves, "cpu_s": np.diff(clock).tolist()}


# -- replay: searches on the table ---------------------------------------------------------------------------------


class Model:
    """Learning curves over the space: a smooth mean, and the noise of real seeds."""

    def __init__(self, table: pl.DataFrame) -> None:
        rows = table.partition_by("number", maintain_order=True)
        points = np.array([encoded(each.row(0, named=True)) for each in rows])
        curves = np.log(np.array([each[METRIC].to_list() for each in rows]))  # [config, seed, epoch]
        costs = np.log(np.array([each["cpu_s"].to_list() for each in rows]).mean(axis=(1, 2)))
        mean = curves.mean(axis=1)
        self.epochs = mean.shape[1]
        self.noise = (curves[:, 0] - curves[:, 1]) / np.sqrt(2)
        self.smoothing, error = min(((each, _left(points, mean, each)) for each in SMOOTHING), key=lambda pair: pair[1])
        self.r2 = 1 - error / mean[:, -1].var()
        self._mean = _fit(points, mean, self.smoothing)
        self._cost = _fit(points, costs[:, None], 1.0)

    def mean(self, values: Values) -> np.ndarray:
        """Return the mean learning curve [epochs]."""
        return np.exp(self._mean(encoded(values)[None])[0])

    def curve(self, values: Values, rng: np.random.Generator) -> np.ndarray:
        """Return a learning curve [epochs] with the noise of a seed."""
        return self.mean(values) * np.exp(self.noise[rng.integers(len(self.noise))])

    def cost(self, values: Values) -> float:
        """Return the processor time of an epoch, s."""
        return float(np.exp(self._cost(encoded(values)[None])[0, 0]))


def encoded(values: Values) -> np.ndarray:
    """Return a configuration as a point [p]: numbers scaled to 0..2, a coordinate for each value of other choices."""
    point: list[float] = []
    for path, domain in SPACE.domains.items():
        value = values[path]
        if isinstance(domain, Choice) and not all(isinstance(each, int | float) for each in domain.values):
            point += [float(value == each) for each in domain.values]
        elif isinstance(domain, Choice):
            point.append(2 * list(domain.values).index(value) / (len(domain.values) - 1))
        elif isinstance(domain, Integer):
            point.append(2 * (value - domain.low) / (domain.high - domain.low))  # type: ignore[operator]
        else:
            assert isinstance(domain, LogUniform)
            point.append(2 * np.log(value / domain.low) / np.log(domain.high / domain.low))  # type: ignore[operator]
    return np.array(point)


def _fit(points: np.ndarray, targets: np.ndarray, smoothing: float) -> RBFInterpolator:
    return RBFInterpolator(points, targets, smoothing=smoothing, kernel="thin_plate_spline", degree=1)


def _left(points: np.ndarray, curves: np.ndarray, smoothing: float) -> float:
    """Return the mean squared error of the last epoch over cross-validation folds."""
    fold, errors = np.arange(len(points)) % FOLDS, []
    for each in range(FOLDS):
        model = _fit(points[fold != each], curves[fold != each], smoothing)
        errors.append((model(points[fold == each]) - curves[fold == each])[:, -1])
    return float((np.concatenate(errors) ** 2).mean())


@dataclass(frozen=True)
class Search:
    """A searcher and a scheduler to replay."""

    sampler: str
    settings: Mapping[str, Any]
    grace: int | None = None
    """Epochs before a trial may be stopped, or None for no early stopping."""
    reduction: int = 2

    def make(self, seed: int, recent: Any) -> BaseSampler:
        """Return the sampler of one trial."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.sampler == "random":
                return RandomSampler(seed=seed)
            if self.sampler == "gp":
                return GPSampler(seed=seed, deterministic_objective=False, **self.settings)
            return RecentTPE(recent, seed=seed, **{"multivariate": True, "constant_liar": True, **self.settings})


class Replayed(Searcher):
    """The project's searcher with another sampler."""

    search: Search

    def _sampler(self, number: int) -> BaseSampler:
        return self.search.make(self._seed_of(number), self._recent)


def searches(epochs: int) -> dict[str, Search]:
    """Return the searches to replay by name; the first is the reference without early stopping.

    TPE draws ``STARTUP_TRIALS`` random trials first and has ``CANDIDATES`` candidates, unless the name says otherwise.
    """
    tpe: dict[str, Any] = {"n_startup_trials": STARTUP_TRIALS, "n_ei_candidates": CANDIDATES}
    found = {"random, no early stopping": Search("random", {}), "TPE, no early stopping": Search("tpe", tpe)}
    quarter = max(1, epochs // 4)
    for grace, reduction in dict.fromkeys(((quarter, 3), (quarter, 2), (quarter, 4), (1, 3), (1, 4))):
        found[f"TPE, ASHA {grace}/{reduction}"] = Search("tpe", tpe, grace, reduction)
    asha = f"ASHA {quarter}/3"
    found[f"random, {asha}"] = Search("random", {}, quarter, 3)
    for name, changes in {
        "24 candidates": {"n_ei_candidates": 24},
        "3 candidates": {"n_ei_candidates": 3},
        "8 random first": {"n_startup_trials": 8},
        "24 random first": {"n_startup_trials": 24},
        "each parameter alone": {"multivariate": False},
    }.items():
        found[f"TPE, {name}, {asha}"] = Search("tpe", {**tpe, **changes}, quarter, 3)
    found[f"GP, {asha}"] = Search("gp", {"n_startup_trials": STARTUP_TRIALS}, quarter, 3)
    return found


@dataclass
class _Running:
    values: Values
    curve: np.ndarray
    cost: float
    true: float
    epochs: int = 0
    value: float = np.inf


def simulate(model: Model, search: Search, budget_s: float, seed: int) -> tuple[list[tuple[float, float]], int]:
    """Return [(processor time used, true value of the chosen configuration)] after each epoch, and the trials begun."""
    rng, queue, trace, used, trials = np.random.default_rng([seed, 77]), [], [], 0.0, {}
    with tempfile.TemporaryDirectory() as folder:
        names = {"study": "replay", "objectives": [METRIC], "epochs": model.epochs, "seed": seed}
        searcher = Replayed(SPACE, Path(folder) / "journal", **names)
        searcher.search = search
        scheduler = None
        if search.grace is not None:
            scheduler = Asha((), max_t=model.epochs, grace_period=search.grace, reduction_factor=search.reduction)
            scheduler.set_search_properties(METRIC, "min")

        def begin(now: float) -> None:
            name = f"t{len(trials)}"
            values = searcher.suggest(name)["values"]
            true = float(model.mean(values)[-1])
            trials[name] = _Running(values, model.curve(values, rng), model.cost(values), true)
            if scheduler:
                scheduler.on_trial_add(None, SimpleNamespace(trial_id=name))
            heapq.heappush(queue, (now + trials[name].cost, name))

        for _ in range(WORKERS):
            begin(0.0)
        while queue and queue[0][0] <= budget_s / WORKERS:
            now, name = heapq.heappop(queue)
            trial = trials[name]
            trial.epochs, trial.value, used = trial.epochs + 1, float(trial.curve[trial.epochs]), used + trial.cost
            result = {EPOCH: trial.epochs, METRIC: trial.value, "training_iteration": trial.epochs}
            searcher.on_trial_result(name, result)
            handle, ended = SimpleNamespace(trial_id=name), trial.epochs >= model.epochs
            if scheduler and scheduler.on_trial_result(None, handle, result) == TrialScheduler.STOP:
                ended = True
            if ended:
                searcher.on_trial_complete(name, result)
                begin(now)
            else:
                heapq.heappush(queue, (now + trial.cost, name))
            finished = [each for each in trials.values() if each.epochs >= model.epochs]
            best = min(finished, key=lambda each: each.value, default=None)
            trace.append((used, best.true if best else np.inf))
    return trace, len(trials)


@functools.cache
def _model() -> Model:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return Model(pl.read_parquet(TABLE))


def _simulated(task: tuple[Search, float, int]) -> tuple[list[tuple[float, float]], int]:
    return simulate(_model(), task[0], task[1], task[2])


def replay(seeds: int, budget_s: float, only: Sequence[str] | None) -> None:
    """Replay all searches and write the table of results."""
    model = _model()
    chosen = {name: each for name, each in searches(model.epochs).items() if not only or name in only}
    results = {}
    with ProcessPoolExecutor(WORKERS) as pool:
        for name, search in chosen.items():
            count = min(seeds, GP_SEEDS) if search.sampler == "gp" else seeds
            results[name] = list(pool.map(_simulated, [(search, budget_s, seed) for seed in range(count)]))
            print(f"{name}: {np.mean([trace[-1][1] for trace, _ in results[name]]):.2f} mm", flush=True)
    reference = next(iter(results.values()))
    target = float(np.median([trace[-1][1] for trace, _ in reference]))
    lines = [
        *header(
            "Searchers and schedulers on real trials", shlex.join(["python", "benchmarks/searchers.py", *sys.argv[1:]])
        ),
        *_explained(model, seeds, budget_s, target),
        "| search | trials | value of its choice, mm | compute to the target, % of the budget | reached |",
        "|---|---|---|---|---|",
        *(_row(name, each, target, budget_s) for name, each in results.items()),
    ]
    write("searchers", lines)


def _explained(model: Model, seeds: int, budget_s: float, target: float) -> list[str]:
    table = pl.read_parquet(TABLE)
    configs, repeats = table["number"].n_unique(), table["seed"].n_unique()
    hours = sum(map(sum, table["cpu_s"])) / 3600
    return [
        f"{configs} configurations with {repeats} seeds each, {model.epochs} epochs, "
        f"{hours:.1f} hours of one core. On configurations that it was not fitted to, the model explains "
        f"{100 * model.r2:.0f} % of the variance of the last epoch (smoothing {model.smoothing:g}). Each search has "
        f"{budget_s:.0f} s of processor time on two workers and is replayed with {seeds} seeds "
        f"(GP: {min(seeds, GP_SEEDS)}). The target is the median choice of random search without early stopping, "
        f"{target:.2f} mm. A search that does not reach it "
        "counts with its whole budget. Intervals: 95 %, bootstrap over seeds.",
        "",
    ]


def _row(name: str, results: Sequence[tuple[list[tuple[float, float]], int]], target: float, budget_s: float) -> str:
    values = np.array([trace[-1][1] for trace, _ in results])
    reached = np.array([_reached(trace, target, budget_s) for trace, _ in results])
    trials = np.mean([count for _, count in results])
    return (
        f"| {name} | {trials:.0f} | {_interval(values, 1, 2)} | {_interval(reached, 100 / budget_s, 0)} "
        f"| {100 * np.mean(reached < budget_s):.0f} % |"
    )


def _reached(trace: Sequence[tuple[float, float]], target: float, budget_s: float) -> float:
    """Return the processor time from which the choice stays at the target or below it; the budget if it never does."""
    late = [used for used, true in trace if true > target]
    after = [used for used, _ in trace if not late or used > late[-1]]
    return min(after, default=budget_s)


def _interval(values: np.ndarray, scale: float, digits: int) -> str:
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1) * scale
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{values.mean() * scale:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
