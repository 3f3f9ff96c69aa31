"""Sources of the weights of an image encoder, and errors if they are not available."""

import json

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from htt.config import BackboneConfig
from htt.errors import CheckpointError, ConfigError
from htt.model.backbones import resnet_tiny
from htt.model.features import FrameFeatures, open_backbone

OURS = "encoder.stages.1.layers.0.layer.1.convolution.weight"
STAGES = {"embedder.embedder.convolution": "conv1", "embedder.embedder.normalization": "bn1"}


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def torchvision_name(key: str) -> str:
    """Return the torchvision name of a key: the inverse of the renaming under test."""
    for ours, theirs in STAGES.items():
        key = key.replace(ours, theirs)
    if not key.startswith("encoder"):
        return key
    _, _, stage, _, block, part, *rest = key.split(".")
    names = {"convolution": "conv", "normalization": "bn"}
    if part == "shortcut":
        return f"layer{int(stage) + 1}.{block}.downsample.{list(names).index(rest[0])}.{rest[1]}"
    return f"layer{int(stage) + 1}.{block}.{names[rest[1]]}{int(rest[0]) + 1}.{rest[2]}"


@pytest.fixture(scope="module")
def torchvision() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    network = open_backbone(BackboneConfig(name="resnet18")).network
    state = {torchvision_name(key): value.contiguous() for key, value in network.state_dict().items()}
    return {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def test_torchvision_name_gives_known_names(torchvision):
    assert {"conv1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.running_var"} <= torchvision.keys()
    assert len(torchvision) == 122


@pytest.mark.parametrize("file", ["resnet18.pth", "resnet18.safetensors", "folder/model.safetensors"])
def test_open_backbone_reads_weights_from_file_or_folder(torchvision, tmp_path, file):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    (save_file if path.suffix == ".safetensors" else torch.save)(torchvision, path)
    weights = path.parent if "folder" in file else path
    backbone = open_backbone(BackboneConfig(name="resnet18", weights=str(weights)))
    assert torch.equal(backbone.network.state_dict()[OURS], torchvision["layer2.0.conv2.weight"])


def test_open_backbone_accepts_transformers_names(tmp_path):
    first = open_backbone(BackboneConfig(name="resnet_tiny"))
    state = {f"resnet.{key}": value.contiguous() for key, value in first.network.state_dict().items()}
    save_file({**state, "classifier.1.bias": torch.zeros(1000)}, tmp_path / "tiny.safetensors")
    second = open_backbone(BackboneConfig(name="resnet_tiny", weights=str(tmp_path / "tiny.safetensors")))
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_open_backbone_reads_encoder_of_a_checkpoint(tmp_path):
    first = open_backbone(BackboneConfig(name="resnet_tiny"))
    encoder = {f"features.backbone.network.{key}": value.clone() for key, value in first.network.state_dict().items()}
    save_file({**encoder, "pose_head.layers.0.bias": torch.zeros(4)}, tmp_path / "model.safetensors")
    second = open_backbone(BackboneConfig(name="resnet_tiny", weights=str(tmp_path)))
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_resnet_tiny_has_weights_of_the_rendered_data():
    brought = open_backbone(BackboneConfig(name="resnet_tiny", weights="rendered")).state_dict()
    stored = load_file(resnet_tiny.RENDERED_FILE)
    assert all(torch.equal(brought[f"network.{key}"], value) for key, value in stored.items())
    means = [value for key, value in brought.items() if key.endswith("running_mean")]
    assert means
    assert all(value.abs().max() > 0 for value in means)  # batch norm has seen images
    with pytest.raises(CheckpointError, match="'rendered': it is not a local file or folder"):
        open_backbone(BackboneConfig(name="resnet18", weights="rendered"))


def test_open_backbone_names_mismatched_keys(torchvision, tmp_path):
    wrong = {key: value for key, value in torchvision.items() if key != "bn1.weight"}
    wrong |= {"conv1.weight": torch.zeros(64, 1, 7, 7), "odd": torch.zeros(1)}
    torch.save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError) as caught:
        open_backbone(BackboneConfig(name="resnet18", weights=str(tmp_path / "wrong.pth")))
    message = str(caught.value)
    assert "1 missing: embedder.embedder.normalization.weight" in message
    assert "1 unexpected: odd" in message
    assert "embedder.embedder.convolution.weight [64, 1, 7, 7] instead of [64, 3, 7, 7]" in message


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        ("gone.pth", None, "No such file of weights: .*gone.pth"),
        ("torn.pth", b"PK\x03\x04", "Cannot read weights"),
        ("torn.safetensors", b"\xff" * 9, "Cannot read weights"),
    ],
)
def test_open_backbone_names_unreadable_file(tmp_path, file, content, rule):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=rule):
        open_backbone(BackboneConfig(name="resnet18", weights=str(tmp_path / file)))


def test_open_backbone_refuses_file_without_tensors(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="expected tensors by name"):
        open_backbone(BackboneConfig(name="resnet18", weights=str(tmp_path / "list.pth")))


@pytest.mark.parametrize("name", ["microsoft/resnet-18", "timm/resnet18.tv_in1k"])
def test_open_backbone_names_unavailable_hub_weights(offline, name):
    with pytest.raises(
        CheckpointError, match=rf"Cannot find model\.backbone\.weights '{name}': it is not a local file or folder"
    ):
        open_backbone(BackboneConfig(name="resnet18", weights=name))


def test_open_backbone_names_unavailable_hub_model(offline):
    with pytest.raises(ConfigError, match=r"Cannot find model\.backbone\.name 'nobody/nothing'"):
        open_backbone(BackboneConfig(name="nobody/nothing"))


def test_open_backbone_asks_unreachable_hub_once(monkeypatch):
    """The hub's own client would try five times, for half a minute per file."""
    from huggingface_hub import get_session

    asked = []

    def head(*arguments, **options):
        asked.append(options["timeout"])
        raise ConnectionError("no network")

    monkeypatch.setattr(get_session(), "head", head)
    monkeypatch.setattr("time.sleep", lambda seconds: asked.append(seconds))
    with pytest.raises(CheckpointError, match=r"the hub does not answer\..* --set model\.backbone\.weights=FOLDER"):
        open_backbone(BackboneConfig(name="resnet18", weights="timm/resnet18.tv_in1k"))
    assert asked == [10.0]


def test_open_backbone_never_executes_code_of_a_model(tmp_path, monkeypatch):
    """Check that the code is refused even if the user confirms its execution."""
    ran = tmp_path / "ran"
    folder = tmp_path / "model"
    folder.mkdir()
    code = f"open({str(ran)!r}, 'w').close()\nfrom transformers import ResNetConfig as C, ResNetModel as M\n"
    (folder / "code.py").write_text(code)
    (folder / "config.json").write_text(
        '{"model_type": "foreign", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}'
    )
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    for name, weights in ((str(folder), None), (str(folder), str(folder))):
        with pytest.raises(ConfigError, match="code shipped with a model is never executed"):
            open_backbone(BackboneConfig(name=name, weights=weights))
    assert not ran.exists()


def test_open_backbone_expands_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    first = open_backbone(BackboneConfig(name="resnet_tiny"))
    state = {key: value.contiguous() for key, value in first.network.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    second = open_backbone(BackboneConfig(name="resnet_tiny", weights="~/model.safetensors"))
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_open_backbone_refuses_unknown_name():
    with pytest.raises(
        ConfigError, match=r"No 'resnet19' in backbones\. Available: none, resnet18, resnet_tiny\. Did you mean"
    ):
        open_backbone(BackboneConfig(name="resnet19"))


def test_open_backbone_loads_own_or_random_weights(tmp_path):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    stored = ViTModel(ViTConfig(**small, image_size=32, patch_size=16))
    stored.save_pretrained(tmp_path)
    key, weights = "pooler.dense.weight", {None: True, str(tmp_path): True, "random": False}
    for name, own in weights.items():
        opened = open_backbone(BackboneConfig(name=str(tmp_path), weights=name, normalise="centre"))
        assert torch.equal(opened.network.state_dict()[key], stored.state_dict()[key]) == own


def test_frame_features_use_normalisation_of_the_hub_model(tmp_path):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(**small, image_size=32, patch_size=16)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"No normalisation of pixels known for .*preprocessor_config\.json"):
        open_backbone(BackboneConfig(name=str(tmp_path)))
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    for normalise, mean, deviation in (
        (None, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
        ("centre", [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]),
    ):
        features = FrameFeatures(BackboneConfig(name=str(tmp_path), normalise=normalise), 16)
        torch.testing.assert_close(features.mean.flatten(), torch.tensor(mean))
        torch.testing.assert_close(features.deviation.flatten(), torch.tensor(deviation))


def test_frame_features_resize_images_for_the_encoder():
    features = FrameFeatures(BackboneConfig(name="resnet_tiny", size=48), 32)
    seen = []
    features.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert features(torch.zeros(2, 3, 36, 64, dtype=torch.uint8)).shape == (2, 32)
    assert seen == [(2, 3, 48, 48)]


def test_open_backbone_refuses_text_model(tmp_path):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**small, vocab_size=8)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="must be a vision model, with images as its only input"):
        open_backbone(BackboneConfig(name=str(tmp_path)))


def test_frame_features_normalise_pixels_as_configured():
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    for normalise, expected in (("centre", [0.5] * 3), ("imagenet", [2.2489, 2.4286, 2.64])):
        features = FrameFeatures(BackboneConfig(name="resnet_tiny", normalise=normalise), 32)
        features.backbone = torch.nn.AdaptiveAvgPool2d(1)
        features.to_width = torch.nn.Flatten()
        torch.testing.assert_close(features(white)[0], torch.tensor(expected), rtol=1e-4, atol=0)
