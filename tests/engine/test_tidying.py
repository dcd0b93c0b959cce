"""What a run leaves to be done afterwards, and what is different while it goes on."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path

from nbcache.engine.garbage import NEW_OBJECTS, collected_rarely
from nbcache.engine.upkeep.tidying import Tidier
from tests.waiting import PATIENCE_S

ONE_RUN = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cells = "%load_ext nbcache", "%channel x = of(1, 2)", "%%process fit from x\\nx", "%nbcache run"
for cell in cells:
    shell.run_cell(cell).raise_error()
"""

LONG_JOURNALS = """
import sys
from nbcache.engine.upkeep.condensing import MANY_BYTES, condense
from nbcache.store.cache import Cache
cache = Cache.open("cache")
for turn, sys.executable in enumerate((sys.executable, "/nowhere/python", None)):
    for number in range(8):
        id = f"{turn:013}{number:013}"
        row = {"kind": "later", "id": id, "at": 1, "said": "x" * (MANY_BYTES // 7)}
        cache.log.adopt([row])
    condense(cache)
    print(sum(segment.meta["rows"] for segment in cache.log.segments().values()),
          len(list((cache.root / "journal").iterdir())), "pyarrow" in sys.modules)
"""


def test_what_is_due_when_a_process_ends_and_gives_no_threads_is_done_at_its_exit() -> None:
    calls: list[str] = []

    async def end() -> None:
        await asyncio.get_running_loop().shutdown_default_executor()
        tidier = Tidier(lambda: calls.append("tidied up"))
        tidier.run_ends(has_written=True)
        tidier._begin()
        assert calls == []
        await tidier.finish()

    asyncio.run(end())

    assert calls == ["tidied up"]


def test_runs_that_follow_each_other_are_tidied_up_after_once() -> None:
    calls: list[int] = []

    async def three_runs() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tidy() -> None:
            calls.append(number)
            loop.call_soon_threadsafe(done.set)

        tidier = Tidier(tidy)
        for number in (1, 2, 3):
            tidier.run_begins()
            tidier.run_ends(has_written=number == 2)
        await asyncio.wait_for(done.wait(), PATIENCE_S)

    asyncio.run(three_runs())

    assert calls == [3]


def test_a_process_that_ends_after_its_run_leaves_its_rows_in_a_segment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ONE_RUN], cwd=tmp_path, check=True, capture_output=True)

    cache = tmp_path / ".nbcache"
    assert list((cache / "log").glob("*.rows.parquet"))
    assert list((cache / "journal").iterdir()) == []


def test_long_journals_are_folded_by_another_process_or_else_here(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LONG_JOURNALS]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    assert done.stdout.splitlines() == ["8 0 False", "16 0 True", "24 0 True"]


def test_the_collector_is_as_it_was_when_the_last_run_has_ended() -> None:
    before = gc.get_threshold()

    with collected_rarely():
        with collected_rarely():
            assert gc.get_threshold()[0] == NEW_OBJECTS
        assert gc.get_threshold()[0] == NEW_OBJECTS

    assert gc.get_threshold() == before


def test_a_collector_that_is_off_stays_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with collected_rarely():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
