"""Run folder of a final training, and its log of epochs."""

import contextlib
import errno
import fcntl
import json
import os

import pytest

from cluster import run_folder
from htt.config import override, read
from htt.errors import ConfigError, RunError, StorageError
from htt.testing import tiny_config


def test_check_folder_refuses_existing_run(tmp_path):
    run_folder.check_folder(tmp_path / "run", tiny_config(), resume=False)
    run_folder.write_folder(tmp_path / "run", tiny_config())
    with pytest.raises(RunError, match=r"is taken: .*/run exists\. Choose another --name, or resume it"):
        run_folder.check_folder(tmp_path / "run", tiny_config(), resume=False)


def test_check_folder_refuses_folder_of_a_search(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "asked.yaml").write_text("kind: search\n")
    with pytest.raises(RunError, match=r"run is a search or a study\. Choose another --name\.$"):
        run_folder.check_folder(tmp_path / "run", tiny_config(), resume=False)


def test_check_folder_resumes_same_configuration_only(tmp_path):
    config = tiny_config()
    with pytest.raises(RunError, match=r"No run to resume: .*run/config\.yaml does not exist"):
        run_folder.check_folder(tmp_path / "run", config, resume=True)
    run_folder.write_folder(tmp_path / "run", config)
    run_folder.check_folder(tmp_path / "run", override(config, {"runtime.loader_workers": 2}), resume=True)
    with pytest.raises(RunError, match=r"Cannot resume with another configuration than .*/run/config\.yaml\."):
        run_folder.check_folder(tmp_path / "run", override(config, {"optim.lr": 0.5}), resume=True)


@pytest.fixture
def storage(tmp_path):
    return str(tmp_path / "storage")


def test_check_folder_refuses_name_existing_in_storage(tmp_path, storage):
    config, other = tiny_config(), override(tiny_config(), {"optim.lr": 0.5})
    run_folder.check_folder(tmp_path / "here" / "run", config, resume=False, storage=storage)
    run_folder.write_folder(tmp_path / "here" / "run", config, storage)
    for trained in (config, other):
        with pytest.raises(RunError, match=rf"is taken: {storage}/run exists\. Choose another --name, or resume it"):
            run_folder.check_folder(tmp_path / "there" / "run", trained, resume=False, storage=storage)
    run_folder.check_folder(tmp_path / "there" / "another", other, resume=False, storage=storage)
    assert not (tmp_path / "there").exists()


def test_check_folder_refuses_name_used_by_ray_train(tmp_path, storage):
    (tmp_path / "storage" / "run-train").mkdir(parents=True)
    run_folder.check_folder(tmp_path / "run", tiny_config(), resume=False, storage=storage)
    (tmp_path / "storage" / "run-train" / "checkpoint_manager_snapshot.json").touch()
    with pytest.raises(RunError, match=r"The name is taken: .*/storage/run-train exists"):
        run_folder.check_folder(tmp_path / "run", tiny_config(), resume=False, storage=storage)


def test_check_folder_resumes_from_storage_on_another_machine(tmp_path, storage):
    config, there = tiny_config(), tmp_path / "there" / "run"
    with pytest.raises(RunError, match=rf"neither {there}/config\.yaml nor {storage}/run/config\.yaml exists"):
        run_folder.check_folder(there, config, resume=True, storage=storage)
    run_folder.write_folder(tmp_path / "here" / "run", config, storage)
    run_folder.check_folder(there, config, resume=True, storage=storage)
    with pytest.raises(RunError, match=rf"another configuration than {storage}/run/config\.yaml"):
        run_folder.check_folder(there, override(config, {"optim.lr": 0.5}), resume=True, storage=storage)
    run_folder.write_folder(there, config, storage)
    run_folder.check_folder(there, config, resume=True, storage=storage)


@pytest.mark.parametrize(
    ("began", "given", "told"),
    [
        ("s3://b/runs", None, r"without --storage: its checkpoints are in s3://b/runs\. Add --storage s3://b/runs\."),
        ("{}", "{}2", r"with --storage {}2: its checkpoints are in {}\. Add --storage {}\."),
        (None, "{}", r"with --storage {}: its checkpoints are in .*/run\. Leave out --storage\."),
    ],
)
def test_check_folder_resumes_with_original_storage_only(tmp_path, storage, monkeypatch, began, given, told):
    began, given = (each and each.format(storage) for each in (began, given))
    monkeypatch.setattr(run_folder, "write_text", lambda place, text: None)
    monkeypatch.setattr(run_folder, "read_text", lambda place: None)
    run_folder.write_folder(tmp_path / "run", tiny_config(), began)
    with pytest.raises(RunError, match=told.replace("{}", storage)):
        run_folder.check_folder(tmp_path / "run", tiny_config(), resume=True, storage=given)


def test_check_folder_accepts_runs_folder_as_storage(tmp_path):
    config = tiny_config()
    run_folder.write_folder(tmp_path / "run", config, str(tmp_path))
    run_folder.check_folder(tmp_path / "run", config, resume=True, storage=str(tmp_path))
    assert read(tmp_path / "run" / "config.yaml") == config


def test_check_folder_reports_invalid_storage(tmp_path):
    with pytest.raises(StorageError, match="--storage must be a writable folder or URI; nonsense://b/run"):
        run_folder.check_folder(tmp_path / "run", tiny_config(), resume=False, storage="nonsense://b")


def test_check_folder_refuses_run_in_use(tmp_path):
    config = tiny_config()
    run_folder.write_folder(tmp_path, config)
    with run_folder.locked_folder(tmp_path), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        run_folder.check_folder(tmp_path, config, resume=True)
    run_folder.check_folder(tmp_path, config, resume=True)


def test_locked_folder_relocks_a_removed_lock_file(tmp_path, monkeypatch):
    """Check a lock file that its last owner removed after it was opened: locking it has no effect."""
    lock, flock, removed = tmp_path / run_folder.LOCK, fcntl.flock, []

    def remove_before(*arguments):
        if not removed:
            removed.append(lock.unlink())
        return flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", remove_before)
    with run_folder.locked_folder(tmp_path):
        assert lock.read_text() == str(os.getpid())
        with pytest.raises(RunError, match=f"in use by process {os.getpid()}"), run_folder.locked_folder(tmp_path):
            pass


def test_locked_folder_tries_an_impossible_folder_once(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"Not a directory|File exists"),
        run_folder.locked_folder(tmp_path / "file" / "run"),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../../escaped", r"'\.\./\.\./escaped': expected letters, digits, dots, dashes and underscores"),
        ("größe", ".*expected letters"),
        (".hidden", ".*expected letters"),
        ("a/b", ".*expected letters"),
        ("", ".*expected letters"),
        ("x\n", ".*expected letters"),
        ("x" * 300, r"'x{20}\.\.\.': 300 characters, at most 100 allowed"),
    ],
)
def test_reserved_name_refuses_invalid_name_and_makes_nothing(tmp_path, name, told):
    runs = tmp_path / "runs"
    with (
        pytest.raises(ConfigError, match=f"Invalid --name {told}"),
        run_folder.reserved_name(name, runs, "final", None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_reserved_name_is_unique_within_one_second(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "20260101-120000")
    with contextlib.ExitStack() as stack:
        names = [
            stack.enter_context(run_folder.reserved_name(None, tmp_path / "runs", "final", None)) for _ in range(3)
        ]
        (tmp_path / "runs" / names[1] / "config.yaml").touch()
        in_bucket = {
            stack.enter_context(run_folder.reserved_name(None, tmp_path / str(at), "x", "s3://b/runs")) for at in (1, 2)
        }
    assert names == ["final-20260101-120000", "final-20260101-120000-2", "final-20260101-120000-3"]
    assert len(in_bucket) == 2
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["final-20260101-120000-2"]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    "written", ['{"epochs": [{"epoch": 1', "[1]", '{"epochs": [{"loss": 1.0}]}', '{"epochs": 3}', ""]
)
def test_epoch_log_names_damaged_file_and_remedy(tmp_path, written):
    (tmp_path / "metrics.json").write_text(written)
    with pytest.raises(RunError, match=r"metrics\.json is damaged .* Remove it and resume"):
        run_folder.EpochLog(tmp_path / "metrics.json")


def test_locked_folder_works_without_file_locks(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with run_folder.locked_folder(tmp_path):
        assert (tmp_path / run_folder.LOCK).read_text() == str(os.getpid())


def test_epoch_log_resumes_from_saved_epochs(tmp_path):
    log = run_folder.EpochLog(tmp_path / "metrics.json")
    log.add({"epoch": 1, "loss": 3.0})
    log.add({"epoch": 2, "loss": 2.0})
    again = run_folder.EpochLog(tmp_path / "metrics.json")
    again.add({"epoch": 2, "loss": 2.5})  # repeated after a failure
    again.add({"epoch": 3, "loss": 1.0})
    again.finish([{"epoch": 4, "loss": 0.5}], {"loss": 0.5, "test_loss": 1.5})
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert [entry["loss"] for entry in found["epochs"]] == [3.0, 2.5, 1.0, 0.5]
    assert found["final"] == {"loss": 0.5, "test_loss": 1.5}
    assert run_folder.EpochLog(tmp_path / "metrics.json").final == found["final"]


def test_epoch_log_keeps_saved_epochs_on_full_disk(tmp_path, monkeypatch):
    log = run_folder.EpochLog(tmp_path / "metrics.json")
    log.add({"epoch": 1, "loss": 3.0})

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError, match="disk is full"):
        log.add({"epoch": 2, "loss": 2.0})
    monkeypatch.undo()
    assert list(run_folder.EpochLog(tmp_path / "metrics.json").epochs) == [1]
