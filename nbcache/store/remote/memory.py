"""A store in memory: for tests, and the plainest reading of what the protocol promises."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbcache.errors import ObjectMissingError
from nbcache.store.remote.protocol import Entry, OnBytes, OnRequest, check_key, check_prefix


class MemoryStore:
    """Objects in a dict. Thread-safe; nobody else sees them."""

    atomic_create = True
    backend = "memory"

    def __init__(self, url: str = "memory://", *, on_request: OnRequest | None = None) -> None:
        self.url = url
        self._count = on_request or (lambda doing, key: None)
        self._objects: dict[str, tuple[bytes, Entry]] = {}
        self._lock = threading.Lock()
        self._written = 0

    def put(self, key: str, data: bytes) -> None:
        self._count("put", check_key(key))
        with self._lock:
            self._keep(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._count("create", check_key(key))
        with self._lock:
            if key in self._objects:
                return False
            self._keep(key, data)
            return True

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self._count("get", check_key(key))
        return self._found(key, "read")[0][start:end]

    def head(self, key: str) -> Entry:
        self._count("head", check_key(key))
        return self._found(key, "look at")[1]

    def put_file(self, key: str, path: Path) -> None:
        self.put(check_key(key), path.read_bytes())

    def get_file(
        self, key: str, path: Path, size: int | None = None, on_bytes: OnBytes | None = None
    ) -> int:
        written = path.write_bytes(self.get(key))
        if on_bytes is not None:
            on_bytes(written)
        return written

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        self._count("list", check_prefix(prefix))
        with self._lock:
            entries = [each for _, each in self._objects.values()]
        after = start_after.encode("utf-8")
        for entry in sorted(entries, key=lambda entry: entry.key.encode("utf-8")):
            if entry.key.startswith(prefix) and entry.key.encode("utf-8") > after:
                yield entry

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._count("delete", check_key(key))
            with self._lock:
                self._objects.pop(key, None)

    def unfinished(self) -> Iterator[Entry]:
        return iter(())

    def give_up(self, uploads: Iterable[Entry]) -> None:
        """There are none."""

    def server_time(self) -> int:
        return time.time_ns() // 1000

    def close(self) -> None:
        """Nothing to let go of: the objects stay."""

    def _keep(self, key: str, data: bytes) -> None:
        self._written += 1
        entry = Entry(key, len(data), str(self._written), self.server_time())
        self._objects[key] = bytes(data), entry

    def _found(self, key: str, doing: str) -> tuple[bytes, Entry]:
        with self._lock:
            try:
                return self._objects[key]
            except KeyError:
                raise ObjectMissingError(self.url, doing, key, "there is no such object") from None
