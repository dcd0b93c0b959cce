"""Noticing for one stat whether the names in a folder may have changed."""

from __future__ import annotations

import os
import time

from nbcache.errors import StoreError

_RACY_NS = 100_000_000  # a folder whose time is so young may change again under the same time
_RACY_COARSE_NS = 2_000_000_000  # where times are whole seconds (sshfs, some NFS servers)


class Listing:
    """Says when a folder's names may have changed, for one stat."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._trusted = -1  # the folder's time at a listing that nothing can have slipped behind

    def names(self, always: bool) -> set[str] | None:
        """Return the names, or None where they are surely those of the last call."""
        try:
            changed = os.stat(self._path).st_ctime_ns  # which nobody can set
            if changed == self._trusted and not always:
                return None
            began = time.time_ns()  # not afterwards: a busy machine may stop us in between
            names = set(os.listdir(self._path))
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise StoreError(f"cannot read {self._path}: {error.strerror}") from error
        racy = _RACY_NS if changed % 1_000_000_000 else _RACY_COARSE_NS
        self._trusted = changed if began - changed > racy else -1
        return names
