"""Settings and errors of a GPU, as far as a machine without one can tell."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from htt import device
from htt.device import exact_fp32, memory_errors, use_deterministic, use_tf32
from htt.errors import ConfigError, DeviceMemoryError
from htt.model.backbones import resnet_tiny
from htt.model.htt import HTT
from htt.testing import random_batch, tiny_config, tiny_info
from htt.training.loop import Precision, evaluate, fit

GPU, CONFIG = torch.device("cuda"), tiny_config()


@pytest.fixture(autouse=True)
def _settings_of_torch():
    yield
    use_tf32(False)
    use_deterministic(False)


def tf32():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that emulates bf16 and has no TF32, as a T4; its memory is nearly used up."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 14_900_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=15_800_000_000))


def test_precision_says_whether_tf32_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: True)
    for name, used in (("tf32", True), ("fp32", False)):
        Precision(name, GPU)
        assert tf32() == (used, used)
        assert Precision(name, GPU).dtype is None


def test_exact_fp32_ends_with_its_block():
    use_tf32(True)
    with exact_fp32():
        assert tf32() == (False, False)
    assert tf32() == (True, True)


def test_frozen_encoder_never_uses_tf32(monkeypatch):
    seen = []
    model = HTT(
        tiny_config(**{"model.backbone.trained": False, "model.backbone.weights": "rendered"}).model, tiny_info()
    )
    model.features.backbone.register_forward_hook(lambda *_: seen.append(tf32()))
    use_tf32(True)
    model.features.encode(torch.zeros(1, 3, 36, 64, dtype=torch.uint8))
    assert seen == [(False, False)]


@pytest.mark.parametrize("name", ["bf16", "tf32"])
def test_precision_emulated_by_the_gpu_is_refused(gpu, name):
    with pytest.raises(ConfigError, match=rf"train.precision {name} is not supported .* Available: fp32, fp16\."):
        Precision(name, GPU)


MESSAGE = (
    r"Out of memory: a batch of 2 windows with \d+ frames of 64x36 px did not fit on the {} \(train.batch_size 2, "
    r"model.action.length 8, model.pose.window 4, train.precision fp32\)\.{} Lower train.batch_size"
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_raises_device_memory_error(tiny_splits, tmp_path, monkeypatch, error):
    def forward(*_, **__):
        raise error

    monkeypatch.setattr(HTT, "forward", forward)
    with pytest.raises(DeviceMemoryError, match=MESSAGE.format("cpu", "")) as caught:
        fit(tiny_config(), tiny_splits, print, folder=tmp_path)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (DeviceMemoryError, str(caught.value))
    with pytest.raises(DeviceMemoryError, match=r"a batch of \d+ windows with \d+ frames of 64x36 px did not fit"):
        evaluate(HTT(tiny_config().model, tiny_splits.info), tiny_splits.val, tiny_config())


def test_peak_and_size_of_the_gpu_are_named(gpu):
    frames = random_batch(tiny_info()).frames.shape
    peak = r" This process used up to 14\.9 of 15\.8 GB\."
    with pytest.raises(DeviceMemoryError, match=MESSAGE.format("cuda", peak)), memory_errors(CONFIG, GPU, 2, frames):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(DeviceMemoryError, match="the model did not fit on the cuda"), memory_errors(CONFIG, GPU):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(tiny_config(), torch.device("cpu")):
        raise RuntimeError("shapes cannot be multiplied")


def test_deterministic_is_set_for_each_training_of_a_process(monkeypatch):
    used = []
    monkeypatch.setattr(torch.cuda, "init", lambda: used.append("init"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: used.append("reset"))
    for wanted in (True, False):
        device.prepare(GPU, deterministic=wanted)
        found = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
        assert found == (wanted, wanted)
        assert torch.backends.cuda.mem_efficient_sdp_enabled() is not wanted
    assert used == ["init", "reset"] * 2, "torch refuses to reset the peak of a GPU that it has not initialised"


def test_deterministic_changes_no_number_on_a_cpu(tiny_splits, tmp_path):
    trained = []
    for wanted in (True, False):
        config = tiny_config(**{"train.deterministic": wanted, "train.epochs": 1})
        trained.append(fit(config, tiny_splits, lambda *_: None, folder=tmp_path / str(wanted)))
    for name, value in trained[0].state_dict().items():
        assert torch.equal(value, trained[1].state_dict()[name]), name


@pytest.mark.parametrize("size", [(2, 3), (3, 5), (1, 1), (7, 4)])
def test_cells_of_the_grid_without_the_pooling_layer(size):
    features = torch.randn(2, 4, *size)
    torch.testing.assert_close(resnet_tiny.means(features, 2, 3), torch.nn.AdaptiveAvgPool2d((2, 3))(features))
