"""What a segment's file of others is once it is decoded: asked before anything else reads it.

A file of a few kilobytes can be terabytes of rows, since Parquet keeps a text that comes again and
again once, and compresses. DuckDB reads piece by piece, within a limit of memory, and does not copy
such a text for each row: so it tells in a moment what Arrow would first have to hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nbcache.errors import StoreError
from nbcache.store.arrow import Shape
from nbcache.store.columns import COLUMNS, KEY_COLUMNS
from nbcache.store.segment import open_parquet
from nbcache.store.sql import columns_of, connected, identifier, member, quoted

MOST_OF_A_ROW = 16 << 20  # bytes
_MOST_ON_AVERAGE = 64 << 10  # a row's, in files
_MOST_AT_ALL = 64 << 20  # above this
_ELEMENT_BYTES = 16  # that an element of a list takes, whatever it holds
_LIGHT = ("int", "float", "bool")
_SHAPES = {**COLUMNS, **KEY_COLUMNS}


def check_weight(path: Path, stretches: Sequence[range] = ()) -> None:
    """See that a file of rows or keys is no more than such files are.

    stretches: of lines, whole groups that follow one another. Then nothing else is looked at, as
    in a file that holds only these.

    Raises:
        FileNotFoundError: it is gone.
        StoreError: it is more, or cannot be read.
    """
    import duckdb

    with open_parquet(path) as file:
        schema = file.schema_arrow
    weights = [
        _weight(_SHAPES[name], f'"{name}"')
        if name in _SHAPES
        else f"coalesce(strlen(CAST({identifier(name)} AS VARCHAR)), 0)"  # of a later version
        for name in schema.names
    ]
    known = {name: _SHAPES[name] for name in schema.names if name in _SHAPES}
    others = [identifier(name) for name in schema.names if name not in _SHAPES]
    rows, most, total = 0, 0, 0
    try:
        with connected() as connection:
            for lines in stretches or (None,):  # one query for all would read what is between them
                columns = columns_of(_lines_of(path, lines), schema, known, others)
                (found,) = connection.execute(
                    f"SELECT count(*), coalesce(max(w), 0), coalesce(sum(w), 0)"
                    f" FROM (SELECT {' + '.join(weights) or 0} AS w FROM ({columns}))"
                ).fetchall()
                rows, most, total = rows + found[0], max(most, int(found[1])), total + int(found[2])
    except duckdb.Error as error:
        raise StoreError(str(error).splitlines()[0]) from error
    if most > MOST_OF_A_ROW:
        raise StoreError(f"it has a row of {most / 1e6:,.0f} MB, and is not read")
    if total > _MOST_AT_ALL + rows * _MOST_ON_AVERAGE:
        raise StoreError(f"its {rows:,} rows are {total / 1e6:,.0f} MB, and are not read")


def _lines_of(path: Path, lines: range | None) -> str:
    source = f"read_parquet({quoted(str(path))}"
    if lines is None:
        return f"{source})"
    within = f"file_row_number BETWEEN {lines.start} AND {lines.stop - 1}"
    return f"{source}, file_row_number = true) WHERE {within}"


def _weight(shape: Shape, value: str, depth: int = 0) -> str:
    """Return an expression for the bytes of a value, but for those of a size that is known."""
    if shape == "text":
        return f"coalesce(strlen({value}), 0)"
    if shape == "bytes":
        return f"coalesce(octet_length({value}), 0)"
    if isinstance(shape, dict):
        heavy = {name: each for name, each in shape.items() if each not in _LIGHT}
        return " + ".join(_weight(each, member(value, name), depth) for name, each in heavy.items())
    if isinstance(shape, tuple):
        keys, values = f"map_keys({value})", f"map_values({value})"
        return f"{_weight(['text'], keys, depth)} + {_weight([shape[1]], values, depth)}"
    if isinstance(shape, list):
        each = f"e{depth}"
        inner = _weight(shape[0], each, depth + 1)
        return f"coalesce(list_sum([{_ELEMENT_BYTES} + {inner} FOR {each} IN {value}]), 0)"
    return "0"
