"""Lines of journals as rows of a table in DuckDB, which reads them itself.

A run of 100,000 tasks leaves as many lines, and whoever looks at it then waits for them: 20 µs of a
processor each. By way of Python objects it is three times that, all of it with the lock that
whatever else the kernel does needs, too. What columns cannot say goes that way
(`columns.table_of`), and so do a few lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from nbcache.store.arrow import Shape, arrow_array
from nbcache.store.columns import COLUMNS
from nbcache.store.sql import identifier, quoted, sql_type, unpacked

if TYPE_CHECKING:
    import duckdb

FEW = 500  # lines for which it is not worth a plan
_MOST = 20_000  # lines at once: an Arrow column of text ends at 2 GB


def insert_lines(
    cursor: duckdb.DuckDBPyConnection, table: str, name: str, lines: Sequence[bytes]
) -> set[str] | None:
    """Put rows into a table that has a name before `COLUMNS`; return the runs that they are of.

    None, and nothing is put there: a line holds what the columns do not say.
    """
    import duckdb
    import pyarrow as pa

    runs = set[str]()
    batches = [lines[start : start + _MOST] for start in range(0, len(lines), _MOST)]
    try:
        texts = [arrow_array(batch, "bytes").cast(pa.string()) for batch in batches]
        cursor.register("_lines", pa.table({"line": pa.chunked_array(texts, pa.string())}))
        try:
            keys, found = cursor.execute(_HELD).fetchall()[0]
            if not COLUMNS.keys() >= set(keys):
                return None
            runs.update(each or "" for each in found)
            cursor.execute(_insertion(table), [name])
        finally:
            cursor.unregister("_lines")
    except (pa.ArrowInvalid, duckdb.ConversionException, duckdb.InvalidInputException):
        return None
    return runs


_HELD = """SELECT list_distinct(flatten(list(DISTINCT json_keys(line)))),
    list_distinct(list(coalesce(line ->> '$.run', ''))) FROM _lines"""


@cache
def _insertion(table: str) -> str:
    columns = ", ".join(
        unpacked(shape, f"row_.{identifier(name)}") for name, shape in COLUMNS.items()
    )
    shape = quoted(json.dumps({name: _structure(each) for name, each in COLUMNS.items()}))
    return (
        f"INSERT INTO {table} SELECT ?, {columns} "
        f"FROM (SELECT json_transform(line, {shape}) AS row_ FROM _lines)"
    )


def _structure(shape: Shape) -> Any:
    """Return what `json_transform` is told of a shape: bytes stand there in base 64."""
    if isinstance(shape, list):
        return [_structure(shape[0])]
    if isinstance(shape, dict):
        return {name: _structure(each) for name, each in shape.items()}
    return sql_type("text" if shape == "bytes" else shape)
