"""Compaction: merging segments into larger ones, where the rows of a run stand together.

What is asked of a log is nearly always asked of a run, or of all rows of a kind: in this order most
groups of a rows file are passed over unread. (Hashes are looked up in the index.) Never loses or
edits a row: a merged segment names those it replaces, and they stay for a grace time, so readers
with an old listing are not disturbed. Columns that this version does not know are kept.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbcache.model.ids import ulid_ms
from nbcache.store.arrow import arrow_array, arrow_scalar
from nbcache.store.columns import INT, KEYED_KINDS, TEXT
from nbcache.store.files import open_lock, remove
from nbcache.store.fold import publish_segment, segment_name, server_time
from nbcache.store.index import SegmentIndex
from nbcache.store.journal import GONE
from nbcache.store.lines import Lines
from nbcache.store.segment import (
    KEYS,
    ORDER,
    ROWS,
    Grouped,
    group_lines,
    metadata_for,
    open_parquet,
)

MAX_ROWS = 1_000_000  # a segment that has so many is left alone
_COMPACT_LOCK = "compact"


def merge_segments(
    root: Path,
    live: Callable[[], Mapping[str, SegmentIndex]],
    *,
    max_rows: int,
    factor: float,
) -> int:
    """Merge the smaller live segments into one; return how many there were.

    A segment with more than `factor` times the rows of all smaller ones is left alone, so that a
    long log is not written again for every few new rows. One process at a time does it: two that
    merge different selections would double rows.
    """
    lock = open_lock(root / "claims" / _COMPACT_LOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        segments = live()
        rows = {name: int(each.meta["rows"]) for name, each in segments.items()}
        small = sorted(alike(rows, max_rows, factor))
        if len(small) < 2:
            return 0
        merge(root, small, segments)
        return len(small)
    except BlockingIOError:
        return 0  # somebody else is at it
    finally:
        os.close(lock)


def alike(rows: Mapping[str, int], max_rows: int, factor: float) -> list[str]:
    """Return the smallest segments, as far up as each adds not too much to those before it."""
    chosen: list[str] = []
    total = 0
    for name in sorted(rows, key=lambda each: (rows[each], each)):
        if rows[name] >= max_rows or (chosen and rows[name] > factor * total):
            break
        chosen.append(name)
        total += rows[name]
    return chosen


def merge(root: Path, names: Sequence[str], segments: Mapping[str, SegmentIndex]) -> str:
    """Write one segment of several, each row once; return its name, which they determine.

    In memory are the columns that tell the order of all rows, and so many whole rows as `Lines`
    takes at once.
    """
    import pyarrow.compute as pc

    rows = Lines([root / "log" / (name + ROWS) for name in names])
    order = _without_doubles(rows.column_table([*ORDER, "position", "session"]))
    for name in ORDER:  # as `in_order`: what is missing comes first
        column = pc.fill_null(order.column(name), arrow_scalar("", TEXT))
        order = order.set_column(order.column_names.index(name), name, column)
    order = order.sort_by([(name, "ascending") for name in ORDER])
    replaces = set(names)
    for name in names:
        replaces.update(segments[name].meta.get("replaces", ()))
    meta = metadata_for(order, sources=_sources_there(root, names, segments), replaces=replaces)
    if any(segments[name].meta.get("sent") for name in names):
        meta["sent"] = True
    kinds, lines = order.column("kind").to_pylist(), order.column("line").to_pylist()
    groups = rows.taken(lines[each.start : each.stop] for each in group_lines(kinds))
    merged = segment_name(max(map(ulid_ms, names)), sorted(names))
    keys = _keys(root, names, kinds, lines)
    publish_segment(root, merged, Grouped(rows.schema, groups), keys, meta)
    return merged


def _sources_there(
    root: Path, names: Sequence[str], segments: Mapping[str, SegmentIndex]
) -> list[tuple[str, int]]:
    """Return the folded journals that nobody could delete, or has deleted yet."""
    there = {name.removesuffix(GONE) for name in os.listdir(root / "journal")}
    sources = (tuple(each) for name in names for each in segments[name].meta.get("sources", ()))
    return sorted({each for each in sources if each[0] in there})


def _keys(root: Path, names: Sequence[str], kinds: Sequence[str], lines: Sequence[int]) -> Grouped:
    """Return the keys of rows at these lines, in the columns that any of the keys files has."""
    import pyarrow as pa

    columns = set[str]()
    for name in names:
        with open_parquet(root / "log" / (name + KEYS)) as file:
            columns.update(file.schema_arrow.names)
    rows = Lines([root / "log" / (name + ROWS) for name in names], columns)
    places = [place for place, kind in enumerate(kinds) if kind in KEYED_KINDS]
    ranges = group_lines([kinds[place] for place in places])
    groups = [places[each.start : each.stop] for each in ranges]
    tables = rows.taken([lines[place] for place in group] for group in groups)
    placed = (
        table.append_column("place", arrow_array(group, INT))
        for table, group in zip(tables, groups, strict=True)
    )
    return Grouped(rows.schema.append(pa.field("place", pa.int64())), placed)


def _without_doubles(table: Any) -> Any:
    seen: set[str] = set()
    keep = []
    for place, row_id in enumerate(table.column("id").to_pylist()):
        if row_id not in seen:
            seen.add(row_id)
            keep.append(place)
    return table if len(keep) == len(table) else table.take(arrow_array(keep, INT))


def delete_replaced(root: Path, segments: Mapping[str, SegmentIndex], *, grace_s: float) -> None:
    """Delete the segments that were replaced longer ago than the grace time."""
    now = server_time(root)
    for name, segment in segments.items():
        for old in segment.meta.get("replaces", ()):
            keys = root / "log" / (old + KEYS)
            try:
                is_due = now - os.stat(root / "log" / (name + KEYS)).st_mtime > grace_s
            except FileNotFoundError:
                continue
            if is_due and old not in segments:
                remove(keys)  # first: without it the segment does not exist
                remove(root / "log" / (old + ROWS))
                remove(root / "index" / f"{old}.idx")
