"""Runs, readers and clean-ups on one cache at once: nobody fails and nothing in use is lost.

`NBCACHE_RACE_SECONDS=600 pytest tests/faults/test_clean_race.py` for longer, and
`NBCACHE_RACE_SEED` for other ones.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from nbcache.store.cache import Cache
from nbcache.store.collect import collect
from nbcache.store.stock import take_stock
from nbcache.store.verify import verify
from tests.faults.clean_actor import clean_up, run_tasks

SECONDS = float(os.environ.get("NBCACHE_RACE_SECONDS", "4"))
SEED = int(os.environ.get("NBCACHE_RACE_SEED", "1"))
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.clean_actor"])

Actor = Callable[[str, int, float, Connection], None]


class Started:
    """One process at work."""

    def __init__(self, actor: Actor, root: Path, seed: int, until: float) -> None:
        self.pipe, theirs = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=actor, args=(str(root), seed, until, theirs))
        self.process.start()
        theirs.close()

    def result(self) -> tuple[Any, ...]:
        """Wait for its end; None where it was killed."""
        try:
            told: tuple[Any, ...] = self.pipe.recv()
        except EOFError:
            told = ("killed", 0, 0)
        self.process.join()
        return told


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_runs_and_clean_ups_at_once_never_fail_and_never_lose_a_result(tmp_path: Path) -> None:
    root, chance = tmp_path / "cache", random.Random(SEED)
    Cache.open(root).close()
    until = time.time() + 1 + SECONDS
    runners = [Started(run_tasks, root, SEED * 100 + n, until) for n in range(3)]
    cleaners = [Started(clean_up, root, SEED * 100 + 50 + n, until) for n in range(2)]
    killed = 0
    while time.time() < until:
        victim = Started(clean_up, root, chance.randrange(1 << 30), until)
        victim.process.join(chance.uniform(0.05, 0.5))
        victim.process.kill()
        killed += victim.result()[0] == "killed"

    ended = [each.result() for each in runners]
    cleaned = [each.result() for each in cleaners]

    for kind, what, _ in ended + cleaned:
        assert kind == "done", what
    assert all(runs > 0 for _, runs, _ in ended)
    if SECONDS >= 20:  # a loaded machine does little in less
        assert sum(hits for *_, hits in ended) > 0
        assert killed
        assert sum(freed for *_, freed in cleaned) > 0, "no clean-up found a moment to delete in"
    with Cache.open(root) as cache:
        assert verify(cache).ok, verify(cache)
        collect(cache)
        stock = take_stock(cache)
        assert stock.blobs.keys() == stock.needs().keys()
        assert list(cache.blobs.trash.entries()) == []
        assert verify(cache).ok, verify(cache)
    print(f"runs, hits: {ended}; clean-ups, bytes: {cleaned}; {killed} killed")
