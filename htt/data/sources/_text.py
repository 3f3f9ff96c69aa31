"""Reading what others wrote: text, numbers in text, and numbered files in a folder.

Nothing here guesses. What cannot be read as it should be is an ``UnreadableError`` that names the file; a text that
was cut in the middle of its last number is found out by the digits that number lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from htt.data.sources import UnreadableError

MISSING = "is missing"
CUT_SHORT = "is cut short"
WRONG_NUMBERS = "has wrong numbers"

SPARE = 3
"""So many decimals fewer than the shortest of others a number may have, where numbers are of different lengths."""
LARGEST_NUMBER = 999_999
"""Of a frame, for frames are files with six digits."""


def text(path: Path) -> str:
    """The text in a file: UTF-8, with or without a byte order mark.

    Raises:
        UnreadableError: it is missing, may not be read, or is no text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise refused(path, error) from None
    except UnicodeDecodeError as error:
        raise UnreadableError(path, "is no text", f"byte {error.start} is not UTF-8") from None


def refused(path: Path, error: OSError) -> UnreadableError:
    """What the operating system said when a file was opened, in our words."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UnreadableError(path, MISSING)
    if isinstance(error, IsADirectoryError):
        return UnreadableError(path, "is a folder")
    if isinstance(error, PermissionError):
        return UnreadableError(path, "may not be read")
    return UnreadableError(path, "cannot be read", error.strerror or str(error))


def numbers(path: Path, count: int, content: str | None = None) -> np.ndarray:
    """The [count] float64 numbers in a text file.

    Args:
        path: of the file.
        count: how many there must be. Whether the last one lacks digits is for ``cut_short`` to say.
        content: of the file, where it was read already.

    Raises:
        UnreadableError: it cannot be read, is cut short, or holds something else.
    """
    words = (text(path) if content is None else content).split()
    if len(words) < count:
        raise cut(path, words)
    if len(words) > count:
        raise UnreadableError(path, WRONG_NUMBERS, f"there are {len(words)}, not {count}")
    try:
        return floats(words)
    except ValueError as error:
        raise UnreadableError(path, WRONG_NUMBERS, str(error)) from None


def cut(path: Path, words: Sequence[str]) -> UnreadableError:
    """The error of a file or line whose words end too early."""
    return UnreadableError(path, CUT_SHORT, f"{len(words)} numbers, the last is '{words[-1]}'" if words else "empty")


def floats(words: Sequence[str]) -> np.ndarray:
    """Words as finite float64 numbers.

    Raises:
        ValueError: one is no number, or not finite.
    """
    values = np.array([float(word) for word in words])
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ValueError(f"'{words[wrong[0]]}' is not finite")
    return values


def whole(word: str) -> int:
    """A word of digits as a number from 0 to ``LARGEST_NUMBER``.

    Raises:
        ValueError: it is something else.
    """
    if not (word.isascii() and word.isdigit()):
        raise ValueError(f"'{word}' is no whole number")
    if int(word[:20]) > LARGEST_NUMBER:
        raise ValueError(f"numbers go up to {LARGEST_NUMBER}, this one is {word[:20]}")
    return int(word)


def cut_short(content: str) -> bool:
    """Whether a text was cut in the middle of its last number.

    It does not end in white space, and its last number lacks digits: any at all where the others have equally many
    decimals, more than ``SPARE`` where they vary (a short number is then nothing special, and a cut that takes fewer
    digits changes it by less than the others are exact), or those of its exponent.

    >>> cut_short("0.125 0.250 0.3"), cut_short("0.125 0.250 0.300"), cut_short("0.125 0.250 0.3 ")
    (True, False, False)
    >>> cut_short("0.123456 0.12345678 0.123"), cut_short("0.123456 0.12345678 0.12")
    (False, True)
    """
    if not content or content[-1].isspace():
        return False
    *others, last = content.split()
    mantissa, has_exponent, exponent = last.lower().partition("e")
    if has_exponent:
        return len(exponent.lstrip("+-")) < 2
    forms = [word.lower() for word in others if "." in word]
    if not forms:
        return False
    if all("e" in word for word in forms):
        return True
    decimals = [_decimals(word) for word in forms]
    spare = 0 if min(decimals) == max(decimals) else SPARE
    return _decimals(mantissa) < min(decimals) - spare


def _decimals(word: str) -> int:
    """How many digits a number has behind its point."""
    return len(word.partition("e")[0].partition(".")[2])


def numbered(folder: Path, pattern: re.Pattern[str], suffixes: Sequence[str]) -> dict[int, Path]:
    """The files of a folder by the number in their names; empty if there is no such folder.

    Args:
        folder: where to look.
        pattern: of their names without the suffix; its first group is the number.
        suffixes: with the dot, in small letters, the preferred one first; capital ones are taken, too.

    Raises:
        UnreadableError: it is no folder, or may not be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise UnreadableError(folder, "is no folder") from None
    except OSError as error:
        raise refused(folder, error) from None
    found: dict[int, Path] = {}
    for path in paths:
        match = pattern.fullmatch(path.stem)
        rank = suffixes.index(path.suffix.lower()) if path.suffix.lower() in suffixes else None
        if match and rank is not None:
            number = int(match[1])
            if number not in found or rank < suffixes.index(found[number].suffix.lower()):
                found[number] = path
    return found


def gaps(wanted: range, there: Iterable[int]) -> list[range]:
    """The numbers of ``wanted`` that are not there, as runs; costs what is there, however much is wanted.

    >>> gaps(range(2, 9), [3, 4, 7, 20])
    [range(2, 3), range(5, 7), range(8, 9)]
    """
    runs, start = [], wanted.start
    for number in [*sorted({each for each in there if each in wanted}), wanted.stop]:
        if number > start:
            runs.append(range(start, number))
        start = number + 1
    return runs


def printable(words: object) -> str:
    """Text that any console takes: bytes of a path that are no characters are shown as such."""
    return str(words).encode("utf-8", "backslashreplace").decode("utf-8")
