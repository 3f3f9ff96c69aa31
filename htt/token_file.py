"""The token without which no Ray of ours answers: where it is, and how it is made.

A Ray listens on every address of its machine, also one that was started for a single command, and whoever may talk to
it may run code as its user. So every Ray here asks for a token: one line of ``~/.ray/auth_token``, which only its owner
may read. Ray would make that file itself, readable by all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from htt.errors import ClusterError

MODE, TOKEN, PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Names in the environment by which Ray is told whether to ask for a token, which, and in which file it is."""
TOKEN_BYTES = 32
OWNER_ONLY = 0o600


def path() -> Path:
    """The file the token of this user is in, there or not."""
    named = os.environ.get(PATH)
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def there_is_one() -> bool:
    """Whether Ray would find a token for this user."""
    return bool(os.environ.get(TOKEN)) or path().is_file()


def make() -> bool:
    """See to it that there is a token in its file, which only this user may read; whether it was made now.

    One that is there stays: clusters may use it.

    Raises:
        ClusterError: the file cannot be written.
    """
    file = path()
    try:
        _write(file)
    except OSError as error:
        if isinstance(error, FileExistsError) and file.is_file():
            return False
        raise ClusterError(
            f"The token must be written to {file}; {error.strerror}. Make the folder writable, or name another file "
            f"with {PATH}."
        ) from error
    return True


def _write(file: Path) -> None:
    """Whole or not at all, and readable by nobody else at any moment: it appears under its name when it is written."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(TOKEN_BYTES))
        os.link(beside, file)  # fails if there is one, which a rename would not
    finally:
        beside.unlink()


def close_to_others() -> bool:
    """Take from all but the owner what rights they have on the file; whether they had any.

    Raises:
        ClusterError: the file is another user's.
    """
    try:
        return _close()
    except OSError as error:
        raise ClusterError(
            f"Only its owner may read a token; others can read {path()}, and it is not yours to change: "
            f"{error.strerror}. Make it yours (sudo chown $USER {path()}), or name another file with {PATH}."
        ) from error


def _close() -> bool:
    file = path()
    if not file.is_file() or not file.stat().st_mode & 0o077:
        return False
    file.chmod(OWNER_ONLY)
    return True


def ensure() -> None:
    """See to it that a Ray started by this process asks for a token, unless ``RAY_AUTH_MODE`` says it must not.

    The token is the user's, made if there is none, so that other commands of the same user can join; where no file can
    be written, it is one of this process alone, in its environment.
    """
    if os.environ.get(MODE, "token").lower() != "token" or os.environ.get(TOKEN):
        return
    try:
        with contextlib.suppress(FileExistsError):
            _write(path())
        _close()
    except OSError:
        if not path().is_file():
            os.environ[TOKEN] = secrets.token_hex(TOKEN_BYTES)
