"""Which local modules of this kernel may be older than their files.

A fingerprint is made of files; a cell uses what is loaded. A module is trusted if its file was not
touched since the kernel began the cell in which it was loaded (or loaded anew: `importlib.reload`
gives it a new spec). What is loaded while its file is being edited counts as stale.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from functools import cache


class LoadedModules:
    """Notes when modules turn up. Tell it when a cell begins."""

    def __init__(self) -> None:
        # What is loaded next was loaded after this (seconds since 1970); None: since the start.
        self._since: float | None = None
        self._seen: dict[str, tuple[object, float | None]] = {}
        self.cell_begins()

    def cell_begins(self) -> None:
        """Note what the cell before has loaded."""
        self._note()
        self._since = time.time()

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
            if max(found.st_mtime, found.st_ctime) >= (_start() if since is None else since):
                return name
        return ""

    def _note(self) -> None:
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            known = self._seen.get(name)
            if known is None or known[0] is not spec:
                self._seen[name] = (spec, self._since)


@cache
def _start() -> float:
    """Return when this process began, in seconds since 1970."""
    import psutil

    return float(psutil.Process().create_time())
