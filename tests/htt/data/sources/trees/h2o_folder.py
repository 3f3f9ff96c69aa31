"""H2O's folder as tests write and read it: two training clips and a test clip, with real rows of the label files."""

from pathlib import Path

from htt.data.sources import ClipRecord, Problem, open_source
from htt.testing.truth import Lost

GOLDEN = Path(__file__).parents[4] / "golden/h2o_labels"
NOTHING = Lost([], [], False)
TRAIN = "subject1/h1/6/cam4"
"""Folder of the first training clip, frames 0 to 21."""
TEST = "subject4/h1/5/cam4"
"""Folder of the test clip, frames 96 to 129."""


def rows(split: str, *ids: int) -> list[str]:
    """Return real rows of a label file."""
    lines = (GOLDEN / f"action_{split}.txt").read_text().splitlines()[1:]
    return [line for line in lines if int(line.split()[0]) in ids]


def read(root: Path, clip: str = "32", split: str = "train") -> tuple[ClipRecord | None, list[str]]:
    source = open_source("h2o", root)
    key = next(each for each in source.clips(split) if each.id == clip)
    record, problems = source.read(key, 96, 54, 92)
    assert all(isinstance(problem, Problem) for problem in problems)
    return record, [str(problem) for problem in problems]
