"""Segments: rows as a pair of Parquet files, `rows` with all columns and `keys` to find them by.

How rows become columns is `columns`' business; docs/format.md has the files.
"""

from __future__ import annotations

import base64
import errno
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from nbcache.errors import (
    CacheFormatError,
    DamagedSegmentError,
    NbcacheError,
    StoreError,
    command,
)
from nbcache.model.row import Record
from nbcache.store.arrow import arrow_array, arrow_scalar
from nbcache.store.columns import BOOL, INT, KEY_COLUMNS, KEYED_KINDS, TEXT, record_of
from nbcache.store.files import open_up

KEYS, ROWS = ".keys.parquet", ".rows.parquet"
FORMAT = 1
ORDER = ("kind", "run", "process", "id")  # of the rows of a segment
GROUP_ROWS = 10_000  # rows in a row group: what reading one row costs


def metadata_for(
    rows: Any, *, sources: Sequence[Any] = (), replaces: Collection[str] = ()
) -> Record:
    """Return what the keys file of a rows table says about its segment."""
    import pyarrow.compute as pc

    of_tasks = pc.is_in(rows.column("kind"), value_set=arrow_array(["attempt", "use"], TEXT))
    tasks = rows.select(["run", "process", "position"]).filter(of_tasks)
    one = arrow_scalar(1, INT)
    # One text for each task: to group by several columns, pyarrow would import pandas.
    texts = pc.binary_join_element_wise(
        *tasks.columns, arrow_scalar("\0", TEXT), null_handling="replace"
    )
    values, counts = pc.value_counts(texts).flatten()
    several = values.filter(pc.greater(counts, one)).to_pylist()
    resumed = rows.column("run").filter(pc.greater(rows.column("session"), one))
    again = {*(each.partition("\0")[0] for each in several), *resumed.unique().to_pylist()}
    return {
        "format": FORMAT,
        "rows": len(rows),
        "sources": list(sources),
        "replaces": sorted(replaces),
        "runs": sorted(each or "" for each in tasks.column("run").unique().to_pylist()),
        "again": sorted(each or "" for each in again),
    }


def keys_table(rows: Any) -> Any:
    """Return the keys of a rows table: its attempt and evict rows, each with its place."""
    kinds = rows.column("kind").to_pylist()
    places = [place for place, kind in enumerate(kinds) if kind in KEYED_KINDS]
    place_column = arrow_array(places, INT)
    there = [name for name in KEY_COLUMNS if name in rows.column_names]
    taken = rows.select(there).take(place_column)
    return taken.append_column("place", place_column)


def in_order(rows: Iterable[Record]) -> list[Record]:
    """Return stored rows in the order that they have in a segment."""
    return sorted(rows, key=lambda row: tuple(str(row.get(name) or "") for name in ORDER))


class Grouped(NamedTuple):
    """A table by its groups of lines, which may be made one after the other as they are written."""

    schema: Any
    groups: Iterable[Any]


def _grouped(table: Any) -> Grouped:
    lines = group_lines(table.column("kind").to_pylist())
    return Grouped(table.schema, (table.slice(each.start, len(each)) for each in lines))


def group_lines(kinds: Sequence[str]) -> list[range]:
    """Return the lines of each group of a file, given the kinds of its rows in order: a group is
    of one kind, since who asks for the few rows of a kind should not read many others with them.
    In a short file to read a further group takes longer than that."""
    if len(kinds) <= GROUP_ROWS // 10:
        return [range(len(kinds))]
    lines, start = list[range](), 0
    for _, alike in groupby(kinds):
        end = start + sum(1 for _ in alike)
        lines += [range(at, min(at + GROUP_ROWS, end)) for at in range(start, end, GROUP_ROWS)]
        start = end
    return lines


def write_table(path: Path, table: Any, metadata: Record) -> None:
    """Write a Parquet file that does not exist yet, with `metadata` under the key `nbcache`, of an
    Arrow table of rows or keys in order, or of one that is `Grouped`."""
    import pyarrow.parquet as pq

    table = table if isinstance(table, Grouped) else _grouped(table)
    known = dict(table.schema.metadata or {})
    known[b"nbcache"] = json.dumps(metadata).encode("utf-8")
    with pq.ParquetWriter(
        path,
        table.schema.with_metadata(known),
        compression="zstd",
        write_statistics=["id", "kind", "run", "process", "hash", "at"],
        write_page_checksum=True,
    ) as writer:
        for group in table.groups:
            writer.write_table(group, row_group_size=GROUP_ROWS)
    open_up(path, path, 0o644)


def segment_name(file: str) -> str | None:
    """Return the segment whose keys a file holds; None for what else may lie in the folder, such
    as the copies that file managers and synchronisers make."""
    name = file.removesuffix(KEYS)
    return name if file.endswith(KEYS) and len(name) == 26 and name.isalnum() else None


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Give a `pyarrow.parquet.ParquetFile` for as long as it is read.

    Raises:
        FileNotFoundError: it was merged away in the meantime.
        DamagedSegmentError: it is damaged; told by opening it, or by what is read of it.
        StoreError: it may not be read, or the system cannot open it now.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            known = (file.metadata.metadata or {}).get(b"ARROW:schema")
            # The end of a file has no checksum: its columns are told there twice.
            if known is not None and not _schema_in(known).equals(file.schema_arrow):
                raise ValueError("its end contradicts itself")
            yield file
    except FileNotFoundError:
        raise
    except PermissionError as error:
        real = path.resolve()  # that of a cache which may only be read is a link here
        raise StoreError(
            f"the segment file {real} may not be read by you: another user has made it.\n  "
            f"Let that one say: chmod -R go+rX {real.parents[1]}"
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if number not in (None, errno.EIO):  # such as too many open files
            raise StoreError(f"the segment file {path} cannot be read: {error}") from error
        raise damaged(path, f"is damaged: {str(error).splitlines()[0]}") from error


def _schema_in(told: bytes) -> Any:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(told)))


def check_rows(path: Path) -> None:
    """See that all of a rows file can be read; errors as of `open_parquet`."""
    with open_parquet(path) as file:
        for group in range(file.num_row_groups):
            file.read_row_group(group, use_threads=False)


def damaged(path: Path, fault: str) -> DamagedSegmentError:
    """Return what is said of a segment file that cannot be read."""
    return DamagedSegmentError(
        f"the segment file {path} {fault.rstrip('.')}.\n  `{command('verify --repair')}` mends "
        "what can be mended and puts the rest aside: then the results in it are made again."
    )


def is_damage(error: Exception) -> bool:
    """Say whether files of a segment are at fault, which are gone or damaged; else it is what read
    them: the disk is full, too many files are open, or a later version has written them."""
    if isinstance(error, NbcacheError):
        return isinstance(error, DamagedSegmentError)
    return isinstance(error, FileNotFoundError) or not isinstance(error, OSError | MemoryError)


def metadata_of(file: Any, path: Path) -> Record:
    """Return what a keys file says about its segment."""
    raw = (file.schema_arrow.metadata or {}).get(b"nbcache")
    metadata: Record = json.loads(raw) if raw else {}
    if metadata.get("format", 0) != FORMAT:
        raise CacheFormatError(f"the segment file {path} has no format that this version knows")
    return metadata


def read_records(
    path: Path,
    kinds: Collection[str] | None = None,
    *,
    run: str | None = None,
    process: str | None = None,
    columns: Collection[str] | None = None,
) -> Iterator[Record]:
    """Yield the stored rows of a rows file that match, in the file's order.

    With `columns`, of each only these, and what a row could not hold in its columns.
    """
    import pyarrow.compute as pc

    with open_parquet(path) as file:
        chosen = None
        if columns is not None:
            chosen = [each for each in file.schema_arrow.names if each in {*columns, "extra"}]
        asked = (
            ("kind", None if kinds is None else list(kinds)),
            ("run", None if run is None else [run]),
            ("process", None if process is None else [process]),
        )
        wanted = {name: values for name, values in asked if values is not None}
        for group in _groups_with(file, wanted):
            mask: Any = None
            if wanted:
                head = file.read_row_group(group, columns=list(wanted), use_threads=False)
                for name, values in wanted.items():
                    each = pc.is_in(head.column(name), value_set=arrow_array(values, TEXT))
                    mask = each if mask is None else pc.and_(mask, each)
                if not pc.any(mask).as_py():
                    continue
            table = file.read_row_group(group, columns=chosen, use_threads=False)
            if mask is not None:
                table = table.filter(mask)
            yield from _records_of(table)


def _records_of(table: Any) -> Iterator[Record]:
    """Yield the stored rows of a table; most columns are of some kinds of rows only."""
    held = [name for name in table.column_names if table.column(name).null_count < len(table)]
    yield from map(record_of, table.select(held or table.column_names).to_pylist())


def _groups_with(file: Any, wanted: Mapping[str, Sequence[str]]) -> Iterator[int]:
    """Yield those groups of lines that may hold what is wanted, by what the file says of them."""
    columns = {file.metadata.schema.column(n).path: n for n in range(len(file.metadata.schema))}
    for group in range(file.num_row_groups):
        held = file.metadata.row_group(group)
        if all(_may_be(held.column(columns[name]), values) for name, values in wanted.items()):
            yield group


def _may_be(column: Any, values: Sequence[str]) -> bool:
    """Whether one of the values may stand in a column of a group."""
    said = column.statistics
    if said is None or not said.has_min_max:
        return True
    return any(said.min <= value <= said.max for value in values)


def read_hashes(path: Path, statuses: Collection[str]) -> frozenset[str]:
    """Return the hashes of a keys file's attempts that ended with one of the statuses."""
    import pyarrow.compute as pc

    with open_parquet(path) as file:
        table = file.read(columns=["hash", "status"], use_threads=False)
        wanted = pc.is_in(table.column("status"), value_set=arrow_array(list(statuses), TEXT))
        return frozenset(table.filter(wanted).column("hash").to_pylist())


MAYBE_NOT_BEGUN = ("aborted", "skipped")
"""Statuses of attempts that, without a time at which they started, never began."""


def read_inputs(path: Path) -> Any:
    """Return the Arrow table of process and inputs of the attempts in a rows file, without those
    of tasks that never began."""
    import pyarrow.compute as pc

    with open_parquet(path) as file:
        columns = ["kind", "process", "status", "start", "inputs"]
        table = file.read(columns=columns, use_threads=False)
        ended = pc.invert(pc.is_in(table.column("status"), arrow_array(MAYBE_NOT_BEGUN, TEXT)))
        began = pc.or_(pc.is_valid(table.column("start")), ended)
        wanted = pc.and_(pc.equal(table.column("kind"), arrow_scalar("attempt", TEXT)), began)
        return table.filter(wanted).select(["process", "inputs"])


def inputs_of(table: Any, process: str) -> list[tuple[str, str, str]]:
    """Return name, digest and summary of all inputs of a process in such a table, each once."""
    import pyarrow.compute as pc

    own = table.filter(pc.equal(table.column("process"), arrow_scalar(process, TEXT)))
    flat = pc.list_flatten(own.column("inputs"))
    names = ("name", "digest", "summary")
    found = zip(*(pc.struct_field(flat, each).to_pylist() for each in names), strict=True)
    return [(name, digest, summary or "") for name, digest, summary in dict.fromkeys(found)]


def read_record(path: Path, place: int) -> Record:
    """Return the stored row at a line of a rows file."""
    return next(iter(read_records_at(path, [place])))


def owners_in(path: Path, until_us: int | None = None) -> set[str]:
    """Return the runs of the rows in a rows file, and the ids of those that are of none; where
    `until_us` is given, of older rows."""
    import pyarrow.compute as pc

    with open_parquet(path) as file:
        table = file.read(columns=["id", "run", "at"])
    if until_us is not None:
        table = table.filter(pc.less(table["at"], arrow_scalar(until_us, INT)))
    is_of_none = pc.equal(table["run"], arrow_scalar("", TEXT))
    is_of_none = pc.fill_null(is_of_none, arrow_scalar(True, BOOL))
    owners = pc.if_else(is_of_none, table["id"], table["run"])
    return set(pc.unique(owners).to_pylist())


def read_records_at(path: Path, places: Sequence[int]) -> Iterator[Record]:
    """Yield the stored rows at lines of a rows file, in the file's order.

    Only its end is read, and the groups of `GROUP_ROWS` lines in which the places are.
    """
    wanted = sorted(places)
    with open_parquet(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            here = [place - first for place in wanted if first <= place < first + count]
            first += count
            if here:
                table = file.read_row_group(group, use_threads=False)
                yield from _records_of(table.take(arrow_array(here, INT)))
    if wanted and wanted[-1] >= first:
        raise StoreError(f"the segment file {path} has fewer lines than its keys say")
