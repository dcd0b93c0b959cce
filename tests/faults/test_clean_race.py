"""Runs, readers and clean-ups on one cache at once: nobody fails and nothing in use is lost.

`NBCACHE_RACE_SECONDS=600 pytest tests/faults/test_clean_race.py` for longer, and
`NBCACHE_RACE_SEED` for other ones.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.upkeep.cleaning import clean
from nbcache.model.row import Port
from nbcache.model.value import Stored
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.collect import GRACE_S, collect
from nbcache.store.files import new_ulid
from nbcache.store.fold import server_time
from nbcache.store.stock import take_stock
from nbcache.store.verify import verify
from tests.faults.clean_actor import clean_late, clean_up, run_tasks
from tests.forked import CONTEXT
from tests.store.rows import attempt, hash_of

SECONDS = float(os.environ.get("NBCACHE_RACE_SECONDS", "2"))
SEED = int(os.environ.get("NBCACHE_RACE_SEED", "1"))

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


@pytest.mark.timeout(600 + 3 * SECONDS)
def test_runs_and_clean_ups_at_once_never_fail_and_never_lose_a_result(tmp_path: Path) -> None:
    root, chance = tmp_path / "cache", random.Random(SEED)
    Cache.open(root).close()
    until = time.time() + 1 + SECONDS
    runners = [Started(run_tasks, root, SEED * 100 + n, until) for n in range(3)]
    cleaners = [Started(clean_up, root, SEED * 100 + 50 + n, until) for n in range(2)]
    killed, seen = 0, []
    while time.time() < until:
        victim = Started(clean_up, root, chance.randrange(1 << 30), until)
        victim.process.join(chance.uniform(0.05, 0.5))
        victim.process.kill()
        killed += victim.result()[0] == "killed"
        with Cache.open(root) as cache:
            seen.append(verify(cache))

    assert not [str(each) for each in seen if not each.ok]
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


@pytest.mark.timeout(600 + 3 * SECONDS)
def test_what_goes_after_the_grace_time_is_missed_by_nobody(tmp_path: Path) -> None:
    """Somebody always works, so that everything goes by way of the trash. Between two rounds the
    grace time passes: a clean-up sees all that was done before a round as older than that, and
    what runs do in the round as young, however loaded this machine is."""
    root, freed = tmp_path / "cache", 0
    with Cache.open(root) as cache, cache.activity.working():
        for number in range(3):
            blob = cache.blobs.put_bytes(b"nobody wants this again " * (number + 1))
            result = Stored(hash_of(f"{number}"), "value", "bytes", 1, blob=blob)
            cache.log.append([attempt(id=new_ulid(), outputs=(Port("y", result),))])
            clean(cache, Selection(older_than=0.0), force=True)
            evicted = time.time()
            while (barrier := server_time(root)) <= evicted:
                pass  # the clock of files goes in steps of some milliseconds
            now, until = barrier + GRACE_S, time.time() + SECONDS / 8
            late = partial(clean_late, now=now)
            cleaners = [Started(late, root, SEED * 100 + 50 + number, until) for _ in range(2)]
            runners = [Started(run_tasks, root, SEED * 100 + number, until) for _ in range(2)]
            cleaned = [each.result() for each in cleaners]
            for kind, what, _ in cleaned + [each.result() for each in runners]:
                assert kind == "done", what
            freed += sum(size for *_, size in cleaned)

        assert verify(cache).ok, verify(cache)  # looks for blobs, and so brings some back
        if SECONDS >= 20:  # a batch of the trash that a run takes from waits anew
            assert freed > 0
        clean(cache, Selection(older_than=0.0), force=True)
        for _ in range(2):  # into the trash, and out of it
            done = collect(cache, clock=lambda folder: server_time(folder) + GRACE_S + 1)
        assert done.waiting == 0
        assert verify(cache).ok, verify(cache)
        assert not take_stock(cache).unneeded()
        assert list(cache.blobs.trash.entries()) == []
