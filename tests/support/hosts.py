"""Hosts made of Linux namespaces, all on this machine; Ray and ssh take them for real ones.

Each has an address, a name, processes, a home and sshd of its own, and a root that begins with this machine's files.
They are on a network that nothing else reaches, and what they write stays in memory; this machine is left as it is. All
of it ends with the process that made it, however that ends: the first process of each host waits for that.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project, which all hosts see at the same place."""
HOME = "/home/you"
"""Of the user on every host; empty at first."""
SHARED = "/mnt/shared"
"""The folder that all hosts share, as they would by NFS."""
NETWORK, GATEWAY = "10.78.0", 1
START_S = 120.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ("ip", "unshare", "nsenter", "pivot_root", "setpriv", "ssh", "sshd", "ssh-keygen", "rsync")

TRY = """
mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root &&
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root &&
ip link add one type veth peer name other && ip link add between type bridge
"""
BOOT = """
set -e
root=$1
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp/ray"
mkdir "$root/run/sshd" "$root/run/old"
hostname "$2"
cd "$root"
pivot_root . run/old
umount -l /run/old
/usr/sbin/sshd -D -e -f /etc/ssh/namespace_config </dev/null >>/var/log/sshd.log 2>&1 &
echo ready
read -r _ || true
"""
"""The first process of a host: it makes the host's root, reaps its orphans, and takes all with it when it ends."""
SSHD = """
HostKey /etc/ssh/namespace_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
PidFile none
MaxStartups 100
MaxSessions 100
"""


def why_not() -> str | None:
    """Return why there can be no such hosts here, in one sentence, or None if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts out of network namespaces need Linux, and root"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    if missing:
        packages = "iproute2 openssh-client openssh-server rsync util-linux"
        return f"hosts out of network namespaces need {', '.join(missing)} (apt-get install {packages})"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", TRY], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        said = " ".join(tried.stderr.split())
        return f"hosts out of network namespaces need mounts, bridges and overlays, which are not allowed here: {said}"
    return None


class Hosts:
    """Hosts by name; a context manager within which all of them run."""

    def __init__(self, names: Iterable[str], shared: Path) -> None:
        """Name them; nothing is made yet.

        Args:
            names: of the hosts.
            shared: the folder of this machine that is ``SHARED`` on all of them.
        """
        self.addresses = {name: f"{NETWORK}.{10 + number}" for number, name in enumerate(names, GATEWAY)}
        self.shared = shared
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._opened: list[subprocess.Popen[bytes]] = []
        self._rack = 0

    def __enter__(self) -> Hosts:
        try:
            self._make_rack()
            for name in self.addresses:
                self._make_disk(name)
                self.start(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._processes.values(), *self._opened):
            process.kill()
        for process in (*self._processes.values(), *self._opened):
            process.communicate()
        self._processes.clear()
        self._opened.clear()

    def start(self, name: str) -> None:
        """Switch a host on; its disk is as it was, its memory and temporary files are empty."""
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc"]
        boot = ["bash", "-c", BOOT, "boot", f"/run/{name}/root", name]
        pid = self._keep(name, [*self._enter_rack, "unshare", *namespaces, "--fork", "--kill-child=KILL", *boot])
        self._in_rack("sh", "-c", f"ip link del to-{name} 2>/dev/null || true")  # that of a host that is just dying
        self._in_rack("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._in_rack("ip", "link", "set", f"to-{name}", "master", "bridge", "up")
        # Without a way out, Ray finds no address that others could use.
        way = f"route add default via {NETWORK}.{GATEWAY}"
        address = f"addr add {self.addresses[name]}/24 dev eth0"
        for words in ("link set lo up", address, "link set eth0 up", way):
            _run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words.split())
        self.wait_for_port(name, 22)

    def kill(self, name: str, *, silently: bool = False) -> None:
        """Stop a host at once and close its connections; or silently, as if its cable were cut before."""
        if silently:
            self._in_rack("ip", "link", "del", f"to-{name}")
        process = self._processes.pop(name)
        process.kill()
        process.communicate()

    def file(self, name: str, path: str | Path) -> Path:
        """Return where this process sees a file of a host's disk; not for ``/tmp/ray``, ``/run`` and ``/dev``."""
        return Path(f"/proc/{self._rack}/root/run/{name}/root/{str(path).lstrip('/')}")

    def typed(self, name: str, command: str, *, cwd: str | Path = HOME, seconds: float = 300.0) -> list[str]:
        """Return the words for ``subprocess`` that run a command on a host as if typed in a fresh shell there."""
        pid = self._processes[name].pid
        namespaces = ["--mount", "--net", "--uts", "--ipc", f"--pid=/proc/{pid}/ns/pid_for_children"]
        environment = [f"HOME={HOME}", f"PATH={PATH}", "USER=root", "LANG=C.UTF-8", "TERM=dumb", "COLUMNS=200"]
        limit = ["setpriv", "--pdeathsig=TERM", "timeout", "--kill-after=10", f"{seconds:g}"]
        shell = ["bash", "--login", "-c", f"cd '{cwd}' && {command}"]
        return ["nsenter", f"--target={pid}", *namespaces, "env", "-i", *environment, *limit, *shell]

    def run(self, name: str, command: str, *, cwd: str | Path = HOME, seconds: float = 300.0, code: int = 0) -> str:
        """Return the output of a command typed on a host.

        Raises:
            AssertionError: it did not leave with ``code``, or took longer; the message is what it said.
        """
        done = subprocess.run(
            self.typed(name, command, cwd=cwd, seconds=seconds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != code:
            late = f" after {seconds:g} s" if done.returncode in (124, 137) else ""
            raise AssertionError(f"{name}$ {command}\nleft with {done.returncode}{late}:\n{done.stdout}")
        return done.stdout

    def open(
        self, name: str, command: str, *, cwd: str | Path = HOME, seconds: float = 3600.0, output: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command on a host and return its process; killing the process kills the command."""
        with output.open("wb") if output else open(os.devnull, "wb") as out:
            words = self.typed(name, command, cwd=cwd, seconds=seconds)
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        self._opened.append(process)
        return process

    def wait_for_port(self, name: str, port: int) -> None:
        """Wait until a process on a host listens on a port."""
        opened = f"until (</dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done"
        self.run(name, opened, cwd="/", seconds=START_S)

    def _make_rack(self) -> None:
        """Make the namespaces that hold all disks and the bridge between the hosts."""
        self._rack = self._keep("", ["unshare", "--mount", "--net", "sh", "-c", "echo ready; exec cat"])
        self._in_rack("mount", "-t", "tmpfs", "tmpfs", "/run")
        self._in_rack("ip", "link", "add", "bridge", "type", "bridge")
        self._in_rack("ip", "addr", "add", f"{NETWORK}.{GATEWAY}/24", "dev", "bridge")
        self._in_rack("ip", "link", "set", "bridge", "up")
        # It passes nothing on, and says so: who asks for an address outside is refused at once.
        self._in_rack("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward || true")
        for key in ("user", "host"):
            self._in_rack("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/run/key-{key}")

    def _make_disk(self, name: str) -> None:
        """Make a host's files: those of this machine, overlaid by its own."""
        for number, place in enumerate(_file_systems()):
            disk, root = f"/run/{name}/{number}", f"/run/{name}/root{place}".rstrip("/")
            self._in_rack("mkdir", "-p", f"{disk}/upper", f"{disk}/work", root)
            layers = f"lowerdir={place},upperdir={disk}/upper,workdir={disk}/work"
            self._in_rack("mount", "-t", "overlay", "-o", layers, "overlay", root)
        root = f"/run/{name}/root"
        self._in_rack("mkdir", "-p", f"{root}{SHARED}", f"{root}/tmp/ray", f"{root}/run")
        self._in_rack("mount", "--bind", str(self.shared), f"{root}{SHARED}")
        self._make_home(name)
        names = [f"{address} {other}" for other, address in self.addresses.items()]
        self._write(name, "/etc/hosts", "\n".join(["127.0.0.1 localhost", *names, ""]))
        self._write(name, "/etc/resolv.conf", "")  # there is nobody to ask: a question must fail at once
        self._write(name, "/etc/hostname", f"{name}\n")
        self._write(name, "/etc/ssh/namespace_config", SSHD)
        self._in_rack("cp", "/run/key-host", f"{root}/etc/ssh/namespace_key")

    def _make_home(self, name: str) -> None:
        """Make the home of a new user who can log in on all other hosts."""
        home = f"/run/{name}/root{HOME}"
        users = self.file(name, "/etc/passwd").read_text(encoding="utf-8")
        self._write(name, "/etc/passwd", re.sub(r"(?m)^(root:.*):[^:]*:[^:]*$", rf"\1:{HOME}:/bin/bash", users))
        self._in_rack("mkdir", "-p", home)
        self._in_rack("sh", "-c", f"cp -rT /etc/skel {home}; chmod 700 {home}")
        self._in_rack("mkdir", "-m", "700", f"{home}/.ssh")
        self._in_rack("cp", "/run/key-user.pub", f"{home}/.ssh/authorized_keys")

    def give_key(self, name: str) -> None:
        """Let the user of a host log in on all others."""
        self._in_rack("cp", "/run/key-user", f"/run/{name}/root{HOME}/.ssh/id_ed25519")

    def _write(self, name: str, path: str, text: str) -> None:
        file = self.file(name, path)
        file.unlink(missing_ok=True)  # a link would lead out of the host
        file.write_text(text, encoding="utf-8")

    def _keep(self, name: str, words: Sequence[str]) -> int:
        """Start a process that holds namespaces, wait until it has made them, and return its number."""
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._processes[name] = process
        assert process.stdout is not None
        said = process.stdout.readline()
        if said != b"ready\n":
            with contextlib.suppress(OSError):
                process.kill()
            raise RuntimeError(f"The host '{name}' does not start: {(said + process.communicate()[0]).decode()}")
        return process.pid

    @property
    def _enter_rack(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._rack}/ns/mnt", f"--net=/proc/{self._rack}/ns/net"]

    def _in_rack(self, *words: str) -> None:
        _run(*self._enter_rack, *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": PATH})
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


def _file_systems() -> list[str]:
    """Return the file systems of the project and its Python, the root first."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    mounted = {line.split()[1] for line in lines}
    needed = [ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    return sorted(mount for mount in mounted if any(path.is_relative_to(mount) for path in needed))
