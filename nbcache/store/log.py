"""The log: append rows, find the best result of a hash, read rows back.

One view over segments (through the derived index) and journals (read in place). Readers take no
lock and write nothing; writers wait for nobody. Whether a row's blobs are there and its watched
reads unchanged is for the caller to check. docs/format.md says how state follows from rows.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from pathlib import Path
from typing import TypeVar

from nbcache.errors import DamagedSegmentError
from nbcache.model.digest import Digest
from nbcache.model.row import AttemptRow, EvictRow, Record, Row, row_from_record
from nbcache.model.signature import ORIGIN, Standing
from nbcache.store import compact, fold
from nbcache.store.entry import Entry, entry_of, keys_of
from nbcache.store.files import close_in_children, new_ulid, read_only_error
from nbcache.store.index import ORIGIN_PLACE, Found, SegmentIndex, hash_key, row_key
from nbcache.store.journal import GONE, Durability, JournalWriter, encode_record, encode_row
from nbcache.store.journal_view import JournalView
from nbcache.store.listing import Listing
from nbcache.store.naming import Naming, naming_of, read_naming
from nbcache.store.segment import (
    ROWS,
    check_rows,
    damaged,
    read_record,
    read_records,
    read_records_at,
    segment_name,
)
from nbcache.store.signing import FOREIGN, Vouching
from nbcache.store.soundness import is_sound, sound_row
from nbcache.store.tombstones import Tombstones

T = TypeVar("T")

_OF_TASKS = frozenset({"attempt", "use"})


class Log:
    """The log of one cache folder. Thread-safe; any number of processes may use it at once."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        read_only: str | None = None,
        durability: Durability = "process",
        vouching: Vouching = FOREIGN,
        sign: Callable[[Record], None] | None = None,
    ) -> None:
        """`vouching` says whose word a row is; `sign` adds a signature to a new one."""
        self.root = Path(root)
        self._vouching, self._sign = vouching, sign
        self._read_only = read_only
        self._lock = threading.RLock()
        self._log_folder = Listing(self.root / "log")
        self._journal_folder = Listing(self.root / "journal")
        self._segments: dict[str, SegmentIndex] = {}  # replaced as a whole, never changed
        self._replaced: frozenset[str] = frozenset()
        self._damaged: dict[str, DamagedSegmentError] = {}  # segments that nothing can be read of
        self._journals: dict[str, JournalView] = {}  # replaced as a whole, never changed
        self._tombstones = Tombstones()
        self._is_loaded = False
        self._refreshed_at = -math.inf  # by time.monotonic()
        self._writer = JournalWriter(self.root, durability=durability, on_open=self._add_own)
        close_in_children(self)

    # ------------------------------------------------------------------ writing

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows to this process's journal with one write; they are durable on return.

        Raises:
            StoreError: the cache is read-only or the disk full; nothing was kept.
        """
        if not rows:
            return
        self._must_write()
        lines = [encode_row(row, self._sign) for row in rows]
        self._append_lines(lines)

    def _append_lines(self, lines: Sequence[bytes]) -> None:
        with self._lock:
            path = self._writer.path
            if path is not None and path.name not in self._journals:
                self._writer.rotate()  # somebody deleted it: what is written there is lost
            self._writer.append_lines(b"".join(lines), len(lines))
            path = self._writer.path
            assert path is not None
            self._tombstones.note(self._journals[path.name].add(lines))

    def adopt(self, records: Sequence[Record]) -> None:
        """Append rows that another cache made, as they are.

        Raises:
            StoreError: the cache is read-only or the disk full; nothing was kept.
        """
        if not records:
            return
        self._must_write()
        self._append_lines([encode_record(record) for record in records])

    def evict(
        self,
        *,
        hash: Digest | None = None,
        row: str | None = None,
        reason: str = "",
    ) -> EvictRow:
        """Append a tombstone: for all rows of a hash that are known now, or for one row."""
        generation = None
        if hash is not None:
            self.refresh()
            generation = self.next_generation(hash) - 1
        tombstone = EvictRow(
            id=new_ulid(),
            at=time.time_ns() // 1000,
            hash=hash,
            row=row,
            generation=generation,
            reason=reason,
        )
        self.append([tombstone])
        return tombstone

    def rotate(self) -> None:
        """Let go of this process's journal, so that anybody may fold it."""
        self._writer.rotate()

    def fold(self) -> int:
        """Turn all journals that nobody writes any more into a segment; return its rows.

        Call `rotate` first to include this process's own. Safe beside any other process and
        against being killed at any step; a cache that is read-only is left alone.
        """
        if self._read_only is not None:
            return 0

        def folded() -> dict[str, int]:
            self.refresh(relist=True)
            return self.folded()

        count = fold.fold_journals(self.root, folded)
        self.refresh()
        return count

    def compact(
        self,
        *,
        max_rows: int = compact.MAX_ROWS,
        factor: float = math.inf,
        grace_s: float = 86_400.0,
    ) -> int:
        """Merge the segments below `max_rows` into one; return how many.

        factor: leave those alone that have so many times the rows of all smaller ones.
        Also deletes segments that were replaced more than `grace_s` seconds ago.
        """
        if self._read_only is not None:
            return 0

        def live() -> dict[str, SegmentIndex]:
            self.refresh(relist=True)
            return self._segments

        merged = compact.merge_segments(self.root, live, max_rows=max_rows, factor=factor)
        self.refresh()
        compact.delete_replaced(self.root, self._segments, grace_s=grace_s)
        return merged

    def close(self) -> None:
        """Let go of the journal and of the mapped indexes; whoever reads on opens them again."""
        self._writer.close()
        with self._lock:
            self._segments, self._journals, self._is_loaded = {}, {}, False

    def close_in_child(self) -> None:
        """Go on in a forked child, where no other thread holds the lock any more."""
        self._lock = threading.RLock()

    # ------------------------------------------------------------------ finding

    def find(self, hash: Digest, *, run: str | None = None) -> Entry | None:
        """Return the best completed, not evicted row of a hash; None where there is none.

        With `run` only the rows of that run count. Best is the highest generation, ties by the
        smallest row id. Sees what the last `refresh` saw and what this process appended.
        """
        return self.answer(hash, run=run)[0]

    def answer(self, hash: Digest, *, run: str | None = None) -> tuple[Entry | None, str]:
        """Return what `find` does and, where rows are here but none counts, why the best does not.

        A result of a foreign cache that runs code when it is decoded counts only with a signature
        that the user trusts.
        """
        refused = ""
        for entry, standing in self._judged(hash, self._candidates_of(hash, run)):
            if _counts(entry, standing):
                return entry, ""
            what = f"its result of {entry.user or 'somebody'}"
            if standing is not Standing.FORGED:
                what += " is a pickle, and"
            refused = refused or f"{what} {standing.value}"
        return None, refused

    def find_all(self, hash: Digest, *, run: str | None = None) -> list[Entry]:
        """Return all rows of a hash that `find` chooses from, the best first."""
        found = self._judged(hash, self._candidates_of(hash, run))
        return [entry for entry, standing in found if _counts(entry, standing)]

    def _candidates_of(self, hash: Digest, run: str | None) -> list[Found]:
        found = self._tombstones.left(hash, self._known(hash))
        return found if run is None else [each for each in found if each[2] == run]

    def _judged(self, hash: Digest, found: list[Found]) -> Iterator[tuple[Entry, Standing]]:
        """Yield found rows of a hash, and whose word each is; the best first."""
        for each in sorted(found, key=_best_first) if len(found) > 1 else found:
            judged = self._judge(hash, each)
            if judged is not None:
                yield judged

    def _judge(self, hash: Digest, found: Found) -> tuple[Entry, Standing] | None:
        """Return the entry of a found row, and whose word it is; None: it is no row.

        Asked for each hit, and nearly all rows are own. Of a copy of what can be used whoever says
        it the signature is not looked at again: that costs more than all else in a look-up.
        """
        if self._vouching.takes(found[ORIGIN_PLACE]):
            return entry_of(hash, found, vouched=True), Standing.OWN
        keys = keys_of(hash, found)
        if not is_sound(keys) and not self._vouching(keys, whole=False).vouches:
            return None
        entry = entry_of(hash, found, vouched=False)
        if entry.is_safe and entry.shown is None and self._vouching.own:
            return entry, Standing.UNSIGNED
        standing = self._vouching(keys, whole=False)
        return entry_of(hash, found, vouched=True) if standing.vouches else entry, standing

    def row_of(self, record: Record) -> Row | None:
        """Return the row of a stored one, vouched for if its word is taken; None: it is none."""
        is_own = self._vouching.takes(record.get(ORIGIN))
        vouched = record.get("kind") == "attempt" and (is_own or self._vouching(record).vouches)
        if is_own or vouched:
            return row_from_record(record, vouched=vouched)
        return sound_row(record)

    def _part(self, record: Record) -> Row | None:
        """Return the row of some columns of a stored one; None: it is none. For a signature the
        other columns would have to be there."""
        return (row_from_record if self._vouching.takes(record.get(ORIGIN)) else sound_row)(record)

    def evicted(self, hash: Digest) -> list[Entry]:
        """Return the completed rows of a hash that have a tombstone of their own, the best first;
        else as `find`."""
        if not self._tombstones.has_rows:  # asked for each miss
            return []
        found = self._tombstones.singled_out(hash, self._known(hash))
        return [entry for entry, standing in self._judged(hash, found) if _counts(entry, standing)]

    def is_evicted(self, hash: Digest) -> bool:
        """Say whether a hash has results, and a tombstone holds for each of them."""
        known = self._known(hash)
        return bool(known) and not self._tombstones.left(hash, known)

    def next_generation(self, hash: Digest) -> int:
        """Return 1 + the highest generation of the hash's results and tombstones."""
        highest = max((each[1] for each in self._known(hash)), default=0)
        evicted = self._tombstones.generation(hash)
        return 1 + max(highest, 0 if math.isinf(evicted) else int(evicted))

    def find_attempt(self, attempt: str) -> AttemptRow | None:
        """Return an attempt's row by its id."""
        row = self.row(attempt)
        return row if isinstance(row, AttemptRow) else None

    def row(self, row_id: str) -> Row | None:
        """Return a row by its id. Quick for attempts, a scan for other kinds in segments."""
        if not self._is_loaded:
            self.refresh()
        for _ in range(2):
            try:
                record = self._record(row_id)
                if record is not None:
                    return self.row_of(record)
            except FileNotFoundError:
                pass  # merged away between listing and reading
            self.refresh()
        return None

    def rows(
        self,
        kinds: Collection[str] | None = None,
        *,
        run: str | None = None,
        process: str | None = None,
        columns: Collection[str] | None = None,
    ) -> Iterator[Row]:
        """Yield rows that match, each id once: those of segments first, then of journals.

        With `columns`, which name all that such rows must have, the others may be missing, and
        nobody vouches for what is there.
        """
        seen: set[str] = set()
        make = self.row_of if columns is None else self._part
        chosen = None if columns is None else (*columns, ORIGIN)
        for record in self.records(kinds, run=run, process=process, columns=chosen):
            if record["id"] not in seen:
                seen.add(record["id"])
                row = make(record)
                if row is not None:
                    yield row

    def attempts(
        self, *, run: str | None = None, process: str | None = None
    ) -> Iterator[AttemptRow]:
        """Yield the rows of attempts that match, each once."""
        for row in self.rows(("attempt",), run=run, process=process):
            if isinstance(row, AttemptRow):
                yield row

    def records(
        self,
        kinds: Collection[str] | None = None,
        *,
        run: str | None = None,
        process: str | None = None,
        columns: Collection[str] | None = None,
    ) -> Iterator[Record]:
        """Yield stored rows that match, some twice; also those of kinds of later versions.

        With `columns`, rows may come without the others.

        Raises:
            StoreError: a segment is damaged, so they are not all there.
        """
        read = partial(read_records, kinds=kinds, run=run, process=process, columns=columns)
        journals = yield from self._of_segments(read, run, kinds)
        for view in journals.values():
            rows = (
                view.records()
                if kinds is None
                else view.records_of(kinds, holding=run or process or "")
            )
            for record in rows:
                if (run is None or record.get("run", "") == run) and (
                    process is None or record.get("process") == process
                ):
                    yield record

    def namings(self, columns: Collection[str]) -> Iterator[Naming]:
        """Yield all stored rows by some of their columns, some twice, with the blobs they name."""
        journals = yield from self._of_segments(partial(read_naming, columns=columns))
        for view in journals.values():
            yield from map(naming_of, view.records())

    def _of_segments(
        self,
        read: Callable[[Path], Iterator[T]],
        run: str | None = None,
        kinds: Collection[str] | None = None,
    ) -> Generator[T, None, Mapping[str, JournalView]]:
        """Yield what is read of the rows files that may hold such rows; return the journals as of
        the same moment."""
        self.refresh()
        for fault in self._damaged.values():
            raise fault
        for attempt in range(3):
            journals, segments = self._journals, self._segments
            try:
                for name in _that_may_have(run, kinds, segments):
                    yield from read(self.root / "log" / (name + ROWS))
                return journals
            except FileNotFoundError as error:
                if attempt == 2:
                    raise damaged(self.root / "log" / (name + ROWS), "is gone") from error
                self.refresh(relist=True)
        raise AssertionError

    def places_of(self, row_ids: Iterable[str]) -> dict[str, list[int]]:
        """Return where attempt rows stand in segments: lines by segment; others are left out."""
        if not self._is_loaded:
            self.refresh()
        places: dict[str, list[int]] = {}
        for key in map(row_key, row_ids):
            for name, segment in self._segments.items():
                place = segment.place_of(key)
                if place is not None:
                    places.setdefault(name, []).append(place)
                    break
        return places

    def records_of(self, row_ids: Collection[str]) -> list[Record]:
        """Return attempt rows by their ids, in no order; those that are not here are left out."""
        if not self._is_loaded:
            self.refresh()
        for attempt in range(3):
            found = [view.record(row_id) for row_id in row_ids for view in self._journals.values()]
            records = {record["id"]: record for record in found if record is not None}
            left = [row_id for row_id in row_ids if row_id not in records]
            try:
                return [*records.values(), *self.records_at(self.places_of(left))]
            except FileNotFoundError:  # merged away between listing and reading
                if attempt == 2:
                    raise
                self.refresh(relist=True)
        raise AssertionError

    def check_segments(self) -> None:
        """See that all of every segment can be read.

        Raises:
            StoreError: one is damaged.
        """
        for fault in self._damaged.values():
            raise fault
        for name in self._segments:
            try:
                check_rows(self.root / "log" / (name + ROWS))
            except FileNotFoundError as error:
                raise damaged(self.root / "log" / (name + ROWS), "is gone") from error

    def records_at(self, places: Mapping[str, Sequence[int]]) -> Iterator[Record]:
        """Yield the rows at lines of segments."""
        for name, lines in places.items():
            yield from read_records_at(self.root / "log" / (name + ROWS), lines)

    def segments(self) -> dict[str, SegmentIndex]:
        """Return the live segments by name, as of the last refresh."""
        return self._segments

    def journals(self) -> dict[str, JournalView]:
        """Return what was read of the journals, by file name, as of the last refresh."""
        return self._journals

    @property
    def version(self) -> tuple[object, ...]:
        """A value that changes when a refresh or an append found new rows."""
        journals = self._journals
        return (*self._segments, *((name, len(view.lines)) for name, view in journals.items()))

    # ------------------------------------------------------------------ noticing

    def refresh(self, *, relist: bool = False, older_than_s: float = 0.0) -> None:
        """Notice what others wrote. A few stats when nothing changed.

        older_than_s: only if the last time is so long ago.
        """
        if older_than_s and time.monotonic() - self._refreshed_at < older_than_s:
            return
        with self._lock:
            self._refreshed_at = time.monotonic()
            for _ in range(5):
                if self._refresh_once(relist or not self._is_loaded):
                    break
                relist = True
            self._is_loaded = True

    def _refresh_once(self, relist: bool) -> bool:
        """Journals are listed before segments: rows move from the one to the other."""
        journal_names = self._journal_folder.names(relist)
        segment_files = self._log_folder.names(relist)
        if segment_files is not None:
            self._load_segments(set(filter(None, map(segment_name, segment_files))))
        if journal_names is not None or segment_files is not None:
            self._list_journals(self._journals if journal_names is None else journal_names)
        whole = True
        for view in self._journals.values():
            try:
                self._tombstones.note(view.read_on())
            except FileNotFoundError:
                whole = False  # folded since it was listed
            except OSError:  # a folder or a loop of links lies there, or it may not be read
                continue
        return whole

    def _list_journals(self, names: Collection[str]) -> None:
        folded = self.folded()
        views: dict[str, JournalView] = {}
        for name in sorted(names):
            path = self.root / "journal" / name
            size = folded.get(name.removesuffix(GONE))
            if size is None or _size(path) != size:  # else a segment has all of it
                views[name] = self._journals.get(name) or JournalView(path)
        self._journals = views

    def folded(self) -> dict[str, int]:
        """Return the journals that live segments hold, and how many bytes of each."""
        return {
            source: size
            for segment in self._segments.values()
            for source, size in segment.meta.get("sources", ())
        }

    def _load_segments(self, names: set[str]) -> None:
        known = {name: each for name, each in self._segments.items() if name in names}
        replaced = set(self._replaced)
        damaged_segments: dict[str, DamagedSegmentError] = {}
        # A merged segment is no older than those it replaces, which then need not be opened.
        for name in sorted(names - known.keys() - replaced, reverse=True):
            if name in replaced:
                continue
            try:
                known[name] = fold.open_index(self.root, name, write=self._read_only is None)
            except FileNotFoundError:
                continue
            except DamagedSegmentError as error:
                if not (self.root / "log" / (name + ROWS)).exists():
                    raise  # of a mirror, which fetches keys alone
                damaged_segments[name] = error  # look-ups do without it: what it held is made again
                continue
            replaced.update(known[name].meta.get("replaces", ()))
            self._tombstones.note(known[name].meta.get("evicts", ()))
        self._replaced, self._damaged = frozenset(replaced), damaged_segments
        self._segments = {name: known[name] for name in sorted(known.keys() - replaced)}

    # ------------------------------------------------------------------ inside

    def _known(self, hash: str) -> list[Found]:
        """Return the completed rows of a hash, also those that a tombstone holds for.

        Asked twice and more for each task that runs: what is not there has to cost next to nothing.
        """
        if not self._is_loaded:
            self.refresh()
        key = hash_key(hash)
        known: list[Found] = []
        for view in self._journals.values():
            if key in view.by_hash:
                known += view.completed(key)
        for segment in self._segments.values():
            if segment.hashes:
                known += segment.find(key)
        return known

    def _record(self, row_id: str) -> Record | None:
        for view in self._journals.values():
            record = view.record(row_id)
            if record is not None:
                return record
        key = row_key(row_id)
        for name, segment in self._segments.items():
            place = segment.place_of(key)
            if place is not None:
                record = read_record(self.root / "log" / (name + ROWS), place)
                if record["id"] == row_id:
                    return record
        for name in self._segments:
            for record in read_records(self.root / "log" / (name + ROWS)):
                if record["id"] == row_id:
                    return record
        return None

    def _add_own(self, name: str) -> None:
        self._journals = {
            **self._journals,
            name: JournalView(self.root / "journal" / name, own=True),
        }

    def _must_write(self) -> None:
        if self._read_only is not None:
            raise read_only_error(self.root, self._read_only)


def _counts(entry: Entry, standing: Standing) -> bool:
    """Whether a row is used: of others, what is safe to decode, unless a signature does not fit."""
    return standing.vouches or (entry.is_safe and standing is not Standing.FORGED)


def _that_may_have(
    run: str | None, kinds: Collection[str] | None, segments: Mapping[str, SegmentIndex]
) -> list[str]:
    """Return the segments that may hold rows of these kinds of a run; most say of which runs they
    have tasks."""
    if run is None or kinds is None or not _OF_TASKS.issuperset(kinds):
        return list(segments)
    told = {name: each.meta.get("runs") for name, each in segments.items()}
    return [name for name, runs in told.items() if not isinstance(runs, list) or run in runs]


def _best_first(found: Found) -> tuple[int, str]:
    return (-found[1], found[0])


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1
