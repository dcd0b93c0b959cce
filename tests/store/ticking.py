"""A clock for races around a shared cache: it goes on when all who work there have begun anew.

A clean-up relies on this: what anybody does in one go takes less than a grace time. No number of
seconds is sure to be that on a busy machine. So time is counted in ticks here, and a tick has to
wait while somebody is at work who began a grace time ago. Hours and machines of any speed fit in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from nbcache.store.remote.opening import open_store
from nbcache.store.remote.protocol import Entry, Store
from tests.servers.clouds import CLOUDS

GRACE = 2  # ticks
TICK_US = 1_000_000
GRACE_US = GRACE * TICK_US
PATIENT_S = 120.0
STORES = os.environ.get("NBCACHE_TEST_STORES", "folder s3").split()
"""Those that races are run on: "folder", "s3", "gcs", "azure"."""


class Ticks:
    """The time that all processes of one race have in common; it lies in a folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "ticks"
        self.folder.mkdir(exist_ok=True)
        self._time = self.folder / "time"  # a byte for each tick
        with contextlib.suppress(FileExistsError):
            os.symlink(str(time.time_ns() // 1000), self.folder / "began")
        self._began_us = int(os.readlink(self.folder / "began"))

    def now_us(self) -> int:
        """Return the time of the server, microseconds since 1970."""
        return self._began_us + self._now() * TICK_US

    def leap(self, by_us: int) -> None:
        """Let much time pass at once, or take it back, while nobody is at work."""
        began = self.folder / "began"
        began.unlink()
        os.symlink(str(self._began_us + by_us), began)

    def _now(self) -> int:
        return self._time.stat().st_size if self._time.exists() else 0

    @contextlib.contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        """Let less than a grace time pass until this ends, or `begin` is called again."""
        self.begin(name)
        try:
            yield
        finally:
            (self.folder / f"at-{name}").unlink()

    def begin(self, name: str) -> None:
        """Note that somebody begins anew, whom the clock heeds from now on."""
        new = self.folder / f"new-{name}"
        new.write_text(str(self._now()))
        new.replace(self.folder / f"at-{name}")

    def tick(self) -> bool:
        """Let the clock go on by one, if nobody works for so long already."""
        with open(self._time, "ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = self._now()
            begun = [now]
            for place in self.folder.glob("at-*"):
                with contextlib.suppress(FileNotFoundError):  # he has just ended
                    begun.append(int(place.read_text()))
            goes = now + 1 < min(begun) + GRACE
            if goes:
                file.write(b".")
        return goes

    def wait_for_tick(self, ended: Callable[[], bool]) -> None:
        """Let the clock go on by one as soon as it can, unless all has ended."""
        pause = threading.Event()
        while not self.tick() and not ended():
            pause.wait(0.01)


class TickingStore:
    """A store whose server has such a clock, `ahead_us` further on.

    What was written while nobody noted when counts as new.
    """

    def __init__(self, store: Store, ticks: Ticks, ahead_us: int = 0) -> None:
        self._store, self._ticks, self._ahead_us = store, ticks, ahead_us
        self.url, self.backend, self.atomic_create = store.url, store.backend, store.atomic_create
        self._stamps = ticks.folder / "stamps"
        self._stamps.mkdir(exist_ok=True)
        self.get, self.get_file = store.get, store.get_file
        self.delete, self.close = store.delete, store.close
        self.give_up = store.give_up
        self._uploads: dict[tuple[str, str], int] = {}  # by key and version: when first seen

    def put(self, key: str, data: bytes) -> None:
        with self._stamping(key):
            self._store.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        wrote = self._store.put_if_absent(key, data)
        if wrote:
            with self._stamping(key):
                pass
        return wrote

    def put_file(self, key: str, path: Path) -> None:
        with self._stamping(key):
            self._store.put_file(key, path)

    def head(self, key: str) -> Entry:
        return self._stamped(self._store.head(key))

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        return map(self._stamped, self._store.list(prefix, start_after))

    def unfinished(self) -> Iterator[Entry]:
        """Count an upload as begun when it was first seen: a moment too late, never too early."""
        entries = {(each.key, each.version): each for each in self._store.unfinished()}
        now = self._ticks.now_us()
        self._uploads = {each: self._uploads.get(each, now) for each in entries}
        return (
            replace(entries[each], modified_us=at + self._ahead_us)
            for each, at in self._uploads.items()
        )

    def server_time(self) -> int:
        return self._ticks.now_us() + self._ahead_us

    @contextlib.contextmanager
    def _stamping(self, key: str) -> Iterator[None]:
        """Note when an object is written, once it is there: a moment too late, never too early."""
        stamp = self._stamps / quote(key, safe="")
        stamp.unlink(missing_ok=True)  # until then it is new
        yield
        new = self._stamps / f"{os.getpid()}-{threading.get_ident()}"
        new.write_text(str(self._ticks.now_us()))
        new.replace(stamp)

    def _stamped(self, entry: Entry) -> Entry:
        try:
            at = int((self._stamps / quote(entry.key, safe="")).read_text())
        except FileNotFoundError:
            at = self._ticks.now_us()
        return replace(entry, modified_us=at + self._ahead_us)


def open_ticking(url: str, ticks: Ticks, ahead_us: int = 0) -> TickingStore:
    """Open a store with such a clock; it is patient."""
    return TickingStore(open_store(url, lookup_s=PATIENT_S), ticks, ahead_us)


@contextlib.contextmanager
def a_store(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the URL of an empty store, a "folder" or on the server of a cloud ("s3"), to be raced
    around by processes that this one starts."""
    if kind == "folder":
        (root / "team").mkdir()
        yield str(root / "team")
        return
    with CLOUDS[kind]() as cloud:
        cloud.enter(monkeypatch)
        yield f"{cloud.bucket}/cache"
