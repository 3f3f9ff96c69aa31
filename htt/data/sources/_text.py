"""Readers of text files, numbers in text, and numbered files in a folder.

Values are never guessed: content that cannot be read as expected raises an ``UnreadableError`` that names the file. A
text that was cut within its last number is detected by the missing digits of that number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from htt.data.sources import UnreadableError
from htt.errors import DataError

MISSING = "is missing"
CUT_SHORT = "is truncated"
WRONG_NUMBERS = "has invalid numbers"

SPARE = 3
"""Number of decimals a number may have less than the shortest of the others, where the numbers vary in length."""
LARGEST_NUMBER = 999_999
"""Largest frame number, because names of frame files have six digits."""


def text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        UnreadableError: the file is missing, access is denied, or it is not text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise refused(path, error) from None
    except UnicodeDecodeError as error:
        raise UnreadableError(path, "is not text", f"byte {error.start} is not UTF-8") from None


def lines(path: Path) -> list[str]:
    """Read the lines of a list of the data set, without which nothing can be converted.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return text(path).splitlines()
    except UnreadableError as error:
        raise DataError(f"Cannot read a list: {printable(error)}. Check --root, or get the file again.") from None


def refuse(path: Path, expected: str, faults: Sequence[str]) -> None:
    """Raise ``DataError`` if the lines of a list have faults; ``expected`` describes valid ones."""
    if faults:
        raise DataError(f"Invalid {printable(path)}: expected {expected}; {'; '.join(faults)}. Get the file again.")


def refused(path: Path, error: OSError) -> UnreadableError:
    """Return the error for an ``OSError`` of opening a file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UnreadableError(path, MISSING)
    if isinstance(error, IsADirectoryError):
        return UnreadableError(path, "is a folder")
    return UnreadableError(path, "cannot be read", error.strerror or str(error))


def numbers(path: Path, count: int, content: str | None = None) -> np.ndarray:
    """Read [count] float64 numbers from a text file.

    Args:
        path: path of the file.
        count: required number of numbers. Missing digits of the last one are detected by ``cut_short``, not here.
        content: content of the file, or None to read it.

    Raises:
        UnreadableError: the file cannot be read, is truncated, or has other content.
    """
    words = (text(path) if content is None else content).split()
    if len(words) < count:
        raise cut(path, words)
    if len(words) > count:
        raise UnreadableError(path, WRONG_NUMBERS, f"expected {count}, got {len(words)}")
    try:
        return floats(words)
    except ValueError as error:
        raise UnreadableError(path, WRONG_NUMBERS, str(error)) from None


def cut(path: Path, words: Sequence[str]) -> UnreadableError:
    """Return the error for a file or line with too few words."""
    return UnreadableError(path, CUT_SHORT, f"{len(words)} numbers, the last is '{words[-1]}'" if words else "empty")


def floats(words: Sequence[str]) -> np.ndarray:
    """Convert words to finite float64 numbers.

    Raises:
        ValueError: a word is not a number, or not finite.
    """
    values = np.array([float(word) for word in words])
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ValueError(f"'{words[wrong[0]]}' is not finite")
    return values


def whole(word: str) -> int:
    """Convert a word of digits to an integer from 0 to ``LARGEST_NUMBER``.

    Raises:
        ValueError: the word is not such an integer.
    """
    if not (word.isascii() and word.isdigit()):
        raise ValueError(f"'{word}' is not a whole number")
    if int(word[:20]) > LARGEST_NUMBER:
        raise ValueError(f"the largest number is {LARGEST_NUMBER}, got {word[:20]}")
    return int(word)


def cut_short(content: str) -> bool:
    """Return True if a text was cut within its last number.

    That is the case if the text does not end in white space and its last number lacks digits: any decimals, if all
    other numbers have equally many; more than ``SPARE`` decimals, if they vary (a short number is then normal, and
    losing fewer digits changes it by less than the precision of the others); or digits of its exponent.

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
    """Return the number of digits after the decimal point."""
    return len(word.partition("e")[0].partition(".")[2])


def numbered(folder: Path, pattern: re.Pattern[str], suffixes: Sequence[str]) -> dict[int, Path]:
    """Return the files of a folder by the number in their names, or an empty dict if there is no such folder.

    Args:
        folder: folder to search.
        pattern: pattern of the names without suffix; the first group is the number.
        suffixes: accepted suffixes with the dot, in lower case, the preferred one first; case is ignored in file names.

    Raises:
        UnreadableError: it is not a folder, or access is denied.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise UnreadableError(folder, "is not a folder") from None
    except OSError as error:
        raise refused(folder, error) from None
    files: dict[int, Path] = {}
    for path in paths:
        match = pattern.fullmatch(path.stem)
        rank = suffixes.index(path.suffix.lower()) if path.suffix.lower() in suffixes else None
        if match and rank is not None:
            number = int(match[1])
            if number not in files or rank < suffixes.index(files[number].suffix.lower()):
                files[number] = path
    return files


def gaps(wanted: range, present: Iterable[int]) -> list[range]:
    """Return the missing numbers of ``wanted`` as ranges, at a cost that does not depend on the size of ``wanted``.

    >>> gaps(range(2, 9), [3, 4, 7, 20])
    [range(2, 3), range(5, 7), range(8, 9)]
    """
    runs, start = [], wanted.start
    for number in [*sorted({each for each in present if each in wanted}), wanted.stop]:
        if number > start:
            runs.append(range(start, number))
        start = number + 1
    return runs


def printable(words: object) -> str:
    """Return text that any console accepts: bytes of a path that are not valid UTF-8 are escaped."""
    return str(words).encode("utf-8", "backslashreplace").decode("utf-8")
