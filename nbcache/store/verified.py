"""Which signatures were found to fit, so that nobody has to compute that again: it is the dearest
part of a look-up. Whether their keys are trusted is another question, and asked each time.

They are kept beside the trust file, by digests of all that was compared: whoever can add one could
trust a key as well, and no cache, clone or colleague reaches that place.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from functools import lru_cache
from pathlib import Path

from blake3 import blake3

from nbcache.errors import StoreError
from nbcache.store.trust_file import config_folder, is_private, private_folder

_NAME = "signatures"
_SIZE = 32
_MOST = 100_000  # in the file; one that is full is begun anew
_BATCH = 1_000


class Verified:
    """The signatures of one user's memory. Thread-safe; files of many processes are one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[bytes] = set()
        self._new: list[bytes] = []
        with contextlib.suppress(OSError):
            data = path.read_bytes() if is_private(path) else b""
            if len(data) % _SIZE == 0:
                self._known = {data[at : at + _SIZE] for at in range(0, len(data), _SIZE)}
        atexit.register(self.keep)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._known

    def add(self, digest: bytes) -> None:
        """Note what fits; written down with many others, or at the end of the process."""
        self._known.add(digest)
        self._new.append(digest)
        if len(self._new) >= _BATCH:
            self.keep()

    def keep(self) -> None:
        """Write down what is new. It is no harm if that fails, or is only half done."""
        new, self._new = self._new, []
        if not new:
            return
        with contextlib.suppress(OSError, StoreError):
            private_folder()
            with contextlib.suppress(FileNotFoundError):
                size = os.stat(self._path).st_size
                if size % _SIZE or size >= _MOST * _SIZE or not is_private(self._path):
                    os.unlink(self._path)
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, b"".join(new))
            finally:
                os.close(file)


def digest_of(data: bytes, signer: str, signature: bytes) -> bytes:
    """Return what a signature of some bytes by a key is kept under."""
    return blake3(b"\n".join((signer.encode("ascii"), signature.hex().encode(), data))).digest()


def verified() -> Verified:
    """Return the memory of this user."""
    return _in(config_folder())


@lru_cache
def _in(folder: Path) -> Verified:
    return Verified(folder / _NAME)
