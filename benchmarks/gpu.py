"""Everything that needs a GPU, in one command and nine minutes: parity, speed, memory, sharing, resuming, searching.

::

    python benchmarks/gpu.py                                  # writes benchmarks/results/gpu.md
    python benchmarks/gpu.py --device cpu --tiny --no-result  # the same parts in minutes on a CPU, to test the command
    python benchmarks/gpu.py --parts steps resume             # some parts only

Data are rendered or random, and nothing is downloaded. Each part is a process with a time limit, so one that fails,
hangs or crashes costs only itself; it is named in the result, which is written after every part. The windows are as
long as those of H2O's training split.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from result import header, save, write

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "parity": 30,
    "steps": 50,
    "deterministic": 20,
    "loader": 35,
    "encoding": 25,
    "prediction": 25,
    "attention": 15,
    "data": 60,
    "features_trial": 40,
    "resume": 40,
    "sharing": 40,
    "compiled": 110,
    "fractions": 60,
    "search": 300,
}
"""{name: time limit, s}, of the full size on one GPU. Those that say most come first, those that may hang last; the
search takes the time that is left."""
TINY_FACTOR = 20
"""Factor of the time limits on a CPU, which may be busy."""


@dataclass(frozen=True)
class Result:
    """Measurements of a part."""

    lines: Sequence[str]
    """Lines of Markdown, as far as it came."""
    seconds: float
    failure: str | None
    """Reason why it did not come to its end, or None."""


def started(name: str, options: argparse.Namespace, scratch: Path) -> subprocess.Popen[str]:
    """Start the process of a part, which imports its modules and waits."""
    words = [name, options.device, "tiny" if options.tiny else "full", str(scratch)]
    paths = [str(ROOT), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    own["HTT_CACHE"] = os.environ.get("HTT_CACHE", str(scratch / "cache"))
    if options.device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    if options.tiny:  # idle threads spin
        own["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        [sys.executable, "-m", "gpu_parts", *words], stdin=subprocess.PIPE, text=True, env={**os.environ, **own},
        cwd=scratch, start_new_session=True,
    )  # fmt: skip


def measured(name: str, child: subprocess.Popen[str], limit_s: float, scratch: Path) -> Result:
    """Let a part start; return what it measured until its end or its time limit."""
    began = time.monotonic()
    failure = None
    try:
        with contextlib.suppress(BrokenPipeError):  # it ended while it imported its modules
            child.communicate(f"{limit_s}\n", timeout=limit_s)
    except subprocess.TimeoutExpired:
        failure = f"not finished within {limit_s:.0f} s"
    finally:
        ended(child)
    out = scratch / f"{name}.md"
    if failure is None and child.returncode:
        named = out.with_suffix(".failure")
        failure = named.read_text() if named.exists() else f"its process left with {child.returncode}"
    lines = out.read_text().splitlines() if out.exists() else []
    return Result(lines, time.monotonic() - began, failure)


def ended(child: subprocess.Popen[str]) -> None:
    """End the process of a part and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdin:
        child.stdin.close()


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Result]:
    """Measure the parts, and save the result after each; the next process starts while one measures."""
    done: dict[str, Result] = {}
    waiting: list[subprocess.Popen[str]] = []
    ends = time.monotonic() + options.budget
    try:
        for number, name in enumerate(options.parts):
            waiting = waiting or [started(name, options, scratch)]
            child = waiting[0]
            waiting += [started(each, options, scratch) for each in options.parts[number + 1 : number + 2]]
            left_s = ends - time.monotonic()
            limit_s = min(left_s, PARTS[name] * (TINY_FACTOR if options.tiny else 1))
            done[name] = measured(name, child, limit_s, scratch) if limit_s > 0 else Result([], 0.0, "no time left")
            ended(waiting.pop(0))
            print(f"{name}: {done[name].failure or 'done'}, {done[name].seconds:.0f} s", flush=True)
            if not options.no_result:
                save("gpu", report(options, scratch, done))
    finally:
        for child in waiting:
            ended(child)
    return done


def report(options: argparse.Namespace, scratch: Path, done: Mapping[str, Result]) -> list[str]:
    """Return the result as Markdown."""
    device = scratch / "device"
    top = header("On a GPU", f"python benchmarks/gpu.py --device {options.device}{' --tiny' * options.tiny}")
    seconds = sum(result.seconds for result in done.values())
    top.insert(-1, f"- Device: {device.read_text() if device.exists() else 'unknown'}; {seconds:.0f} s in all")
    left = [name for name in options.parts if name not in done]
    failed = [f"- {name}: {result.failure}" for name, result in done.items() if result.failure]
    lines = ["Parts that failed:", "", *failed, ""] if failed else ["No part failed.", ""]
    lines += [f"Parts that did not start: {', '.join(left)}.", ""] if left else []
    for name, result in done.items():
        failure = ["", f"FAILED: {result.failure}"] if result.failure else []
        lines += [f"## {name}", "", *result.lines, *failure, "", f"({result.seconds:.0f} s)", ""]
    return [*top, *lines]


def main() -> None:
    """Measure all parts and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="device (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny network and images, a few steps of everything")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts (default: all)")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all (default: 540)")
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("This machine has no GPU that torch can use. To test the command: --device cpu --tiny.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the processes of the parts, too
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as scratch:
        done = measure(options, Path(scratch))
        write("gpu", report(options, Path(scratch), done), keep=not options.no_result)
    raise SystemExit(1 if any(result.failure for result in done.values()) else 0)


if __name__ == "__main__":
    main()
