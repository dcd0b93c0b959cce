"""Of a large Parquet file in a store, the groups of lines that are asked for, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbcache.errors import StoreError
from nbcache.store.remote.protocol import Store
from nbcache.store.segment import open_parquet

_END_BYTES = 256 << 10  # of the file, which the first request brings: Parquet's index is there
_LENGTH_BYTES = 8  # at the very end, which say how long that index is


def fetch_lines(store: Store, key: str, size: int, path: Path, lines: Sequence[int]) -> list[range]:
    """Make a file with those groups of a Parquet file in which lines are, and nothing in the place
    of the others; return the lines that are there.

    One request for the end of the file, and one for each stretch of groups.

    Raises:
        RemoteStoreError: the store refuses, or does not answer.
        StoreError: it is no Parquet file, or its index leads out of it.
    """
    end = store.get(key, max(0, size - _END_BYTES), size)
    length = int.from_bytes(end[-_LENGTH_BYTES:][:4], "little") + _LENGTH_BYTES
    if len(end) < length <= size:
        end = store.get(key, size - length, size)
    with path.open("xb") as file:
        file.seek(size - len(end))
        file.write(end)
    with open_parquet(path) as parquet:
        stretches = list(_stretches(parquet.metadata, sorted(lines)))
    with path.open("r+b") as file:
        for start, stop, _ in stretches:
            if not 0 <= start < stop <= size:
                raise StoreError(f"{store.url}: {key} is damaged: its index leads out of it")
            file.seek(start)
            file.write(store.get(key, start, stop))
    return [there for _, _, there in stretches]


def _stretches(metadata: Any, lines: Sequence[int]) -> Iterator[tuple[int, int, range]]:
    """Yield where the bytes of the groups with these lines begin and end, and which lines those
    are; groups that follow one another are one stretch."""
    first, found = 0, None
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        there = range(first, first + group.num_rows)
        first = there.stop
        if any(line in there for line in lines):
            start, stop = _place(group)
            if found is not None and found[2].stop == there.start and found[1] == start:
                found = (found[0], stop, range(found[2].start, there.stop))
                continue
            if found is not None:
                yield found
            found = (start, stop, there)
    if found is not None:
        yield found


def _place(group: Any) -> tuple[int, int]:
    """Return where the bytes of a group begin and end."""
    starts, stops = [], []
    for number in range(group.num_columns):
        column = group.column(number)
        offsets = (column.dictionary_page_offset, column.data_page_offset)
        starts.append(min((offset for offset in offsets if offset), default=0))
        stops.append(starts[-1] + column.total_compressed_size)
    return min(starts, default=0), max(stops, default=0)
