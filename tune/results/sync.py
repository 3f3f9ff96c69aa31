"""Where a run's files are: a folder of this machine, mirrored to a bucket where one is asked for, worked on by one.

Small files (what was asked, the trials, the study, the reports) are always written to the local folder first, so an
object store that fails costs nothing that was finished; one that does not answer is waited for. Checkpoints and Tune's
own state go to the storage directly.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pyarrow import fs

from cluster import storage as stores
from cluster.lock import Lease, claimed, generation
from cluster.run_folder import LOCK, check_run_name, one_process
from htt import console, files
from htt.data.store.remote import is_remote
from htt.errors import RunError, StorageError, chain, refusal, storage_errors
from tune.experiments.spec import home
from tune.results.run_folder import RunFolder, find, write_text

open_uri = fs.FileSystem.from_uri
MIRRORED = (
    "asked.yaml", "earlier.parquet", "trials.parquet", "trials.jsonl", "epochs.jsonl", "optuna.journal", "best.yaml",
    "report.md", "progress.png",
)  # fmt: skip
DRAWN = ("best.yaml", "report.md", "progress.png")
"""Of these, what is drawn from the others: none of them is a result that can be lost."""
COPY = ".copy.json"
"""{"generation": under which claim this machine wrote to the bucket last, empty where it only read, "files": {name:
what each file was then}}."""
CLIPS = "clips"
"""The folder of what each training of a study says of each clip."""
WATCH_S = 10.0
"""Between two looks at whether a bucket answers."""
Found = TypeVar("Found")


def locate(name: str, uri: str | None, runs: Path = Path("runs")) -> RunFolder:
    """The folder of a run on this machine, by its name or path, as its bucket has it if it is kept in one.

    Args:
        name: of the run, or its folder.
        uri: where the run is kept; none: where it says itself.
        runs: the folder of all runs on this machine.

    Raises:
        RunError: there is no such run.
        StorageError: the bucket that was named does not answer.
    """
    place = home(uri, runs)
    here: RunFolder | None = None
    kept: str | None = None
    with contextlib.suppress(RunError):
        here = find(name, place)
        kept = here.asked().storage
    for bucket in dict.fromkeys(each for each in (uri, kept) if each and is_remote(each)):
        check_run_name(Path(name).name)
        storage = Storage(Path(name).name, here.path.parent if here else place, bucket)
        try:
            if not storage.exists_there():
                continue
            if kept and not is_remote(kept):
                raise RunError(
                    f"A name must stand for one run; {place / name} is a run of this machine alone, and "
                    f"{storage.shown} is another. Rename one of the folders."
                )
            storage.refresh()
            break
        except StorageError as error:
            if bucket == uri or here is None:
                raise
            console.err.print(f"{error} What follows is of this machine's copy, which may be older.", markup=False)
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
        self._lease: Lease | None = None
        self._away = False

    @property
    def shown(self) -> str:
        """What messages call it."""
        return self.uri.partition("?")[0]

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
        return (self.local / "asked.yaml").exists() or self.exists_there()

    def exists_there(self, mark: str = "asked.yaml") -> bool:
        """Whether the bucket has the run; ``mark`` is the file that every run has."""
        return self.remote and self._patiently(lambda: self._is_file(mark))

    def _is_file(self, name: str) -> bool:
        system, path = self._open()
        return bool(system.get_file_info(f"{path}/{name}").type == fs.FileType.File)

    def push(self, *names: str) -> None:
        """Copy small files to the bucket: these, or else all that change while a run goes on.

        Raises:
            StorageError: the bucket refuses, or another process has taken the run over.
        """
        if self.remote:
            self._patiently(lambda: self._push(names or MIRRORED))

    def _push(self, names: Sequence[str]) -> None:
        system, path = self._open()
        known: dict[str, list[int]] = {}
        if self._lease:
            self._lease.publish()
            word, noted = self._noted()
            known = noted if word == self._lease.word else {}
        for name in names:
            if not (self.local / name).exists():
                if known.pop(name, None):  # it was joined to another, which is there by now
                    with contextlib.suppress(FileNotFoundError):
                        system.delete_file(f"{path}/{name}")
            elif known.get(name) != (state := self._state(name)):
                system.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
                fs.copy_files(str(self.local / name), f"{path}/{name}", destination_filesystem=system)
                known[name] = state
        if self._lease:
            self._note(self._lease.word, known)

    def check_mine(self) -> None:
        """Raise a ``StorageError`` if another process was seen to have taken the run over; asks nobody."""
        if self._lease:
            self._lease.check()

    def _noted(self) -> tuple[str, dict[str, list[int]]]:
        """What ``COPY`` holds."""
        try:
            found = json.loads((self.local / COPY).read_text(encoding="utf-8"))
            return str(found["generation"]), dict(found["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", {}

    def _note(self, word: str, copied: Mapping[str, list[int]]) -> None:
        write_text(self.local / COPY, json.dumps({"generation": word, "files": copied}))

    def push_reports(self) -> None:
        """Copy all files of the run's folder itself to the bucket: a report may have any number of them."""
        self.push(*(path.name for path in self.local.iterdir() if path.is_file() and not path.name.startswith(".")))

    def pull(self, *names: str) -> None:
        """Bring this machine's small files to what the bucket has, unless this machine was the last to write there.

        A result that never reached the bucket is set aside, in a folder of its own.

        Args:
            names: the files; the first is one that every run has. None: those of a search or study.
        """
        if not self.exists_there((names or MIRRORED)[0]):
            return
        there = self._patiently(lambda: generation(*self._open()))
        word, known = self._noted()
        if there and there == word and (self.local / (names or MIRRORED)[0]).exists():
            return
        aside = f"unsent-{time.strftime('%Y%m%d-%H%M%S')}"
        for name in names or MIRRORED:
            changed = (self.local / name).exists() and name not in DRAWN and self._state(name) != known.get(name)
            if self._replace(name, aside if changed else None):
                console.err.print(
                    f"{name} of this machine has what never reached {self.shown}; it is kept in {self.local / aside}.",
                    markup=False,
                )
        for name in [] if names else self.files(CLIPS):
            if not (self.local / CLIPS / name).exists():  # they never change
                self.fetch(f"{CLIPS}/{name}", self.local / CLIPS / name)
        self._note("", {name: self._state(name) for name in names or MIRRORED if (self.local / name).exists()})

    def refresh(self, *names: str) -> None:
        """``pull``, unless a process of this machine works on the run: then nothing is newer than its files."""
        if self.exists_there((names or MIRRORED)[0]):
            with contextlib.suppress(RunError), one_process(self.local):
                self.pull(*names)

    def _state(self, name: str) -> list[int]:
        return files.state((self.local / name).stat())

    def _replace(self, name: str, aside: str | None) -> bool:
        """Put the bucket's file, or none, in the place of this machine's; whether that was kept in ``aside``."""
        mine, fetched = self.local / name, self.local / f".{Path(name).name}.fetched"
        found = self.fetch(name, fetched)
        kept = aside is not None and not (found and fetched.read_bytes() == mine.read_bytes())
        with storage_errors(self.local):
            if kept and aside:
                (self.local / aside / name).parent.mkdir(parents=True, exist_ok=True)
                mine.replace(self.local / aside / name)
            if found:
                mine.parent.mkdir(parents=True, exist_ok=True)
                fetched.replace(mine)
            elif name not in DRAWN:
                mine.unlink(missing_ok=True)
        return kept

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
        self.check_mine()
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
        """Work on the run alone; see ``cluster.run_folder.one_process``, and ``cluster.lock`` for a bucket."""
        with one_process(self.local):
            if not self.remote:
                yield
                return
            with claimed(self.uri, *self._open()) as self._lease:
                try:
                    yield
                finally:
                    self._lease = None

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
            for cause in chain(error, "__context__"):
                if isinstance(cause, StorageError):
                    if cause is error:
                        raise
                    raise StorageError(str(cause)) from error  # not the cause itself: it would be its own cause
                if isinstance(cause, OSError) and (refused := refusal(cause, self.local)):
                    raise refused from error
            if not self.local.is_dir():
                raise StorageError(
                    f"{self.local} must stay where it is while its run goes on; it is gone. Put it back and resume the "
                    "run."
                ) from error
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
