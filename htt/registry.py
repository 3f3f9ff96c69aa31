"""A folder is a registry: every module of a package is a plug-in, and its file name is its name.

``names(htt.model.blocks)`` lists what there is, ``load(htt.model.blocks, "transformer")`` imports one. A new backbone,
block, source, space or study is a new file; nothing is registered anywhere else.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from htt import presets
from htt.config import Config, flatten, override
from htt.errors import ConfigError, did_you_mean

PLUGINS = {
    "data.source": "htt.data.sources",
    "model.backbone.name": "htt.model.backbones",
    "model.pose.block": "htt.model.blocks",
    "model.action.block": "htt.model.blocks",
}
"""Fields that name a plug-in, and the package it is in."""
FREE = "model.backbone.name"
"""The field that may also name what is no plug-in: a model of the hub ("owner/name") or a local folder."""


def names(package: ModuleType) -> list[str]:
    """The plug-ins of a package, sorted; modules that start with an underscore are helpers, not plug-ins."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load(package: ModuleType, name: str) -> ModuleType:
    """Import the plug-in ``name`` of a package.

    Raises:
        ConfigError: there is no such plug-in; the message lists those there are.
    """
    known = names(package)
    if name not in known:
        kind = package.__name__.rpartition(".")[2]
        raise ConfigError(
            f"{kind} must name one that exists; got '{name}'. There are: {', '.join(known)}.{did_you_mean(name, known)}"
        )
    return importlib.import_module(f"{package.__name__}.{name}")


def preset(name: str) -> Config:
    """The configuration of that name: what the module of htt/presets changes in the defaults.

    Raises:
        ConfigError: there is no such preset.
    """
    return override(Config(), load(presets, name).PRESET)


def check_plugins(config: Config) -> None:
    """Check every name in a configuration without importing what it names, so that a search can ask before it starts.

    Raises:
        ConfigError: one error for all names that do not exist.
    """
    values = flatten(config)
    problems = []
    for path, package in PLUGINS.items():
        name, known = str(values[path]), names(importlib.import_module(package))
        if name not in known and not (path == FREE and is_free(name)):
            problems.append(f"{path}: there is no '{name}'. There are: {', '.join(known)}.{did_you_mean(name, known)}")
    if problems:
        raise ConfigError.of(problems)


def is_free(name: str) -> bool:
    """Whether a backbone's name is that of a hub model or a local folder."""
    return "/" in name or Path(name).is_dir()
