"""Rows with the blobs that they name, read many at a time: what a clean-up needs of a long log.

Of attempts and hits, which are nearly all rows, the nested columns are not unfolded: what looks
like a blob in them is found a column at a time. To unfold a million takes a minute and gigabytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nbcache.model.row import Record
from nbcache.store.arrow import arrow_array, arrow_scalar
from nbcache.store.columns import BOOL, INT, TEXT, record_of
from nbcache.store.references import BLOB_PATTERN, SAYS_WHAT, references
from nbcache.store.segment import open_parquet

_PLAIN_KINDS = ("attempt", "use")  # a kind with columns of maps is unfolded

T = TypeVar("T")


class Naming(NamedTuple):
    """A stored row, the blobs that it names with their kinds, and the digests of its outputs.

    `record` may lack nested columns, and hold None where the row has nothing.
    """

    record: Record
    blobs: Collection[tuple[str, str]]
    contents: Collection[str]


def naming_of(record: Record) -> Naming:
    """Return what a stored row names."""
    blobs = [(digest, kind) for digest, kind, _ in references(record)]
    return Naming(record, blobs, [each["digest"] for each in record.get("outputs") or ()])


def read_naming(path: Path, columns: Collection[str]) -> Iterator[Naming]:
    """Yield the rows of a rows file, by these columns of it and what the rows could not hold there.

    Raises:
        FileNotFoundError: it was merged away. StoreError: it is damaged.
    """
    import pyarrow.compute as pc

    with open_parquet(path) as file:
        chosen = [each for each in file.schema_arrow.names if each in {*columns, "extra"}]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=chosen, use_threads=False)
            plain = pc.and_(
                pc.is_in(table.column("kind"), value_set=arrow_array(_PLAIN_KINDS, TEXT)),
                pc.is_null(table.column("extra")),
            )
            for line in table.filter(pc.invert(plain)).to_pylist():
                yield naming_of(record_of(line))
            yield from _plain_rows(table.filter(plain).combine_chunks())


def _plain_rows(table: Any) -> Iterator[Naming]:
    """Yield rows all of whose values stand in their columns."""
    import pyarrow as pa

    if not len(table):
        return
    columns = {name: table.column(name).chunk(0) for name in table.column_names}
    lines = arrow_array(range(len(table)), INT)
    blobs: dict[int, list[tuple[str, str]]] = {}
    for name, values in columns.items():
        if name not in SAYS_WHAT:
            for line, blob, kind in _blobs(values, lines):
                blobs.setdefault(line, []).append((blob, kind))
    contents: dict[int, list[str]] = {}
    for line, digest in _output_digests(columns.get("outputs"), lines):
        contents.setdefault(line, []).append(digest)
    flat = {
        name: values.to_pylist()
        for name, values in columns.items()
        if values.null_count < len(table) and not pa.types.is_nested(values.type)
    }
    for line, row in enumerate(zip(*flat.values(), strict=True)):
        record = dict(zip(flat, row, strict=True))
        yield Naming(record, blobs.get(line, ()), contents.get(line, ()))


def _blobs(values: Any, lines: Any) -> Iterator[tuple[int, str, str]]:
    """Yield (line, blob, kind) of what `references` finds in values, which are of these lines."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(values.type):
        found = pc.fill_null(
            pc.match_substring_regex(values, BLOB_PATTERN), arrow_scalar(False, BOOL)
        )
        texts = values.filter(found).to_pylist()
        yield from ((line, text, "") for line, text in _beside(lines.filter(found), texts))
    elif pa.types.is_struct(values.type):
        members = {each.name: pc.struct_field(values, each.name) for each in values.type}
        blob = members.pop("blob", None)
        if blob is not None and pa.types.is_string(blob.type):
            there = blob.is_valid()
            kinds = members.get("kind", pa.nulls(len(values), pa.string())).filter(there)
            named = zip(blob.filter(there).to_pylist(), kinds.to_pylist(), strict=True)
            for line, (text, kind) in _beside(lines.filter(there), named):
                yield line, text, kind or ""
        for name, each in members.items():
            if name not in SAYS_WHAT:
                yield from _blobs(each, lines)
    elif pa.types.is_list(values.type):
        yield from _blobs(pc.list_flatten(values), lines.take(pc.list_parent_indices(values)))


def _output_digests(outputs: Any, lines: Any) -> Iterator[tuple[int, str]]:
    import pyarrow.compute as pc

    if outputs is not None:
        digests = pc.struct_field(pc.list_flatten(outputs), "digest").to_pylist()
        yield from _beside(lines.take(pc.list_parent_indices(outputs)), digests)


def _beside(lines: Any, values: Iterable[T]) -> Iterator[tuple[int, T]]:
    return zip(lines.to_pylist(), values, strict=True)
