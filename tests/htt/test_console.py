"""How commands speak: rates of this run alone, and time left by what is still to do."""

from dataclasses import dataclass, field

import pytest

from htt import console


def test_a_line_says_how_fast_this_run_is_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was done earlier counts as done, not as speed; less may come out than was expected."""
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    counting = console.Counting("Converting h2o", 5_100, "frames", done=3_100, found=3_000)
    monkeypatch.setattr(counting, "_started", 100.0)
    monkeypatch.setattr(counting, "_said", 100.0)
    next(clock)
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(counting._bar, "update", lambda *_, **shown: shown_notes.append(shown))
    shown_notes: list[dict[str, object]] = []
    counting.advance(400, 350, "39/40 clips")
    counting.advance(1_600, 1_600, "40/40 clips")
    assert capsys.readouterr().out.splitlines() == [
        "Converting h2o: 39/40 clips, 3,350 frames, 35 frames/s, 0:40 left",
        "Converting h2o: 40/40 clips, 4,950 frames, 98 frames/s, 0:00 left",
    ]
    assert shown_notes[0] == {"completed": 3_500, "note": "39/40 clips, 35 frames/s"}


def test_a_count_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    with console.Counting("Evaluating", 1_200, "windows") as counting:
        counting.advance(300)
    assert "Evaluating: 300/1,200 windows, " in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "shown"), [(7.9, "0:07"), (125, "2:05"), (3_725, "1:02:05")])
def test_clock(seconds: float, shown: str) -> None:
    assert console.clock(seconds) == shown


@dataclass
class Place:
    at_most: int | None = None


@dataclass
class Asked(console.Options):
    name: str | None = None
    add: list[str] = field(default_factory=list)
    share: bool = True
    place: Place = field(default_factory=Place)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Asked(), ""),
        (Asked("a b", ["x=1", "y=2"]), " --name 'a b' --add x=1 --add y=2"),
        (Asked(share=False, place=Place(3), debug=True), " --debug --no-share --at-most 3"),
    ],
)
def test_options_as_they_would_be_typed(options: Asked, words: str) -> None:
    assert console.command("do.py", options) == f"python do.py{words}"
