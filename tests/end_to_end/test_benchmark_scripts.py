"""Every benchmark's command runs, shortened: a script that nothing calls breaks without a word."""

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = {
    "inference": ["--rounds", "1", "--again", "2", "--width", "64", "--height", "36", "--length", "20"],
    "loading": ["--rounds", "1"],
    "padding": ["--steps", "1", "--width", "96", "--height", "54", "--precision", "bf16"],
    "scene_rendering": ["--repeats", "1", "--clips", "1"],
    "streaming": ["--rounds", "1"],
}
WITH_RAY = {
    "converting": ["--clips", "1", "--rounds", "1"],
    "encoding": ["--rounds", "1"],
    "gpu": ["--device", "cpu", "--tiny", "--budget", "850"],
    "growth": ["--before", "0", "40", "--trials", "8"],
    "platform_cost": ["--trials", "4", "--group-trials", "2"],
    "train_overhead": ["--rounds", "1", "--trials", "2"],
}
ELSEWHERE = {
    "default_search": "the first command as it is, ten minutes; test_spine.py takes the same road",
    "early_action": "reads the study of eight seeds",
    "headline": "reads the study of seven seeds, which takes 38 minutes",
    "ray_up": "hosts out of network namespaces, as root; test_ray_up.py takes the same road",
    "result": "no script",
    "searchers": "trains a thousand configurations",
}


def run(name, words, cache):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *words, "--no-result"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HTT_CACHE": str(cache)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# " in done.stdout
    assert "Traceback" not in done.stderr


def test_benchmarks_are_all_run_or_excepted():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts == set(SHORT) | set(WITH_RAY) | set(ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_benchmark_script_runs(name, tmp_path):
    run(name, SHORT[name], tmp_path)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name", WITH_RAY)
def test_benchmark_script_with_ray_runs(name, tmp_path):
    run(name, WITH_RAY[name], tmp_path)


WORKS = "import sys; sys.stdin.readline(); print('| 1 |', file=open(sys.argv[1], 'w'))"
FAILS = (
    "import sys, pathlib; pathlib.Path(sys.argv[1]).with_suffix('.failure').write_text('OSError: full'); sys.exit(1)"
)
CRASHES = "import os, sys; print('| 2 |', file=open(sys.argv[1], 'w'), flush=True); os.abort()"
HANGS = """
import pathlib, subprocess, sys, time
training = subprocess.Popen(["sleep", "600"])
pathlib.Path(sys.argv[1]).write_text(f"| {training.pid} |")
time.sleep(600)
"""


@pytest.fixture
def gpu(monkeypatch):
    """The script of the GPU, whose parts are programs by name; gives it and the reports that it saves."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script, saved = importlib.import_module("gpu"), []
    programs = {"works": WORKS, "fails": FAILS, "crashes": CRASHES, "hangs": HANGS}
    monkeypatch.setattr(script, "PARTS", dict.fromkeys(programs, 600))
    monkeypatch.setattr(script, "save", lambda name, lines: saved.append("\n".join(lines)))

    def started(name, options, scratch):
        command = [sys.executable, "-c", programs[name], str(scratch / f"{name}.md")]
        return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    monkeypatch.setattr(script, "started", started)
    return script, saved


def test_part_of_the_gpu_that_fails_or_crashes_costs_only_itself(gpu, tmp_path):
    script, saved = gpu
    names = ["fails", "crashes", "works"]
    options = argparse.Namespace(parts=names, tiny=False, device="cpu", budget=600, no_result=False)
    done = script.measure(options, tmp_path)
    assert [done[name].failure for name in names] == ["OSError: full", "its process left with -6", None]
    assert [done[name].lines for name in names] == [[], ["| 2 |"], ["| 1 |"]]
    assert ["did not start: crashes, works." in saved[0], "did not start: works." in saved[1]] == [True, True]
    assert "- fails: OSError: full\n- crashes: its process left with -6\n\n## fails" in saved[2]
    done = script.measure(argparse.Namespace(**{**vars(options), "budget": 0}), tmp_path / "none")
    assert {result.failure for result in done.values()} == {"no time left"}


def test_part_of_the_gpu_that_hangs_ends_with_what_it_started(gpu, tmp_path):
    script, _ = gpu
    child = script.started("hangs", None, tmp_path)
    while not (tmp_path / "hangs.md").exists() or not (tmp_path / "hangs.md").read_text().endswith("|"):
        time.sleep(0.05)
    result = script.measured("hangs", child, 0.1, tmp_path)
    assert result.failure == "not finished within 0 s"
    (line,) = result.lines
    training = Path("/proc", line.strip("| "), "stat")
    while training.exists() and training.read_text().split()[2] != "Z":
        time.sleep(0.05)


def test_parts_of_the_gpu_are_all_there(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    parts = {name for name in ("network", "runs") for name in vars(importlib.import_module(f"gpu_parts.{name}"))}
    assert set(importlib.import_module("gpu").PARTS) <= parts
