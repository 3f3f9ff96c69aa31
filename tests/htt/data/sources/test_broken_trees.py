"""Damaged folders of a data set: the conversion is refused in one sentence, or its shards are correct.

Folders are broken by a few changes at once. Then either the conversion refuses with one error that names a file, or
every frame of every clip equals what was written, and what is missing, or has hands that are not known, is named.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from damage import CHANGES, TEXT_ONLY, delete_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htt.data.conversion import state
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.loading.clips import open_split
from htt.data.sources import CLIP_LEFT_OUT, ClipRecord, Problem, Source, fpha, h2o, open_source
from htt.errors import DataError
from htt.testing.trees import TrueClip, write_fpha, write_h2o
from htt.testing.truth import check_clip

ROOTS = ("plain", "Größe 手", os.fsdecode(b"caf\xe9"))
"""Names of the folder; the last one is not UTF-8."""
H2O_LABELS = {
    "train": ["1 subject1/h1/0 16 0 4 0 9", "2 subject1/h1/0 8 5 7 0 9", "3 subject2/o2/3 27 10 13 10 13"],
    "test": ["1 subject4/h1/0 0 4 0 500"],
}


class Tree:
    """Undamaged folder, and its true content; no data class, which a failing example would show in full."""

    def __init__(self, kind: str, root: Path, clips: list[TrueClip], kinds: tuple[str, ...]) -> None:
        self.kind, self.root, self.clips = kind, root, clips
        paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        self.files = [[path for path in paths if part in path] for part in kinds]
        """Files by kind, so that the few important ones are damaged as often as the many others."""
        info = open_source(kind, root).info(64, 36)
        self.actions, self.objects = list(info.actions), list(info.objects)


@pytest.fixture(scope="module")
def h2o_tree(tmp_path_factory: pytest.TempPathFactory, monkeymodule: pytest.MonkeyPatch) -> Tree:
    root = tmp_path_factory.mktemp("h2o")
    clips = write_h2o(root, H2O_LABELS, width=64, height=36, pose_lists=True)
    published = {split: (len(H2O_LABELS[split]), frames) for split, frames in (("train", 12), ("test", 5))}
    monkeymodule.setattr(h2o, "PUBLISHED", published)
    kinds = ("action_labels/", "label_split/", "cam_intrinsics", "/rgb/", "/hand_pose/", "/obj_pose/")
    return Tree("h2o", root, clips, kinds)


@pytest.fixture(scope="module")
def fpha_tree(tmp_path_factory: pytest.TempPathFactory, monkeymodule: pytest.MonkeyPatch) -> Tree:
    root = tmp_path_factory.mktemp("fpha")
    clips = write_fpha(root, {"train": 3, "test": 2}, width=64, height=36, frames=6)
    monkeymodule.setattr(fpha, "PUBLISHED", {"train": 3, "test": 2})
    monkeymodule.setattr(fpha, "PUBLISHED_FRAMES", sum(len(clip.numbers) for clip in clips))
    return Tree("fpha", root, clips, ("data_split", "action_object", "_info.txt", "skeleton.txt", "/color/"))


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


Done = tuple[int, int, Callable[[Path, int], None], int]
"""(number of the kind of file, number of the file, change, amount)"""


def changes() -> st.SearchStrategy[list[Done]]:
    number = st.integers(0, 99_999)
    return st.lists(st.tuples(number, number, st.sampled_from(CHANGES), number), min_size=2, max_size=4)


def _break(tree: Tree, root: Path, done: Sequence[Done]) -> None:
    shutil.copytree(tree.root, root, copy_function=os.link)
    for kind, which, change, amount in done:
        files = tree.files[kind % len(tree.files)]
        path = root / files[which % len(files)]
        fits = path.suffix == ".txt" if change in TEXT_ONLY else change is not delete_folder or path.parent != root
        if fits and path.is_file() and path.stat().st_size:
            change(path, amount)


def _check(tree: Tree, name: str, done: Sequence[Done]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / name, Path(folder) / "out"
        _break(tree, root, done)
        try:
            source = open_source(tree.kind, root)
            differences = source.differences()
            keys = {(split, key.id): key.numbers for split in source.splits for key in source.clips(split)}
            made, problems = convert(source, out, Making(64, 36), workers=1)
        except DataError as error:
            _check_refusal(str(error))
            return
        told = " ".join(differences)
        assert made.actions == tree.actions or "actions" in told
        assert made.objects == tree.objects or "objects" in told
        by_split = state.problems(out)
        assert sum(map(len, by_split.values())) == len(problems)
        clips = [(split, clip) for split in made.splits if made.count(split)[0] for clip in open_split(out, split)]
        found = {(split, clip.id): clip for split, clip in clips}
        assert len(found) == len(clips)
        assert not set(found) - {(true.split, true.id) for true in tree.clips}
        for true in tree.clips:
            wanted = keys.get((true.split, true.id))
            if wanted is None:
                assert any(line.startswith(true.split) for line in differences), f"{true.id} is not missed"
            else:
                _check_named(true, found.get((true.split, true.id)), wanted, by_split.get(true.split, []))


def _check_refusal(message: str) -> None:
    """Check that the message names a file and can be printed."""
    assert message.encode()
    assert re.search(r"\.txt|\.png|\.jpeg", message), message


def _check_named(true: TrueClip, record: ClipRecord | None, wanted: range, problems: list[Problem]) -> None:
    """Check that present data are correct, and that each lost frame is named with the file that caused it."""
    own = [problem for problem in problems if _is_about(problem, true)]
    if record is None:
        assert any(problem.effect == CLIP_LEFT_OUT for problem in own), f"{true.id} is not named: {problems}"
        return
    lost = check_clip(record, true)
    for number in lost.frames:
        assert any(_names(problem, number, wanted, hands=False) for problem in own), f"{true.id}, {number}: {own}"
    for number in lost.hands:
        assert any(_names(problem, number, wanted, hands=True) for problem in own), f"{true.id}, {number}: {own}"
    if lost.object:
        assert any(problem.effect == "object not known" for problem in own)


def _is_about(problem: Problem, true: TrueClip) -> bool:
    recording = {f"{split}-{row.split()[0]}": row.split()[1] for split in H2O_LABELS for row in H2O_LABELS[split]}
    place = true.id if "/" in true.id else recording[f"{true.split}-{true.id}"]
    return f"{place}/" in f"{problem.what}/" or problem.what == f"clip {true.id}"


def _names(problem: Problem, number: int, wanted: range, hands: bool) -> bool:
    if number not in wanted:
        beyond = (" continues beyond its clip", " has no number of frames in Subjects_info")
        return any(str(problem).find(words) > 0 for words in beyond)
    pattern = r"(?:hand_pose/|frame )(\d+)" if hands else r"/(?:color_)?(\d+)\.(?:png|jpeg)"
    first = re.search(pattern, problem.what)
    last = re.search(r" to (?:color_|frame )?(\d+)", problem.what) or first
    effect = "hands not known" if hands else "frame left out"
    return bool(first and last and problem.effect == effect and int(first[1]) <= number <= int(last[1]))


SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_convert_is_never_silently_wrong_after_one_change(
    change: Callable[[Path, int], None], h2o_tree: Tree, fpha_tree: Tree
):
    for tree in (h2o_tree, fpha_tree):
        for kind in range(len(tree.files)):
            for amount in (0, 2, 7):
                if change not in TEXT_ONLY or tree.files[kind][0].endswith(".txt"):
                    _check(tree, ROOTS[amount % 2], [(kind, amount // 2, change, amount)])


@SETTINGS
@given(name=st.sampled_from(ROOTS), done=changes())
def test_h2o_is_never_silently_wrong(h2o_tree: Tree, name: str, done) -> None:
    _check(h2o_tree, name, done)


@SETTINGS
@given(name=st.sampled_from(ROOTS), done=changes())
def test_fpha_is_never_silently_wrong(fpha_tree: Tree, name: str, done) -> None:
    _check(fpha_tree, name, done)


@pytest.mark.parametrize("kind", ["h2o", "fpha"])
@pytest.mark.parametrize("name", ROOTS)
def test_convert_of_undamaged_tree_finds_no_problems(
    kind: str, name: str, h2o_tree: Tree, fpha_tree: Tree, tmp_path: Path
) -> None:
    tree = h2o_tree if kind == "h2o" else fpha_tree
    shutil.copytree(tree.root, tmp_path / name, copy_function=os.link)
    source: Source = open_source(kind, tmp_path / name)
    assert source.differences() == []
    made, problems = convert(source, tmp_path / "out", Making(64, 36), workers=1)
    assert problems == []
    assert sum(made.count(split)[1] for split in made.splits) == sum(len(clip.numbers) for clip in tree.clips)
