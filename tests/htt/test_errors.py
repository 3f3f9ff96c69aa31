"""Errors: their sentences and their exit codes."""

import errno
import pickle

import pytest

from htt import console, errors


def test_users_mistakes_leave_with_2_and_the_rest_with_1():
    assert errors.ConfigError("").exit_code == errors.StorageError("").exit_code == 2
    assert errors.NonFiniteLossError(1, 2, ["object"]).exit_code == 1


def test_non_finite_loss_names_epoch_step_and_term():
    message = str(errors.NonFiniteLossError(3, 17, ["depth_m", "action"]))
    assert "depth_m and action became NaN or infinite in epoch 3, step 17" in message
    assert "Lower optim.lr" in message


def test_non_finite_loss_can_be_pickled():
    error = pickle.loads(pickle.dumps(errors.NonFiniteLossError(3, 17, ["action"])))
    assert (error.epoch, error.step, error.terms) == (3, 17, ("action",))


@pytest.mark.parametrize(("name", "hint"), [("resnet19", " Did you mean 'resnet18'?"), ("zebra", "")])
def test_did_you_mean(name, hint):
    assert errors.did_you_mean(name, ["resnet18", "lstm"]) == hint


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "Cannot write to"), (errno.EACCES, "Cannot write to")],
)
def test_storage_errors_translates_os_errors(tmp_path, number, message):
    with pytest.raises(errors.StorageError, match=message), errors.storage_errors(tmp_path):
        raise OSError(number, "no")


def test_storage_errors_names_the_disk_that_is_full(tmp_path, monkeypatch):
    full = tmp_path / "full"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(full))
    monkeypatch.setattr(errors, "_free_bytes", lambda path: 0 if path == full else 2**30)
    named = rf"below the temporary folder {full} \(TMPDIR\): the disk is full"
    with pytest.raises(errors.StorageError, match=named), errors.storage_errors(tmp_path / "runs"):
        raise OSError(errno.ENOSPC, "no")
    with pytest.raises(errors.StorageError, match="below /elsewhere: the"), errors.storage_errors(tmp_path / "runs"):
        raise OSError(errno.ENOSPC, "no", "/elsewhere/file")
    inside = tmp_path / "runs" / "file"
    monkeypatch.setattr(errors, "_free_bytes", lambda path: 0)
    with pytest.raises(errors.StorageError, match=f"below {tmp_path}/runs: "), errors.storage_errors(inside.parent):
        raise OSError(errno.ENOSPC, "no", str(inside))


def test_other_faults_of_the_system_pass():
    with pytest.raises(FileNotFoundError), errors.storage_errors("x"):
        raise FileNotFoundError(errno.ENOENT, "no")


def _leaves_with(error, arguments=()):
    def main(options):
        raise error

    with pytest.raises(SystemExit) as caught:
        console.run(console.Options, main, list(arguments))
    return caught.value.code


def test_command_prints_one_line_and_exits_with_the_error_code(capsys):
    assert _leaves_with(errors.DataError("There must be [data].")) == 2
    assert capsys.readouterr().err == "error: There must be [data].\n"
    assert _leaves_with(errors.TrainingError("no")) == 1
    assert _leaves_with(KeyboardInterrupt()) == 130


def test_debug_shows_the_traceback():
    def main(options):
        raise errors.DataError("no")

    with pytest.raises(errors.DataError):
        console.run(console.Options, main, ["--debug"])


def test_several_faults_are_one_error_that_keeps_them_apart():
    error = errors.ConfigError.of(["a must be 1", "b must be 2"])
    assert str(error) == "2 invalid settings:\n  - a must be 1\n  - b must be 2"
    assert pickle.loads(pickle.dumps(error)).faults == ["a must be 1", "b must be 2"]
    assert errors.ConfigError.of(["a must be 1"]).faults == ["a must be 1"]
    assert str(errors.ConfigError.of(["a must be 1"])) == "a must be 1"
