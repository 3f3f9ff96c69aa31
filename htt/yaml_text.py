"""YAML text as plain data, with limits: no tags, no aliases, no duplicate keys, bounded size and depth.

``load`` reads the output of ``dump``, each value with its type. ``load_words`` leaves every scalar as text, so that
``htt.config`` can parse it by the type of its field: YAML 1.1 alone would read ``010`` as 8, ``1:30`` as 90 and
``1e-4`` as text.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from htt.errors import ConfigError, shown

MOST_BYTES = 4_000_000
"""Largest size of a file, bytes; the largest file the platform writes has about 100 kB."""
MOST_DEPTH = 40
"""Largest nesting depth of mappings and lists."""


class Word(str):
    """Scalar without quotation marks in a file; its field decides on its type."""


class _Loader(yaml.SafeLoader):
    """Safe loader that rejects constructs that make a small text endless or ambiguous."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases (& and *) are not supported; write "
                                              "the values out", event.start_mark)  # fmt: skip
        if self.depth >= MOST_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_DEPTH} nested levels", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {shown(key)}; remove one", key_node.start_mark
                )
            seen.add(key if isinstance(key, Hashable) else "")
        return super().construct_mapping(node, deep)


class _WordLoader(_Loader):
    """Loader as ``_Loader``, but with every scalar as text."""


def _word(_: _WordLoader, node: yaml.ScalarNode) -> str:
    return Word(node.value) if node.style is None else str(node.value)


for _tag in ("bool", "int", "float", "null", "timestamp", "str"):
    _WordLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _word)


class _Dumper(yaml.SafeDumper):
    """Safe dumper that never writes anchors, and quotes texts that a field may read as another type."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    breaks = not _LINE_BREAKS.isdisjoint(text)  # PyYAML writes them unescaped between single quotes
    style = '"' if breaks else "'" if text.lower() == "none" else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_LINE_BREAKS = frozenset("\x85\u2028\u2029")


_Dumper.add_representer(str, _text)


def dump(plain: Any) -> str:
    """Return plain data as YAML text; the inverse of ``load``."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load(text: str, name: str) -> Any:
    """Return the plain data of a YAML text.

    Args:
        text: YAML, as ``dump`` writes it.
        name: name of its file, for the message.

    Raises:
        ConfigError: the text is not valid YAML, or uses a construct that is not accepted.
    """
    return _load(text, name, _Loader)


def load_words(text: str, name: str) -> Any:
    """Return the data as ``load`` does, but with each scalar as text: a ``Word``, or a ``str`` if it was quoted."""
    return _load(text, name, _WordLoader)


def read(path: str | Path, name: str = "") -> str:
    """Return the text of a file given by the user.

    Args:
        path: path of the file; a leading ``~`` is the user's home.
        name: name of the file in the message; its path if empty.

    Raises:
        ConfigError: the file is unreadable, not UTF-8 text, or larger than ``MOST_BYTES``.
    """
    name = name or shown(str(path), quoted=False)
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{name} must be a YAML file of at most {MOST_BYTES // 10**6} MB; it is larger.")
        return content.decode("utf-8")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a ~ without a home
        reason = getattr(error, "strerror", None) or shown(str(error), quoted=False)
        raise ConfigError(f"{name} must be a readable YAML file; {reason}.") from error


def _load(text: str, name: str, kind: type[_Loader]) -> Any:
    try:
        return yaml.load(text, Loader=kind)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2024-13-45, or 5,000 digits
        reason = shown(" ".join(str(error).split()), quoted=False)
        raise ConfigError(f"{name} must be YAML; {reason}") from error
