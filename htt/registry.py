"""Registry of plug-ins: every module of a package is a plug-in, named by its file.

``names(htt.model.blocks)`` lists the plug-ins, ``load(htt.model.blocks, "transformer")`` imports one. A new backbone,
block, source, space or study is a new file; no other registration is needed.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import traceback
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from htt import presets
from htt.config import Config, flatten, override
from htt.errors import ConfigError, HTTError, did_you_mean, shown

ValueT = TypeVar("ValueT")

PLUGINS = {
    "data.source": "htt.data.sources",
    "model.backbone.name": "htt.model.backbones",
    "model.pose.block": "htt.model.blocks",
    "model.action.block": "htt.model.blocks",
}
"""Fields that name a plug-in, and the package it is in."""
FREE = "model.backbone.name"
"""Field that may also name a model of the hub ("owner/name") or a local folder."""


def names(package: ModuleType) -> list[str]:
    """Return the plug-ins of a package, sorted; modules that start with an underscore are helpers."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load(package: ModuleType, name: str) -> ModuleType:
    """Import the plug-in ``name`` of a package.

    Raises:
        ConfigError: there is no such plug-in; the message lists the existing ones.
    """
    known = names(package)
    if name not in known:
        kind = package.__name__.rpartition(".")[2]
        raise ConfigError(f"No {shown(name)} in {kind}. Available: {', '.join(known)}.{did_you_mean(name, known)}")
    try:
        return importlib.import_module(f"{package.__name__}.{name}")
    except Exception as error:  # of any type, because a plug-in is code of a user
        file = Path(package.__path__[0]) / f"{name}.py"
        raise ConfigError(f"Cannot import {file}: {_of_plugin(error, file)}") from error


def _of_plugin(error: Exception, file: Path) -> str:
    """Return the error of a plug-in as text, with the last of its lines in the traceback."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__) if entry.filename == str(file)]
    text = str(error) if isinstance(error, HTTError) else f"{type(error).__name__}: {shown(str(error), quoted=False)}"
    return f"line {lines[-1]}: {text}" if lines else text


def value(package: ModuleType, name: str, constant: str, kind: type[ValueT]) -> ValueT:
    """Return the value of a constant, such as SPACE, in the plug-in ``name`` of a package.

    Raises:
        ConfigError: there is no such plug-in, it cannot be imported, or it has no such constant of that type.
    """
    constant_value = getattr(load(package, name), constant, None)
    if not isinstance(constant_value, kind):
        file = Path(package.__path__[0]) / f"{name}.py"
        raise ConfigError(f"Invalid {file}: expected {constant} of type {kind.__name__}, got {shown(constant_value)}.")
    return constant_value


def preset(name: str) -> Config:
    """Return the preset of that name: the defaults with the changes of a module of htt/presets.

    Raises:
        ConfigError: there is no such preset.
    """
    return override(Config(), value(presets, name, "PRESET", dict))


def check_plugins(config: Config) -> None:
    """Check every plug-in name of a configuration without importing the plug-ins, before a search starts.

    Raises:
        ConfigError: some names do not exist; one error lists all.
    """
    values = flatten(config)
    problems = []
    for path, package in PLUGINS.items():
        name, known = str(values[path]), names(importlib.import_module(package))
        if name not in known and not (path == FREE and is_free(name)):
            problems.append(
                f"{path}: no such plug-in {shown(name)}. Available: {', '.join(known)}.{did_you_mean(name, known)}"
            )
    if problems:
        raise ConfigError.of(problems)


def is_free(name: str) -> bool:
    """Return whether a backbone's name is that of a hub model or a local folder."""
    return "/" in name or os.path.isdir(os.path.expanduser(name))
