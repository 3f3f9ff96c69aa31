"""Files to which lines are appended: a full disk and damaged bytes cost a line, not the file."""

import errno

import pytest

from htt import json_lines
from htt.errors import StorageError


def lines(file):
    return [entry["number"] for entry in json_lines.read(file)]


def test_append_on_full_disk_leaves_the_file_unchanged(tmp_path, monkeypatch):
    file = tmp_path / "lines.jsonl"
    json_lines.append(file, {"number": 1})
    before = file.read_bytes()

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, text):
            with open(file, "ab") as out:
                out.write(text[:9].encode())
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(file), "open", lambda *_, **__: Full())
    with pytest.raises(StorageError, match="the disk is full"):
        json_lines.append(file, {"number": 2})
    monkeypatch.undo()
    assert file.read_bytes() == before
    json_lines.append(file, {"number": 2}, sync=True)
    assert lines(file) == [1, 2]


def test_read_leaves_out_and_names_damaged_lines(tmp_path, capsys):
    file = tmp_path / "lines.jsonl"
    for number in (1, 2, 3):
        json_lines.append(file, {"number": number})
    content = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(content[0] + b"\xff" + content[1] + b'{"number": 2, "ep' + content[2] + b"[1]\n")
    assert lines(file) == [1, 3]
    assert "lines.jsonl: damaged lines are left out: 2, 3, 4." in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(("rest", "count"), [("", 2), ('{"number"', 2), ("\n", 3)])
def test_unfinished_line_is_dropped_before_the_next_is_appended(tmp_path, rest, count):
    file = tmp_path / "lines.jsonl"
    assert json_lines.drop_unfinished_line(file) == 0
    for number in (1, 2):
        json_lines.append(file, {"number": number})
    before = file.read_text()
    file.write_text(before + rest)
    assert json_lines.drop_unfinished_line(file) == count
    assert file.read_text() == (before + rest if rest == "\n" else before)
