"""Kernels are killed at random moments of a run: what was announced is found, nothing is half.

`NBCACHE_KILL_ROUNDS=500 pytest tests/faults/test_kernel_kill.py` for more rounds.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nbcache.model.digest import Digest
from nbcache.store.cache import Cache
from nbcache.store.verify import verify

ROUNDS = int(os.environ.get("NBCACHE_KILL_ROUNDS", "8"))
SEED = int(os.environ.get("NBCACHE_KILL_SEED", "1"))
PER_CACHE = 8
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def run_and_kill(cache: Path, seed: int, after_s: float) -> tuple[list[str], list[psutil.Process]]:
    """Kill a kernel `after_s` seconds into its run; return what it announced and its children."""
    actor = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.kernel_actor", str(cache), str(seed)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert actor.stdout is not None
    told = bytearray()
    kill_at: float | None = None
    children: list[psutil.Process] = []
    while True:
        wait = 60.0 if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready, _, _ = select.select([actor.stdout], [], [], wait)
        if not ready:
            break
        piece = os.read(actor.stdout.fileno(), 65_536)
        if not piece:
            break
        told += piece
        if kill_at is None and b"started\n" in told:
            kill_at = time.monotonic() + after_s
        if kill_at is not None and time.monotonic() >= kill_at:
            break
    children = psutil.Process(actor.pid).children(recursive=True)
    actor.send_signal(signal.SIGKILL)
    told += actor.stdout.read()  # what it had written before it died
    actor.communicate()
    whole = bytes(told).decode().rpartition("\n")[0]
    return whole.split("\n"), children


@pytest.mark.parametrize("group", range((ROUNDS + PER_CACHE - 1) // PER_CACHE))
def test_a_killed_kernel_loses_nothing_that_it_announced(group: int, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    chance = random.Random(SEED * 1000 + group)
    announced: set[str] = set()
    for number in range(min(PER_CACHE, ROUNDS - group * PER_CACHE)):
        lines, children = run_and_kill(cache, number // 2, chance.uniform(0, 1.2))
        announced |= {line.split()[0] for line in lines if line.startswith("xxh3:")}
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, f"workers outlived their kernel: {alive}"
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
    assert announced
