"""A finished tiny search, and a cluster of several hosts for tests that need a network or a host to lose."""

import subprocess
import sys

import pytest

from hosts import why_not
from htt import files
from htt.testing import TINY
from project import ROOT


@pytest.fixture(scope="session")
def searched(cache):
    """A folder in which a search with the real training has run, once for all processes, and what it said."""
    folder = cache.parent / "searched"
    output = folder / "output"
    with files.locked(cache.parent / "searched.lock"):
        if not output.exists():
            folder.mkdir()
            settings = [word for path, value in TINY.items() for word in ("--set", f"{path}={str(value).lower()}")]
            # One after the other: the scheduler cannot stop the first, whose numbers a study must give too.
            asked = ["--trials", "3", "--max-concurrent", "1", "--name", "tiny", *settings]
            command = [sys.executable, ROOT / "tune/search.py", *asked]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            output.write_text(done.stdout + done.stderr)
    return folder, output.read_text()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head, two workers and a laptop out of network namespaces, after ``ray up``; each host offers one CPU.

    ``cluster.hosts.kill(name)`` takes a host away; after ``cluster.hosts.start(name)`` it joins again by itself.
    ``cluster.shared`` is here what ``/mnt/shared`` is there.
    """
    from on_premises import Cluster

    if reason := why_not():
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("shared")) as cluster:
        cluster.make_token()
        cluster.up()
        cluster.open_dashboard()
        cluster.wait_for_nodes(3)
        yield cluster
