"""Say a value in at most 80 characters, for people; nothing here enters a hash.

Shapes and counts are read, contents are not: no repr of a user's class is ever called, so a
summary is quick and cannot fail, whatever the value. What a secret-looking name holds is not said.
"""

from __future__ import annotations

import functools
import json
import math

from nbcache.model.value import Gathered, Record, RemoteFile, Stored
from nbcache.plan.identity.canonical.encoder import Foreign
from nbcache.plan.identity.canonical.names import attribute, type_name
from nbcache.plan.identity.confidential import HIDDEN, is_hidden, is_pair, secrets_in

LONGEST = 80
_SMALL = 12  # members of a container that is shown whole
PRINTED = (
    "decimal", "fractions", "datetime", "uuid", "re", "zoneinfo", "pathlib",
)  # fmt: skip


def summarise(value: object) -> str:
    """Return a value in at most 80 characters: "3", "DataFrame 200 x 4", "list of 12".

    Never raises, and never calls a repr that a user has written.
    """
    try:
        text = _summary(value)
    except Exception:  # a broken foreign object still has a type
        text = type_name(type(value))
    if secrets_in(text):
        return HIDDEN
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _summary(value: object) -> str:
    cls = type(value)
    if cls in (int, float, bool, complex, type(None), type(...)):
        return _number(value)
    if isinstance(value, (str, bytes)) and secrets_in(value):
        return HIDDEN
    if cls in (str, bytes):
        return repr(value[: LONGEST + 1]) if len(value) > LONGEST else repr(value)  # type: ignore[index,arg-type]
    if isinstance(value, Stored):
        name = f" {value.name}" if value.name else ""
        return f"Stored {value.kind}{name} {value.digest.partition(':')[2][:8]}"
    if isinstance(value, RemoteFile):
        return value.place
    if isinstance(value, Gathered):
        return f"{len(value)} gathered"
    if isinstance(value, functools.partial):
        return _partial(value)
    if cls in (list, tuple, set, frozenset, dict) or isinstance(value, Record):
        return _container(value)
    shaped = _shaped(value)
    if shaped is not None:
        return shaped
    if isinstance(value, type):
        return f"class {value.__qualname__}"
    if str(cls.__module__).partition(".")[0] in PRINTED:
        return str(value)
    if hasattr(cls, "__len__"):
        return f"{cls.__qualname__} of {cls.__len__(value)}" if _builtin_base(cls) else cls.__name__
    qualname = attribute(value, "__qualname__")
    if isinstance(qualname, str):
        return f"{cls.__name__} {qualname}"
    return type_name(cls)


def _number(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 250:
        return f"int of {value.bit_length()} bits"
    return repr(value)


def _builtin_base(cls: type) -> bool:
    return any(issubclass(cls, base) for base in (list, tuple, dict, set, frozenset, bytearray))


def _partial(value: functools.partial[object]) -> str:
    given = [_summary(each) for each in value.args]
    given += [
        f"{name}={HIDDEN if is_hidden(name, each) else _summary(each)}"
        for name, each in value.keywords.items()
    ]
    name = attribute(value.func, "__qualname__")
    return f"partial({', '.join([str(name or type_name(type(value.func))), *given])})"


def _container(value: Foreign) -> str:
    plain = {str, int, float, bool, type(None)}
    name = type(value).__name__
    if len(value) <= _SMALL and not isinstance(value, Record):
        members = [*value, *value.values()] if type(value) is dict else list(value)
        named = value.items() if type(value) is dict else [value] if is_pair(value) else []
        is_open = not any(is_hidden(*each) for each in named) and not any(
            isinstance(each, str) and secrets_in(each) for each in members
        )
        if is_open and all(type(member) in plain for member in members):
            text = _repr(value) if _is_short(members) else ""
            if text and len(text) <= LONGEST:
                return text
    return f"{name} of {len(value)}"


def _repr(value: object) -> str:
    """Return a container's repr; that of a set in an order of its own, and not of its hashes."""
    if type(value) is set and value:
        return f"{{{', '.join(sorted(map(repr, value)))}}}"
    return repr(value)


def _is_short(members: list[object]) -> bool:
    return all(
        len(member) <= LONGEST if isinstance(member, str) else len(_number(member)) <= LONGEST
        for member in members
    )


def _shaped(value: Foreign) -> str | None:
    cls = type(value)
    root, name = str(cls.__module__).partition(".")[0], cls.__name__
    if root not in ("numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "PIL"):
        return None
    if name in ("DataFrame", "Table", "RecordBatch"):
        rows, columns = value.shape
        return f"{name} {rows} x {columns}"
    if root == "PIL":
        return f"{name} {value.mode} {value.size[0]} x {value.size[1]}"
    if root == "numpy" and hasattr(value, "item") and not hasattr(value, "__setitem__"):
        return f"{value.item()!r}" if name in _NUMPY_PRINTED else str(value)[: LONGEST + 1]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        dtype = str(value.dtype).removeprefix("torch.")
        shape = value.shape
        if root in ("pandas", "polars"):
            return f"{name} {dtype} of {shape[0]}"
        return f"{name} {dtype} {tuple(shape)}"
    if root == "pyarrow" and hasattr(value, "type") and hasattr(value, "__len__"):
        return f"{name} {value.type} of {len(value)}"
    if root == "pandas" and name in ("Timestamp", "Timedelta", "Period", "Interval", "NaTType"):
        return str(value)
    return None


_NUMPY_PRINTED = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "str_", "bytes_",
}  # fmt: skip


def size_of(value: Foreign) -> int | None:
    """Return how many bytes a value says it holds, without reading it; None where it cannot say."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    for name in ("nbytes", "memory_usage", "estimated_size"):
        found = attribute(value, name)
        if isinstance(value, type) or found is None:
            continue
        try:
            amount: Foreign = found() if callable(found) else found
            return int(amount.sum() if hasattr(amount, "sum") else amount)
        except Exception:  # a foreign object's own method
            return None
    return None


def scalar_json(value: object) -> str | None:
    """Return the JSON text of a scalar (numpy's as Python's), or None for any other value.

    Floats that JSON has no word for (NaN, infinities) are given as Python's json module writes
    them: NaN, Infinity, -Infinity.
    """
    cls = type(value)
    if cls.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "shape", 0) == ():
        value = value.item()
        cls = type(value)
    if cls is float:
        return repr(value) if math.isfinite(value) else json.dumps(value)  # type: ignore[arg-type]
    if cls is str:
        return _json_text(value)
    if cls is int:
        try:
            return repr(value)
        except ValueError:  # an int of more digits than Python prints
            return None
    return _WORDS[value] if cls in (bool, type(None)) else None


_json_text = json.JSONEncoder(ensure_ascii=False).encode  # made once: dumps makes one per call
_WORDS: dict[object, str] = {True: "true", False: "false", None: "null"}
