"""What a page gets when somebody opens a process, a task, its log and its reason."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.record.nearest import nearest_earlier
from nbcache.errors import UsageError
from nbcache.notebook.widget.source import LiveRun, StoredRun
from nbcache.notebook.widget.tables import TaskQuery, task_page
from nbcache.store.cache import Cache
from tests.engine.notebooks import Notebook
from tests.notebook.desks import Desk, text_of
from tests.store.rows import attempt
from tests.waiting import PATIENCE_S, wait_until

Record = Callable[[str, object], None]

CELLS = [
    "%channel grid = product(depth=[8, 4, 2], rep=[0, 1])",
    "def norm(x):\n    return x",
    "%%process fit from grid\nprint('fitting', depth, rep)\nscore = norm(depth * rep)",
    "%%process check from fit\nassert score != 8, '<b>no</b> eight'\nok = score > 3",
]


def labels(page: Any) -> list[str]:
    return [row["label"] for row in page["rows"]]


def test_tasks_are_sorted_filtered_and_cut_into_pages(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    desk = Desk(notebook, LiveRun(notebook.run()))

    page = desk.ask("tasks", process="fit", limit=2, offset=2)
    assert labels(page) == ["fit[depth=4 rep=0]", "fit[depth=4 rep=1]"]
    assert (page["matched"], page["total"]) == (6, 6)

    backwards = desk.ask("tasks", process="fit", descending=True)
    assert labels(backwards)[0] == "fit[depth=2 rep=1]"

    assert labels(desk.ask("tasks", process="fit", text="depth=8")) == [
        "fit[depth=8 rep=0]",
        "fit[depth=8 rep=1]",
    ]
    assert labels(desk.ask("tasks", process="check", status="failed")) == ["check[score=8]"]
    assert labels(desk.ask("tasks", process="check", text="NO</B> EIGHT")) == ["check[score=8]"]
    assert desk.ask("tasks", process="check", text="nothing like it")["rows"] == []
    hashes = [row["hash"] for row in desk.ask("tasks", process="fit")["rows"]]
    texts = (hashes[0], hashes[0].upper(), hashes[0][1:])  # the last is in the middle of one
    assert [desk.ask("tasks", process="fit", text=each)["matched"] for each in texts] == [1, 1, 0]
    with pytest.raises(UsageError, match="sorted by"):
        desk.ask("tasks", process="fit", sort="1; DROP TABLE tasks")

    hits = Desk(notebook, LiveRun(notebook.run()))
    for descending in (False, True):
        rows = hits.ask("tasks", process="fit", sort="duration", descending=descending)["rows"]
        saved = [row["saved"] for row in rows]
        assert saved == sorted(saved, reverse=descending)


def test_a_label_as_it_is_shown_finds_its_task(notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("a")
    (tmp_path / "c.txt").write_text("c")
    notebook.cells(
        [
            f"%channel files = from_path({str(tmp_path / '*.txt')!r})",
            "%channel some = of(('Ås \"1\"', True, None, 0.001, [1, 2], 'x y=1 ' * 9, 1), "
            "('Bø', False, None, float('inf'), {}, 'y', 12))",
            "%channel both = some.combine(files)",
            "%%process say(name, flag, none, number, data, long, n, file: path) from both\nout = 1",
        ]
    )
    desk = Desk(notebook, LiveRun(notebook.run()))
    shown = labels(desk.ask("tasks", process="say"))

    assert shown[0] == (
        'say[name=Ås "1" flag=True none=None number=0.001 long=x y=1 x y=1 x y=1 x y=1 x y=1… n=1 '
        "file=a b.txt]"
    )
    assert [labels(desk.ask("tasks", process="say", text=each)) for each in shown] == [
        [each] for each in shown
    ]
    texts = ('name="Bø"', "data=[1, 2]", "n=1", "n=1 file=a b.txt", "[n=1]", "n=1 flag=No", "say")
    found = [desk.ask("tasks", process="say", text=each)["matched"] for each in texts]
    assert found == [2, 2, 4, 1, 2, 0, 0]


def test_a_task_tells_its_inputs_outputs_log_error_and_fingerprint(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    desk = Desk(notebook, LiveRun(notebook.run()))

    task = desk.ask("task", process="fit", position="1")
    assert (task["label"], task["status"]) == ("fit[depth=8 rep=1]", "completed")
    assert task["inputs"] == [{"name": "depth", "value": "8"}, {"name": "rep", "value": "1"}]
    assert [each["name"] for each in task["outputs"]] == ["score"]
    assert "norm(depth * rep)" in text_of(task["source"])
    assert {"helper", "input", "code"} <= {each["kind"] for each in task["components"]}
    log = desk.ask("log", process="fit", position="1")
    assert log == {"live": False, "chunks": [{"stream": "stdout", "text": "fitting 8 1\n"}]}

    failed = desk.ask("task", process="check", position="1")
    assert failed["status"] == "failed"
    assert "<b>no</b> eight" in failed["error"]
    assert "assert score != 8" in failed["traceback"]


def test_a_task_that_was_tried_again_tells_what_became_of_its_earlier_attempts(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel n = of(1, 2)",
            "%%process flaky(k) -> k from n --retries 2\n"
            "assert task.attempt > 1 or k == 1, f'not at attempt {task.attempt}'",
        ]
    )
    desk = Desk(notebook, LiveRun(notebook.run()))

    assert desk.ask("task", process="flaky", position="0")["earlier"] == []
    task = desk.ask("task", process="flaky", position="1")
    assert (task["status"], ["attempt", "2"] in task["facts"]) == ("completed", True)
    [earlier] = task["earlier"]
    assert (earlier["attempt"], earlier["status"]) == (1, "failed")
    assert earlier["error"] == "AssertionError: not at attempt 1"


def test_a_hit_tells_the_same_and_where_it_was_made(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    first = notebook.run()
    desk = Desk(notebook, LiveRun(notebook.run()))

    task = desk.ask("task", process="fit", position="1")

    assert task["status"] == "cached"
    assert ["made in", f"run {first.name}"] in task["facts"]
    assert desk.ask("log", process="fit", position="1")["chunks"][0]["text"] == "fitting 8 1\n"
    assert "was cached" in desk.ask("why", process="fit", position="1")["head"]


def test_why_comes_with_the_diff_of_the_helper_that_changed(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    notebook.run()
    notebook.cell("def norm(x):\n    return x * 1.0")
    desk = Desk(notebook, LiveRun(notebook.run()))

    why = desk.ask("why", process="fit", position="1")

    assert "helper norm changed" in why["head"]
    assert "-    return x\n" in text_of(why["diffs"][0]["page"])
    assert "+    return x * 1.0" in text_of(why["diffs"][0]["page"])


def test_a_run_of_the_log_answers_as_the_run_itself(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    run = notebook.run()
    live = Desk(notebook, LiveRun(run))
    stored = Desk(notebook, StoredRun(notebook.session.cache, run.id))

    for question in (
        {"ask": "tasks", "process": "fit"},
        {"ask": "task", "process": "check", "position": "1"},
        {"ask": "log", "process": "fit", "position": "0"},
    ):
        assert stored.ask(**question) == live.ask(**question)
    progress = stored.view.source.progress()
    assert [(each.name, dict(each.counts)) for each in progress.places] == [
        (each.name, {name: n for name, n in each.counts.items() if n})
        for each in run.progress().places
    ]
    assert progress.failures[0].position == "1"


def test_a_run_that_keeps_nothing_shows_what_the_kernel_remembers(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    desk = Desk(notebook, LiveRun(notebook.run(no_cache=True)))

    assert labels(desk.ask("tasks", process="fit", text="depth=4")) == [
        "fit[depth=4 rep=0]",
        "fit[depth=4 rep=1]",
    ]
    task = desk.ask("task", process="check", position="1")
    assert task["status"] == "failed"
    assert task["facts"] == [["kept", "no: the run was started with --no-cache"]]


def test_a_task_that_is_running_has_a_log_that_grows(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    notebook.cells(
        [
            "%channel one = of(1)",
            "%%process lone() -> k\n"
            "import pathlib, time\n"
            f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(.01)\n"
            "k = 1",
            "%%process slow(n) from one\n"
            "import pathlib, time\n"
            "print('begun', flush=True)\n"
            f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(.01)\n"
            "out = n",
        ]
    )
    run = notebook.session.start()
    desk = Desk(notebook, LiveRun(run))

    wait_until(lambda: desk.ask("tasks", process="slow")["running"])
    wait_until(lambda: desk.ask("log", process="slow", position="0")["chunks"])
    page = desk.ask("tasks", process="slow")
    log = desk.ask("log", process="slow", position="0")

    assert page["rows"] == []
    words = ("N=1", "slow[n=1]", "[0]", "FIRST RUN")
    found = [desk.ask("tasks", process="slow", text=text) for text in (*words, "slow", "n=2")]
    assert [len(each["running"]) for each in found] == [1, 1, 1, 1, 0, 0]
    wait_until(lambda: desk.ask("tasks", process="lone", text="FIRST run")["running"])
    assert log["live"]
    assert log["chunks"][0]["text"].strip() == "begun"
    assert desk.ask("task", process="slow", position="0")["status"] == "running"
    with pytest.raises(UsageError, match="waits for its inputs"):
        desk.ask("task", process="slow", position="7")
    gate.touch()
    assert run.wait(PATIENCE_S)
    found = [desk.ask("tasks", process="slow", text=text) for text in (*words, "slow", "n=2")]
    assert [len(each["rows"]) for each in found] == [1, 1, 1, 1, 0, 0]
    assert desk.ask("task", process="slow", position="0")["status"] == "completed"


def test_what_nobody_knows_is_a_clear_error(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    desk = Desk(notebook, LiveRun(notebook.run()))

    with pytest.raises(UsageError, match="no process 'nosuch'"):
        desk.ask("task", process="nosuch", position="1")
    with pytest.raises(UsageError, match=r"knows no more of fit\[77\]"):
        desk.ask("task", process="fit", position="77")
    with pytest.raises(UsageError, match="nothing answers"):
        desk.ask("format the disk")


def test_a_page_of_many_thousand_tasks_is_small_and_quick(
    tmp_path: Path, record_property: Record
) -> None:
    cache = Cache.open(tmp_path / "cache")
    cache.log.append([attempt(str(k), tag="", realtime=k / 1e5) for k in range(20_000)])
    cache.log.rotate()
    cache.log.fold()
    query = TaskQuery(process="fit", sort="duration", descending=True, offset=10_000)
    task_page(cache, "R1", None, query)  # the first question makes the tables

    times = []
    for _ in range(3):
        started = time.perf_counter()
        page = task_page(cache, "R1", None, query)
        times.append(time.perf_counter() - started)

    later = attempt("777", tag="", run="R2", at=1_763_770_000_000_001)
    started = time.perf_counter()
    nearest = nearest_earlier(cache, later, {})
    why_s = time.perf_counter() - started
    assert nearest is not None
    assert (nearest.run, nearest.position) == ("R1", "777")  # equal inputs: the same place

    size = len(json.dumps(page))
    assert [row["position"] for row in page["rows"][:2]] == ["9999", "9998"]
    assert page["total"] == 20_000
    assert size < 10_000
    record_property(
        "measured",
        f"a page of 20,000 tasks: {size / 1000:.1f} kB, {min(times) * 1000:.0f} ms; "
        f"the nearest earlier of one: {why_s * 1000:.0f} ms",
    )
    cache.close()
