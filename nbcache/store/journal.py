"""Journals: rows on their way to a segment, one file per process, readable while written.

Keeps the promise that a row is durable (survives the death of the process, or of the machine with
`fsync`) when `append` returns, and that half a record is never read. docs/format.md has the
bytes; a change there comes first. Imports nothing heavy: every worker process opens one.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from xxhash import xxh3_64_intdigest

from nbcache.errors import StoreError
from nbcache.model.row import Record, Row
from nbcache.store.files import (
    boot_token,
    close_in_children,
    deleted_error,
    full_disk_error,
    host_token,
    is_full,
    new_ulid,
    open_up,
    read_only_error,
    sync_folder,
)

Durability = Literal["process", "fsync"]

HEADER_SIZE = 29  # "=1 LLLLLLLL CCCCCCCCCCCCCCCC\n"
MAX_ROWS = 5_000  # in one journal; then the writer goes on in a new one, so that it can be folded
MAX_BYTES = 16 << 20
GONE = ".gone"  # the suffix of a journal that is being deleted
_LOOK_S = 1.0  # as often a writer looks whether its journal was folded, or deleted


def encode_row(row: Row, sign: Callable[[Record], None] | None = None) -> bytes:
    """Return a row as one line of compact JSON: kind, id, hash first; signed, if `sign` does."""
    record = row.record()
    if sign is not None:
        sign(record)
    return encode_record(record)


def encode_record(record: Record) -> bytes:
    """Return a stored row as one line of compact JSON: kind, id, hash first."""
    first = record
    if list(record)[:3] != _FIRST:
        first = {"kind": record.get("kind"), "id": record.get("id")}
        if "hash" in record:
            first["hash"] = record["hash"]
        first.update(record)
    try:
        return _compact(first).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # a lone surrogate: a file name that is not UTF-8
        return _ascii(first).encode("ascii") + b"\n"


_FIRST = ["kind", "id", "hash"]
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


def frame(lines: bytes) -> bytes:
    """Return the record that holds these lines."""
    if len(lines) > 0xFFFFFFFF:
        raise StoreError("a batch of rows is larger than 4 GB")
    return b"=1 %08x %016x\n%s" % (len(lines), xxh3_64_intdigest(lines), lines)


def whole_records(data: bytes | memoryview) -> Iterator[tuple[bytes, int]]:
    """Yield (lines, end offset) of each whole record; stop at a torn one."""
    view, start = memoryview(data), 0
    while len(view) - start >= HEADER_SIZE:
        header = bytes(view[start : start + HEADER_SIZE])
        if header[:3] != b"=1 " or header[-1:] != b"\n":
            return
        try:
            length, check = int(header[3:11], 16), int(header[12:28], 16)
        except ValueError:
            return
        end = start + HEADER_SIZE + length
        lines = bytes(view[start + HEADER_SIZE : end])
        if len(lines) != length or xxh3_64_intdigest(lines) != check:
            return
        yield lines, end
        start = end


def read_from(path: Path, start: int = 0) -> tuple[list[bytes], int]:
    """Return the lines of the whole records from `start`, and the offset behind the last one.

    Raises:
        FileNotFoundError: somebody folded the journal in the meantime.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, max(os.fstat(descriptor).st_size - start, 0), start)
    finally:
        os.close(descriptor)
    lines: list[bytes] = []
    end = 0
    for payload, end in whole_records(data):  # noqa: B007  the last `end` is used
        lines += payload.split(b"\n")[:-1]
    return lines, start + end


def is_of_this_boot(name: str) -> bool:
    """Say whether a journal was written under the kernel that runs now, so that flock can tell."""
    host, boot, _ = split_name(name)
    return host == host_token() and boot == boot_token()


def split_name(name: str) -> tuple[str, str, str]:
    """Return host, boot and ULID of a journal's file name ("" where the name is another)."""
    parts = name.removesuffix(GONE).split("-")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


class JournalWriter:
    """Appends rows to a journal of its own; the file is made at the first append.

    Thread-safe. After a fork the child goes on in a journal of its own. `on_open` is told the
    name of each file that it starts; `sign` adds a signature to a row.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        host: str | None = None,
        durability: Durability = "process",
        max_rows: int = MAX_ROWS,
        on_open: Callable[[str], None] | None = None,
        sign: Callable[[Record], None] | None = None,
    ) -> None:
        self.folder = Path(root) / "journal"
        self.durability: Durability = durability
        self.path: Path | None = None
        self._host = host or host_token()
        self._max_rows = max_rows
        self._on_open = on_open
        self._sign = sign
        self._descriptor: int | None = None
        self._size = self._rows = 0
        self._looked_at = 0.0
        self._lock = threading.Lock()
        close_in_children(self)

    def append(self, rows: Sequence[Row]) -> None:
        """Write all rows as one record; when this returns they are found by every reader.

        Raises:
            StoreError: the disk is full or the folder cannot be written; nothing was kept.
        """
        if rows:
            lines = b"".join([encode_row(row, self._sign) for row in rows])
            self.append_lines(lines, len(rows))

    def append_lines(self, lines: bytes, count: int) -> None:
        """Write encoded rows as one record."""
        data = frame(lines)
        with self._lock:
            if self._descriptor is not None and (
                self._rows + count > self._max_rows or self._size + len(data) > MAX_BYTES
            ):
                self._close()
            try:
                self._write(data)
                if time.monotonic() - self._looked_at > _LOOK_S:
                    self._looked_at = time.monotonic()
                    if not self._still_there():
                        self._close()
                        self._write(data)
            except OSError as error:
                raise _cannot_write(self.folder, error) from error
            self._rows += count

    def rotate(self) -> None:
        """Let go of the journal, so that it can be folded; the next append opens a new one."""
        with self._lock:
            self._close()

    close = rotate

    def close_in_child(self) -> None:
        """Forget the parent's journal in a forked child."""
        self._lock = threading.Lock()
        self._close()

    def _write(self, data: bytes) -> None:
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        try:
            written = os.write(self._descriptor, data)
            if written != len(data):  # a full disk gives a short write before it gives an error
                raise OSError(28, "no space left for the record")
            if self.durability == "fsync":
                os.fsync(self._descriptor)
        except OSError:
            self._undo()
            raise
        self._size += len(data)

    def _undo(self) -> None:
        """Cut half a record off; where that fails too, never write behind it."""
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._close()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        while True:
            path = self.folder / f"{self._host}-{boot_token()}-{new_ulid()}"
            descriptor = os.open(path, flags, 0o644)
            open_up(descriptor, path, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a folding process was quicker and is about to delete it
                os.close(descriptor)
                continue
            self.path, self._descriptor = path, descriptor
            self._size = self._rows = 0
            self._looked_at = time.monotonic()
            if self._still_there():
                break
            self._close()
        if self.durability == "fsync":
            sync_folder(self.folder)
        if self._on_open is not None:
            self._on_open(path.name)

    def _still_there(self) -> bool:
        assert self.path is not None
        assert self._descriptor is not None
        try:
            return os.stat(self.path).st_ino == os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # frees the flock
        self._descriptor = self.path = None


def _cannot_write(folder: Path, error: OSError) -> StoreError:
    if isinstance(error, PermissionError) or error.errno == 30:  # EROFS
        return read_only_error(folder.parent, error.strerror or "permission denied")
    if is_full(error):
        return full_disk_error(folder.parent, "a row")
    if isinstance(error, FileNotFoundError) and not folder.is_dir():
        return deleted_error(folder.parent)
    return StoreError(f"cannot append to the journal in {folder}: {error.strerror or error}")
