"""Claims: the right of one process on this machine to compute a hash, freed by its death.

Locks of open file descriptions on one file, at the offset of the hash: no file per task, nothing
to clean up. Advisory: a hash that runs twice all the same gives one more row, never a wrong one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
from pathlib import Path

from nbcache.model.digest import Digest
from nbcache.store.files import close_in_children, make_folder, open_lock, read_only_error
from nbcache.store.index import hash_key

_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_OFD_GETLK: int | None = getattr(fcntl, "F_OFD_GETLK", None)
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, pid
_BUSY = (errno.EAGAIN, errno.EACCES)


class Claim:
    """The right to compute one hash. Release it when the row is in the log."""

    __slots__ = ("_claims", "hash")

    def __init__(self, claims: Claims, hash: Digest) -> None:
        self.hash, self._claims = hash, claims

    def release(self) -> None:
        """Give the right back; twice is harmless."""
        self._claims._release(self)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Claims:
    """Hands out claims. Thread-safe; excludes threads of one process as well as processes."""

    def __init__(self, root: str | os.PathLike[str], *, read_only: str | None = None) -> None:
        self.root = Path(root)
        self._read_only = read_only
        self._held: dict[str, tuple[Claim, int | None]] = {}
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        close_in_children(self)

    def try_claim(self, hash: Digest) -> Claim | None:
        """Return the claim, or None while somebody else (or this process) holds it."""
        if self._read_only is not None:
            raise read_only_error(self.root, self._read_only)
        with self._lock:
            if hash in self._held:
                return None
            descriptor = None
            if _OFD_SETLK is None:
                descriptor = self._lock_file(hash)
                if descriptor is None:
                    return None
            elif not self._lock_byte(hash, fcntl.F_WRLCK):
                return None
            claim = Claim(self, hash)
            self._held[hash] = (claim, descriptor)
            return claim

    def is_claimed(self, hash: Digest) -> bool:
        """Whether anybody on this machine holds the claim now; takes and writes nothing."""
        with self._lock:
            if hash in self._held:
                return True
        try:
            descriptor = os.open(self._lock_path(hash), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return _is_locked(descriptor, hash)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Give all claims back."""
        with self._lock:
            for _, descriptor in self._held.values():
                if descriptor is not None:
                    os.close(descriptor)
            self._held.clear()
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def close_in_child(self) -> None:
        """Let a forked child go without its parent's claims."""
        self._lock = threading.Lock()
        self.close()

    def _lock_byte(self, hash: str, kind: int) -> bool:
        if self._descriptor is None:
            self._descriptor = open_lock(self._lock_path(hash))
        assert _OFD_SETLK is not None
        try:
            fcntl.fcntl(self._descriptor, _OFD_SETLK, _FLOCK.pack(kind, 0, _offset(hash), 1, 0))
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise
        return True

    def _lock_path(self, hash: str) -> Path:
        """Return the file on which a hash is locked."""
        if _OFD_SETLK is not None:
            return self.root / "claims" / "locks"
        name = hash_key(hash).hex()
        return self.root / "claims" / name[:2] / name

    def _lock_file(self, hash: str) -> int | None:
        """Where there are no such locks (macOS): flock on a file per hash, never deleted."""
        path = self._lock_path(hash)
        with contextlib.suppress(FileExistsError):
            make_folder(path.parent)
        descriptor = open_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _release(self, claim: Claim) -> None:
        with self._lock:
            held, descriptor = self._held.get(claim.hash, (None, None))
            if held is not claim:
                return  # released before, or by close
            del self._held[claim.hash]
            if descriptor is not None:
                os.close(descriptor)
            elif self._descriptor is not None:
                self._lock_byte(claim.hash, fcntl.F_UNLCK)


def _offset(hash: str) -> int:
    return int.from_bytes(hash_key(hash), "big") & (1 << 62) - 1


def _is_locked(descriptor: int, hash: str) -> bool:
    """Ask whether another open file holds the lock of a hash."""
    if _OFD_GETLK is not None:
        asked = _FLOCK.pack(fcntl.F_WRLCK, 0, _offset(hash), 1, 0)
        kind: int = _FLOCK.unpack(fcntl.fcntl(descriptor, _OFD_GETLK, asked))[0]
        return kind != fcntl.F_UNLCK
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
