"""Merge the segments of a shared cache: by anyone, at any time, without losing or doubling a row.

A merged segment's name is made of those it replaces and its rows are in one order, so that two who
merge the same write the same. Two who merge different ones may put a row into both: every reader
counts a row once, by its id, and the next merging leaves one. What was replaced stays for a day.
"""

from __future__ import annotations

from nbcache.store.compact import alike, merge
from nbcache.store.remote.layout import LOG
from nbcache.store.remote.patience import patiently
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import KEYS, ROWS

MOST_ROWS = 1_000_000
FACTOR = 4.0  # a segment with so many times the rows of all smaller ones is left alone
ENOUGH = 16  # segments: fewer are no burden to whoever opens the cache


def compact_shared(
    shared: Shared, *, max_rows: int = MOST_ROWS, factor: float = FACTOR, enough: int = ENOUGH
) -> int:
    """Merge the smaller segments into one, if there are more than `enough`; return how many.

    Raises:
        RemoteStoreError, StoreError: the log cannot be read, or the store takes nothing.
    """
    shared.mirror.read_whole_log()
    segments = shared.log.segments()
    if len(segments) <= enough:
        return 0
    rows = {name: int(each.meta["rows"]) for name, each in segments.items()}
    names = sorted(alike(rows, max_rows, factor))
    if len(names) < 2:
        return 0
    merged = merge(shared.root, names, segments)
    for suffix in (ROWS, KEYS):  # the keys last: they make it exist
        path = shared.root / "log" / (merged + suffix)
        patiently(lambda key=LOG + path.name, path=path: shared.store.put_file(key, path))  # type: ignore[misc]
    shared.log.refresh(relist=True)
    return len(names)
