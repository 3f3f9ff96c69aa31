import itertools

import pytest

from report_folders import record, trial
from tune.experiments.space import Choice
from tune.reports.figures.axes import axes


def axis(domain, *values):
    """Of a domain, or of its words, as older runs have them."""
    choices = {"a.b": list(domain.values)} if isinstance(domain, Choice) else {}
    asked = record(name="run", domains={"a.b": str(domain)}, choices=choices)
    (found,) = axes(asked, [trial(number, values={"a.b": value}) for number, value in enumerate(values)])
    return found


def test_log_axis_places_and_labels_values():
    found = axis("0.0001 to 0.01, logarithmic", 0.001, 0.002)
    assert [found.place(value) for value in (0.0001, 0.001, 0.01)] == pytest.approx([0, 0.5, 1])
    assert [label for _, label in found.ticks()] == ["0.0001", "0.0003", "0.001", "0.003", "0.01"]


def test_axis_ticks_are_whole_or_round_numbers():
    assert axis("1 to 3", 1, 2).ticks() == [(0.0, "1"), (0.5, "2"), (1.0, "3")]
    assert [label for _, label in axis("0 to 0.3", 0.1, 0.25).ticks()] == ["0", "0.1", "0.2", "0.3"]
    assert [label for _, label in axis("8 to 128, every 8", 8, 16).ticks()] == ["8", "50", "100", "128"]


def test_choice_axis_follows_numbers_or_the_space():
    assert axis("one of 16, 4, 1", 4, 16, 4).choices == [4, 16]
    assert axis(Choice("mean", "lstm", "transformer"), "transformer", "mean").choices == ["mean", "transformer"]
    assert axis(Choice("lstm_large", "lstm", "a"), "a", "lstm", "lstm_large").choices == ["lstm_large", "lstm", "a"]
    cues = axis(Choice(["hands"], ["hands", "object"]), ["hands", "object"], ["hands"])
    assert cues.ticks() == [(0.25, "hands"), (0.75, "hands + object")]
    assert axis(Choice(True, False), True, False).place(False) == 0.75


def test_axis_places_values_beyond_the_domain():
    assert axis("0.1 to 0.2", 0.15, 0.4).place(0.4) == 1.0
    assert axis("one of 1, 2", 1).place(1) == 0.5


def test_axis_ticks_never_crowd():
    for words in ("1e-06 to 1, logarithmic", "0.3 to 3, logarithmic", "0 to 0.17", "-5 to 1000"):
        places = [place for place, _ in axis(words, 0.15, 0.16).ticks()]
        assert min(b - a for a, b in itertools.pairwise(places)) > 0.1
        assert len(places) <= 8
