"""Which local modules of this kernel may be older than their files.

A fingerprint is made of files; a cell uses what is loaded. A module is trusted if its file was not
touched since the kernel began the cell in which it was loaded (or loaded anew: `importlib.reload`
gives it a new spec). What is loaded while its file is being edited counts as stale; where files
have whole seconds for times, while it may have been.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from functools import cache

_SECOND_NS = 1_000_000_000


class LoadedModules:
    """Notes when modules turn up. Tell it when a cell begins."""

    def __init__(self) -> None:
        # What is loaded next was loaded after this (ns since 1970); None: since the start.
        self._since: int | None = None
        self._seen: dict[str, tuple[object, int | None]] = {}
        self.cell_begins()

    def cell_begins(self) -> None:
        """Note what the cell before has loaded."""
        self._note()
        self._since = time.time_ns()

    def stale(self, files: Mapping[str, str]) -> str:
        """Return the first of these modules (name -> file) that may be older than its file."""
        self._note()
        for name, path in files.items():
            module = sys.modules.get(name)
            if module is None:
                continue  # it will be loaded as it is now
            _, since = self._seen[name]
            try:
                found = os.stat(path)
            except OSError:
                return name
            changed = max(found.st_mtime_ns, found.st_ctime_ns)
            if changed % _SECOND_NS == 0:
                changed += _SECOND_NS - 1  # at the latest (sshfs, some NFS servers)
            if changed >= (_start() if since is None else since):
                return name
        return ""

    def _note(self) -> None:
        for name, module in sys.modules.copy().items():  # others import meanwhile
            spec = getattr(module, "__spec__", None)
            known = self._seen.get(name)
            if known is None or known[0] is not spec:
                self._seen[name] = (spec, self._since)


@cache
def _start() -> int:
    """Return when this process began, in nanoseconds since 1970."""
    import psutil

    return int(psutil.Process().create_time() * _SECOND_NS)
