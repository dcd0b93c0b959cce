"""How fast files are hashed, and how little a file costs whose stat is known already."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from xxhash import xxh3_128

from nbcache.store.filestate import FileTable, hash_file, stat_key
from tests.bench.figure import Figure, best_of, main

MIB = 1 << 20
GIB = 1 << 30


def write_file(path: Path, size: int) -> str:
    """Write a file of random blocks (one MiB, repeated), long ago by its times."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return str(path)


def measure(quick: bool) -> Iterable[Figure]:
    """Return the speed on a large page-cached file, and the cost of known and touched files."""
    large = GIB // 8 if quick else GIB
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [write_file(folder / f"small-{k}", MIB) for k in range(200)]
        big = [write_file(folder / f"large-{k}", large) for k in range(2)]
        files += big

        in_memory = os.urandom(MIB) * 256
        memory_s = best_of(3, lambda: xxh3_128(in_memory).digest())
        file_s = best_of(3, lambda: hash_file(big[0], stat_key(big[0])))
        yield Figure(
            name="hash a large file, page-cached, GB/s",
            value=large / file_s / 1e9,
            budget=10.0,
            most=True,
            peers={"xxh3_128 of bytes in memory, GB/s": len(in_memory) / memory_s / 1e9},
        )

        wait_until_settled(files)
        (folder / "cache/filestate").mkdir(parents=True)
        table = FileTable(folder / "cache")
        table.digests(files)
        table.close()
        known_s = best_of(3, lambda: FileTable(folder / "cache").digests(files))
        yield Figure(name="200 x 1 MiB + 2 large files, known, s", value=known_s, budget=0.03)

        for file in files:
            os.utime(file, (1_700_000_001, 1_700_000_001))
        touched_s = best_of(1, lambda: FileTable(folder / "cache").digests(files))
        yield Figure(
            name=f"the same after touch ({2 * large / GIB:.2g} GiB to read), s",
            value=touched_s,
            budget=0.3,
        )


def wait_until_settled(files: list[str]) -> None:
    """Wait until the files are older than the clock's resolution, so that digests are kept."""
    probe = Path(files[0]).parent / "clock"
    newest = max(os.stat(file).st_ctime_ns for file in files)
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_ctime_ns > newest + 100_000_000:
            return


if __name__ == "__main__":
    main(measure)
