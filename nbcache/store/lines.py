"""The lines of several Parquet files as those of one, taken in any order.

A merged segment may have a million rows, which take gigabytes at once. So the lines that are taken
come a good many at a time, for which each file is read once: where the rows of one run stand in all
of them, each group of the new order has some of each group of the files.
pyarrow is imported when the first file is read.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from nbcache.store.arrow import arrow_array
from nbcache.store.columns import INT
from nbcache.store.segment import open_parquet

_ROWS_AT_ONCE = 200_000  # some 600 MB


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

    def taken(self, groups: Iterable[Sequence[int]]) -> Iterator[Any]:
        """Yield the table of each group of lines, in its order."""
        at_once: list[Sequence[int]] = []
        for each in groups:
            if at_once and sum(map(len, at_once)) + len(each) > _ROWS_AT_ONCE:
                yield from self._at_once(at_once)
                at_once = []
            at_once.append(each)
        yield from self._at_once(at_once)

    def _at_once(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        import pyarrow as pa

        lines = array("q", chain.from_iterable(groups))
        pieces = list(self._pieces(lines))
        start = 0
        for group in groups:
            end = start + len(group)
            tables, places = [self.schema.empty_table()], array("q")
            for piece, its_places in pieces:
                first, last = bisect_left(its_places, start), bisect_left(its_places, end)
                tables.append(piece.slice(first, last - first))
                places.extend(its_places[first:last])
            table = pa.concat_tables(tables, promote_options="permissive")
            order = sorted(range(len(places)), key=places.__getitem__)
            yield table.take(arrow_array(order, INT))
            start = end

    def _pieces(self, lines: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
        """Yield the table of those of the lines that one group of a file holds, and at which places
        among all they come, which ascend."""
        wanted: dict[int, array[int]] = {}
        for place, line in enumerate(lines):
            group = bisect_right(self._starts, line) - 1
            wanted.setdefault(group, array("q")).append(place)
        for path, groups in groupby(sorted(wanted), lambda group: self._groups[group][0]):
            with open_parquet(path) as file:
                for group in groups:
                    number, start, places = (
                        self._groups[group][1],
                        self._starts[group],
                        wanted[group],
                    )
                    table = file.read_row_group(
                        number, columns=self.schema.names, use_threads=False
                    )
                    within = arrow_array([lines[place] - start for place in places], INT)
                    yield table.replace_schema_metadata(None).take(within), places
