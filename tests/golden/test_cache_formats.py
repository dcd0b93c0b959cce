"""Every format that was ever released stays readable, for ever."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nbcache.model.digest import blob_digest, identity_digest
from nbcache.model.row import AttemptRow, PinRow, TrustRow
from nbcache.store import history
from nbcache.store.cache import Cache, take_over
from nbcache.store.journal import frame
from nbcache.store.tree import TreeEntry, identity, manifest
from nbcache.store.verify import verify
from tests.golden.make_cache import folded_rows, hash_of, journal_rows

SAMPLES = Path(__file__).parent / "cache"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    shutil.copytree(SAMPLES / "format1", tmp_path / "c")
    for path in (tmp_path / "c" / "blobs").rglob("*"):
        if path.is_file():  # git keeps neither
            path.chmod(0o444)
    take_over(tmp_path / "c")
    return Cache.open(tmp_path / "c")


def test_the_sample_of_format_1_is_sound(cache: Cache) -> None:
    report = verify(cache)

    assert report.ok, report
    assert (report.rows, report.segments, report.journals, report.blobs) == (10, 1, 1, 3)
    assert report.orphans == []


def test_the_sample_of_format_1_gives_the_rows_it_was_made_of(cache: Cache) -> None:
    row = cache.log.row("01KAM000000000000000000001")
    assert isinstance(row, AttemptRow)
    expected = [*folded_rows(row.outputs[0].stored, row.outputs[1].stored), *journal_rows()]

    assert {row.id: row for row in cache.log.rows()} == {row.id: row for row in expected}
    assert {type(row) for row in cache.log.rows()} >= {PinRow, TrustRow}


def test_the_sample_of_format_1_answers_look_ups(cache: Cache) -> None:
    entry = cache.log.find(hash_of("1"))  # type: ignore[arg-type]
    assert entry is not None
    assert (entry.row_id, entry.generation, entry.watched) == (
        "01KAM000000000000000000001", 2, True,
    )  # fmt: skip
    file, tree = (port.stored for port in entry.outputs)
    assert file.blob is not None
    assert tree.blob is not None
    assert cache.blobs.read(file.blob) == b"a file\n"
    assert [(each.path, each.kind) for each in cache.blobs.open_tree(tree.blob)] == [
        (b"empty", "directory"),
        (b"link", "link"),
        (b"tool.sh", "file"),
    ]
    assert cache.log.find(hash_of("2")) is None  # type: ignore[arg-type]
    assert cache.log.find(hash_of("3")) is not None  # type: ignore[arg-type]
    assert cache.log.find(hash_of("4")) is None  # type: ignore[arg-type]
    assert cache.log.next_generation(hash_of("4")) == 2  # type: ignore[arg-type]


def test_the_sample_of_format_1_can_be_written_on(cache: Cache) -> None:
    (journal,) = (cache.root / "journal").iterdir()
    os.utime(journal, (1, 1))  # of another host, and old
    before = {row.id for row in cache.log.rows()}

    assert cache.log.fold() == 7
    assert cache.log.compact(grace_s=-1.0) == 2

    assert {row.id for row in cache.log.rows()} == before
    assert verify(cache).ok


def test_the_sample_of_format_1_shows_in_sql(cache: Cache) -> None:
    connection = history.connect(cache, live=False)

    assert connection.execute(
        "SELECT run_name, position, status, realtime FROM tasks ORDER BY ALL"
    ).fetchall() == [
        ("brave-owl", "0.2", "CACHED", 2.0),
        ("brave-owl", "2", "COMPLETED", 1.0),
        ("brave-owl", "3", "COMPLETED", None),
        ("calm-otter", "0.2", "COMPLETED", 2.0),
        ("calm-otter", "1", "FAILED", None),
    ]


def test_the_bytes_of_a_journal_record_never_change() -> None:
    assert frame(b'{"kind":"use","id":"x"}\n') == (
        b'=1 00000018 c69a8804d14094d9\n{"kind":"use","id":"x"}\n'
    )  # fmt: skip


def test_the_bytes_and_identity_of_a_tree_never_change() -> None:
    entries = [
        TreeEntry(b"sub/a b", "file", True, b"", blob_digest(b"1"), identity_digest(b"1"), 1),
        TreeEntry(b"sub", "directory"),
        TreeEntry(b"\xff%", "link", target=b"sub/a b"),
    ]

    assert manifest(entries) == (
        b"nbcache-tree 1\n"
        b"d sub\n"
        b"x b3:d63bd9a826af91c1fea371965a64e11ee20f13e46b5f52c59901136605b3a487"
        b" xxh3:df3ce784d856334d65cd25028f98f158 1 sub/a%20b\n"
        b"l sub/a%20b %FF%25\n"
    )
    assert identity(entries) == "xxh3:cdbe60a8346a560be2f9d518f0976931"
