"""Jobs: what a data set lacks is left out, and what a search cannot do without is asked for."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from htt.data.loading.clips import Clips
from htt.data.prepare import prepare
from htt.data.shards import labels, manifest
from htt.errors import DataError
from htt.evaluation.metric_table import EVALUATED
from htt.evaluation.metrics import Evaluation
from htt.group import Group
from htt.model.htt import HTT
from htt.testing import random_batch, random_prediction, tiny_config, tiny_info
from htt.training.tasks import (
    OF_HAND_TYPES,
    check_given,
    check_trainable,
    incomplete,
    metrics_of_test,
    open_splits,
    prepare_search,
    unknown,
    unpredicted,
    without_truth,
)


def test_test_split_is_evaluated_if_present(tmp_path, tiny_splits):
    config = tiny_config()
    model = HTT(config.model, tiny_splits.info)
    found = metrics_of_test(model, config, Group())
    assert found["test_hand_error_mm"] > 0
    assert all(name.startswith("test_") for name in found)


def test_early_action_is_measured_on_request_alone(tiny_splits):
    model = HTT(tiny_config().model, tiny_splits.info)
    plain, early = (
        metrics_of_test(model, tiny_config(**{"runtime.early_action": asked}), Group()) for asked in (False, True)
    )
    assert early.keys() - plain.keys() == {"test_action_early_auc"}
    assert {name: early[name] for name in plain} == plain


def test_missing_test_split_gives_nothing(tmp_path, tiny_splits):
    without = without_splits(tmp_path, "test")
    config = tiny_config(**{"data.root": str(without)})
    assert metrics_of_test(HTT(config.model, tiny_splits.info), config, Group()) == {}


def test_empty_test_split_gives_nothing_and_is_stated(tmp_path, tiny_splits):
    """No clip of the test split could be read: the training keeps its result, and the gap is said."""
    folder = without_splits(tmp_path)
    made = manifest.read(folder)
    manifest.write(folder, made.model_copy(update={"splits": {**made.splits, "test": []}}))
    config = tiny_config(**{"data.root": str(folder)})
    assert metrics_of_test(HTT(config.model, tiny_splits.info), config, Group()) == {}
    (said,) = incomplete(config)
    clips = len(made.wanted["test"])
    assert said.startswith(f"Incomplete data: split 'test' has 0 of {clips} clips")
    assert incomplete(tiny_config()) == []


def test_prepare_search_refuses_data_without_validation(tmp_path):
    config = tiny_config(**{"data.root": str(without_splits(tmp_path, "val")), "data.held_out": 0.0})
    with pytest.raises(DataError, match=r"--set data\.held_out=0\.1"):
        prepare_search(config)
    held = tiny_config(**{"data.root": config.data.root, "data.held_out": 0.25})
    facts = prepare_search(held)
    accuracies = {"action_accuracy", "action_accuracy_hard", "action_early_auc", "object_accuracy"}
    assert set(facts.baselines) == {"hand_error_mm", *accuracies}
    splits = open_splits(held)
    assert (len(splits.train), len(splits.val)) == (3, 1)


def without_splits(folder, *names):
    """The tiny benchmark as a data set that lacks some splits."""
    root = prepare(tiny_config(), workers=1)
    made = manifest.read(root)
    for file in (labels.NAME, *(shard.file for shards in made.splits.values() for shard in shards)):
        (folder / file).hardlink_to(root / file)
    kept = {name: shards for name, shards in made.splits.items() if name not in names}
    manifest.write(folder, made.model_copy(update={"splits": kept}))
    return folder


class Labelled(list):
    """Clips of two frames, of which only labels are known."""

    def __init__(self, hands, valid, action=0):
        super().__init__(valid)
        self.info = tiny_info(hands)
        self.action, self.object = np.full(len(valid), action), np.zeros(len(valid), int)
        self.split = "val"

    def hand_valid(self, clip):
        return np.array([self[clip]] * 2)


def test_unavailable_metrics_are_named_with_the_reason():
    whole = unknown(Labelled(2, [(True, False), (False, True)]))
    assert whole == {}
    one = unknown(Labelled(1, [(True,)]))
    assert one["hand_error_left_mm"] == "the data have only the right hand"
    assert not [name for name in one if "left" not in name]
    left = unknown(Labelled(2, [(False, True)]))
    assert left["hand_auc_ra_left"] == "no frame of these clips has an annotated left hand"
    assert "hand_error_mm" not in left
    none = unknown(Labelled(2, [(False, False)], action=-1))
    assert none["hand_error_mm"] == none["loss_depth_m"] == "no frame of these clips has an annotated hand"
    assert none["action_accuracy"] == none["loss_action"] == "the actions of these clips are unknown"
    assert "object_accuracy" not in none
    assert "loss" not in none
    bare = Labelled(2, [], action=-1)
    bare.info = dataclasses.replace(bare.info, hand_types=())
    assert unknown(bare)["hand_type_accuracy"] == "the data do not name hand types"
    assert unknown(bare)["loss"] == "these clips have no labels"


def test_unavailable_metrics_equal_those_of_an_evaluation():
    """What is refused beforehand is what the evaluation of such clips lacks, and nothing else."""
    info = tiny_info()
    batch = random_batch(info, [3, 3])
    blind = dataclasses.replace(
        batch, joint_valid=torch.zeros_like(batch.joint_valid), action=torch.full_like(batch.action, -1)
    )
    evaluation = Evaluation(info)
    evaluation.update(random_prediction(info, blind), blind)
    missing = set(EVALUATED) - set(evaluation.result())
    assert missing == set(unknown(Labelled(2, [(False, False)] * 2, action=-1)))


def test_batches_ignore_torchs_random_state(tiny_splits):
    config = tiny_config()
    torch.manual_seed(0)
    model = HTT(config.model, tiny_splits.info).eval()
    first = metrics_of_test(model, config, Group())
    torch.manual_seed(1)
    assert metrics_of_test(model, config, Group()) == first


@pytest.mark.parametrize(
    ("given", "hand", "thing", "reasons"),
    [
        ([], False, -1, []),
        (["object"], False, 0, []),
        (["object"], True, -1, ["the objects of these clips are unknown"]),
        (["hands"], True, -1, []),
        (["hands"], False, 0, ["no frame of these clips has an annotated hand"]),
    ],
)
def test_given_cues_need_labelled_clips(given, hand, thing, reasons):
    clips, config = Labelled(2, [(hand, False)] * 2), tiny_config(**{"model.action.given": given})
    clips.object[:] = thing
    assert without_truth(config, clips) == reasons
    wrong = rf"given is {given}, but in split 'val' {reasons}\. Such a model gives an".replace("['", "").replace(
        "']", ""
    )
    with pytest.raises(DataError, match=wrong) if reasons else contextlib.nullcontext():
        check_given(config, clips)


def test_given_cues_are_refused_for_unlabelled_clips(tiny_splits, monkeypatch):
    config = tiny_config(**{"model.action.given": ["object"]})
    model = HTT(config.model, tiny_splits.info)
    assert metrics_of_test(model, config, Group())["test_action_accuracy"] >= 0
    read, blind = Clips._read_labels, ["train", "val", "test"]

    def unlabelled(clips):
        read(clips)
        clips.object[:] = np.where(clips.split in blind, -1, clips.object)

    monkeypatch.setattr(Clips, "_read_labels", unlabelled)
    monkeypatch.setattr(Clips, "_check_row", lambda *_: None)  # that the labels are those of the shards
    assert metrics_of_test(model, config, Group()) == {}
    for use, split in ((open_splits, "train"), (prepare_search, "val")):
        with pytest.raises(DataError, match=f"given is object, but in split '{split}' the objects of these clips are"):
            use(config)
    open_splits(tiny_config())
    blind[:] = ["val"]
    with pytest.raises(DataError, match="in split 'val' the objects of these clips are unknown"):
        open_splits(config)


def test_cue_of_hand_types_needs_data_that_name_them():
    clips, typed = Labelled(2, [(True, True)]), ["feature", "hand_type"]
    config = tiny_config(**{"model.action.cues": typed})
    check_trainable(config, clips)
    assert unpredicted(config, 30.0).keys() & OF_HAND_TYPES == set()
    assert (
        unpredicted(tiny_config(), 30.0)["hand_type_accuracy"]
        == "the model has no head for hand types (model.action.cues)"
    )
    clips.info = dataclasses.replace(clips.info, hand_types=())
    with pytest.raises(DataError, match="cues has hand_type, but the data do not name hand types"):
        check_trainable(config, clips)
    given = tiny_config(**{"model.action.cues": typed, "model.action.given": ["hand_type"]})
    with pytest.raises(DataError, match="given is hand_type, but in split 'val' the data do not name hand types"):
        check_given(given, clips)
