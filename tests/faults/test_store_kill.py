"""Processes that use one cache together are killed at random moments; no promise may break.

`NBCACHE_KILL_ROUNDS=500 pytest tests/faults/test_store_kill.py` for more rounds, and
`NBCACHE_KILL_SEED` for other ones.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from nbcache.model.row import row_from_record
from nbcache.store import history
from nbcache.store.cache import Cache
from nbcache.store.verify import verify
from tests.faults.store_actor import act

ROUNDS = int(os.environ.get("NBCACHE_KILL_ROUNDS", "30"))
SEED = int(os.environ.get("NBCACHE_KILL_SEED", "1"))
PER_CACHE = 10  # rounds on one cache, so that later ones meet what earlier ones left


def killed_round(root: Path, seed: int) -> list[tuple[str, Any]]:
    """Start two processes, kill each at a random moment, return what they announced."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.store_actor"])
    chance = random.Random(seed)
    actors = []
    for actor in range(2):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=act, args=(str(root), seed * 10 + actor, writer))
        process.start()
        writer.close()
        actors.append((process, reader, chance.uniform(0, 0.25)))
    told: list[tuple[str, Any]] = []
    began: dict[Connection, float] = {}
    alive = {reader: (process, delay) for process, reader, delay in actors}
    while alive:
        now = time.monotonic()
        due = [began[each] + alive[each][1] - now for each in alive if each in began]
        for ready in wait(list(alive), timeout=max(0.0, min(due, default=30.0))):
            assert isinstance(ready, Connection)
            try:
                told.append(ready.recv())
                began.setdefault(ready, time.monotonic())
            except (EOFError, OSError):
                alive.pop(ready)[0].join()
        for reader, start in began.items():
            if reader in alive and time.monotonic() >= start + alive[reader][1]:
                alive[reader][0].kill()
    return told


def check(root: Path, announced: dict[str, Any], evicted: set[str], evicting: set[str]) -> None:
    """Everything that was announced is there, and nothing else is wrong.

    evicting: hashes whose eviction had begun; they are evicted or not, and that for good.
    """
    cache = Cache.open(root)
    report = verify(cache)
    assert report.ok, report
    records = {record["id"]: record for record in cache.log.records()}
    for row_id, record in announced.items():
        assert records.get(row_id) == record, f"row {row_id} is lost or changed"
        if record["kind"] == "attempt":
            entry = cache.log.find(record["hash"])
            if record["hash"] in evicted:
                assert entry is None
                continue
            if entry is None and record["hash"] in evicting:
                evicted.add(record["hash"])
                continue
            row = row_from_record(record)
            assert entry is not None, f"hash {record['hash']} is lost"
            assert entry.outputs == row.outputs  # type: ignore[union-attr]


@pytest.mark.timeout(600 + 5 * ROUNDS)
def test_nothing_announced_is_lost_and_nothing_half_written_is_read(tmp_path: Path) -> None:
    announced: dict[str, Any] = {}
    evicted: set[str] = set()
    evicting: set[str] = set()
    total = 0
    for number in range(ROUNDS):
        root = tmp_path / f"cache{number // PER_CACHE}"
        if number % PER_CACHE == 0:
            total += len(announced)
            announced, evicted, evicting = {}, set(), set()
        for kind, what in killed_round(root, SEED * 1_000_000 + number):
            assert kind != "error", what
            if kind == "row":
                announced[what["id"]] = what
            elif kind == "evicting":
                evicting.add(what)
            elif kind == "evict":
                evicted.add(what)
            else:
                assert what >= 0
        check(root, announced, evicted, evicting)
        if number % PER_CACHE == PER_CACHE - 1:
            fold_all_and_check(root, announced, evicted, evicting)
    print(f"{ROUNDS} rounds, {total + len(announced)} rows announced")
    assert total + len(announced) > ROUNDS


def fold_all_and_check(
    root: Path, announced: dict[str, Any], evicted: set[str], evicting: set[str]
) -> None:
    """After all the kills, one process folds and compacts everything: still the same rows."""
    cache = Cache.open(root)
    cache.log.fold()
    cache.log.compact(grace_s=-1.0)
    assert os.listdir(root / "journal") == []
    assert len(list((root / "log").glob("*.keys.parquet"))) == 1
    check(root, announced, evicted, evicting)
    connection = history.connect(cache, live=False)
    ids = {row_id for (row_id,) in connection.execute("SELECT id FROM _rows").fetchall()}
    assert announced.keys() <= ids
    (counted,) = connection.execute("SELECT count(*) FROM _rows").fetchall()[0]
    assert counted == len(ids)
