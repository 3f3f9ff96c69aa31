"""Which code runs here, and on which libraries: what must be the same on every machine of a run.

A digest of each file tells more than a commit: a job's working folder has no ``.git``, a checkout may have been edited,
and the files that differ can be named.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from htt.errors import RunError

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("htt", "tune", "cluster")
LIBRARIES = (
    "ray",
    "torch",
    "numpy",
    "polars",
    "pyarrow",
    "optuna",
    "transformers",
    "safetensors",
    "pydantic",
    "simplejpeg",
)
"""What a result, or a thing sent from machine to machine, depends on."""
NUMERIC = ("torch", "numpy", "transformers", "simplejpeg")
"""The libraries that a trained number depends on."""
SCIENCE = "htt"
"""The room whose code computes numbers; the others choose what is trained, and where."""
UNKNOWN = "unknown"


def commit(root: Path = ROOT) -> str:
    """The commit of the code, with a mark where files differ from it; "unknown" outside a checkout."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return answer.stdout.strip() or UNKNOWN


def digests(root: Path = ROOT) -> dict[str, str]:
    """{file, such as "htt/config.py": 12 hexadecimal digits of its bytes} of all code of the project."""
    files = sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))
    return {path.relative_to(root).as_posix(): digest(path.read_bytes()) for path in files}


def digest(content: bytes) -> str:
    """12 hexadecimal digits that differ for other bytes."""
    return hashlib.sha256(content).hexdigest()[:12]


@functools.cache
def identity(root: Path = ROOT) -> str:
    """Return a text that differs for code or libraries that may compute other numbers; a commit may differ freely."""
    files = {name: found for name, found in digests(root).items() if name.startswith(f"{SCIENCE}/")}
    libraries = ", ".join(f"{name} {version}" for name, version in versions(NUMERIC).items() if name != "python")
    return f"{digest(repr(sorted(files.items())).encode())} ({libraries})"


def check_same(name: str, codes: Sequence[str], started: str, *, share_any: bool) -> None:
    """Raise a ``RunError`` where other code would add its numbers to those of a run.

    Args:
        name: of the run.
        codes: that trained it, as ``identity`` gives them; empty: not known.
        started: the commit it was started at.
        share_any: whether other code may go on with it.
    """
    now = identity()
    if codes and now not in codes and not share_any:
        raise RunError(
            f"Cannot go on with {name} by other code: it was trained by {codes[-1]}, started at commit {started}; this "
            f"is {now}, commit {commit()}. Numbers of two programs need not compare. Go back to that code, start a new "
            "run, or add --share-any: the run then says which code its numbers came from."
        )


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Of Python and of the libraries, without the kind of build: torch for CPUs and for CUDA may work together."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name).partition("+")[0]
    return found
