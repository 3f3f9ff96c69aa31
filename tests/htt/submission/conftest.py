"""Small shards in the form of H2O's test split, and a checkpoint of a tiny model for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch

from htt.data.shards import arrow, manifest
from htt.data.sources import ClipRecord
from htt.info import DataInfo
from htt.model.htt import HTT
from htt.presets import poses
from htt.testing import tiny_config
from htt.training import checkpoint
from htt.vocabulary import ACTIONS, OBJECTS

WIDTH, HEIGHT = 64, 36
TEST_CLIPS = {"1": range(20), "2": range(109, 114), "3": range(40, 41)}
INFO = DataInfo("h2o", ACTIONS, OBJECTS, 2, WIDTH, HEIGHT)


@pytest.fixture(scope="session")
def write_h2o() -> Callable[..., Path]:
    """Return a function that writes shards of a test split without actions and without frames ``left_out``."""
    return _write


@pytest.fixture(scope="session")
def h2o(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete test split."""
    return _write(tmp_path_factory.mktemp("h2o"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model, whose windows are shorter than the longest clip."""
    return _train(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model whose block A is given the true object."""
    return _train(tmp_path_factory.mktemp("oracle"), **{"model.action.given": ["object"]})


@pytest.fixture(scope="session")
def without_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model without an image encoder."""
    return _train(tmp_path_factory.mktemp("poses"), **poses.PRESET)


def _train(folder: Path, **overrides: Any) -> Path:
    torch.manual_seed(1)
    config = tiny_config(**{"data.source": "h2o", "data.spacing": 2, **overrides})
    model = HTT(config.model, INFO)
    optimizer = torch.optim.Adam(model.parameters())
    return checkpoint.save(folder / "checkpoint", model, optimizer, checkpoint.Progress(1), config, INFO, {})


def _write(root: Path, left_out: dict[str, set[int]] | None = None, source: str = "h2o") -> Path:
    writer = arrow.ShardWriter(root, "test")
    for id_, wanted in TEST_CLIPS.items():
        numbers = [number for number in wanted if number not in (left_out or {}).get(id_, ())]
        if numbers:
            writer.add(_record(id_, numbers))
    shard = writer.close()
    manifest.write(
        root,
        manifest.Manifest(
            source=source,
            actions=list(ACTIONS),
            objects=list(OBJECTS),
            hands=2,
            width=WIDTH,
            height=HEIGHT,
            quality=92,
            pixels="noise",
            splits={"test": [shard] if shard else []},
            wanted={"test": [manifest.Wanted(id=id_, first=f.start, frames=len(f)) for id_, f in TEST_CLIPS.items()]},
        ),
    )
    return root


def _record(id_: str, numbers: list[int]) -> ClipRecord:
    random = np.random.default_rng(int(id_))
    images = random.integers(0, 256, (len(numbers), HEIGHT, WIDTH, 3), dtype=np.uint8)
    return ClipRecord(
        id=id_,
        subject="subject4",
        action=-1,
        object=-1,
        intrinsics=np.array([[60.0, 0, 32], [0, 61, 18], [0, 0, 1]]),
        width=WIDTH,
        height=HEIGHT,
        frame_numbers=numbers,
        jpegs=[simplejpeg.encode_jpeg(image, 92) for image in images],
        joints_m=np.zeros((len(numbers), 42, 3), np.float32),
        hand_valid=np.zeros((len(numbers), 2), bool),
    )
