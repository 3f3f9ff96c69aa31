"""S3 server on this machine, by moto, for tests and benchmarks of data in an object store.

It keeps everything in memory: one that was killed and started again is empty. A ``Gate`` before it can be killed and
started again instead.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

LOOPBACK = "127.0.0.1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What the environment of whoever reads from it must hold: any credentials will do."""
START_S = 300.0


class Store:
    """Server with one bucket."""

    bucket = "bucket"

    def __init__(self, folder: Path, **environment: str) -> None:
        """Choose a port; see ``start``.

        Args:
            folder: where its log goes.
            environment: further variables of the server's process.
        """
        self._log, self._environment = folder / "requests.log", {**os.environ, **environment}
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def uri(self, prefix: str, bucket: str = bucket, port: int | None = None) -> str:
        """Return the URI of a folder in the bucket, by the server's own port or another that leads there."""
        options = f"endpoint_override={LOOPBACK}:{port or self.port}&scheme=http&region=us-east-1"
        return f"s3://{bucket}/{prefix}?{options}"

    def start(self, *, make_bucket: bool = True) -> Store:
        """Start the server, and make its bucket.

        Raises:
            RuntimeError: it does not answer.
        """
        code = textwrap.dedent(_WHILE_WE_LIVE + _SERVER)
        command = [sys.executable, "-c", code, "-H", LOOPBACK, "-p", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment
            )
        started = time.monotonic()
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() - started > START_S:
                self.kill()
                raise RuntimeError(f"No S3 server started on this machine: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)
        if make_bucket:
            self.make_bucket()
        return self

    def make_bucket(self) -> None:
        """Make its bucket."""
        from pyarrow import fs

        system, path = fs.FileSystem.from_uri(self.uri("") + "&allow_bucket_creation=true")
        system.create_dir(path)

    def kill(self) -> None:
        """Kill the server; what it holds is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def gets(self, name: str) -> int:
        """Return how often a file was read, in blocks; files are matched by the end of their names."""
        return len(re.findall(rf'"[^"]*GET /{self.bucket}/\S*{re.escape(name)} ', self._log.read_text()))


class Gate:
    """Process that passes connections on to a server until it is killed."""

    def __init__(self, port: int) -> None:
        """Choose a port that leads to the server's port; see ``start``."""
        self._to, self.port = port, _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Gate:
        """Let connections through."""
        command = [
            sys.executable,
            "-c",
            textwrap.dedent(_WHILE_WE_LIVE + _GATE),
            LOOPBACK,
            str(self.port),
            str(self._to),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        while not _answers(self.port):
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """Break all connections, and take no more."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


_WHILE_WE_LIVE = """
    import os, sys, threading

    def end_with_us():
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_us, daemon=True).start()
"""

_SERVER = """
    from moto.server import main

    main(sys.argv[1:])
"""

_GATE = """
    import asyncio

    host, port, to = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

    async def copy(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connected(reader, writer):
        there, back = await asyncio.open_connection(host, to)
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    async def main():
        async with await asyncio.start_server(connected, host, port) as server:
            await server.serve_forever()

    asyncio.run(main())
"""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
    except OSError:
        return False
    return True
