"""A trained model on frames of any size: the numbers of an evaluation, in the pixels of the given frames."""

import numpy as np
import pytest
import torch
from PIL import Image

from htt.config import override
from htt.data.loading.windows import evaluation_windows
from htt.errors import CheckpointError, ConfigError, DataError
from htt.inference import Predictor
from htt.inference.predictor import joined
from htt.testing import tiny_config, tiny_info
from htt.training import checkpoint
from htt.training.loop import evaluate
from htt.training.tasks import open_splits


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor.load(trained)


def test_prediction_equals_evaluation_on_the_same_pixels(predictor, clip, one_clip):
    batches = []
    evaluate(predictor.model, open_splits(one_clip).val, one_clip, on_batch=lambda *both: batches.append(both))
    found = predictor(*clip)
    frames = np.concatenate([batch.frame for batch, _ in batches])
    assert sorted(frames) == list(range(len(found.joints_px)))
    for name in ("joints_px", "joints_m"):
        expected = np.concatenate([getattr(prediction, name) for _, prediction in batches])
        np.testing.assert_array_equal(getattr(found, name)[frames], expected)
    objects = torch.cat([prediction.object_logits for _, prediction in batches]).softmax(dim=-1)
    np.testing.assert_array_equal(found.object_probabilities[frames], objects)
    actions = torch.cat([prediction.action_logits for _, prediction in batches]).double().softmax(dim=-1)
    np.testing.assert_array_equal(found.action_probabilities, actions)
    for index, window in enumerate(evaluation_windows([len(frames)], one_clip)):
        assert (found.window[window.frames] == index).all()


def test_predictor_accepts_frames_of_any_layout_and_type(predictor, clip):
    frames, intrinsics = clip
    expected = predictor(frames, intrinsics)
    channels_first = torch.from_numpy(frames).permute(0, 3, 1, 2)
    forms = [list(frames), channels_first, channels_first.float() / 255, frames.astype(np.float64) / 255]
    for form in forms:
        found = predictor(form, torch.from_numpy(intrinsics))
        np.testing.assert_array_equal(found.joints_m, expected.joints_m)


def test_chunks_of_a_video_give_the_result_of_the_whole(predictor, clip):
    frames, intrinsics = clip
    whole = predictor(frames, intrinsics)
    assert predictor.chunk == 6 < len(frames)
    parts = joined([predictor(frames[first : first + 6], intrinsics) for first in range(0, len(frames), 6)])
    np.testing.assert_array_equal(parts.window, whole.window)
    np.testing.assert_allclose(parts.joints_m, whole.joints_m, atol=1e-6)
    np.testing.assert_allclose(parts.action_probabilities, whole.action_probabilities, atol=1e-6)


def test_one_frame_is_predicted(predictor, clip):
    found = predictor(clip[0][:1], clip[1])
    assert found.joints_m.shape == (1, 42, 3)
    assert found.action_probabilities.shape == (1, 36)
    assert found.window.tolist() == [0]


def test_one_hand_has_21_joints(tmp_path, clip, save):
    config = tiny_config()
    predictor = Predictor.load(save(tmp_path / "checkpoint", config, tiny_info(hands=1)))
    found = predictor(*clip)
    assert found.joints_px.shape[1:] == (21, 2)
    assert len(found.top_actions(9)) == 4


def test_top_actions_are_the_means_of_the_windows(predictor, clip):
    found = predictor(*clip)
    top = found.top_actions()
    mean = found.action_probabilities.mean(axis=0)
    assert [value for _, value in top] == sorted(mean.tolist(), reverse=True)[:3]
    assert top[0][0] == found.info.actions[mean.argmax()]
    names = [name for name, _ in found.objects()]
    assert names == [found.info.objects[each] for each in found.object_probabilities.argmax(axis=1)]


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize("size", [(128, 72), (128, 128), (33, 97), (64, 36), (640, 36), (21, 17)])
def test_fitting_keeps_the_direction_of_points(predictor, size, fit):
    """A point in space is at the same place of the image, whether its frame or the image's camera projects it."""
    from htt.camera import intrinsics, project

    fitted = predictor.fitting(*size, fit)
    matrix = intrinsics(1.1 * size[0], 0.9 * size[0], 0.45 * size[0], 0.6 * size[1])
    points = np.random.default_rng(0).normal([0, 0, 5], 1, (50, 3))
    in_frame, in_image = project(points, matrix), project(points, fitted.intrinsics(matrix))
    np.testing.assert_allclose(fitted.frame_px(in_image), in_frame, atol=1e-6 * max(size))
    corners = fitted.frame_px(np.array([[0.0, 0.0], [64.0, 36.0]]))
    inside = (corners >= -1e-6).all() and (corners <= np.array(size) + 1e-6).all()
    outside = (corners[0] <= 1e-6).all() and (corners[1] >= np.array(size) - 1e-6).all()
    assert inside if fit == "crop" else outside


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize("size", [(256, 144), (160, 120), (120, 160)])
def test_pixels_move_as_the_intrinsics_say(predictor, size, fit):
    """A bright square is where the map says, in frames that are wider or higher than the model's images."""
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    x, y = size[0] // 2 + 13, size[1] // 2 - 9
    frame[y - 8 : y + 8, x - 8 : x + 8] = 255
    fitted = predictor.fitting(*size, fit)
    image = fitted.image(frame)[..., 0].astype(float)
    assert image.shape == (36, 64)
    rows, columns = np.mgrid[:36, :64] + 0.5
    centre = np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()
    np.testing.assert_allclose(fitted.frame_px(centre), [x, y], atol=0.1 * size[0] / 64)


def test_letterbox_is_black_outside_the_frame(predictor):
    image = predictor.fitting(100, 100, "letterbox").image(np.full((100, 100, 3), 200, np.uint8))
    assert (image[:, 14:50] == 200).all()
    assert not image[:, :14].any()
    assert not image[:, 50:].any()


def test_larger_frames_give_joints_in_their_own_pixels(predictor, clip):
    """The same view in twice the size: twice the pixels, the same points in space."""
    frames, intrinsics = clip
    large = frames.repeat(2, axis=1).repeat(2, axis=2)
    resized = [Image.fromarray(frame).resize((64, 36), Image.Resampling.BILINEAR) for frame in large]
    small = predictor(np.stack([np.asarray(image) for image in resized]), intrinsics)
    found = predictor(large, np.diag([2.0, 2, 1]) @ intrinsics)
    np.testing.assert_allclose(found.joints_px, 2 * small.joints_px, rtol=1e-6)
    np.testing.assert_array_equal(found.joints_m, small.joints_m)


def test_fused_batch_norm_changes_numbers_by_rounding_only(trained, predictor, clip):
    with torch.no_grad():
        for module in predictor.model.modules():  # an untrained batch norm is nearly the identity
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2)
    from htt.inference.predictor import fuse_batch_norm

    fused = Predictor.load(trained)
    fused.model.load_state_dict(predictor.model.state_dict())
    assert fuse_batch_norm(fused.model) == 12
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.model.modules())
    expected, found = predictor(*clip), fused(*clip)
    np.testing.assert_allclose(found.joints_m, expected.joints_m, atol=1e-5)
    assert Predictor.load(trained, fuse=True).model.features.backbone.network is not None


def test_half_precision_is_close(trained, predictor, clip):
    found = Predictor.load(trained, precision="bf16")(*clip)
    assert found.joints_m.dtype == np.float32
    assert 0 < np.abs(found.joints_m - Predictor.load(trained)(*clip).joints_m).max() < 5e-3


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("block", ["transformer", "lstm"])
def test_half_precision_equals_that_of_an_evaluation(tmp_path, save, one_clip, clip, trained, block):
    values = {"train.precision": "bf16", "model.backbone.trained": trained, "model.backbone.weights": "rendered",
              "model.pose.block": block, "model.action.block": block}  # fmt: skip
    config = override(one_clip, values)
    folder, predictions = save(tmp_path / "checkpoint", config), []
    model, _ = checkpoint.load(folder)
    evaluate(model, open_splits(one_clip).val, config, on_batch=lambda batch, found: predictions.append(found))
    found, expected = Predictor.load(folder)(*clip), torch.cat([each.joints_m for each in predictions])
    np.testing.assert_array_equal(np.sort(found.joints_m.ravel()), np.sort(expected.numpy().ravel()))


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((4, 36, 64), np.uint8), "[4, 36, 64] uint8"),
        (np.zeros((4, 36, 64, 3), np.int32), "int32"),
        (np.zeros((0, 36, 64, 3), np.uint8), "no frames"),
        ([np.zeros((36, 64, 3), np.uint8), np.zeros((36, 65, 3), np.uint8)], "several sizes"),
        (np.full((1, 36, 64, 3), 200.0), "0 to 1"),
        (np.full((1, 36, 64, 3), np.nan), "nan"),
    ],
)
def test_invalid_frames_are_refused(predictor, clip, frames, words):
    with pytest.raises(DataError) as error:
        predictor(frames, clip[1])
    assert words in str(error.value) or "Divide them by 255" in str(error.value)


@pytest.mark.parametrize(
    "matrix",
    [np.eye(4), np.zeros((3, 3)), "focal", [500, 500, 320, 180], np.diag([-1.0, 1, 1]), np.full((3, 3), np.nan)],
)
def test_invalid_intrinsics_are_refused(predictor, clip, matrix):
    with pytest.raises(ConfigError, match="intrinsics must be a camera matrix"):
        predictor(clip[0], matrix)


def test_unknown_fit_is_refused(predictor, clip):
    with pytest.raises(ConfigError, match="fit must be crop or letterbox; got 'stretch'"):
        predictor(*clip, fit="stretch")


def test_model_with_given_cues_is_refused(tmp_path, save):
    config = tiny_config(**{"model.action.given": ["hands"]})
    with pytest.raises(CheckpointError, match="given the true hands"):
        Predictor.load(save(tmp_path / "checkpoint", config, tiny_info()))


def test_unsupported_precision_is_refused(trained):
    with pytest.raises(ConfigError, match="fp16 is not supported on this cpu") as error:
        Predictor.load(trained, precision="fp16", device="cpu")
    assert "--precision fp32" in str(error.value)


def test_missing_models_are_refused(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="No checkpoint in"):
        Predictor.load(tmp_path / "none" / "here")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="expected the folder"):
        Predictor.load(tmp_path / "file")
    monkeypatch.setattr("htt.model.backbones._hub.hub_answers", lambda: False)
    with pytest.raises(CheckpointError, match="not in the hub's cache, and the hub does not answer") as error:
        Predictor.load("someone/hands")
    assert "--checkpoint FOLDER" in str(error.value)


def test_depths_of_a_virtual_camera_follow_the_focal_length_of_the_frames(tmp_path, save):
    """The same pixels, said to be of twice the focal length, show the same hands at twice the depth."""
    config = tiny_config(**{"model.pose.joint_depth": "virtual_camera"})
    predictor = Predictor.load(save(tmp_path / "checkpoint", config, tiny_info()))
    frames = np.random.default_rng(0).integers(0, 256, (5, 36, 64, 3), dtype=np.uint8)
    near, far = (predictor(frames, [[focal, 0, 32], [0, focal, 18], [0, 0, 1]]) for focal in (50, 100))
    np.testing.assert_allclose(far.joints_m[..., 2], 2 * near.joints_m[..., 2], rtol=1e-5)
    np.testing.assert_allclose(far.joints_m[..., :2], near.joints_m[..., :2], rtol=1e-4, atol=1e-6)
