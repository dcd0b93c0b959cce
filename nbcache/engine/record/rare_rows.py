"""Rows of which there are few among many, read once per segment and process.

Segments never change. A card asks after every edit of a cell, and must not take longer the more
runs there have been.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar
from weakref import WeakKeyDictionary

from nbcache.errors import StoreError
from nbcache.model.ids import ulid_ms
from nbcache.model.row import Record, Row
from nbcache.store.log import Log
from nbcache.store.segment import ROWS, read_records

RowT = TypeVar("RowT", bound=Row)

_Kept = dict[tuple[str, str], tuple[Row, ...]]  # by segment and kind
_known: WeakKeyDictionary[Log, _Kept] = WeakKeyDictionary()


def rare_rows(
    log: Log, cls: type[RowT], *, readable: bool = False, since_ms: int = 0
) -> Iterator[RowT]:
    """Yield all rows of a kind, such as RunRow or TrustRow; some may come twice.

    readable: pass over segments that are damaged, for those who can do without their rows.
    since_ms: pass over segments of which all rows are older.

    Raises:
        StoreError: a segment is damaged.
    """
    log.refresh()
    known = _known.setdefault(log, {})
    # Before the segments: what is folded in between comes twice, not never.
    journals = log.journals()
    segments = log.segments()
    for key in [key for key in tuple(known) if key[0] not in segments]:
        known.pop(key, None)
    for name in segments:
        if ulid_ms(name) < since_ms:
            continue
        rows = known.get((name, cls.kind))
        if rows is None:
            try:
                found = read_records(log.root / "log" / (name + ROWS), (cls.kind,))
                rows = known[name, cls.kind] = tuple(_rows(log, found, cls))
            except FileNotFoundError:  # merged into another one since the last look
                yield from _rows(log, log.records((cls.kind,)), cls)
                return
            except StoreError:
                if not readable:
                    raise
                continue
        yield from (each for each in rows if isinstance(each, cls))
    for view in journals.values():
        yield from _rows(log, view.records_of((cls.kind,)), cls)


def _rows(log: Log, records: Iterable[Record], cls: type[RowT]) -> Iterator[RowT]:
    for record in records:
        row = log.row_of(record)
        if isinstance(row, cls):
            yield row
