"""Which signatures were found to fit, so that nobody has to compute that again: it is the dearest
part of a look-up. Whether their keys are trusted is another question, and asked each time.

They are kept beside the trust file, by digests of all that was compared: whoever can add one could
trust a key as well, and no cache, clone or colleague reaches that place.
"""

from __future__ import annotations

import atexit
import contextlib
from functools import lru_cache
from pathlib import Path

from blake3 import blake3

from nbcache.store.trust_file import config_folder, is_private, replace_whole

_SIZE = 32
_MOST = 100_000


class Verified:
    """The signatures in one file. Thread-safe; of two processes the last that writes is kept."""

    def __init__(self, path: Path) -> None:
        self._path, self._has_more = path, False
        self._known: dict[bytes, None] = {}
        with contextlib.suppress(OSError):
            data = path.read_bytes() if path.is_file() and is_private(path) else b""
            whole = range(0, len(data) - _SIZE + 1, _SIZE)  # without what a cut write left
            self._known = dict.fromkeys(data[at : at + _SIZE] for at in whole)
        atexit.register(self.keep)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._known

    def add(self, digest: bytes) -> None:
        """Note what fits; it is written down at the end of the process, for which nobody waits."""
        if len(self._known) >= _MOST:  # the oldest go, and are computed again if they are met
            self._known = dict.fromkeys(list(self._known)[-_MOST // 2 :])
        self._known[digest] = None
        self._has_more = True

    def keep(self) -> None:
        """Write down what is new; it is no harm if that fails."""
        if self._has_more:
            self._has_more = False
            with contextlib.suppress(OSError):
                replace_whole(self._path, b"".join(list(self._known)))


def digest_of(data: bytes, signer: str, signature: bytes) -> bytes:
    """Return what a signature of some bytes by a key is kept under."""
    return blake3(
        b"\n".join((signer.encode(errors="surrogatepass"), signature.hex().encode(), data))
    ).digest()


def verified() -> Verified:
    """Return what this user knows."""
    return _in(config_folder())


@lru_cache
def _in(folder: Path) -> Verified:
    return Verified(folder / "signatures")
