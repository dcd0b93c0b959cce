from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nbcache.engine.upkeep.cleaning import clean
from nbcache.errors import DamagedSegmentError, StoreError, spoken
from nbcache.model.digest import blob_digest, identity_digest
from nbcache.model.row import Port
from nbcache.model.value import Stored
from nbcache.notebook import checkup
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.files import owned_name
from nbcache.store.history import reading
from nbcache.store.repair import open_repaired, repair
from nbcache.store.segment import read_records
from nbcache.store.signing import make_key
from nbcache.store.soundness import sound_row
from nbcache.store.verify import verify
from tests.store.rows import attempt, hash_of, new_id, use


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache with a folded file, a folded tree, an unfolded value and a hit."""
    cache = Cache.open(tmp_path / "c")
    (cache.work / "tree" / "sub").mkdir(parents=True)
    (cache.work / "tree" / "sub" / "x").write_bytes(b"in a tree")
    tree = cache.blobs.put_tree(cache.work / "tree")
    (cache.work / "file").write_bytes(b"a file")
    file = cache.blobs.put_file(cache.work / "file")
    first = attempt(
        "a",
        outputs=(
            Port("f", Stored(file.identity, "file", "file", file.size, blob=file.blob)),
            Port("t", Stored(tree.identity, "tree", "tree", tree.size, blob=tree.blob)),
        ),
    )
    cache.log.append([first])
    cache.log.rotate()
    cache.log.fold()
    value = cache.blobs.put_bytes(b"value")
    port = Port("v", Stored(identity_digest(b"v"), "value", "text", 5, blob=value))
    cache.log.append([attempt("b", outputs=(port,)), use(first)])
    return cache


def test_a_sound_cache_has_no_problems_and_no_orphans(cache: Cache) -> None:
    report = verify(cache)

    assert report.ok, report
    assert (report.rows, report.segments, report.journals, report.blobs) == (3, 1, 1, 4)
    assert (report.orphans, report.leftovers) == ([], [])


def test_a_signed_row_names_no_blob_by_what_its_signature_covers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBCACHE_CONFIG_DIR", str(tmp_path / "settings"))
    make_key("alice")
    cache = Cache.open(tmp_path / "c")
    cache.log.append([attempt("a")])
    (record,) = cache.log.records()
    assert record["sealed"].startswith("b3:")

    assert verify(cache).ok


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def flip(path: Path, offset: int = 0) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    path.chmod(mode)


def blob(cache: Cache, content: bytes) -> Path:
    return cache.blobs.path(blob_digest(content))


def lose_processes(path: Path, *row_ids: str) -> None:
    """Leave rows of a segment, or all, without what all of them have, as a flipped bit in the head
    of a page does, which no checksum covers."""
    table = pq.read_table(path)
    at = table.schema.get_field_index("process")
    left = [
        row["process"] if row_ids and row["id"] not in row_ids else None
        for row in table.select(["id", "process"]).to_pylist()
    ]
    lost = table.set_column(at, table.schema.field(at), pa.array(left, pa.string()))
    pq.write_table(lost, path)


def rewrite(path: Path, hash: str) -> None:
    """Give the row of a hash another value, in a file that is well in itself."""
    table = pq.read_table(path)
    at = table.schema.get_field_index("outputs")
    told = [
        [port | {"inline": b"other"} for port in outputs] if each == hash else outputs
        for each, outputs in zip(*(table[n].to_pylist() for n in ("hash", "outputs")), strict=True)
    ]
    field = table.schema.field(at)
    pq.write_table(table.set_column(at, field, pa.array(told, field.type)), path)


DAMAGES: dict[str, Callable[[Cache], object]] = {
    "blob flipped": lambda cache: flip(blob(cache, b"a file")),
    "blob missing": lambda cache: blob(cache, b"value").unlink(),
    "tree member missing": lambda cache: blob(cache, b"in a tree").unlink(),
    "blob writable": lambda cache: blob(cache, b"value").chmod(0o644),
    "rows file missing": lambda cache: only(cache.root / "log", "*.rows.parquet").unlink(),
    "rows file cut": lambda cache: os.truncate(only(cache.root / "log", "*.rows.parquet"), 300),
    "rows file lacks": lambda cache: lose_processes(only(cache.root / "log", "*.rows.parquet")),
    "rows file rewritten": lambda cache: rewrite(
        only(cache.root / "log", "*.rows.parquet"), hash_of("a")
    ),
    "keys file missing": lambda cache: only(cache.root / "log", "*.keys.parquet").unlink(),
    "keys file flipped": lambda cache: flip(only(cache.root / "log", "*.keys.parquet"), -1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found(cache: Cache, damage: str) -> None:
    DAMAGES[damage](cache)

    assert not verify(Cache.open(cache.root)).ok


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_repaired_and_what_is_whole_stays(cache: Cache, damage: str) -> None:
    first, second = sorted(cache.log.attempts(), key=lambda row: row.position)
    cache.close()
    DAMAGES[damage](cache)

    mended, done = open_repaired(cache.root)
    with mended:
        done += repair(mended, verify(mended))
        done += repair(mended, verify(mended, deep=False))
        assert done
        left = {problem.what for problem in verify(mended).problems}
        kept = [mended.log.find(row.hash) is not None for row in (first, second)]

    lost = {
        "blob flipped": [False, True],
        "blob missing": [True, False],
        "tree member missing": [False, True],
        "rows file missing": [False, True],
        "rows file cut": [False, True],
        "rows file lacks": [False, True],
        "rows file rewritten": [False, True],
    }
    assert kept == lost.get(damage, [True, True])
    assert not left


def test_of_rows_and_keys_that_differ_neither_is_believed_and_the_others_stay(
    tmp_path: Path,
) -> None:
    with Cache.open(tmp_path / "c") as cache:
        rows = [attempt(each) for each in "abc"]
        cache.log.append(rows)
        cache.log.rotate()
        cache.log.fold()
    rewrite(only(cache.root / "log", "*.rows.parquet"), rows[1].hash)

    with Cache.open(cache.root) as damaged:
        done = list(repair(damaged, verify(damaged)))
        assert verify(damaged).ok
        for each in (damaged, Cache.open(cache.root)):
            each.log.refresh()
            assert [each.log.find(row.hash) is not None for row in rows] == [True, False, True]
            assert list(each.log.attempts()) == [rows[0], rows[2]]
    assert "2 of its 3 rows" in done[0]


@pytest.mark.parametrize("damage", ["keys file missing", "rows file cut"])
def test_a_repair_leaves_the_blobs_that_a_damaged_segment_may_name(
    cache: Cache, damage: str
) -> None:
    cache.close()
    DAMAGES[damage](cache)

    with Cache.open(cache.root) as damaged:
        for _ in range(2):
            checkup.verify(damaged, mend=True)
        assert blob(damaged, b"a file").exists()
        clean(damaged, Selection(), force=True)
        assert blob(damaged, b"a file").exists() == (damage == "keys file missing")


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file become longer than that, as if the disk were full then."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_a_full_disk_no_sound_segment_is_put_aside_and_a_damaged_one_is_mended_later(
    tmp_path: Path,
) -> None:
    with Cache.open(tmp_path / "c") as cache:
        cache.log.append([attempt(str(n)) for n in range(2500)])
        cache.log.rotate()
        cache.log.fold()

    with full_disk(50_000):
        mended, done = open_repaired(cache.root)
        with mended:
            assert (done, len(list(mended.log.attempts()))) == ([], 2500)
            shutil.rmtree(cache.root / "index")
            with Cache.open(cache.root) as without_index:
                assert len(list(without_index.log.attempts())) == 2500
        os.truncate(only(cache.root / "log", "*.keys.parquet"), 300)
        with pytest.raises(StoreError, match="disk is full"):
            open_repaired(cache.root)
    mended, done = open_repaired(cache.root)

    with mended:
        assert len(list(mended.log.attempts())) == 2500
    assert "made again from its rows" in done[0]


def test_a_row_that_lost_a_value_is_lost_alone(tmp_path: Path) -> None:
    rows = [attempt(str(n)) for n in range(3)]
    with Cache.open(tmp_path / "c") as cache:
        cache.log.append([*rows, use(rows[0])])
        cache.log.rotate()
        cache.log.fold()
    lose_processes(only(cache.root / "log", "*.rows.parquet"), rows[1].id)

    mended, done = open_repaired(cache.root)

    with mended:
        assert [mended.log.find(row.hash) is not None for row in rows] == [True, False, True]
        assert len(list(mended.log.rows())) == 3
        assert verify(mended).ok
    assert "3 of its 4 rows" in done[0]
    assert done[0].count("segment") == 1
    assert len(list((cache.root / "log").glob("*.damaged-*"))) == 2


def test_a_segment_without_index_and_keys_is_looked_up_by_its_rows(cache: Cache) -> None:
    rows = list(cache.log.attempts())
    only(cache.root / "index", "*.idx").unlink()
    os.truncate(only(cache.root / "log", "*.keys.parquet"), 300)

    with Cache.open(cache.root) as damaged:
        assert all(damaged.log.find(row.hash) is not None for row in rows)


def test_a_segment_of_which_nothing_is_left_is_missed_by_look_ups_and_told_by_readers(
    cache: Cache,
) -> None:
    (row, *_) = cache.log.attempts()
    only(cache.root / "index", "*.idx").unlink()
    for suffix in ("keys", "rows"):
        os.truncate(only(cache.root / "log", f"*.{suffix}.parquet"), 300)

    with Cache.open(cache.root) as damaged:
        assert damaged.log.find(row.hash) is None
        with pytest.raises(StoreError, match="verify --repair"):
            list(damaged.log.rows())


def test_a_row_that_lacks_what_all_have_is_told_by_readers(cache: Cache) -> None:
    DAMAGES["rows file lacks"](cache)

    with (
        Cache.open(cache.root) as damaged,
        pytest.raises(StoreError, match="verify --repair"),
    ):
        list(damaged.log.rows())


def test_a_row_with_a_result_that_is_no_base_64_is_told_and_that_of_another_user_is_none(
    tmp_path: Path,
) -> None:
    with Cache.open(tmp_path / "c") as cache:
        cache.log.append([attempt("0")])
        (record,) = cache.log.records()
        odd = {**record, "outputs": [{**record["outputs"][0], "inline": "x"}]}

        with pytest.raises(StoreError, match="verify --repair"):
            cache.log.row_of(odd)
        assert sound_row(odd) is None


@pytest.mark.parametrize("damage", ["rows file missing", "rows file cut"])
def test_a_question_to_a_damaged_history_says_what_to_do(cache: Cache, damage: str) -> None:
    DAMAGES[damage](cache)

    for typed in ("%nbcache", "nbcache"):  # what failed is not there the second time
        with (
            spoken(f"{typed} {{}}".format),
            pytest.raises(StoreError, match=f"`{typed} verify --repair`"),
            reading(Cache.open(cache.root), "FROM tasks"),
        ):
            pass


def test_a_flipped_bit_in_the_pages_of_a_segment_never_makes_another_row(cache: Cache) -> None:
    path = only(cache.root / "log", "*.rows.parquet")
    data = path.read_bytes()
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # where the pages end
    whole = list(read_records(path))
    found = 0

    for offset in range(4, end, 97):
        flip(path, offset)
        try:
            assert list(read_records(path)) == whole, offset
        except StoreError:
            found += 1
        flip(path, offset)

    assert found
    assert list(read_records(path)) == whole


def test_a_flipped_bit_in_the_name_of_a_column_takes_nothing_from_a_row(cache: Cache) -> None:
    path = only(cache.root / "log", "*.rows.parquet")
    data = path.read_bytes()
    whole = list(read_records(path))
    found = 0

    for name in (b"watched", b"outputs", b"generation", b"digest", b"codec", b"inline"):
        for place in re.finditer(name, data):
            flip(path, place.start())
            try:
                assert list(read_records(path)) == whole
            except DamagedSegmentError:
                found += 1
            flip(path, place.start())

    assert found >= 6
    assert list(read_records(path)) == whole


def test_a_row_in_several_segments_counts_once_and_is_told_where_it_differs(
    tmp_path: Path,
) -> None:
    cache = Cache.open(tmp_path / "c")
    row = attempt("a")
    reports = []
    for each in (row, row, replace(row, tag="another")):
        cache.log.append([each])
        cache.log.rotate()
        cache.log.fold()
        reports.append(verify(cache))

    assert [(each.rows, each.segments) for each in reports] == [(1, 1), (1, 2), (1, 3)]
    assert [each.ok for each in reports] == [True, True, False]
    assert [str(each) for each in reports[-1].problems] == [
        f"row {row.id}: is there twice with different content"
    ]


def test_a_column_of_a_newer_version_may_hold_what_is_no_json(cache: Cache) -> None:
    path = only(cache.root / "log", "*.rows.parquet")
    table = pq.read_table(path)
    times = pa.array([0] * len(table), pa.timestamp("us"))
    newer = table.append_column("newer", times).replace_schema_metadata(table.schema.metadata)
    os.unlink(path)
    pq.write_table(newer, path)

    assert verify(cache).ok


def test_without_deep_only_sizes_are_looked_at(cache: Cache) -> None:
    flip(blob(cache, b"a file"))

    assert verify(cache, deep=False).ok
    assert not verify(cache).ok


def test_an_evicted_result_may_lack_its_blobs(cache: Cache) -> None:
    blob(cache, b"value").unlink()
    row = next(row for row in cache.log.attempts(run="R1") if row.position == "b")
    cache.log.evict(row=row.id)

    assert verify(cache).ok


def test_what_killed_processes_leave_is_no_problem_but_listed(cache: Cache) -> None:
    (cache.tmp / "half").write_bytes(b"x")
    (cache.tmp / owned_name("crash")).mkdir()  # of a process that lives
    half = f"{new_id()}.rows.parquet"  # of rows that are elsewhere, too
    shutil.copy(only(cache.root / "log", "*.rows.parquet"), cache.root / "log" / half)
    journal = only(cache.root / "journal", "*")
    with open(journal, "ab") as file:
        file.write(b"=1 000000ff 00")
    orphan = cache.blobs.put_bytes(b"of a task that did not end")

    report = verify(cache)

    assert report.ok
    assert len(report.leftovers) == 3
    assert report.orphans == [orphan]


def test_a_value_inside_its_row_may_be_known_by_the_digest_of_its_bytes(tmp_path: Path) -> None:
    stored = Stored(blob_digest(b"[]"), "value", "json", 2, inline=b"[]", opaque=True)
    with Cache.open(tmp_path / "cache") as cache:
        cache.log.append([attempt(outputs=(Port("out", stored),), shown=stored)])
        assert verify(cache).ok


def test_what_is_no_journal_is_passed_over_and_said(cache: Cache) -> None:
    known = len(list(cache.log.attempts()))
    (cache.root / "journal" / "loop").symlink_to("loop")
    (cache.root / "journal" / "folder").mkdir()

    with Cache.open(cache.root) as again:
        assert len(list(again.log.attempts())) == known
        places = {problem.place for problem in verify(again).problems}
    assert places == {"folder", "loop"}
