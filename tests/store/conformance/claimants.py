"""Processes that compute what is theirs to compute, and wait for what is not.

Run as a program: one claimant. Writes to a log, one line each: "run HASH" before it computes,
"got HASH ROW" when it has a result, its own or another's.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nbcache.errors import RemoteStoreError
from nbcache.model.digest import Digest
from nbcache.store.remote.leases import Done, Heartbeat, Held, Lease, Leases
from tests.store.conformance.places import Place

BEAT_S = 0.5
THREADS = 6


class Claimant:
    """Goes through hashes in an order of its own."""

    def __init__(self, place: Place, log: Path, *, stale_s: float, hangs_at: str) -> None:
        self._store = place.open()
        self._heartbeat = Heartbeat(self._store, beat_s=BEAT_S)
        self._leases = Leases(self._store, self._heartbeat, host="h", user="u", stale_s=stale_s)
        self._file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._hangs_at = hangs_at

    def work(self, hashes: list[Digest]) -> None:
        self._heartbeat.start()
        random.shuffle(hashes)
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(self._one, hashes))
        self._heartbeat.stop()
        self._store.close()

    def _one(self, hash: Digest) -> None:
        found: Lease | Held | Done | None = None
        while True:
            try:
                found = self._leases.look(found) if isinstance(found, Held) else found
                found = found or self._leases.claim(hash, "fit")
                if isinstance(found, Lease):
                    self._compute(found)
                    return
            except RemoteStoreError:
                continue
            if isinstance(found, Done):
                self._say(f"got {hash} {found.row.decode()}")
                return
            threading.Event().wait(0.1)

    def _compute(self, lease: Lease) -> None:
        self._say(f"run {lease.hash}")
        if self._hangs_at and lease.hash.endswith(self._hangs_at):
            threading.Event().wait()
        threading.Event().wait(0.05)
        row = f"row-of-{lease.hash}"
        while True:
            try:
                self._leases.end(lease, row.encode())
                break
            except RemoteStoreError:
                continue
        self._say(f"got {lease.hash} {row}")

    def _say(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


def hashes(count: int) -> list[Digest]:
    return [Digest(f"xxh3:{number:032x}") for number in range(count)]


def skew_clock(seconds: float) -> None:
    """Let this process's clocks of the day be wrong."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)


def main() -> None:
    job: dict[str, Any] = json.loads(sys.argv[1])
    skew_clock(job["skew_s"])
    place = Place(job["url"], job["options"])
    claimant = Claimant(place, Path(job["log"]), stale_s=job["stale_s"], hangs_at=job["hangs_at"])
    claimant.work(hashes(job["count"]))


if __name__ == "__main__":
    main()
