"""Drawn predictions of the best trial: from its checkpoint, on the frames, whatever it was trained on."""

import polars as pl
import pytest
from PIL import Image

from htt.evaluation import clip_table
from htt.testing import tiny_config
from htt.training.loop import fit
from htt.training.tasks import open_splits
from tune.execution import predictions


@pytest.fixture
def trained(tmp_path, tiny_splits):
    """A configuration and its checkpoint."""
    config = tiny_config(**{"train.epochs": 1})
    saved = []
    fit(config, open_splits(config), lambda _, checkpoint: saved.append(checkpoint), folder=tmp_path)
    return config, saved[-1]


def test_frames_are_drawn_from_best_to_worst_clip(trained, tmp_path, monkeypatch):
    config, checkpoint = trained
    drawn, overlay = [], predictions.overlay

    def noted(batch, prediction, index):
        drawn.append(int(batch.clip[0]))
        assert batch.frames.dim() == 4, "images, not features"
        return overlay(batch, prediction, index)

    monkeypatch.setattr(predictions, "overlay", noted)
    predictions.draw(config, checkpoint, tmp_path / "predictions.png")
    table = pl.read_parquet(checkpoint / clip_table.FILE).sort("hand_error_mm")
    ids = open_splits(config).val.ids
    assert [ids[clip] for clip in drawn] == table["clip"].to_list()[: predictions.SHOWN]
    with Image.open(tmp_path / "predictions.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


def test_nothing_is_drawn_without_annotated_hands(trained, tmp_path):
    config, checkpoint = trained
    table = pl.read_parquet(checkpoint / clip_table.FILE).with_columns(hand_error_mm=pl.lit(None, pl.Float64))
    table.write_parquet(checkpoint / clip_table.FILE)
    predictions.draw(config, checkpoint, tmp_path / "predictions.png")
    assert not (tmp_path / "predictions.png").exists()
