"""Messages of a source about files that it cannot read."""

import pickle
from pathlib import Path

from htt.data.sources import ClipKey, Problem, UnreadableError


def test_problem_prints_as_a_sentence() -> None:
    assert str(Problem("a/b.png", "is missing", "frame left out")) == "a/b.png is missing; frame left out"
    problem = Problem("a.txt", "has invalid numbers", "hands not known", "3 of 126", 1)
    assert str(problem) == "a.txt has invalid numbers (3 of 126); hands not known"


def test_unreadable_error_names_its_file_and_pickles() -> None:
    error = UnreadableError(Path("/data/h2o/a/b.txt"), "is truncated", "3 of\n 126")
    assert str(error) == "/data/h2o/a/b.txt is truncated (3 of 126)"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == (str(error), "is truncated")


def test_clip_key_numbers_start_at_first_frame() -> None:
    assert list(ClipKey("1", 3, None, first=7).numbers) == [7, 8, 9]
