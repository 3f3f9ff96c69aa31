"""Connection to Ray: start a local instance, or join a cluster at an address.

Ray Train cleans up after a stopped trial through Ray's State API, which is part of the dashboard. With two instances on
one host it could query the wrong dashboard and remove resources of a live trial. So each instance started here for Ray
Train has a dashboard on its own port, reachable from this machine only, and all its processes get that address.

A local instance always requires the token of ``htt.token_file``; a cluster requires it if it was started that way.
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
from htt.parallel import in_job, restore

OBJECT_STORE_BYTES = 256 * 2**20
"""Size of Ray's object store. It is small because clips are memory-mapped files and do not go through it."""
REACH_S = 12.0
"""Time limit for an answer of a cluster, s."""

SETTINGS = {**parallel.SETTINGS, "RAY_AIR_NEW_OUTPUT": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
"""Environment variables of Ray: less output, and workers keep the driver's working folder for relative paths."""


@dataclass(frozen=True)
class Connection:
    """Ray instance to which this process is connected."""

    address: str
    dashboard: str | None
    started: bool
    """True if the instance was started here and ends with the connection."""


@contextlib.contextmanager
def connect(address: str | None = None, *, cpus: int | None = None, train: bool = True) -> Iterator[Connection]:
    """Connect to Ray for the length of a ``with`` block; an existing connection of this process is reused and kept.

    Args:
        address: "host:port" or "auto" of a cluster to join, or None to start an instance on this machine (inside a
            Ray job: to join the job's cluster).
        cpus: cores of a local instance, or None for all that this process may use.
        train: whether Ray Train will run in a local instance; without it, the instance starts without a dashboard,
            which takes a fifth of the time.

    Raises:
        ClusterError: no cluster answers at the address, or no instance can be started here.
        LostRayError: Ray dies within the block.
    """
    use_token = _requires_token(address) if address else True
    if ray.is_initialized():
        yield _existing(address)
        return
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    address = address or ("auto" if in_job() else None)
    with driver_log.off_screen(), contextlib.nullcontext() if address else ray_folder.own() as folder:
        try:
            connection = _join(address, use_token=use_token) if address else _start(cpus, str(folder), train=train)
            os.environ["RAY_ADDRESS"] = connection.address
            with heartbeat.watched(started=connection.started):
                yield connection
        finally:
            ray.shutdown()
            restore(before, SETTINGS)


def target(address: str | None) -> str:
    """Return a description of where ``connect`` connects to, for messages."""
    return address or ("the cluster of this job" if in_job() else "the cores of this machine")


def _start(cpus: int | None, folder: str, *, train: bool) -> Connection:
    path = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)  # workers find the project even if it is not installed
    options = {**parallel.local(cpus or cores(), train=train), "object_store_memory": OBJECT_STORE_BYTES}
    try:
        parallel.init({"_temp_dir": folder, **options})
    except Exception as error:  # Ray raises a bare Exception if it starts too slowly
        raise parallel.cannot_start(error) from error
    return _connection(started=True)


def _existing(address: str | None) -> Connection:
    """Return the existing connection of this process.

    Raises:
        ClusterError: another cluster was asked for.
    """
    connection = _connection(started=False)
    if address not in (None, "auto", connection.address):
        raise ClusterError(
            f"Cannot connect to {address}: this process is already connected to {connection.address}. "
            "Use another process."
        )
    return connection


def _join(address: str, *, use_token: bool) -> Connection:
    options: dict[str, Any] = {"address": address}
    if use_token:
        _enable_token()
    else:
        os.environ.setdefault(token_file.MODE, "disabled")  # at address "auto" Ray would send a token by itself
    if not in_job():
        options["runtime_env"] = {"env_vars": dict(SETTINGS)}
    try:
        parallel.init(options)
    except Exception as error:  # Ray raises a bare Exception if it starts too slowly
        raise _unreachable(address, parallel.first_line(error)) from error
    return _connection(started=False)


def _enable_token() -> None:
    """Make Ray send the token, if there is one; by itself Ray does so only at address "auto".

    Ray reads ``RAY_AUTH_MODE`` once, at its import, so setting the variable here would be too late.
    """
    from ray._private.authentication import authentication_token_setup

    authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _connection(*, started: bool) -> Connection:
    context = ray.get_runtime_context()
    dashboard = os.environ.get("RAY_API_SERVER_ADDRESS")
    return Connection(context.gcs_address, dashboard, started)


def _requires_token(address: str) -> bool:
    """Return True if the cluster requires the token of this user, False if it requires none.

    This is checked before the connection, because Ray itself waits for minutes and may end the process. A token must
    not be sent to a cluster without one: its workers would not answer.

    Raises:
        ClusterError: no cluster answers, or it requires another token.
    """
    if address.startswith("ray://"):
        raise ClusterError(
            f"Invalid --address '{address}': expected host:port or auto. From outside a cluster, submit the command as "
            "a job: ray job submit --address http://HOST:8265 --working-dir . -- python ..."
        )
    if address != "auto":
        _check_port(address)
    modes = ["disabled", "token"] if token_file.exists() else ["disabled"]
    modes = [os.environ.get(token_file.MODE, mode) for mode in modes]
    for mode in dict.fromkeys(modes):
        answer = _health_check(address, mode)
        if "InvalidAuthToken" in answer.stderr:
            continue
        if answer.returncode:
            lines = (answer.stderr or answer.stdout).strip().splitlines()
            raise _unreachable(address, lines[-1].strip() if lines else "the process there is not Ray")
        return mode == "token"
    raise _token_error(address, known=token_file.exists())


def _health_check(address: str, mode: str) -> subprocess.CompletedProcess[str]:
    """Return the result of Ray's health check of a cluster, with the token (mode "token") or without ("disabled")."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    env = {**os.environ, token_file.MODE: mode}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=REACH_S, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"no answer within {REACH_S:g} s") from None


def _check_port(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not host:
        raise ClusterError(f"Invalid --address '{address}': expected host:port, such as 10.0.0.5:6379, or auto.")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, OverflowError, UnicodeError) as error:  # UnicodeError: an invalid host name, such as a..b
        raise _unreachable(address, str(error)) from error


def _token_error(address: str, *, known: bool) -> ClusterError:
    if os.environ.get(token_file.MODE, "token").lower() != "token":
        reason = f"{token_file.MODE} is {os.environ[token_file.MODE]} here. Unset it"
    else:
        source = token_file.TOKEN if os.environ.get(token_file.TOKEN) else token_file.path()
        found = f"the one in {source} is wrong" if known else f"there is none in {source}"
        reason = f"{found}. Copy it from the machine that started the cluster"
    return ClusterError(f"Cannot join the cluster at '{address}': it requires its token, and {reason}.")


def _unreachable(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"No Ray cluster answers at '{address}': {reason}. Check the address and that the cluster is up (ray status), "
        "or leave out --address to use this machine."
    )
