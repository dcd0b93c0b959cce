"""Clean-up of a real cache: what goes, what stays, what it costs, and that nothing breaks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from nbcache.engine.record.explanations import why
from nbcache.engine.record.query import fetch
from nbcache.engine.record.usage import usage
from nbcache.engine.repeat import repeat
from nbcache.engine.upkeep import cleaning
from nbcache.engine.upkeep.cleaning import clean, size_of
from nbcache.engine.upkeep.pins import pin, pins
from nbcache.errors import NotRunError, ResultGone, StoreError, UsageError
from nbcache.model.task import RunStatus
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.collect import collect
from nbcache.store.files import new_ulid
from nbcache.store.verify import verify
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S, wait_until

Kernels = Callable[[], Notebook]
ALL = Selection(older_than=0.0)
SIZE = 50_000


class Doors:
    """Two pipes through which a task says that it runs and waits until it may end."""

    def __init__(self, folder: Path) -> None:
        self._in, self._out = folder / "in", folder / "out"
        os.mkfifo(self._in)
        os.mkfifo(self._out)

    @property
    def pass_through(self) -> str:
        return f"open({str(self._in)!r}, 'w').close()\nopen({str(self._out)!r}).close()"

    def wait_inside(self) -> None:
        self._in.read_bytes()

    def let_out(self) -> None:
        self._out.write_bytes(b"")


def pipeline(notebook: Notebook) -> None:
    made = notebook.mark("'make' + str(v)")
    notebook.cells(
        [
            "%channel src = of(1, 2, 3)",
            f"%%process make(v) -> data from src\n{made}\ndata = bytes([v]) * {SIZE}",
            f"%%process size(data) -> n from make\n{notebook.mark(repr('size'))}\nn = len(data)",
        ]
    )


def blobs(cache: Cache) -> list[Path]:
    return [each for each in (cache.root / "blobs").rglob("*") if each.is_file()]


def test_without_force_a_clean_up_says_what_would_go_and_deletes_nothing(
    notebook: Notebook,
) -> None:
    pipeline(notebook)
    notebook.run()
    cache = notebook.session.cache

    told = clean(cache, Selection(processes=frozenset({"make"})))

    assert not told.done
    assert (told.holdings, told.size) == (3, 3 * SIZE)
    realtime = sum(row.realtime or 0.0 for row in cache.log.attempts(process="make"))
    assert told.cost == pytest.approx(realtime)
    assert len(blobs(cache)) == 3
    notebook.run()
    assert notebook.ran() == []


def test_a_table_reads_no_file_and_needs_none(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell("%%process make(v) -> out: path = 'o' from src\nopen('o', 'w').write(str(v))")
    notebook.run()
    cache = notebook.session.cache

    clean(cache, Selection(processes=frozenset({"make"})), force=True)

    assert notebook.session.last_run is not None
    assert notebook.session.last_run["make"].table().to_dict("list") == {"v": [1, 2]}
    assert not (cache.root / "files").exists()


def test_what_was_taken_runs_again_and_nothing_else_does(notebook: Notebook) -> None:
    pipeline(notebook)
    first = notebook.run()
    cache = notebook.session.cache

    told = clean(cache, Selection(processes=frozenset({"make"})), force=True)

    assert (told.freed, told.waiting) == (3 * SIZE, 0)
    assert blobs(cache) == []
    with pytest.raises(ResultGone, match=r"make.*\n.*%nbcache run"):
        list(first["make"])
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED
    assert notebook.ran() == ["make1", "make2", "make3"]
    assert list(run["size"]) == [SIZE] * 3
    assert "taken out of the cache: cleaned up" in why(cache, ["make", "0"]).head
    assert verify(cache).ok


def test_a_blob_stays_as_long_as_one_row_needs_it(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1)",
            f"%%process one(v) -> data from src\ndata = b'same' * {SIZE}",
            f"%%process two(v) -> data from src\ndata = b'same' * {SIZE} + b''",
        ]
    )
    run = notebook.run()
    cache = notebook.session.cache

    told = clean(cache, Selection(processes=frozenset({"one"})), force=True)

    assert told.freed == 0
    assert len(blobs(cache)) == 1
    assert list(run["two"]) == [b"same" * SIZE]


def test_folders_go_with_all_that_is_in_them(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            "%%process make(v) -> out: path from src --bash\n"
            'mkdir out; echo common > out/common; echo "$v" > out/own',
        ]
    )
    run = notebook.run()
    assert sorted((each / "own").read_text() for each in run["make"]) == ["1\n", "2\n"]
    cache = notebook.session.cache
    (first, _) = sorted(cache.log.attempts(), key=lambda row: row.position)
    assert len(blobs(cache)) == 5

    clean(cache, Selection(hashes=(first.hash[5:13],)), force=True)

    assert len(blobs(cache)) == 3
    assert verify(cache).ok
    clean(cache, ALL, force=True)
    assert blobs(cache) == []


def test_a_hit_makes_a_result_young(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline(notebook)
    notebook.run("make")
    time_between = time.time()
    notebook.cell("%channel src = of(1)")
    notebook.run("make")

    now = time.time()  # a clean-up takes time, and asks for it in the middle
    clock = SimpleNamespace(time=lambda: now, time_ns=lambda: round(now * 1e9))
    monkeypatch.setattr(cleaning, "time", clock)
    cache = notebook.session.cache
    told = clean(cache, Selection(older_than=now - time_between), force=True)

    assert told.holdings == 2
    notebook.run("make")
    assert notebook.ran() == []


def test_a_run_that_goes_on_keeps_what_it_made_and_used(notebook: Notebook) -> None:
    doors = Doors(notebook.folder)
    notebook.cells(
        [
            "%channel src = of(1)",
            f"%%process make(v) -> data from src\ndata = bytes([v]) * {SIZE}",
        ]
    )
    notebook.run()
    notebook.cells(
        [
            "%channel more = of(1, 2)",
            f"%%process make(v) -> data from more\ndata = bytes([v]) * {SIZE}",
            "%channel both = make.collect()",
            f"%%process slow(data) -> n from both\n{doors.pass_through}\nn = len(data)",
        ]
    )
    cache = notebook.session.cache
    run = notebook.session.start()
    doors.wait_inside()

    told = clean(cache, ALL, force=True)

    assert (told.holdings, told.live) == (0, 2)
    doors.let_out()
    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.SUCCEEDED, run.progress()
    assert run["slow"].value == 2
    assert list(run["make"]) == [b"\1" * SIZE, b"\2" * SIZE]


def test_what_is_taken_while_others_work_waits(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    cache = notebook.session.cache
    with Cache.open(cache.root) as other, other.activity.working():
        told = clean(cache, Selection(processes=frozenset({"make"})), force=True)
        assert (told.freed, told.waiting) == (0, 3 * SIZE)
        assert cache.log.find(attempts(cache, "make")[0]) is None  # type: ignore[arg-type]
        assert len(blobs(cache)) == 3

    notebook.run("size", "make", retention="keep")  # type: ignore[arg-type]
    clean(cache, Selection(processes=frozenset({"size"})), force=True)

    assert len(blobs(cache)) == 3
    assert verify(cache).ok


def test_what_waited_goes_at_the_end_of_a_later_run(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    cache = notebook.session.cache
    with Cache.open(cache.root) as other, other.activity.working():
        clean(cache, ALL, force=True)
        cleaning.clean_after_run(cache)
        assert len(blobs(cache)) == 3

    def is_gone() -> bool:  # at the latest when the workers have seen that the run is over
        cleaning.clean_after_run(cache)
        return blobs(cache) == [] and not cache.blobs.trash.is_due()

    wait_until(is_gone)


def attempts(cache: Cache, process: str) -> list[object]:
    return [row.hash for row in cache.log.attempts(process=process)]


def test_a_run_without_cache_loses_nothing_to_a_clean_up(notebook: Notebook) -> None:
    doors = Doors(notebook.folder)
    notebook.cells(
        [
            "%channel src = of(1)",
            f"%%process make(v) -> data from src\ndata = bytes([v]) * {SIZE}",
            f"%%process slow(data) -> n from make\n{doors.pass_through}\nn = data[0]",
        ]
    )
    run = notebook.session.start(no_cache=True)
    cache = notebook.session.cache
    doors.wait_inside()

    clean(cache, ALL, force=True)

    assert len(blobs(cache)) == 1
    doors.let_out()
    assert run.wait(PATIENCE_S)
    assert list(run["make"]) == [b"\1" * SIZE]


def test_what_is_pinned_stays_until_it_is_unpinned(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    cache = notebook.session.cache
    pin(cache, ["make", "0"], reason="in the paper")
    pin(cache, process="size")

    assert [(each.what.split(" (")[0], each.reason) for each in pins(cache)] == [
        ("process size", ""),
        (f"task {attempts_by_position(cache, 'make', '0')[5:13]}", "in the paper"),
    ]
    told = clean(cache, ALL, force=True)
    assert (told.holdings, told.pinned) == (2, 4)
    notebook.run()
    assert notebook.ran() == ["make2", "make3"]

    pin(cache, ["make", "0"], pinned=False)
    assert clean(cache, Selection(processes=frozenset({"make"})), force=True).pinned == 0
    with pytest.raises(UsageError, match="not pinned"):
        pin(cache, process="make", pinned=False)
    with pytest.raises(UsageError, match='did you mean "make"'):
        pin(cache, process="mak")
    with pytest.raises(UsageError, match="one thing"):
        pin(cache, ["make", "0"], process="make")


def attempts_by_position(cache: Cache, process: str, position: str) -> str:
    (found,) = [
        str(row.hash) for row in cache.log.attempts(process=process) if row.position == position
    ]
    return found


def test_a_pinned_run_keeps_what_it_used(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run("make")
    notebook.cell("%channel src = of(1)")
    run = notebook.run("make")
    cache = notebook.session.cache
    pin(cache, run=run.name)

    clean(cache, ALL, force=True)

    assert list(run["make"]) == [b"\1" * SIZE]
    assert len(blobs(cache)) == 1


def test_failed_tasks_leave_their_work_directories_until_they_are_cleaned(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            "%%process part(v) -> n from src --on_error ignore\n"
            f"open('big', 'w').write('x' * {SIZE})\nif v == 1: raise ValueError('no')\nn = v",
        ]
    )
    notebook.run()
    cache = notebook.session.cache
    (failed,) = [row for row in cache.log.attempts() if row.status == "ignored"]
    assert (cache.work / failed.id).is_dir()

    told = clean(cache, Selection(incomplete=True), force=True)

    assert told.holdings == 1
    assert told.shares[0].size >= SIZE
    assert not (cache.work / failed.id).exists()
    run = notebook.run()
    assert run.counts() == {"ignored": 1, "cached": 1}


def test_a_work_directory_is_never_taken_for_a_result_nor_missed_by_a_hit(
    notebook: Notebook,
) -> None:
    made = notebook.mark("'made'")
    notebook.cells(
        [
            "%channel src = of(1)",
            f"%%process make(v) -> out: path from src\n{made}\n"
            "open('out', 'w').write('right')\nout = 'out'",
        ]
    )
    notebook.run()
    cache = notebook.session.cache
    (row,) = cache.log.attempts()
    left = cache.work / row.id  # as a crash may leave it
    left.mkdir()
    (left / "out").write_text("half")
    cache.log.evict(row=row.id)

    run = notebook.run()

    assert notebook.ran() == ["made"]
    assert run["make"].value.read_text() == "right"
    shutil.rmtree(cache.work)
    cache.work.mkdir()
    run = notebook.run()
    assert notebook.ran() == []
    assert run["make"].value.read_text() == "right"


def test_left_overs_go_when_they_are_old_and_not_before(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    cache = notebook.session.cache
    long_ago = time.time() - 3600
    old = [cache.tmp / "old", cache.work / "old-attempt", cache.root / "files" / "xxh3-old"]
    young = [cache.tmp / new_ulid(), cache.work / new_ulid()]
    for path in (*old, *young):
        path.mkdir(parents=True)
        (path / "file").write_text("1234")
    for path in old:
        os.utime(path, (long_ago, long_ago))
    dead = cache.work / f"w-{os.uname().nodename.replace('-', '_')}-999999999-X"
    dead.mkdir()
    damaged = blobs(cache)[0]
    os.rename(damaged, f"{damaged}.damaged-{new_ulid()}")
    orphan = cache.blobs.path(cache.blobs.put_bytes(b"nobody names this"))

    told = clean(cache, Selection(incomplete=True), force=True)

    assert not any(path.exists() for path in (*old, dead, orphan))
    assert all(path.exists() for path in young)
    assert not [path for path in blobs(cache) if "damaged" in path.name]
    assert told.orphans == (1, 17)
    notebook.run()
    assert len(notebook.ran()) == 1  # what was damaged


def test_a_size_is_reached_by_what_is_cheapest_to_have_again(notebook: Notebook) -> None:
    big = 2_000_000
    pause = "import time\ntime.sleep(0 if v == 1 else 1)\n"
    notebook.cells(
        [
            "%channel src = of(1, 2, 3)",
            f"%%process make(v) -> data from src\n{pause}data = bytes([v]) * {big}",
        ]
    )
    notebook.run()
    cache = notebook.session.cache

    told = clean(cache, Selection(max_size=5 * big // 2), force=True)

    assert told.holdings == 1
    run = notebook.run()
    assert [task.outcome.value for task in run["make"].tasks] == ["completed", "cached", "cached"]


def test_a_size_is_reached_by_as_much_as_was_said_before(notebook: Notebook) -> None:
    """A log that is folded first is larger for a while, and what goes in any case, or waits since
    somebody works on the cache, is no reason to take more."""
    notebook.cells(
        [
            "%channel src = of(1, 2, 3, 4)",
            "%%process make(v) -> data from src\ndata = bytes([v]) * 200_000",
        ]
    )
    notebook.run()
    cache = notebook.session.cache
    two_go = Selection(max_size=size_of(cache) - 310_000)
    left = cache.tmp / "left-by-a-killed-process"
    left.write_bytes(bytes(500_000))
    os.utime(left, (0, 0))

    with Cache.open(cache.root) as other, other.activity.working():
        said = clean(cache, two_go)
        done = clean(cache, two_go, force=True)
        again = clean(cache, two_go, force=True)

    assert (said.holdings, done.holdings, again.holdings) == (2, 2, 0)


def test_a_read_only_cache_is_not_cleaned(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    root = notebook.session.cache.root
    header = (root / "nbcache.json").read_text()
    (root / "nbcache.json").write_text(header.replace('"format": 1', '"format": 99'))

    with Cache.open(root) as cache:
        assert clean(cache, ALL).holdings == 6
        with pytest.raises(StoreError, match="read-only"):
            clean(cache, ALL, force=True)


def test_intermediate_results_go_when_the_run_has_succeeded(notebook: Notebook) -> None:
    pipeline(notebook)
    run = notebook.run(retention="intermediate")  # type: ignore[arg-type]
    cache = notebook.session.cache

    wait_until(lambda: blobs(cache) == [])
    collect(cache, grace_s=-1.0)  # where a worker was still at it, they were only put aside

    assert list(run["size"]) == [SIZE] * 3
    with pytest.raises(ResultGone):
        list(run["make"])
    assert notebook.session.cache.log.find(attempts(cache, "size")[0]) is not None  # type: ignore[arg-type]


def test_what_went_as_intermediate_is_made_again_by_whoever_needs_it_and_by_nobody_else(
    notebook: Notebook, kernels: Kernels
) -> None:
    pipeline(notebook)
    notebook.run(retention="intermediate")  # type: ignore[arg-type]
    cache = notebook.session.cache
    wait_until(lambda: blobs(cache) == [])
    again = kernels()
    pipeline(again)

    assert [each.cached for each in again.session.plan()] == [3, 3]
    card = again.session.card(again.names["make"])
    assert card.plan == again.session.plan()[0]
    assert card.notes == ("not kept: %nbcache run make makes these results again",)
    assert again.run().counts() == {"cached": 6}
    assert list(again.names["size"]) == [SIZE] * 3
    assert list(again.names["size"].table().n) == [SIZE] * 3
    assert again.ran() == []
    again.cell("%%process size(data) -> n from make\nn = -len(data)")
    plans = again.session.plan()
    assert [(each.cached, each.to_run) for each in plans] == [(0, 3), (0, 3)]
    assert "taken out of the cache" in plans[0].reason
    card = again.session.card(again.names["make"])
    assert (card.plan, card.notes) == (plans[0], ())
    run = again.run()
    assert run.reasons["make"] == plans[0].reason
    assert again.ran() == ["make1", "make2", "make3"]
    assert run.counts() == {"completed": 6}
    assert list(run["size"]) == [-SIZE] * 3
    rows = fetch(cache, "SELECT DISTINCT process, attempt FROM attempts WHERE run = ?", (run.id,))
    assert sorted(rows) == [("make", 1), ("size", 1)]


def test_what_went_as_intermediate_is_made_again_for_whoever_reads_or_looks_at_it(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(1, 2, 3)")
    notebook.cell(f"%%process make(v) -> v, data from src\ndata = bytes([v]) * {SIZE}")
    notebook.cell(
        "%%process size(v, data) -> n from make --tag '{v}' --when 'v > 0'\nn = len(data)"
    )
    notebook.run(retention="intermediate")  # type: ignore[arg-type]
    wait_until(lambda: blobs(notebook.session.cache) == [])

    assert notebook.run().counts() == {"cached": 6}  # the headers look at other inputs
    assert [len(each.data) for each in notebook.names["make"]] == [SIZE] * 3
    notebook.cell("%channel long = make.filter(lambda data: len(data) > 1)")
    assert notebook.run().counts() == {"cached": 6}  # its results are there now


def test_what_every_run_needs_again_is_not_intermediate(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2, 3)")
    for name in ("passed", "looked", "taken"):
        notebook.cell(f"%%process {name}(v) -> v, data from src\ndata = b'{name}' * {SIZE} * v")
    notebook.cell("%%process last(v, data) -> v, data, n from passed\nn = len(data)")
    notebook.cell("%%process long(data) -> n from looked.filter(lambda data: data)\nn = len(data)")
    notebook.cell("%%process size(data) -> n from taken\nn = len(data)")

    first = notebook.run(retention="intermediate")  # type: ignore[arg-type]
    cache = notebook.session.cache
    wait_until(lambda: len(blobs(cache)) == 6)

    assert cleaning.run_facts(cache)[first.id].handed_on == {"taken"}
    assert notebook.run().counts() == {"cached": 18}
    assert [len(each.data) for each in notebook.names["last"]] == [6 * SIZE * v for v in (1, 2, 3)]


def test_a_trial_makes_what_went_as_intermediate_and_a_check_leaves_it_out(
    notebook: Notebook,
) -> None:
    pipeline(notebook)
    notebook.run(retention="intermediate")  # type: ignore[arg-type]
    wait_until(lambda: blobs(notebook.session.cache) == [])

    with pytest.raises(NotRunError, match="no result"):
        repeat(notebook.session, ["size"])
    assert notebook.session.try_one("size").outputs == {"n": SIZE}
    assert notebook.session.last_run is not None
    assert notebook.session.last_run.targets == ("make",)


def test_a_policy_of_nonsense_stops_the_run_before_it_starts(notebook: Notebook) -> None:
    pipeline(notebook)

    with pytest.raises(UsageError, match=r"fortnight.*\n.*30d"):
        notebook.session.start(retention="fortnight")

    assert notebook.session.last_run is None


def test_an_expired_run_is_cleaned_on_request(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run(retention="success=0s, failure=1d")  # type: ignore[arg-type]
    cache = notebook.session.cache

    wait_until(lambda: blobs(cache) == [])

    notebook.run(retention="keep")  # type: ignore[arg-type]
    assert len(notebook.ran()) == 6
    assert clean(cache, Selection(expired=True)).holdings == 0


def test_bytes_are_divided_among_those_who_need_them(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1)",
            f"%%process one(v) -> data from src\ndata = b'x' * {SIZE}",
            f"%%process two(v) -> data from src\ndata = b'x' * {SIZE} + b''",
            f"%%process own(v) -> data from src\ndata = b'y' * {SIZE}",
        ]
    )
    first = notebook.run()
    second = notebook.run("own")
    cache = notebook.session.cache
    cache.blobs.put_bytes(b"z" * 1000)

    found = usage(cache)

    assert {each.name: each.size for each in found.processes} == {
        "one": SIZE // 2, "two": SIZE // 2, "own": SIZE,
    }  # fmt: skip
    assert {each.name: each.size for each in found.runs} == {
        first.name: SIZE + SIZE // 2, second.name: SIZE // 2,
    }  # fmt: skip
    assert found.unneeded == 1000
    assert found.total >= 2 * SIZE + 1000
    assert found.processes[0].dollars == pytest.approx(SIZE / 1e9 * 0.023)
