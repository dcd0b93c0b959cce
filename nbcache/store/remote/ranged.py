"""An object of a store as a file that is read in pieces, each one request."""

from __future__ import annotations

import io
import os

from nbcache.store.remote.protocol import Store

_END_BYTES = 256 << 10  # of the file, which the first request brings: Parquet's index is there


class RangedFile(io.RawIOBase):
    """Reads an object of known size. Errors are those of the store. Not thread-safe."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        super().__init__()
        self._store, self._key, self._size = store, key, size
        self._at = 0
        self._end_from = max(0, size - _END_BYTES)
        self._end: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; one request, none within the end of the file."""
        until = self._size if size < 0 else min(self._at + size, self._size)
        data = self._range(self._at, until)
        self._at += len(data)
        return data

    def _range(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        if start < self._end_from:
            return self._store.get(self._key, start, end)
        if self._end is None:
            self._end = self._store.get(self._key, self._end_from, self._size)
        return self._end[start - self._end_from : end - self._end_from]
