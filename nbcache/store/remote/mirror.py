"""The log of a shared cache on this machine: all keys, and the rows that somebody asked for.

What comes is foreign: damaged segments and forged rows are told of and left out, nothing heavy is
decoded before it is weighed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from nbcache.errors import ObjectMissingError, RemoteStoreError, StoreError
from nbcache.model.row import Record
from nbcache.model.signature import ORIGIN, Standing
from nbcache.store import fold
from nbcache.store.files import new_ulid, remove
from nbcache.store.log import Log
from nbcache.store.remote.contact import Contact
from nbcache.store.remote.driver import PART_BYTES
from nbcache.store.remote.layout import LOG
from nbcache.store.remote.ranged import fetch_lines
from nbcache.store.segment import GROUP_ROWS, KEYS, ROWS, read_records_at, segment_name
from nbcache.store.signing import FOREIGN
from nbcache.store.soundness import sound_row
from nbcache.store.weighing import check_weight


class Mirror:
    """The log of the cache `id`, mirrored into `root`. Thread-safe.

    Raises StoreError where the folder cannot be made.
    """

    def __init__(self, contact: Contact, id: str, root: Path, pool: Executor) -> None:
        try:
            for name in ("log", "index", "journal", "tmp"):
                (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the shared cache cannot be mirrored in {root}: {error.strerror} "
                f"({error.filename}).\n  What is in {root.parent} can be fetched again: delete "
                "what is in the way."
            ) from error
        self.id, self.root, self.log = id, root, Log(root)
        self._contact, self._store, self._pool = contact, contact.store, pool
        self._damaged: set[str] = set()  # segments
        self._row_bytes: dict[str, int] = {}  # of the rows files that were listed, by segment
        self._refreshing = threading.Lock()
        self._refreshed_at = float("-inf")

    # ------------------------------------------------------------------ keys

    def refresh(self, *, older_than_s: float = 0.0) -> None:
        """Mirror the keys of segments that came since: one listing, one request for each.

        A store that does not answer is told of, and what is mirrored stands.
        """
        if time.monotonic() - self._refreshed_at < older_than_s:
            return
        with self._refreshing:
            self._refreshed_at = time.monotonic()
            try:
                self._mirror()
                self._contact.note_looked(None)
            except (RemoteStoreError, OSError) as error:
                self._contact.note_looked(error)
            self.log.refresh(relist=True)

    def _mirror(self) -> None:
        found: dict[str, int] = {}
        for entry in self._store.list(LOG):
            name = segment_name(entry.key.removeprefix(LOG))
            if name is not None:
                found[name] = entry.size
            elif entry.key.endswith(ROWS):
                self._row_bytes[entry.key.removeprefix(LOG).removesuffix(ROWS)] = entry.size
        log = self.root / "log"
        held = {name for name in map(segment_name, os.listdir(log)) if name is not None}
        missing = [name for name in found if name not in held and name not in self._damaged]
        list(self._pool.map(lambda name: self._fetch_keys(name, found[name]), missing))
        for name in held - found.keys():  # merged into another, and long deleted
            remove(log / (name + KEYS))
            remove(log / (name + ROWS))

    def _fetch_keys(self, name: str, size: int) -> None:
        """Fetch the keys of a segment; damaged ones are told of and left out."""
        new = self._fetched(LOG + name + KEYS, size)
        if new is None:
            return  # merged away since it was listed
        target = self.root / "log" / (name + KEYS)
        try:
            check_weight(new)
            os.replace(new, target)
            fold.open_index(self.root, name, write=True)
        except Exception as error:  # whatever Parquet or JSON make of foreign bytes
            self._damaged.add(name)
            remove(target)
            self._contact.tell(
                StoreError(f"{self._store.url}: segment {name} cannot be used: {error}")
            )
        finally:
            remove(new)

    def add_segment(self, name: str, rows: Any, keys: Any, meta: Record, index: bytes) -> None:
        """Mirror a segment that this process has sent."""
        fold.publish_segment(self.root, name, rows, keys, meta, index)

    # ------------------------------------------------------------------ rows

    def records(self, row_ids: Iterable[str]) -> list[Record]:
        """Return rows in full, by their ids.

        The rows of a segment are fetched once; of one that is large, only what is needed.

        Raises:
            RemoteStoreError, StoreError: they cannot be fetched or read.
        """
        wanted = set(row_ids)
        places = self.log.places_of(wanted)
        read = self._pool.map(self._rows_at, places, places.values())
        judged = [self.judged(row) for rows in read for row in rows if row.get("id") in wanted]
        return [record for record in judged if record is not None]

    def _rows_at(self, name: str, lines: Sequence[int]) -> list[Record]:
        """Return the rows at lines of a segment."""
        path = self.root / "log" / (name + ROWS)
        size = self._row_bytes.get(name, 0)
        groups = len({line // GROUP_ROWS for line in lines})
        segment = self.log.segments().get(name)
        rows = 0 if segment is None else int(segment.meta["rows"])
        if path.exists() or size <= PART_BYTES or groups * GROUP_ROWS > rows / 2:
            self._fetch_rows(name)
            return self._read(name, path, lines)
        part = self.root / "tmp" / new_ulid()
        try:
            stretches = fetch_lines(self._store, LOG + name + ROWS, size, part, lines)
            self._check_rows(name, part, stretches)
            return self._read(name, part, lines)
        finally:
            remove(part)

    def _read(self, name: str, path: Path, lines: Sequence[int]) -> list[Record]:
        """Return the rows at lines of a file that holds at least these; else it is deleted."""
        try:
            return list(read_records_at(path, lines))
        except Exception as error:  # whatever Parquet or JSON make of foreign bytes
            remove(path)  # it may have been damaged on its way
            raise self._unreadable(name, error) from error

    def _check_rows(self, name: str, path: Path, stretches: Sequence[range] = ()) -> None:
        try:
            check_weight(path, stretches)
        except StoreError as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> StoreError:
        said = f"the rows of segment {name} cannot be read: {error}"
        return StoreError(f"{self._store.url}: {said}")

    def judged(self, record: object) -> Record | None:
        """Return a result's row with its origin, by which the local log judges it; None: it is
        forged, or none.

        It is judged anew at each look-up, so that it counts no longer when its key is revoked.
        Rows of other kinds (tombstones, words of trust) are never taken from others.
        """
        if not isinstance(record, dict) or record.get("kind") != "attempt":
            self._tell_odd()
            return None
        standing = FOREIGN(record)
        if standing is Standing.FORGED:
            self._contact.tell(
                StoreError(f"{self._store.url}: row {record.get('id')}: {standing.value}")
            )
            return None
        if not standing.vouches and sound_row(record) is None:
            self._tell_odd()
            return None
        return {**record, ORIGIN: self.id}

    def _tell_odd(self) -> None:
        self._contact.tell(
            StoreError(f"{self._store.url}: a row is damaged or forged, and not used")
        )

    def fetch_all_rows(self) -> None:
        """Fetch the rows of every segment, for questions about the whole history.

        Raises:
            RemoteStoreError.
        """
        list(self._pool.map(self._fetch_rows, self.log.segments()))

    def read_whole_log(self) -> None:
        """Mirror all that there is now, rows and all, for whoever decides by what is not there.

        Raises:
            RemoteStoreError, StoreError: something could not be fetched or read.
        """
        self._damaged.clear()
        for attempt in range(3):
            with self._refreshing:
                self._mirror()
                self.log.refresh(relist=True)
            try:
                self.fetch_all_rows()
                break
            except ObjectMissingError:  # merged into another since it was listed
                if attempt == 2:
                    raise
        if self._damaged:
            raise StoreError(
                f"{self._store.url}: segment {min(self._damaged)} cannot be read, so nobody can "
                f"tell what is needed.\n  Delete log/{min(self._damaged)}.* there if it is lost."
            )

    def _fetch_rows(self, name: str) -> None:
        target = self.root / "log" / (name + ROWS)
        if not target.exists():
            new = self._fetched(LOG + name + ROWS, self._row_bytes.get(name))
            if new is None:
                raise ObjectMissingError(self._store.url, "read", LOG + name + ROWS, "it is gone")
            try:
                self._check_rows(name, new)
                os.replace(new, target)
            finally:
                remove(new)

    def _fetched(self, key: str, size: int | None = None) -> Path | None:
        """Fetch an object to a temporary file; None where there is none."""
        new = self.root / "tmp" / new_ulid()
        try:
            self._store.get_file(key, new, size)
        except ObjectMissingError:
            remove(new)
            return None
        except BaseException:
            remove(new)
            raise
        return new
