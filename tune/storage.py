"""Where a run's files are: a folder of this machine, mirrored to a bucket where one is asked for, worked on by one.

Small files (what was asked, the trials, the study, the reports) are always written to the local folder first, so an
object store that fails costs nothing that was finished; one that does not answer is waited for. Checkpoints and Tune's
own state go to the storage directly.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pyarrow import fs

from cluster import stores
from cluster.claim import claimed
from cluster.folder import LOCK, one_process
from htt.data.remote import is_remote
from htt.errors import RunError, StorageError, storage_errors
from tune.results import RunFolder, find

open_uri = fs.FileSystem.from_uri
MIRRORED = (
    "asked.yaml", "earlier.parquet", "trials.parquet", "epochs.jsonl", "optuna.journal", "best.yaml", "report.md",
    "progress.png",
)  # fmt: skip
CLIPS = "clips"
"""The folder of what each training of a study says of each clip."""
WATCH_S = 10.0
"""Between two looks at whether a bucket answers."""
Found = TypeVar("Found")


def home(uri: str | None, runs: Path = Path("runs")) -> Path:
    """The folder of all runs on this machine: ``runs``, unless the storage is a folder itself.

    Raises:
        ConfigError: ``uri`` holds a password.
    """
    if uri is None:
        return runs
    place = stores.settled(uri)
    return runs if is_remote(place) else Path(place)


def locate(name: str, uri: str | None, runs: Path = Path("runs")) -> RunFolder:
    """The folder of a run on this machine, by its name or path; one that is in a bucket alone is fetched.

    Raises:
        RunError: there is no such run.
    """
    place = home(uri, runs)
    if uri is not None and is_remote(uri):
        with contextlib.suppress(RunError):
            return find(name, place)
        Storage(Path(name).name, place, uri).pull()
    return find(name, place)


class Storage:
    """The place of one run: ``local`` for small files, ``uri`` for all that Tune keeps."""

    def __init__(self, name: str, runs: Path, uri: str | None = None) -> None:
        """Name the place; nothing is written yet.

        Args:
            name: of the run.
            runs: the folder of all runs on this machine.
            uri: a folder or pyarrow.fs URI (s3://bucket/path) that all machines can write to; none: ``runs``.

        Raises:
            ConfigError: ``uri`` holds a password.
        """
        self.local = (home(uri, runs) / name).resolve()
        self.remote = uri is not None and is_remote(uri)
        self.uri = stores.below(uri, name) if self.remote and uri is not None else str(self.local)
        self._made: list[Path] = []
        self._opened: tuple[fs.FileSystem, str] | None = None
        self._away = False

    def check(self) -> None:
        """Raise a ``StorageError`` unless both places take a file."""
        probe = self.local / ".probe"
        with storage_errors(self.local):
            try:
                self._made = [path for path in (self.local, *self.local.parents) if not path.exists()]
                self.local.mkdir(parents=True, exist_ok=True)
                probe.write_text("ok", encoding="utf-8")
                probe.unlink()
            except (NotADirectoryError, FileExistsError, FileNotFoundError) as error:
                raise StorageError(f"{self.local} must be a folder that can be made; {error}.") from error
        if self.remote:
            with self._refusals():
                system, path = self._open()
                system.create_dir(path, recursive=True)
                with system.open_output_stream(f"{path}/.probe") as stream:
                    stream.write(b"ok")
                system.delete_file(f"{path}/.probe")

    def exists(self) -> bool:
        """Whether the run was begun, here or in the bucket."""
        if (self.local / "asked.yaml").exists():
            return True
        if not self.remote:
            return False
        with self._refusals():
            system, path = self._open()
            return bool(system.get_file_info(f"{path}/asked.yaml").type == fs.FileType.File)

    def push(self, *names: str) -> None:
        """Copy small files to the bucket: these, or else all that change while a run goes on."""
        if self.remote:
            self._patiently(lambda: self._push(names or MIRRORED))

    def _push(self, names: Sequence[str]) -> None:
        system, path = self._open()
        for name in names:
            if (self.local / name).exists():
                system.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
                fs.copy_files(str(self.local / name), f"{path}/{name}", destination_filesystem=system)

    def push_reports(self) -> None:
        """Copy all files of the run's folder itself to the bucket: a report may have any number of them."""
        self.push(*(path.name for path in self.local.iterdir() if path.is_file() and not path.name.startswith(".")))

    def pull(self) -> None:
        """Fetch the small files from the bucket where this machine has none."""
        if self.remote and not (self.local / "asked.yaml").exists():
            for name in [*MIRRORED, *(f"{CLIPS}/{name}" for name in self.files(CLIPS))]:
                self.fetch(name, self.local / name)

    def fetch(self, name: str, to: Path) -> bool:
        """Copy a file below the run's storage to this machine, whole or not at all; whether it is there."""
        return self._patiently(lambda: self._fetch(name, to))

    def _fetch(self, name: str, to: Path) -> bool:
        system, path = self._open()
        if system.get_file_info(f"{path}/{name}").type != fs.FileType.File:
            return False
        beside = to.with_name(f".{to.name}.part")
        to.parent.mkdir(parents=True, exist_ok=True)
        fs.copy_files(f"{path}/{name}", str(beside), source_filesystem=system)
        beside.replace(to)
        return True

    def remove(self, *folders: str) -> None:
        """Remove folders below the run's storage, where they exist."""
        system, path = self._open()
        for folder in folders:
            with contextlib.suppress(OSError):  # a leftover costs space, never a result
                system.delete_dir(f"{path}/{folder}")

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder of the run's storage."""
        return self._names(folder, fs.FileType.Directory)

    def files(self, folder: str) -> list[str]:
        """The names of the files in a folder of the run's storage."""
        return self._names(folder, fs.FileType.File)

    def _names(self, folder: str, kind: fs.FileType) -> list[str]:
        def found() -> list[fs.FileInfo]:
            system, path = self._open()
            return list(system.get_file_info(fs.FileSelector(f"{path}/{folder}".rstrip("/"), allow_not_found=True)))

        return [entry.base_name for entry in self._patiently(found) if entry.type == kind]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Work on the run alone; see ``cluster.folder.one_process``, and ``cluster.claim`` for a bucket."""
        with one_process(self.local), claimed(self.uri, *self._open()) if self.remote else contextlib.nullcontext():
            yield

    def discard_if_empty(self) -> None:
        """Remove the folder of a run that never began, and what was made to hold it."""
        if {path.name for path in self.local.iterdir()} <= {LOCK}:
            (self.local / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another run came to live beside it
                for path in self._made:
                    path.rmdir()

    def _open(self) -> tuple[fs.FileSystem, str]:
        if not self.remote:
            return fs.LocalFileSystem(), self.uri
        if self._opened is None:  # once: Arrow opens no other while a request waits for an answer
            system, path = open_uri(self.uri)
            self._opened = system, path.rstrip("/")
        return self._opened

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Say it when a bucket does not answer, also while only the trials need it."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_S):
                with contextlib.suppress(StorageError):
                    self.files("")

        if self.remote:
            threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    @contextlib.contextmanager
    def refusals_behind(self) -> Iterator[None]:
        """Find out the refusal of this machine's disk behind whatever Tune and Optuna made of it."""
        try:
            yield
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None:
                with contextlib.suppress(OSError), storage_errors(self.local):
                    if isinstance(cause, OSError | StorageError):
                        raise cause from error
                cause = cause.__cause__ or cause.__context__
            raise

    def _patiently(self, work: Callable[[], Found]) -> Found:
        """Do a thing with the storage, waiting for one that does not answer."""
        with self._refusals():
            found = stores.patiently(work, self._say_it_is_away)
        self._away = False
        return found

    def _say_it_is_away(self) -> None:
        """In one line, whoever of us meets it first."""
        if not self._away:
            self._away = True
            stores.say_it_is_away(self.uri)

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        return stores.refusals(self.uri, f"What was finished is in {self.local}.")
