"""A cluster of several hosts, for tests that need a network between them, or a host to lose."""

import sys
from pathlib import Path

import pytest

from htt.testing.hosts import why_not

sys.path.append(str(Path(__file__).resolve().parents[1] / "tune"))  # fake_training


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head, two workers and a laptop out of network namespaces, after ``ray up``; each host offers one CPU.

    ``cluster.hosts.kill(name)`` takes a host away; after ``cluster.hosts.start(name)`` it joins again by itself.
    ``cluster.shared`` is here what ``/mnt/shared`` is there.
    """
    from htt.testing.on_premises import Cluster

    if reason := why_not():
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("shared")) as cluster:
        cluster.make_token()
        cluster.up()
        cluster.open_dashboard()
        cluster.wait_for_nodes(3)
        yield cluster
