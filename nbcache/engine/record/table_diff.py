"""How two tables differ: columns, dtypes, and rows that only one of them has, asked of DuckDB.

Rows have no key that could be known, so a changed row is one that is gone and one that is new
(EXCEPT ALL, both ways); where both tables are of one length, cells are compared by place as well.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

_FIRST = 5

Parts = tuple[str, tuple[str, ...], dict[str, object]]


def as_table(value: object) -> Any | None:
    """Return the Arrow table of a pandas, polars or Arrow value; None for all else."""
    root, name = str(type(value).__module__).partition(".")[0], type(value).__name__
    if root not in ("pandas", "polars", "pyarrow") or root not in sys.modules:
        return None
    held: Any = value
    try:
        if name == "Series":
            held = held.to_frame("values")
            name = "DataFrame"
        if name == "DataFrame":
            if root == "polars":
                return held.to_arrow()
            import pyarrow as pa

            return pa.Table.from_pandas(held)
        if name == "RecordBatch":
            import pyarrow as pa

            return pa.Table.from_batches([held])
        return held if root == "pyarrow" and name == "Table" else None
    except (TypeError, ValueError, ImportError, OverflowError):  # pyarrow's errors are these
        return None  # objects that are no columns: compared as any other value


def compare_tables(old: Any, new: Any) -> Parts:
    """Return (head, lines, data) of two Arrow tables."""
    before, after = _dtypes(old), _dtypes(new)
    added = [name for name in after if name not in before]
    gone = [name for name in before if name not in after]
    retyped = [
        (name, before[name], after[name])
        for name in after
        if name in before and before[name] != after[name]
    ]
    common = [name for name in after if name in before]
    data: dict[str, object] = {
        "rows": [old.num_rows, new.num_rows],
        "columns_added": added,
        "columns_removed": gone,
        "dtypes": [{"column": name, "before": a, "after": b} for name, a, b in retyped],
    }
    parts = [_rows_text(old, new)]
    parts += [f"+ column {_name(name)}" for name in added]
    parts += [f"- column {_name(name)}" for name in gone]
    parts += [f"{_name(name)} {a} → {b}" for name, a, b in retyped]
    lines: list[str] = []
    if common:
        rows = _compare_rows(old.select(common), new.select(common))
        data.update(rows)
        parts += _said(rows)
        lines = _listed(common, rows)
    if list(before) != list(after) and not added and not gone:
        parts.append("columns in another order")
    if len(parts) == 1 and old.num_rows == new.num_rows:
        parts.append("equal columns and rows; its index, or what else goes with it, differs")
    return f"table: {'; '.join(parts)}", tuple(lines), data


def _dtypes(table: Any) -> dict[str, str]:
    return {each.name: str(each.type) for each in table.schema}


def _rows_text(old: Any, new: Any) -> str:
    if old.num_rows == new.num_rows:
        return _count(new.num_rows, "row")
    return f"{old.num_rows:,} → {new.num_rows:,} rows"


def _name(column: str) -> str:
    return "index" if column.startswith("__index_level_") else column


def _compare_rows(old: Any, new: Any) -> dict[str, object]:
    """Ask DuckDB for the rows of each side that the other has not, and for changed cells.

    Columns go by number there, since DuckDB takes "a" and "A" for one name.
    """
    import duckdb

    columns = [f"c{k}" for k in range(new.num_columns)]
    same_length = old.num_rows == new.num_rows
    with duckdb.connect(
        ":memory:",
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False},
    ) as connection:
        connection.register("old_given", old.rename_columns(columns))
        connection.register("new_given", new.rename_columns(columns))
        try:
            found = _ask(connection, columns, "*", same_length)
        except duckdb.Error:  # types that have no common one: compare what they print as
            texts = ", ".join(f"CAST({each} AS VARCHAR) AS {each}" for each in columns)
            found = _ask(connection, columns, texts, same_length)
    counts = zip(new.column_names, found.pop("cells"), strict=False)
    if same_length:
        found["cells_changed"] = {name: count for name, count in counts if count}
    return found


def _ask(connection: Any, columns: Sequence[str], wanted: str, same_length: bool) -> dict[str, Any]:
    for side in ("old", "new"):
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {side}_rows AS SELECT {wanted} FROM {side}_given"
        )
    found: dict[str, Any] = {"cells": ()}
    for word, here, there in (
        ("added", "new_rows", "old_rows"),
        ("removed", "old_rows", "new_rows"),
    ):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE found AS FROM {here} EXCEPT ALL FROM {there}"
        )
        found[f"rows_{word}"] = connection.execute("SELECT count(*) FROM found").fetchone()[0]
        first = connection.execute(f"FROM found ORDER BY ALL LIMIT {_FIRST}").fetchall()
        found[f"first_{word}"] = [[_plain(value) for value in row] for row in first]
    if same_length:
        counts = ", ".join(
            f"count(*) FILTER (WHERE a.{each} IS DISTINCT FROM b.{each})" for each in columns
        )
        found["cells"] = connection.execute(
            f"SELECT {counts} FROM old_rows a POSITIONAL JOIN new_rows b"
        ).fetchone()
    return found


def _plain(value: object) -> object:
    """A cell as JSON has it, which has no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _said(rows: dict[str, object]) -> list[str]:
    counts = [(rows[f"rows_{word}"], word) for word in ("added", "removed")]
    parts = [
        f"{_count(number, 'row')} {word}"
        for number, word in counts
        if isinstance(number, int) and number
    ]
    cells = rows.get("cells_changed")
    if not parts:
        return ["the same rows in another order"] if cells else []
    if isinstance(cells, dict) and cells:
        named = ", ".join(f"{_name(name)} {count:,}" for name, count in list(cells.items())[:5])
        parts.append(f"cells changed by place: {named}")
    return parts


def _listed(columns: Sequence[str], rows: dict[str, object]) -> list[str]:
    lines: list[str] = []
    for sign, word in (("-", "removed"), ("+", "added")):
        first = rows[f"first_{word}"]
        assert isinstance(first, list)
        lines += [f"{sign} {_row(columns, row)}" for row in first]
        count = rows[f"rows_{word}"]
        assert isinstance(count, int)
        if count > len(first):
            lines.append(f"{sign} … and {count - len(first):,} more")
    return lines


def _row(columns: Sequence[str], row: Sequence[object]) -> str:
    text = "  ".join(
        f"{_name(name)}={value}" for name, value in list(zip(columns, row, strict=True))[:12]
    )
    return text if len(text) <= 200 else text[:199] + "…"
