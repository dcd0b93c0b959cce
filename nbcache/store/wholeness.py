"""Which blobs are known to be whole: what they were like when their bytes had their digest.

To read a large file again costs more than to note what was read, so of large blobs the state of the
file is remembered in the cache, and of small ones that are given to tasks, in this process.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from blake3 import blake3
from xxhash import xxh3_128

from nbcache.model.digest import Digest
from nbcache.store.filestate import FileTable

CHUNK = 256 << 10  # fits the processor's cache
LARGE = 8 << 20  # bytes: to read so much costs more than to note what was read
_NOTED = 1 << 20  # bytes: of a blob that is given to tasks as a link
_MOST_SEEN = 100_000


class Wholeness:
    """What is known of the blobs of one cache. Paths are those of blobs."""

    def __init__(self) -> None:
        self.states: FileTable | None = None
        """Remembers what large blobs were like when they were last known to be whole."""
        self._seen: dict[str, tuple[int, int, int, int]] = {}  # by path: as it was then

    def is_sound(self, path: str, digest: str) -> bool:
        """Say whether the bytes of a blob are what they were. One whose state was noted when it
        was whole is not read.

        Raises:
            OSError: it cannot be read.
        """
        there = os.stat(path)
        state = there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns
        if self._seen.get(path) == state:
            return True
        if self.states is not None and self.states.noted(path) is not None:
            return True
        found, identity, size = digests(Path(path))
        if found != digest:
            return False
        if size >= _NOTED:
            self.note(path, identity)
        else:  # of a folder's many files it is enough that this process knows
            if len(self._seen) > _MOST_SEEN:
                self._seen.clear()
            self._seen[path] = state
        return True

    def is_whole(self, path: str, digest: Digest, identity: Digest | None) -> bool:
        """Say whether a blob is what is about to be kept: of two equal ones the damaged one would
        stay, and each run would make it again. A small one, without `identity`, is read."""
        try:
            if identity and self.states is not None and self.states.noted(path) == identity:
                return True
            return digests(Path(path), identity=False)[0] == digest
        except OSError:
            return False

    def note(self, path: str, identity: Digest | None) -> None:
        """Remember the state of a large blob that is known to be whole."""
        if identity is not None and self.states is not None:
            with suppress(OSError):  # somebody took it away: nothing to remember
                self.states.note(path, identity)


def digests(path: Path, *, identity: bool = True) -> tuple[Digest, Digest, int]:
    """Return blob digest, identity digest and size of a file, read once."""
    strong, fast, size = blake3(), xxh3_128(), 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            strong.update(view[:count])
            if identity:
                fast.update(view[:count])
            size += count
    return Digest("b3:" + strong.hexdigest()), Digest("xxh3:" + fast.hexdigest()), size
