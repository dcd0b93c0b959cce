"""Segments: rows as a pair of Parquet files, and back.

Keeps the promise that a row comes back equal to what went in, whatever it holds: what the columns
cannot say exactly (a key of a later version, a number of another type, a file name that is not
UTF-8) goes to the `extra` column, which wins. docs/format.md has the columns; a change there comes
first. pyarrow is imported when the first segment is read or written, never before.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nbcache.errors import CacheFormatError, StoreError
from nbcache.model.row import Record
from nbcache.store.arrow import Shape, arrow_array, arrow_type

KEYS, ROWS = ".keys.parquet", ".rows.parquet"
FORMAT = 1
GROUP_ROWS = 10_000  # rows in a row group: what reading one row costs
_INT64 = 1 << 63

TEXT, INT, FLOAT, BOOL = "text", "int", "float", "bool"
_COMPONENT = {
    "kind": TEXT, "name": TEXT, "version": INT, "digest": TEXT, "summary": TEXT, "evidence": TEXT,
}  # fmt: skip
_WATCHED = {"kind": TEXT, "name": TEXT, "digest": TEXT}
_PORT = {
    "name": TEXT, "digest": TEXT, "kind": TEXT, "codec": TEXT, "size": INT, "blob": TEXT,
    "inline": "bytes", "file": TEXT, "opaque": BOOL,
}  # fmt: skip
_INPUT = {
    "name": TEXT, "digest": TEXT, "summary": TEXT, "scalar": TEXT, "content": TEXT, "place": TEXT,
}  # fmt: skip
_PROCESS = {
    "name": TEXT, "components": [_COMPONENT], "source": TEXT, "cell": TEXT, "language": TEXT,
    "inputs": [TEXT], "outputs": [TEXT], "upstream": [TEXT],
    "labels": [TEXT],
}  # fmt: skip
_OUTLINE: Shape = {
    "origins": [{"key": TEXT, "name": TEXT, "node": INT, "value": BOOL}],
    "edges": [{"tail": TEXT, "head": TEXT, "node": INT, "label": TEXT}],
}

COLUMNS: dict[str, Shape] = {
    "kind": TEXT, "id": TEXT, "at": INT, "run": TEXT, "session": INT,
    "process": TEXT, "position": TEXT, "tag": TEXT, "hash": TEXT, "generation": INT,
    "status": TEXT, "attempt": INT, "exit": INT, "signal": TEXT, "error": TEXT, "traceback": TEXT,
    "submit": INT, "start": INT, "complete": INT, "duration": FLOAT, "realtime": FLOAT,
    "peak_rss": INT, "cpu_time": FLOAT, "rchar": INT, "wchar": INT,
    "host": TEXT, "user": TEXT, "executor": TEXT, "workdir": TEXT,
    "cpus": INT, "memory": INT, "time": FLOAT, "gpus": INT, "disk": INT,
    "components": [_COMPONENT], "watched": [_WATCHED],
    "inputs": [_INPUT],
    "outputs": [_PORT], "shown": _PORT, "reason": TEXT,
    "cached_from": TEXT,
    "name": TEXT, "notebook": TEXT, "parent": TEXT, "parameters": ("map", TEXT),
    "options": ("map", TEXT), "targets": [TEXT],
    "processes": [_PROCESS], "counts": ("map", INT), "own": INT, "saved": FLOAT, "pid": INT,
    "row": TEXT, "target": TEXT, "pinned": BOOL, "same_as": TEXT, "revoked": BOOL,
    "retention": TEXT, "outline": _OUTLINE, "items": ("map", INT),
    "extra": TEXT, "signature": "bytes", "signer": TEXT, "sealed": TEXT, "origin": TEXT,
}  # fmt: skip

KEY_COLUMNS: dict[str, Shape] = {
    **{
        name: COLUMNS[name]
        for name in (
            "hash id kind status generation run process tag at realtime host user watched outputs "
            "shown row extra signature signer sealed origin"
        ).split()
    },
    "place": INT,
}
KEYED_KINDS = frozenset({"attempt", "evict"})


class _Inexact(Exception):
    """A value that its column cannot hold exactly."""


def columns_of(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Return stored rows as columns, with what does not fit in `extra`."""
    extras: dict[int, Record] = {}
    columns = {
        name: _column([record.get(name) for record in records], name, shape, extras)
        for name, shape in COLUMNS.items()
        if name != "extra"
    }
    for place, record in enumerate(records):
        if not record.keys() <= columns.keys():
            odd = {key: value for key, value in record.items() if key not in columns}
            extras.setdefault(place, {}).update(odd)
    columns["extra"] = [None] * len(records)
    for place, extra in extras.items():
        columns["extra"][place] = json.dumps(extra)
    return columns


def _column(values: list[Any], name: str, shape: Shape, extras: dict[int, Record]) -> list[Any]:
    """Return one column; values that it cannot hold exactly go to their row's extra."""
    if _all_exact(values, shape):
        return values
    write = _writer(shape)
    for place, value in enumerate(values):
        if value is not None:
            try:
                values[place] = write(value)
            except (_Inexact, TypeError, ValueError, KeyError):
                extras.setdefault(place, {})[name] = value
                values[place] = _nearest(value, shape)
    return values


_PYTHON_TYPES: dict[str, type] = {TEXT: str, INT: int, FLOAT: float, BOOL: bool}


def _all_exact(values: list[Any], shape: Shape) -> bool:
    """Say at once that a whole column fits, as nearly every one does; False means: look closer."""
    types = set(map(type, values))
    types.discard(type(None))
    if not types:
        return True
    if not isinstance(shape, str) or types != {_PYTHON_TYPES.get(shape)}:
        return False
    if shape == INT:
        numbers = [each for each in values if each is not None]
        return bool(min(numbers) >= -_INT64 and max(numbers) < _INT64)
    if shape == TEXT:
        try:
            "".join([each for each in values if each]).encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True


def _nearest(value: object, shape: Shape) -> str | None:
    """Return text that SQL can show in place of text that is not UTF-8; else None."""
    if shape == TEXT and isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return None


@cache
def _simple_writer(word: str) -> Callable[[Any], Any]:
    def text(value: Any) -> Any:
        if type(value) is not str:
            raise _Inexact
        if not value.isascii():
            value.encode("utf-8")  # UnicodeEncodeError is a ValueError
        return value

    def integer(value: Any) -> Any:
        if type(value) is not int or not -_INT64 <= value < _INT64:
            raise _Inexact
        return value

    def real(value: Any) -> Any:
        if type(value) is not float:
            raise _Inexact  # 1 and 1.0 are two things in JSON
        return value

    def boolean(value: Any) -> Any:
        if type(value) is not bool:
            raise _Inexact
        return value

    def octets(value: Any) -> Any:
        data = base64.b64decode(value, validate=True)
        if base64.b64encode(data).decode("ascii") != value:
            raise _Inexact
        return data

    return {TEXT: text, INT: integer, FLOAT: real, BOOL: boolean, "bytes": octets}[word]


def _writer(shape: Shape) -> Callable[[Any], Any]:
    """Return a function that turns a JSON value into what its column takes, or raises."""
    if isinstance(shape, str):
        return _simple_writer(shape)
    if isinstance(shape, list):
        member = _writer(shape[0])

        def many(values: Any) -> Any:
            if type(values) is not list:
                raise _Inexact
            return [member(each) for each in values]

        return many
    if isinstance(shape, tuple):
        member = _writer(shape[1])

        def mapping(value: Any) -> Any:
            if type(value) is not dict:
                raise _Inexact
            return [(_simple_writer(TEXT)(key), member(each)) for key, each in value.items()]

        return mapping
    members = {name: _writer(each) for name, each in shape.items()}

    def struct(value: Any) -> Any:
        if type(value) is not dict:
            raise _Inexact
        out = {}
        for key, each in value.items():  # an unknown key is a KeyError: goes to extra
            if each is None and key != "digest":
                raise _Inexact
            out[key] = None if each is None else members[key](each)
        return out

    return struct


def record_of(line: Record) -> Record:
    """Return the stored row that a line of a rows file holds (as `to_pylist` gives it)."""
    record = {
        name: _plain(name, value)
        for name, value in line.items()
        if value is not None and name != "extra"
    }
    if line.get("extra"):
        record.update(json.loads(line["extra"]))
    return record


_NESTED = {name for name, shape in COLUMNS.items() if not isinstance(shape, str)}
_MAPS = {name for name, shape in COLUMNS.items() if isinstance(shape, tuple)}


def _plain(name: str, value: Any) -> Any:
    if name not in _NESTED:
        return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
    if name in _MAPS:
        return dict(value)
    return _unnested(value, keep_digest=name == "watched")


def _unnested(value: Any, *, keep_digest: bool) -> Any:
    if isinstance(value, dict):
        return {
            key: _unnested(each, keep_digest=keep_digest)
            for key, each in value.items()
            if each is not None or (keep_digest and key == "digest")
        }
    if isinstance(value, list):
        return [_unnested(each, keep_digest=keep_digest) for each in value]
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


@cache
def schema() -> Any:
    """Return the Arrow schema of a rows file."""
    import pyarrow as pa

    return pa.schema([(name, arrow_type(shape)) for name, shape in COLUMNS.items()])


def table_of(records: Sequence[Record]) -> Any:
    """Return stored rows as an Arrow table with the columns of a rows file."""
    import pyarrow as pa

    columns = columns_of(records)
    return pa.Table.from_arrays(
        [arrow_array(columns[name], shape) for name, shape in COLUMNS.items()], schema=schema()
    )


def metadata_for(
    rows: Any, *, sources: Sequence[Any] = (), replaces: Collection[str] = ()
) -> Record:
    """Return what the keys file of a rows table says about its segment."""
    import pyarrow.compute as pc

    of_tasks = pc.is_in(rows.column("kind"), value_set=arrow_array(["attempt", "use"], TEXT))
    tasks = rows.select(["run", "process", "position"]).filter(of_tasks)
    counted = tasks.group_by(tasks.column_names, use_threads=False).aggregate([([], "count_all")])
    several = counted.filter(pc.greater(counted.column("count_all"), 1)).column("run")
    resumed = rows.column("run").filter(pc.greater(rows.column("session"), 1))
    again = {*several.to_pylist(), *resumed.unique().to_pylist()}
    return {
        "format": FORMAT,
        "rows": len(rows),
        "sources": list(sources),
        "replaces": sorted(replaces),
        "runs": sorted(each or "" for each in counted.column("run").unique().to_pylist()),
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


def write_table(path: Path, table: Any, metadata: Record) -> None:
    """Write a Parquet file that does not exist yet, with `metadata` under the key `nbcache`."""
    import pyarrow.parquet as pq

    known = dict(table.schema.metadata or {})
    known[b"nbcache"] = json.dumps(metadata).encode("utf-8")
    pq.write_table(
        table.replace_schema_metadata(known),
        path,
        compression="zstd",
        row_group_size=GROUP_ROWS,
        write_statistics=["id", "kind", "run", "process", "hash", "at"],
    )


def segment_name(file: str) -> str | None:
    """Return the segment whose keys a file holds; None for what else may lie in the folder, such
    as the copies that file managers and synchronisers make."""
    name = file.removesuffix(KEYS)
    return name if file.endswith(KEYS) and len(name) == 26 and name.isalnum() else None


def open_parquet(path: Path) -> Any:
    """Return a `pyarrow.parquet.ParquetFile`.

    Raises:
        FileNotFoundError: it was merged away in the meantime.
        StoreError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreError(
            f"the segment file {path} is damaged: {error}.\n  Restore it from a copy; or move it "
            "away with the other file of its name: then the results in it are made again."
        ) from error


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
            for line in table.to_pylist():
                yield record_of(line)


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


def read_inputs(path: Path) -> Any:
    """Return the Arrow table of process and inputs of the attempts in a rows file, without those
    of tasks that never began."""
    import pyarrow.compute as pc

    with open_parquet(path) as file:
        columns = ["kind", "process", "status", "start", "inputs"]
        table = file.read(columns=columns, use_threads=False)
        ended = pc.not_equal(table.column("status"), "aborted")
        began = pc.or_(pc.is_valid(table.column("start")), ended)
        wanted = pc.and_(pc.equal(table.column("kind"), "attempt"), began)
        return table.filter(wanted).select(["process", "inputs"])


def inputs_of(table: Any, process: str) -> list[tuple[str, str, str]]:
    """Return name, digest and summary of all inputs of a process in such a table, each once."""
    import pyarrow.compute as pc

    own = table.filter(pc.equal(table.column("process"), process))
    flat = pc.list_flatten(own.column("inputs"))
    names = ("name", "digest", "summary")
    found = zip(*(pc.struct_field(flat, each).to_pylist() for each in names), strict=True)
    return [(name, digest, summary or "") for name, digest, summary in dict.fromkeys(found)]


def read_record(path: Path, place: int) -> Record:
    """Return the stored row at a line of a rows file."""
    return next(iter(read_records_at(path, [place])))


def owners_in(path: Path) -> set[str]:
    """Return the runs of the rows in a rows file, and the ids of those that are of none."""
    import pyarrow.compute as pc

    with open_parquet(path) as file:
        table = file.read(columns=["id", "run"])
    owners = pc.if_else(pc.fill_null(pc.equal(table["run"], ""), True), table["id"], table["run"])
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
                for line in table.take(arrow_array(here, INT)).to_pylist():
                    yield record_of(line)
    if wanted and wanted[-1] >= first:
        raise StoreError(f"the segment file {path} has fewer lines than its keys say")
