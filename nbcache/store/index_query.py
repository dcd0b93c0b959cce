"""The index of a keys file by one query: what `index.build` makes of rows that are at hand.

To make Python objects of a million rows takes half a minute; this takes seconds. Rows that the
query would not write as `build` does (few have such values) go through that, and are sorted in.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbcache.model.row import Record
from nbcache.store.arrow import arrow_array
from nbcache.store.columns import INT, KEY_COLUMNS, TEXT, record_of
from nbcache.store.index import ENTRY_FIELDS, ID_BYTES, Lines, lines_of, packed
from nbcache.store.segment import open_parquet
from nbcache.store.sql import columns_of, connected, plain

_one_at_a_time = threading.Lock()  # each may take much memory

_ODD = f"""coalesce(kind = 'evict' OR extra IS NOT NULL OR id IS NULL OR place IS NULL
    OR NOT regexp_full_match(id, '[ -~]{{{ID_BYTES}}}')
    OR (status = 'completed' AND NOT regexp_full_match(hash, 'xxh3:[0-9a-f]{{32}}'))
    OR NOT isfinite(coalesce(realtime, 0)), true)"""
# What is null is left out, but for digests: a null one says that nothing was there. In JSON a quote
# that begins a name follows a comma only where one begins, since those in texts are escaped.
_NULLS = ',"(name|kind|codec|size|blob|inline|file|opaque)":null'
_VALUES = ", ".join(
    "coalesce(nullif(generation, 0), 1)"
    if name == "generation"
    else plain(KEY_COLUMNS[name], f'"{name}"')
    for name in ENTRY_FIELDS
)
_HASHES = f"""SELECT key, payload FROM (
    SELECT unhex(substr(hash, 6)) AS key, -coalesce(nullif(generation, 0), 1) AS rank, id,
        regexp_replace(json_array({_VALUES})::VARCHAR, '{_NULLS}', '', 'g') AS payload
    FROM keys WHERE NOT odd AND kind = 'attempt' AND status = 'completed'
    UNION ALL FROM odd_hashes
) ORDER BY key, rank, id"""
_IDS = """SELECT key, place FROM (
    SELECT encode(id) AS key, place::UINTEGER AS place FROM keys WHERE NOT odd AND kind = 'attempt'
    UNION ALL FROM odd_ids
) ORDER BY key, place"""


def index_of_file(path: Path, meta: Record) -> bytes:
    """Return the bytes of the index of a keys file.

    Raises:
        FileNotFoundError: it was merged away.
        StoreError, duckdb.Error, ArrowInvalid, KeyError, TypeError, ValueError: it is damaged.
    """
    import pyarrow as pa

    with open_parquet(path) as file:
        columns = columns_of(path, file.schema_arrow, KEY_COLUMNS)
    with _one_at_a_time, connected() as connection:
        connection.execute(f"CREATE TEMP VIEW keys AS SELECT *, {_ODD} AS odd FROM ({columns})")
        rows = connection.sql("FROM keys WHERE odd").to_arrow_table().to_pylist()
        odd = lines_of((record_of(row), row["place"]) for row in rows)
        connection.register("odd_hashes", _hashes_table(odd))
        connection.register("odd_ids", _ids_table(odd))
        hashes = connection.sql(_HASHES).to_arrow_table()
        ids = connection.sql(_IDS).to_arrow_table()
    offsets, payload = _texts(hashes.column("payload"))
    return packed(
        _numbers(hashes.column("key"), pa.binary(16)),
        offsets,
        _numbers(ids.column("key"), pa.binary(ID_BYTES)),
        _numbers(ids.column("place"), pa.uint32()),
        payload,
        {**meta, "evicts": odd.evicts},
    )


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
    return _table({"key": (keys, "bytes"), "place": (places, INT)})


def _table(columns: Mapping[str, tuple[Sequence[Any], str]]) -> Any:
    import pyarrow as pa

    arrays = [arrow_array(values, shape) for values, shape in columns.values()]
    return pa.Table.from_arrays(arrays, list(columns))


def _texts(column: Any) -> tuple[bytes | memoryview, bytes | memoryview]:
    """Return where each text begins and the last ends, as u64, and the texts one after another."""
    import pyarrow as pa

    if not len(column):
        return bytes(8), b""
    buffers = column.cast(pa.large_binary()).combine_chunks().buffers()
    offsets, texts = memoryview(buffers[1]), memoryview(buffers[2])
    starts = offsets[: 8 * (len(column) + 1)]
    return starts, texts[: int.from_bytes(starts[-8:], "little")]


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
