"""Storage of a run: a local folder, optionally mirrored to a bucket, and locked so that one process writes it.

Small files (record, trials, Optuna study, reports) are always written to the local folder first, so that no finished
result is lost if the object store fails. If it does not answer, the run waits. Checkpoints and Tune's own state are
written to the storage directly.
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
from cluster.run_folder import LOCK, RUN_FILES, check_run_name, one_process
from htt import console, files
from htt.data.store.remote import is_remote
from htt.errors import RunError, StorageError, chain, refusal, storage_errors
from tune.experiments.spec import home
from tune.results.run_folder import RunFolder, find, write_text

open_uri = fs.FileSystem.from_uri
MIRRORED = (
    *RUN_FILES, "earlier.parquet", "trials.parquet", "trials.jsonl", "epochs.jsonl", "optuna.journal", "best.yaml",
    "report.md", "progress.png",
)  # fmt: skip
DRAWN = ("best.yaml", "report.md", "progress.png")
"""The mirrored files that can be created again from the others, so that losing them loses no result."""
COPY = ".copy.json"
"""Record of the last transfer: {"generation": lease under which this machine last wrote to the bucket, or "" if it only
read, "files": {name: state of the file at that time}}."""
CLIPS = "clips"
"""Folder of the per-clip results of each trial of a study."""
WATCH_S = 10.0
"""Interval of the checks that the bucket answers, s."""
Found = TypeVar("Found")


def locate(name: str, uri: str | None, runs: Path = Path("runs")) -> RunFolder:
    """Return the local folder of a run, updated from its bucket if it has one.

    Args:
        name: name of the run, or path of its folder.
        uri: storage of the run, or None for the storage in its record.
        runs: folder of all runs on this machine.

    Raises:
        RunError: no such run, or a local run and a run in the bucket have the same name.
        StorageError: the bucket does not answer, and was given by ``uri`` or there is no local copy.
    """
    place = home(uri, runs)
    here: RunFolder | None = None
    kept: str | None = None
    with contextlib.suppress(RunError):
        here = find(name, place)
        kept = here.record().spec.storage
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
    """Storage of one run: the folder ``local`` for small files, ``uri`` for the files of Ray Tune."""

    def __init__(self, name: str, runs: Path, uri: str | None = None) -> None:
        """Set the paths; write nothing.

        Args:
            name: name of the run.
            runs: folder of all runs on this machine.
            uri: folder or pyarrow.fs URI (s3://bucket/path) that all machines can write to, or None for ``runs``.

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
        """The URI without its query, for messages."""
        return self.uri.partition("?")[0]

    def check(self) -> None:
        """Raise a ``StorageError`` unless the local folder and the bucket are writable."""
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
        """Return whether the run exists, in the local folder or in the bucket."""
        return RunFolder(self.local).exists() or self.exists_there()

    def exists_there(self, *marks: str) -> bool:
        """Return whether the bucket holds a file that every run has: one of ``marks``, or the record of the run."""
        return self.remote and self._patiently(lambda: any(map(self._is_file, marks or RUN_FILES)))

    def _is_file(self, name: str) -> bool:
        system, path = self._open()
        return bool(system.get_file_info(f"{path}/{name}").type == fs.FileType.File)

    def push(self, *names: str) -> None:
        """Copy small files to the bucket: ``names``, or by default ``MIRRORED``.

        Raises:
            StorageError: the bucket refuses, or another process holds the lease of the run.
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
                if known.pop(name, None):  # merged into a file that is already copied
                    with contextlib.suppress(FileNotFoundError):
                        system.delete_file(f"{path}/{name}")
            elif known.get(name) != (state := self._state(name)):
                system.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
                fs.copy_files(str(self.local / name), f"{path}/{name}", destination_filesystem=system)
                known[name] = state
        if self._lease:
            self._note(self._lease.word, known)

    def check_mine(self) -> None:
        """Raise a ``StorageError`` if the lease of the run is known to be lost; send no request."""
        if self._lease:
            self._lease.check()

    def _noted(self) -> tuple[str, dict[str, list[int]]]:
        """Return the generation and the file states in ``COPY``."""
        try:
            found = json.loads((self.local / COPY).read_text(encoding="utf-8"))
            return str(found["generation"]), dict(found["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", {}

    def _note(self, word: str, copied: Mapping[str, list[int]]) -> None:
        write_text(self.local / COPY, json.dumps({"generation": word, "files": copied}))

    def push_reports(self) -> None:
        """Copy all files at the top level of the run's folder to the bucket; reports vary in their number of files."""
        self.push(*(path.name for path in self.local.iterdir() if path.is_file() and not path.name.startswith(".")))

    def pull(self, *names: str) -> None:
        """Update the small local files from the bucket, unless this machine was the last to write there.

        Local results that never reached the bucket are moved to a separate folder, ``unsent-<time>``.

        Args:
            names: the files, by default ``MIRRORED``; the first must be a file that every run has.
        """
        if not self.exists_there(*names[:1]):
            return
        there = self._patiently(lambda: generation(*self._open()))
        word, known = self._noted()
        if there and there == word and any((self.local / name).exists() for name in names[:1] or RUN_FILES):
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
            if not (self.local / CLIPS / name).exists():  # clip files never change
                self.fetch(f"{CLIPS}/{name}", self.local / CLIPS / name)
        self._note("", {name: self._state(name) for name in names or MIRRORED if (self.local / name).exists()})

    def refresh(self, *names: str) -> None:
        """Call ``pull``, unless a process of this machine works on the run: the local files are then the newest."""
        if self.exists_there(*names[:1]):
            with contextlib.suppress(RunError), one_process(self.local):
                self.pull(*names)

    def _state(self, name: str) -> list[int]:
        return files.state((self.local / name).stat())

    def _replace(self, name: str, aside: str | None) -> bool:
        """Replace the local file by that of the bucket, or remove it; return whether it was moved to ``aside``."""
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
        """Copy a file of the run's storage to this machine atomically; return False if it does not exist."""
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
        """Remove folders of the run's storage, if they exist."""
        self.check_mine()
        system, path = self._open()
        for folder in folders:
            with contextlib.suppress(OSError):  # a leftover only costs space
                system.delete_dir(f"{path}/{folder}")

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder of the run's storage."""
        return self._names(folder, fs.FileType.Directory)

    def files(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of the run's storage."""
        return self._names(folder, fs.FileType.File)

    def _names(self, folder: str, kind: fs.FileType) -> list[str]:
        def found() -> list[fs.FileInfo]:
            system, path = self._open()
            return list(system.get_file_info(fs.FileSelector(f"{path}/{folder}".rstrip("/"), allow_not_found=True)))

        return [entry.base_name for entry in self._patiently(found) if entry.type == kind]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for this process; see ``cluster.run_folder.one_process``, and ``cluster.lock`` for a bucket."""
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
        """Remove the folder of a run that never started, and the parent folders created for it."""
        if {path.name for path in self.local.iterdir()} <= {LOCK}:
            (self.local / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a parent holds another run by now
                for path in self._made:
                    path.rmdir()

    def _open(self) -> tuple[fs.FileSystem, str]:
        if not self.remote:
            return fs.LocalFileSystem(), self.uri
        if self._opened is None:  # once: Arrow cannot open another while a request waits for an answer
            system, path = open_uri(self.uri)
            self._opened = system, path.rstrip("/")
        return self._opened

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Report a bucket that does not answer, even while only the trials use it."""
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
        """Raise the ``StorageError`` of the local disk that caused an error of Tune or Optuna."""
        try:
            yield
        except Exception as error:
            for cause in chain(error, "__context__"):
                if isinstance(cause, StorageError):
                    if cause is error:
                        raise
                    raise StorageError(str(cause)) from error  # a copy, since an error cannot be its own cause
                if isinstance(cause, OSError) and (refused := refusal(cause, self.local)):
                    raise refused from error
            if not self.local.is_dir():
                raise StorageError(
                    f"{self.local} must stay where it is while its run goes on; it is gone. Put it back and resume the "
                    "run."
                ) from error
            raise

    def _patiently(self, work: Callable[[], Found]) -> Found:
        """Run an operation on the storage; wait while the storage does not answer."""
        with self._refusals():
            found = stores.patiently(work, self._say_it_is_away)
        self._away = False
        return found

    def _say_it_is_away(self) -> None:
        """Report once, until the next success, that the storage does not answer."""
        if not self._away:
            self._away = True
            stores.say_it_is_away(self.uri)

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        return stores.refusals(self.uri, f"What was finished is in {self.local}.")
