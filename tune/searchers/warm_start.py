"""Warm start of a search: finished trials of earlier runs that fit its space, and initial points."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import revision
from htt import yaml_text
from htt.config import Config, Value, changed, flatten, from_yaml, override, parse_set, read_value
from htt.data.location import data_key
from htt.errors import ConfigError, did_you_mean, shown
from htt.text import plural
from tune.experiments.constraints import broken
from tune.experiments.space import Space
from tune.experiments.spec import SearchSpec
from tune.results.run_folder import RunFolder, RunRecord, Trial

FINISHED = ("complete", "pruned", "cached")


@dataclass(frozen=True)
class Earlier:
    """The trials that one earlier run contributes."""

    run: str
    trials: Sequence[Trial]
    """The trials that fit, as rows of the new search."""
    misfits: Mapping[str, int]
    """{reason: number of trials that do not fit}."""

    def __str__(self) -> str:
        """Return ``Warm start with 12 of the 20 trials of NAME; left out: 8 of other data.``, for example."""
        count = len(self.trials) + sum(self.misfits.values())
        start = f"Warm start with {len(self.trials)} of the {plural(count, 'trial')} of {self.run}"
        rest = ", ".join(f"{number} {reason}" for reason, number in self.misfits.items())
        return f"{start}; left out: {rest}." if rest else f"{start}."


def earlier(folder: RunFolder, spec: SearchSpec) -> Earlier:
    """Return the trials of a run that fit a search.

    Raises:
        RunError: the run cannot be read.
    """
    record = folder.record
    results = [_fitting(folder, record, trial, spec) for trial in folder.trials()]
    fitting = [result for result in results if isinstance(result, Trial)]
    return Earlier(folder.name, fitting, Counter(result for result in results if isinstance(result, str)))


def _fitting(folder: RunFolder, record: RunRecord, trial: Trial, spec: SearchSpec) -> Trial | str:
    """Return the trial as a row of the search, or the reason why it does not fit."""
    if trial.state not in FINISHED:
        return trial.state
    needed = dict.fromkeys((*spec.all_objectives, *(each.metric for each in spec.constraints)))
    missing = [name for name in needed if not math.isfinite(trial.metrics.get(name, math.nan))]
    if missing:
        return f"without {', '.join(missing)}"
    try:
        config = override(record.config(), trial.values)
    except ConfigError:
        return "of another version"
    space, base = Space(spec.domains), spec.config()
    if (sample := space.of(config)) is None:
        values = flatten(config)
        outside = [path for path, domain in space.domains.items() if not domain.holds(values[path])]
        return f"outside the space ({', '.join(outside)})"
    differs = [path for path in changed(override(base, sample), config) if not path.startswith("runtime.")]
    if differs:
        return f"of another base ({', '.join(differs)})"
    if trial.data is not None and trial.data != data_key(config):
        return "of other data"
    if trial.code != revision.identity() and not spec.share_any:
        return "of other code (--share-any includes them)"
    metric = spec.all_objectives[0]
    return replace(
        trial,
        state="pruned" if trial.epochs < config.train.epochs else "complete",
        values=sample,
        curve=trial.curve if record.spec.metric == metric else trial.curves.get(metric, ()),
        curves={},
        taken_from=trial.taken_from or f"{folder.name}/{trial.id} ({record.commit})",
        violation=broken(spec.constraints, trial.metrics),
    )


def points(texts: Sequence[str], space: Space, base: Config) -> list[dict[str, Value]]:
    """Return the samples to try first.

    Args:
        texts: each a YAML file (a ``best.yaml``, a configuration, or a mapping of dotted paths to values), of which
            only the searched paths are used; or ``path=value`` words. A searched path that is missing has the base's
            value.
        space: space that the samples must lie in.
        base: configuration that trials start from.

    Raises:
        ConfigError: one error for all texts that cannot be read or lie outside the space.
    """
    samples, faults = [], []
    for text in texts:
        option = f"--point {shown(text, quoted=False)}"
        try:
            sample = _sample(text, space, base)
        except ConfigError as error:
            faults += [f"{option}: {fault}" for fault in error.faults]
            continue
        wrong = [path for path, value in sample.items() if not space.domains[path].holds(value)]
        faults += [
            f"{option}: {path} must be in the space, {space.domains[path]}; got {shown(sample[path], quoted=False)}"
            for path in wrong
        ]
        samples += [] if wrong or sample in samples else [sample]
    if faults:
        raise ConfigError.of(faults)
    return samples


def _sample(text: str, space: Space, base: Config) -> dict[str, Value]:
    """Return {path: value} of all searched paths, validated as configuration values."""
    file = Path(text)
    # not Path.exists, which raises an error for a name that is too long
    if file.suffix in (".yaml", ".yml") or os.path.exists(os.path.expanduser(text)):
        named = _of_file(file, space, base)
    else:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ConfigError(f"Unbalanced quotation marks: {str(error).lower()}.") from error
        named = parse_set(words, "--point")
        unknown = [path for path in named if path not in space.domains]
        if unknown:
            known = list(space.domains)
            raise ConfigError.of(
                [f"{shown(path, quoted=False)} is not searched.{did_you_mean(path, known)}" for path in unknown]
            )
    whole = flatten(override(base, named))
    return {path: whole[path] for path in space.domains}


def _of_file(file: Path, space: Space, base: Config) -> dict[str, Value]:
    text = yaml_text.read(file, "it")
    plain = yaml_text.load_words(text, "it")
    if isinstance(plain, dict) and plain and all(isinstance(path, str) and "." in path for path in plain):
        named = flatten(override(base, {path: read_value(path, value) for path, value in plain.items()}))
    else:
        named = flatten(from_yaml(text, "it"))
    return {path: value for path, value in named.items() if path in space.domains}
