import itertools

import pytest

from cluster.preflight import nodes


def node(name, address, identity):
    return {"NodeManagerHostname": name, "NodeManagerAddress": address, "NodeID": identity}


@pytest.mark.parametrize(
    ("alive", "names"),
    [
        ([node("a", "10.0.0.1", "f1"), node("b", "10.0.0.2", "f2")], ["a", "b"]),
        (
            [node("a", "10.0.0.1", "f1"), node("a", "10.0.0.2", "f2"), node("b", "10.0.0.3", "f3")],
            ["a (10.0.0.1)", "a (10.0.0.2)", "b"],
        ),
        ([node("a", "127.0.0.1", "0123456789"), node("a", "127.0.0.1", "abcdef789")], ["a (012345)", "a (abcdef)"]),
    ],
)
def test_names_are_unique(alive, names):
    assert nodes.names(alive) == names


@pytest.mark.parametrize("ahead", [0.0, 7.5, -7.5])
def test_clock_returns_bounds_from_round_trip(monkeypatch, ahead):
    now = itertools.count(100.0, 1.0)  # one second between request, other clock and answer
    monkeypatch.setattr(nodes.time, "time", lambda: next(now))
    assert nodes.clock(lambda: next(now) + ahead, pings=2) == (ahead - 1.0, ahead + 1.0)


def test_clock_uses_the_quickest_answer(monkeypatch):
    times = iter([0.0, 30.0, 100.0, 100.5])  # asked, answered; asked, answered
    monkeypatch.setattr(nodes.time, "time", lambda: next(times))
    reads = iter([10.0, 100.25])
    assert nodes.clock(lambda: next(reads), pings=2) == (-0.25, 0.25)
