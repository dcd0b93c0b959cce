"""What a clean-up of a shared cache reads, writes and deletes; it decides nothing.

`engine.upkeep.shared_cleaning` has the order of the steps. Whoever deletes has listed what is to go
before the log was read, and nothing goes where something of the log cannot be read.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nbcache.errors import (
    AccessDeniedError,
    BlobDamagedError,
    BlobMissingError,
    ObjectMissingError,
    RemoteStoreError,
)
from nbcache.model.digest import Digest, blob_digest
from nbcache.model.holding import BlobCopy, Holding, Mark
from nbcache.model.row import EvictRow
from nbcache.store.files import new_ulid
from nbcache.store.remote.layout import BLOBS, CLAIMS, LOG, MARKS, OF_A_MOMENT, RUNS, blob_key
from nbcache.store.remote.patience import patiently
from nbcache.store.remote.protocol import Entry
from nbcache.store.remote.sending import send_segment
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import KEYS, ROWS, segment_name
from nbcache.store.stock import STOCK_COLUMNS, BlobFile, Stock, read_stock
from nbcache.store.tree import TreeEntry, parse_manifest

_BLOB_KEY = re.compile(r"blobs/(\d{4}-W\d\d)/[0-9a-f]{2}/([0-9a-f]{64})")
_SEGMENT_KEY = re.compile(rf"{LOG}[0-9A-Z]{{26}}({re.escape(KEYS)}|{re.escape(ROWS)})")
LIVE_US = 86_400_000_000
"""A run that gave no sign of life for so long (a laptop may sleep a night) is over."""
_BATCH = 5_000


@dataclass(slots=True)
class SharedStock:
    """What lies in a shared cache and who needs it, as of `at` by the server's clock."""

    at: int
    stock: Stock
    copies: list[BlobCopy]
    live: frozenset[str]  # runs that go on
    marks: list[Mark]


class SharedKeeping:
    """Reads and deletes in one shared cache."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._trees: dict[str, list[TreeEntry]] = {}

    def look(self) -> SharedStock:
        """List all blobs, then read the whole log.

        Raises:
            RemoteStoreError, StoreError: something cannot be read, so nothing may be deleted.
        """
        store = self._shared.store
        now = store.server_time()
        copies = list(self._copies())
        marks = list(self._marks())
        self._shared.mirror.read_whole_log()
        live = self._live(now)
        where: dict[str, list[str]] = {}
        for each in copies:
            where.setdefault(each.digest, []).append(each.week)
        stock = Stock({each.digest: BlobFile(each.size, 0.0) for each in copies})

        def open_tree(digest: Digest) -> list[TreeEntry]:
            return self._tree(digest, where.get(digest, ()))

        rows = self._shared.log.namings(STOCK_COLUMNS)
        read_stock(stock, rows, open_tree, live, each_user_pins=True)
        return SharedStock(now, stock, copies, live, marks)

    def mark(self, holdings: Sequence[Holding], reason: str) -> None:
        """Write down which results are to go, each with its last use."""
        rows = {each.row: each.used_at for each in holdings}
        users = {each.row: len(each.users) for each in holdings}
        data = json.dumps({"reason": reason, "rows": rows, "users": users}).encode("ascii")
        patiently(lambda: self._shared.store.put(f"{MARKS}{new_ulid()}.json", data))

    def evict(self, rows: Mapping[str, str], at: int) -> None:
        """Write a tombstone for each row (with its reason): no look-up finds it any more."""
        made = [
            EvictRow(id=new_ulid(), at=at, row=row, reason=reason).record()
            for row, reason in rows.items()
        ]
        for first in range(0, len(made), _BATCH):
            send_segment(self._shared, made[first : first + _BATCH])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, in this order; those that are gone are no error."""
        self._shared.store.delete(keys)

    # ------------------------------------------------------------------ reading

    def _live(self, now: int) -> frozenset[str]:
        """Return the runs that go on: whose last word is that they do, and which gave a sign of
        life, by that row or by a heartbeat, within a day."""
        last: dict[str, tuple[int, int, str]] = {}
        going: dict[str, bool] = {}
        for row in self._shared.log.records(("run",)):
            key = row.get("session") or 1, row["at"], row["id"]
            if key >= last.get(row["run"], key):
                last[row["run"]] = key
                going[row["run"]] = row.get("status") in ("running", "resuming")
        seen = {run: at for run, (_, at, _) in last.items()}
        for beat in self._shared.store.list(RUNS):
            run = beat.key.removeprefix(RUNS)
            seen[run] = max(beat.modified_us, seen.get(run, 0))
        return frozenset(run for run, goes in going.items() if goes and now - seen[run] < LIVE_US)

    def _copies(self) -> Iterator[BlobCopy]:
        for entry in self._shared.store.list(BLOBS):
            match = _BLOB_KEY.fullmatch(entry.key)
            if match is not None:
                yield BlobCopy(f"b3:{match[2]}", match[1], entry.size)

    def _marks(self) -> Iterator[Mark]:
        for entry in self._shared.store.list(MARKS):
            try:
                held = json.loads(self._shared.store.get(entry.key))
                rows = {str(row): int(used) for row, used in held["rows"].items()}
                users = {str(row): int(count) for row, count in held.get("users", {}).items()}
                yield Mark(entry.key, entry.modified_us, rows, str(held.get("reason", "")), users)
            except ObjectMissingError:
                continue  # somebody else has just done it
            except (ValueError, KeyError, TypeError, AttributeError):
                yield Mark(entry.key, entry.modified_us, {})  # no mark of ours: it goes in time

    def _tree(self, digest: Digest, weeks: Iterable[str]) -> list[TreeEntry]:
        """Return the entries of a folder's manifest, from whichever copy is whole."""
        if digest in self._trees:
            return self._trees[digest]
        damaged = False
        for week in sorted(weeks, reverse=True):
            try:
                data = self._shared.store.get(blob_key(week, digest))
            except ObjectMissingError:
                continue
            if blob_digest(data) == digest:
                self._trees[digest] = parse_manifest(data)
                return self._trees[digest]
            damaged = True
        if damaged:
            raise BlobDamagedError(f"the folder {digest} is damaged")
        raise BlobMissingError(f"the folder {digest} is not there")

    # ------------------------------------------------------------------ what is old

    def old_segments(self, now: int, grace: int) -> Iterator[Entry]:
        """Yield the files of segments that were merged so long ago (microseconds), keys first, and
        rows without keys, of whoever was killed while sending."""
        listed = {entry.key: entry for entry in self._shared.store.list(LOG)}
        merged: set[str] = set()
        for name, segment in self._shared.log.segments().items():
            keys = listed.get(LOG + name + KEYS)
            if keys is not None and now - keys.modified_us >= grace:
                merged.update(segment.meta.get("replaces", ()))
        for name in sorted(merged):
            for suffix in (KEYS, ROWS):
                entry = listed.pop(LOG + name + suffix, None)
                if entry is not None:
                    yield entry
        for key, entry in listed.items():
            name = key.removeprefix(LOG).removesuffix(ROWS)
            is_half = key.endswith(ROWS) and LOG + name + KEYS not in listed
            if is_half and segment_name(name + KEYS) and now - entry.modified_us >= grace:
                yield entry

    def old_claims(self, now: int, grace: int) -> Iterator[Entry]:
        """Yield the claims that ended or whose holder has died, and heartbeats that stopped, all so
        long ago (microseconds).

        Of a claim the first epoch comes first: who then claims it holds that, and nobody passes on
        to a later one while he lives.
        """
        beats = {entry.key: entry for entry in self._shared.store.list(RUNS)}
        alive = {key for key, entry in beats.items() if now - entry.modified_us < grace}
        claims: dict[str, list[Entry]] = {}
        for entry in self._shared.store.list(CLAIMS):
            claims.setdefault(entry.key.rpartition("/")[0], []).append(entry)
        for entries in claims.values():
            if now - max(entry.modified_us for entry in entries) < grace:
                continue
            last = max(entries, key=lambda entry: entry.key)
            if last.key.endswith(".done") or not self._is_held(last.key, alive):
                yield from entries
        yield from (entry for key, entry in beats.items() if key not in alive)

    def old_uploads(self, now: int, grace: int) -> list[Entry]:
        """Return the uploads of large objects that were begun so long ago (microseconds), and that
        nobody has finished; none where the server does not say.

        Only of objects that a cache has: in the same bucket others may be sending theirs.
        """
        with contextlib.suppress(RemoteStoreError):  # not all servers list them, nor for everybody
            return [
                entry
                for entry in self._shared.store.unfinished()
                if now - entry.modified_us >= grace and _may_be_ours(entry.key)
            ]
        return []

    def give_up(self, uploads: Sequence[Entry]) -> list[Entry]:
        """End uploads: of what was sent nothing is left. Return those that these credentials may
        end."""
        ended: list[Entry] = []
        with contextlib.suppress(AccessDeniedError):
            for each in uploads:
                self._shared.store.give_up([each])
                ended.append(each)
        return ended

    def old_moments(self, now: int, grace: int) -> Iterator[Entry]:
        """Yield what was written to ask for the time or for rights, by whoever may not delete."""
        for place in OF_A_MOMENT:
            yield from (
                entry
                for entry in self._shared.store.list(place)
                if now - entry.modified_us >= grace
            )

    def _is_held(self, key: str, alive: Collection[str]) -> bool:
        """Whether the holder of a claim still gives signs of life."""
        try:
            return f"{RUNS}{json.loads(self._shared.store.get(key))['heartbeat']}" in alive
        except ObjectMissingError:
            return False
        except (ValueError, KeyError, TypeError):
            return bool(alive)  # of a later version: as long as anybody lives


def _may_be_ours(key: str) -> bool:
    """Whether a cache has objects of such a name; in a folder it is not known, and all are ours."""
    return not key or bool(_BLOB_KEY.fullmatch(key) or _SEGMENT_KEY.fullmatch(key))
