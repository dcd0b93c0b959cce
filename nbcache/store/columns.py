"""Rows as columns, and back.

Keeps the promise that a row comes back equal to what went in, whatever it holds: what the columns
cannot say exactly (a key of a later version, a number of another type, a file name that is not
UTF-8) goes to the `extra` column, which wins. docs/format.md has the columns; a change there comes
first. pyarrow is imported when the first row is read or written, never before.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from nbcache.model.row import Record
from nbcache.store.arrow import Shape, arrow_array, arrow_type

_INT64 = 1 << 63

TEXT, INT, FLOAT, BOOL = "text", "int", "float", "bool"
_COMPONENT = {
    "kind": TEXT, "name": TEXT, "version": INT, "digest": TEXT, "summary": TEXT, "evidence": TEXT,
}  # fmt: skip
_WATCHED = {"kind": TEXT, "name": TEXT, "digest": TEXT}
_PORT = {
    "name": TEXT, "digest": TEXT, "kind": TEXT, "codec": TEXT, "size": INT, "blob": TEXT,
    "inline": "bytes", "file": TEXT, "opaque": BOOL, "executable": BOOL,
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
    "retention": TEXT, "outline": _OUTLINE, "items": ("map", INT), "handed_on": [TEXT],
    "settled": [TEXT], "wiring": ("map", TEXT),
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
        name: value if type(value) in _ATOMS else _plain(name, value)
        for name, value in line.items()
        if value is not None and name != "extra"
    }
    if line.get("extra"):
        record.update(json.loads(line["extra"]))
    return record


_NESTED = {name for name, shape in COLUMNS.items() if not isinstance(shape, str)}
_MAPS = {name for name, shape in COLUMNS.items() if isinstance(shape, tuple)}
_ATOMS = frozenset({str, int, float, bool, type(None)})  # nearly all there is: as they are


def _plain(name: str, value: Any) -> Any:
    if name not in _NESTED:
        return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
    if name in _MAPS:
        return dict(value)
    return _unnested(value, keep_digest=name == "watched")


def _unnested(value: Any, *, keep_digest: bool) -> Any:
    if isinstance(value, dict):
        return {
            key: each if type(each) in _ATOMS else _unnested(each, keep_digest=keep_digest)
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
