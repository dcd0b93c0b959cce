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
from collections.abc import Iterable, Mapping
from functools import cache

from nbcache.plan.identity.module_facts import ModuleFacts

_SECOND_NS = 1_000_000_000


class LoadedModules:
    """Notes when modules turn up. Tell it when a cell begins."""

    def __init__(self) -> None:
        # What is loaded next was loaded after this (ns since 1970); None: since the start.
        self._since: int | None = None
        self._seen: dict[str, tuple[object, int | None]] = {}
        self._sources: dict[str, tuple[object, ModuleFacts]] = {}  # with the spec of the module
        self.cell_begins()

    def cell_begins(self) -> None:
        """Note what the cell before has loaded."""
        self._note(list(sys.modules))
        self._since = time.time_ns()

    def stale(self, files: Mapping[str, str]) -> str:
        """Return the first of these modules (name -> file) that may be older than its file."""
        self._note(files)
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

    def source_of(self, name: str, path: str, now: ModuleFacts) -> ModuleFacts | None:
        """Return the source that a module was loaded from; `now` is what its file was found to hold
        before. None: not known."""
        spec, known = _spec_of(name), self._sources.get(name)
        if known is None or known[0] is not spec:
            known = None
        if (known is None or known[1] is not now) and not self.stale({name: path}):
            known = self._sources[name] = (spec, now)
        return None if known is None else known[1]

    def _note(self, names: Iterable[str]) -> None:
        for name in names:
            spec = _spec_of(name)
            known = self._seen.get(name)
            if known is None or known[0] is not spec:
                self._seen[name] = (spec, self._since)


def _spec_of(name: str) -> object:
    return getattr(sys.modules.get(name), "__spec__", None)


LOADED = LoadedModules()
"""Those of this process."""


@cache
def _start() -> int:
    """Return when this process began, in nanoseconds since 1970."""
    import psutil

    return int(psutil.Process().create_time() * _SECOND_NS)
