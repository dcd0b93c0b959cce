"""Kernels, supervisors and workers are killed at random moments of a run: what was announced is
found and not run again, nothing is half, nobody outlives the kernel.

`NBCACHE_KILL_ROUNDS=500 pytest tests/faults/test_kernel_kill.py` for more rounds.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from nbcache.model.digest import Digest
from nbcache.store.cache import Cache
from nbcache.store.claims import Claims
from nbcache.store.verify import verify
from tests.waiting import PATIENCE_S

ROUNDS = int(os.environ.get("NBCACHE_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("NBCACHE_KILL_SEED", "1"))
PER_CACHE = 8
REPOSITORY = Path(__file__).resolve().parent.parent.parent
VICTIMS = ("kernel", "kernel", "supervisor", "worker")


@dataclass
class Seen:
    """What one kernel said before it died: hash -> outcome, how its run ended ("": it did not)."""

    announced: dict[str, str] = field(default_factory=dict)
    status: str = ""
    children: list[psutil.Process] = field(default_factory=list)


class Actor:
    """A kernel in a process of its own, and what it has said so far."""

    def __init__(self, cache: Path, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.kernel_actor", str(cache), str(seed)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._told = bytearray()

    def read_until(self, word: bytes, seconds: float) -> bool:
        """Read what it says until a line begins with `word`; False if the time is over before."""
        assert self.process.stdout is not None
        until = time.monotonic() + seconds
        while not any(line.startswith(word) for line in self._told.split(b"\n")[:-1]):
            with selectors.DefaultSelector() as selector:  # `select` knows small descriptors only
                selector.register(self.process.stdout, selectors.EVENT_READ)
                if not selector.select(max(0.0, until - time.monotonic())):
                    return False
            piece = os.read(self.process.stdout.fileno(), 65_536)
            if not piece:
                return False
            self._told += piece
        return True

    def kill_one(self, victim: str, chance: random.Random) -> None:
        """Kill this kernel's supervisor or one of its workers, if there is one by now."""
        children = psutil.Process(self.process.pid).children()
        if victim == "worker":
            children = [worker for each in children for worker in each.children()]
        if children:
            chance.choice(children).kill()

    def end(self) -> Seen:
        """Kill the kernel and return what it had said."""
        seen = Seen(children=psutil.Process(self.process.pid).children(recursive=True))
        self.process.send_signal(signal.SIGKILL)
        assert self.process.stdout is not None
        self._told += self.process.stdout.read()  # what it had written before it died
        self.process.communicate()
        for line in bytes(self._told).decode().rpartition("\n")[0].split("\n"):
            word, _, rest = line.partition(" ")
            if word.startswith("xxh3:"):
                seen.announced[word] = rest
            elif word == "done":
                seen.status = rest
        return seen


def run_and_kill(cache: Path, seed: int, victim: str, chance: random.Random) -> Seen:
    """Kill somebody at a random moment of a run; a kernel that survives it ends its run first."""
    actor = Actor(cache, seed)
    assert actor.read_until(b"started", PATIENCE_S)
    actor.read_until(b"done", chance.uniform(0, 1.2))
    if victim != "kernel":
        actor.kill_one(victim, chance)
        assert actor.read_until(b"done", PATIENCE_S), f"the run did not survive its {victim}"
    return actor.end()


@pytest.mark.parametrize("group", range((ROUNDS + PER_CACHE - 1) // PER_CACHE))
def test_whoever_is_killed_nothing_announced_is_lost_or_run_again(
    group: int, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    chance = random.Random(SEED * 1000 + group)
    announced: set[str] = set()
    rounds = min(PER_CACHE, ROUNDS - group * PER_CACHE)
    for number in range(rounds):
        seen = run_and_kill(cache, number // 2, chance.choice(VICTIMS), chance)
        check(cache, seen, announced)
    actor = Actor(cache, (rounds - 1) // 2)  # one that nobody kills: it goes on and succeeds
    assert actor.read_until(b"done", PATIENCE_S)
    seen = actor.end()
    assert seen.status == "succeeded"
    assert len(seen.announced) >= 100  # 40 + 40 + 40 + 1, some of them with equal hashes
    check(cache, seen, announced)


def check(cache: Path, seen: Seen, announced: set[str]) -> None:
    """Hold what a kernel left behind against what it and those before it announced."""
    _, alive = psutil.wait_procs(seen.children, timeout=PATIENCE_S)
    assert not alive, f"workers outlived their kernel: {alive}"
    again = {name for name in announced if seen.announced.get(name) == "completed"}
    assert not again, f"announced earlier and run again: {again}"
    announced |= seen.announced.keys()
    with Cache.open(cache) as opened:
        report = verify(opened)
        assert not report.problems, report.problems
        opened.log.refresh()
        for name in announced:
            entry = opened.log.find(Digest(name))
            assert entry is not None, f"{name} was announced and is lost"
            for port in entry.outputs:
                if port.stored.blob is not None:
                    assert opened.blobs.verify(port.stored.blob)
        claims = Claims(cache)
        assert all(claims.try_claim(Digest(name)) for name in announced), "a claim is still held"
        claims.close()
