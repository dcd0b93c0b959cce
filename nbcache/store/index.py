"""The derived index: the keys of one segment as sorted arrays in a memory-mapped file.

Derived and private: any file may be deleted, and is made again from the segment's keys file. It
exists so that a fresh process finds a hash without importing pyarrow, and without reading more
than the pages it needs. Layout (little-endian):

    magic 8 | check u64 (XXH3-64 of the rest) | n_hashes u32 | n_ids u32 | meta_size u64 |
    payload_size u64 | hashes 16 each, sorted | payload offsets u64 each, one more at the end |
    row ids 16 each, sorted | places u32 each | meta JSON | payload

One payload per COMPLETED attempt row, compact JSON; equal hashes are sorted best first. Evict rows
are few and stand in meta. A change of layout changes the magic.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from nbcache.model.ids import ulid_number
from nbcache.model.row import Record
from nbcache.model.signature import ORIGIN, SIGNING

MAGIC = b"nbidx\x00\x00\x02"
_HEAD = struct.Struct("<8sQIIQQ")
_PAIR = struct.Struct("<QQ")
_CHECKED_BYTES = 32 << 20  # larger files are synced when written, and not checked when opened

ENTRY_FIELDS = (
    *("id", "generation", "run", "at", "realtime", "host", "user", "process", "tag"),
    *("watched", "outputs", "shown", *SIGNING, ORIGIN),
)

ORIGIN_PLACE = ENTRY_FIELDS.index(ORIGIN)

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
    """Return the 16 bytes under which a row is filed."""
    try:
        return ulid_number(row_id).to_bytes(16, "big")
    except (ValueError, OverflowError):
        return xxh3_128_digest(row_id.encode("utf-8", "backslashreplace"))


def build(records: Iterable[tuple[Record, int]], meta: Record) -> bytes:
    """Return the bytes of an index of (stored row, place in the rows file) pairs."""
    hashes: list[tuple[bytes, int, str, bytes]] = []
    ids: list[tuple[bytes, int]] = []
    evicts: list[Record] = []
    for record, place in records:
        kind = record.get("kind")
        if kind == "evict":
            evicts.append({name: record.get(name) for name in ("id", "hash", "row", "generation")})
        if kind != "attempt":
            continue
        ids.append((row_key(record["id"]), place))
        if record.get("status") == "completed":
            values = found(record)
            payload = _encode(values).encode("ascii")
            hashes.append((hash_key(record["hash"]), -values[1], values[0], payload))
    hashes.sort()
    ids.sort()
    offsets, payload_size = [], 0
    for *_, payload in hashes:
        offsets.append(payload_size)
        payload_size += len(payload)
    offsets.append(payload_size)
    meta_data = json.dumps({**meta, "evicts": evicts}).encode("ascii")
    body = b"".join(
        [
            struct.pack("<IIQQ", len(hashes), len(ids), len(meta_data), payload_size),
            *(each[0] for each in hashes),
            struct.pack(f"<{len(offsets)}Q", *offsets),
            *(key for key, _ in ids),
            struct.pack(f"<{len(ids)}I", *(place for _, place in ids)),
            meta_data,
            *(each[3] for each in hashes),
        ]
    )
    return MAGIC + struct.pack("<Q", xxh3_64_intdigest(body)) + body


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
        self._places = self._ids + 16 * self.ids
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
            StaleIndexError: it is not there or not whole.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StaleIndexError(str(error)) from error
        try:
            size = os.fstat(descriptor).st_size
            if size < _HEAD.size:
                raise StaleIndexError("too short")
            data = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        return cls(data, check=size <= _CHECKED_BYTES)

    def find(self, key: bytes) -> list[Found]:
        """Return the completed rows of a hash, best first."""
        data, place = self._data, self._first(key, _HEAD.size, self.hashes)
        start = _HEAD.size + 16 * place
        rows: list[Found] = []
        while place < self.hashes and data[start : start + 16] == key:
            first, last = _PAIR.unpack_from(data, self._offsets + 8 * place)
            payload = data[self._payload + first : self._payload + last]
            rows.append(_decode(payload.decode("ascii"), 0)[0])
            place, start = place + 1, start + 16
        return rows

    def place_of(self, key: bytes) -> int | None:
        """Return the line of the rows file that holds an attempt row."""
        line = self._first(key, self._ids, self.ids)
        start = self._ids + 16 * line
        if line == self.ids or self._data[start : start + 16] != key:
            return None
        (place,) = struct.unpack_from("<I", self._data, self._places + 4 * line)
        return int(place)

    def _first(self, key: bytes, base: int, count: int) -> int:
        """Return the first of `count` sorted keys at `base` that is not below `key`."""
        data, low, high = self._data, 0, count
        if count > 64:  # hashes are spread evenly: begin where the key should be
            guess = int.from_bytes(key[:4], "big") * count >> 32
            width = int(count**0.5) * 2
            left, right = guess - width, guess + width
            if left > 0 and data[base + (left << 4) : base + (left << 4) + 16] < key:
                low = left + 1
            if right < count and data[base + (right << 4) : base + (right << 4) + 16] >= key:
                high = right
        while low < high:
            middle = (low + high) >> 1
            start = base + (middle << 4)
            if data[start : start + 16] < key:
                low = middle + 1
            else:
                high = middle
        return low
