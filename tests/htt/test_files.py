"""Files are replaced completely or not at all, and a lock file has one owner."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLongError
from pathlib import Path

import pytest

from htt import files
from htt.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]


def test_replacing_leaves_the_old_file_and_no_other_on_an_error(tmp_path):
    file = tmp_path / "file"
    files.write_text(file, "old")

    def write_half():
        with files.replacing(file) as temporary:
            temporary.write_text("ne")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_write_text_names_the_folder_that_is_not_writable(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        files.write_text(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_lock_file_has_the_mode_of_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with files.locked(tmp_path / ".lock"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == mode


def test_locked_excludes_threads_and_prints_its_message_once(tmp_path, capsys):
    inside, order = threading.Event(), []

    def wait():
        inside.wait()
        with files.locked(tmp_path / ".lock", "Waiting for the lock."):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        with files.locked(tmp_path / ".lock"):
            inside.set()
            with pytest.raises(TooLongError):
                waiting.result(0.3)
            order.append("first")
        waiting.result(30)
    assert order == ["first", "second"]
    assert capsys.readouterr().err.count("Waiting for the lock.") == 1


HOLDER = """
import os, sys, time
from pathlib import Path
from htt import files
with files.locked(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


def hold(lock, child_s):
    """Start a process that holds a lock and has a forked child; return it and the child's PID."""
    command = [sys.executable, "-c", HOLDER, str(lock), str(child_s)]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return owner, int(owner.stdout.readline())


def test_lock_ends_with_its_process_though_a_forked_child_lives(tmp_path):
    owner, child = hold(tmp_path / ".lock", 600)
    owner.kill()
    owner.wait()
    try:
        with files.locked(tmp_path / ".lock"):
            assert Path(f"/proc/{child}/stat").read_text().split()[2] == "S"  # it is alive, and sleeps
    finally:
        os.kill(child, signal.SIGKILL)
    owner.communicate()  # ends with the child, which has the same output


def test_lock_stays_when_a_forked_child_ends(tmp_path):
    owner, _ = hold(tmp_path / ".lock", 0.0)
    with ThreadPoolExecutor(1) as pool:

        def lock():
            with files.locked(tmp_path / ".lock"):
                return True

        waiting = pool.submit(lock)
        with pytest.raises(TooLongError):
            waiting.result(1.0)
        owner.kill()
        assert waiting.result(30)
    owner.communicate()
