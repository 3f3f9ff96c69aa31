"""How commands speak: rates of this run alone, and time left by what is still to do."""

import io
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from htt import console, errors
from htt.text import printable

ROOT = Path(__file__).resolve().parents[2]


def test_counting_prints_the_rate_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was done earlier counts as done, not as speed; less may come out than was expected."""
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    counting = console.Counting("Converting h2o", 5_100, "frames", done=3_100, found=3_000)
    monkeypatch.setattr(counting, "_started", 100.0)
    monkeypatch.setattr(counting, "_printed_s", 100.0)
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


def test_counting_prints_the_count_without_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    add: console.Assignments = field(default_factory=list)
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


WORDS = st.lists(
    st.sampled_from(
        ["[red]", "[/]", "[/x]", "\\", "\\[", "[", "]", ":cat:", "\x1b[31m", "\x9b2J", "\x07", "a", "/", " ", "é"]
    ),
    max_size=10,
).map("".join)


@settings(deadline=None)
@given(WORDS)
def test_screen_prints_any_text_without_control_characters(words: str) -> None:
    """As a line, as a part of a styled one, in a table, and on a terminal as elsewhere."""
    for terminal in (False, True):
        shown = io.StringIO()
        screen = console.Screen(file=shown, width=500, soft_wrap=True, force_terminal=terminal, color_system=None)
        screen.print(f"<{words}>")
        screen.print(Text.assemble(("error:", "bold red"), f" <{words}>"))
        table = Table(box=None)
        table.add_column(f"<{words}>")
        table.add_row(f"<{words}>")
        screen.print(table)
        assert "\x1b" not in shown.getvalue()
        line = f"<{printable(words)}>"
        assert [each.strip() for each in shown.getvalue().splitlines()] == [line, f"error: {line}", line, line]


@pytest.mark.parametrize("words", ["runs/[a]/x", "a\\[b]", "[/]", ":cat:", "\x1b]0;title\x07x"])
def test_run_prints_error_message_unchanged(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: console.Options) -> None:
        raise errors.DataError(f"There must be {words}.")

    with pytest.raises(SystemExit):
        console.run(console.Options, main, [])
    assert capsys.readouterr().err == f"error: There must be {printable(words)}.\n"


def test_screen_escapes_letters_missing_from_the_encoding() -> None:
    code = "from htt import console; console.run(console.Options, lambda _: console.out.print('a − b'), [])"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""}
    )
    assert (ended.returncode, ended.stdout) == (0, b"a \\u2212 b\n"), ended.stderr


@dataclass
class Paths(console.Options):
    out: Path | None = None
    place: Place = field(default_factory=Place)


def test_run_expands_home_in_path_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    seen: list[Path | None] = []
    console.run(Paths, lambda options: seen.append(options.out), ["--out", "~/x"])
    assert seen == [Path("/home/me/x")]
    with pytest.raises(SystemExit) as caught:
        console.run(Paths, lambda options: None, ["--out", "~nobody-has-this-name/x"])
    assert caught.value.code == 2


@pytest.mark.parametrize("words", [["--name", ""], ["--add", "x=1", "--add", ""]])
def test_run_refuses_empty_option(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        console.run(Asked, lambda options: None, words)
    assert caught.value.code == 2
    assert f"{words[-2]} is empty. Is a shell variable unset?" in capsys.readouterr().err


HEAVY = {"torch", "ray", "transformers", "scipy", "matplotlib"}
COMMANDS = {
    "python -m htt.evaluate": ["-m", "htt.evaluate"],
    "python -m htt.submit": ["-m", "htt.submit"],
    "python -m htt.scene": ["-m", "htt.scene"],
    "python -m htt.data.convert": ["-m", "htt.data.convert"],
    "python -m htt.data.publish": ["-m", "htt.data.publish"],
    "python -m tune.reports": ["-m", "tune.reports"],
    "python -m cluster.preemption": ["-m", "cluster.preemption"],
    "python -m cluster.preflight": ["-m", "cluster.preflight"],
    "python tune/search.py": ["tune/search.py"],
    "python tune/ablate.py": ["tune/ablate.py"],
    "python tune/best.py": ["tune/best.py"],
    "python cluster/launch.py": ["cluster/launch.py"],
    "python cluster/make_token.py": ["cluster/make_token.py"],
}
"""{what one types: the same for this test}."""


@pytest.mark.parametrize("typed", COMMANDS)
def test_help_shows_usage_without_heavy_imports(typed: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMANDS[typed], "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"usage: {typed} ")
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert loaded & HEAVY == set()
    assert "None" not in ended.stdout


SPREAD = ("95 % interval", "Deviation")
RETRAINED = [
    [
        "Metric",
        "Search (one seed)",
        "Validation mean",
        "95 % interval",
        "Deviation",
        "Test mean",
        "95 % interval",
        "Deviation",
    ],
    ["Hand error", "60.9 mm", "63.1 mm", "61.0 to 65.2 mm", "1.7 mm", "72.0 mm", "70.1 to 73.9 mm", "1.5 mm"],
    ["Latency", "5.25 ms", "123.4 ms", "7.5 to 130.1 ms", "12.4 ms", "–", "–", "–"],
    ["Memory", "9.5 MB", "231.0 MB", "9.5 to 9.6 MB", "0.1 MB", "–", "–", "–"],
]


def test_table_folds_between_words_and_sets_numbers_to_the_right() -> None:
    lines = console.table(RETRAINED, 80).splitlines()
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    assert {word for row in RETRAINED for cell in row for word in cell.split()} == words, "no word is broken"
    hand, latency, memory = (next(line for line in lines if line.startswith(name)) for name in ("Hand", "Lat", "Mem"))
    assert hand.index("60.9 mm") + 7 == latency.index("5.25 ms") + 7 == memory.index("9.5 MB") + 6


def test_table_is_whole_in_a_file_and_counts_wide_letters() -> None:
    rows = [["名前", "value"], ["長い名前です", "3"], ["short", "12.5"]]
    assert console.table(rows).splitlines() == ["名前          value", "長い名前です      3", "short          12.5"]
    long = [["name", "value"], ["x" * 300, "[bold]3[/]"]]
    assert console.table(long).splitlines()[1] == "x" * 300 + "  [bold]3[/]"
    assert max(map(len, console.table(long, 40).splitlines())) <= 40


def test_progress_into_a_file_has_no_cursor_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(force_terminal=True, width=80, highlight=False))
    with console.Counting("Evaluating", 300, "windows") as counting:
        counting.advance(300)
    assert re.fullmatch(r"Evaluating: 300/300 windows, [\d,]+ windows/s, 0:00\n", capsys.readouterr().out)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_all_its_numbers_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Console(file=Terminal(), width=80, force_terminal=True, _environ={"TERM": "xterm"})
    monkeypatch.setattr(console, "out", out)
    with console.Counting("Converting h2o train", 2_400_000, "frames") as counting:
        counting.advance(1_182_211, note="1,181/2,400 clips")
    shown = Text.from_ansi(out.file.getvalue().replace("\r", "\n")).plain  # type: ignore[attr-defined]
    assert "1182211/2400000" in shown
    assert "…" not in shown


def test_print_later_prints_only_after_its_delay(capsys: pytest.CaptureFixture[str]) -> None:
    quick, slow = console.print_later("quick", 5.0), console.print_later("slow [x]", 0.01)
    slow.join(5)
    with pytest.raises(SystemExit):
        console.run(Asked, lambda options: None, ["--help"])
    assert capsys.readouterr().err == "slow [x]\n"
    quick.join(1)
    assert not quick.is_alive(), "the command cancels it"
