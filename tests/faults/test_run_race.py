"""Two kernels run and re-run a pipeline while others clean up: no run fails, no result is wrong.

`NBCACHE_RACE_ROUNDS=300 pytest tests/faults/test_run_race.py` for more rounds of each kernel, and
`NBCACHE_RACE_SEED` for other ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbcache.store.cache import Cache
from nbcache.store.collect import collect
from nbcache.store.stock import take_stock
from nbcache.store.verify import verify
from tests.faults.namespace import REPOSITORY
from tests.waiting import PATIENCE_S

ROUNDS = int(os.environ.get("NBCACHE_RACE_ROUNDS", "4"))
SEED = int(os.environ.get("NBCACHE_RACE_SEED", "1"))


def start(kind: str, cache: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.race_actor", kind, str(cache), str(seed)]
    return subprocess.Popen(
        [*command, str(ROUNDS)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(actor: subprocess.Popen[str]) -> dict[str, Any]:
    """Close its input, wait for its end and return what it told."""
    told, error = actor.communicate(timeout=PATIENCE_S + 20 * ROUNDS)
    assert actor.returncode == 0, error
    found: dict[str, Any] = json.loads(told)
    return found


@pytest.mark.timeout(600 + 40 * ROUNDS)
def test_runs_of_two_kernels_never_fail_nor_lose_a_result_beside_clean_ups(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    Cache.open(root).close()
    cleaners = [start("cleaner", root, SEED * 100 + 50 + number) for number in range(2)]
    kernels = [start("kernel", root, SEED * 100 + number) for number in range(2)]
    try:
        ran = [ended(each) for each in kernels]
        cleaned = [ended(each) for each in cleaners]
    finally:
        for each in (*kernels, *cleaners):
            each.kill()

    for counts in ran:
        assert counts["ignored"] == 2 * ROUNDS
        done = sum(counts.get(name, 0) for name in ("completed", "cached"))
        assert done == 11 * ROUNDS
    assert all(each["times"] > 0 for each in cleaned)
    with Cache.open(root) as cache:
        assert verify(cache).ok, verify(cache)
        collect(cache)
        stock = take_stock(cache)
        assert stock.blobs.keys() == stock.needs().keys()
        assert list(cache.blobs.trash.entries()) == []
    print(f"runs: {ran}; clean-ups: {cleaned}")
