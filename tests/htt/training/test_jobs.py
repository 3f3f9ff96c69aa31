"""Jobs: what a data set lacks is left out, and what a search cannot do without is asked for."""

import pytest
import torch

from htt.data.prepare import prepare
from htt.errors import DataError
from htt.model.htt import HTT
from htt.testing import tiny_config
from htt.training.group import Group
from htt.training.jobs import metrics_of_test, open_splits, prepare_search


def test_the_test_split_is_evaluated_if_there_is_one(tmp_path, tiny_splits):
    config = tiny_config()
    model = HTT(config.model, tiny_splits.info)
    found = metrics_of_test(model, config, Group())
    assert found["test_hand_error_mm"] > 0
    assert all(name.startswith("test_") for name in found)


def test_data_without_a_test_split_give_nothing_after_a_whole_training(tmp_path, tiny_splits):
    without = without_splits(tmp_path, "test")
    config = tiny_config(**{"data.root": str(without)})
    assert metrics_of_test(HTT(config.model, tiny_splits.info), config, Group()) == {}


def test_a_search_on_data_without_validation_is_refused_before_it_starts(tmp_path):
    config = tiny_config(**{"data.root": str(without_splits(tmp_path, "val")), "data.held_out": 0.0})
    with pytest.raises(DataError, match=r"--set data\.held_out=0\.1"):
        prepare_search(config)
    held = tiny_config(**{"data.root": config.data.root, "data.held_out": 0.25})
    prepare_search(held)
    splits = open_splits(held)
    assert (len(splits.train), len(splits.val)) == (3, 1)


def without_splits(folder, *names):
    """The tiny benchmark as a data set that lacks some splits."""
    from htt.data import labels, manifest

    root = prepare(tiny_config())
    made = manifest.read(root)
    for file in (labels.NAME, *(shard.file for shards in made.splits.values() for shard in shards)):
        (folder / file).hardlink_to(root / file)
    kept = {name: shards for name, shards in made.splits.items() if name not in names}
    manifest.write(folder, made.model_copy(update={"splits": kept}))
    return folder


def test_batches_do_not_depend_on_torchs_random_state(tiny_splits):
    config = tiny_config()
    torch.manual_seed(0)
    model = HTT(config.model, tiny_splits.info).eval()
    first = metrics_of_test(model, config, Group())
    torch.manual_seed(1)
    assert metrics_of_test(model, config, Group()) == first
