"""Trial and its row in ``trials.parquet``, with a column for each metric and each changed path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import polars as pl

from htt.config import Value

STATES = ("complete", "pruned", "failed", "stopped", "reused", "refused")
"""States of a trial: all epochs trained (complete); stopped by the scheduler (pruned); crashed or not finite (failed);
ended by Ctrl-C or the time budget (stopped); not trained, because an equal trial exists (reused, see ``taken_from``) or
because it cannot satisfy the constraints (refused, see ``breaks``)."""

_FIXED: dict[str, Any] = {
    "id": pl.String,
    "number": pl.Int64,
    "fingerprint": pl.String,
    "state": pl.String,
    "epochs": pl.Int64,
    "seconds": pl.Float64,
    "finished_s": pl.Float64,
    "error": pl.String,
    "values": pl.String,
    "curve": pl.List(pl.Float64),
    "variant": pl.String,
    "seed": pl.Int64,
    "data": pl.String,
    "curves": pl.String,
    "taken_from": pl.String,
    "breaks": pl.String,
    "instead_of": pl.List(pl.String),
    "error_kind": pl.String,
    "code": pl.String,
}


@dataclass(frozen=True)
class Trial:
    """Configuration of a trial and its results."""

    id: str
    number: int
    """Number in the order of creation, from 1."""
    fingerprint: str
    """Equal for equal configurations; see ``htt.config.Config.fingerprint``."""
    state: str
    epochs: int
    """Number of trained epochs."""
    seconds: float
    """Duration, s, by the clocks of the machines that trained it."""
    finished_s: float
    """End time, s after the start of the search."""
    values: Mapping[str, Value]
    """Values chosen by the search: {dotted path: value}."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the last epoch."""
    best: Mapping[str, float] = field(default_factory=dict)
    """Best value over the epochs, for each metric separately."""
    curve: Sequence[float] = ()
    """Selection metric of the search, per epoch."""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """{metric: values per epoch}, for a trial of a study."""
    error: str | None = None
    """Error message, if it failed."""
    variant: str | None = None
    """Variant of a study, or None in a search."""
    seed: int | None = None
    """Seed of a study's trial, or None in a search."""
    data: str | None = None
    """Key of the data, equal for equal data; see ``htt.data.location.data_key``."""
    taken_from: str | None = None
    """Origin of a reused trial: "run/trial (commit)"."""
    breaks: str | None = None
    """Violated constraints in words, or None. A trial that violates constraints is never the best."""
    error_kind: str | None = None
    """Class name of its error, if it is one of ``htt.errors``."""
    instead_of: Sequence[str] = ()
    """Ids of the trials it replaces: failed trials of the same variant and seed."""
    code: str | None = None
    """Identity of the code that trained it (``cluster.revision.identity``), or None for trials of older versions."""

    @property
    def pair(self) -> tuple[str, int] | None:
        """(variant, seed) of a study's trial, or None in a search."""
        return None if self.variant is None or self.seed is None else (self.variant, self.seed)

    def in_place_of(self, before: Trial | None) -> Trial:
        """Return the trial as replacement of ``before``, which may be its own row from before it was resumed."""
        if before is None:
            return self
        names = dict.fromkeys((*before.instead_of, before.id))
        return replace(self, instead_of=tuple(name for name in names if name != self.id))


def frame(trials: Sequence[Trial]) -> pl.DataFrame:
    """Return the trials as a table, one row each."""
    names = list(dict.fromkeys(name for trial in trials for name in (*trial.metrics, *trial.best)))
    paths = list(dict.fromkeys(path for trial in trials for path in trial.values))
    columns = {name: pl.Series(name, [_fixed(trial, name) for trial in trials], kind) for name, kind in _FIXED.items()}
    for name in names:
        columns[name] = _numbers(name, [trial.metrics.get(name) for trial in trials])
        columns[f"best_{name}"] = _numbers(f"best_{name}", [trial.best.get(name) for trial in trials])
    for path in paths:
        columns[path] = _column(path, [trial.values.get(path) for trial in trials])
    return pl.DataFrame(list(columns.values()))


def _fixed(trial: Trial, name: str) -> Any:
    if name in ("values", "curves"):
        return json.dumps(dict(getattr(trial, name)))
    return list(getattr(trial, name)) if name in ("curve", "instead_of") else getattr(trial, name)


def _numbers(name: str, values: list[float | None]) -> pl.Series:
    return pl.Series(name, [None if value is None else float(value) for value in values], pl.Float64)


def _column(name: str, values: list[Value]) -> pl.Series:
    """Return a changed path as a column, in the type of its values if they share one, otherwise as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return _numbers(name, values)
    if len(kinds) <= 1 and kinds <= {int, bool, str}:
        return pl.Series(name, values)
    return pl.Series(name, [None if value is None else json.dumps(value) for value in values])


def trials_of(table: pl.DataFrame) -> list[Trial]:
    """Return the trials of a table made by ``frame``."""
    return [_trial(row) for row in table.to_dicts()]


def _trial(row: dict[str, Any]) -> Trial:
    names = [name.removeprefix("best_") for name in row if name.startswith("best_")]
    fixed: dict[str, Any] = {name: row.get(name) for name in _FIXED}
    fixed["values"] = json.loads(fixed["values"])
    for name in ("curve", "instead_of"):
        fixed[name] = tuple(fixed[name] or ())
    fixed["curves"] = {name: tuple(curve) for name, curve in json.loads(fixed["curves"] or "{}").items()}
    metrics = {name: row[name] for name in names if row[name] is not None}
    best = {name: row[f"best_{name}"] for name in names if row[f"best_{name}"] is not None}
    return Trial(**fixed, metrics=metrics, best=best)


def line(trial: Trial) -> str:
    """Return the trial as a line of JSON."""
    return json.dumps(asdict(trial)) + "\n"


def of_line(text: str) -> Trial:
    """Return the trial of a line made by ``line``."""
    plain = json.loads(text)
    for name in ("curve", "instead_of"):
        plain[name] = tuple(plain[name])
    return Trial(**{**plain, "curves": {name: tuple(curve) for name, curve in plain["curves"].items()}})
