"""Writes down every trial the moment it ends, and tells the display; Tune's callbacks are its ears.

A killed driver loses nothing that was finished: its row is on disk before the next trial starts.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray.tune
from ray.tune.experiment import Trial as TuneTrial

from cluster import revision
from htt import console
from htt.config import Config, override
from htt.data.location import data_key
from htt.errors import HTTError, StorageError, of_name
from htt.training.older import NOTE
from tune.execution import messages, restore
from tune.execution.trainable import ERROR, ERROR_KIND
from tune.experiments.constraints import broken
from tune.results.epochs import History
from tune.results.ledger import Ledger
from tune.results.run_folder import RunFolder, Trial, ranked
from tune.results.sync import Storage
from tune.searchers.generator import EPOCH, Chooser, Samples
from tune.searchers.known import Known

STUBBORN = 100
"""Configurations in a row that the constraints refuse, after which a search gives up."""


class Recorder(ray.tune.Callback):
    """What is known of a search while it runs."""

    def __init__(
        self,
        folder: RunFolder,
        storage: Storage,
        base: Config,
        searcher: Chooser,
        samples: Samples,
        *,
        metric: str,
        metrics: Sequence[str] = (),
        needed: Sequence[str] = (),
        time_budget_s: float | None,
        hopeless: int,
        known: Known | None = None,
        keep: Callable[[str], None] | None = None,
        tick: Callable[[Recorder], None],
        ended: Callable[[Recorder, Trial], None],
    ) -> None:
        """Take up the trials that are already written.

        Args:
            folder: of the run.
            storage: of the run, for its mirror.
            base: the configuration trials start from.
            searcher: told of what a restored run forgot.
            samples: the stream of trials, told how many there were.
            metric: selected by.
            metrics: of which all epochs are written down, beside that one.
            needed: without which a trial that ended has failed, beside that one.
            time_budget_s: after which the search ends; none: never.
            hopeless: trials, or variants of a study, that fail before any has given a number, after which it gives up.
            known: of what needs no training; none: all is trained.
            keep: called with each trial that is complete, before it is written down, to keep more of it.
            tick: called several times a second.
            ended: called with each trial that ends.
        """
        self.folder, self.storage, self.base = folder, storage, base
        self.searcher, self.samples = searcher, samples
        self.metric, self.metrics, self.time_budget_s = metric, metrics, time_budget_s
        self.needed = list(dict.fromkeys((metric, *needed)))
        self.tick, self.ended = console.harmless(tick), console.harmless(ended)
        self.keep, self.known, self.hopeless = keep, known, hopeless
        samples.settle = self.settle
        self.done = {trial.id: trial for trial in folder.trials()}
        self._best = next(iter(ranked(list(self.done.values()), metric)), None)
        self._ledger = Ledger(folder, table_alone=storage.remote)
        self._on_disk: set[str] = set()
        self.done_before = len(self.done)
        self.before_s = max((trial.finished_s for trial in self.done.values()), default=0.0)
        self.began = time.monotonic()
        self.history = History(folder.epochs)
        self.live: dict[str, TuneTrial] = {}
        self.stop_reason: str | None = None
        self.fault: StorageError | None = None
        self._squared = False
        self._old_handlers: dict[int, Any] = {signal.SIGUSR1: signal.getsignal(signal.SIGUSR1)}
        self._end_tune: Any = None
        self._keys: dict[str, str] = {}
        with contextlib.suppress(HTTError):  # a study's base may be on data that no variant keeps
            self._keys[base.data.model_dump_json()] = data_key(base)

    @property
    def elapsed_s(self) -> float:
        """Since this part of the search began, s."""
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        """Of the time budget, s."""
        return math.inf if self.time_budget_s is None else max(0.0, self.time_budget_s - self.elapsed_s)

    def best(self) -> Trial | None:
        """The best trial that ended."""
        return self._best

    def counts(self) -> dict[str, int]:
        """Trials that ended, by state."""
        return dict(Counter(trial.state for trial in self.done.values()))

    def epoch(self, trial_id: str) -> int:
        """The last epoch a trial reported."""
        return max(self.history.of(trial_id), default=0)

    def stop(self, reason: str) -> None:
        """End the search: Tune saves its state and leaves running trials to a later resume."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.tick(self)
            self.samples.end()
            if self._end_tune:
                self._end_tune(signal.SIGUSR1, None)

    def settle(self, trial_id: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Write down a trial that needs no training; gives its result, or none where it must be trained."""
        answer = self.known.answer(values, self.folder.name) if self.known else None
        if answer is None:
            return None
        at, number = self.before_s + self.elapsed_s, self.searcher.number(trial_id)
        settled = replace(answer, id=trial_id, number=number, finished_s=at)
        self._put(settled)
        self._write(settled)
        self.ended(self, settled)
        newest = sorted(self.done.values(), key=lambda trial: trial.number)[-STUBBORN:]
        if len(newest) == STUBBORN and all(trial.state == "refused" for trial in newest):
            self.stop("constraints")
        if self.left_s <= 0:
            self.stop("time budget")
        self.samples.crowded = bool(self.live)
        return {**settled.metrics, EPOCH: settled.epochs}

    # What Tune calls

    def setup(self, *_: Any, **__: Any) -> None:
        """Tune has its signal handlers in place; from here on ours end the search in good order, and say so."""
        self._end_tune = signal.getsignal(signal.SIGUSR1)
        for number in (signal.SIGINT, *console.INTERRUPTS):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                self._old_handlers.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._on_signal)

    def release(self) -> None:
        """Give the signals back."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._old_handlers.clear()
        self._end_tune = None

    def on_step_begin(self, *, trials: list[TuneTrial], **_: Any) -> None:  # type: ignore[override]
        """Watch the clock."""
        self._square(trials)
        with self._faults():
            self.storage.check_mine()
        if self.left_s <= 0:
            self.stop("time budget")
        self.tick(self)

    def on_experiment_end(self, trials: list[TuneTrial], **_: Any) -> None:
        """A restored run may have had nothing left to do."""
        self._square(trials)

    def on_trial_start(self, *, trial: TuneTrial, **_: Any) -> None:  # type: ignore[override]
        """A trial started or went on."""
        self.live[trial.trial_id] = trial

    def on_trial_result(  # type: ignore[override]
        self, *, trial: TuneTrial, result: dict[str, Any], **_: Any
    ) -> None:
        """A trial finished an epoch."""
        if NOTE in result:
            console.err.print(f"Trial {self.searcher.number(trial.trial_id)}: {result[NOTE]}", markup=False)
        if issubclass(of_name(result.get(ERROR_KIND)), StorageError):
            self._refused(StorageError(result[ERROR].removeprefix(f"{result[ERROR_KIND]}: ")))
        elif ERROR not in result and "epoch" in result:
            with self._faults():
                self.history.add(trial.trial_id, int(result["epoch"]), messages.numbers(result))

    def on_trial_complete(self, *, trial: TuneTrial, **_: Any) -> None:  # type: ignore[override]
        """A trial trained to its end, or was stopped by the scheduler."""
        self._end(trial, trial.last_result.get(ERROR))

    def on_trial_error(self, *, trial: TuneTrial, **_: Any) -> None:  # type: ignore[override]
        """A trial crashed for the last time."""
        self._end(trial, messages.sentence(trial))

    def is_written(self, trial_id: str) -> bool:
        """Whether the trial ended in this process, and its row is on disk."""
        return trial_id in self._on_disk

    def interrupted(self) -> None:
        """Write down what the trials reached that were cut short."""
        for trial_id in list(self.live):
            self._end(self.live[trial_id], None, state="stopped", quiet=True)

    def _square(self, trials: list[TuneTrial]) -> None:
        """Once: square what a restored run remembers with the study, and with what is written.

        Tune saves its state every few seconds: of a killed driver's last trials it may know nothing, though they ended.
        They are counted, or others would be tried in their place. And it remembers trainings that failed and were tried
        again: of them nothing is wanted any more.
        """
        if self._squared:
            return
        self._squared = True
        old = {name for trial in self.done.values() for name in trial.instead_of}
        trials = [trial for trial in trials if trial.trial_id not in old]
        known = {trial.trial_id: trial.config for trial in trials}
        written = {trial.id: trial for trial in self.done.values() if trial.state != "stopped"}
        results = {
            name: {} if trial.state == "failed" else {**trial.metrics, EPOCH: trial.epochs}
            for name, trial in written.items()
        }
        self.searcher.keep_only(known, results)
        self.samples.go_on_from(len(known.keys() | written.keys()))
        for trial in trials:
            ended = trial.status in (TuneTrial.TERMINATED, TuneTrial.ERROR)
            if not ended:
                restore.mend(trial, self.epoch(trial.trial_id))
            if ended and trial.trial_id not in self.done:  # a full disk kept it from being written
                self.on_trial_result(trial=trial, result=trial.last_result or {})
                self._end(trial, messages.sentence(trial) if trial.status == TuneTrial.ERROR else None, quiet=True)

    def _end(self, trial: TuneTrial, error: str | None, state: str | None = None, quiet: bool = False) -> None:
        self.live.pop(trial.trial_id, None)
        written = self.done.get(trial.trial_id)
        if written is not None and written.state != "stopped":  # Tune had not saved that it ended
            return
        ended = self._trial(trial, error, state)
        before = {one.pair: one for one in self.done.values()}.get(ended.pair) if ended.pair else None
        if before is not None and before.state == "complete":  # taken over while this one was under way
            return
        ended = ended.in_place_of(before)
        self._put(ended)
        if self.known:
            self.known.learn(ended)
        self._write(ended)
        if not quiet:
            self.ended(self, ended)
            if self.fault is None:
                self.history.forget(trial.trial_id)
        if all(one.state == "failed" for one in self.done.values()):
            failed = {one.variant or one.id for one in self.done.values() if one.finished_s > self.before_s}
            if len(failed) >= self.hopeless:
                self.stop("failures")

    def _put(self, ended: Trial) -> None:
        """Count a trial; of a study's training that failed before and was tried again, only the new one."""
        replaced = [name for name in (*ended.instead_of, ended.id) if self.done.pop(name, None)]
        self.done[ended.id] = ended
        others = self.done.values() if replaced else [self._best, ended]
        self._best = next(iter(ranked([trial for trial in others if trial], self.metric)), None)

    def _trial(self, trial: TuneTrial, error: str | None, state: str | None) -> Trial:
        epochs = self.history.of(trial.trial_id)
        values = trial.config["values"]
        config = override(self.base, values)
        last = epochs[max(epochs)] if epochs else {}
        reached = max(epochs, default=0)
        lacking = [name for name in self.needed if not math.isfinite(last.get(name, math.nan))]
        if error is None and state is None and lacking:
            got = ", ".join(str(last.get(name, "none")) for name in lacking)
            error = f"{' and '.join(lacking)} must be a finite number; got {got}"
        ended = "complete" if reached >= config.train.epochs else "pruned"
        data, changed = self._data(config)
        error = error or changed
        return Trial(
            id=trial.trial_id,
            number=self.searcher.number(trial.trial_id),
            fingerprint=config.fingerprint(),
            state="failed" if error else state or ended,
            epochs=reached,
            seconds=float((trial.last_result or {}).get("time_total_s", 0.0)),
            finished_s=self.before_s + self.elapsed_s,
            values=values,
            metrics=last,
            best=messages.best(list(epochs.values())),
            curve=messages.curve(epochs, self.metric),
            curves={name: messages.curve(epochs, name) for name in self.metrics},
            error=error,
            error_kind=(trial.last_result or {}).get(ERROR_KIND) if error else None,
            variant=trial.config.get("variant"),
            seed=trial.config.get("seed"),
            data=data,
            code=revision.identity(),
            breaks=broken(self.known.constraints, last) if self.known and last else None,
        )

    def _data(self, config: Config) -> tuple[str | None, str | None]:
        """The key of a trial's data, and what is wrong where they are gone or others than when this part began."""
        try:
            now = data_key(config)
        except HTTError as error:
            return None, f"{type(error).__name__}: {error}"
        first = self._keys.setdefault(config.data.model_dump_json(), now)
        if now == first:
            return now, None
        return now, f"DataError: The data changed while the run went on: {first} at first, {now} when this trial ended."

    def _write(self, ended: Trial) -> None:
        with self._faults():
            if self.keep and ended.state == "complete":
                self.keep(ended.id)
            self._ledger.add(ended, self.done.values())
            self._on_disk.add(ended.id)
            self.storage.push()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """A disk that refuses ends the search, not the trials that are finished: Tune and the study have them too."""
        try:
            yield
        except StorageError as error:
            self._refused(error)

    def _refused(self, error: StorageError) -> None:
        self.fault = self.fault or error
        self.stop("storage")

    def _on_signal(self, number: int, _: Any) -> None:
        if self.stop_reason is None:
            self.stop("interrupted")
            signal.signal(signal.SIGINT, self._on_signal)  # Tune gave it back
        elif number == signal.SIGINT:  # of two, one is impatient; the others are sent by machines, and often twice
            raise KeyboardInterrupt
