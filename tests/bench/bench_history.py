"""Questions to a history of many tasks: in a fresh process, asked again, and why one task ran."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from nbcache.engine.record.query import fetch
from nbcache.model.row import ProcessRecord, RunRow
from nbcache.store.cache import Cache
from tests.bench.figure import Figure, best_of, main
from tests.store.rows import attempt, hash_of, new_id

COUNTS = "SELECT process, count(*) AS tasks, avg(realtime) AS mean FROM tasks GROUP BY process"
WARM_S = {10_000: 0.010, 100_000: 0.020}
RUNS, PROCESSES = 10, 5


def fill(root: Path, tasks: int) -> Cache:
    """Make a cache with so many tasks in ten runs of five processes; the last run is one task."""
    cache = Cache.open(root)
    records = tuple(ProcessRecord(name=f"p{k}", components=()) for k in range(PROCESSES))
    at = 1_763_770_000_000_000
    for number in range(RUNS + 1):
        run = new_id()
        of = tasks // RUNS if number < RUNS else 1
        rows = [
            attempt(
                str(k // PROCESSES),
                run=run,
                at=at + number,
                process=f"p{k % PROCESSES}",
                hash=hash_of(f"{number} {k}"),
            )
            for k in range(of)
        ]
        row = RunRow(id=run, at=at + number, run=run, name=f"run-{number}", status="succeeded",
                     processes=records)  # fmt: skip
        cache.log.append([row, *rows])
        cache.log.rotate()
        cache.log.fold()
    cache.log.compact()
    return cache


def measure(quick: bool) -> Iterable[Figure]:
    """Return what questions cost at 10,000 tasks and at 100,000."""
    for tasks in (10_000,) if quick else (10_000, 100_000):
        with tempfile.TemporaryDirectory() as name:
            cache = fill(Path(name) / ".nbcache", tasks)
            yield from questions(cache, Path(name), tasks)


def questions(cache: Cache, folder: Path, tasks: int) -> Iterable[Figure]:
    """Return the figures of one history."""

    def shell(*words: str) -> None:
        subprocess.run([command, *words], cwd=folder, capture_output=True, check=True)

    command = os.path.join(os.path.dirname(sys.executable), "nbcache")
    yield Figure(
        name=f"counts and means over {tasks:,} tasks, fresh process, s",
        value=best_of(3, lambda: shell("sql", COUNTS)),
        budget=0.5,
    )
    began = time.perf_counter()
    fetch(cache, COUNTS)
    first = time.perf_counter() - began
    second = best_of(1, lambda: fetch(cache, COUNTS))
    kept = "SELECT 1 FROM duckdb_tables() WHERE table_name = '_tasks'"
    while not fetch(cache, kept):  # made on a thread of its own
        pass
    yield Figure(
        name=f"the same, asked again in one process, {tasks:,}, s",
        value=best_of(5, lambda: fetch(cache, COUNTS)),
        budget=WARM_S[tasks],
        peers={"the first time": first, "the second time": second},
    )
    yield Figure(
        name=f"why a task of {tasks // PROCESSES:,} earlier ones ran, fresh process, s",
        value=best_of(3, lambda: shell("why", "p0", "0")),
    )


if __name__ == "__main__":
    main(measure)
