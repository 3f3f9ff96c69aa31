"""Folder of H2O for tests to damage, and its true content."""

import shutil
import sys
from pathlib import Path

import pytest

from htt.testing.trees import TrueClip, write_h2o

sys.path.insert(0, str(Path(__file__).parent / "trees"))
from h2o_folder import rows


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrueClip]]:
    root = tmp_path_factory.mktemp("h2o")
    return root, write_h2o(root, {"train": rows("train", 32, 438), "test": rows("test", 27)}, width=96, height=54)


@pytest.fixture
def root(written: tuple[Path, list[TrueClip]], tmp_path: Path) -> Path:
    """Copy of the folder, for a test to damage."""
    return Path(shutil.copytree(written[0], tmp_path / "h2o"))


@pytest.fixture
def true(written: tuple[Path, list[TrueClip]]) -> dict[str, TrueClip]:
    return {clip.id: clip for clip in written[1]}
