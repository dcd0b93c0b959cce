"""The lines of several Parquet files as those of one, taken in any order.

A merged segment may have a million rows, which take gigabytes at once. So a few groups of lines are
in memory at a time: those of which lines were taken last, since rows that stand together in the new
order mostly did so before. pyarrow is imported when the first file is read.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from nbcache.store.arrow import arrow_array
from nbcache.store.columns import INT
from nbcache.store.segment import open_parquet

_KEPT_ROWS = 50_000  # some 200 MB


class Lines:
    """All lines of some files, numbered from 0, in all their columns or some."""

    def __init__(self, paths: Sequence[Path], columns: Collection[str] | None = None) -> None:
        """Read how many there are, and which columns.

        Raises:
            FileNotFoundError, StoreError: as `open_parquet`; so do all methods.
        """
        import pyarrow as pa

        self._paths = paths
        self._groups: list[tuple[Path, int]] = []
        self._starts: list[int] = []  # the first line of each group
        schemas, lines = [], 0
        for path in paths:
            with open_parquet(path) as file:
                schemas.append(file.schema_arrow.remove_metadata())
                for group in range(file.num_row_groups):
                    self._groups.append((path, group))
                    self._starts.append(lines)
                    lines += file.metadata.row_group(group).num_rows
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        chosen = (each for each in schema if columns is None or each.name in columns)
        self.schema = pa.schema(list(chosen))
        self._kept: dict[int, Any] = {}  # groups by number; the one that was asked for last is last
        self._kept_rows = 0

    def column_table(self, columns: Sequence[str]) -> Any:
        """Return some columns of all lines, and their numbers as the column `line`."""
        import pyarrow as pa

        tables = []
        for path in self._paths:
            with open_parquet(path) as file:
                tables.append(file.read(columns=list(columns), use_threads=False))
        table = pa.concat_tables(
            [each.replace_schema_metadata(None) for each in tables], promote_options="permissive"
        )
        return table.append_column("line", arrow_array(range(len(table)), INT))

    def taken(self, lines: Sequence[int]) -> Any:
        """Return the table of some lines, in this order."""
        import pyarrow as pa

        wanted: dict[int, list[int]] = {}  # by group: where its lines come in the table
        for place, line in enumerate(lines):
            wanted.setdefault(bisect_right(self._starts, line) - 1, []).append(place)
        pieces, order = [self.schema.empty_table()], array("q", bytes(8 * len(lines)))
        found = 0
        for group, places in wanted.items():
            start = self._starts[group]
            within = arrow_array([lines[place] - start for place in places], INT)
            pieces.append(self._group(group).take(within))
            for place in places:
                order[place] = found
                found += 1
        table = pa.concat_tables(pieces, promote_options="permissive")
        return table.take(arrow_array(order, INT))

    def _group(self, number: int) -> Any:
        table = self._kept.pop(number, None)
        if table is None:
            path, group = self._groups[number]
            with open_parquet(path) as file:
                read = file.read_row_group(group, columns=self.schema.names, use_threads=False)
            table = read.replace_schema_metadata(None)
            self._kept_rows += len(table)
        self._kept[number] = table
        while self._kept_rows > _KEPT_ROWS and len(self._kept) > 1:
            self._kept_rows -= len(self._kept.pop(next(iter(self._kept))))
        return table
