"""A folder is a registry: every module of a package is a plug-in, and its file name is its name.

``names(htt.model.blocks)`` lists what there is, ``load(htt.model.blocks, "transformer")`` imports one. A new backbone,
block, source, space or study is a new file; nothing is registered anywhere else.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from htt.errors import ConfigError, did_you_mean


def names(package: ModuleType) -> list[str]:
    """The plug-ins of a package, sorted; modules that start with an underscore are helpers, not plug-ins."""
    return sorted(
        module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")
    )


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
