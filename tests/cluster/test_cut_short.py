"""A final training that is interrupted, or whose Ray dies, ends cleanly and prints how to resume."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from htt.testing import TINY

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
LONG = {**TINY, "train.epochs": 500}
SET = [word for path, value in LONG.items() for word in ("--set", f"{path}={str(value).lower()}")]
WORDS = ["--preset", "quick", *SET, "--name", "cut"]
RESUME = r"Resume with: python cluster/launch\.py .*--name cut .*--resume|--resume .*--name cut"


class Launched:
    def __init__(self, folder, *words):
        command = [sys.executable, "-u", str(ROOT / "cluster/launch.py"), *WORDS, *words]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said = ""

    def in_an_epoch(self):
        for line in self.process.stdout:
            self.said += line
            if line.startswith("epoch "):
                return self
        return pytest.fail(f"it ended:\n{self.said}")

    def ended(self, code):
        try:
            self.said += self.process.communicate(timeout=300)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"it did not end within a minute:\n{self.said}")
        assert self.process.returncode == code, self.said
        assert re.search(RESUME, self.said), self.said
        assert "Traceback" not in self.said
        assert self.said.count("Resume with") == 1, self.said
        return self.said


def core_process(process, name):
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if name in Path(f"/proc/{child}/comm").read_text():
            return int(child)
    return pytest.fail(f"there is no {name}")


def test_launch_ends_cleanly_on_signal_and_on_loss_of_ray(cache, tmp_path):
    first = Launched(tmp_path).in_an_epoch()
    first.process.send_signal(signal.SIGTERM)
    first.ended(130)
    lost = Launched(tmp_path, "--resume").in_an_epoch()
    os.kill(core_process(lost.process, "raylet"), signal.SIGKILL)
    assert "error: Lost Ray: its raylet process ended with -9" in lost.ended(2)
    log = (tmp_path / "runs/cut/driver.log").read_text()
    assert len(re.findall(r"INFO htt: Training 500 epochs", log)) == 2
