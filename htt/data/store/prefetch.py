"""Background download of shards in the order in which they will be needed.

Threads exist only while there are shards to download. Errors in them are not reported: the loader requests the shard
itself when it needs it, and then raises the error.
"""

from __future__ import annotations

import atexit
import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence

from htt.data.shards.manifest import Shard
from htt.data.store.cache import Cache
from htt.data.store.remote import Remote, StoppedError
from htt.errors import HTTError

THREADS = 4
"""Number of parallel downloads: one connection does not use the whole bandwidth."""
SHUTDOWN_S = 10.0
"""Time a process waits at exit for downloads that cannot be interrupted, s."""


class Prefetcher:
    """Downloader of the shards a process is going to need."""

    def __init__(self, cache: Cache, remote: Remote, most_bytes: int | None = None) -> None:
        """Create the prefetcher; starts no download.

        Args:
            cache: cache for the shards.
            remote: folder in an object store that holds the shards.
            most_bytes: limit of the bytes downloaded ahead, so that the cache keeps the shards needed first, or None
                for no limit.
        """
        self._cache, self._remote, self._most = cache, remote, most_bytes
        self._lock = threading.Lock()
        self._needs: list[Shard] = []
        self._next = 0
        self._later: list[Shard] = []
        self._busy: set[str] = set()
        self._skipped: set[str] = set()
        self._threads: list[threading.Thread] = []
        _alive.add(self)

    def expect(self, needs: Sequence[Shard]) -> None:
        """Download these shards now, in order; without a limit, shards expected earlier follow."""
        with self._lock:
            if self._most is None:
                self._later = list(_once([*self._needs, *self._later]))
            self._needs, self._next = list(needs), 0
            self._skipped.clear()
        self._start_threads()

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """Queue behind the expected shards; starts no download."""
        with self._lock:
            self._later = list(_once([*self._later, *needs])) if self._most is None else []

    def reached(self, shard: Shard) -> None:
        """Record that the loader has reached this shard; earlier ones are no longer downloaded."""
        if self._most is None:
            return
        with self._lock:
            for index in range(self._next, len(self._needs)):
                if self._needs[index].sha256 == shard.sha256:
                    self._next = index + 1
                    break
        self._start_threads()

    def stop(self) -> None:
        """Stop all downloads, because the process ends."""
        self._remote.stopping.set()
        for thread in self._threads:
            thread.join(SHUTDOWN_S)

    def wait(self) -> None:
        """Wait until all possible downloads are complete."""
        for thread in list(self._threads):
            thread.join()

    def _start_threads(self) -> None:
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            for shard in list(itertools.islice(self._upcoming(), THREADS - len(self._threads))):
                thread = threading.Thread(target=self._fetch_all, name=f"prefetch {shard.file}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _fetch_all(self) -> None:
        while not self._remote.stopping.is_set():
            with self._lock:
                shard = next(self._upcoming(), None)
                if shard is None:
                    return
                self._busy.add(shard.sha256)
            try:
                self._cache.fetch(shard, self._remote)
            except StoppedError:
                return
            except HTTError:
                with self._lock:
                    self._skipped.add(shard.sha256)
            finally:
                with self._lock:
                    self._busy.discard(shard.sha256)

    def _upcoming(self) -> Iterator[Shard]:
        """Yield the shards to download, the most urgent first; the caller holds the lock."""
        ahead = 0
        for shard in _once(itertools.chain(itertools.islice(self._needs, self._next, None), self._later)):
            ahead += shard.bytes
            if self._most is not None and ahead > self._most:
                return
            if shard.sha256 in self._busy or shard.sha256 in self._skipped:
                continue
            if not self._cache.has(shard):
                yield shard
            elif self._most is None:
                self._skipped.add(shard.sha256)


def _once(shards: Iterable[Shard]) -> Iterator[Shard]:
    """Yield each distinct shard once, at its first position."""
    seen = set()
    for shard in shards:
        if shard.sha256 not in seen:
            seen.add(shard.sha256)
            yield shard


_alive: weakref.WeakSet[Prefetcher] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop downloads before Arrow closes the connections in use; Arrow registered its exit handler earlier."""
    for prefetcher in list(_alive):
        prefetcher.stop()
