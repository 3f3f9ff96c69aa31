"""Features of a frozen encoder: the numbers of a training on them, their key, and what makes them invalid."""

import shutil

import numpy as np
import pytest
import torch

from htt.config import Config, override
from htt.data.loading import splits
from htt.data.loading.clips import open_split
from htt.data.prepare import prepare
from htt.data.shards import manifest
from htt.errors import ConfigError, DataError, StorageError
from htt.model.features import FrameFeatures
from htt.testing import tiny_config
from htt.training import encoding
from htt.training.augment import view_shift_px
from htt.training.loop import fit

FROZEN = {
    "model.backbone.weights": "rendered",
    "model.backbone.trained": False,
    "data.augment.views": 2,
    "data.augment.centre": 0.2,
    "train.batch_size": 3,
    "model.forecast.frames": 2,
}


def frozen(**values) -> Config:
    return override(tiny_config(), {**FROZEN, **values})


@pytest.fixture(scope="module")
def config(cache) -> Config:
    return frozen()


@pytest.fixture(scope="module")
def root(config):
    return encoding.encoded(config, workers=1)


def reports_of(config, clips, folder):
    reports = []
    fit(config, clips, lambda metrics, _: reports.append(metrics), folder=folder)
    return [{k: v for k, v in each.items() if "seconds" not in k and k != "latency_ms"} for each in reports]


def test_training_on_features_equals_training_on_frames(config, root, tmp_path):
    kept = reports_of(config, splits.open_splits(root, config.data), tmp_path / "kept")
    anew = reports_of(config, splits.open_splits(prepare(config), config.data), tmp_path / "anew")
    assert len(kept) == config.train.epochs
    assert kept == anew  # to the last bit


def test_encoded_clip_holds_plain_images_and_views(config, root):
    clips = open_split(root, manifest.TRAIN)
    frames = open_split(prepare(config), manifest.TRAIN)
    encoder = FrameFeatures(config.model.backbone, 1).eval()
    assert clips.groups == frames.groups != frames.ids
    for clip in range(len(clips)):
        encoded = clips.encoded(clip)
        assert encoded.features.shape == (3, frames.frame_count(clip), 768)
        assert encoded.features.dtype == np.float16
        plain = encoder.encode(frames.decode(clip, range(frames.frame_count(clip))))
        assert torch.equal(torch.from_numpy(encoded.features[0].copy()).float(), plain)
        assert not np.array_equal(encoded.features[1], encoded.features[2])
        assert encoded.shifts_px[0].tolist() == [0, 0]
    assert open_split(root, manifest.VAL).encoded(0).features.shape[0] == 1


def test_encoded_targets_move_with_the_view(config, root):
    clips = open_split(root, manifest.TRAIN)
    loader = encoding.Assembler(clips, encoding.cut(clips.frame_counts, length=8, spacing=1, starts=1))
    plain, view = loader([0]), loader([len(loader.windows)])
    seed = encoding.view_seed(clips.ids[0], 1)
    moved = torch.tensor(view_shift_px(seed, config.data.augment, clips.info.width))
    assert view.view.tolist() == [seed]
    assert torch.equal(view.joints_px, plain.joints_px + moved)
    assert torch.equal(view.joints_m, plain.joints_m)


def test_encoding_is_deterministic(config, root, tmp_path):
    again = encoding.encoded(config, workers=1, out=tmp_path / "again")
    for name in manifest.listed(manifest.read(root)):
        assert (again / name.file).read_bytes() == (root / name.file).read_bytes()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.augment.views", 3),
        ("data.augment.hue", 0.01),
        ("model.backbone.normalise", "imagenet"),
        ("data.synthetic.seed", 5),
    ],
)
def test_features_key_changes_with_its_dependencies(config, path, value):
    assert encoding.encoding(override(config, {path: value})).key != encoding.encoding(config).key


def test_features_key_ignores_the_rest(config):
    other = override(config, {"model.pose.window": 2, "train.seed": 3, "optim.lr": 1e-2})
    assert encoding.encoding(other).key == encoding.encoding(config).key


def test_features_key_uses_weights_not_their_name(config, tmp_path):
    from htt.model.backbones.resnet_tiny import RENDERED_FILE

    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(RENDERED_FILE.read_bytes())
    assert (
        encoding.encoding(override(config, {"model.backbone.weights": str(copy)})).key == encoding.encoding(config).key
    )


def test_features_of_another_encoder_are_refused(config, root):
    other = override(config, {"runtime.features": str(root), "data.augment.views": 1})
    with pytest.raises(DataError, match=r"Cannot use the features in .*: they are of resnet_tiny"):
        encoding.encoded(other)
    assert encoding.encoded(override(config, {"runtime.features": str(root)})) == root


def test_frames_named_as_features_are_refused(config):
    frames = prepare(config)
    with pytest.raises(DataError, match="holds frames"):
        encoding.encoded(override(config, {"runtime.features": str(frames)}))


def test_full_disk_is_found_before_encoding(config, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(StorageError, match=r"No room for the features: \d+ images x 768 values x 2 bytes are"):
        encoding.encoded(config, workers=1, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.backbone.weights": None}, "weights must be given for an encoder that is not trained"),
        ({"model.backbone.batch_norm": "live"}, "batch_norm must be frozen for an encoder that is not trained"),
    ],
)
def test_frozen_encoder_needs_fixed_weights(values, message):
    with pytest.raises(ConfigError, match=message):
        frozen(**values)


def test_frozen_encoder_gets_no_gradient(config):
    features = FrameFeatures(config.model.backbone, 8)
    features.train()
    features(torch.rand(2, 3, 36, 64)).sum().backward()
    assert all(parameter.grad is None for parameter in features.backbone.parameters())
    assert not any(module.training for module in features.backbone.modules())
    assert features.to_width.weight.grad is not None


def test_encoding_into_a_folder_of_other_features_is_refused(config, root):
    other = override(config, {"data.augment.views": 1})
    with pytest.raises(DataError, match="Encode again into another folder"):
        encoding.encoded(other, workers=1, out=root)


def test_damaged_features_are_found(config, root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy")
    shard = next(copy.glob("val-*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(DataError, match="do not match their manifest"):
        encoding.encoded(override(config, {"runtime.features": str(copy)}))


def test_features_are_refused_where_frames_are_expected(config, root):
    with pytest.raises(DataError, match=r"data\.root must be a folder of frames; .* holds features"):
        prepare(override(config, {"data.root": str(root)}))
    with pytest.raises(DataError, match="holds features, which have no images"):
        open_split(root, manifest.VAL).decode(0, [0])


def test_encoding_resumes_on_a_nearly_full_disk(config, root, tmp_path, monkeypatch):
    half = tmp_path / "half"
    half.mkdir()
    (half / "train-00000.arrow").write_bytes(b"x" * 10**6)
    needed = 10**6 + 1000
    monkeypatch.setattr(
        manifest.Manifest, "count", lambda self, split: (1, needed // 2 // 768 if split == "val" else 0)
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    encoding._check_room(half, manifest.read(root), encoding.encoding(config))
    with pytest.raises(StorageError, match="No room"):
        encoding._check_room(tmp_path / "none", manifest.read(root), encoding.encoding(config))
