"""Candidate: a configuration that may become a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from htt.config import Config, Value, override


@dataclass(frozen=True)
class Candidate:
    """Configuration of a trial, made once for each trial that a searcher suggests."""

    values: Mapping[str, Value]
    """Changes to the base configuration: {dotted path: value}."""
    config: Config
    fingerprint: str
    """Equal for equal configurations; see ``htt.config.Config.fingerprint``."""

    @classmethod
    def of(cls, base: Config, values: Mapping[str, Value]) -> Candidate:
        """Return the candidate with some values of a base configuration changed."""
        config = override(base, values)
        return cls(values, config, config.fingerprint())
