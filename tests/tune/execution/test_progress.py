"""What a search shows while it runs: whole on narrow terminals, plain lines where nothing can be drawn."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.text import Text

from tune.execution import progress
from tune.results.run_folder import Trial

VALUES = {
    "model.pose.window": 16,
    "model.pose.layers": 4,
    "model.action.layers": 2,
    "model.action.cues": ["hands", "object", "feature"],
    "optim.lr": 0.000312,
    "optim.weight_decay": 0.01,
    "losses.joints_px": 0.25,
    "losses.a_name_that_is_longer_than_most": "a_value_that_is_longer_than_most_as_well",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def trial(number: int, state: str = "complete", **changes) -> Trial:
    metrics = {"hand_error_mm": 60.0 + number}
    return Trial(
        id=f"t{number}", number=number, fingerprint="", state=state, epochs=8, seconds=1.0, finished_s=1.0,
        values=VALUES, metrics=metrics, best=metrics, curve=[], error=None, **changes,
    )  # fmt: skip


def recorder(running: int = 2) -> SimpleNamespace:
    done = {each.id: each for each in (trial(number) for number in range(1, 4))}
    live = {f"t{number}": SimpleNamespace(config={"values": VALUES}) for number in range(4, 4 + running)}
    return SimpleNamespace(
        done=done,
        done_before=0,
        live=live,
        history=SimpleNamespace(of=lambda name: {3: {"hand_error_mm": 70.0}}),
        epoch=lambda name: 3,
        searcher=SimpleNamespace(number=lambda name: int(name[1:])),
        counts=lambda: {"complete": 3},
        best=lambda: done["t1"],
        elapsed_s=75.0,
        left_s=261.0,
        stop_reason=None,
    )


def display(file: io.StringIO, width: int = 80, **options) -> progress.Display:
    console = Console(file=file, width=width, height=24, soft_wrap=True, **options)
    return progress.Display(console, trials=64, epochs=8, metric="hand_error_mm")


@pytest.mark.parametrize("width", [80, 100, 200])
def test_display_shows_best_time_left_and_every_value(width):
    shown = display(Terminal(), width, force_terminal=True)
    shown.on_end(recorder(), trial(3))
    console = Console(file=io.StringIO(), width=width, height=24, soft_wrap=True)
    console.print(shown._picture(recorder()))
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "best hand error 61.0 mm (trial 1)  4:21 left  1:15 elapsed"
    assert lines[1].strip() == "trials of 64: 3 complete"
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    text = re.sub(r"\s", "", "".join(lines))
    assert "…" not in text
    for name in (".".join(path.split(".")[-2:]) for path in VALUES):
        assert text.count(f"{name}=") == 3, "two run, and one has ended"
    assert text.count("action.cues=hands+object+feature") == 3


def test_display_of_many_trials_keeps_its_first_lines():
    shown = display(Terminal(), force_terminal=True)
    text = Console(file=io.StringIO(), width=80)
    text.print(shown._picture(recorder(running=300)))
    assert "... and 294 more running" in text.file.getvalue()
    assert "4:3/8 5:3/8 6:3/8 7:3/8 8:3/8 9:3/8 10:3/8 11:3/8 and 292 more" in shown._lines(recorder(running=300))[2]


@pytest.mark.parametrize(
    ("file", "environ"),
    [
        (Terminal, {"TERM": "dumb"}),
        (io.StringIO, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}),
        (io.StringIO, {"CLICOLOR_FORCE": "1"}),
    ],
    ids=["dumb terminal", "colours into a file", "file"],
)
def test_display_prints_plain_lines_without_a_terminal(file, environ, monkeypatch):
    monkeypatch.setattr(progress.consoles, "LINE_EVERY_S", 0.0)
    out = file()
    with display(out, _environ=environ) as shown:
        shown.shown_at = -1e9
        shown.tick(recorder())
        shown.on_end(recorder(), trial(1))
        shown.tick(recorder())  # a trial has just been shown: nothing new
    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert lines[0].startswith(
        "best hand error 61.0 mm (trial 1)  4:21 left  1:15 elapsed  trials of 64: 3 complete  running 4"
    )
    assert lines[1].startswith(
        "trial   1  complete       61.0 mm  best so far by hand error  epoch 8/8  pose.window=16 "
    )
    assert len(lines) == 2


def test_display_announces_a_stop_once_and_clears_itself():
    out, search = Terminal(), recorder()
    with display(out, _environ={"TERM": "xterm"}) as shown:
        shown.shown_at = -1e9
        shown.tick(search)
        search.stop_reason = "interrupted"
        shown.tick(search)
        shown.tick(search)
    assert out.getvalue().count("Stopping: saving running trials") == 1
    said, _, later = out.getvalue().partition("Stopping")
    assert said.endswith("\x1b[2K"), "the picture was wiped first"
    assert "best hand error" in later, "and drawn again below"


def test_display_prints_less_often_over_time():
    assert [progress.consoles.pause(s) for s in (0, 100, 600, 3000, 86_400)] == [10, 10, 60, 300, 300]


def test_display_redraws_in_place_on_a_terminal():
    out = Terminal()
    with display(out, _environ={"TERM": "xterm"}) as shown:
        shown.shown_at = -1e9
        shown.tick(recorder())
    assert "\x1b[" in out.getvalue()
    assert "best hand error" in Text.from_ansi(out.getvalue()).plain
