"""What forked children of a body note: they write it to a file in memory that all share."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any


class ChildNotes:
    """The notes of the children of the process that opened them, one line each."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._owner = os.getpid()
        self._told: set[bytes] = set()

    def open(self) -> None:
        """Make the file; there are no notes without."""
        self._file = _file_in_memory()

    def begin(self) -> None:
        """Drop what is there: a child of an earlier attempt wrote late."""
        self._owner = os.getpid()
        self._told.clear()
        if self._file is not None and os.lseek(self._file, 0, os.SEEK_CUR):
            os.lseek(self._file, 0, os.SEEK_SET)

    @property
    def is_child(self) -> bool:
        """Whether this process is a fork of the one whose notes these are."""
        return os.getpid() != self._owner

    def tell(self, kind: str, name: str, found: object) -> None:
        """Note something once, in a child."""
        line = json.dumps([kind, name, found]).encode() + b"\n"
        if self._file is not None and line not in self._told:
            self._told.add(line)
            os.write(self._file, line)

    def heard(self) -> Iterator[tuple[str, str, Any]]:
        """Yield what children noted, and drop it."""
        if self._file is None:
            return
        size = os.lseek(self._file, 0, os.SEEK_CUR)
        if not size:
            return
        for line in os.pread(self._file, size, 0).splitlines():
            kind, name, found = json.loads(line)
            yield kind, name, found
        os.lseek(self._file, 0, os.SEEK_SET)


def _file_in_memory() -> int:
    """Return a descriptor of a file without a name, shared with forked children."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("nbcache-reads", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
