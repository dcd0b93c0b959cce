"""What a check of a cache keeps of each row that it looks at, and what is wrong with one.

Rows go by one after the other: a million of them does not fit into memory, this does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from nbcache.errors import StoreError
from nbcache.model.digest import Digest
from nbcache.model.row import Record
from nbcache.model.signature import ORIGIN, SIGNATURE, SIGNER, Standing
from nbcache.store.cache import Cache
from nbcache.store.references import references
from nbcache.store.signing import standing_of

_SIGNED = frozenset((SIGNATURE, SIGNER))
_INLINE_PORT, _INLINE_ROW = 4096, 16384
_MISSING = "is missing"
# A newer version may add columns whose values are no JSON.
_encode = json.JSONEncoder(sort_keys=True, check_circular=False, default=repr).encode


@dataclass(slots=True)
class SeenRows:
    """What is kept of rows that were looked at: of a million it fits into memory."""

    contents: dict[str, int] = field(default_factory=dict)  # by id, as a hash
    taken: dict[str, object] = field(default_factory=dict)  # by hits: rows not seen before them
    evicted: set[object] = field(default_factory=set)
    named: set[str] = field(default_factory=set)  # blobs
    lacking: list[tuple[str, str, str]] = field(default_factory=list)  # row, hash, what is missing
    away: int = 0
    twice: set[str] = field(default_factory=set)  # ids of rows that differ

    def add(self, other: SeenRows) -> None:
        """Take in what others hold."""
        held = self.contents
        self.twice |= other.twice
        self.twice.update(
            each for each, content in other.contents.items() if held.get(each, content) != content
        )
        self.contents.update(other.contents)
        self.taken.update(other.taken)
        self.evicted |= other.evicted
        self.named |= other.named
        self.lacking += other.lacking
        self.away += other.away


def look_at(
    record: Record, rows: SeenRows, known: SeenRows, cache: Cache, shared: bool
) -> Iterator[tuple[str, str]]:
    """Note a row among `rows`, unless it is `known`; yield what is wrong with it: its id and that.

    shared: a shared cache stands behind it, which brings what is not there.
    """
    row_id, kind = record.get("id"), record.get("kind")
    if not isinstance(row_id, str) or not isinstance(kind, str):
        yield str(row_id), "has no id or kind"
        return
    text = _encode(record)
    content = xxh3_64_intdigest(text.encode("ascii"))
    if known.contents.get(row_id) == content:
        return
    if rows.contents.get(row_id, content) != content:
        rows.twice.add(row_id)
    rows.contents[row_id] = content
    if kind == "evict":
        rows.evicted.add(record.get("row"))
    taken = record.get("cached_from")
    if kind == "use" and taken not in rows.contents and taken not in known.contents:
        rows.taken[row_id] = taken
    inline = [len(port.get("inline") or "") * 3 // 4 for port in record.get("outputs") or ()]
    if inline and (max(inline) > _INLINE_PORT or sum(inline) > _INLINE_ROW):
        yield row_id, "holds more inline bytes than it may"
    if not _SIGNED.isdisjoint(record) and standing_of(record, whole=True) is Standing.FORGED:
        by = record.get("user") or "somebody"
        yield row_id, f"its signature does not fit; it says that it is {by}'s"
    if '"b3:' in text or '"blob": "' in text:  # else it names none
        _look_at_results(record, rows, cache, shared)


def _look_at_results(record: Record, rows: SeenRows, cache: Cache, shared: bool) -> None:
    """See that what a row names is there, with its size."""
    is_result = record["kind"] == "attempt" and record.get("status") == "completed"
    is_away = False
    for digest, kind, size in references(record):
        rows.named.add(digest)
        try:
            rows.named.update(_check_blob(cache, digest, kind, size))
        except StoreError as error:
            if shared and record.get(ORIGIN) and _is_missing(error):
                is_away = is_result
            elif is_result:
                rows.lacking.append((record["id"], record["hash"], str(error)))
    rows.away += is_away and counts(cache, record["id"], record["hash"])


def _is_missing(error: StoreError) -> bool:
    """Say whether bytes are not there at all, so that a shared cache may bring them."""
    return str(error).endswith(_MISSING)


def counts(cache: Cache, row_id: str, hash: str) -> bool:
    """Say whether a row is the one that a look-up would use now."""
    entry = cache.log.find(Digest(hash))
    return entry is not None and entry.row_id == row_id


def _check_blob(cache: Cache, digest: str, kind: str, size: int | None) -> set[str]:
    """Return the blobs that a tree names.

    Raises:
        StoreError: something is missing or has another size.
    """
    blob = Digest(digest)
    if not cache.blobs.has(blob, None if kind == "tree" else size):
        there = "has another size" if cache.blobs.has(blob) else _MISSING
        raise StoreError(f"its blob {digest} {there}")
    if kind != "tree":
        return set()
    entries = [each for each in cache.blobs.open_tree(blob) if each.blob is not None]
    for entry in entries:
        assert entry.blob is not None
        if not cache.blobs.has(entry.blob, entry.size):
            raise StoreError(f"the file {entry.path!r} of its tree {digest} {_MISSING}")
    return {str(each.blob) for each in entries}
