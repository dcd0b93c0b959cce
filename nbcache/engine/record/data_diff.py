"""How two results differ by their data: a line for people, a few more, and the same as data.

Reads what the cache keeps of two outputs and never changes a value. Tables are compared by DuckDB
without a key (rows that only one side has), arrays element by element, files by what they hold.
What is no longer kept, or cannot be decoded here, is said and not raised.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbcache.engine.record.array_diff import as_array, compare_arrays
from nbcache.engine.record.file_content import LARGEST, reader_of
from nbcache.engine.record.picture_diff import as_picture, compare_pictures
from nbcache.engine.record.results import Decoder, is_scalar
from nbcache.engine.record.table_diff import as_table, compare_tables
from nbcache.errors import CodecError, ResultGone, StoreError
from nbcache.model.value import Stored
from nbcache.store.cache import Cache
from nbcache.store.tree import TreeEntry

_TEXT_BYTES = 100_000  # files up to this size are compared line by line
_LINES = 40  # of a unified diff
_MEMBERS = 10  # of a dict, list or folder


@dataclass(frozen=True, slots=True)
class DataDiff:
    """Two values compared.

    `kind`: scalar text table array picture members file tree object gone.
    """

    kind: str
    head: str
    lines: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {"kind": self.kind, "text": self.head, "lines": list(self.lines), **self.data}


def compare_stored(
    cache: Cache, decoder: Decoder, old: Stored, new: Stored, *, of: str = "a result"
) -> DataDiff:
    """Return how two outputs differ; `of` names the task."""
    try:
        if old.kind != new.kind:
            return DataDiff("object", f"{_kind(old)} → {_kind(new)}")
        if old.kind == "file":
            return _compare_files(cache, old, new)
        if old.kind == "tree":
            return _compare_trees(cache, old, new)
        return compare_values(decoder.value(old, of=of), decoder.value(new, of=of))
    except ResultGone as error:
        return DataDiff("gone", str(error).split("\n")[0])
    except StoreError as error:
        return DataDiff("gone", f"{of}: its result cannot be read: {str(error).split(chr(10))[0]}")
    except CodecError as error:
        return DataDiff("object", f"{of}: its result cannot be decoded here: {error}")
    except Exception as error:  # what results are made of brings code of its own
        return DataDiff("object", f"cannot be compared: {type(error).__name__}: {error}")


def _kind(stored: Stored) -> str:
    return {"tree": "folder", "none": "no file"}.get(stored.kind, stored.kind)


def compare_values(old: object, new: object) -> DataDiff:
    """Return how two decoded values differ."""
    for kind, taken, compare in (
        ("table", as_table, compare_tables),
        ("array", as_array, compare_arrays),
        ("picture", as_picture, compare_pictures),
    ):
        sides = taken(old), taken(new)
        if sides[0] is not None and sides[1] is not None:
            return DataDiff(kind, *compare(*sides))
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        lines = _unified(old, new)
        return DataDiff("text", "text differs", lines)
    if _has_members(old) and _has_members(new) and type(old) is type(new):
        return _compare_members(old, new)
    texts = _short(old), _short(new)
    if type(old) is not type(new):
        texts = f"{texts[0]} ({type(old).__name__})", f"{texts[1]} ({type(new).__name__})"
    kind = "scalar" if is_scalar(old) and is_scalar(new) else "object"
    if texts[0] == texts[1]:
        return DataDiff(kind, f"{type(new).__name__} differs; both print as {texts[0]}")
    return DataDiff(
        kind, f"{texts[0]} → {texts[1]}", (), {"before": _plain(old), "after": _plain(new)}
    )


def _plain(value: object) -> object:
    """The value where JSON has it, else its text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and value - value == 0:  # JSON has no NaN and no infinity
        return value
    return _short(value, 1000)


def _short(value: object, room: int = 120) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # somebody's own __repr__
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= room else text[: room - 1] + "…"


def _unified(old: str, new: str) -> tuple[str, ...]:
    found = list(
        difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "now", lineterm="", n=2)
    )
    left = len(found) - _LINES
    return (*found[:_LINES], f"… and {left} more lines") if left > 0 else tuple(found)


def _has_members(value: object) -> bool:
    return isinstance(value, (dict, list, tuple))


def _members(value: object) -> dict[object, object]:
    if isinstance(value, dict):
        return dict(value)
    assert isinstance(value, (list, tuple))
    return dict(enumerate(value))


def _compare_members(old: object, new: object) -> DataDiff:
    """Dicts by key, lists by place: what is new, gone or another."""
    before, after = _members(old), _members(new)

    def turned(was: object, now: object) -> str | None:
        return None if _equal(was, now) else compare_values(was, now).head

    head, kept, counts = _changes(before, after, turned, _short, _short)
    sizes = f"{len(before)} → {len(after)} members" if len(before) != len(after) else ""
    text = "; ".join(filter(None, (head, sizes))) or "the same members in another order"
    return DataDiff("members", f"{type(new).__name__}: {text}", kept, counts)


def _changes(
    before: Mapping[Any, Any],
    after: Mapping[Any, Any],
    turned: Callable[[Any, Any], str | None],
    named: Callable[[Any], str],
    told: Callable[[Any], str],
) -> tuple[str, tuple[str, ...], dict[str, int]]:
    """Return what changed, came and went between two sets of members: in words, by lines, counted.

    turned: what became of one that both have, None where it is the same.
    """
    both = {key: turned(before[key], after[key]) for key in after if key in before}
    changed = [f"{named(key)}: {text}" for key, text in both.items() if text is not None]
    added = [f"+ {named(key)}: {told(after[key])}" for key in after if key not in before]
    gone = [f"- {named(key)}: {told(before[key])}" for key in before if key not in after]
    counts = {"changed": len(changed), "added": len(added), "removed": len(gone)}
    lines = (*changed, *added, *gone)
    left = len(lines) - _MEMBERS
    kept = (*lines[:_MEMBERS], f"… and {left} more") if left > 0 else lines
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count), kept, counts


def _equal(old: object, new: object) -> bool:
    """Whether two members are the same; where comparing them raises, they are not."""
    if type(old) is not type(new):
        return False
    if isinstance(old, float) and old != old:
        return bool(new != new)
    arrays = as_array(old), as_array(new)
    if arrays[0] is not None and arrays[1] is not None:
        return compare_arrays(arrays[0], arrays[1])[2].get("different") == 0
    tables = as_table(old), as_table(new)
    if tables[0] is not None and tables[1] is not None:
        return bool(tables[0].equals(tables[1]))
    if _has_members(old):
        before, after = _members(old), _members(new)
        return list(before) == list(after) and all(
            _equal(before[key], after[key]) for key in before
        )
    try:
        return bool(old == new)
    except Exception:  # somebody's own __eq__
        return False


def _compare_files(cache: Cache, old: Stored, new: Stored) -> DataDiff:
    names = f"{old.name} → {new.name}" if old.name != new.name else f"{new.name}"
    sizes = {"before": old.size, "after": new.size}
    if old.digest == new.digest:
        return DataDiff("file", f"{names}: the same bytes", (), sizes)
    told = f"{old.size:,} → {new.size:,} bytes" if old.size != new.size else f"{new.size:,} bytes"
    readers = [reader_of(each.name or "") for each in (old, new)]
    if max(old.size, new.size) > (LARGEST if all(readers) else _TEXT_BYTES):
        gone = [side for side in (old, new) if side.blob and not cache.blobs.has(side.blob)]
        text = "; its bytes are no longer kept" if gone else ""
        return DataDiff("file", f"{names}: {told}{text}", (), sizes)
    data = [cache.blobs.bytes_of(each) for each in (old, new)]
    before, after = (_text(each) for each in data)
    is_one_line = not any("\n" in (text or "").rstrip() for text in (before, after))
    if before is None or after is None or is_one_line:  # else its lines say more
        held = [read and read(each) for read, each in zip(readers, data, strict=True)]
        if held[0] is not None and held[1] is not None:
            with contextlib.suppress(Exception):  # values that only their reader takes
                found = compare_values(*held)
                what = {**sizes, "content": found.record()}
                return DataDiff("file", f"{names}: {told}; {found.head}", found.lines, what)
    if before is None or after is None:
        return DataDiff("file", f"{names}: {told}, other bytes", (), sizes)
    return DataDiff("file", f"{names}: {told}", _unified(before, after), sizes)


def _text(data: bytes) -> str | None:
    """A small file's text, None where it is none."""
    if b"\0" in data or len(data) > _TEXT_BYTES:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _compare_trees(cache: Cache, old: Stored, new: Stored) -> DataDiff:
    def turned(was: TreeEntry, now: TreeEntry) -> str | None:
        is_same = _content(was) == _content(now)
        return None if is_same else f"{was.size:,} → {now.size:,} bytes"

    entries = _entries(cache, old), _entries(cache, new)
    told, kept, counts = _changes(*entries, turned, str, lambda each: f"{each.size:,} bytes")
    return DataDiff("tree", f"folder {new.name}: {told or 'another name'}", kept, counts)


def _entries(cache: Cache, stored: Stored) -> dict[str, TreeEntry]:
    assert stored.blob is not None
    found = cache.blobs.open_tree(stored.blob)
    named = {each.path.decode("utf-8", "backslashreplace"): each for each in found}
    return dict(sorted(named.items()))


def _content(entry: TreeEntry) -> tuple[object, ...]:
    return entry.kind, entry.executable, entry.target, entry.identity
