"""YAML text as plain data, within bounds: no tags, no aliases, no key twice, no endless file.

``load`` reads what ``dump`` wrote, each value with its type. ``load_words`` leaves every scalar as the text that stands
there, so that ``htt.config`` can read it by the type of its field: YAML 1.1 alone would make 8 of ``010``, 90 of
``1:30`` and a text of ``1e-4``.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from htt.errors import ConfigError, shown

MOST_BYTES = 4_000_000
"""Of a file; the largest that the platform writes has some 100 kB."""
MOST_DEPTH = 40
"""Of mappings and lists within one another."""


class Word(str):
    """A scalar that stands in a file without quotation marks: what it means is for its field to say."""


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what makes a small text endless or ambiguous."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases (& and *) are not taken; write the "
                                              "values out", event.start_mark)  # fmt: skip
        if self.depth >= MOST_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {MOST_DEPTH} deep", event.start_mark)
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
                    None, None, f"the key {shown(key)} is given twice; leave one out", key_node.start_mark
                )
            seen.add(key if isinstance(key, Hashable) else "")
        return super().construct_mapping(node, deep)


class _WordLoader(_Loader):
    """The same with every scalar as its text."""


def _word(_: _WordLoader, node: yaml.ScalarNode) -> str:
    return Word(node.value) if node.style is None else str(node.value)


for _tag in ("bool", "int", "float", "null", "timestamp", "str"):
    _WordLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _word)


class _Dumper(yaml.SafeDumper):
    """A safe dumper that never writes anchors, and quotes the texts that a field may read as something else."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if text.lower() == "none" else None)


_Dumper.add_representer(str, _text)


def dump(plain: Any) -> str:
    """Plain data as YAML text; ``load`` gives them back."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load(text: str, name: str) -> Any:
    """The plain data of a YAML text.

    Args:
        text: YAML, as ``dump`` writes it.
        name: of its file, for the message.

    Raises:
        ConfigError: it is no YAML, or none that is taken here.
    """
    return _load(text, name, _Loader)


def load_words(text: str, name: str) -> Any:
    """The same with each scalar as text: a ``Word``, or a ``str`` where quotation marks are around it."""
    return _load(text, name, _WordLoader)


def read(path: str | Path, name: str = "") -> str:
    """The text of a file that a user hands in.

    Args:
        path: of the file; a ``~`` is the user's home.
        name: of the file in the message; empty: its path.

    Raises:
        ConfigError: it cannot be read, is no text in UTF-8, or is too large to be what is wanted.
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
