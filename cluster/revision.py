"""Identity of the code and the libraries, which must be the same on every machine of a run.

Digests of all files are used instead of a commit, because a job's working folder has no ``.git`` and a checkout may
have been edited. Digests also show which files differ.
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
"""Libraries on which results, or objects that are sent between machines, depend."""
NUMERIC = ("torch", "numpy", "transformers", "simplejpeg")
"""Libraries on which the numbers of a training depend."""
SCIENCE = "htt"
"""Package whose code computes numbers; the others choose what is trained, and where."""
UNKNOWN = "unknown"


def commit(root: Path = ROOT) -> str:
    """Return the commit of the code, marked "-dirty" if files were edited, or "unknown" outside a checkout."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return answer.stdout.strip() or UNKNOWN


def digests(root: Path = ROOT) -> dict[str, str]:
    """Return {file: digest} of all code of the project; a file is a path such as "htt/config.py"."""
    files = sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))
    return {path.relative_to(root).as_posix(): digest(path.read_bytes()) for path in files}


def digest(content: bytes) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of the content."""
    return hashlib.sha256(content).hexdigest()[:12]


@functools.cache
def identity(root: Path = ROOT) -> str:
    """Return a text that changes with every change of numeric code or libraries, but not with the commit alone."""
    files = {name: found for name, found in digests(root).items() if name.startswith(f"{SCIENCE}/")}
    libraries = ", ".join(f"{name} {version}" for name, version in versions(NUMERIC).items() if name != "python")
    return f"{digest(repr(sorted(files.items())).encode())} ({libraries})"


def check_same(name: str, codes: Sequence[str], started: str, *, share_any: bool) -> None:
    """Raise a ``RunError`` if a run was trained by other code than the current one, unless ``share_any``.

    ``codes`` are the values of ``identity`` of the code that trained it, if known, and ``started`` its first commit.
    """
    now = identity()
    if codes and now not in codes and not share_any:
        raise RunError(
            f"Cannot resume {name} with other code: it was trained by {codes[-1]} (started at commit {started}), and "
            f"the current code is {now} (commit {commit()}). Results of different code may not be comparable. Use that "
            "code, start a new run, or add --share-any: the run then records which code its numbers came from."
        )


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of the libraries, without build tags: torch for CPU and CUDA may be mixed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name).partition("+")[0]
    return found
