"""The folder of a Ray: its user's alone, short enough for sockets, and gone afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from htt import ray_folder
from htt.errors import ClusterError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The temporary folder; pytest's own is too long for some tests."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(ray_folder, "SOCKET_BYTES", 1000)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return folder


def test_own_folder_is_for_its_user_alone_and_gone_afterwards(temporary, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/what/it/was")
    with ray_folder.own() as folder:
        (outer,) = temporary.iterdir()
        assert Path(folder).parent == outer
        assert outer.stat().st_mode & 0o777 == 0o700
        assert os.environ["TMPDIR"] == str(outer), "what its processes put there goes with it"
        Path(folder, "session", "logs").mkdir(parents=True)
    assert list(temporary.iterdir()) == []
    assert os.environ["TMPDIR"] == "/what/it/was"


def test_own_removes_the_folder_of_a_killed_process_and_no_other(temporary):
    script = f"""
import os, tempfile
tempfile.tempdir = {str(temporary)!r}
from htt import ray_folder
ray_folder.SOCKET_BYTES = 1000
with ray_folder.own():
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert len(list(temporary.iterdir())) == 1
    (temporary / "htt-ray-notours").mkdir()
    with ray_folder.own() as first, ray_folder.own() as second:
        left = {str(path) for path in temporary.iterdir()}
        assert left == {str(Path(first).parent), str(Path(second).parent), str(temporary / "htt-ray-notours")}


def test_own_names_the_remedy_for_a_long_temporary_folder(temporary, monkeypatch):
    monkeypatch.setattr(ray_folder, "SOCKET_BYTES", 107)
    long = temporary / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with pytest.raises(ClusterError, match=r"(?s)x{60}.*at most 107 are allowed.*TMPDIR=/tmp"), ray_folder.own():
        pass
    assert list(long.iterdir()) == []
