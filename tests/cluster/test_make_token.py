import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_token(tmp_path):
    """Return a function that runs the command in a separate home folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def run():
        command = [sys.executable, "-m", "cluster.make_token"]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, check=False)

    return run


def test_make_token_writes_once_and_never_prints_token(make_token, tmp_path):
    first, second = make_token(), make_token()
    file = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.returncode == 0, first.stderr
    assert f"Wrote a new token to {file}; only you can read it." in first.stdout
    token = file.read_text()
    assert second.returncode == 0, "so that what stands behind && is done"
    assert f"Kept the existing token in {file}; only you can read it." in second.stdout
    assert "export RAY_AUTH_MODE=token" in second.stdout
    assert file.read_text() == token
    assert file.read_text() not in first.stdout + first.stderr + second.stdout + second.stderr


def test_make_token_restricts_permissions_of_existing_token(make_token, tmp_path):
    (tmp_path / ".ray").mkdir()
    file = tmp_path / ".ray" / "auth_token"
    file.write_text("x" * 64)
    file.chmod(0o644)
    answer = make_token()
    assert f"Other users could read {file}; the permissions are now restricted to you." in answer.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
