"""Whether a stored row can be what it says: asked of rows that others wrote, before they are used.

Whoever may write to a shared cache may write anything there. A row whose fields are of other types,
or that names what cannot be, is no row: nobody's run ends since somebody else's row is odd.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, get_args

from nbcache.model.digest import is_blob_name, is_digest
from nbcache.model.row import Row, row_from_record
from nbcache.model.signature import SIGNING
from nbcache.model.value import StoredKind
from nbcache.store.arrow import Shape
from nbcache.store.columns import BOOL, COLUMNS, FLOAT, INT, TEXT

_TYPES: dict[str, tuple[type, ...]] = {
    TEXT: (str,),
    INT: (int,),
    FLOAT: (float, int),
    BOOL: (bool,),
}
Check = Callable[[Any], bool]
_MOST = 1 << 53  # of any number: microseconds until the year 2255, 9 PB
_KINDS = get_args(StoredKind)
NO_ROW = (KeyError, TypeError, ValueError)
"""What a stored row raises of which none can be made."""


def is_sound(record: Mapping[str, Any]) -> bool:
    """Whether the values of a stored row, or of a part of one, can be a row's; its signature is
    judged elsewhere."""
    return (
        _fits(record, _CHECKS)
        and (record.get("at") or 0) >= 0
        and (record.get("id") or "x").isalnum()  # folders are named by it
        and (record.get("status") != "completed" or all(map(_is_kept, _results(record))))
    )


def is_whole(record: Mapping[str, Any]) -> bool:
    """Whether a row can be made of a stored one; so of those of kinds of later versions."""
    try:
        row_from_record(record)
    except NO_ROW:
        return False
    return True


def sound_row(record: object) -> Row | None:
    """Return the row that others wrote; None: it is none, or of a kind of later versions."""
    if not isinstance(record, dict) or not is_sound(record):
        return None
    try:
        return row_from_record(record)
    except NO_ROW:  # a column that all rows of its kind have is not there
        return None


def _check_of(shape: Shape) -> Check:
    """Return what says whether a value is of the type of its column: asked for each hit."""
    if shape == "bytes":
        return _is_base64
    if isinstance(shape, str):
        types = _TYPES[shape]
        if float in types or int in types:
            return lambda value: type(value) in types and -_MOST < value < _MOST
        return lambda value: type(value) in types
    if isinstance(shape, dict):
        checks = {name: _check_of(each) for name, each in shape.items()}
        return lambda value: isinstance(value, dict) and _fits(value, checks)
    check = _check_of(shape[-1])
    if isinstance(shape, list):
        return lambda value: isinstance(value, list) and all(map(check, value))
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _fits(values: Mapping[str, Any], checks: Mapping[str, Check]) -> bool:
    for name, value in values.items():  # no generator: a look-up of 10,000 hits comes by here
        if value is not None and name in checks and not checks[name](value):
            return False
    return True


def _is_base64(value: Any) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)


_CHECKS = {name: _check_of(shape) for name, shape in COLUMNS.items() if name not in SIGNING}


def _results(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a completed row promises, and what its task showed."""
    shown = record.get("shown")
    return [*(record.get("outputs") or ()), *(() if shown is None else (shown,))]


def _is_kept(port: Mapping[str, Any]) -> bool:
    """Whether a result names the bytes that it is made of."""
    kind, blob, size = port.get("kind"), port.get("blob"), port.get("size")
    if not all(isinstance(port.get(name), str) for name in ("name", "digest", "codec")):
        return False
    if not is_digest(port["digest"]) or kind not in _KINDS or size is None or size < 0:
        return False
    if blob is not None:
        return is_blob_name(blob)
    return kind == "none" or (kind == "value" and port.get("inline") is not None)
