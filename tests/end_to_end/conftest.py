"""A cluster of several hosts, for tests that need a network between them, or a host to lose."""

import pytest

from hosts import why_not


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
