"""What a reader keeps of one journal: its lines, filed by hash, parsed only when asked for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nbcache.model.row import Record
from nbcache.store.index import Found, found, hash_key
from nbcache.store.journal import read_from

_HEAD = re.compile(rb'\{"kind":"(\w+)","id":"([^"\\]+)"(?:,"hash":"([^"\\]*)")?[,}]')
_COMPLETED = b'"status":"completed"'


class JournalView:
    """The lines of a journal as far as they were read. `own`: fed by the writer, never read."""

    def __init__(self, path: Path, *, own: bool = False) -> None:
        self.path = path
        self.lines: list[bytes] = []  # only ever appended to
        self.offset = 0  # behind the last whole record
        self._own = own
        self._size = 0
        self.by_hash: dict[bytes, list[bytes]] = {}  # lines that look like completed rows
        self._by_kind: dict[bytes, list[bytes]] = {}
        self._by_id: dict[str, bytes] = {}
        self._filed = 0  # lines that are in _by_id

    def read_on(self) -> Sequence[Record]:
        """Read what was appended since; return the evict rows among it.

        Raises:
            FileNotFoundError: the journal was folded.
        """
        if self._own:
            return ()
        size = os.stat(self.path).st_size
        if size == self._size:
            return ()
        lines, self.offset = read_from(self.path, self.offset)
        self._size = size  # as it was before reading: what came in between is seen next time
        return self.add(lines)

    def add(self, lines: Sequence[bytes]) -> Sequence[Record]:
        """File new lines; return the evict rows among them."""
        evicts = []
        for line in lines:
            head = _HEAD.match(line)
            if head is None:
                kind, digest = _head_of(line)
            else:
                kind, digest = head[1], None if head[3] is None else head[3].decode()
            self._by_kind.setdefault(kind, []).append(line)
            if kind == b"attempt":
                if digest is not None and _COMPLETED in line:
                    self.by_hash.setdefault(hash_key(digest), []).append(line)
            elif kind == b"evict":
                evicts.append(json.loads(line))
        self.lines += lines
        return evicts

    def completed(self, key: bytes) -> Iterator[Found]:
        """Yield the completed rows of a hash."""
        for line in self.by_hash.get(key, ()):
            record = json.loads(line)
            if record.get("status") == "completed":
                yield found(record)

    def record(self, row_id: str) -> Record | None:
        """Return a row by its id."""
        while self._filed < len(self.lines):
            line = self.lines[self._filed]
            head = _HEAD.match(line)
            name = json.loads(line)["id"] if head is None else head[2].decode()
            self._by_id[name] = line
            self._filed += 1
        known = self._by_id.get(row_id)
        return None if known is None else json.loads(known)

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield all stored rows from line `start`."""
        for place in range(start, len(self.lines)):
            yield json.loads(self.lines[place])

    def records_of(self, kinds: Iterable[str], *, holding: str = "") -> Iterator[Record]:
        """Yield the stored rows of some kinds, where a text is given of those only in which it
        occurs, if that can be told without parsing them; one kind after the other."""
        said = holding.encode() if holding.isascii() else b""  # others are written in two ways
        for kind in kinds:
            for line in tuple(self._by_kind.get(kind.encode(), ())):
                if said in line:
                    yield json.loads(line)


def _head_of(line: bytes) -> tuple[bytes, str | None]:
    """Read the head of a line that another program wrote in another order."""
    record = json.loads(line)
    return str(record.get("kind", "")).encode(), record.get("hash")
