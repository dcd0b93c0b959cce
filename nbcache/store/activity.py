"""Who works on a cache at this moment: locks that live as long as their process.

A clean-up asks two things. Did a moment pass in which nobody worked? Then whatever was kept before
it has its row, and blobs that no row needs can go at once; else they wait for the grace time. And
does somebody work without leaving rows? Then nothing may be taken from under him. Workers never
wait for one another: they share the lock, and a clean-up holds it for an instant.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from nbcache.store.files import close_in_children, open_lock
from nbcache.store.journal import is_of_this_boot

RECORDED, UNRECORDED = "working", "unrecorded"
_OTHER_HOSTS_S = 86_400.0  # a journal of another host or boot that is younger may have a writer


class Activity:
    """The shared locks of one process on one cache. Thread-safe; freed by death."""

    def __init__(self, root: str | os.PathLike[str], *, read_only: str | None = None) -> None:
        self._root = Path(root)
        self._paths = {each: os.path.join(root, "claims", each) for each in (RECORDED, UNRECORDED)}
        self._read_only = read_only
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}  # name -> descriptor, how often
        close_in_children(self)

    @contextlib.contextmanager
    def working(self, *, recorded: bool = True) -> Iterator[None]:
        """Hold while blobs are kept or read that no row names yet.

        recorded: rows will name all that is used; else nothing is deleted meanwhile.
        """
        names = (RECORDED,) if recorded else (RECORDED, UNRECORDED)
        for name in names:
            self._take(name)
        try:
            yield
        finally:
            for name in names:
                self._give_back(name)

    @contextlib.contextmanager
    def quiet(self, *, rows_suffice: bool = False) -> Iterator[bool]:
        """Keep work from beginning for as long as this is held; gives False where some goes on,
        of this process too.

        rows_suffice: only work that leaves no rows counts.
        """
        if self._read_only is not None or (not rows_suffice and self._has_foreign_journals()):
            yield False
            return
        try:
            descriptor = open_lock(self._paths[UNRECORDED if rows_suffice else RECORDED])
        except OSError:
            yield False
            return
        try:
            yield _lock_alone(descriptor)
        finally:
            os.close(descriptor)

    def close_in_child(self) -> None:
        """Let go of the parent's locks in a forked child."""
        self._lock = threading.Lock()
        for descriptor, _ in self._held.values():
            os.close(descriptor)
        self._held = {}

    def _take(self, name: str) -> None:
        if self._read_only is not None:
            return
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                self._held[name] = (held[0], held[1] + 1)
                return
            try:
                descriptor = open_lock(self._paths[name])
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            except OSError:
                return  # the cache was deleted: whoever writes to it will say so
            self._held[name] = (descriptor, 1)

    def _give_back(self, name: str) -> None:
        with self._lock:
            held = self._held.pop(name, None)
            if held is None:
                return
            if held[1] > 1:
                self._held[name] = (held[0], held[1] - 1)
            else:
                os.close(held[0])

    def _has_foreign_journals(self) -> bool:
        """Say whether somebody may be writing whose locks are not seen here."""
        now = time.time()
        with contextlib.suppress(OSError), os.scandir(self._root / "journal") as entries:
            for entry in entries:
                if not is_of_this_boot(entry.name):
                    with contextlib.suppress(OSError):
                        if now - entry.stat().st_mtime < _OTHER_HOSTS_S:
                            return True
        return False


def _lock_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
