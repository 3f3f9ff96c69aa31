"""Shards on their way before they are needed: a few threads that download them in the order of need.

The threads live while there is something to fetch, so a data set that is there has none. What goes wrong in them is
left for whoever needs the shard: the loader asks for it itself, and says why it cannot be had.
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
"""Shards downloaded at once: one connection does not fill a line."""
SHUTDOWN_S = 10.0
"""A process that ends waits so long for what cannot be interrupted."""


class Prefetcher:
    """Fetches the shards a process is going to need."""

    def __init__(self, cache: Cache, remote: Remote, most_bytes: int | None = None) -> None:
        """Fetch nothing yet.

        Args:
            cache: where the shards go.
            remote: where they come from.
            most_bytes: so much ahead at most, or the cache would lose what is needed first; None: all.
        """
        self._cache, self._remote, self._most = cache, remote, most_bytes
        self._lock = threading.Lock()
        self._needs: list[Shard] = []
        self._place = 0
        self._later: list[Shard] = []
        self._busy: set[str] = set()
        self._skipped: set[str] = set()
        self._threads: list[threading.Thread] = []
        _alive.add(self)

    def expect(self, needs: Sequence[Shard]) -> None:
        """From now on fetch these, in order; what was expected before comes after them, where all of it fits."""
        with self._lock:
            if self._most is None:
                self._later = list(_once([*self._needs, *self._later]))
            self._needs, self._place = list(needs), 0
            self._skipped.clear()
        self._go_on()

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """After all that is expected, these are needed; nothing is begun for them alone."""
        with self._lock:
            self._later = list(_once([*self._later, *needs])) if self._most is None else []

    def reached(self, shard: Shard) -> None:
        """The loader has come to this shard: what was to come before it is of no use any more."""
        if self._most is None:
            return
        with self._lock:
            for place in range(self._place, len(self._needs)):
                if self._needs[place].sha256 == shard.sha256:
                    self._place = place + 1
                    break
        self._go_on()

    def stop(self) -> None:
        """Stop fetching, for the process ends."""
        self._remote.stopping.set()
        for thread in self._threads:
            thread.join(SHUTDOWN_S)

    def wait(self) -> None:
        """Wait until all that can be fetched is fetched."""
        for thread in list(self._threads):
            thread.join()

    def _go_on(self) -> None:
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
        """What is to be fetched, the most urgent first; the lock is held."""
        ahead = 0
        for shard in _once(itertools.chain(itertools.islice(self._needs, self._place, None), self._later)):
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
    """Each shard at its first place."""
    seen = set()
    for shard in shards:
        if shard.sha256 not in seen:
            seen.add(shard.sha256)
            yield shard


_alive: weakref.WeakSet[Prefetcher] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Before Arrow closes its connections under a thread that reads from them; it has registered first."""
    for prefetcher in list(_alive):
        prefetcher.stop()
