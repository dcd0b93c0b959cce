"""Find mutable objects that two captured names hold in common.

A body that changes one sees the other change, so the sharing belongs to the fingerprint. Sharing
inside one value is the canonical form's business.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping

_LIMIT = 20_000  # objects looked at; what is nested further counts as not shared

_SCALARS = frozenset(
    {int, float, str, bytes, bool, complex, type(None), types.FunctionType, types.ModuleType, type}
    | {types.BuiltinFunctionType, types.MethodType, range, slice}
)


def shared_paths(values: Mapping[str, object]) -> tuple[tuple[str, ...], ...]:
    """Return, for each object held by several names, the paths under which they hold it."""
    holders: dict[int, dict[str, str]] = {}
    seen: set[tuple[str, int]] = set()
    keep: list[object] = []
    looked = 0
    for name in sorted(values):
        waiting: list[tuple[str, object]] = [(name, values[name])]
        while waiting and looked < _LIMIT:
            path, value = waiting.pop()
            if isinstance(value, type) or (name, id(value)) in seen:
                continue
            looked += 1
            seen.add((name, id(value)))
            if not isinstance(value, tuple | frozenset):
                holders.setdefault(id(value), {}).setdefault(name, path)
            for step, part in _parts(value):
                keep.append(part)  # an attribute made on the fly must not give its id away
                waiting.append((path + step, part))
    groups = (tuple(paths.values()) for paths in holders.values() if len(paths) > 1)
    return tuple(sorted(groups))


def _parts(value: object) -> Iterator[tuple[str, object]]:
    pairs: Iterator[tuple[object, object]]
    if isinstance(value, dict):
        pairs = ((key, part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    else:
        state = getattr(value, "__dict__", None)
        if type(state) is not dict or type(value) in _SCALARS:
            return
        pairs = ((key, part) for key, part in state.items())
    for key, part in pairs:
        if type(part) not in _SCALARS:
            yield f"[{key!r}]" if isinstance(key, str | int) else "[...]", part
