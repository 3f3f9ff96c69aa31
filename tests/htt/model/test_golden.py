"""Agreement with the released code, for weights set by a rule and data in the shapes of FPHA."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from htt import camera
from htt.batch import Batch
from htt.config import Config, LossConfig, override
from htt.info import DataInfo
from htt.losses import losses, total
from htt.training import checkpoint

GOLDEN = Path(__file__).parents[2] / "golden"


def info(name: str, width: int = 480, height: int = 270) -> DataInfo:
    actions, objects, hands = {"fpha": (45, 26, 1), "h2o": (36, 8, 2)}[name]
    classes = tuple(map(str, range(actions))), tuple(map(str, range(objects)))
    return DataInfo(name, *classes, hands=hands, width=width, height=height)


def weight_by_rule(key: str, shape: list[int]) -> torch.Tensor:
    normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    rules = (
        (key.endswith("running_var"), lambda: 1 + 0.1 * np.abs(normal)),
        (key.endswith("running_mean"), lambda: 0.1 * normal),
        (len(shape) == 1 and key.endswith("weight"), lambda: 1 + 0.1 * normal),
        (key.endswith("bias"), lambda: 0.02 * normal),
        (key == "action_token", lambda: normal),
        (len(shape) == 4, lambda: normal * np.sqrt(2 / fan_in)),
        (True, lambda: normal * np.sqrt(1 / fan_in)),
    )
    return torch.from_numpy(np.asarray(next(rule() for applies, rule in rules if applies), np.float32))


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    shapes = json.loads((GOLDEN / "state_dict_shapes_fpha.json").read_text())
    state = {f"module.{key}": weight_by_rule(key, shape) for key, shape in shapes.items()}
    path = tmp_path_factory.mktemp("official") / "htt_fpha.pth"
    torch.save({"state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "model_fpha_like.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def batch(golden) -> Batch:
    valid = torch.from_numpy(golden["valid"])
    intrinsics = torch.from_numpy(golden["intrinsics"])
    joints_m = torch.from_numpy(golden["target_joints_m"])[valid]
    window = valid.nonzero()[:, 0]
    return Batch(
        frames=torch.from_numpy(golden["images"])[valid],
        valid=valid,
        intrinsics=intrinsics.expand(2, 3, 3),
        joints_m=joints_m,
        joints_px=camera.project(joints_m, intrinsics),
        joint_valid=torch.ones(joints_m.shape[:2], dtype=torch.bool),
        object=torch.from_numpy(golden["object_label"])[window],
        action=torch.from_numpy(golden["action_label"]),
        clip=torch.arange(2),
        frame=valid.nonzero()[:, 1],
        view=torch.zeros(2, dtype=torch.long),
        labelled=torch.ones(2, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def prediction(official, batch):
    config = override(Config(), {"model.pose.window": 4, "model.action.length": 16}).model
    model = checkpoint.import_official(official, config, info("fpha", 96, 54))
    with torch.no_grad():
        return model(batch.frames, batch.valid, batch.intrinsics)


def agrees(found: torch.Tensor, expected: np.ndarray) -> None:
    """Check that all numbers agree within 1e-4, relative to each number plus the mean size of the array."""
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-4, atol=1e-4 * float(np.abs(expected).mean()))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("joints_px", "joints_px"), ("depth_m", "joints_depth_m"), ("joints_m", "joints_m"), ("object_logits",) * 2],
)
def test_frame_outputs_agree_with_released_code(prediction, golden, ours, theirs):
    agrees(getattr(prediction, ours), golden[theirs][golden["valid"]])


def test_action_logits_agree_with_released_code(prediction, golden):
    agrees(prediction.action_logits, golden["action_logits"])


def test_losses_agree_with_released_code(prediction, batch, golden):
    means = losses(prediction, batch)
    for term, mean in means.items():
        assert mean.value.item() == pytest.approx(float(golden[f"loss_{term}"]), rel=1e-4)
    weights = dict(zip(("object", "joints_px", "depth_m"), golden["loss_weights"].tolist(), strict=True))
    config = LossConfig(**weights, action=weights["object"])
    assert total(means, config).item() == pytest.approx(float(golden["loss_total"]), rel=1e-4)
