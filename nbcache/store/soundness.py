"""Whether a stored row can be what it says: asked of rows that others wrote, before they are used.

Whoever may write to a shared cache may write anything there. A row whose fields are of other types,
or that names what cannot be, is no row: nobody's run ends since somebody else's row is odd.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, get_args

from nbcache.model.digest import is_blob_name
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
    "bytes": (str,),
}
_MOST = 1 << 53  # of any number: microseconds until the year 2255, 9 PB
_KINDS = get_args(StoredKind)
NO_ROW = (KeyError, TypeError, ValueError)
"""What a stored row raises of which none can be made."""


def is_sound(record: Mapping[str, Any]) -> bool:
    """Whether the values of a stored row, or of a part of one, can be a row's; its signature is
    judged elsewhere."""
    return (
        all(
            _fits(value, COLUMNS[name])
            for name, value in record.items()
            if value is not None and name in COLUMNS and name not in SIGNING
        )
        and (record.get("at") or 0) >= 0
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


def _fits(value: object, shape: Shape) -> bool:
    """Whether a value is of the type of its column."""
    if isinstance(shape, str):
        if type(value) not in _TYPES[shape] or (shape == "bytes" and not _is_base64(value)):
            return False
        return not isinstance(value, int | float) or -_MOST < value < _MOST
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(each, shape[0]) for each in value)
    if not isinstance(value, dict):
        return False
    if isinstance(shape, tuple):
        return all(_fits(each, shape[1]) for each in value.values())
    return all(
        each is None or name not in shape or _fits(each, shape[name])
        for name, each in value.items()
    )


def _is_base64(value: object) -> bool:
    try:
        base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def _results(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a completed row promises, and what its task showed."""
    shown = record.get("shown")
    return [*(record.get("outputs") or ()), *(() if shown is None else (shown,))]


def _is_kept(port: Mapping[str, Any]) -> bool:
    """Whether a result names the bytes that it is made of."""
    kind, blob, size = port.get("kind"), port.get("blob"), port.get("size")
    if not all(isinstance(port.get(name), str) for name in ("name", "digest", "codec")):
        return False
    if kind not in _KINDS or size is None or size < 0:
        return False
    if blob is not None:
        return is_blob_name(blob)
    return kind == "none" or (kind == "value" and port.get("inline") is not None)
