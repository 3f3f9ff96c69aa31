"""Commands with ``--out``: killed while they write, and two processes that write one folder."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from htt import attention, compare, console, evaluate, export, files, predict, publish
from htt.errors import ConfigError
from htt.inference import Predictor
from htt.inference.published import publish as publish_model

ROOT = Path(__file__).parents[2]
BLOCKED = """
import sys
from htt import console, files, {command}
from htt.training import checkpoint
whole = {module}.{function}
def block(*arguments, **options):
    if {needle!r} not in str(arguments):
        return whole(*arguments, **options)
    print("blocked", flush=True)
    sys.stdin.read()  # until it is killed
{module}.{function} = block
console.run({command}.Options, {command}.main, sys.argv[1:])
"""


def killed(command, blocked, needle, *words):
    """Run a command until it calls a function with ``needle`` in its arguments, and kill it there."""
    module, _, function = blocked.rpartition(".")
    code = BLOCKED.format(command=command, module=module, function=function, needle=needle)
    child = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], cwd=ROOT, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    with child:
        assert any(line == "blocked\n" for line in child.stdout), child.stderr.read()
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_killed_prediction_leaves_a_part_that_the_next_one_removes(run_command, trained, clip, encode, tmp_path):
    video, out = encode(tmp_path / "clip.mkv", clip[0], 15, codec="ffv1", pixels="bgr0"), tmp_path / "out"
    words = ["--checkpoint", trained, "--video", video, "--fov", 64, "--out", out]
    killed("predict", "files._to_disk", "overlay", *words)
    found = names(out)
    assert "predictions.parquet" in found
    assert [name for name in found if name.startswith(".overlay.mp4.")]
    run_command(predict, *words)
    assert names(out) == ["overlay.mp4", "predictions.parquet"]


def test_killed_publication_can_be_repeated(run_command, trained, clip, tmp_path):
    out = tmp_path / "models" / "hands"
    words = ["--checkpoint", trained, "--out", out]
    killed("publish", "checkpoint._swap", "hands", *words)
    assert names(out) == []
    run_command(publish, *words)
    assert names(out.parent) == ["hands"], "nothing is left beside it"
    assert Predictor.load(out)(*clip).joints_m.shape[1:] == (42, 3)


@pytest.fixture
def no_onnx(monkeypatch):
    monkeypatch.setattr("htt.inference.compression.IN_ONNX", ())


COMMANDS = {
    "attention": (attention, ["--split", "val", "--remove", "1", "--draws", "1"]),
    "compare": (compare, ["--split", "val"]),
    "evaluate": (evaluate, ["--split", "val"]),
    "export": (export, ["--to", "torch"]),
    "predict": (predict, ["--fov", "64"]),
    "publish": (publish, []),
}


@pytest.mark.usefixtures("no_onnx")
@pytest.mark.parametrize("name", COMMANDS)
def test_command_waits_for_another_process_that_writes_its_folder(
    name, run_command, trained, clip, encode, tmp_path, monkeypatch
):
    """While this test holds the folder, the command says whom it waits for, and writes nothing."""
    module, words = COMMANDS[name]
    out = tmp_path / "out"
    if name == "predict":
        words = [*words, "--video", encode(tmp_path / "clip.mkv", clip[0], 15, codec="ffv1", pixels="bgr0")]
    out.mkdir()
    waiting, released = [], []

    def wait(descriptor, message):
        waiting.append(message)
        released.append(names(out))

    monkeypatch.setattr(files, "_wait", wait)
    run_command(module, "--checkpoint", trained, *words, "--out", out / "model.pt2" if name == "export" else out)
    assert waiting == [f"Another process writes {out}; waiting for it."]
    assert released == [[]], "nothing was written before"
    assert names(out)


HOLDER = """
import sys
from pathlib import Path
from htt import files
with files.writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
    (Path(sys.argv[1]) / "README.md").write_text("of the first process")
"""


@pytest.fixture
def holder(tmp_path):
    """Process that holds ``tmp_path/out`` until its input is closed, and then writes a file there."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        yield child


@pytest.fixture
def waiting(monkeypatch):
    """Event that is set by the message of a process that waits, and the messages."""
    told, texts, whole = threading.Event(), [], console.err.print

    def show(text, *words, **options):
        texts.append(str(text))
        whole(text, *words, **options)
        if "waiting for it" in texts[-1]:
            told.set()

    monkeypatch.setattr(console.err, "print", show)
    return told, texts


def test_writing_waits_and_says_so(holder, tmp_path, waiting):
    def second():
        with files.writing(tmp_path / "out"):
            return names(tmp_path / "out")

    told, texts = waiting
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(second)
        told.wait()
        assert texts == [f"Another process writes {tmp_path / 'out'}; waiting for it."]
        assert not result.done()
        holder.stdin.close()
        assert result.result() == ["README.md"]


def test_writing_removes_parts_of_dead_processes_alone(tmp_path):
    """A training writes ``metrics.json`` while its model is exported into the same folder."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".model.onnx.{dead.pid}-1.part").touch()
    with files.replacing(tmp_path / "metrics.json") as part:
        part.touch()
        with files.writing(tmp_path):
            assert names(tmp_path) == [part.name]
    assert names(tmp_path) == ["metrics.json"]


def test_second_publication_into_a_folder_loses_nothing_of_the_first(holder, trained, tmp_path, waiting):
    """It waits for the first, and then refuses a folder with files."""
    told, _ = waiting
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(publish_model, trained, tmp_path / "out")
        told.wait()
        holder.stdin.close()
        with pytest.raises(ConfigError, match="has files"):
            result.result()
    assert names(tmp_path / "out") == ["README.md"]
    assert (tmp_path / "out" / "README.md").read_text() == "of the first process"


def test_folder_that_was_replaced_is_not_taken_for_the_held_one(tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    with files.writing(out):
        out.rename(other)
        with files.writing(out):  # another folder of this name: nobody holds it
            assert out.is_dir()


def fail_in(out, written):
    with files.writing(out):
        if written:
            (out / "file").touch()
        raise KeyError


def test_new_folder_is_removed_after_an_error_and_a_used_one_is_kept(tmp_path):
    out = tmp_path / "out"
    for written in (False, True):
        with pytest.raises(KeyError):
            fail_in(out, written)
        assert out.exists() == written
