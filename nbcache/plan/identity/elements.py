"""The numbers of an array in one line, and in words how two such lines differ.

Few stand there themselves. Of many there are digests of parts, by which the place of an edit is
found, and one of all in order, which tells that only their order is another. For people only.
Of texts, columns and objects nothing is kept: the log goes to a team, and they have names.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from nbcache.model.digest import identity_digest

_FEW = 100  # elements: more are not kept themselves
_MOST = 500_000  # bytes: of larger arrays there is nothing but their digest
_PARTS = 32
_SIGNS = 6  # of the digest of a part
_NAMED = 3  # elements in a list of them

Parts = tuple[int, list[str], str]  # how many elements, digests of parts, that of all in order


def elements_of(value: object) -> str | None:
    """Return what is kept of an array's numbers as JSON; None: it is no such array, or large."""
    numpy: Any = sys.modules.get("numpy")
    array: Any = value
    if numpy is None or type(value) is not numpy.ndarray:  # a matrix, a masked one: others' ways
        return None
    if array.dtype.kind not in "biufc" or array.nbytes > _MOST:
        return None
    flat = array.reshape(-1)
    if flat.size <= _FEW:
        return json.dumps([repr(each) for each in flat.tolist()])
    edges = [number * flat.size // _PARTS for number in range(_PARTS + 1)]
    signs = [_sign(flat[edges[k] : edges[k + 1]]) for k in range(_PARTS)]
    return json.dumps([flat.size, signs, _sign(numpy.sort(flat))], separators=(",", ":"))


def _sign(array: Any) -> str:
    return identity_digest(array.tobytes())[-_SIGNS:]


def changed_elements(old: str, new: str) -> str:
    """Return in words what differs between the elements of two arrays of one shape and type; ""
    where that is not known."""
    try:
        before, after = json.loads(old), json.loads(new)
    except ValueError:  # nothing is kept of them
        return ""
    if before == after or len(before) != len(after):
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
    if not edited:  # digests of all in order are of the same numbers with other bytes: -0.0, NaN
        return ""
    if len(edited) == _PARTS:
        return f"elements changed all over its {size:,}"
    first, last = edited[0] * size // _PARTS, (edited[-1] + 1) * size // _PARTS - 1
    return f"elements between [{first}] and [{last}] of {size:,} changed"
