"""The index of a keys file by queries: what `index.build` makes of rows that are at hand.

To make Python objects of a million rows takes half a minute; this takes seconds, and a few lines of
memory: payloads go to disk as they are made, and are put in order there. Rows that the query would
not write as `build` does (few have such values) go through that.
"""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from nbcache.model.row import Record
from nbcache.store.arrow import arrow_array, arrow_scalar
from nbcache.store.columns import INT, KEY_COLUMNS, TEXT, record_of
from nbcache.store.index import ENTRY_FIELDS, ID_BYTES, Lines, lines_of, write_packed
from nbcache.store.segment import open_parquet
from nbcache.store.sql import columns_of, connected, plain

_one_at_a_time = threading.Lock()  # each may take much memory

_ODD = f"""coalesce(kind = 'evict' OR extra IS NOT NULL OR id IS NULL OR place IS NULL
    OR NOT regexp_full_match(id, '[ -~]{{{ID_BYTES}}}')
    OR (status = 'completed' AND NOT regexp_full_match(hash, 'xxh3:[0-9a-f]{{32}}'))
    OR NOT isfinite(coalesce(realtime, 0)), true)"""
# What is null is left out, but for digests: a null one says that nothing was there. In JSON a quote
# that begins a name follows a comma only where one begins, since those in texts are escaped.
_NULLS = ',"(name|kind|codec|size|blob|inline|file|opaque|executable)":null'
_VALUES = ", ".join(
    "coalesce(nullif(generation, 0), 1)"
    if name == "generation"
    else plain(KEY_COLUMNS[name], f'"{name}"')
    for name in ENTRY_FIELDS
)
_IS_RESULT = "NOT odd AND status = 'completed'"
_PLAIN = f"""SELECT odd, encode(id) AS row, place, -coalesce(nullif(generation, 0), 1) AS rank, id,
    CASE WHEN {_IS_RESULT} THEN unhex(substr(hash, 6)) END AS key,
    CASE WHEN {_IS_RESULT} THEN
        regexp_replace(json_array({_VALUES})::VARCHAR, '{_NULLS}', '', 'g') END AS payload
    FROM keys WHERE odd OR kind = 'attempt'"""
_GROUPS = 3  # of lines: so many are read at once
_PIECE = 10_000  # payloads: so many are put in order at once


def index_of_file(path: Path, meta: Record) -> mmap.mmap:
    """Return the bytes of the index of a keys file, mapped: of a long log they are many.

    Raises:
        FileNotFoundError: it was merged away.
        OSError: the disk has no room for it.
        StoreError, duckdb.Error, ArrowInvalid, KeyError, TypeError, ValueError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with _one_at_a_time, _scratch(path.parent) as spool, _scratch(path.parent) as made:
        results, ids, evicts = _asked(path, spool)
        write_packed(
            made,
            _numbers(results.column("key"), pa.binary(16)),
            bytes(8) + bytes(_numbers(pc.cumulative_sum(results.column("size")), pa.uint64())),
            _numbers(ids.column("row"), pa.binary(ID_BYTES)),
            _numbers(ids.column("place"), pa.uint32()),
            _in_order(spool, results),
            {**meta, "evicts": evicts},
        )
        made.flush()
        return mmap.mmap(made.fileno(), 0, access=mmap.ACCESS_READ)


def _scratch(folder: Path) -> BinaryIO:
    """Open a file without a name, which is gone when nobody uses it."""
    try:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))
    except OSError:  # the cache may only be read
        return cast("BinaryIO", tempfile.TemporaryFile())


def _asked(path: Path, spool: BinaryIO) -> tuple[Any, Any, list[Record]]:
    """Return what an index holds, in order: results, each with where its payload stands in `spool`;
    rows with their places; and the evict rows."""
    import pyarrow.compute as pc

    results, ids, evicts = list[Any](), list[Any](), list[Record]()
    with connected() as connection:
        for lines in _read_from(path):
            connection.register("lines", lines)
            columns = columns_of("lines", lines.schema, KEY_COLUMNS)
            keys = f"WITH keys AS (SELECT *, {_ODD} AS odd FROM ({columns}))"
            asked = connection.sql(f"{keys} {_PLAIN}").to_arrow_table()
            plain_ones = asked.filter(pc.invert(asked.column("odd")))
            ids.append(plain_ones.select(["row", "place"]))
            results.append(_spooled(plain_ones, spool))
            if len(plain_ones) < len(asked):
                rows = connection.sql(f"{keys} FROM keys WHERE odd").to_arrow_table().to_pylist()
                odd = lines_of((record_of(row), row["place"]) for row in rows)
                ids.append(_ids_table(odd))
                results.append(_spooled(_hashes_table(odd), spool))
                evicts += odd.evicts
    return _sorted(results, "key", "rank", "id"), _sorted(ids, "row", "place"), evicts


def _read_from(path: Path) -> Iterator[Any]:
    """Yield the lines of a keys file, many at once; their checksums are looked at."""
    with open_parquet(path) as file:
        there = [name for name in file.schema_arrow.names if name in KEY_COLUMNS]
        for at in range(0, file.num_row_groups, _GROUPS):
            groups = range(at, min(at + _GROUPS, file.num_row_groups))
            yield file.read_row_groups(groups, there, use_threads=False)


def _spooled(lines: Any, spool: BinaryIO) -> Any:
    """Return the results among lines, without their payloads, which go to `spool`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    results = lines.filter(lines.column("payload").is_valid())
    payload = results.column("payload").combine_chunks()
    sizes = pc.cast(pc.binary_length(payload), pa.int64())
    starts = pc.subtract(pc.add(pc.cumulative_sum(sizes), arrow_scalar(spool.tell(), INT)), sizes)
    spool.write(_texts(payload))
    columns = [*(results.column(name) for name in ("key", "rank", "id")), starts, sizes]
    return pa.Table.from_arrays(columns, ["key", "rank", "id", "start", "size"])


def _sorted(tables: Sequence[Any], *columns: str) -> Any:
    import pyarrow as pa

    table = pa.concat_tables(tables).combine_chunks()
    return table.sort_by([(name, "ascending") for name in columns])


def _in_order(spool: BinaryIO, results: Any) -> Iterator[bytes]:
    """Yield the payloads of results, many at once."""
    spool.flush()
    if not len(results):
        return  # nothing can be mapped
    with mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ) as payloads:
        for at in range(0, len(results), _PIECE):
            piece = results.slice(at, _PIECE)
            starts, sizes = (piece.column(name).to_pylist() for name in ("start", "size"))
            places = zip(starts, sizes, strict=True)
            yield b"".join([payloads[start : start + size] for start, size in places])


def _hashes_table(lines: Lines) -> Any:
    columns: dict[str, tuple[Sequence[Any], str]] = {
        "key": ([key for key, *_ in lines.hashes], "bytes"),
        "rank": ([rank for _, rank, *_ in lines.hashes], INT),
        "id": ([row_id for *_, row_id, _ in lines.hashes], TEXT),
        "payload": ([payload.decode() for *_, payload in lines.hashes], TEXT),
    }
    return _table(columns)


def _ids_table(lines: Lines) -> Any:
    keys, places = [key for key, _ in lines.ids], [place for _, place in lines.ids]
    return _table({"row": (keys, "bytes"), "place": (places, INT)})


def _table(columns: Mapping[str, tuple[Sequence[Any], str]]) -> Any:
    import pyarrow as pa

    arrays = [arrow_array(values, shape) for values, shape in columns.values()]
    return pa.Table.from_arrays(arrays, list(columns))


def _texts(array: Any) -> bytes | memoryview:
    """Return texts one after another."""
    import pyarrow as pa

    if not len(array):
        return b""
    array = array.cast(pa.large_binary())
    _, offsets, texts = array.buffers()
    ends = memoryview(offsets).cast("q")
    return memoryview(texts)[ends[array.offset] : ends[array.offset + len(array)]]


def _numbers(column: Any, kind: Any) -> bytes | memoryview:
    """Return values of one size, one after another.

    Raises:
        ArrowInvalid, ValueError: one is of another size, or null.
    """
    if not len(column):
        return b""
    if column.null_count:
        raise ValueError("a key has no place")
    array, size = column.cast(kind).combine_chunks(), kind.bit_width // 8
    first = array.offset * size
    return memoryview(array.buffers()[1])[first : first + len(array) * size]
