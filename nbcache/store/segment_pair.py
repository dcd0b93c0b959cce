"""Whether the two files of a segment say the same, and which of its rows are believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbcache.model.row import Record
from nbcache.store.arrow import arrow_array
from nbcache.store.columns import KEY_COLUMNS, KEYED_KINDS, TEXT, record_of
from nbcache.store.segment import open_parquet, read_records


def disagreement(rows: Path, keys: Path) -> str:
    """Say how the keys of a segment and its rows differ; empty where they say the same. They are
    compared a column at a time, and row by row only where a column differs."""
    if _are_equal(rows, keys):
        return ""
    records, lines = list(read_records(rows)), read_keys(keys)
    differ = len(records) - len(agreeing(records, lines))
    if differ or len(lines) != sum(each.get("kind") in KEYED_KINDS for each in records):
        return f"its keys and rows do not match ({differ} of {len(records)} rows)"
    return ""


def _are_equal(rows: Path, keys: Path) -> bool:
    import pyarrow.compute as pc

    kinds = _column(rows, "kind")
    is_keyed = pc.is_in(kinds, value_set=arrow_array(sorted(KEYED_KINDS), TEXT))
    both = {*_columns(rows)} & KEY_COLUMNS.keys()
    return (
        both | {"place"} == {*_columns(keys)}
        and _column(keys, "place").to_pylist() == pc.indices_nonzero(is_keyed).to_pylist()
        and all(_column(keys, each).equals(_column(rows, each).filter(is_keyed)) for each in both)
    )


def _columns(path: Path) -> list[str]:
    with open_parquet(path) as file:
        names: list[str] = file.schema_arrow.names
        return names


def _column(path: Path, name: str) -> Any:
    with open_parquet(path) as file:
        return file.read(columns=[name], use_threads=False).column(0)


def read_keys(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a keys file."""
    with open_parquet(path) as file:
        lines: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
        return lines


def agreeing(records: list[Record], keys: list[dict[str, Any]]) -> list[Record]:
    """Return those rows of a segment of which its keys say the same, and those that have none."""
    key_at = {key.get("place"): key for key in keys}
    return [
        record
        for place, record in enumerate(records)
        if (place in key_at) == (record.get("kind") in KEYED_KINDS)
        and (place not in key_at or _is_of(key_at[place], record))
    ]


def _is_of(key: dict[str, Any], record: Record) -> bool:
    told = record_of(key)
    names = (key.keys() | told.keys()) - {"place", "extra"}
    return all(record.get(name) == told.get(name) for name in names)
