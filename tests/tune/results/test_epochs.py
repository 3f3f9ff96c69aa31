"""What is on disk of the epochs of trials under way: all that was told, whatever cut it short."""

import pytest

from htt.errors import StorageError
from tune.results.epochs import TrialEpochs


def test_epochs_are_read_back(tmp_path):
    first = TrialEpochs(tmp_path / "epochs.jsonl")
    first.add("a", 1, {"loss": 0.1 + 0.2})
    first.add("b", 1, {"loss": 3.0, "hand_error_mm": 55.5})
    first.add("a", 2, {"loss": 0.25})
    for history in (first, TrialEpochs(tmp_path / "epochs.jsonl")):
        assert history.of("a") == {1: {"loss": 0.1 + 0.2}, 2: {"loss": 0.25}}
        assert history.of("b") == {1: {"loss": 3.0, "hand_error_mm": 55.5}}
        assert history.of("c") == {}


def test_repeated_epoch_counts_once(tmp_path):
    history = TrialEpochs(tmp_path / "epochs.jsonl")
    for loss in (2.0, 1.0):
        history.add("a", 1, {"loss": loss})
    assert history.of("a") == TrialEpochs(tmp_path / "epochs.jsonl").of("a") == {1: {"loss": 1.0}}


@pytest.mark.parametrize("left", [1, 10, 40])
def test_truncated_line_is_dropped_and_the_next_is_whole(tmp_path, left):
    file = tmp_path / "epochs.jsonl"
    before = TrialEpochs(file)
    before.add("a", 1, {"loss": 2.0})
    whole = file.read_bytes()
    before.add("a", 2, {"loss": 1.0})
    file.write_bytes(file.read_bytes()[: len(whole) + left])
    after = TrialEpochs(file)
    assert after.of("a") == {1: {"loss": 2.0}}
    after.add("a", 2, {"loss": 0.5})
    assert TrialEpochs(file).of("a") == {1: {"loss": 2.0}, 2: {"loss": 0.5}}


def test_forget_removes_the_epochs_of_a_trial(tmp_path):
    history = TrialEpochs(tmp_path / "epochs.jsonl")
    history.add("a", 1, {"loss": 2.0})
    history.forget("a")
    history.forget("a")
    assert history.of("a") == {}


def test_full_disk_is_one_sentence(tmp_path):
    file = tmp_path / "epochs.jsonl"
    history = TrialEpochs(file)
    file.symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full"):
        history.add("a", 1, {"loss": 2.0})
