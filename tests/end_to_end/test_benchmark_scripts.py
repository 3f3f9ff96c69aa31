"""Every benchmark's command runs, shortened: a script that nothing calls breaks without a word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = {
    "inference": ["--rounds", "1", "--again", "2", "--width", "64", "--height", "36", "--length", "20"],
    "loading": ["--rounds", "1"],
    "padding": ["--steps", "1", "--width", "96", "--height", "54"],
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
