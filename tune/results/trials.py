"""One trial, and its row in ``trials.parquet``: a column for each metric, and one for each path that was changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import polars as pl

from htt.config import Value

STATES = ("complete", "pruned", "failed", "stopped", "reused", "refused")
"""All epochs trained; stopped by the scheduler; crashed or not finite; cut short by Ctrl-C or the time budget; not
trained, because it had been before (``taken_from``), or because it could not keep the constraints (``breaks``)."""

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
    """One configuration, trained, and what came of it."""

    id: str
    number: int
    """1 for the first trial that was asked for."""
    fingerprint: str
    """Equal for equal configurations; see ``htt.config.Config.fingerprint``."""
    state: str
    epochs: int
    """Epochs that were trained."""
    seconds: float
    """Time it took, s, on all its machines' clocks."""
    finished_s: float
    """When it ended, s after the search began."""
    values: Mapping[str, Value]
    """What the search chose: {dotted path: value}."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of its last epoch."""
    best: Mapping[str, float] = field(default_factory=dict)
    """The best of its epochs, for each metric alone."""
    curve: Sequence[float] = ()
    """The metric the search selects by, epoch by epoch."""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of a study: {metric: its value epoch by epoch}."""
    error: str | None = None
    """What it failed for, in words."""
    variant: str | None = None
    """Of a study; none in a search."""
    seed: int | None = None
    """Of a study's training; none in a search."""
    data: str | None = None
    """Equal for equal data; see ``htt.data.location.data_key``."""
    taken_from: str | None = None
    """The run that trained it, where this one found it done: "run/trial (commit)"."""
    breaks: str | None = None
    """The constraints it breaks, in words; none: it keeps all. One that breaks some is never the best."""
    error_kind: str | None = None
    """The class of its error, if it is one of ``htt.errors``."""
    instead_of: Sequence[str] = ()
    """The trials whose place it took: they were of the same variant and seed, failed, and were tried again."""
    code: str | None = None
    """What trained it, as ``cluster.revision.identity`` gives it; None: an older version, which did not note it."""

    @property
    def pair(self) -> tuple[str, int] | None:
        """(variant, seed) of a study's training."""
        return None if self.variant is None or self.seed is None else (self.variant, self.seed)

    def in_place_of(self, before: Trial | None) -> Trial:
        """The same, as it takes the place of another row; or of its own, where it was cut short and went on."""
        if before is None:
            return self
        names = dict.fromkeys((*before.instead_of, before.id))
        return replace(self, instead_of=tuple(name for name in names if name != self.id))


def frame(trials: Sequence[Trial]) -> pl.DataFrame:
    """The trials as a table, one row each."""
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
    """A searched path as a column: of its own type where all values share one, else as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return _numbers(name, values)
    if len(kinds) <= 1 and kinds <= {int, bool, str}:
        return pl.Series(name, values)
    return pl.Series(name, [None if value is None else json.dumps(value) for value in values])


def trials_of(table: pl.DataFrame) -> list[Trial]:
    """Undoes ``frame``."""
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
    """Return the trial of a line that ``line`` made."""
    plain = json.loads(text)
    for name in ("curve", "instead_of"):
        plain[name] = tuple(plain[name])
    return Trial(**{**plain, "curves": {name: tuple(curve) for name, curve in plain["curves"].items()}})
