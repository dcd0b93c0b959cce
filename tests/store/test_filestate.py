from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from nbcache.errors import InputChangedError
from nbcache.model.digest import identity_digest
from nbcache.store import filestate
from nbcache.store.cache import Cache
from nbcache.store.filestate import FileTable, hash_file, stat_key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Cache.open(tmp_path / "c").root


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read to be hashed."""
    seen: list[str] = []

    def spy(path: str, key: filestate.StatKey, until: float) -> object:
        seen.append(Path(path).name)
        return hash_file(path, key, until)

    monkeypatch.setattr(filestate, "hash_file", spy)
    return seen


def settle(path: Path) -> None:
    """Wait until the clock has left the tick in which the file was written (20 ms)."""
    while time.time_ns() <= path.stat().st_ctime_ns + filestate._RESOLUTION_NS:
        os.sched_yield()


def test_a_settled_file_is_read_once(root: Path, tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    settle(path)
    table = FileTable(root)

    assert table.digest(path) == table.digest(path) == identity_digest(b"one")
    assert FileTable(root).digest(path) == identity_digest(b"one")
    assert reads == ["x"]


def test_a_young_file_is_not_trusted(
    root: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filestate, "_RESOLUTION_NS", 3_600_000_000_000)
    path = tmp_path / "x"
    path.write_bytes(b"one")
    table = FileTable(root)

    table.digest(path)
    path.write_bytes(b"two")  # perhaps in the same tick: same size and, it may be, same times

    assert table.digest(path) == identity_digest(b"two")
    assert reads == ["x", "x"]


@pytest.mark.parametrize("change", ["content", "touch", "replace"])
def test_whatever_stat_shows_makes_it_read_again(
    root: Path, tmp_path: Path, reads: list[str], change: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    settle(path)
    table = FileTable(root)
    table.digest(path)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)

    if change == "touch":
        os.utime(path)
    elif change == "content":
        path.write_bytes(b"two")
        os.utime(path, ns=times)
    else:
        (tmp_path / "y").write_bytes(b"two")
        os.utime(tmp_path / "y", ns=times)
        (tmp_path / "y").rename(path)

    assert table.digest(path) == identity_digest(b"one" if change == "touch" else b"two")
    assert reads == ["x", "x"]


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    before = stat_key(path)
    path.write_bytes(b"other")

    with pytest.raises(InputChangedError, match="changed while"):
        hash_file(str(path), before)


def test_two_processes_share_what_they_know(root: Path, tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    settle(path)
    code = (
        "import sys; from nbcache.store.filestate import FileTable\n"
        "print(FileTable(sys.argv[1]).digest(sys.argv[2]))"
    )

    told = subprocess.run(
        [sys.executable, "-c", code, str(root), str(path)], capture_output=True, text=True
    )

    assert told.stdout.strip() == FileTable(root).digest(path), told.stderr
    assert reads == []


def test_odd_names_are_remembered_too(root: Path, tmp_path: Path, reads: list[str]) -> None:
    names = ["a b", "a\nb", "a%20b", os.fsdecode(b"\xff"), "é"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(os.fsencode(path.name))
    settle(paths[-1])

    first = FileTable(root).digests(paths)

    assert FileTable(root).digests(paths) == first
    assert len(set(first)) == len(reads) == 5


def test_a_damaged_table_costs_time_and_nothing_else(
    root: Path, tmp_path: Path, reads: list[str]
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    settle(path)
    table = FileTable(root)
    table.digest(path)
    table.close()
    (kept,) = (root / "filestate").iterdir()
    whole = kept.read_bytes()

    for damaged in (whole[:-2], whole.replace(b"xxh3:", b"xxh3:0")[:-1], b"\0" * 40 + b"\n"):
        kept.write_bytes(damaged)
        reads.clear()
        assert FileTable(root).digest(path) == identity_digest(b"one")
        assert reads == ["x"]
        for each in (root / "filestate").iterdir():
            each.unlink()


def test_many_small_tables_are_merged_and_nothing_is_forgotten(
    root: Path, tmp_path: Path, reads: list[str]
) -> None:
    paths = [tmp_path / f"x{i}" for i in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    settle(paths[-1])
    for path in paths:
        table = FileTable(root)
        table.digest(path)
        table.close()

    reads.clear()
    FileTable(root).digests(paths)

    assert reads == []
    assert len(list((root / "filestate").iterdir())) < 10


def test_the_cheaper_modes_look_at_stat_only(root: Path, tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    table = FileTable(root)
    standard, lenient = table.digest(path, mode="standard"), table.digest(path, mode="lenient")
    assert standard != lenient

    os.utime(path, (1, 1))

    assert table.digest(path, mode="standard") != standard
    assert table.digest(path, mode="lenient") == lenient
    assert reads == []


def test_a_directory_counts_by_its_content(root: Path, tmp_path: Path, reads: list[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x").write_bytes(b"one")
    settle(tmp_path / "b" / "sub" / "x")
    table = FileTable(root)

    assert table.digest(tmp_path / "a") == table.digest(tmp_path / "b")
    reads.clear()
    assert table.digest(tmp_path / "a") == FileTable(root).digest(tmp_path / "b")
    assert reads == []


def test_a_table_that_cannot_be_written_still_answers(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")

    assert FileTable(root, read_only="x").digest(path) == identity_digest(b"one")
    assert list((root / "filestate").iterdir()) == []


@pytest.mark.parametrize(
    ("times_ns", "waited_ns", "trusted"),
    [
        (7_000_000_000, 1_900_000_000, False),  # whole seconds: another write may look the same
        (7_000_000_000, 2_100_000_000, True),
        (7_123_456_789, 10_000_000, False),  # within a tick
        (7_123_456_789, 30_000_000, True),
    ],
)
def test_a_file_is_trusted_once_any_later_write_would_show(
    root: Path,
    tmp_path: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    times_ns: int,
    waited_ns: int,
    trusted: bool,
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    # A file system with such times; both writes come within one of its ticks.
    monkeypatch.setattr(filestate, "_key", lambda found: (found.st_size, times_ns, 1, times_ns))
    monkeypatch.setattr(time, "time_ns", lambda: times_ns + waited_ns)
    table = FileTable(root)

    table.digest(path)
    path.write_bytes(b"two")

    assert table.digest(path) == identity_digest(b"one" if trusted else b"two")
    assert reads == (["x"] if trusted else ["x", "x"])


def test_a_huge_file_is_read_in_pieces_and_only_while_there_is_time(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    tracemalloc.start()
    try:
        first = filestate.hash_file(str(path), filestate.stat_key(path))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    table = FileTable(root)
    with table.within(0), pytest.raises(filestate.TooLong):
        table.digest(path)
    assert table.digest(path) == first
    with path.open("r+b") as file:
        file.seek((256 << 20) - 1)
        file.write(b"x")  # the last byte counts
    assert filestate.hash_file(str(path), filestate.stat_key(path)) != first
