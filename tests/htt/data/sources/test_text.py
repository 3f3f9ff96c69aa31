"""Text, numbers and folders of a data set: read, or refused with the name of the file."""

import errno
import os
import re
from pathlib import Path

import pytest

from htt.data.sources import UnreadableError, _text


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        ("1 0.125 0.250 0.375", False),
        ("1 0.125 0.250 0.37", True),
        ("1 0.125 0.250 0.", True),
        ("1 0.125 0.250 0", True),
        ("1 0.125 0.250 0.37\n", False),
        ("1 0.125 0.25 0.37", False),
        ("1.25e-05 2.50e-01 1.25e-05", False),
        ("1.25e-05 2.50e-01 1.25e-0", True),
        ("1.25e-05 2.50e-01 1.25", True),
        ("0.1234567 0.12345678 3.2e-0", True),
        ("0.1234567 0.12345678 3.2e-05", False),
        ("0.1234567 0.12345678 0.1234", False),
        ("0.1234567 0.12345678 0.123", True),
        ("636 636 1280 72", False),
        ("", False),
    ],
)
def test_cut_short_detects_fewer_digits_of_last_number(content: str, cut: bool) -> None:
    assert _text.cut_short(content) is cut


def test_numbers_returns_values_or_names_faults(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    for content, reason in (
        ("0.5 1.5", "is truncated (2 numbers, the last is '1.5')"),
        ("0.5 1.5 2.5 3.5", "has invalid numbers (expected 3, got 4)"),
        ("0.5 x 2.5", "has invalid numbers (could not convert string to float: 'x')"),
        ("0.5 1e999 2.5", "has invalid numbers ('1e999' is not finite)"),
    ):
        path.write_text(content)
        with pytest.raises(UnreadableError, match=re.escape(f"{path} {reason}")):
            _text.numbers(path, 3)
    path.write_bytes(b"\xef\xbb\xbf0.5\r\n1.5 2.5\r\n")
    assert _text.numbers(path, 3).tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOENT, "is missing"),
        (errno.ENOTDIR, "is missing"),
        (errno.EISDIR, "is a folder"),
        (errno.EACCES, "cannot be read"),
        (errno.EIO, "cannot be read (Input/output error)"),
    ],
)
def test_text_translates_system_errors(number: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UnreadableError, match=re.escape(f"a.txt {reason}")):
        _text.text(Path("a.txt"))


def test_whole_accepts_digits_up_to_999999() -> None:
    assert [_text.whole(word) for word in ("0", "007", "999999")] == [0, 7, 999_999]
    for word in ("", "-1", "1.0", "1_0", "٣", "1000000", "9" * 5000):
        with pytest.raises(ValueError, match=r"is not a whole number|the largest number is 999999"):
            _text.whole(word)


def test_numbered_finds_files_by_number(tmp_path: Path) -> None:
    for name in ("000001.png", "000002.jpg", "000002.png", "3.png", "000004.txt", "000005.png.part", "x000006.png"):
        (tmp_path / name).touch()
    pattern = re.compile(r"(\d{6})")
    found = _text.numbered(tmp_path, pattern, (".png", ".jpg"))
    assert {number: path.name for number, path in found.items()} == {1: "000001.png", 2: "000002.png"}
    assert _text.numbered(tmp_path / "gone", pattern, (".png",)) == {}
    with pytest.raises(UnreadableError, match="is not a folder"):
        _text.numbered(tmp_path / "3.png", pattern, (".png",))


def test_gaps_handles_huge_ranges() -> None:
    assert _text.gaps(range(10**9), [5]) == [range(5), range(6, 10**9)]
    assert _text.gaps(range(3, 6), [3, 4, 5]) == []
    assert _text.gaps(range(3, 6), []) == [range(3, 6)]


def test_printable_escapes_undecodable_bytes() -> None:
    assert _text.printable(os.fsdecode(b"caf\xe9/a.txt")) == "caf\\udce9/a.txt"
