"""One part of ``benchmarks/gpu.py``: waits until it may start, and writes each line as soon as it is measured.

It starts when a line with its time limit, s, comes from standard input, so that imports do not count.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import torch

from gpu_parts import network, runs
from gpu_parts.setting import Setting, last_line


def main() -> None:
    """Run the part that the arguments name."""
    name, kind, size, scratch = sys.argv[1:]
    part = getattr(network, name, None) or getattr(runs, name)
    limit_s = float(sys.stdin.readline())
    out = Path(scratch) / f"{name}.md"
    try:
        setting = Setting(torch.device(kind), size == "tiny", Path(scratch), limit_s)
        setting.describe()
        with out.open("w") as file:
            for line in part(setting):
                print(line, file=file, flush=True)
    except Exception as error:  # of any type: it is named in the result
        traceback.print_exc()
        out.with_suffix(".failure").write_text(last_line(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
