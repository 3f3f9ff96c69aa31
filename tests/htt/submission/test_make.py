"""Predictions are written unchanged, under the right clip and frame; incomplete predictions are not written."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from htt.data.loading.clips import open_split
from htt.data.loading.windows import evaluation_windows
from htt.errors import CheckpointError, DataError, StorageError
from htt.submission.check import check
from htt.submission.form import Expected, expected
from htt.submission.make import Predicted, predict, require_frames, write
from htt.training.checkpoint import load


def contents(path):
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        return name, json.loads(archive.read(name))


@pytest.fixture(scope="module")
def opened(h2o, trained):
    model, record = load(trained)
    return model, open_split(h2o, "test"), record.config


def window_by_window(model, clips, config):
    """Return predictions made one window at a time: probabilities of each window, and joints of each frame."""
    soft, joints = {}, {}
    for window in evaluation_windows(clips.frame_counts, config):
        id_ = clips.ids[window.clip]
        intrinsics = torch.from_numpy(clips.intrinsics[window.clip : window.clip + 1]).float()
        with torch.inference_mode():
            said = model(
                clips.decode(window.clip, window.frames), torch.ones(1, len(window.frames), dtype=bool), intrinsics
            )
        soft.setdefault(id_, []).append(said.action_logits.double().softmax(-1)[0].numpy())
        for frame, joints_m in zip(window.frames, said.joints_m, strict=True):
            joints[id_, int(clips.frame_numbers(window.clip)[frame])] = joints_m.numpy()
    return soft, joints


def test_write_stores_predictions_of_each_clip_and_frame(opened, h2o, tmp_path):
    soft, joints = window_by_window(*opened)
    assert [len(soft[id_]) for id_ in "123"] == [4, 2, 1]
    seen = []
    paths = write(tmp_path, predict(*opened, on_frames=seen.append), expected(h2o, "test"))
    assert [str(path.relative_to(tmp_path)) for path in paths] == ["action_labels/answer.zip", "hand_poses/answer.zip"]
    assert sum(seen) == 26

    name, labels = contents(paths[0])
    assert name == "action_labels.json"
    assert labels == {"modality": "RGB", **{id_: int(np.sum(soft[id_], axis=0).argmax()) + 1 for id_ in "123"}}

    name, poses = contents(paths[1])
    assert name == "hand_poses.json"
    assert poses.pop("modality") == "RGB"
    assert list(poses["1"]) == [f"{number:06d}.txt" for number in range(20)]
    assert list(poses["2"]) == [f"{number:06d}.txt" for number in range(109, 114)]
    assert list(poses["3"]) == ["000040.txt"]
    for (id_, number), joints_m in joints.items():
        np.testing.assert_allclose(poses[id_][f"{number:06d}.txt"], joints_m.ravel(), rtol=0, atol=2e-6)
    assert all(check(path, expected(h2o, "test")).faults == [] for path in paths)


class Says(torch.nn.Module):
    """Model that returns the given action logits of its windows."""

    def __init__(self, model, action_logits):
        super().__init__()
        self.model, self.action_logits = model, action_logits

    def forward(self, *seen, **known):
        return replace(self.model(*seen, **known), action_logits=self.action_logits)


def test_predict_soft_vote_adds_probabilities_hard_vote_counts(opened):
    model, clips, config = opened
    logits = torch.zeros(7, 36)  # four windows of clip 1, two of clip 2, one of clip 3
    for window, action, logit in ((0, 5, 1), (1, 5, 1), (2, 7, 9), (3, 9, 1), (4, 0, 2), (5, 1, 3), (6, 35, 1)):
        logits[window, action] = logit
    says = Says(model, logits)
    assert predict(says, clips, config).actions == {"1": 7, "2": 1, "3": 35}
    assert predict(says, clips, config, vote="hard").actions == {"1": 5, "2": 1, "3": 35}


def test_require_frames_names_frames_missing_from_shards(write_h2o, tmp_path):
    root = write_h2o(tmp_path, left_out={"1": {0, 5, 6, 7, 19}, "3": {40}})
    with pytest.raises(DataError) as caught:
        require_frames(open_split(root, "test"), expected(root, "test"))
    assert "  - missing: clip 3\n  - missing: clip 1: frames 0, 5-7, 19\n" in str(caught.value)
    assert f"{root}/left_out.txt gives the reasons" in str(caught.value)


def test_expected_refuses_data_without_evaluation_server(write_h2o, tmp_path):
    root = write_h2o(tmp_path, source="fpha")
    with pytest.raises(DataError, match=r"holds fpha\. Evaluate it with: python -m htt.evaluate"):
        expected(root, "test")


def test_predict_refuses_nan(opened):
    model, clips, config = opened
    for parameter in (model.action_head.bias, model.pose_head.layers[-1].bias):
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter[0] = float("nan")
        try:
            with pytest.raises(CheckpointError, match="The predictions are not finite in clips 1-3"):
                predict(model, clips, config)
        finally:
            with torch.no_grad():
                parameter.copy_(before)


def predictions(frames, value=0.5):
    joints = {clip: {n: np.full((42, 3), value, np.float32) for n in numbers} for clip, numbers in frames.items()}
    return Predicted(dict.fromkeys(frames, 3), joints)


WANTED = {"4": range(3), "5": range(10, 12)}


def test_write_refuses_incomplete_predictions(tmp_path):
    for predicted, says in (
        (predictions({"4": range(3)}), "missing: clip 5"),
        (predictions({"4": range(2), "5": range(10, 12)}), "missing: clip 4: frame 2"),
        (predictions({**WANTED, "6": range(1)}), "unexpected: clip 6"),
        (predictions(WANTED, np.nan), "numbers must be finite, not nan: clip 4: frames 0-2"),
        (Predicted({"4": 3}, predictions(WANTED).joints_m), "missing: clip 5"),
    ):
        with pytest.raises(DataError, match=says):
            write(tmp_path / "out", predicted, Expected(WANTED))
        assert not (tmp_path / "out").exists()


def test_write_keeps_older_file_on_full_disk(tmp_path, monkeypatch):
    paths = write(tmp_path, predictions(WANTED), Expected(WANTED))
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write(tmp_path, predictions(WANTED), Expected(WANTED))] == before

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write(tmp_path, predictions(WANTED, 0.75), Expected(WANTED))
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["answer.zip", "answer.zip"]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.integers(1, 400).map(str),
        st.tuples(st.integers(0, 999_990), st.integers(1, 4), st.integers(0, 35)),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**32 - 1),
    st.floats(1e-7, 1e3),
)
def test_write_makes_files_that_pass_check(tmp_path_factory, clips, seed, scale):
    random = np.random.default_rng(seed)
    wanted = Expected({id_: range(first, first + count) for id_, (first, count, _) in clips.items()})
    joints = {
        id_: {number: (scale * random.standard_normal((42, 3))).astype(np.float32) for number in numbers}
        for id_, numbers in wanted.frames.items()
    }
    predicted = Predicted({id_: action for id_, (_, _, action) in clips.items()}, joints)
    paths = write(tmp_path_factory.mktemp("written"), predicted, wanted)
    of_labels, of_poses = (check(path, wanted).faults for path in paths)
    (_, labels), (_, poses) = map(contents, paths)
    frames = [np.array(frame).reshape(-1, 3) for clip in wanted.frames for frame in poses[clip].values()]
    distance_m = np.median([np.median(np.linalg.norm(frame, axis=1)) for frame in frames])
    assert of_labels == []
    assert len(of_poses) == (not 0.1 <= distance_m <= 5.0), of_poses
    assert {id_: labels[id_] - 1 for id_ in clips} == predicted.actions
    for id_, frames in joints.items():
        for number, joints_m in frames.items():
            np.testing.assert_allclose(poses[id_][f"{number:06d}.txt"], joints_m.ravel(), rtol=0, atol=5.1e-7)
