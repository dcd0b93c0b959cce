"""What is said of a captured value: a summary with its size, the whole text where it is small."""

from __future__ import annotations

from typing import Any

from nbcache.plan.identity.canonical import summarise
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.confidential import HIDDEN, is_confidential
from nbcache.plan.language.quantities import size_text

SMALL = 2_000  # characters of a text that stands beside its digest; longer ones are kept as blobs


def small_text(value: object) -> str | None:
    """Return plain data as text; None where it is long, or something else."""
    plain = (int, float, str, bytes, bool, complex, type(None), list, tuple, dict, set, frozenset)
    if type(value) in plain:
        try:
            text = repr(value) if not hasattr(value, "__len__") or len(value) <= 100 else ""
        except ValueError:  # an int of more digits than Python prints
            return None
        if text and len(text) <= SMALL:
            return text
    return None


def described(value: object, name: str = "") -> str:
    """Return a value's summary with its size where it is worth saying; nothing of a secret."""
    if is_confidential(name, value):
        return HIDDEN
    if hasattr(type(value), "__nbcache_resource__"):
        return "resource"
    size = _size_of(value)
    text = summarise(value)
    return f"{text}, {size_text(size)}" if size is not None and size >= 1000 else text


def _size_of(value: object) -> int | None:
    for name in ("nbytes", "memory_usage", "estimated_size"):
        found = attribute(value, name)
        if isinstance(value, type) or found is None:
            continue
        try:
            amount: Any = found() if callable(found) else found
            return int(amount.sum() if hasattr(amount, "sum") else amount)
        except Exception:  # a foreign object's own method
            return None
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    return None
