"""The elements of an array or a column in one line, and in words how two such lines differ.

Few stand there themselves. Of many there are digests of parts, by which the place of an edit is
found, and one of all in order, which tells that only their order is another. For people only.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from nbcache.model.digest import identity_digest
from nbcache.plan.identity.canonical import summarise

_FEW = 100  # elements: more are not kept themselves
_MOST = 500_000  # bytes: of larger arrays there is nothing but their digest
_PARTS = 32
_SIGNS = 6  # of the digest of a part
_PLAIN = (str, int, float, bool, type(None))
_NAMED = 3  # elements in a list of them

Parts = tuple[int, list[str], str]  # how many elements, digests of parts, that of all in order


def elements_of(value: object) -> str | None:
    """Return what is kept of an array's elements as JSON; None: they are no numbers or texts."""
    numpy: Any = sys.modules.get("numpy")
    held: Any = value
    if str(type(value).__module__).partition(".")[0] in ("pandas", "polars"):
        held = value.to_numpy() if hasattr(value, "to_numpy") else None  # of a Series, an Index
    if numpy is None or not isinstance(held, numpy.ndarray) or held.dtype.kind not in "biufcmMUOT":
        return None
    if held.dtype.kind == "O" and not all(type(each) in _PLAIN for each in held.flat):
        return None
    if held.size <= _FEW:
        return json.dumps([summarise(each) for each in held.flat], ensure_ascii=False)
    if held.dtype.kind in "OUT" or held.nbytes > _MOST:
        return None
    flat = held.reshape(-1)
    edges = [number * flat.size // _PARTS for number in range(_PARTS + 1)]
    signs = [_sign(flat[edges[k] : edges[k + 1]]) for k in range(_PARTS)]
    return json.dumps([flat.size, signs, _sign(numpy.sort(flat))], separators=(",", ":"))


def _sign(array: Any) -> str:
    return identity_digest(array.tobytes())[-_SIGNS:]


def rows_in_any_order(table: Any) -> str | None:
    """Return a digest of a table's rows that does not depend on their order; None: of others than
    those of pandas and polars, and of objects that cannot be hashed."""
    try:
        if hasattr(table, "hash_rows"):
            return _sign(table.hash_rows().sort().to_numpy())
        pandas: Any = sys.modules.get("pandas")
        if pandas is None or not isinstance(table, pandas.DataFrame):
            return None
        return _sign(pandas.util.hash_pandas_object(table, index=False).sort_values().to_numpy())
    except Exception:  # a foreign object's own
        return None


def changed_elements(old: str, new: str) -> str:
    """Return in words what differs between the elements of two arrays of one shape and type; ""
    where that is not known."""
    try:
        before, after = json.loads(old), json.loads(new)
    except ValueError:  # nothing is kept of them
        return ""
    if before == after:  # where texts may be cut, or not shown, one cannot know
        return "" if re.search(r"['(…]", old) else "changed, though not its elements"
    if len(before) != len(after):
        return ""
    are_parts = isinstance(after[0], int)
    if before[-1] == after[-1] if are_parts else sorted(before) == sorted(after):
        return "the same elements in another order"
    if are_parts:
        return _changed_parts(before, after)
    places = [place for place, each in enumerate(after) if before[place] != each]
    named = [f"[{place}] {before[place]} → {after[place]}" for place in places[:_NAMED]]
    more = ", ..." if len(places) > _NAMED else ""
    return f"{len(places)} of {len(after)} elements changed: {', '.join(named)}{more}"


def _changed_parts(before: Parts, after: Parts) -> str:
    size = after[0]
    edited = [k for k, sign in enumerate(after[1]) if before[1][k] != sign]
    if len(edited) == _PARTS:
        return f"elements changed all over its {size:,}"
    first, last = edited[0] * size // _PARTS, (edited[-1] + 1) * size // _PARTS - 1
    return f"elements between [{first}] and [{last}] of {size:,} changed"
