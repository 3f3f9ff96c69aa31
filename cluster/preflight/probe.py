"""Checks on one machine: code and libraries, data, storage, disk space, GPUs and network.

``run`` runs on every machine of a cluster and is independent of Ray. Each check runs in its own thread, so a storage
that hangs is reported as a fault of the storage, and the other checks still give their results.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import fs

from cluster import revision
from cluster.storage import open_uri
from htt.config import Config, RuntimeConfig
from htt.data.location import cache_folder
from htt.data.shards import manifest
from htt.data.store.cache import FOLDER, Cache
from htt.data.store.remote import is_remote
from htt.errors import DataError

LIMIT_S = 60.0
"""Time limit of a check, s: torch needs half of it to start from a cold disk on a busy machine."""
CONNECT_S = 5.0
MARK = ".preflight-"
"""Prefix of the names of probe files; each file is removed immediately."""
PROBE = """
import json, torch
faults = []
for index in range(torch.cuda.device_count()):
    try:
        ones = torch.ones(8, device=f"cuda:{index}")
        total = float((ones + ones).sum())
        if total != 16:
            faults.append(f"GPU {index} computes {total:g} instead of 16")
    except Exception as error:
        faults.append(f"GPU {index}: {str(error).splitlines()[0]}")
print(json.dumps({"torch": torch.__version__, "count": torch.cuda.device_count(), "faults": faults}))
"""
"""Script that tests the GPUs in its own process, so that their memory is free again when it ends."""


class Check(NamedTuple):
    """Single check and the key of its result."""

    name: str
    subject: str
    """Key of the result; unique, unlike ``name``."""
    find: Callable[[], Any]


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the checks on this machine and return the results as plain data.

    Args:
        request: ``compare``: True if code and data are compared with other machines; ``roots``: folders or URIs of
            shards; ``cache``: runtime.cache; ``storage``: folder or URI of results, or None; ``mark``: name of a file
            that the driver has written to the storage, or None; ``gpus``: number of GPUs, 0 to skip the check;
            ``peers``: (name, address, port) of machines to reach.
    """
    cache = cache_folder(Config(runtime=RuntimeConfig(cache=request["cache"])))
    checks = [Check("cache", "cache", lambda: use_cache(cache))]
    checks.append(Check("disk", "disks", lambda: disks(cache, request["storage"])))
    if request["storage"]:
        checks.append(Check("storage", "storage", lambda: use_storage(request["storage"], request["mark"])))
    if request["compare"]:
        checks += [Check("code", "code", revision.digests), Check("code", "commit", revision.commit)]
        checks += [Check("versions", "versions", revision.versions)]
        checks.append(Check("address", "host_address", host_address))
        checks += [Check("data", f"data {root}", partial(read_data, root, cache)) for root in request["roots"]]
    if request["gpus"]:
        checks.append(Check("GPUs", "gpus", try_gpus))
    if request["peers"]:
        checks.append(Check("ports", "unreachable", lambda: unreachable(request["peers"])))
    results, failed = run_checks(checks)
    data = {root: results.pop(f"data {root}", None) for root in request["roots"]}
    return {**results, "data": data, "failed": failed}


def run_checks(checks: Sequence[Check], limit_s: float = LIMIT_S) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the results by subject, and (check, error) for each check that fails or exceeds the time limit."""
    results: dict[str, Any] = {}
    errors: dict[str, str] = {}

    def run_one(check: Check) -> None:
        try:
            results[check.subject] = check.find()
        except Exception as error:  # any error of a file system, a driver or a library is a result
            errors[check.subject] = first_line(error)

    threads = [threading.Thread(target=run_one, args=(check,), daemon=True) for check in checks]
    ends = time.monotonic() + limit_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    for check in checks:
        if check.subject not in results:
            errors.setdefault(check.subject, f"no answer within {limit_s:g} s")
    return dict(results), [(check.name, errors[check.subject]) for check in checks if check.subject in errors]


def read_data(root: str, cache: Path) -> tuple[str, int]:
    """Read the manifest and one shard of each split; return (digest of the manifest, bytes missing in the cache).

    Raises:
        DataError: there is no manifest that this version can read, or a shard is empty.
        OSError, ArrowException: the manifest or a shard cannot be read.
    """
    system, path = open_uri(root)
    if system.get_file_info(f"{path}/{manifest.NAME}").type != fs.FileType.File:
        raise DataError(f"no {manifest.NAME} in {root}")
    with system.open_input_stream(f"{path}/{manifest.NAME}") as stream:
        content: bytes = stream.read()
    splits = manifest.parse(content, f"{root}/{manifest.NAME}").splits.values()
    for first in [shards[0].file for shards in splits if shards]:
        with system.open_input_file(f"{path}/{first}") as file:
            if not file.read(1):
                raise DataError(f"{root}/{first} is empty")
    cached = Cache(cache / FOLDER)
    missing = [shard.bytes for shards in splits for shard in shards if is_remote(root) and not cached.has(shard)]
    return revision.digest(content), sum(missing)


def use_storage(storage: str, mark: str | None) -> bool:
    """Return False if ``mark``, a file of the driver, is missing in the storage; else write, read and remove a file.

    Raises:
        OSError, ArrowException: the storage cannot be written or read.
    """
    system, path = open_uri(storage)
    seen = mark is None or system.get_file_info(f"{path}/{mark}").type == fs.FileType.File
    if seen:
        name, content = f"{path}/{MARK}{uuid.uuid4().hex[:8]}", os.urandom(16)
        try:
            with system.open_output_stream(name) as out:
                out.write(content)
            with system.open_input_stream(name) as back:
                if back.read() != content:
                    raise OSError(f"{storage} returned other bytes than were written")
        finally:
            if system.get_file_info(name).type == fs.FileType.File:
                system.delete_file(name)
    return seen


def use_cache(folder: Path) -> None:
    """Make the folder for rendered and downloaded data, and write a temporary file there.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=MARK) as file:
        file.write(b"ok")


def disks(cache: Path, storage: str | None) -> dict[str, tuple[str, int, int]]:
    """Return {purpose: (folder, free bytes, device number)} for cache, temporary files and a local results folder."""
    folders = {"cache": cache, "temporary files": Path(tempfile.gettempdir())}
    if storage and "://" not in storage:
        folders["results"] = Path(storage).expanduser()
    return {purpose: _space(folder.absolute()) for purpose, folder in folders.items()}


def _space(folder: Path) -> tuple[str, int, int]:
    """Return (folder, free bytes, device number) of the disk of a folder, which need not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return str(folder), shutil.disk_usage(existing).free, existing.stat().st_dev


def try_gpus() -> dict[str, Any]:
    """Test all GPUs; return ``{"torch": version, "count": number of GPUs, "faults": [error of one GPU]}``.

    Raises:
        OSError: torch cannot be started.
        subprocess.TimeoutExpired: the test took longer than ``LIMIT_S``.
    """
    answer = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise OSError(f"cannot start torch: {lines[-1]}")
    result: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return result


def count_gpus() -> dict[str, Any]:
    """Count the GPUs in this process and return the same keys as ``try_gpus``; uses no GPU memory."""
    import torch  # imported late: needed only where there are GPUs

    return {"torch": torch.__version__, "count": torch.cuda.device_count(), "faults": []}


def unreachable(peers: Sequence[tuple[str, str, int]]) -> list[tuple[str, str]]:
    """Return (name, reason) for each machine whose port cannot be reached."""

    def connect(peer: tuple[str, str, int]) -> tuple[str, str] | None:
        name, address, port = peer
        try:
            socket.create_connection((address, port), timeout=CONNECT_S).close()
        except OSError as error:
            return name, f"{address}:{port} {first_line(error)}"
        return None

    with ThreadPoolExecutor(max_workers=min(32, len(peers))) as pool:
        return [fault for fault in pool.map(connect, peers) if fault is not None]


def host_address() -> tuple[str, str]:
    """Return (host name, address that gloo listens on): the address of the name, or 127.0.0.1 if it has none here.

    With GLOO_SOCKET_IFNAME gloo uses the address of that interface; then the address is returned as "".
    """
    name = socket.gethostname()
    if os.environ.get("GLOO_SOCKET_IFNAME"):
        return name, ""
    try:
        known = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        known = []
    own = (str(address[0]) for family, _, _, _, address in known if _is_own(family, address))
    return name, next(own, "127.0.0.1")


def is_loopback(address: str) -> bool:
    """Return True for an address that only the machine itself can reach."""
    return bool(address) and ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_own(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def first_line(error: BaseException) -> str:
    """Return an error's first line without error numbers, probe files and final dot, or the name of its class."""
    lines = re.sub(rf"(?i)\[errno \d+\] |/{re.escape(MARK)}[0-9a-f]+", "", str(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
