"""Trial, and its row in ``trials.parquet``, with a column for each metric and each changed path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import polars as pl

from htt.config import Value

STATES = ("complete", "pruned", "failed", "stopped", "cached", "infeasible")
"""States of a trial: all epochs trained (complete); stopped by the scheduler (pruned); crashed or not finite (failed);
ended by Ctrl-C or the time budget (stopped); not trained, because an equal trial exists (cached, see ``taken_from``) or
because it cannot satisfy the constraints (infeasible, see ``violation``)."""


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
    variant: str | None = None
    """Variant of a study, or None in a search."""
    seed: int | None = None
    """Seed of a study's trial, or None in a search."""
    data: str | None = None
    """Key of the data, equal for equal data; see ``htt.data.location.data_key``."""
    taken_from: str | None = None
    """Origin of a cached trial: "run/trial (commit)"."""
    violation: str | None = None
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


_TYPES = {
    "int": pl.Int64,
    "float": pl.Float64,
    "Sequence[float]": pl.List(pl.Float64),
    "Sequence[str]": pl.List(pl.String),
}
_FIXED: dict[str, Any] = {
    entry.name: _TYPES.get(str(entry.type).removesuffix(" | None"), pl.String)
    for entry in fields(Trial)
    if entry.name not in ("metrics", "best")
}
"""{field: type of its column}; mappings are stored as JSON text."""

_RENAMED_STATES = {"reused": "cached", "refused": "infeasible"}
"""{name of a state in older versions: its name}."""
_RENAMED = {"breaks": "violation"}
"""{name in files of older versions: name}."""


def frame(trials: Sequence[Trial]) -> pl.DataFrame:
    """Return the trials as a table, one row each."""
    columns = {name: pl.Series(name, [_fixed(trial, name) for trial in trials], kind) for name, kind in _FIXED.items()}
    for name in dict.fromkeys(name for trial in trials for name in (*trial.metrics, *trial.best)):
        columns[name] = _numbers(name, [trial.metrics.get(name) for trial in trials])
        columns[f"best_{name}"] = _numbers(f"best_{name}", [trial.best.get(name) for trial in trials])
    for path in dict.fromkeys(path for trial in trials for path in trial.values):
        columns[path] = _column(path, [trial.values.get(path) for trial in trials])
    return pl.DataFrame(list(columns.values()))


def _fixed(trial: Trial, name: str) -> Any:
    entry = getattr(trial, name)
    if isinstance(entry, Mapping):
        return json.dumps(dict(entry))
    return list(entry) if isinstance(entry, list | tuple) else entry


def _numbers(name: str, values: list[float | None]) -> pl.Series:
    return pl.Series(name, values, pl.Float64, strict=False)


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
    metrics = [name.removeprefix("best_") for name in table.columns if name.startswith("best_")]
    trials = []
    for row in table.rename(_RENAMED, strict=False).to_dicts():
        fixed = {name: row.get(name) for name in _FIXED}
        fixed |= {name: json.loads(fixed[name] or "{}") for name in ("values", "curves")}
        fixed["metrics"] = {name: row[name] for name in metrics if row[name] is not None}
        fixed["best"] = {name: row[f"best_{name}"] for name in metrics if row[f"best_{name}"] is not None}
        trials.append(_trial(fixed))
    return trials


def of_line(text: str) -> Trial:
    """Return the trial of a line that ``TrialWriter`` appended."""
    return _trial({_RENAMED.get(name, name): value for name, value in json.loads(text).items()})


def _trial(plain: Mapping[str, Any]) -> Trial:
    """Return the trial with these fields, with tuples in place of lists."""
    lists = {name: tuple(plain[name] or ()) for name in ("curve", "instead_of")}
    state = _RENAMED_STATES.get(plain["state"], plain["state"])
    return Trial(
        **{**plain, **lists, "state": state, "curves": {name: tuple(curve) for name, curve in plain["curves"].items()}}
    )
