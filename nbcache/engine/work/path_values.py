"""Paths of files among values: what a body may hand to a library that opens files by itself."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator

_LONGEST = 1024  # characters of a path
_MOST = 256  # members of a container that are looked at
_DEEPEST = 3


def paths_in(values: Iterable[object], depth: int = 0) -> Iterator[str]:
    """Yield the absolute paths among values and the members of their plain containers."""
    for value in values:
        cls = type(value)
        if cls is str:
            if value[:1] == "/" and 1 < len(value) <= _LONGEST and "\n" not in value:  # type: ignore[index,arg-type,operator]
                yield value  # type: ignore[misc]
        elif isinstance(value, pathlib.PurePath):
            text = os.fspath(value)
            if text[:1] == "/":
                yield text
        elif depth < _DEEPEST and cls in (list, tuple, set, frozenset):
            if len(value) <= _MOST:  # type: ignore[arg-type]
                yield from paths_in(value, depth + 1)  # type: ignore[arg-type]
        elif depth < _DEEPEST and (cls is dict or cls.__name__ == "SimpleNamespace"):
            held = value if cls is dict else vars(value)
            if len(held) <= _MOST:  # type: ignore[arg-type]
                yield from paths_in(held.values(), depth + 1)  # type: ignore[attr-defined]
