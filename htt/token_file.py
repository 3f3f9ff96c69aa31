"""Authentication token of the user's Rays: its location and creation.

A Ray listens on every address of its machine, even if it was started for a single command, and anyone who can connect
can run code as its user. So every Ray here requires a token: one line of ``~/.ray/auth_token``, which only its owner
may read. Ray would create that file readable by all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from htt.errors import ClusterError

MODE, TOKEN, PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Environment variables of Ray: whether it requires a token, the token itself, and the path of the token file."""
TOKEN_BYTES = 32
OWNER_ONLY = 0o600


def path() -> Path:
    """Return the path of this user's token file, which need not exist."""
    named = os.environ.get(PATH)
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def exists() -> bool:
    """Return whether Ray would find a token for this user."""
    return bool(os.environ.get(TOKEN)) or path().is_file()


def make() -> bool:
    """Create the token file, readable by this user only, and return whether it was created now.

    An existing token is kept, because clusters may use it.

    Raises:
        ClusterError: the file is not writable.
    """
    file = path()
    try:
        _write(file)
    except OSError as error:
        if isinstance(error, FileExistsError) and file.is_file():
            return False
        raise ClusterError(
            f"Cannot write the token to {file}: {error.strerror}. Make the folder writable, or set another file with "
            f"{PATH}."
        ) from error
    return True


def _write(file: Path) -> None:
    """Write a token atomically, never readable by others: the file gets its name only when it is complete."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(TOKEN_BYTES))
        os.link(beside, file)  # fails if the file exists, unlike a rename
    finally:
        beside.unlink()


def restrict_to_owner() -> bool:
    """Remove the rights of other users on the token file, and return whether they had any.

    Raises:
        ClusterError: the file belongs to another user.
    """
    try:
        return _close()
    except OSError as error:
        raise ClusterError(
            f"Other users can read the token file {path()}, and its rights cannot be changed: {error.strerror}. "
            f"Take ownership (sudo chown $USER {path()}), or set another file with {PATH}."
        ) from error


def _close() -> bool:
    file = path()
    if not file.is_file() or not file.stat().st_mode & 0o077:
        return False
    file.chmod(OWNER_ONLY)
    return True


def ensure() -> None:
    """Make every Ray started by this process require a token, unless ``RAY_AUTH_MODE`` disables it.

    The token is the user's, created if missing, so that other commands of the same user can join. If no file can be
    written, the token exists only in this process's environment.
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
