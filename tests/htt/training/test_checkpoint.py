"""Checkpoints: what is saved comes back to the last bit, and each way it can fail is said clearly."""

import errno
import json
import os
import pickle

import polars as pl
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from htt.config import Config
from htt.errors import CheckpointError, DamagedCheckpointError, StorageError
from htt.info import DataInfo
from htt.losses import losses, total
from htt.model.htt import HTT
from htt.testing import random_batch, tiny_config, tiny_info
from htt.training import checkpoint
from htt.training.checkpoint import Progress

OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, 1e-3),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 1e-3, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, 1e-4, momentum=0.9),
}


def fresh(config: Config | None = None, info: DataInfo | None = None, optimizer: str = "adam", seed: int = 0):
    torch.manual_seed(seed)
    model = HTT((config or tiny_config()).model, info or tiny_info())
    return model, OPTIMIZERS[optimizer](model.parameters())


def train(model, optimizer, steps):
    for step in steps:
        batch = random_batch(tiny_info(), seed=step)
        optimizer.zero_grad()
        torch.manual_seed(step)  # as each step of a training does
        noise = torch.rand(())
        loss = total(losses(model(batch.frames, batch.valid, batch.intrinsics), batch), Config().loss)
        ((1 + 0.1 * noise) * loss).backward()
        optimizer.step()


def saved(folder, optimizer="adam", config=None, steps=2, **extra):
    config = config or tiny_config()
    model, moves = fresh(config, optimizer=optimizer)
    train(model, moves, range(steps))
    progress = Progress(1, 3, extra)
    checkpoint.save(folder, model, moves, progress, config, tiny_info(), {"loss": 1.5})
    return model, moves


def of_older_version(record):
    """A record without checksums."""
    return {name: value for name, value in record.items() if name != "sha256"}


def flip(file, place=-1):
    """Change one bit, as a disk or a copy may do."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
def test_restore_refuses_a_flipped_bit(tmp_path, name):
    saved(tmp_path / "c")
    flip(tmp_path / "c" / name)
    for use in (lambda: checkpoint.restore(tmp_path / "c", *fresh()), lambda: checkpoint.verify(tmp_path / "c")):
        with pytest.raises(
            DamagedCheckpointError, match=rf"^Damaged checkpoint: .*c/{name} has sha256 \w+, saved was \w+"
        ):
            use()


def test_load_refuses_a_flipped_bit_in_one_sentence(tmp_path):
    saved(tmp_path / "c")
    flip(tmp_path / "c" / "model.safetensors")
    with pytest.raises(DamagedCheckpointError, match=r"Copy it again from its source, or use an older one\.$"):
        checkpoint.load(tmp_path / "c")


def test_read_refuses_a_changed_number_in_the_record(tmp_path):
    saved(tmp_path / "c")
    path = tmp_path / "c" / "checkpoint.json"
    path.write_text(path.read_text().replace('"loss": 1.5', '"loss": 1.4'))
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint\.json differs from what was saved"):
        checkpoint.read(tmp_path / "c")


def test_old_checkpoint_without_checksums_is_read(tmp_path):
    model, _ = saved(tmp_path / "c")
    path = tmp_path / "c" / "checkpoint.json"
    path.write_text(json.dumps(of_older_version(json.loads(path.read_text()))))
    checkpoint.verify(tmp_path / "c")
    found, _ = checkpoint.load(tmp_path / "c")
    assert torch.equal(found.action_head.weight, model.action_head.weight)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_training_is_bit_identical(tmp_path, optimizer):
    config = tiny_config(**{"model.backbone.batch_norm": "live", "model.pose.dropout": 0.1})
    model, moves = saved(tmp_path / "c", optimizer, config, scale=2.0)
    train(model, moves, range(2, 5))
    other, other_moves = fresh(config, optimizer=optimizer, seed=1)
    progress = checkpoint.restore(tmp_path / "c", other, other_moves)
    assert progress == Progress(1, 3, {"scale": 2.0})
    train(other, other_moves, range(2, 5))
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_load_returns_the_model_and_its_facts(tmp_path):
    model, _ = saved(tmp_path / "c")
    found, record = checkpoint.load(tmp_path / "c")
    assert not found.training
    assert (record.config, record.info, record.metrics) == (tiny_config(), tiny_info(), {"loss": 1.5})
    assert record == checkpoint.read(tmp_path / "c")
    batch = random_batch(tiny_info())
    expected = model.eval()(batch.frames, batch.valid, batch.intrinsics)
    assert torch.equal(found(batch.frames, batch.valid, batch.intrinsics).joints_m, expected.joints_m)


def test_load_needs_no_backbone_weights(tmp_path):
    config = tiny_config(**{"model.backbone.weights": "/nowhere/resnet.pth"})
    model, moves = fresh()
    checkpoint.save(tmp_path / "c", model, moves, Progress(0), config, tiny_info(), {})
    assert checkpoint.load(tmp_path / "c")[1].config == config


def test_save_replaces_the_folder_and_leaves_no_rest(tmp_path):
    saved(tmp_path / "c", steps=1)
    (tmp_path / ".c.partial").mkdir()  # a run was killed while it wrote
    (tmp_path / ".c.partial" / "model.safetensors").write_bytes(b"half")
    saved(tmp_path / "c", steps=2)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        "model.safetensors",
        "training.safetensors",
        "checkpoint.json",
    }


def test_save_killed_during_replacement_leaves_the_older(tmp_path):
    saved(tmp_path / "c")
    (tmp_path / "c").rename(tmp_path / ".c.old")
    assert checkpoint.load(tmp_path / "c")[1].progress == Progress(1, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_save_on_full_disk_fails_and_keeps_the_older(tmp_path, monkeypatch):
    saved(tmp_path / "c")
    before = checkpoint.read(tmp_path / "c")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StorageError, match="disk is full"):
        saved(tmp_path / "c")
    assert checkpoint.read(tmp_path / "c") == before


def test_save_on_disk_full_mid_weights_fails(tmp_path, monkeypatch):
    saved(tmp_path / "checkpoint")

    def full(tensors, file):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StorageError, match="the disk is full"):
        saved(tmp_path / "checkpoint")
    monkeypatch.undo()
    assert checkpoint.read(tmp_path / "checkpoint").progress.cursor == 3


def test_checkpoint_contains_no_pickle(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("pickle")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "dump"), (pickle, "dumps"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    saved(tmp_path / "c")
    checkpoint.load(tmp_path / "c")


def test_load_refuses_other_shapes_key_by_key(tmp_path):
    saved(tmp_path / "c")
    wider, moves = fresh(tiny_config(**{"model.pose.depth": 2, "model.pose.feedforward": 32}))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.restore(tmp_path / "c", wider, moves)
    message = str(caught.value)
    assert "missing: pose_block.layers.1." in message
    assert "pose_block.layers.0.expand.weight [64, 32] instead of [32, 32]" in message
    assert "Build the model with the configuration" in message


def test_load_refuses_weights_of_another_configuration(tmp_path):
    saved(tmp_path / "c")
    path = tmp_path / "c" / "checkpoint.json"
    record = of_older_version(json.loads(path.read_text()))
    record["info"]["actions"].append("wave")
    path.write_text(json.dumps(record))
    with pytest.raises(
        CheckpointError, match=r"2 of another shape: action_head\.weight \[4, 32\] instead of \[5, 32\]"
    ):
        checkpoint.load(tmp_path / "c")


def test_restore_refuses_an_optimiser_of_other_parameters(tmp_path):
    model, _ = saved(tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"The optimiser state in .* does not fit"):
        checkpoint.restore(tmp_path / "c", model, torch.optim.Adam(model.action_head.parameters()))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda record: "{", "is not valid JSON"),
        (lambda record: json.dumps({**record, "format": 99}), "expected format 1, got 99"),
        (lambda record: "[]", "expected format 1, got None"),
        (lambda record: json.dumps({**record, "info": {}}), "Use the version of htt that wrote it"),
        (lambda record: json.dumps({**record, "config": {"modl": {}}}), "Cannot read .*modl"),
    ],
)
def test_damaged_record_is_named(tmp_path, change, rule):
    saved(tmp_path / "c")
    path = tmp_path / "c" / "checkpoint.json"
    path.write_text(change(of_older_version(json.loads(path.read_text()))))
    with pytest.raises(CheckpointError, match=rule):
        checkpoint.load(tmp_path / "c")


def test_missing_and_truncated_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"No checkpoint in .*none: expected a checkpoint\.json"):
        checkpoint.load(tmp_path / "none")
    saved(tmp_path / "c")
    whole = (tmp_path / "c" / "model.safetensors").read_bytes()
    (tmp_path / "c" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"Damaged checkpoint: .*model\.safetensors has sha256"):
        checkpoint.load(tmp_path / "c")
    record = tmp_path / "c" / "checkpoint.json"
    record.write_text(json.dumps(of_older_version(json.loads(record.read_text()))))
    with pytest.raises(CheckpointError, match=r"Cannot read weights .*model\.safetensors"):
        checkpoint.load(tmp_path / "c")
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"No such file of weights: .*model\.safetensors"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_checkpoint_file_modes_follow_the_umask(tmp_path, umask, mode):
    model, optimizer = fresh()
    before = os.umask(umask)
    try:
        folder = checkpoint.save(
            tmp_path / "c", model, optimizer, Progress(1), tiny_config(), tiny_info(), {}, pl.DataFrame({"clip": ["a"]})
        )
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == dict.fromkeys(
        ["model.safetensors", "training.safetensors", "checkpoint.json", "clips.parquet"], oct(mode)
    )


def test_old_checkpoint_with_random_states_is_restored(tmp_path):
    model, _ = saved(tmp_path / "c")
    path, record = tmp_path / "c" / "training.safetensors", tmp_path / "c" / "checkpoint.json"
    save_file({**load_file(path), "random.cpu": torch.get_rng_state()}, path)
    record.write_text(json.dumps(of_older_version(json.loads(record.read_text()))))
    other, moves = fresh(seed=1)
    assert checkpoint.restore(tmp_path / "c", other, moves) == Progress(1, 3, {})
    assert torch.equal(other.action_head.weight, model.action_head.weight)


def test_checkpoint_holds_no_random_states(tmp_path):
    saved(tmp_path / "c")
    assert all(name.startswith("optimizer.") for name in load_file(tmp_path / "c" / "training.safetensors"))
