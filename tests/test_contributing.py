"""The worked examples of CONTRIBUTING.md are plug-ins that work."""

import importlib
import re
from pathlib import Path

import pytest

import htt.data.sources
import htt.model.backbones
import htt.model.blocks
import tune.experiments.spaces
import tune.experiments.studies
from htt import registry
from htt.config import Config, DataConfig
from htt.testing import BackboneContract, BlockContract

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
"""{path: the text of the file}."""


@pytest.fixture(scope="module", autouse=True)
def plugins(tmp_path_factory):
    """Write each example as a file of its package, next to the project's own."""
    packages = {}
    for file, code in EXAMPLES.items():
        package = importlib.import_module(str(Path(file).parent).replace("/", "."))
        folder = packages.setdefault(package, tmp_path_factory.mktemp("plugins"))
        (folder / Path(file).name).write_text(code)
        package.__path__.append(str(folder))
    yield
    for package, folder in packages.items():
        package.__path__.remove(str(folder))


def test_examples_cover_all_kinds_of_plugins():
    assert {str(Path(file).parent) for file in EXAMPLES} == {
        "tune/experiments/spaces",
        "tune/experiments/studies",
        "htt/model/blocks",
        "htt/model/backbones",
        "htt/data/sources",
    }


def test_space_can_be_searched():
    space = registry.load(tune.experiments.spaces, "rates").SPACE
    space.check(space.start({}))


def test_study_can_be_planned():
    study = registry.load(tune.experiments.studies, "dropout").STUDY
    assert study.check(Config()) == []


class TestBlock(BlockContract):
    @pytest.fixture
    def name(self):
        assert "last" in registry.names(htt.model.blocks)
        return "last"


class TestBackbone(BackboneContract):
    @pytest.fixture
    def name(self):
        assert "patches" in registry.names(htt.model.backbones)
        return "patches"


def test_source_gives_its_clips():
    source = htt.data.sources.open_source("grey", config=DataConfig())
    for key in source.clips("train"):
        record, problems = source.read(key, 32, 32, 90)
        assert problems == []
        assert record.id == key.id
        assert record.frame_numbers == list(key.numbers)
        assert len(record.jpegs) == key.frames
