"""Reading rows of the log back: by kind, run and process, by id, or some of their columns.

Of segments they are read where they lie, of journals from memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from nbcache.errors import DamagedSegmentError, command
from nbcache.model.row import AttemptRow, Record, Row, row_from_record
from nbcache.model.signature import ORIGIN
from nbcache.store.index import SegmentIndex, row_key
from nbcache.store.journal_view import JournalView
from nbcache.store.log_files import LogFiles
from nbcache.store.naming import Naming, naming_of, read_naming
from nbcache.store.segment import (
    ROWS,
    check_rows,
    damaged,
    read_record,
    read_records,
    read_records_at,
)
from nbcache.store.signing import Vouching
from nbcache.store.soundness import NO_ROW, sound_row

T = TypeVar("T")

_OF_TASKS = frozenset({"attempt", "use"})


def _made(record: Record, *, vouched: bool = False) -> Row | None:
    """Return the row of a stored one of this user's.

    Raises:
        DamagedSegmentError: it lacks what all rows of its kind have.
    """
    try:
        return row_from_record(record, vouched=vouched)
    except NO_ROW as error:
        raise DamagedSegmentError(
            f"row {record.get('id')} of the history lacks what all rows of its kind have.\n  "
            f"`{command('verify --repair')}` puts it aside and keeps the others."
        ) from error


class LogRows(LogFiles):
    """All rows of one cache folder."""

    def __init__(
        self, root: str | os.PathLike[str], read_only: str | None, vouching: Vouching
    ) -> None:
        """`vouching` says whose word a row is."""
        super().__init__(root, read_only)
        self._vouching = vouching

    def row_of(self, record: Record) -> Row | None:
        """Return the row of a stored one, vouched for if its word is taken; None: it is none."""
        is_own = self._vouching.takes(record.get(ORIGIN))
        vouched = record.get("kind") == "attempt" and (is_own or self._vouching(record).vouches)
        if is_own or vouched:
            return _made(record, vouched=vouched)
        return sound_row(record)

    def _part(self, record: Record) -> Row | None:
        """Return the row of some columns of a stored one; None: it is none. For a signature the
        other columns would have to be there."""
        return (_made if self._vouching.takes(record.get(ORIGIN)) else sound_row)(record)

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

    def records_at(self, places: Mapping[str, Sequence[int]]) -> Iterator[Record]:
        """Yield the rows at lines of segments."""
        for name, lines in places.items():
            yield from read_records_at(self.root / "log" / (name + ROWS), lines)

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


def _that_may_have(
    run: str | None, kinds: Collection[str] | None, segments: Mapping[str, SegmentIndex]
) -> list[str]:
    """Return the segments that may hold rows of these kinds of a run; most say of which runs they
    have tasks."""
    if run is None or kinds is None or not _OF_TASKS.issuperset(kinds):
        return list(segments)
    told = {name: each.meta.get("runs") for name, each in segments.items()}
    return [name for name, runs in told.items() if not isinstance(runs, list) or run in runs]
