"""A value part by part, one line each, so that a reason can say which part is another.

For people only, and in no hash: what is large or unknown stands there by the start of its digest,
what a secret-looking name holds not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, cast

from nbcache.errors import NoCanonicalFormError
from nbcache.model.digest import Digest
from nbcache.plan.identity.canonical import canonical_digest, size_of, summarise
from nbcache.plan.identity.canonical.encoder import Leaf
from nbcache.plan.identity.canonical.names import attribute, is_installed, type_name
from nbcache.plan.identity.confidential import HIDDEN, is_hidden, is_pair, looks_secret

_MOST = 40  # parts: of a value with more, nothing is said
_DEEPEST = 4
_LARGEST = 8_000_000  # bytes of an array, table or text: what is larger is not hashed once more
_MEMBER = 80  # bytes that a member of a container is taken to have
_PLAIN = (int, float, bool, complex, type(None))
_SIGNS = 8  # of a digest


def outline(value: object, leaf: Leaf | None) -> str | None:
    """Return the parts of a value as lines `path<TAB>what it is`.

    None: it has no parts, or so many that nobody would read them, or one above 8 MB.
    """
    lines: list[str] = []
    if not _has_parts(value):
        return None
    try:
        for path, text in _parts("", value, leaf, _DEEPEST):
            lines.append(f"{path}\t{text}".replace("\n", " "))
            if len(lines) > _MOST:
                return None
    except Exception:  # too large, or a foreign object's own code: no reason depends on them
        return None
    return "\n".join(lines)


def changed_parts(old: str, new: str) -> list[str]:
    """Return in words which lines of two outlines differ: "['lr'] 0.1 → 0.2"."""
    before, after = _by_path(old), _by_path(new)
    said = []
    for path in dict.fromkeys((*before, *after)):
        was, now = before.get(path), after.get(path)
        if was == now:
            continue
        if was is None or now is None:
            said.append(f"{path} is {'gone' if now is None else 'new'}")
        elif was.rpartition(" #")[0] == now.rpartition(" #")[0] != "":
            said.append(f"{path} ({now.rpartition(' #')[0]}) changed".lstrip())
        else:
            said.append(f"{path} {was.partition(' #')[0]} → {now.partition(' #')[0]}".lstrip())
    return said


def _by_path(text: str) -> Mapping[str, str]:
    return dict(cast("tuple[str, str]", line.split("\t", 1)) for line in text.split("\n") if line)


def _parts(path: str, value: object, leaf: Leaf | None, depth: int) -> Iterator[tuple[str, str]]:
    cls = type(value)
    if cls in _PLAIN:
        yield path, summarise(value)
    elif cls in (dict, list, tuple) and depth:
        pairs = value.items() if isinstance(value, dict) else enumerate(cast("list[object]", value))
        for key, member in pairs:
            name = value[0] if is_pair(value) else key
            yield from _part(f"{path}[{summarise(key)}]", name, member, leaf, depth - 1)
        if not value:
            yield path, summarise(value)
    elif _is_table(value):
        _check_size(value)
        table = cast("Any", value)
        for place, name in enumerate(table.columns):
            column = table.iloc[:, place] if hasattr(table, "iloc") else table[:, place]
            yield f"{path}[{name!r}]", _by_digest(column, leaf)
        if hasattr(table, "index"):
            yield f"{path}.index", _by_digest(table.index, leaf)
    else:
        yield from _object(path, value, leaf, depth)


def _part(
    path: str, name: object, value: object, leaf: Leaf | None, depth: int
) -> Iterator[tuple[str, str]]:
    if is_hidden(name, value):
        yield path, HIDDEN
    else:
        yield from _parts(path, value, leaf, depth)


def _object(path: str, value: object, leaf: Leaf | None, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the parts of an instance of a class of the user's: attributes, and the class's code."""
    cls = type(value)
    if looks_secret(cls.__name__):
        yield path, HIDDEN
    elif depth and _is_of_the_user(value):
        held = cast("dict[str, object]", attribute(value, "__dict__"))
        code = leaf(cls) if leaf is not None else None
        if code is not None:
            yield f"{path} its class", f"{cls.__qualname__} #{code[-_SIGNS:]}"
        for name, member in held.items():
            yield from _part(f"{path}.{name}", name, member, leaf, depth - 1)
    else:
        yield path, _by_digest(value, leaf)


def _has_parts(value: object) -> bool:
    is_container = type(value) in (dict, list, tuple)
    return is_container or _is_table(value) or _is_of_the_user(value)


def _is_of_the_user(value: object) -> bool:
    if isinstance(value, Enum):  # its name, which may look secret, is none of its attributes
        return False
    held = attribute(value, "__dict__")
    return isinstance(held, dict) and not is_installed(type(value).__module__)


def _is_table(value: object) -> bool:
    return type_name(type(value)).split(".")[0] in ("pandas", "polars") and hasattr(
        value, "columns"
    )


class _TooLargeError(Exception):
    pass


def _check_size(value: object) -> None:
    is_container = isinstance(value, (list, tuple, dict, set, frozenset))
    size = len(value) * _MEMBER if is_container else size_of(value)  # type: ignore[arg-type]
    if size is not None and size > _LARGEST:
        raise _TooLargeError


def _by_digest(value: object, leaf: Leaf | None) -> str:
    """Return a summary with the start of the digest, which tells what the summary does not."""

    def checked(member: object) -> Digest | None:
        _check_size(member)
        return leaf(member) if leaf is not None else None

    _check_size(value)
    try:
        digest = canonical_digest(value, leaf=checked)
    except NoCanonicalFormError:
        return summarise(value)
    return f"{summarise(value)} #{digest[-_SIGNS:]}"
