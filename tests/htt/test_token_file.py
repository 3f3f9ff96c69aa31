import errno
import os
import stat

import pytest

from htt import token_file
from htt.errors import ClusterError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in (token_file.MODE, token_file.TOKEN, token_file.PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_make_writes_a_long_private_token(home):
    assert token_file.make()
    file = token_file.path()
    assert file == home / ".ray" / "auth_token"
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert len(file.read_text()) == 64
    assert set(file.read_text()) <= set("0123456789abcdef")
    assert [path.name for path in file.parent.iterdir()] == ["auth_token"]


def test_make_gives_different_tokens(home, monkeypatch):
    texts = []
    for name in ("one", "other"):
        monkeypatch.setenv(token_file.PATH, str(home / name))
        assert token_file.make()
        texts.append((home / name).read_text())
    assert texts[0] != texts[1]


def test_make_and_ensure_keep_an_existing_token():
    assert token_file.make()
    before = token_file.path().read_text()
    assert not token_file.make()
    token_file.ensure()
    assert token_file.path().read_text() == before


def test_make_names_unwritable_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    with pytest.raises(ClusterError, match=r"Cannot write the token to /dev/null/\.ray/auth_token: Not a directory"):
        token_file.make()


def test_make_refuses_a_file_in_place_of_the_folder(home):
    (home / ".ray").touch()
    with pytest.raises(ClusterError, match=r"Cannot write the token to .*/\.ray/auth_token: File exists"):
        token_file.make()


def test_restrict_to_owner_names_a_token_of_another_user(home, monkeypatch):
    token_file.make()
    token_file.path().chmod(0o644)

    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refused)
    with pytest.raises(ClusterError, match=r"can read .*auth_token, and its rights cannot be changed: Operation not"):
        token_file.restrict_to_owner()
    token_file.ensure()  # a Ray starts all the same


def test_restrict_to_owner_closes_a_readable_token(home):
    (home / ".ray").mkdir()
    file = home / ".ray" / "auth_token"
    file.write_text("made by Ray")
    file.chmod(0o644)
    assert token_file.restrict_to_owner()
    assert (mode(file), file.read_text()) == (0o600, "made by Ray")
    assert not token_file.restrict_to_owner()


def test_ensure_creates_a_private_token(home):
    assert not token_file.exists()
    token_file.ensure()
    assert token_file.exists()
    assert mode(home / ".ray" / "auth_token") == 0o600
    assert token_file.TOKEN not in os.environ


def test_without_a_home_the_token_is_this_processs_own(monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setenv(token_file.TOKEN, "")  # undone after the test
    token_file.ensure()
    assert len(os.environ[token_file.TOKEN]) == 64


@pytest.mark.parametrize("settings", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "given"}])
def test_ensure_respects_settings_of_the_user(home, monkeypatch, settings):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    token_file.ensure()
    assert list(home.iterdir()) == []
    assert {name: os.environ[name] for name in settings} == settings
