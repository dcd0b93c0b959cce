from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import CannotKeepError, StoreError
from nbcache.model.row import AttemptRow, EvictRow, PinRow, RunRow, TrustRow, WatchedRead
from nbcache.store import lines, lookup, segment
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.fold import bytes_left, fold_journals, sweep
from nbcache.store.index import SegmentIndex
from nbcache.store.journal import JournalWriter, frame
from nbcache.store.listing import Listing
from nbcache.store.log import Log
from tests.exploring import examples
from tests.store.rows import attempt, hash_of, new_id, use


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache.open(tmp_path / "cache")


def fold(cache: Cache) -> int:
    cache.log.rotate()
    return cache.log.fold()


def test_an_appended_row_is_found_at_once(cache: Cache) -> None:
    row = attempt("a", watched=(WatchedRead("env", "HOME", None),))

    cache.log.append([row])

    entry = cache.log.find(row.hash)
    assert entry is not None
    assert (entry.row_id, entry.outputs, entry.realtime) == (row.id, row.outputs, 0.5)
    assert entry.watched
    assert entry.reads == row.watched
    assert cache.log.find(hash_of("b")) is None


def test_another_reader_sees_it_after_a_refresh(cache: Cache) -> None:
    other = Cache.open(cache.root)
    other.log.refresh()
    row = attempt("a")
    cache.log.append([row])

    other.log.refresh()

    entry = other.log.find(row.hash)
    assert entry is not None
    assert entry.row_id == row.id


def test_another_process_reads_the_journal_in_place(cache: Cache) -> None:
    cache.log.append([attempt("a"), attempt("b")])
    code = (
        "import sys\n"
        "from nbcache.store.cache import Cache\n"
        "log = Cache.open(sys.argv[1]).log\n"
        "print(log.find(sys.argv[2]).row_id, 'pyarrow' in sys.modules)\n"
    )

    told = subprocess.run(
        [sys.executable, "-c", code, str(cache.root), hash_of("b")], capture_output=True, text=True
    )

    expected = cache.log.find(hash_of("b"))
    assert expected is not None
    assert told.stdout.split() == [expected.row_id, "False"], told.stderr


def test_folding_moves_rows_to_a_segment_and_changes_no_answer(cache: Cache) -> None:
    rows = [attempt(str(i)) for i in range(50)] + [use(attempt("0"))]
    cache.log.append(rows)

    assert fold(cache) == 51

    assert os.listdir(cache.root / "journal") == []
    assert {row.id: row for row in cache.log.rows()} == {row.id: row for row in rows}
    for row in rows[:50]:
        assert isinstance(row, AttemptRow)
        entry = cache.log.find(row.hash)
        assert entry is not None
        assert (entry.row_id, entry.outputs) == (row.id, row.outputs)


def test_a_fresh_process_finds_folded_rows_without_pyarrow(cache: Cache) -> None:
    cache.log.append([attempt("a")])
    fold(cache)
    code = (
        "import sys\n"
        "from nbcache.store.cache import Cache\n"
        "entry = Cache.open(sys.argv[1]).log.find(sys.argv[2])\n"
        "print(len(entry.outputs), 'pyarrow' in sys.modules)\n"
    )

    told = subprocess.run(
        [sys.executable, "-c", code, str(cache.root), hash_of("a")], capture_output=True, text=True
    )

    assert told.stdout.split() == ["1", "False"], told.stderr


def test_a_deleted_or_damaged_index_is_made_again(cache: Cache) -> None:
    rows = [attempt(str(i)) for i in range(5)]
    cache.log.append(rows)
    fold(cache)
    (index,) = (cache.root / "index").iterdir()
    whole = index.read_bytes()

    for damage in (None, b"", whole[:-3], whole[:200] + b"\0" * 32 + whole[232:]):
        index.unlink(missing_ok=True)
        if damage is not None:
            index.write_bytes(damage)
        log = Cache.open(cache.root).log
        for row in rows:
            entry = log.find(row.hash)
            assert entry is not None
            assert entry.outputs == row.outputs
        assert index.read_bytes() == whole


def test_the_index_folder_may_be_deleted_at_any_time(cache: Cache) -> None:
    for name in ("a", "b"):
        cache.log.append([attempt(name)])
        shutil.rmtree(cache.root / "index")
        fold(cache)
    shutil.rmtree(cache.root / "index")

    assert cache.log.fold() == 0
    assert Cache.open(cache.root).log.find(hash_of("a")) is not None


def test_the_highest_generation_wins_and_ties_go_to_the_smallest_id(cache: Cache) -> None:
    first, second = attempt("a", generation=2), attempt("a", generation=2)
    low, failed = attempt("a", generation=1), attempt("a", generation=9, status="failed")

    def best() -> str:
        entry = cache.log.find(hash_of("a"))
        assert entry is not None
        return entry.row_id

    cache.log.append([second, low])
    fold(cache)
    assert best() == second.id
    cache.log.append([failed, first])
    assert best() == min(first.id, second.id)
    assert cache.log.next_generation(hash_of("a")) == 3
    fold(cache)
    assert best() == min(first.id, second.id)
    assert cache.log.next_generation(hash_of("a")) == 3


def test_an_evicted_hash_is_missing_until_a_higher_generation_comes(cache: Cache) -> None:
    cache.log.append([attempt("a")])
    cache.log.evict(hash=hash_of("a"))
    assert cache.log.find(hash_of("a")) is None
    assert cache.log.next_generation(hash_of("a")) == 2
    fold(cache)
    assert Cache.open(cache.root).log.find(hash_of("a")) is None

    again = attempt("a", generation=2)
    cache.log.append([again])

    entry = cache.log.find(hash_of("a"))
    assert entry is not None
    assert entry.row_id == again.id


def test_an_evicted_row_gives_way_to_the_next_best(cache: Cache) -> None:
    old, new = attempt("a"), attempt("a", generation=2)
    cache.log.append([old, new])
    fold(cache)
    other = Cache.open(cache.root)
    other.log.refresh()
    cache.log.evict(row=new.id)

    other.log.refresh()

    entry = other.log.find(hash_of("a"))
    assert entry is not None
    assert entry.row_id == old.id


def test_rows_are_found_by_id_in_journals_and_segments(cache: Cache) -> None:
    folded, used = attempt("a"), use(attempt("a"))
    cache.log.append([folded, used])
    fold(cache)
    fresh = attempt("b")
    cache.log.append([fresh])
    log = Cache.open(cache.root).log

    assert log.row(folded.id) == folded
    assert log.row(fresh.id) == fresh
    assert log.row(used.id) == used
    assert log.row(new_id()) is None
    assert log.find_attempt(folded.id) == folded
    assert log.find_attempt(used.id) is None


def test_rows_are_selected_by_kind_run_and_process(cache: Cache) -> None:
    cache.log.append([attempt("a", run="R1"), attempt("b", run="R2")])
    fold(cache)
    cache.log.append([attempt("c", run="R1", process="other"), use(attempt("a"), run="R1")])

    def positions(**wanted: object) -> list[str]:
        return sorted(row.position for row in cache.log.rows(**wanted))  # type: ignore

    assert positions(kinds={"attempt"}) == ["a", "b", "c"]
    assert positions(run="R1") == ["a", "a", "c"]
    assert positions(run="R1", process="fit", kinds=["attempt"]) == ["a"]
    assert positions(kinds=["use"]) == ["a"]


def test_a_torn_tail_is_ignored_and_the_rows_before_it_are_kept(cache: Cache) -> None:
    writer = JournalWriter(cache.root)
    writer.append([attempt("a")])
    path = writer.path
    assert path is not None
    writer.close()
    record = frame(b'{"kind":"attempt","id":"x"}\n')
    whole = path.read_bytes()
    for cut in (1, 10, 29, 35, len(record) - 1):
        path.write_bytes(whole + record[:cut])
        assert [row.position for row in Cache.open(cache.root).log.rows()] == ["a"]  # type: ignore
    path.write_bytes(whole + record[:29] + b"X" * (len(record) - 29))

    assert cache.log.fold() == 1
    assert [row.position for row in cache.log.rows()] == ["a"]  # type: ignore


def test_a_journal_whose_writer_lives_is_not_folded(cache: Cache) -> None:
    writer = JournalWriter(cache.root)
    writer.append([attempt("a")])

    assert cache.log.fold() == 0
    writer.append([attempt("b")])
    writer.close()
    assert cache.log.fold() == 2


def test_a_journal_of_another_machine_is_folded_only_after_a_day(cache: Cache) -> None:
    writer = JournalWriter(cache.root, host="elsewhere")
    writer.append([attempt("a")])
    path = writer.path
    assert path is not None
    writer.close()

    assert cache.log.fold() == 0
    day_before_yesterday = path.stat().st_mtime - 2 * 86_400
    os.utime(path, (day_before_yesterday, day_before_yesterday))
    assert cache.log.fold() == 1


def test_a_journal_that_may_not_be_deleted_is_folded_once_though_segments_are_merged(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cache of several users whose folders have the sticky bit."""

    def refuse(old: Path, new: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(old), None, str(new))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        for position in "ab":
            cache.log.append([attempt(position)])
            assert fold(cache) == 1
        assert cache.log.compact() == 2
        cache.log.append([attempt("c")])
        assert fold(cache) == 1
        assert bytes_left(cache.root, cache.log.folded()) == 0
        assert len(os.listdir(cache.root / "journal")) == 3
        log = Log(cache.root)
        assert sorted(row.position for row in log.rows()) == ["a", "b", "c"]  # type: ignore
        assert not log.journals()
        patched.setattr(os, "pread", None)  # what a segment has is not read again
        assert fold(cache) == 0

    assert cache.log.fold() == 0
    assert os.listdir(cache.root / "journal") == []
    assert cache.log.compact() == 2
    assert cache.log.folded() == {}


def test_a_writer_whose_journal_was_taken_away_writes_the_rows_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbcache.store.journal._LOOK_S", -1.0)
    writer = JournalWriter(cache.root)
    writer.append([attempt("a")])
    path = writer.path
    assert path is not None
    path.unlink()

    writer.append([attempt("b")])

    assert [row.position for row in Cache.open(cache.root).log.rows()] == ["b"]  # type: ignore


def test_a_writer_whose_cache_was_deleted_says_so(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbcache.store.journal._LOOK_S", -1.0)
    writer = JournalWriter(cache.root)
    writer.append([attempt("a")])
    shutil.rmtree(cache.root)

    with pytest.raises(CannotKeepError, match="was deleted while the run went on"):
        writer.append([attempt("b")])
    assert not cache.root.exists()


def test_folding_the_same_journals_twice_is_harmless(cache: Cache) -> None:
    writer = JournalWriter(cache.root)
    writer.append([attempt(str(i)) for i in range(10)])
    path = writer.path
    assert path is not None
    writer.close()
    content = path.read_bytes()
    assert fold_journals(cache.root) == 10
    names = sorted(os.listdir(cache.root / "log"))
    path.write_bytes(content)  # as if the process had been killed before it deleted the journal

    assert fold_journals(cache.root) == 10

    assert sorted(os.listdir(cache.root / "log")) == names
    assert len(list(Cache.open(cache.root).log.rows())) == 10


def test_a_long_journal_is_continued_in_another_file(cache: Cache) -> None:
    writer = JournalWriter(cache.root, max_rows=3)
    for i in range(7):
        writer.append([attempt(str(i))])

    assert len(os.listdir(cache.root / "journal")) == 3
    assert cache.log.fold() == 6
    assert len(list(cache.log.rows())) == 7


def test_a_batch_is_one_write(cache: Cache) -> None:
    cache.log.append([attempt("a"), attempt("b")])

    (path,) = (cache.root / "journal").iterdir()
    assert path.read_bytes().count(b"=1 ") == 1


def test_a_forked_child_goes_on_in_a_journal_of_its_own(cache: Cache) -> None:
    mine, childs, again = attempt("parent"), attempt("child"), attempt("parent again")
    cache.log.append([mine])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            cache.log.append([childs])
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    cache.log.append([again])

    assert len(os.listdir(cache.root / "journal")) == 2
    positions = {row.position for row in Cache.open(cache.root).log.rows()}  # type: ignore
    assert positions == {"parent", "child", "parent again"}


def test_compaction_merges_segments_and_changes_no_answer(cache: Cache) -> None:
    rows = [attempt(str(i)) for i in range(30)]
    for start in range(0, 30, 10):
        cache.log.append(rows[start : start + 10])
        fold(cache)
    reader = Cache.open(cache.root)
    reader.log.refresh()

    assert cache.log.compact() == 3

    assert len(cache.log.segments()) == 1
    assert len(list((cache.root / "log").glob("*.keys.parquet"))) == 4  # sources stay for a day
    for log in (cache.log, reader.log, Cache.open(cache.root).log):
        log.refresh()
        assert len(log.segments()) == 1
        assert {row.id: row for row in log.rows()} == {row.id: row for row in rows}
        for row in rows:
            entry = log.find(row.hash)
            assert entry is not None
            assert entry.outputs == row.outputs
            assert log.row(row.id) == row
    assert cache.log.compact(grace_s=-1.0) == 0
    assert len(list((cache.root / "log").iterdir())) == 2


def test_who_asks_for_a_run_reads_few_groups_of_a_merged_segment(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its rows had been written between those of others."""
    monkeypatch.setattr(segment, "GROUP_ROWS", 10)
    rows = [attempt(str(i), run=f"R{i % 3}") for i in range(30)]
    for start in range(0, 30, 10):
        cache.log.append(rows[start : start + 10])
        fold(cache)
    assert cache.log.compact() == 3

    (name,) = cache.log.segments()
    with segment.open_parquet(cache.root / "log" / (name + segment.ROWS)) as file:
        wanted = {"kind": ["attempt", "use"], "run": ["R1"]}
        assert list(segment._groups_with(file, wanted)) == [1]
        assert list(segment._groups_with(file, {"run": ["R7"]})) == []
    assert set(cache.log.attempts(run="R1")) == {row for row in rows if row.run == "R1"}


def test_lines_in_another_order_take_one_reading_of_each_file_for_many_groups(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        cache.log.append([attempt(str(i)) for i in range(10)])
        fold(cache)
    paths = [cache.root / "log" / (name + segment.ROWS) for name in cache.log.segments()]
    ids = [row["id"] for path in paths for row in segment.read_records(path)]
    order = [at for first in range(7) for at in range(first, 30, 7)]
    taken_from, opened = lines.Lines(paths), list[Path]()

    def opening(path: Path) -> contextlib.AbstractContextManager[Any]:
        opened.append(path)
        return segment.open_parquet(path)

    monkeypatch.setattr(lines, "open_parquet", opening)
    monkeypatch.setattr(lines, "_ROWS_AT_ONCE", 20)
    tables = list(taken_from.taken(order[start : start + 5] for start in range(0, 30, 5)))

    found = [each for table in tables for each in table.column("id").to_pylist()]
    assert [len(table) for table in tables] == [5] * 6
    assert found == [ids[line] for line in order]
    assert len(opened) == 2 * len(paths)


def test_a_reader_with_an_old_listing_survives_the_deletion_of_its_segments(cache: Cache) -> None:
    rows = [attempt(str(i)) for i in range(4)]
    for row in rows:
        cache.log.append([row])
        fold(cache)
    reader = Cache.open(cache.root)
    reader.log.refresh()
    stream = reader.log.rows()
    first = next(stream)

    cache.log.compact(grace_s=-1.0)

    assert {first.id, *(row.id for row in stream)} == {row.id for row in rows}
    assert reader.log.row(rows[3].id) == rows[3]


def test_compaction_keeps_columns_that_it_does_not_know(cache: Cache) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cache.log.append([attempt("a")])
    fold(cache)
    (path,) = (cache.root / "log").glob("*.rows.parquet")
    table = pq.read_table(path).append_column("colour", pa.array(["blue"]))
    pq.write_table(table, path)
    cache.log.append([attempt("b")])
    fold(cache)

    cache.log.compact(grace_s=-1.0)

    (merged,) = (cache.root / "log").glob("*.rows.parquet")
    assert sorted(map(str, pq.read_table(merged).column("colour").to_pylist())) == ["None", "blue"]


def test_rows_of_later_versions_are_kept_through_folding_and_compaction(cache: Cache) -> None:
    writer = JournalWriter(cache.root)
    lines = (
        b'{"kind":"prophecy","id":"01J00000000000000000000001","at":1,"said":["a",{"b":1}]}\n'
        b'{"kind":"attempt","id":"01J00000000000000000000002","at":1.5,"process":7,"novel":true,'
        b'"hash":"xxh3:00","outputs":[{"name":"y","weight":3}]}\n'
    )
    writer.append_lines(lines, 2)
    writer.close()
    cache.log.append([attempt("a")])
    before = {record["id"]: record for record in cache.log.records()}

    fold(cache)
    cache.log.append([attempt("b")])
    fold(cache)
    cache.log.compact()

    after = {record["id"]: record for record in cache.log.records()}
    assert before.items() <= after.items()
    assert len(list(cache.log.attempts(process="fit"))) == 2


FULL_DISK = """
import resource, signal, sys
from nbcache.errors import CannotKeepError, StoreError
from nbcache.store import segment
from nbcache.store.cache import Cache
from tests.store.rows import attempt
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache = Cache.open(sys.argv[1])
cache.log.append([attempt("before")])
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # a write ends short, as on a full disk
try:
    cache.log.append([attempt("too long", traceback="x" * 20_000)])
except StoreError as error:
    print("refused")
cache.log.append([attempt("after")])
"""


def test_a_full_disk_refuses_the_batch_and_keeps_what_was_there(cache: Cache) -> None:
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(cache.root)], capture_output=True, text=True
    )

    assert told.stdout == "refused\n", told.stderr
    assert sorted(row.position for row in cache.log.rows()) == ["after", "before"]  # type: ignore
    assert cache.log.fold() == 2
    assert sorted(row.position for row in cache.log.rows()) == ["after", "before"]  # type: ignore


def test_what_killed_processes_left_is_swept_a_day_later(cache: Cache) -> None:
    cache.log.append([attempt("a")])
    fold(cache)
    kept = sorted(path.name for path in (cache.root / "log").iterdir())
    rubbish = [
        cache.root / "tmp" / "half",
        cache.root / "log" / "01KAME4RM0BTTEDETGVD0KE2ZD.rows.parquet",
        cache.root / "index" / "01KAME4RM0BTTEDETGVD0KE2ZD.idx",
    ]
    for path in rubbish:
        path.write_bytes(b"x")
    cache.log.fold()
    assert all(path.exists() for path in rubbish)
    for path in [*rubbish, *(cache.root / "log").iterdir(), *(cache.root / "index").iterdir()]:
        os.utime(path, (1, 1))

    just_moved = cache.root / "tmp" / new_ulid()  # an old file that is about to be a blob
    just_moved.write_bytes(b"x")
    os.utime(just_moved, (1, 1))

    cache.log.fold()

    assert just_moved.exists()
    assert not any(path.exists() for path in rubbish)
    assert sorted(path.name for path in (cache.root / "log").iterdir()) == kept
    assert len(list((cache.root / "index").iterdir())) == 1


def test_a_read_only_log_refuses_to_write_and_says_why(tmp_path: Path) -> None:
    Cache.open(tmp_path / "c")
    log = Log(tmp_path / "c", read_only="no permission to write")

    with pytest.raises(StoreError, match="read-only"):
        log.append([attempt("a")])
    assert log.fold() == 0


text = st.text(max_size=8) | st.sampled_from(["\udc80", '"hash":"xxh3:', "a\nb", "\x00"])
small = st.none() | st.integers(-(2**70), 2**70) | st.floats() | text


@examples(60)
@given(st.data())
def test_any_row_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cache = Cache.open(tmp_path_factory.mktemp("any"))
    draw = data.draw
    rows = [
        attempt("a", tag=draw(text), error=draw(text), exit=draw(small), duration=draw(small)),
        RunRow(
            id=new_id(), at=1, run="R", name=draw(text), status="running",
            parameters=draw(st.dictionaries(text, text, max_size=2)),
            counts=draw(st.dictionaries(text, st.integers(0, 9), max_size=2)),
        ),
        EvictRow(id=new_id(), at=1, hash=hash_of("z"), generation=1, reason=draw(text)),
        PinRow(id=new_id(), at=1, target=draw(text), pinned=draw(st.booleans())),
        TrustRow(id=new_id(), at=1, hash=hash_of("p"), same_as=hash_of("q")),
    ]  # fmt: skip
    cache.log.append(rows)
    in_journal = {
        record["id"]: json.dumps(record, sort_keys=True) for record in cache.log.records()
    }

    fold(cache)

    for record in cache.log.records():
        assert json.dumps(record, sort_keys=True) == in_journal[record["id"]]


kept = st.tuples(st.sampled_from("abcdef"), st.integers(1, 3))
steps = st.lists(
    st.tuples(st.just("keep"), st.lists(kept, max_size=4))
    | st.tuples(st.just("evict"), st.sampled_from("abcdef"))
    | st.tuples(st.just("evict row"), st.integers(0, 50))
    | st.tuples(st.just("damage"), st.integers(0, 1000))
    | st.tuples(st.sampled_from(["compact", "merge away", "delete", "reopen"]), st.none()),
    min_size=4,
    max_size=15,
)  # fmt: skip


@examples(25)
@given(steps)
def test_many_segments_answer_as_a_table_of_all_rows_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    cache = Cache.open(tmp_path_factory.mktemp("many"))
    gathered = cache.root / "index" / lookup.NAME
    rows: dict[str, AttemptRow] = {}
    hidden: set[str] = set()
    floor: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "MANY", 2)
        reader = Cache.open(cache.root)
        for step, what in steps:
            if step == "keep":
                new = [attempt(name, generation=generation) for name, generation in what]
                rows |= {row.id: row for row in new}
                cache.log.append(new)
                fold(cache)
            elif step == "evict":
                cache.log.evict(hash=hash_of(what))
                known = [row.generation for row in rows.values() if row.hash == hash_of(what)]
                floor[what] = max([floor.get(what, 0), *known])
            elif step == "evict row" and rows:
                row_id = sorted(rows)[what % len(rows)]
                cache.log.evict(row=row_id)
                hidden.add(row_id)
            elif step == "damage" and gathered.exists():
                data = bytearray(gathered.read_bytes())
                data[what % len(data)] ^= 0xFF
                gathered.unlink()  # who has mapped the whole one goes on with it
                gathered.write_bytes(data)
            elif step == "delete":
                gathered.unlink(missing_ok=True)
            elif step in ("compact", "merge away"):
                cache.log.compact(grace_s=-1.0 if step == "merge away" else 86_400.0)
            elif step == "reopen":
                reader = Cache.open(cache.root)

            reader.log.refresh()
            for log in (cache.log, reader.log, Cache.open(cache.root).log):
                for name in "abcdefg":
                    counts = [
                        row for row in rows.values()
                        if row.hash == hash_of(name) and row.id not in hidden
                        and row.generation > floor.get(name, 0)
                    ]  # fmt: skip
                    best = sorted(counts, key=lambda row: (-row.generation, row.id))
                    found = [entry.row_id for entry in log.find_all(hash_of(name))]
                    assert list(dict.fromkeys(found)) == [row.id for row in best]


def test_of_many_segments_few_are_looked_at_for_a_hash(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(lookup.MANY + 3):
        cache.log.append([attempt(str(number))])
        fold(cache)
    gathered = cache.root / "index" / lookup.NAME
    looked: list[SegmentIndex] = []
    find = SegmentIndex.find

    def counted(self: SegmentIndex, key: bytes) -> Any:
        looked.append(self)
        return find(self, key)

    monkeypatch.setattr(SegmentIndex, "find", counted)
    log = Cache.open(cache.root).log
    log.refresh()

    for damage in (None, b"", b"x" * 100, gathered.read_bytes()[:-1]):
        if damage is not None:
            gathered.write_bytes(damage)
        log = Cache.open(cache.root).log
        log.refresh()
        looked.clear()
        assert log.find(hash_of("0")) is not None
        assert log.find(hash_of("none")) is None
        assert len(looked) <= 1 + 2 * 3


def test_folders_that_killed_processes_left_a_day_ago_are_swept(tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "cache")
    old, young = cache.tmp / "crash-old", cache.tmp / "run-young"
    for each in (old, young):
        each.mkdir()
        (each / "x").touch()
    os.utime(old, (time.time() - 200_000,) * 2)
    sweep(cache.root)
    assert not old.exists()
    assert young.exists()


def test_what_others_put_into_the_log_folder_is_left_alone(tmp_path: Path) -> None:
    cache = Cache.open(tmp_path / "cache")
    cache.log.append([attempt()])
    cache.log.rotate()
    cache.log.fold()
    folder = cache.root / "log"
    (keys,) = folder.glob("*.keys.parquet")
    for name in (".DS_Store", "x.keys.parquet", f"{keys.name[:26]} (copy).keys.parquet"):
        (folder / name).write_text("no parquet")
    other = Cache.open(cache.root)
    assert other.log.find(hash_of("0"))
    assert list(other.log.segments()) == [keys.name[:26]]


def test_a_long_log_is_not_written_again_for_a_few_new_rows(cache: Cache) -> None:
    for count in (40, 2, 2, 2):
        cache.log.append([attempt(f"{count} {n}", id=new_id()) for n in range(count)])
        cache.log.rotate()
        cache.log.fold()

    assert cache.log.compact(factor=4.0) == 3
    assert sorted(each.meta["rows"] for each in cache.log.segments().values()) == [6, 40]
    assert cache.log.compact(factor=4.0) == 0
    assert cache.log.compact() == 2


@pytest.mark.parametrize(("tick_ns", "doubted"), [(1, 2), (10**9, 3)])
def test_a_listing_is_not_relied_on_where_the_machine_stood_still_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tick_ns: int, doubted: int
) -> None:
    """What came in the same tick of the clock as the last change has left no other time."""
    changed, list_folder = 10**18 + 10**6, os.listdir
    now = [changed + 10**6]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    seen = SimpleNamespace(st_ctime_ns=changed - changed % tick_ns)
    monkeypatch.setattr(os, "stat", lambda path: seen)

    def listed(path: str) -> list[str]:
        names = list_folder(path)
        now[0] += 10**9
        return names

    monkeypatch.setattr(os, "listdir", listed)
    listing = Listing(tmp_path)

    found = [listing.names(always=False) for _ in range(4)]

    assert found == [set()] * doubted + [None] * (4 - doubted)
