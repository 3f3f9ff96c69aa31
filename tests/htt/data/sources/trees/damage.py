"""Damages of a file of a data set: ``change(path, amount)``, where the amount sets the extent or the place.

No change turns a valid number into another valid number, which could not be detected.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

EXTRA = ("notes.txt", ".DS_Store", "000003 copy.png", "color_000.jpeg", "Thumbs.db")


def delete(path: Path, amount: int) -> None:
    path.unlink()


def delete_folder(path: Path, amount: int) -> None:
    shutil.rmtree(path.parent)


def empty(path: Path, amount: int) -> None:
    _write(path, b"")


def truncate(path: Path, amount: int) -> None:
    content = path.read_bytes()
    _write(path, content[: amount % (len(content) + 1)])


def truncate_a_little(path: Path, amount: int) -> None:
    content = path.read_bytes()
    _write(path, content[: max(0, len(content) - 1 - amount % 12)])


def swap_lines(path: Path, amount: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if len(lines) > 1:
        one, other = amount % len(lines), amount // 7 % len(lines)
        lines[one], lines[other] = lines[other], lines[one]
    _write(path, b"".join(lines))


def drop_line(path: Path, amount: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    _write(path, b"".join(line for index, line in enumerate(lines) if index != amount % len(lines)))


def double_line(path: Path, amount: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    _write(path, b"".join(line * (1 + (index == amount % len(lines))) for index, line in enumerate(lines)))


def drop_word(path: Path, amount: int) -> None:
    words = re.split(rb"(\s+)", path.read_bytes())
    del words[2 * (amount % (len(words) // 2 + 1))]
    _write(path, b"".join(words))


def double_word(path: Path, amount: int) -> None:
    words = re.split(rb"(\s+)", path.read_bytes())
    place = 2 * (amount % (len(words) // 2 + 1))
    _write(path, b"".join([*words[:place], words[place], b" ", *words[place:]]))


def wrong_count(path: Path, amount: int) -> None:
    """Replace a number at the end of a line, where lists have counts."""
    ends = list(re.finditer(rb"(?<= )\d+(?=\n)", path.read_bytes()))
    if ends and ("_info" in path.name or "data_split" in path.name):
        chosen = ends[amount % len(ends)]
        content = path.read_bytes()
        _write(path, content[: chosen.start()] + str(amount % 100_003).encode() + content[chosen.end() :])


def other_line_ends(path: Path, amount: int) -> None:
    if path.suffix == ".txt":
        _write(path, path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def byte_order_mark(path: Path, amount: int) -> None:
    if path.suffix == ".txt":
        _write(path, b"\xef\xbb\xbf" + path.read_bytes())


def extra(path: Path, amount: int) -> None:
    name = EXTRA[amount % len(EXTRA)]
    (path.parent / name).write_text("nothing") if amount % 2 else (path.parent / f"{name}.d").mkdir(exist_ok=True)


def become_a_folder(path: Path, amount: int) -> None:
    path.unlink()
    path.mkdir()


def garbage(path: Path, amount: int) -> None:
    _write(path, bytes((amount * index * index + 31 * index) % 256 for index in range(amount % 300)))


def garbage_first(path: Path, amount: int) -> None:
    _write(path, bytes([128 + amount % 128, 0]) + path.read_bytes())


CHANGES: tuple[Callable[[Path, int], None], ...] = (
    delete, delete_folder, empty, truncate, truncate_a_little, swap_lines, drop_line, double_line, drop_word,
    double_word, wrong_count, other_line_ends, byte_order_mark, extra, become_a_folder, garbage, garbage_first,
)  # fmt: skip
TEXT_ONLY = {swap_lines, drop_line, double_line, drop_word, double_word, wrong_count}


def _write(path: Path, content: bytes) -> None:
    path.unlink()  # a hard link to the file of the undamaged tree
    path.write_bytes(content)
