"""Ray Train's list of the checkpoints of a run, repaired before a training resumes."""

import json

import pytest
from ray.train import CheckpointConfig
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
from ray.train.v2._internal.execution.storage import StorageContext

from cluster import trainer

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # Ray's own
NAMES = ["checkpoint_2026-01-01_00-00-01.000000", "checkpoint_2026-01-01_00-00-02.000000"]


@pytest.fixture
def run(tmp_path):
    """Folder of a Ray Train run with two checkpoints and a valid list of them."""
    folder = tmp_path / "run-train"
    for number, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        (folder / name / "checkpoint.json").write_text(json.dumps({"metrics": {"loss": float(number)}}))
    (folder / trainer.SNAPSHOT).write_text("{")
    trainer.repair_snapshot(str(folder))
    return folder


def restored(folder):
    """Return (name, metrics) of each checkpoint that Ray Train restores, and the newest name."""
    context = StorageContext(str(folder.parent), experiment_dir_name=folder.name)
    manager = CheckpointManager(CheckpointConfig(num_to_keep=2), context)
    newest = manager.latest_checkpoint_result
    names = [(each.checkpoint.path.rpartition("/")[2], each.metrics) for each in manager._checkpoint_results]
    return names, newest and newest.checkpoint.path.rpartition("/")[2]


@pytest.mark.parametrize(
    "damage", [lambda text: "", lambda text: text[: len(text) // 2], lambda text: "[]", lambda text: "{}"]
)
def test_repair_snapshot_rebuilds_damaged_list(run, damage, capsys):
    file = run / trainer.SNAPSHOT
    file.write_text(damage(file.read_text()))
    trainer.repair_snapshot(str(run))
    assert restored(run) == ([(NAMES[0], {"loss": 0.0}), (NAMES[1], {"loss": 1.0})], NAMES[1])
    said = capsys.readouterr().err.replace("\n", "")
    assert "was damaged and has been repaired; the training resumes from" in said.replace("  ", " ")


def test_repair_snapshot_drops_removed_checkpoint(run):
    for file in (run / NAMES[1]).iterdir():
        file.unlink()
    (run / NAMES[1]).rmdir()
    trainer.repair_snapshot(str(run))
    assert restored(run) == ([(NAMES[0], {"loss": 0.0})], NAMES[0])


def test_repair_snapshot_rebuilds_undecodable_list(run):
    (run / trainer.SNAPSHOT).write_bytes(b"\xff\xfe{")
    trainer.repair_snapshot(str(run))
    assert restored(run)[1] == NAMES[1]


def test_repair_snapshot_leaves_valid_list_and_new_run_alone(run, tmp_path):
    before = (run / trainer.SNAPSHOT).read_bytes()
    trainer.repair_snapshot(str(run))
    assert (run / trainer.SNAPSHOT).read_bytes() == before
    trainer.repair_snapshot(str(tmp_path / "another"))
    assert not (tmp_path / "another").exists()
