"""Files of a final training, also after faults of the disk and of the storage."""

import contextlib
import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import fs

from cluster import training
from htt.errors import StorageError
from htt.testing import tiny_config
from htt.training.messages import Start

EPOCHS = [{"epoch": 1.0, "loss": 3.0}, {"epoch": 2.0, "loss": 2.0}, {"epoch": 3.0, "loss": 1.0}]
FINAL = {**EPOCHS[-1], "test_loss": 1.5}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Final training whose Ray Train is a list of messages; ``asked`` lists the trainers it made."""
    asked, returned = [], {"epochs": EPOCHS, "final": FINAL}
    stored = tmp_path / "stored" / "checkpoint_3"
    stored.mkdir(parents=True)
    (stored / "checkpoint.json").write_text("{}")

    @contextlib.contextmanager
    def listening(take):
        yield SimpleNamespace(put=take)

    def trainer(config, *, queue, **how):
        asked.append(how)

        def fit():
            queue.put(Start(0, 0, 1))
            for metrics in EPOCHS:
                queue.put(metrics)
            where = SimpleNamespace(path=str(stored), filesystem=fs.LocalFileSystem())
            return SimpleNamespace(checkpoint=where, return_value=returned, metrics={})

        return SimpleNamespace(fit=fit)

    monkeypatch.setattr(training, "listening", listening)
    monkeypatch.setattr(training, "trainer", trainer)
    folder, shown = tmp_path / "run", []
    folder.mkdir()

    def run(**how):
        return training.run(tiny_config(), folder, training.Workers(), shown.append, **how)

    return SimpleNamespace(run=run, folder=folder, asked=asked, shown=shown, stored=stored, returned=returned)


def noted(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_run_writes_epochs_final_metrics_and_checkpoint(trained):
    outcome = trained.run()
    assert (outcome.metrics, outcome.checkpoint) == (FINAL, trained.folder / "checkpoint")
    assert noted(trained.folder) == {"final": FINAL, "epochs": EPOCHS}
    assert [path.name for path in outcome.checkpoint.iterdir()] == ["checkpoint.json"]
    assert trained.run() == outcome
    assert len(trained.asked) == 1, "what has come to its end is not trained again"


def test_run_keeps_warnings_of_incomplete_data(trained):
    """Check that warnings of the workers are in metrics.json and in the result of a finished run."""
    trained.returned["incomplete"] = ["split 'test' has 1 of 575 clips"]
    assert trained.run().incomplete == ["split 'test' has 1 of 575 clips"]
    assert noted(trained.folder)["incomplete"] == ["split 'test' has 1 of 575 clips"]
    assert training.finished(trained.folder).incomplete == ["split 'test' has 1 of 575 clips"]


def test_run_passes_ready_to_workers(trained):
    trained.run(ready=test_run_passes_ready_to_workers)
    assert trained.asked[0]["ready"] is test_run_passes_ready_to_workers


def test_run_continues_and_loses_no_epoch_on_full_disk(trained, monkeypatch, capsys):
    write, left = Path.write_bytes, [2]

    def full(self, *args, **options):
        if left[0] and self.name.startswith(".metrics.json."):
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *args, **options)

    monkeypatch.setattr(Path, "write_bytes", full)
    trained.run()
    assert trained.shown == EPOCHS
    assert noted(trained.folder) == {"final": FINAL, "epochs": EPOCHS}
    said = capsys.readouterr().err
    assert said.count("The metrics of an epoch are not saved yet: No free space to write below") == 1
    assert said.count("the disk is full") == 1


def test_run_raises_at_end_if_disk_stays_full(trained, monkeypatch):
    def full(self, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        trained.run()
    assert trained.shown == EPOCHS


def test_run_again_fetches_checkpoint_after_failed_copy(trained, monkeypatch):
    copy = fs.copy_files

    def broken(source, to, **systems):
        (Path(to) / "model.safetensors").write_text("half")
        raise OSError("When reading information for key 'runs/x': AWS Error NETWORK_CONNECTION: curlCode: 7")

    monkeypatch.setattr("pyarrow.fs.copy_files", broken)
    with pytest.raises(StorageError, match=r"Cannot copy .* from .*checkpoint_3 to .* curlCode: 7\. .* --resume to"):
        trained.run()
    assert noted(trained.folder)["final"] == FINAL, "the numbers are kept"
    assert training.finished(trained.folder) is None
    monkeypatch.setattr("pyarrow.fs.copy_files", copy)
    outcome = trained.run()
    assert [path.name for path in outcome.checkpoint.iterdir()] == ["checkpoint.json"]
    assert training.finished(trained.folder) == outcome


@pytest.mark.parametrize(("storage", "where"), [(None, "run"), ("stored", "stored/run"), ("s3://bucket/runs", None)])
def test_run_passes_permanent_tensorboard_folder(trained, tmp_path, storage, where):
    trained.run(storage=str(tmp_path / storage) if storage == "stored" else storage)
    assert trained.asked[0]["folder"] == (where and str(tmp_path / where))


def test_run_discards_damaged_checkpoint(trained):
    sums = {"sha256": {"model.safetensors": "0" * 64}}
    (trained.stored / "checkpoint.json").write_text(json.dumps(sums))
    (trained.stored / "model.safetensors").write_bytes(b"other")
    with pytest.raises(StorageError, match=rf"{trained.stored}/model\.safetensors has sha256 .* --resume to train"):
        trained.run()
    assert not (trained.folder / "checkpoint").exists()
