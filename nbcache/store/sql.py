"""Columns of the log in DuckDB's words, and a place to ask one question about a Parquet file."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbcache.store.arrow import Shape, arrow_type

if TYPE_CHECKING:
    import duckdb

_TYPES = {"text": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN", "bytes": "BLOB"}
_MEMORY = "2GB"


def quoted(text: str) -> str:
    """Return a text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return the name of a column as SQL."""
    return '"' + name.replace('"', '""') + '"'


def sql_type(shape: Shape) -> str:
    """Return the type of a column."""
    if isinstance(shape, str):
        return _TYPES[shape]
    if isinstance(shape, list):
        return sql_type(shape[0]) + "[]"
    if isinstance(shape, tuple):
        return f"MAP(VARCHAR, {sql_type(shape[1])})"
    members = ", ".join(f'"{name}" {sql_type(each)}' for name, each in shape.items())
    return f"STRUCT({members})"


def plain(shape: Shape, value: str, depth: int = 0) -> str:
    """Return an expression for a value as JSON can hold it: bytes in base 64."""
    if shape == "bytes":
        return f"base64({value})"
    if isinstance(shape, list):
        each = f"e{depth}"
        return f"[{plain(shape[0], each, depth + 1)} FOR {each} IN {value}]"
    if isinstance(shape, dict):
        inner = ", ".join(
            f"'{name}': {plain(each, member(value, name), depth)}" for name, each in shape.items()
        )
        return f"CASE WHEN {value} IS NOT NULL THEN {{{inner}}} END"
    return value


def unpacked(shape: Shape, value: str, depth: int = 0) -> str:
    """Return an expression for a value that JSON held: the other way of `plain`."""
    if not _has_bytes(shape):
        return value
    if isinstance(shape, list):
        each = f"e{depth}"
        return f"[{unpacked(shape[0], each, depth + 1)} FOR {each} IN {value}]"
    if isinstance(shape, dict):
        inner = ", ".join(
            f"'{name}': {unpacked(each, member(value, name), depth)}"
            for name, each in shape.items()
        )
        return f"CASE WHEN {value} IS NOT NULL THEN {{{inner}}} END"
    return f"from_base64({value})"


def _has_bytes(shape: Shape) -> bool:
    if isinstance(shape, str):
        return shape == "bytes"
    members = shape.values() if isinstance(shape, dict) else shape[-1:]
    return any(map(_has_bytes, members))


def member(value: str, name: str) -> str:
    """Return an expression for a member of a struct."""
    return f'{value}."{name}"'


def columns_of(
    source: str, schema: Any, shapes: Mapping[str, Shape], others: Sequence[str] = ()
) -> str:
    """Return a query for columns of a table with these shapes, null where it lacks one; and for
    others as they are."""
    there = {name: schema.field(name).type for name in schema.names}
    chosen = []
    for name, shape in shapes.items():
        value = f'"{name}"' if name in there else "NULL"
        if there.get(name) != arrow_type(shape):
            value = f"CAST({value} AS {sql_type(shape)})"
        chosen.append(f'{value} AS "{name}"')
    return f"SELECT {', '.join([*chosen, *others])} FROM {source}"


@contextlib.contextmanager
def connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection to an empty database for a question or two; tables are to be temporary."""
    with _database(os.getpid()).cursor() as connection:
        yield connection


@functools.lru_cache(1)
def _database(process: int) -> duckdb.DuckDBPyConnection:
    """Open the database of a process: to open one for each question takes longer than to answer it.

    It fetches nothing by itself, spills nothing to disk, and has no threads but those who ask.
    """
    import duckdb

    config: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": _MEMORY,
        "temp_directory": "",
        "threads": "1",
    }
    return duckdb.connect(config=config)
