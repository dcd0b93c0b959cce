"""Taking stock of a cache: which blobs lie there, which rows need them, who used what when.

One pass over the log, and it only reads. Blobs are listed before the log is read, so that what is
kept in between is never taken for something that no row needs.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbcache.errors import BlobDamagedError, BlobMissingError
from nbcache.model.digest import Digest, is_blob_name
from nbcache.model.holding import Holding, Pins
from nbcache.model.row import Record
from nbcache.store.cache import Cache
from nbcache.store.naming import Naming
from nbcache.store.tree import TreeEntry

STOCK_COLUMNS = (
    "kind id at run process position tag hash generation status realtime complete components "
    "inputs outputs shown processes cached_from row target pinned reason user"
).split()


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A blob as it lies on disk: its bytes, and when it was last kept or wanted (seconds)."""

    size: int
    touched: float


@dataclass(slots=True)
class Stock:
    """What lies in a cache and who needs it."""

    blobs: dict[str, BlobFile]
    version: tuple[object, ...] = ()  # of the log, at least
    holdings: list[Holding] = field(default_factory=list)
    always: set[str] = field(default_factory=set)  # blobs that rows name which no clean-up evicts
    evicted: dict[str, float] = field(default_factory=dict)  # blob -> when its last row was (s)
    contents: set[str] = field(default_factory=set)  # digests of all outputs that are kept
    pins: Pins = field(default_factory=Pins)

    def needs(self) -> Counter[str]:
        """Return how many of the holdings need each blob."""
        return Counter(blob for each in self.holdings for blob in each.blobs)

    def bytes_of(self, blobs: Iterable[str]) -> int:
        """Return the bytes of those of the blobs that are there."""
        return sum(self.blobs[each].size for each in blobs if each in self.blobs)

    def unneeded(self) -> list[str]:
        """Return the blobs that no row needs."""
        needed = self.needs()
        return [each for each in self.blobs if each not in needed and each not in self.always]


def take_stock(cache: Cache, live: Collection[str] = ()) -> Stock:
    """Look at all blobs, all rows and all kept work directories.

    live: runs that go on; what they made or used is needed, also where it is evicted.
    """
    blobs = dict(list_blobs(cache))
    cache.log.refresh()
    stock = Stock(blobs=blobs, version=cache.log.version)
    read_stock(
        stock, cache.log.namings(STOCK_COLUMNS), cache.blobs.open_tree, live, work=cache.work
    )
    return stock


def read_stock(
    stock: Stock,
    rows: Iterable[Naming],
    open_tree: Callable[[Digest], Iterable[TreeEntry]],
    live: Collection[str] = (),
    *,
    work: Path | None = None,
    each_user_pins: bool = False,
) -> None:
    """Fill in who needs what, from all rows of a log (some may come twice).

    each_user_pins: what one has pinned another does not let go.
    open_tree: of a folder's manifest; BlobMissingError and BlobDamagedError mean that no result
    that names it can be used, any other error is passed on. work: where kept work directories lie.
    """
    _Reading(stock, open_tree, frozenset(live), work, each_user_pins).read(rows)


def list_blobs(cache: Cache) -> Iterator[tuple[str, BlobFile]]:
    """Yield the blobs that lie on disk now."""
    for path in files_below(cache.blobs.folder):
        if is_blob_name(f"b3:{path.name}"):
            with contextlib.suppress(OSError):
                found = path.stat()
                yield (
                    f"b3:{path.name}",
                    BlobFile(found.st_size, max(found.st_mtime, found.st_ctime)),
                )


def files_below(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield all that is no directory below a folder, links as themselves."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def sizes_below(folder: Path) -> Iterator[int]:
    """Yield the bytes of each file below a folder."""
    for path in files_below(folder):
        with contextlib.suppress(OSError):
            yield path.lstat().st_size


def bytes_below(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(sizes_below(folder))


class _Attempt:
    """What is kept of an attempt's row during the pass: a record takes ten times the memory."""

    __slots__ = (
        *("id", "run", "process", "label", "hash", "generation", "status", "realtime", "at"),
        *("blobs", "contents", "current"),
    )

    def __init__(self, row: Naming) -> None:
        record = row.record
        self.id: str = record["id"]
        self.run = _once(record.get("run") or "")
        self.process = _once(record.get("process") or "")
        self.label: str = record.get("tag") or record.get("position") or ""
        self.hash = Digest(record.get("hash") or "")
        self.generation: int = record.get("generation") or 1
        self.status = _once(record.get("status") or "")
        self.realtime: float = record.get("realtime") or 0.0
        self.at: int = max(record.get("at") or 0, record.get("complete") or 0)
        self.blobs = tuple(row.blobs)
        self.contents = tuple(row.contents)
        self.current = False


def _once(word: str) -> str:
    """Return the one copy of a word that many rows have; what somebody wrote for one, as it is."""
    return sys.intern(word) if type(word) is str else word


class _Reading:
    """One pass over the log."""

    def __init__(
        self,
        stock: Stock,
        open_tree: Callable[[Digest], Iterable[TreeEntry]],
        live: frozenset[str],
        work: Path | None,
        each_user_pins: bool,
    ) -> None:
        self._stock, self._open_tree, self._live, self._work = stock, open_tree, live, work
        self._each_user_pins = each_user_pins
        self._attempts: dict[str, _Attempt] = {}
        self._together: dict[frozenset[str], frozenset[str]] = {}  # the one copy of some runs
        self._uses: dict[str, tuple[int, set[str]]] = {}  # attempt row -> last use, runs
        self._gone_rows: dict[str, float] = {}
        self._gone_hashes: dict[str, list[tuple[float, float]]] = {}  # generation, seconds
        self._pins: dict[tuple[str, str], Record] = {}  # by target and, where it counts, user
        self._trees: dict[str, tuple[str, ...]] = {}

    def read(self, rows: Iterable[Naming]) -> None:
        for row in rows:
            self._note(row)
        self._take_pins()
        attempts = list(self._attempts.values())
        self._attempts.clear()
        self._choose_current(attempts)
        attempts.reverse()  # each goes when it has become a holding
        while attempts:
            each = attempts.pop()
            gone = self._gone_at(each)
            used_at, users = self._used(each)
            is_used = not self._live.isdisjoint(users)
            blobs = tuple(dict.fromkeys(self._named(each.blobs, wanted=gone is None or is_used)))
            if gone is not None and is_used:
                self._stock.always.update(blobs)
            elif gone is not None:
                for blob in blobs:
                    self._stock.evicted[blob] = max(gone, self._stock.evicted.get(blob, 0.0))
            else:
                self._add(each, blobs, used_at, users)

    def _note(self, row: Naming) -> None:
        record = row.record
        kind, at = record["kind"], record.get("at") or 0
        if kind == "attempt":
            self._attempts[record["id"]] = _Attempt(row)
        elif kind == "use" and record.get("cached_from"):
            last, runs = self._uses.get(record["cached_from"]) or (0, set())
            runs.add(record.get("run") or "")
            self._uses[record["cached_from"]] = (max(last, at), runs)
        elif kind == "evict":
            self._note_evict(record, at / 1e6)
        elif kind == "pin":
            key = record["target"], (record.get("user") or "") if self._each_user_pins else ""
            known = self._pins.get(key)
            if known is None or (at, record["id"]) >= (known.get("at") or 0, known["id"]):
                self._pins[key] = record
        else:  # runs, and rows of later versions
            self._stock.always.update(self._named(row.blobs))

    def _note_evict(self, record: Record, at: float) -> None:
        if record.get("row"):
            self._gone_rows[record["row"]] = max(at, self._gone_rows.get(record["row"], 0.0))
        elif record.get("hash"):
            generation = record.get("generation")
            limit = math.inf if generation is None else float(generation)
            self._gone_hashes.setdefault(record["hash"], []).append((limit, at))

    def _gone_at(self, row: _Attempt) -> float | None:
        """Return when an attempt's row was evicted, in seconds; None: it was not."""
        if not (self._gone_rows or self._gone_hashes):
            return None
        times = [self._gone_rows[row.id]] if row.id in self._gone_rows else []
        if row.status == "completed":
            for limit, at in self._gone_hashes.get(row.hash, ()):
                if row.generation <= limit:
                    times.append(at)
        return max(times, default=None)

    def _choose_current(self, attempts: Iterable[_Attempt]) -> None:
        """Mark the rows that look-ups of their hashes give."""
        best: dict[str, _Attempt] = {}
        for row in attempts:
            if row.status == "completed" and self._gone_at(row) is None:
                known = best.get(row.hash)
                if known is None or (-row.generation, row.id) < (-known.generation, known.id):
                    best[row.hash] = row
        for row in best.values():
            row.current = True

    def _add(
        self, row: _Attempt, blobs: Collection[str], used_at: int, users: frozenset[str]
    ) -> None:
        kept = None
        if self._work is not None and row.status != "completed":
            work = self._work / row.id
            kept = bytes_below(work) if work.is_dir() else None
        if not (row.current or blobs or kept is not None):
            return
        self._stock.contents.update(row.contents)
        self._stock.holdings.append(
            Holding(
                *(row.id, row.hash, row.process, row.label, row.status, row.run, used_at, users),
                *(row.realtime, row.current, blobs, kept),
            )
        )

    def _used(self, row: _Attempt) -> tuple[int, frozenset[str]]:
        """Return when a row was made or used last, and which runs did."""
        at, runs = self._uses.pop(row.id, (0, ()))
        users = frozenset((row.run, *runs))
        return max(at, row.at), self._together.setdefault(users, users)

    def _named(self, named: Iterable[tuple[str, str]], *, wanted: bool = True) -> Iterator[str]:
        """Yield the blobs that a row names, with the files of its trees.

        wanted: reading a tree may bring it back from the trash.
        """
        for digest, kind in named:
            yield digest
            if kind == "tree" and (wanted or digest in self._stock.blobs):
                yield from self._members(digest)

    def _members(self, digest: str) -> tuple[str, ...]:
        if digest not in self._trees:
            try:
                entries = list(self._open_tree(Digest(digest)))
            except (BlobMissingError, BlobDamagedError):
                entries = []  # no result that names it can be used any more
            self._trees[digest] = tuple(str(each.blob) for each in entries if each.blob)
        return self._trees[digest]

    def _take_pins(self) -> None:
        kinds: dict[str, dict[str, str]] = {"run": {}, "process": {}, "hash": {}}
        for (target, _), record in self._pins.items():
            kind, _, name = target.partition(":")
            if record.get("pinned", True) and kind in kinds:
                kinds[kind][name] = record.get("reason", "")
        self._stock.pins = Pins(kinds["run"], kinds["process"], kinds["hash"])
