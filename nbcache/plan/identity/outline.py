"""A value part by part, one line each, so that a reason can say which part is another.

For people only, and in no hash: what is large or unknown stands there by the end of its digest,
what a secret-looking name holds not at all. Beside code, these lines are comments behind it.
"""

from __future__ import annotations

import copyreg
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any, cast

from nbcache.errors import NoCanonicalFormError
from nbcache.model.digest import Digest
from nbcache.plan.identity.canonical import canonical_digest, size_of, summarise
from nbcache.plan.identity.canonical.encoder import Leaf
from nbcache.plan.identity.canonical.names import is_installed, type_name
from nbcache.plan.identity.confidential import HIDDEN, is_hidden, is_pair, looks_secret
from nbcache.plan.identity.elements import changed_elements, elements_of

_MOST = 4_000  # characters: of a value with more parts than fit in there, nothing is said
_DEEPEST = 4
_LARGEST = 8_000_000  # bytes of arrays, tables, texts: what is larger is not hashed once more
_MEMBER = 80  # bytes that a member of a container is taken to have
_CONTAINERS = (dict, list, tuple, OrderedDict, defaultdict, Counter, deque)
_PLAIN = (int, float, bool, complex, type(None))
_SIGNS = 8  # of a digest
_HELD = "# == "  # before each line of an outline that stands behind code
_TABLE = re.compile(r"(?:DataFrame|Table|RecordBatch) (\d+) x \d+$")
_COLUMN = re.compile(r"\w+ (.*) of \d+(?: #\w+)?$")
_OF_TABLES = ("index", "attrs")  # beside their columns
_DIGEST = re.compile(r" #\w{8}$")
_ARRAY = re.compile(r"(ndarray .* #\w+) (\[.*\])")  # with elements behind its digest
_NAMED = 3  # columns in a list of them


def outline(value: object, leaf: Leaf | None) -> str | None:
    """Return the parts of a value as lines `path<TAB>what it is`.

    None: it has no parts, or so many that nobody would read them, or parts above 8 MB. Of a table
    above 8 MB there are the types of its columns, and no digests.
    """
    return _lines(_parts_of_whole(value, leaf))


def outline_of_held(held: Iterable[tuple[str, object]], leaf: Leaf) -> str | None:
    """Return the same of data that code holds: closures, defaults, attributes of classes.

    held: (what people call it, which ends in its name; the value). Code among it is passed over.
    """
    data = ((said, value) for said, value in held if leaf(value) is None)
    return _lines(
        part
        for said, value in data
        for part in _part(said, re.split(r"[ .]", said)[-1], value, leaf, _DEEPEST)
    )


def _lines(parts: Iterable[tuple[str, str]]) -> str | None:
    lines: list[str] = []
    length = 0
    try:
        for path, text in parts:
            lines.append(" ".join(f"{path}\t{text}".splitlines()))
            length += len(lines[-1])
            if length > _MOST:  # then rather all parts, without elements
                cells = (each.partition("\t") for each in lines)
                lines = [f"{path}\t{_apart(text)[0]}" for path, _, text in cells]
                length = sum(map(len, lines))
            if length > _MOST:
                return None
    except Exception:  # too large, or a foreign object's own code: no reason depends on them
        return None
    return "\n".join(lines) or None


def beside(text: str | None, outlined: str | None) -> str | None:
    """Return a text with an outline as comments behind it."""
    if outlined is None:
        return text
    lines = [_HELD + line for line in outlined.split("\n")]
    return "\n".join(lines if text is None else [text.rstrip("\n"), *lines])


def apart(evidence: str | None) -> tuple[str | None, str | None]:
    """Return the text and the outline that `beside` has put together."""
    if evidence is None or not (evidence.startswith(_HELD) or f"\n{_HELD}" in evidence):
        return evidence, None
    lines = evidence.split("\n")
    held = [line.removeprefix(_HELD) for line in lines if line.startswith(_HELD)]
    return "\n".join(line for line in lines if not line.startswith(_HELD)) or None, "\n".join(held)


def changed_parts(old: str, new: str) -> list[str]:
    """Return in words what differs between two outlines: "['lr'] 0.1 → 0.2"."""
    before, after = _by_path(old), _by_path(new)
    reordered = before.keys() == after.keys() and [*before] != [*after]
    said: list[str] = []
    marked = (path for side in (before, after) for path, text in side.items() if _TABLE.match(text))
    for path in dict.fromkeys([*marked]):
        was, now = _taken(before, path), _taken(after, path)
        if all(_TABLE.match(each.get("", "")) for each in (was, now)):
            said += [f"{path} {each}".lstrip() for each in _changed_table(was, now)]
        elif not {*was} - {""} or not {*now} - {""}:  # else one was written without its shape
            before |= {path: was[""]} if was else {}
            after |= {path: now[""]} if now else {}
    for path in dict.fromkeys((*before, *after)):
        (old_text, elements), (new_text, others) = _apart(before.get(path)), _apart(after.get(path))
        if old_text == new_text:
            continue
        if old_text is None or new_text is None:
            said.append(f"{path} is {'gone' if new_text is None else 'new'}")
            continue
        shape, new_shape = _DIGEST.sub("", old_text), _DIGEST.sub("", new_text)
        if shape == new_shape:
            words = changed_elements(elements, others)
            of = f"{path} ({shape})".lstrip() + (": " if words else " changed")
            said.append(f"{of}{words}" if path or not words else words)
        else:
            said.append(f"{path} {shape} → {new_shape}".lstrip())
    return said or (["order changed"] if reordered else [])


def _apart(text: str | None) -> tuple[str | None, str]:
    """Return what a part is, with its digest, and what is kept of its elements."""
    array = _ARRAY.fullmatch(text) if text is not None else None
    return (array[1], array[2]) if array is not None else (text, "")


def _taken(parts: dict[str, str], table: str) -> dict[str, str]:
    """Take a table's lines out of an outline: its shape under "", its columns, its index."""
    own = {path: text for path, text in parts.items() if path.startswith(f"{table}[")}
    beside = [table, *(f"{table}.{name}" for name in _OF_TABLES)]
    own |= {path: parts[path] for path in beside if path in parts}
    for path in own:
        del parts[path]
    return {path.removeprefix(table): text for path, text in own.items()}


def _changed_table(before: dict[str, str], after: dict[str, str]) -> list[str]:
    rows, now = (_TABLE.sub(r"\1", each.pop("")) for each in (before, after))
    other = [name for name in _OF_TABLES if before.pop(f".{name}", "") != after.pop(f".{name}", "")]
    said = [f"rows {rows} → {now}"] if rows != now else []
    said += [f"column {_label(each)} is new" for each in after if each not in before]
    said += [f"column {_label(each)} is gone" for each in before if each not in after]
    both = [each for each in after if each in before]
    types = {each: [_COLUMN.sub(r"\1", side[each]) for side in (before, after)] for each in both}
    retyped = [each for each, (old, new) in types.items() if old != new]
    said += [f"column {_label(each)} {' → '.join(types[each])}" for each in retyped]
    if rows == now:
        edited = [each for each in both if before[each] != after[each] and each not in retyped]
        if len(edited) == 1:
            said.append(f"column {_label(edited[0])} ({types[edited[0]][1]}) changed")
        elif edited:
            named = [*map(_label, edited[:_NAMED]), *["..."] * (len(edited) > _NAMED)]
            said.append(f"{len(edited)} of {len(after)} columns changed: {', '.join(named)}")
        said += [f"{name} changed" for name in other]
    if not said and [*before] != [*after]:
        said.append("order of columns changed")
    return said


def _label(path: str) -> str:
    return path.removeprefix("[").removesuffix("]")


def _by_path(text: str) -> dict[str, str]:
    return dict(cast("tuple[str, str]", line.split("\t", 1)) for line in text.split("\n") if line)


def _parts_of_whole(value: object, leaf: Leaf | None) -> Iterator[tuple[str, str]]:
    if type(value) in _CONTAINERS or _is_table(value) or _held_by(value) is not None:
        yield from _parts("", value, leaf, _DEEPEST)
    elif (elements := elements_of(value)) is not None:
        yield "", f"{_by_digest(value, leaf)} {elements}"


def _parts(path: str, value: object, leaf: Leaf | None, depth: int) -> Iterator[tuple[str, str]]:
    cls = type(value)
    if cls in _PLAIN:
        yield path, summarise(value)
    elif cls in _CONTAINERS and depth:
        pairs = value.items() if isinstance(value, dict) else enumerate(cast("list[object]", value))
        for key, member in pairs:
            name = value[0] if is_pair(value) else key
            yield from _part(f"{path}[{summarise(key)}]", name, member, leaf, depth - 1)
        if not value:
            yield path, summarise(value)
    elif _is_table(value):
        yield from _table(path, value, leaf, depth)
    else:
        yield from _object(path, value, leaf, depth)


def _part(
    path: str, name: object, value: object, leaf: Leaf | None, depth: int
) -> Iterator[tuple[str, str]]:
    if is_hidden(name, value):
        yield path, HIDDEN
    else:
        yield from _parts(path, value, leaf, depth)


def _table(path: str, value: object, leaf: Leaf | None, depth: int) -> Iterator[tuple[str, str]]:
    """Yield a table's shape, its columns and its index."""
    is_large = depth == _DEEPEST and _is_large(value)
    yield path, summarise(value)
    table = cast("Any", value)
    for place, name in enumerate(getattr(table, "column_names", table.columns)):
        is_pandas = hasattr(table, "iloc")
        if is_pandas:
            column = table.iloc[:, place]
        else:
            column = table.column(place) if hasattr(table, "column") else table[:, place]
        text = summarise(column)
        if not is_large:  # of a column alone: a Series counts with its index
            text += _sign(column.array if is_pandas else column, leaf)
        yield f"{path}[{name!r}]", text
    for name in ("index", "attrs"):
        if hasattr(table, name) and not is_large:
            yield f"{path}.{name}", _by_digest(getattr(table, name), leaf)


def _object(path: str, value: object, leaf: Leaf | None, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the parts of an instance of a class of the user's: attributes, and the class's code."""
    cls = type(value)
    if looks_secret(cls.__name__):
        yield path, HIDDEN
    elif depth and (held := _held_by(value)) is not None:
        code = leaf(cls) if leaf is not None else None
        if code is not None:
            yield f"{path} its class", f"{cls.__qualname__} #{code[-_SIGNS:]}"
        for name, member in held.items():
            yield from _part(f"{path}.{name}", name, member, leaf, depth - 1)
    else:
        yield path, " ".join(filter(None, (_by_digest(value, leaf), elements_of(value))))


def _held_by(value: object) -> Mapping[str, object] | None:
    """Return what counts of an instance of a class of the user's by name: what its pickle has;
    of a `functools.partial` what it was given.

    None: it is none, or has no such names.
    """
    if type(value) is partial:
        given = {"args": value.args, "keywords": value.keywords}
        return {name: each for name, each in given.items() if each}
    cls = type(value)
    if isinstance(value, (Enum, type)) or is_installed(str(cls.__module__)):
        return None  # the name of a member, which may look secret, is no attribute
    fields = getattr(cls, "_fields", None)
    if isinstance(value, tuple) and isinstance(fields, tuple):
        return dict(zip(fields, value, strict=True))
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str) or reduced[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return None
    state, *items = (*reduced[2:], None, None, None)[:3]
    parts = state if type(state) is tuple and len(state) == 2 else (state, None)  # with slots
    if isinstance(state, list):  # of a frozen dataclass with slots
        names = (name for base in reversed(cls.__mro__) for name in vars(base).get("__slots__", ()))
        parts = (dict(zip(names, state, strict=True)), None)
    if items != [None, None] or not all(each is None or type(each) is dict for each in parts):
        return None
    held = {name: each for part in parts if part for name, each in part.items()}
    return {**held.pop("__dict__", {}), **held}  # a model of pydantic has it there


def _is_table(value: object) -> bool:
    return type_name(type(value)).split(".")[0] in ("pandas", "polars", "pyarrow") and hasattr(
        value, "columns"
    )


class _TooLargeError(Exception):
    pass


def _check_size(value: object) -> None:
    if _is_large(value):
        raise _TooLargeError


def _is_large(value: object) -> bool:
    is_container = isinstance(value, (list, tuple, dict, set, frozenset))
    size = len(value) * _MEMBER if is_container else size_of(value)  # type: ignore[arg-type]
    return size is not None and size > _LARGEST


def _by_digest(value: object, leaf: Leaf | None) -> str:
    """Return a summary with the end of the digest, which tells what the summary does not."""
    return summarise(value) + _sign(value, leaf)


def _sign(value: object, leaf: Leaf | None) -> str:

    def checked(member: object) -> Digest | None:
        _check_size(member)
        return leaf(member) if leaf is not None else None

    _check_size(value)
    try:
        return f" #{canonical_digest(value, leaf=checked)[-_SIGNS:]}"
    except NoCanonicalFormError:
        return ""
