"""The derived index: the keys of one segment as sorted arrays in a memory-mapped file.

Derived and private: any file may be deleted, and is made again from the segment's keys file. It
exists so that a fresh process finds a hash without importing pyarrow, and without reading more
than the pages it needs. Layout (little-endian):

    magic 8 | check u64 (XXH3-64 of the rest) | n_hashes u32 | n_ids u32 | meta_size u64 |
    payload_size u64 | hashes 16 each, sorted | payload offsets u64 each, one more at the end |
    row ids 26 each, sorted | places u32 each | meta JSON | payload

One payload per COMPLETED attempt row, compact JSON; equal hashes are sorted best first. Evict rows
are few and stand in meta. A change of layout changes the magic. `build` makes one of rows that are
at hand, `index_query` the same of a keys file.
"""

from __future__ import annotations

import functools
import io
import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from xxhash import xxh3_64, xxh3_64_intdigest, xxh3_128_digest, xxh3_128_hexdigest

from nbcache.model.row import Record
from nbcache.model.signature import ORIGIN, SIGNING

MAGIC = b"nbidx\x00\x00\x03"
ID_BYTES = 26  # of a ULID, as text
_HEAD = struct.Struct("<8sQIIQQ")
_PAIR = struct.Struct("<QQ")
_CHECKED_BYTES = 32 << 20  # larger files are synced when written, and not checked when opened

ENTRY_FIELDS = (
    *("id", "generation", "run", "at", "realtime", "host", "user", "process", "tag"),
    *("watched", "outputs", "shown", *SIGNING, ORIGIN),
)

ORIGIN_PLACE = ENTRY_FIELDS.index(ORIGIN)

Buffer = bytes | memoryview
Found = list[Any]
"""A completed row as a look-up gives it: the values of `ENTRY_FIELDS`, None where absent."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().raw_decode  # `decode` also looks for blank space around it


def found(record: Record) -> Found:
    """Return what a look-up needs of a stored row."""
    values = [record.get(name) for name in ENTRY_FIELDS]
    values[1] = int(values[1] or 1)
    return values


class StaleIndexError(Exception):
    """The index file is not there, is damaged, or is of another segment or version."""


@functools.lru_cache(4096)  # asked for six times in the course of a task
def hash_key(digest: str) -> bytes:
    """Return the 16 bytes under which a hash is filed."""
    if len(digest) == 37 and digest.startswith("xxh3:"):
        try:
            return bytes.fromhex(digest[5:])
        except ValueError:
            pass
    return xxh3_128_digest(digest.encode("utf-8", "backslashreplace"))


def row_key(row_id: str) -> bytes:
    """Return the `ID_BYTES` bytes under which a row is filed: its id, where that is a ULID."""
    if len(row_id) == ID_BYTES and row_id.isascii():
        return row_id.encode("ascii")
    return xxh3_128_hexdigest(row_id.encode("utf-8", "backslashreplace"))[:ID_BYTES].encode("ascii")


@dataclass(slots=True)
class Lines:
    """What an index holds of some rows, in their order."""

    hashes: list[tuple[bytes, int, str, bytes]] = field(default_factory=list)
    """Key, less than nothing the generation, row id, payload: sorted, the best comes first."""
    ids: list[tuple[bytes, int]] = field(default_factory=list)  # key, place in the rows file
    evicts: list[Record] = field(default_factory=list)


def lines_of(records: Iterable[tuple[Record, int]]) -> Lines:
    """Return what an index holds of (stored row, place in the rows file) pairs."""
    lines = Lines()
    for record, place in records:
        kind = record.get("kind")
        if kind == "evict":
            names = ("id", "hash", "row", "generation")
            lines.evicts.append({name: record.get(name) for name in names})
        if kind != "attempt":
            continue
        lines.ids.append((row_key(record["id"]), place))
        if record.get("status") == "completed":
            values = found(record)
            payload = _encode(values).encode("ascii")
            lines.hashes.append((hash_key(record["hash"]), -values[1], values[0], payload))
    return lines


def build(records: Iterable[tuple[Record, int]], meta: Record) -> bytes:
    """Return the bytes of an index of (stored row, place in the rows file) pairs."""
    lines = lines_of(records)
    lines.hashes.sort()
    lines.ids.sort()
    offsets, payload_size = [], 0
    for *_, payload in lines.hashes:
        offsets.append(payload_size)
        payload_size += len(payload)
    offsets.append(payload_size)
    return packed(
        b"".join([each[0] for each in lines.hashes]),
        struct.pack(f"<{len(offsets)}Q", *offsets),
        b"".join([key for key, _ in lines.ids]),
        struct.pack(f"<{len(lines.ids)}I", *(place for _, place in lines.ids)),
        b"".join([each[3] for each in lines.hashes]),
        {**meta, "evicts": lines.evicts},
    )


def packed(
    hashes: Buffer, offsets: Buffer, ids: Buffer, places: Buffer, payload: bytes, meta: Record
) -> bytes:
    """Return the bytes of an index of its parts."""
    file = io.BytesIO()
    write_packed(file, hashes, offsets, ids, places, (payload,), meta)
    return file.getvalue()


def write_packed(
    file: BinaryIO,
    hashes: Buffer,
    offsets: Buffer,
    ids: Buffer,
    places: Buffer,
    payload: Iterable[bytes],
    meta: Record,
) -> None:
    """Write an index of its parts to an empty file, the payload piece by piece."""
    meta_data = json.dumps(meta).encode("ascii")
    counts = len(hashes) // 16, len(ids) // ID_BYTES
    head = struct.pack("<IIQQ", *counts, len(meta_data), int.from_bytes(offsets[-8:], "little"))
    check = xxh3_64()
    file.write(MAGIC + bytes(8))
    for part in chain((head, hashes, offsets, ids, places, meta_data), payload):
        check.update(part)
        file.write(part)
    file.seek(len(MAGIC))
    file.write(struct.pack("<Q", check.intdigest()))


class SegmentIndex:
    """One segment's index, mapped. Look-ups by bisection; no lock, no copy."""

    def __init__(self, data: bytes | mmap.mmap, *, check: bool) -> None:
        if len(data) < _HEAD.size:
            raise StaleIndexError("too short")
        magic, checksum, self.hashes, self.ids, meta_size, payload_size = _HEAD.unpack_from(data)
        if magic != MAGIC:
            raise StaleIndexError("another version")
        self._data = data
        self._offsets = _HEAD.size + 16 * self.hashes
        self._ids = self._offsets + 8 * (self.hashes + 1)
        self._places = self._ids + ID_BYTES * self.ids
        meta = self._places + 4 * self.ids
        self._payload = meta + meta_size
        if self._payload + payload_size != len(data):
            raise StaleIndexError("cut")
        if check:
            with memoryview(data) as view, view[16:] as body:
                if xxh3_64_intdigest(body) != checksum:
                    raise StaleIndexError("damaged")
        self.meta: Record = json.loads(data[meta : self._payload])

    @classmethod
    def open(cls, path: Path) -> SegmentIndex:
        """Map an index file.

        Raises:
            StaleIndexError: it is not there, not whole, or cannot be mapped.
        """
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size < _HEAD.size:
                    raise StaleIndexError("too short")
                data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:  # some file systems map nothing
            raise StaleIndexError(str(error)) from error
        return cls(data, check=size <= _CHECKED_BYTES)

    def find(self, key: bytes) -> list[Found]:
        """Return the completed rows of a hash, best first."""
        data, place = self._data, self._first(key, _HEAD.size, 16, self.hashes)
        start = _HEAD.size + 16 * place
        rows: list[Found] = []
        while place < self.hashes and data[start : start + 16] == key:
            first, last = _PAIR.unpack_from(data, self._offsets + 8 * place)
            payload = data[self._payload + first : self._payload + last]
            rows.append(_decode(payload.decode(), 0)[0])
            place, start = place + 1, start + 16
        return rows

    def keys(self) -> list[bytes]:
        """Return the keys of all completed rows, sorted."""
        hashes = self._data[_HEAD.size : self._offsets]
        return [hashes[start : start + 16] for start in range(0, len(hashes), 16)]

    def place_of(self, key: bytes) -> int | None:
        """Return the line of the rows file that holds an attempt row."""
        line = self._first(key, self._ids, ID_BYTES, self.ids)
        start = self._ids + ID_BYTES * line
        if line == self.ids or self._data[start : start + ID_BYTES] != key:
            return None
        (place,) = struct.unpack_from("<I", self._data, self._places + 4 * line)
        return int(place)

    def says_the_same(self, other: SegmentIndex) -> bool:
        """Whether two indexes give the same answers, however their payloads are written."""
        if self.meta != other.meta or self._keys() != other._keys():
            return False
        both = zip(self._payloads(), other._payloads(), strict=True)
        return all(
            mine == theirs or json.loads(mine) == json.loads(theirs) for mine, theirs in both
        )

    def _keys(self) -> tuple[bytes, bytes]:
        """Return the hashes; and the row ids with their places."""
        places_end = self._places + 4 * self.ids
        return self._data[_HEAD.size : self._offsets], self._data[self._ids : places_end]

    def _payloads(self) -> Iterator[bytes]:
        for place in range(self.hashes):
            first, last = _PAIR.unpack_from(self._data, self._offsets + 8 * place)
            yield self._data[self._payload + first : self._payload + last]

    def _first(self, key: bytes, base: int, size: int, count: int) -> int:
        """Return the first of `count` sorted keys of a size at `base` that is not below `key`."""
        data, low, high = self._data, 0, count
        if count > 64 and size == 16:  # hashes are spread evenly: begin where the key should be
            guess = int.from_bytes(key[:4], "big") * count >> 32
            width = int(count**0.5) * 2
            left, right = guess - width, guess + width
            if left > 0 and data[base + (left << 4) : base + (left << 4) + 16] < key:
                low = left + 1
            if right < count and data[base + (right << 4) : base + (right << 4) + 16] >= key:
                high = right
        while low < high:
            middle = (low + high) >> 1
            start = base + middle * size
            if data[start : start + size] < key:
                low = middle + 1
            else:
                high = middle
        return low
