"""What is said of a captured value: a summary with its size, the whole text where it is small."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from nbcache.plan.identity.canonical import PRINTED, size_of, summarise
from nbcache.plan.identity.confidential import HIDDEN, is_confidential, is_hidden, secrets_in
from nbcache.plan.language.quantities import size_text

SMALL = 2_000  # characters of a text that stands beside its digest; longer ones are kept as blobs
_SCALARS = (int, float, str, bytes, bool, complex, type(None))
_DEEPEST = 20


def small_text(value: object) -> str | None:
    """Return plain data as text; None where it is long, secret, or something else."""
    if not _is_open(value, _DEEPEST) or (hasattr(value, "__len__") and len(value) > 100):
        return None
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return None
    return text if text and len(text) <= SMALL and not secrets_in(text) else None


def _is_open(value: object, depth: int) -> bool:
    """Whether the repr of plain data tells no secret, and calls no code but Python's own."""
    cls = type(value)
    if cls in _SCALARS:
        return cls not in (str, bytes) or not secrets_in(cast("str | bytes", value))
    if cls not in (dict, list, tuple, set, frozenset):
        is_number = cls.__module__ == "numpy" and getattr(value, "ndim", 1) == 0
        return depth < _DEEPEST and (is_number or str(cls.__module__).partition(".")[0] in PRINTED)
    members = cast("Collection[object]", value)
    if not depth or len(members) > SMALL:
        return False
    if isinstance(value, dict):
        if any(is_hidden(key, member) for key, member in value.items()):
            return False
        members = [*value, *value.values()]
    return all(_is_open(member, depth - 1) for member in members)


def described(value: object, name: str = "") -> str:
    """Return a value's summary with its size where it is worth saying; nothing of a secret."""
    if is_confidential(name, value):
        return HIDDEN
    if hasattr(type(value), "__nbcache_resource__"):
        return "resource"
    size = size_of(value)
    text = summarise(value)
    return f"{text}, {size_text(size)}" if size is not None and size >= 1000 else text
