"""Measure the store, each figure beside its budget and as a ratio to the cheapest way there is.

python -m tests.bench.bench_store [--million]
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from xxhash import xxh3_128

from nbcache.store import history, index
from nbcache.store.cache import Cache
from nbcache.store.index import SegmentIndex, hash_key
from nbcache.store.journal import encode_row
from tests.bench.figure import Figure, main
from tests.store.rows import attempt, hash_of, use

ROWS = 10_000
FILE_BYTES = 512 << 20
QUERY = "SELECT process, count(*), avg(realtime) FROM tasks GROUP BY process"


T = TypeVar("T")


def each(items: Iterable[T], work: Callable[[T], None]) -> None:
    """Do the same with every item."""
    for item in items:
        work(item)


def timed(work: Callable[[], object], repeat: int = 3) -> float:
    """Return the best wall time of a few tries, in seconds."""
    best = float("inf")
    for _ in range(repeat):
        gc.collect()
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def let_clock_pass(seconds: float) -> None:
    """Return when the clock is so much further on."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        os.sched_yield()


def fresh(code: str, *arguments: str) -> float:
    """Run code in a new interpreter; return the least number that it prints in three tries."""
    command = [sys.executable, "-c", code, *arguments]
    return min(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )


def measure_log(root: Path) -> Iterator[Figure]:
    cache = Cache.open(root)
    yield Figure(
        name="open an existing cache, ms", value=timed(lambda: Cache.open(root)) * 1e3, budget=5
    )
    rows = [attempt(str(i), process=f"p{i % 5}") for i in range(ROWS)]
    uses = [use(row) for row in rows]
    lines = [encode_row(row) for row in rows]
    with open(root / "tmp" / "raw", "ab", buffering=0) as raw:
        plain = timed(lambda: [raw.write(line) for line in lines], 1)
    one = timed(lambda: each(rows, lambda row: cache.log.append([row])), 1)
    yield Figure(
        name="append an attempt row, us",
        value=one / ROWS * 1e6,
        peers={"write()": plain / ROWS * 1e6},
    )
    many = timed(lambda: cache.log.append(uses), 1)
    yield Figure(name="append a use row in a batch, us", value=many / ROWS * 1e6)
    other = Cache.open(root)
    yield Figure(name="notice 20,000 unfolded rows, ms", value=timed(other.log.refresh, 1) * 1e3)
    cache.log.rotate()
    yield Figure(name="fold 20,000 rows, ms", value=timed(cache.log.fold, 1) * 1e3)
    let_clock_pass(0.2)  # the folders' times have to be old enough to be trusted
    other.log.refresh()
    yield Figure(
        name="refresh, nothing changed, us",
        value=timed(lambda: each(range(100), lambda _: other.log.refresh())) * 1e4,
        budget=50,
    )
    keys = [row.hash for row in rows]
    table = {row.hash: row for row in rows}
    plain = timed(lambda: [table[key] for key in keys])
    found = timed(lambda: [other.log.find(key) for key in keys])
    yield Figure(
        name="find among 10,000, us",
        value=found / ROWS * 1e6,
        budget=10,
        peers={"dict": plain / ROWS * 1e6},
    )
    absent = [hash_of(f"absent {i}") for i in range(ROWS)]
    missing = timed(lambda: [other.log.find(key) for key in absent])
    yield Figure(name="find nothing among 10,000, us", value=missing / ROWS * 1e6)
    code = (
        "import sys, time; from nbcache.store.cache import Cache\n"
        "began = time.perf_counter(); log = Cache.open(sys.argv[1]).log; log.refresh()\n"
        "log.find(sys.argv[2]); print((time.perf_counter() - began) * 1e3)"
    )
    yield Figure(
        name="fresh process: open, load 10,000, find, ms",
        value=fresh(code, str(root), keys[0]),
        budget=10,
    )
    total = sum(path.stat().st_size for path in (root / "log").iterdir())
    yield Figure(name="bytes of a segment per attempt and use row", value=total / ROWS)


def measure_history(root: Path) -> Iterator[Figure]:
    cache = Cache.open(root)
    connection = history.connect(cache, live=False)
    query = timed(lambda: connection.execute(QUERY).fetchall(), 10)
    yield Figure(name="counts and means over 20,000 tasks, ms", value=query * 1e3, budget=10)
    code = (
        "import sys, time; began = time.perf_counter()\n"
        "from nbcache.store.cache import Cache; from nbcache.store import history\n"
        f"history.connect(Cache.open(sys.argv[1])).execute('{QUERY}').fetchall()\n"
        "print(time.perf_counter() - began)"
    )
    yield Figure(name="the same in a fresh process, s", value=fresh(code, str(root)), budget=0.5)


def measure_files(root: Path) -> Iterator[Figure]:
    cache = Cache.open(root)
    big = root / "tmp" / "big"
    block = os.urandom(1 << 20)
    with open(big, "wb") as file:
        for _ in range(FILE_BYTES >> 20):
            file.write(block)
    memory = block * 64
    in_memory = len(memory) / timed(lambda: xxh3_128(memory).digest()) / 1e9

    def read() -> None:
        buffer = bytearray(1 << 20)
        with open(big, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    reading = FILE_BYTES / timed(read) / 1e9
    table = cache.files

    def digest() -> None:
        os.utime(big)
        table.digest(big)

    speed = FILE_BYTES / timed(digest) / 1e9
    yield Figure(
        name="digest a large file, page-cached, GB/s",
        value=speed,
        budget=10,
        most=True,
        peers={"reading": reading, "hashing in memory": in_memory},
    )
    paths = []
    for number in range(200):
        paths.append(root / "tmp" / f"small{number}")
        paths[-1].write_bytes(block)
    let_clock_pass(0.05)  # files have to be older than the clock's resolution
    table.digests(paths)
    code = (
        "import sys, time; from nbcache.store.cache import Cache\n"
        "paths = sys.argv[2:]; began = time.perf_counter()\n"
        "Cache.open(sys.argv[1]).files.digests(paths)\n"
        "print((time.perf_counter() - began) * 1e3)"
    )
    yield Figure(
        name="200 known files in a fresh process, ms",
        value=fresh(code, str(root), *map(str, paths)),
        budget=30,
    )

    def put() -> float:
        big.rename(cache.work / "x")
        began = time.perf_counter()
        kept = cache.blobs.put_file(cache.work / "x")
        took = time.perf_counter() - began
        os.replace(cache.blobs.path(kept.blob), big)
        return took

    yield Figure(
        name="keep a large file, GB/s", value=FILE_BYTES / min(put(), put()) / 1e9, most=True
    )
    claims = cache.claims
    pairs = timed(lambda: [claims.try_claim(k).release() for k in names])  # type: ignore[union-attr]
    yield Figure(name="claim and release, us", value=pairs / len(names) * 1e6)


names = [hash_of(str(i)) for i in range(1000)]


def measure_million(root: Path) -> Iterator[Figure]:
    """One segment's index with a million entries."""
    count = 1_000_000
    data = index.build(
        (
            (
                {
                    "kind": "attempt", "id": f"{i:026}", "hash": hash_of(str(i)),
                    "status": "completed", "at": 1, "run": "R", "realtime": 0.5,
                    "outputs": [{"name": "y", "digest": "xxh3:0", "kind": "value", "codec": "text",
                                 "size": 2, "inline": "gHg="}],
                },
                i,
            )
            for i in range(count)
        ),
        {"rows": count},
    )  # fmt: skip
    path = root / "million.idx"
    path.write_bytes(data)
    del data
    opened = timed(lambda: SegmentIndex.open(path))
    yield Figure(name="open an index of 1,000,000, ms", value=opened * 1e3, budget=100)
    found = SegmentIndex.open(path)
    keys = [hash_key(hash_of(str(i))) for i in range(0, count, 100)]
    took = timed(lambda: [found.find(key)[0] for key in keys])
    yield Figure(name="look up in it, us", value=took / len(keys) * 1e6, budget=10)


def measure(quick: bool) -> Iterator[Figure]:
    """Yield the figures; with `quick` without the index of a million."""
    with tempfile.TemporaryDirectory() as folder:
        yield from measure_log(Path(folder) / "cache")
        yield from measure_history(Path(folder) / "cache")
        yield from measure_files(Path(folder) / "cache")
        if not quick:
            yield from measure_million(Path(folder))


if __name__ == "__main__":
    main(measure)
