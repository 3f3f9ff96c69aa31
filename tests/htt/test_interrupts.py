"""Commands that are told to end, and commands whose output nobody can read."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from driven import heed_hangups
from htt import console

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """
import sys, time
from htt import console

def main(options):
    console.out.print("begun")
    for _ in range({times}):
        time.sleep(0.05)
        console.out.print("on")
    console.err.print("done")

console.run(console.Options, main, [])
"""


def start(times, shell="exec {python} -c '{command}'"):
    command = COMMAND.format(times=times).replace("'", '"')
    words = ["bash", "-c", shell.format(python=sys.executable, command=command)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heed_hangups
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_run_leaves_as_interrupted_on_a_signal(number):
    with start(2000) as process:
        process.send_signal(number)
        assert process.wait(120) == console.INTERRUPTED == 130
        assert process.stderr.read() == "Stopped. Finished work is kept: repeat the command to resume.\n"


def test_run_keeps_ignoring_a_hangup_that_its_parent_ignores():
    with start(20, "trap '' HUP; exec {python} -c '{command}'") as process:
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=120)
        assert (process.returncode, said) == (0, "done\n")


def test_background_run_stops_on_sigterm_if_sigint_is_ignored():
    with start(2000, "trap '' INT; exec {python} -c '{command}'") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 130


def test_closed_pipe_costs_the_output_and_not_the_work():
    with start(20) as process:
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(120) == 0, said
        assert said == "The output was closed; the command continues without it.\ndone\n"


def test_closed_outputs_leave_their_numbers_to_nobody_else(tmp_path):
    """Else the first file that is opened would be what others print to."""
    script = "import os\nfrom htt import console\n"
    script += "def main(options):\n    console.out.print('on')\n"
    script += (
        f"    print(open({str(tmp_path / 'file')!r}, 'w').fileno(), file=open({str(tmp_path / 'number')!r}, 'w'))\n"
    )
    script += "console.run(console.Options, main, [])\n"
    (tmp_path / "script.py").write_text(script)
    command = f"cd {ROOT} && PYTHONPATH=. exec {sys.executable} {tmp_path}/script.py >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0
    assert int((tmp_path / "number").read_text()) > 2


def test_print_shows_invalid_markup_unchanged(capsys):
    console.out.print("clips[/in]/of")
    assert capsys.readouterr().out == "clips[/in]/of\n"


def test_harmless_keeps_a_displays_fault_from_the_work():
    shown = []

    def show(number):
        shown.append(number)
        if number == 1:
            raise ValueError("no such style")

    kept = console.harmless(show)
    for number in range(3):
        kept(number)
    assert shown == [0, 1, 2]
