"""Hosts made of namespaces: isolated from one another and from this machine, and ended with their process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hosts

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(hosts.why_not() is not None, reason=hosts.why_not() or "there can be hosts"),
]

WORD = "86399.75"
"""Duration of ``sleep``, by which the tests find its processes."""


@pytest.fixture
def two(tmp_path):
    with hosts.Hosts(["one", "two"], tmp_path) as made:
        yield made


def this_machine():
    """Return what must not change: network, mounts, host name, folders."""
    links = subprocess.run(
        ["ip", "-o", "address"], capture_output=True, text=True, check=True, env={"PATH": hosts.PATH}
    )
    homes = [sorted(path.name for path in Path(folder).iterdir()) for folder in ("/home", "/root", "/run", "/mnt")]
    return links.stdout, Path("/proc/self/mounts").read_text(), os.uname().nodename, homes


def sleepers():
    """Return the processes of this machine, hosts included, that sleep for ``WORD`` seconds."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        found += [folder.name] if words[:2] == [b"sleep", WORD.encode()] else []
    return found


def test_hosts_have_own_name_address_processes_and_home(two):
    for name, address in two.addresses.items():
        assert two.run(name, "hostname; pwd; echo $HOME").split() == [name, hosts.HOME, hosts.HOME]
        assert f" {address}/24 " in two.run(name, "ip -o address show dev eth0")
    two.open("one", f"sleep {WORD}")
    two.run("one", f"until pgrep -f 'sleep {WORD}'; do sleep 0.05; done")
    assert two.run("two", f"pgrep -f '^sleep {WORD}' || echo none") == "none\n"


def test_hosts_reach_only_one_another(two):
    two.give_key("one")
    asked = "ssh -o StrictHostKeyChecking=no -o LogLevel=ERROR two hostname"
    assert two.run("one", asked) == "two\n"
    two.run("two", "ssh -o StrictHostKeyChecking=no -o BatchMode=yes one hostname", code=255)
    assert "unreachable" in two.run("one", "cat </dev/null >/dev/tcp/192.0.2.1/80", code=1)


def test_restarted_host_keeps_disk_but_not_memory(two, tmp_path):
    two.run(
        "one", "echo kept > kept; echo gone > /dev/shm/gone; echo gone > /tmp/ray/gone; echo seen > /mnt/shared/seen"
    )
    for silently in (False, True):
        two.kill("one", silently=silently)
        two.start("one")
    assert two.run("one", "cat kept; ls /dev/shm /tmp/ray; cat /mnt/shared/seen").split() == [
        "kept", "/dev/shm:", "/tmp/ray:", "seen",
    ]  # fmt: skip
    assert (tmp_path / "seen").read_text() == "seen\n"


def test_run_reports_failing_or_hanging_command(two):
    with pytest.raises(AssertionError, match=r"(?s)one[$] .*left with 3:\nwhy\n"):
        two.run("one", "echo why; exit 3")
    with pytest.raises(AssertionError, match=r"left with 124 after 0\.5 s"):
        two.run("one", f"sleep {WORD}", seconds=0.5)


def test_hosts_leave_this_machine_unchanged(tmp_path):
    before = this_machine()
    with hosts.Hosts(["one"], tmp_path) as made:
        made.run("one", "touch /root/mine /home/mine /run/mine /mnt/mine /etc/mine")
        made.run("one", "hostname other; ip link add mine type bridge")
        assert this_machine() == before
    assert this_machine() == before
    assert not Path("/etc/mine").exists()


PROGRAM = f"""
import pathlib, sys, time
sys.path.append({str(Path(hosts.__file__).parent)!r})
from hosts import Hosts
with Hosts(["one"], pathlib.Path(sys.argv[1])) as made:
    made.open("one", "setsid sleep {WORD}")
    print("made", flush=True)
    time.sleep(600)
"""


def test_hosts_end_when_their_process_is_killed(tmp_path):
    maker = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, cwd=hosts.ROOT)
    with maker:
        assert maker.stdout.readline() == b"made\n"
        wait_for(sleepers)
        maker.kill()
    wait_for(lambda: not sleepers())


def wait_for(condition):
    ends = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < ends, sleepers()
        time.sleep(0.05)
