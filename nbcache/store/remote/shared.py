"""A shared cache as seen from one machine: its keys mirrored, the rest fetched when asked for.

Keeps three promises: a look-up sends no request, whether it hits or misses; nothing that was
fetched counts before its digest was checked; whatever goes wrong at the store is no error of the
run (it is told once for each kind, and the caller goes on without).

What it is made of: `contact` (how we stand with the store), `mirror` (its log), `fetching` (blobs).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nbcache.model.digest import Digest
from nbcache.model.row import Record
from nbcache.store.blobs import Blobs
from nbcache.store.entry import Entry
from nbcache.store.filestate import RemoteNote
from nbcache.store.log import Log
from nbcache.store.remote.contact import Contact
from nbcache.store.remote.fetching import Fetching, blobs_of
from nbcache.store.remote.header import is_weekly, read_header
from nbcache.store.remote.mirror import Mirror
from nbcache.store.remote.protocol import Store

AT_ONCE = 16
"""Requests in flight: what a laptop's connection and one process's threads bear."""


class Shared:
    """A shared cache behind a local one. Thread-safe. Use `Shared.open`."""

    def __init__(
        self, contact: Contact, mirror: Mirror, fetching: Fetching, pool: ThreadPoolExecutor
    ) -> None:
        self.contact, self.mirror, self.fetching = contact, mirror, fetching
        self.store, self.id, self.root, self.log = contact.store, mirror.id, mirror.root, mirror.log
        self._pool = pool
        self._used: list[str] = []  # rows that hits used, to be adopted
        self.to_tell: dict[str, RemoteNote] = {}  # of remote files of runs, by their names

    @classmethod
    def open(
        cls,
        store: Store,
        root: Path,
        blobs: Blobs,
        *,
        read_only: bool = False,
        trouble: Callable[[str], None] = lambda text: None,
        before_making: Callable[[], None] = lambda: None,
    ) -> Shared:
        """Open the shared cache in a store, and make it first where there is none.

        root: of the local cache, which holds the mirror. trouble: is told, once for each kind, what
        goes wrong at the store later. before_making: raises where no cache may be made.

        Raises:
            CacheFormatError: the store holds something else, a newer format, one machine's cache
                and `read_only` is not set, or nothing and it is.
            RemoteStoreError: it does not answer. StoreError: it cannot be mirrored.
        """
        reason = "it is shared read-only" if read_only else None
        header, reason = read_header(store, reason, before_making)
        contact = Contact(store, read_only=reason, trouble=trouble)
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nbcache-shared")
        mirror = Mirror(contact, header["id"], root / "shared" / header["id"], pool)
        since_us = header.get("created", 0) if is_weekly(header) else None
        fetching = Fetching(contact, blobs, pool, since_us, mirror.root / "damaged")
        return cls(contact, mirror, fetching, pool)

    def close(self) -> None:
        """Let go of threads, maps and connections; what is being fetched is left."""
        self.fetching.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.log.close()
        self.store.close()

    # ------------------------------------------------------------------ finding

    def find(self, hash: Digest) -> Entry | None:
        """Return the best row of a hash that the mirror holds; sends no request."""
        entries = self.log.find_all(hash)
        is_there = entries and self.fetching.offers(blobs_of(entries[0]), entries)
        return entries[0] if is_there else None

    def offers(self, hash: Digest, wanted: Collection[str]) -> bool:
        """Whether all these blobs can be fetched, as results of a hash; sends no request."""
        return not wanted or self.fetching.offers(wanted, self.log.find_all(hash))

    # ------------------------------------------------------------------ rows that hits used

    def note_used(self, row_id: str) -> None:
        """Note that a hit uses a row: the local log is to have it, too."""
        self._used.append(row_id)

    def adopt_into(self, log: Log) -> list[str]:
        """Copy the rows that hits used into the local log, which then tells of them by itself.

        Returns their ids. Raises RemoteStoreError or StoreError; then they are tried again.
        """
        used = list(dict.fromkeys(self._used))
        if used:
            held = {record["id"] for record in log.records_of(used)}
            log.adopt(self.mirror.records([row_id for row_id in used if row_id not in held]))
            done = set(used)
            self._used = [row_id for row_id in self._used if row_id not in done]
        return used

    def note_sent(self, ids: Iterable[str]) -> None:
        """Note what the store has from here, for whoever sends from this cache."""
        with open(self.root / "sent", "ab", buffering=0) as file:
            file.write("".join(f"\n{each}\n" for each in ids).encode())

    def history(self) -> list[Record]:
        """Return the rows of all results and runs there are, in full.

        Raises:
            RemoteStoreError, StoreError: they cannot be fetched or read.
        """
        self.mirror.fetch_all_rows()
        return list(self.log.records(("attempt", "use", "run")))
