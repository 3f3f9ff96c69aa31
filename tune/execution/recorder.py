"""Tune callback that records each trial as soon as it ends and updates the display.

Four records hold parts of a run; each fact has one that decides:

- the rows of trials (``trials.parquet`` and ``trials.jsonl``): which trials have ended, and their results. A row is on
  disk before the next trial starts, so a killed driver loses none;
- ``epochs.jsonl``: the metrics of each epoch, also of trials that are still running;
- the Optuna study (of a search): which configurations were suggested, and in which order;
- Tune's state: the running trials and their checkpoints, nothing else. It is saved every few seconds only.

Ended trials that Tune or the study lacks are added from the rows when a run is resumed.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ray.tune
from ray.tune.experiment import Trial as TuneTrial

from cluster import revision
from htt import console
from htt.config import Config
from htt.data.location import data_key
from htt.errors import HTTError, StorageError, error_class
from htt.training.older import NOTE
from tune.execution import messages, restore
from tune.execution.experiment import Experiment
from tune.execution.trainable import ERROR
from tune.experiments.candidate import Candidate
from tune.experiments.constraints import broken
from tune.results.epochs import TrialEpochs
from tune.results.run_folder import Trial, TrialWriter
from tune.results.selection import ranked
from tune.searchers.feasibility import SIZE, SizeCheck
from tune.searchers.generator import EPOCH, ERROR_KIND, TrialGenerator

MAX_INFEASIBLE = 100
"""Number of consecutive infeasible configurations after which a search stops."""


class Recorder(ray.tune.Callback):
    """Tune callback that holds the state of a run's trials and records the ended ones."""

    def __init__(
        self,
        experiment: Experiment,
        generator: TrialGenerator,
        *,
        tick: Callable[[Recorder], None],
        ended: Callable[[Recorder, Trial], None],
    ) -> None:
        """Read the trials that are already recorded.

        Args:
            experiment: experiment that runs.
            generator: generator of its trials.
            tick: called several times a second.
            ended: called with each trial that ends.
        """
        self.experiment, self.generator, self.searcher = experiment, generator, generator.trial_searcher
        self.folder, self.storage = experiment.folder, experiment.storage
        self.needed = list(dict.fromkeys((experiment.metric, *experiment.needed)))
        self.cache, self.sizes = experiment.cache(), SizeCheck(experiment.constraints)
        self.tick, self.ended = console.harmless(tick), console.harmless(ended)
        generator.settle = self.settle
        self.done = {trial.id: trial for trial in self.folder.trials()}
        self._best = next(iter(ranked(list(self.done.values()), experiment.metric)), None)
        self._writer = TrialWriter(self.folder, table_alone=self.storage.remote)
        self._on_disk: set[str] = set()
        self.done_before = len(self.done)
        self.before_s = max((trial.finished_s for trial in self.done.values()), default=0.0)
        self.began = time.monotonic()
        self.history = TrialEpochs(self.folder.epochs)
        self.live: dict[str, TuneTrial] = {}
        self.stop_reason: str | None = None
        self.fault: StorageError | None = None
        self._reconciled = False
        self._old_handlers: dict[int, Any] = {signal.SIGUSR1: signal.getsignal(signal.SIGUSR1)}
        self._end_tune: Any = None
        self._data_keys: dict[str, str] = {}
        with contextlib.suppress(HTTError):  # a study's base may name data that no variant uses
            self._data_keys[experiment.base.data.model_dump_json()] = data_key(experiment.base)

    @property
    def elapsed_s(self) -> float:
        """Time since this process started the run or resumed it, s."""
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        """Time left in the budget, s; infinite without a budget."""
        budget_s = self.experiment.time_budget_s
        return math.inf if budget_s is None else max(0.0, budget_s - self.elapsed_s)

    def best(self) -> Trial | None:
        """Return the best ended trial, or None if there is none."""
        return self._best

    def counts(self) -> dict[str, int]:
        """Return {state: number of ended trials}."""
        return dict(Counter(trial.state for trial in self.done.values()))

    def epoch(self, trial_id: str) -> int:
        """Return the last epoch that a trial reported, or 0."""
        return max(self.history.of(trial_id), default=0)

    def stop(self, reason: str) -> None:
        """End the search: Tune saves its state, and running trials can be resumed later."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.tick(self)
            self.generator.set_finished()  # type: ignore[no-untyped-call]
            if self._end_tune:
                self._end_tune(signal.SIGUSR1, None)

    def settle(self, trial_id: str, candidate: Candidate) -> dict[str, Any] | None:
        """Record a trial that needs no training and return its result, or return None if it must be trained."""
        row = self._cached(candidate) or self._infeasible(candidate)
        if row is None:
            return None
        at, number = self.before_s + self.elapsed_s, self.searcher.number(trial_id)
        settled = replace(row, id=trial_id, number=number, finished_s=at)
        self._put(settled)
        self._write(settled)
        self.ended(self, settled)
        newest = sorted(self.done.values(), key=lambda trial: trial.number)[-MAX_INFEASIBLE:]
        if len(newest) == MAX_INFEASIBLE and all(trial.state == "infeasible" for trial in newest):
            self.stop("constraints")
        if self.left_s <= 0:
            self.stop("time budget")
        self.generator.trials_running = bool(self.live)
        return {**settled.metrics, EPOCH: settled.epochs}

    def _cached(self, candidate: Candidate) -> Trial | None:
        """Return the row of a candidate that was trained before, or None."""
        cached = self.cache.find(candidate) if self.cache else None
        if cached is None:
            return None
        violation = broken(self.experiment.constraints, cached.trial.metrics)
        return cached.row(state="cached", seconds=0.0, values=candidate.values, violation=violation)

    def _infeasible(self, candidate: Candidate) -> Trial | None:
        """Return the row of a candidate whose model is too large or too small for the constraints, or None."""
        found = self.sizes.violation(candidate.config)
        if found is None:
            return None
        size, violation = found
        return Trial(
            id="", number=0, fingerprint=candidate.fingerprint, state="infeasible", values=candidate.values,
            epochs=0, seconds=0.0, finished_s=0.0, metrics={SIZE: float(size)}, best={SIZE: float(size)},
            violation=violation, data=data_key(candidate.config),
        )  # fmt: skip

    # Callbacks from Tune

    def setup(self, *_: Any, **__: Any) -> None:
        """Install the signal handlers that end the search in order, after Tune has installed its own."""
        self._end_tune = signal.getsignal(signal.SIGUSR1)
        for number in (signal.SIGINT, *console.INTERRUPTS):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                self._old_handlers.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._on_signal)

    def release(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._old_handlers.clear()
        self._end_tune = None

    def on_step_begin(self, *, trials: list[TuneTrial], **_: Any) -> None:  # type: ignore[override]
        """Check the lock and the time budget, and update the display."""
        self._reconcile(trials)
        with self._faults():
            self.storage.check_lease()
        if self.left_s <= 0:
            self.stop("time budget")
        self.tick(self)

    def on_experiment_end(self, trials: list[TuneTrial], **_: Any) -> None:
        """Reconcile a restored run that had nothing left to do, since it takes no step."""
        self._reconcile(trials)

    def on_trial_start(self, *, trial: TuneTrial, **_: Any) -> None:  # type: ignore[override]
        """Add a trial that started or resumed to the running ones."""
        self.live[trial.trial_id] = trial

    def on_trial_result(  # type: ignore[override]
        self, *, trial: TuneTrial, result: dict[str, Any], **_: Any
    ) -> None:
        """Store the metrics of an epoch."""
        if NOTE in result:
            console.err.print(f"Trial {self.searcher.number(trial.trial_id)}: {result[NOTE]}", markup=False)
        if issubclass(error_class(result.get(ERROR_KIND)), StorageError):
            self._stop_on(StorageError(result[ERROR].removeprefix(f"{result[ERROR_KIND]}: ")))
        elif ERROR not in result and "epoch" in result:
            with self._faults():
                self.history.add(trial.trial_id, int(result["epoch"]), messages.numbers(result))

    def on_trial_complete(self, *, trial: TuneTrial, **_: Any) -> None:  # type: ignore[override]
        """Record a trial that finished training or was stopped by the scheduler."""
        self._end(trial, trial.last_result.get(ERROR))

    def on_trial_error(self, *, trial: TuneTrial, **_: Any) -> None:  # type: ignore[override]
        """Record a trial that crashed and has no retries left."""
        self._end(trial, messages.sentence(trial))

    def is_written(self, trial_id: str) -> bool:
        """Return True if the trial ended in this process and its row is on disk."""
        return trial_id in self._on_disk

    def interrupted(self) -> None:
        """Record the trials that were interrupted, with the epochs that they reached."""
        for trial_id in list(self.live):
            self._end(self.live[trial_id], None, state="stopped", quiet=True)

    def _reconcile(self, trials: list[TuneTrial]) -> None:
        """Reconcile a restored run's state with the study and the recorded trials, once.

        Tune saves its state every few seconds, so it may lack the last trials of a killed driver although they ended.
        They are counted, as otherwise further trials would run in their place. The state may also hold failed trials of
        a study that were tried again; these are ignored.
        """
        if self._reconciled:
            return
        self._reconciled = True
        old = {name for trial in self.done.values() for name in trial.instead_of}
        trials = [trial for trial in trials if trial.trial_id not in old]
        known = {trial.trial_id: trial.config for trial in trials}
        written = {trial.id: trial for trial in self.done.values() if trial.state != "stopped"}
        results = {
            name: {ERROR_KIND: trial.error_kind} if trial.state == "failed" else {**trial.metrics, EPOCH: trial.epochs}
            for name, trial in written.items()
        }
        self.searcher.keep_only(known, results)
        self.generator.count = len(known.keys() | written.keys())
        for trial in trials:
            ended = trial.status in (TuneTrial.TERMINATED, TuneTrial.ERROR)
            if not ended:
                restore.use_newest_checkpoint(trial, self.epoch(trial.trial_id))
            if ended and trial.trial_id not in self.done:  # a full disk prevented its recording
                self.on_trial_result(trial=trial, result=trial.last_result or {})
                self._end(trial, messages.sentence(trial) if trial.status == TuneTrial.ERROR else None, quiet=True)

    def _end(self, trial: TuneTrial, error: str | None, state: str | None = None, quiet: bool = False) -> None:
        self.live.pop(trial.trial_id, None)
        written = self.done.get(trial.trial_id)
        if written is not None and written.state != "stopped":  # Tune had not saved its end
            return
        ended = self._trial(trial, error, state)
        self.generator.forget(trial.trial_id)
        before = {one.pair: one for one in self.done.values()}.get(ended.pair) if ended.pair else None
        if before is not None and before.state == "complete":  # reused from another run while this one was running
            return
        ended = ended.in_place_of(before)
        self._put(ended)
        if self.cache:
            self.cache.add(ended, self.folder)
        self._write(ended)
        if not quiet:
            self.ended(self, ended)
            if self.fault is None:
                self.history.forget(trial.trial_id)
        if all(one.state == "failed" for one in self.done.values()):
            failed = {one.variant or one.id for one in self.done.values() if one.finished_s > self.before_s}
            if len(failed) >= self.experiment.max_failures:
                self.stop("failures")

    def _put(self, ended: Trial) -> None:
        """Add an ended trial; it replaces an earlier failed trial of the same pair of a study."""
        replaced = [name for name in (*ended.instead_of, ended.id) if self.done.pop(name, None)]
        self.done[ended.id] = ended
        others = self.done.values() if replaced else [self._best, ended]
        self._best = next(iter(ranked([trial for trial in others if trial], self.experiment.metric)), None)

    def _trial(self, trial: TuneTrial, error: str | None, state: str | None) -> Trial:
        epochs = self.history.of(trial.trial_id)
        candidate = self.generator.candidate(trial)
        last = epochs[max(epochs)] if epochs else {}
        reached = max(epochs, default=0)
        lacking = [name for name in self.needed if not math.isfinite(last.get(name, math.nan))]
        if error is None and state is None and lacking:
            got = ", ".join(str(last.get(name, "none")) for name in lacking)
            error = f"{' and '.join(lacking)} must be a finite number; got {got}"
        ended = "complete" if reached >= candidate.config.train.epochs else "pruned"
        data, changed = self._data(candidate.config)
        error = error or changed
        return Trial(
            id=trial.trial_id,
            number=self.searcher.number(trial.trial_id),
            fingerprint=candidate.fingerprint,
            state="failed" if error else state or ended,
            epochs=reached,
            seconds=float((trial.last_result or {}).get("time_total_s", 0.0)),
            finished_s=self.before_s + self.elapsed_s,
            values=candidate.values,
            metrics=last,
            best=messages.best(list(epochs.values())),
            curve=messages.curve(epochs, self.experiment.metric),
            curves={name: messages.curve(epochs, name) for name in self.experiment.metrics},
            error=error,
            error_kind=(trial.last_result or {}).get(ERROR_KIND) if error else None,
            variant=trial.config.get("variant"),
            seed=trial.config.get("seed"),
            data=data,
            code=revision.identity(),
            violation=broken(self.experiment.constraints, last) if last else None,
        )

    def _data(self, config: Config) -> tuple[str | None, str | None]:
        """Return the key of a trial's data, and an error if the data are missing or have changed during the run."""
        try:
            now = data_key(config)
        except HTTError as error:
            return None, f"{type(error).__name__}: {error}"
        first = self._data_keys.setdefault(config.data.model_dump_json(), now)
        if now == first:
            return now, None
        return now, f"DataError: The data changed during the run: {first} at the start, {now} at the end of this trial."

    def _write(self, ended: Trial) -> None:
        with self._faults():
            if ended.state in ("complete", "pruned"):
                self.experiment.keep(ended.id)
            self._writer.add(ended, self.done.values())
            self._on_disk.add(ended.id)
            self.storage.push()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """End the search on a storage error; finished trials are also in Tune's state and the study."""
        try:
            yield
        except StorageError as error:
            self._stop_on(error)

    def _stop_on(self, error: StorageError) -> None:
        self.fault = self.fault or error
        self.stop("storage")

    def _on_signal(self, number: int, _: Any) -> None:
        if self.stop_reason is None:
            self.stop("interrupted")
            signal.signal(signal.SIGINT, self._on_signal)  # Tune restored its own handler
        elif number == signal.SIGINT:  # second Ctrl-C: end at once; machines often send the others twice
            raise KeyboardInterrupt
