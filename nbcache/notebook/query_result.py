"""The answer to a query in the form that was asked for: a frame, a table, JSON, CSV, Arrow."""

from __future__ import annotations

import base64
import csv
import datetime
import decimal
import io
import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from nbcache.engine.record.query import asking
from nbcache.errors import UsageError
from nbcache.notebook import render
from nbcache.notebook.answer import Answer
from nbcache.notebook.render import Rendered
from nbcache.notebook.verbs import Parsed
from nbcache.store.history import Logged

NOTEBOOK_FORMATS = ("df", "arrow", "polars", "json", "csv")
SHELL_FORMATS = ("table", "json", "csv", "arrow")


def for_notebook(cache: Logged, query: str, flags: Parsed) -> object:
    """Return the answer as a value: a DataFrame (an Arrow table where pandas is not installed), a
    pyarrow.Table, a polars.DataFrame, a list of dicts, or CSV text.

    Raises:
        UsageError: the query is wrong, or there is no such format.
    """
    name = _format(flags, NOTEBOOK_FORMATS)
    make: dict[str, Callable[[Any], object]] = {
        "": _frame_or_table,
        "df": _frame,
        "arrow": _arrow,
        "polars": _polars,
        "json": lambda cursor: _records(*_rows(cursor)),
        "csv": lambda cursor: _csv(*_rows(cursor)),
    }
    with asking(cache, query, files="--files" in flags) as cursor:
        try:
            return make[name](cursor)
        except ImportError as error:
            package = {"df": "pandas"}.get(name, name)
            raise UsageError(f"--format {name} needs {package}, which is not installed") from error


def for_shell(cache: Logged, query: str, flags: Parsed) -> Answer:
    """Return the answer as text, as data for JSON, and as bytes where the format is binary.

    Raises:
        UsageError: the query is wrong, there is no such format, or bytes would go to a terminal.
    """
    name = _format(flags, SHELL_FORMATS)
    with asking(cache, query, files="--files" in flags, once=True) as cursor:
        if name == "arrow":
            if sys.stdout.isatty():
                raise UsageError("--format arrow writes bytes: send them to a file or a pipe")
            return Answer(Rendered("", ""), None, raw=_arrow_stream(_arrow(cursor)))
        columns, rows = _rows(cursor)
    data = _records(columns, rows)
    if name == "json":
        return Answer(render.line(json.dumps(data, indent=2)), data)
    if name == "csv":
        return Answer(render.line(_csv(columns, rows).rstrip("\n")), data)
    return Answer(_table(columns, rows), data)


def _format(flags: Parsed, known: Sequence[str]) -> str:
    """The format asked for; empty for the default."""
    name = flags.text("--format")
    if "--json" in flags:
        if name not in (None, "json"):
            raise UsageError(f"give the format once: --json or --format {name}")
        name = "json"
    if name is not None and name not in known:
        raise UsageError(f"no format {name!r}; there are {', '.join(known)}")
    return name or ""


def _frame_or_table(cursor: Any) -> object:
    try:
        return _frame(cursor)
    except ImportError:
        return _arrow(cursor)


def _frame(cursor: Any) -> object:
    import_module("pandas")  # without it, DuckDB raises an error of its own or crashes
    return cursor.df()


def _arrow(cursor: Any) -> Any:
    names = _names(cursor)
    newest = getattr(cursor, "to_arrow_table", None)  # DuckDB has renamed it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the rows are copied once more
        table = cursor.fetch_arrow_table() if newest is None else newest()
    return table.rename_columns(names)


def _polars(cursor: Any) -> object:
    """A difference of times becomes a Duration, with months of 30 days, as a DataFrame has it:
    polars knows no intervals."""
    import polars
    import pyarrow as pa

    table = _arrow(cursor)
    for place, column in enumerate(table.schema):
        if pa.types.is_interval(column.type):
            spans = [
                each and (each.months * 30 + each.days) * 86_400_000_000 + each.nanoseconds // 1000
                for each in table[place].to_pylist()
            ]
            table = table.set_column(place, column.name, pa.array(spans, pa.duration("us")))
        elif _is_unknown_to_polars(column.type):  # it would panic
            raise UsageError(
                f"polars has no type for the column {column.name!r} ({column.type}): ask for "
                "--format arrow or json, or for what is in it"
            )
    return polars.from_arrow(table)


def _is_unknown_to_polars(kind: Any) -> bool:
    import pyarrow as pa

    inner = (kind.field(place).type for place in range(kind.num_fields))
    return (
        pa.types.is_interval(kind)
        or pa.types.is_union(kind)
        or any(map(_is_unknown_to_polars, inner))
    )


def _arrow_stream(table: Any) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _names(cursor: Any) -> list[str]:
    """The columns, under names that differ."""
    columns: list[str] = []
    for each in cursor.description or ():
        name, number = str(each[0]), 1
        while name in columns:
            name, number = f"{each[0]}_{number}", number + 1
        columns.append(name)
    return columns


def _rows(cursor: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    return _names(cursor), cursor.fetchall()


def _records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, object]]:
    return [dict(zip(columns, map(plain, row), strict=True)) for row in rows]


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """RFC 4180 but for line ends; NULL is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(plain(value)) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else value


def plain(value: Any) -> Any:
    """Return what JSON can hold of a value: times as ISO 8601 text, durations in seconds, bytes in
    base 64, None for numbers that are none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Rendered:
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    numeric = [
        name
        for place, name in enumerate(columns)
        if rows and all(isinstance(row[place], (int, float)) for row in rows)
    ]
    return render.table(columns, texts, numeric=numeric)
