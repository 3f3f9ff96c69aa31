"""Results of benchmarks: what was measured, when, on which machine, with which command."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


def header(title: str, command: str, packages: Sequence[str] = ("torch", "ray", "numpy")) -> list[str]:
    """Return the first lines of every result."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"# {title}",
        "",
        f"- Date: {dt.datetime.now(dt.timezone.utc).date().isoformat()}",
        f"- Machine: {processor()}, {os.cpu_count()} cores, load at the end {load}",
        f"- Python {platform.python_version()}, {versions}",
        f"- Command: `{command}`",
        "",
    ]


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(name: str, lines: Sequence[str], *, keep: bool = True) -> None:
    """Print a result and save it."""
    print("\n".join([*lines, ""]))
    if keep:
        save(name, lines)


def save(name: str, lines: Sequence[str]) -> None:
    """Save a result as ``benchmarks/results/<name>.md``."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
