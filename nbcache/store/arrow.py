"""Arrow arrays from Python lists, straight from buffers.

`pyarrow.array` imports pandas where it is installed, which costs 0.3 s in a process that only wants
to write a few rows; this does not, and is as fast. pyarrow is imported when it is first called.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, chain
from typing import Any

Shape = Any
"""What a column holds: "text", "int", "float", "bool", "bytes"; a dict of shapes (struct); a list
of one shape (list); ("map", shape) (map from text)."""


@cache
def _simple_type(word: str) -> Any:
    import pyarrow as pa

    return {
        "text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
        "bytes": pa.binary(),
    }[word]  # fmt: skip


def arrow_type(shape: Shape) -> Any:
    """Return the Arrow type of a shape."""
    import pyarrow as pa

    if isinstance(shape, str):
        return _simple_type(shape)
    if isinstance(shape, list):
        return pa.list_(arrow_type(shape[0]))
    if isinstance(shape, tuple):
        return pa.map_(pa.string(), arrow_type(shape[1]))
    return pa.struct([(name, arrow_type(each)) for name, each in shape.items()])


def arrow_scalar(value: Any, shape: Shape) -> Any:
    """Return the Arrow scalar of a value. `pyarrow.compute` makes them of Python's own, too, but
    with `pyarrow.scalar`, which imports pandas."""
    return arrow_array([value], shape)[0]


def arrow_array(values: Sequence[Any], shape: Shape) -> Any:
    """Return the Arrow array of some values (None: null), which must be of the shape."""
    import pyarrow as pa

    kind, count = arrow_type(shape), len(values)
    nulls = count if not any(each is not None for each in values) else values.count(None)
    if nulls == count:
        return pa.nulls(count, kind)
    valid = _bits([each is not None for each in values]) if nulls else None
    if shape in ("text", "bytes"):
        pieces = (
            [b"" if each is None else each.encode() for each in values]
            if shape == "text"
            else [each or b"" for each in values]
        )
        buffers = [valid, _offsets(map(len, pieces)), pa.py_buffer(b"".join(pieces))]
        return pa.Array.from_buffers(kind, count, buffers)
    if shape in ("int", "float"):
        numbers = array(
            "q" if shape == "int" else "d", [0 if each is None else each for each in values]
        )
        return pa.Array.from_buffers(kind, count, [valid, pa.py_buffer(numbers)])
    if shape == "bool":
        return pa.Array.from_buffers(kind, count, [valid, _bits([bool(each) for each in values])])
    if isinstance(shape, dict):
        members = [
            arrow_array([None if each is None else each.get(name) for each in values], member)
            for name, member in shape.items()
        ]
        return pa.Array.from_buffers(kind, count, [valid], children=members)
    offsets = _offsets(0 if each is None else len(each) for each in values)
    flat = list(chain.from_iterable(each for each in values if each is not None))
    if isinstance(shape, list):
        children = [arrow_array(flat, shape[0])]
    else:
        entries = [
            arrow_array([key for key, _ in flat], "text"),
            arrow_array([value for _, value in flat], shape[1]),
        ]
        struct = pa.struct([kind.key_field, kind.item_field])
        children = [pa.Array.from_buffers(struct, len(flat), [None], children=entries)]
    return pa.Array.from_buffers(kind, count, [valid, offsets], children=children)


def _offsets(lengths: Any) -> Any:
    import pyarrow as pa

    return pa.py_buffer(array("i", accumulate(lengths, initial=0)))


def _bits(flags: Sequence[bool]) -> Any:
    """Return a bitmap, least significant bit first."""
    import pyarrow as pa

    digits = "".join(["1" if each else "0" for each in reversed(flags)])
    return pa.py_buffer(int(digits or "0", 2).to_bytes(len(flags) // 8 + 1, "little"))
