"""Tasks of one run with one hash: one runs, and the others take what it made."""

from __future__ import annotations

import re

import pytest

from nbcache.engine.record import history
from nbcache.engine.record.explanations import why
from nbcache.engine.record.finding import find_task
from nbcache.engine.record.process_reasons import why_process
from nbcache.engine.record.query import fetch
from nbcache.engine.running.run import Run
from nbcache.errors import UsageError
from nbcache.model.task import RunStatus
from nbcache.notebook import answers
from nbcache.notebook.verbs import parse_line
from nbcache.notebook.widget.source import StoredRun
from nbcache.notebook.widget.state import head_of
from nbcache.notebook.widget.tables import TaskQuery, task_page
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S


def test_what_a_run_made_itself_is_no_hit_and_saves_nothing(notebook: Notebook) -> None:
    cache = notebook.session.cache
    mended = notebook.folder / "mended"
    hidden = str(mended)[::-1]  # a name written as it is would count in the hash
    notebook.cells(
        [
            "%channel numbers = of(0, 1, 2, 3)",
            "%%process parity(n) -> odd from numbers\nodd = n % 2",
            "%%process twice(odd) -> t from parity\nt = odd * 2",
            "%%process total(t) -> s from twice.collect()\nimport os\n"
            f"assert os.path.exists({hidden!r}[::-1])\ns = sum(t)",
        ]
    )

    def told(run: Run) -> tuple[float | None, str]:
        """Return the hit rate of a run, and how its view says it."""
        known = history.find_run(cache, run.id)
        [(rate, saved)] = fetch(cache, "SELECT hit_rate, saved FROM runs WHERE run = ?", [run.id])
        assert known.hit_rate == rate
        if known.sessions == 1:  # else the run of the kernel is one of them
            assert known.elapsed_s == run.elapsed_s
        assert known.saved_s == saved == run.saved_s
        heads = [head_of(each.progress()) for each in (run, StoredRun(cache, run.id))]
        assert heads[0]["hits"] == heads[1]["hits"]
        return rate, heads[0]["hits"]

    failed = notebook.run()
    assert failed.status is RunStatus.FAILED
    assert (told(failed), failed.saved_s) == ((0.0, "0%"), 0.0)
    page = task_page(cache, failed.id, None, TaskQuery(process="twice", status="equal"))
    assert [each["saved"] for each in page["rows"]] == [None, None]
    mended.touch()
    resumed = notebook.session.resume()
    assert resumed.wait(PATIENCE_S)
    assert resumed.status is RunStatus.SUCCEEDED
    assert (told(resumed), resumed.saved_s) == ((0.0, "0%"), 0.0)
    assert told(notebook.run(fresh=True)) == (0.0, "0%")
    grouped = why_process(cache, ["twice"])
    assert grouped is not None
    assert grouped.head.startswith("twice: 2 ran, 2 equal in run ")
    again = notebook.run()
    assert told(again) == (1.0, "100%")
    assert again.saved_s > 0


def test_a_label_that_equal_tasks_share_means_the_one_that_ran(notebook: Notebook) -> None:
    cache = notebook.session.cache
    notebook.cells(
        [
            "%channel grid = product(a=[1, 2], rep=[0, 1])",
            "%%process half(a) -> h from grid\nassert a != 2\nh = a / 2",
            f"%channel texts = of('{'x' * 40}', '{'x' * 41}')",
            "%%process several(v) -> o from texts\no = 1",
        ]
    )
    notebook.run("several")
    notebook.run("half")

    found = find_task(cache, ["half[a=1]"])
    assert (found.use, found.position) == (None, "0")
    twin = why(cache, ["half", "1"]).head
    assert twin.startswith(
        "half[a=1] was equal to one that ran: every component is equal to that of half[a=1] of "
        "this run (position 0)"
    )
    shown = answers.perform(parse_line("show last"), cache).rendered.text
    assert shown.count("failed: half[a=2] AssertionError") == 2
    label = f"several[v={'x' * 29}…]"  # of two that are not equal
    told = f"there are {label} (say several 0), {label} (say several 1)"
    with pytest.raises(UsageError, match=re.escape(told) + "$"):
        find_task(cache, [label])
    notebook.run("half")
    assert find_task(cache, ["half[a=1]"]).made.run == found.made.run
