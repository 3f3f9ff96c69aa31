"""One way to a Ray: start a quiet one on this machine, or join the one at an address.

Ray's Train workers clean up after a stopped trial through its State API, which lives in the dashboard. With two Rays on
one host they would ask the wrong one, and remove a live trial's machines; so each Ray started here has a dashboard on a
port of its own, bound to this machine alone, and every process of it is told that address.

A Ray asks for the token of ``htt.token_file``: one started here always, one that is joined if it was started so.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ray

from htt import driver_log, heartbeat, parallel, ray_folder, token_file
from htt.cores import cores
from htt.errors import ClusterError
from htt.parallel import LOOPBACK, free_port, in_job, restore

OBJECT_STORE_BYTES = 256 * 2**20
"""Nothing large goes through Ray's object store: clips are memory-mapped files."""
REACH_S = 12.0
"""How long to wait for an answer from a cluster, s."""

SETTINGS = {**parallel.SETTINGS, "RAY_AIR_NEW_OUTPUT": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
"""Quiet, and workers stay in the folder the command was given in, so that relative paths mean the same there."""


@dataclass(frozen=True)
class Connection:
    """A Ray this process is connected to."""

    address: str
    dashboard: str | None
    started: bool
    """Whether it was started here, and ends with this process."""


@contextlib.contextmanager
def connect(address: str | None = None, *, cpus: int | None = None) -> Iterator[Connection]:
    """Connect for the length of a ``with`` block; a Ray this process has already is used and left alone.

    Args:
        address: "host:port" or "auto" of a cluster to join; none: start one on this machine (inside a Ray job: the
            job's cluster).
        cpus: cores of the one started here; none: all this process may use.

    Raises:
        ClusterError: no Ray answers at the address, none can be started here, or it dies within the block.
    """
    asks = _asks_for_token(address) if address else True
    if ray.is_initialized():
        yield _present(address)
        return
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    address = address or ("auto" if in_job() else None)
    with driver_log.off_screen(), contextlib.nullcontext() if address else ray_folder.own() as folder:
        try:
            connection = _join(address, asks=asks) if address else _start(cpus, str(folder))
            os.environ["RAY_ADDRESS"] = connection.address
            with heartbeat.watched(started=connection.started):
                yield connection
        finally:
            ray.shutdown()
            restore(before, SETTINGS)


def place(address: str | None) -> str:
    """Where ``connect`` leads, in words for people."""
    return address or ("the cluster of this job" if in_job() else "the cores of this machine")


def _start(cpus: int | None, folder: str) -> Connection:
    port = free_port()
    path = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)  # workers find the project, installed or not
    os.environ.pop("RAY_ADDRESS", None)
    token_file.ensure()
    os.environ.setdefault(parallel.METRICS, "0")
    os.environ["RAY_API_SERVER_ADDRESS"] = f"http://{LOOPBACK}:{port}"  # every process started below inherits it
    options: dict[str, Any] = {
        "address": "local",
        "num_cpus": cpus or cores(),
        "_temp_dir": folder,
        "include_dashboard": True,
        "dashboard_host": LOOPBACK,
        "dashboard_port": port,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    try:
        parallel.init(options)
    except Exception as error:  # Ray raises a bare one where it starts too slowly
        raise parallel.cannot_start(error) from error
    return _connection(started=True)


def _present(address: str | None) -> Connection:
    """The Ray this process is connected to already."""
    connection = _connection(started=False)
    if address not in (None, "auto", connection.address):
        raise ClusterError(
            f"A process is connected to one Ray; this one is to {connection.address}, and {address} was asked for. "
            "Use another process."
        )
    return connection


def _join(address: str, *, asks: bool) -> Connection:
    options: dict[str, Any] = {"address": address}
    if asks:
        _show_token()
    else:
        os.environ.setdefault(token_file.MODE, "disabled")  # at the address "auto" Ray shows a token by itself
    if not in_job():
        options["runtime_env"] = {"env_vars": dict(SETTINGS)}
    try:
        parallel.init(options)
    except Exception as error:  # Ray raises a bare one where it starts too slowly
        raise _unreachable(address, parallel.first_line(error)) from error
    return _connection(started=False)


def _show_token() -> None:
    """Have this process show its token, if there is one: by itself Ray does so at the address "auto" only.

    It reads ``RAY_AUTH_MODE`` once, when it is imported, so that setting it here would come too late.
    """
    from ray._private.authentication import authentication_token_setup

    authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _connection(*, started: bool) -> Connection:
    context = ray.get_runtime_context()
    dashboard = os.environ.get("RAY_API_SERVER_ADDRESS")
    return Connection(context.gcs_address, dashboard, started)


def _asks_for_token(address: str) -> bool:
    """Whether the cluster there answers to those alone who show its token, which this user has.

    Asked first, since Ray itself waits for minutes, and may end the process. A token must not be shown to a cluster
    without one: its workers would not answer to who shows it.

    Raises:
        ClusterError: none answers, or only to another token.
    """
    if address.startswith("ray://"):
        raise ClusterError(
            f"--address takes host:port or auto; got '{address}'. From outside a cluster, submit the command as a job: "
            "ray job submit --address http://HOST:8265 --working-dir . -- python ..."
        )
    if address != "auto":
        _knock(address)
    modes = ["disabled", "token"] if token_file.there_is_one() else ["disabled"]
    modes = [os.environ.get(token_file.MODE, mode) for mode in modes]
    for mode in dict.fromkeys(modes):
        answer = _answer(address, mode)
        if "InvalidAuthToken" in answer.stderr:
            continue
        if answer.returncode:
            lines = (answer.stderr or answer.stdout).strip().splitlines()
            raise _unreachable(address, lines[-1].strip() if lines else "it does not answer as a Ray")
        return mode == "token"
    raise _refused(address, known=token_file.there_is_one())


def _answer(address: str, mode: str) -> subprocess.CompletedProcess[str]:
    """What a cluster says to who shows a token, or not."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    env = {**os.environ, token_file.MODE: mode}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=REACH_S, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no answer within {REACH_S:g} s") from None


def _knock(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not host:
        raise ClusterError(f"--address takes host:port or auto; got '{address}', as in 10.0.0.5:6379.")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the last for a name that cannot be one, as a..b
        raise _unreachable(address, str(error)) from error


def _refused(address: str, *, known: bool) -> ClusterError:
    if os.environ.get(token_file.MODE, "token").lower() != "token":
        found = f"{token_file.MODE} is {os.environ[token_file.MODE]} here. Unset it"
    elif known:
        found = f"the one here ({_token_place()}) is another. Copy it from the machine that started the cluster"
    else:
        found = f"there is none in {token_file.path()}. Copy it from the machine that started the cluster"
    return ClusterError(f"The cluster at '{address}' answers only to its token; {found}.")


def _token_place() -> str:
    return token_file.TOKEN if os.environ.get(token_file.TOKEN) else str(token_file.path())


def _unreachable(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"A Ray cluster must answer at '{address}'; none does: {reason}. Check the address and that the cluster is up "
        "(ray status), or leave --address out to use this machine."
    )
