"""Two kernels run and re-run a pipeline while others clean up: no run fails, no result is wrong.

`NBCACHE_RACE_ROUNDS=300 pytest tests/faults/test_run_race.py` for more rounds of each kernel, and
`NBCACHE_RACE_SEED` for other ones.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nbcache.store.cache import Cache
from nbcache.store.collect import collect
from nbcache.store.stock import take_stock
from nbcache.store.verify import verify
from tests.forked import Forked
from tests.waiting import PATIENCE_S

ROUNDS = int(os.environ.get("NBCACHE_RACE_ROUNDS", "3"))
SEED = int(os.environ.get("NBCACHE_RACE_SEED", "1"))


def start(kind: str, cache: Path, seed: int) -> Forked:
    words = kind, str(cache), str(seed), str(ROUNDS)
    return Forked(cache.parent, f"{kind}-{seed}", "tests.faults.race_actor", *words)


def ended(actor: Forked) -> dict[str, Any]:
    """Wait for its end and return what it told."""
    found: dict[str, Any] = json.loads(actor.ended(PATIENCE_S + 20 * ROUNDS))
    return found


@pytest.mark.timeout(600 + 40 * ROUNDS)
def test_runs_of_two_kernels_never_fail_nor_lose_a_result_beside_clean_ups(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    Cache.open(root).close()
    cleaners = [start("cleaner", root, SEED * 100 + 50 + number) for number in range(2)]
    kernels = [start("kernel", root, SEED * 100 + number) for number in range(2)]
    try:
        ran = [ended(each) for each in kernels]
        (tmp_path / "stop").touch()
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
