"""Reasons of processes: from the rows of earlier runs, each read once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.record.earlier_inputs import EarlierInputs, InputsOnRecord, NewInputs
from nbcache.engine.record.explanations import why
from nbcache.engine.record.query import fetch
from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.running import reasons
from nbcache.engine.running.prepare import AGAIN as TOLD
from nbcache.engine.running.reasons import AGAIN, NOT_KEPT, Reasons
from nbcache.model.digest import identity_digest
from nbcache.model.row import AttemptRow, InputSummary, RunRow
from nbcache.model.task import RunStatus
from nbcache.store.cache import Cache
from nbcache.store.segment import ROWS
from tests.engine.notebooks import Notebook
from tests.store.rows import attempt
from tests.waiting import PATIENCE_S


def test_the_rows_of_runs_are_those_of_the_log_also_after_it_was_folded_and_merged(
    kernels: Callable[[], Notebook],
) -> None:
    first, second = kernels(), kernels()
    for number in range(3):
        for notebook in (first, second):
            notebook.cells(["%channel src = of(1)", f"%%process p(v) -> w from src\nw = {number}"])
            notebook.run()
            log = first.session.cache.log
            wanted = {row.id for row in log.rows(("run",)) if isinstance(row, RunRow)}
            assert {row.id for row in rare_rows(log, RunRow)} == wanted

    log.rotate()
    log.fold()
    log.compact()

    assert {row.id for row in rare_rows(log, RunRow)} == wanted | {
        row.id for row in log.rows(("run",)) if isinstance(row, RunRow)
    }
    assert len(wanted) >= 6


def test_a_task_runs_again_because_it_failed_or_was_told_to(
    kernels: Callable[[], Notebook],
) -> None:
    first, second = kernels(), kernels()
    cells = ["%channel src = of(0, 1)", "%%process p(v) -> w from src\nw = 1 / v"]
    first.cells(cells)
    first.run()

    [plan] = first.session.plan()
    assert plan.reason == AGAIN
    assert first.run().reasons["p"] == AGAIN
    first.session.cache.log.rotate()
    first.session.cache.log.fold()
    second.cells(["%channel src = of(2, 0)", *cells[1:]])
    new = "new input: no earlier task has v 2; 1 whose earlier attempt did not succeed"
    [plan] = second.session.plan()
    assert second.run().reasons["p"] == plan.reason == new
    assert second.run().reasons["p"] == AGAIN
    assert second.run(fresh=True).reasons["p"] == TOLD
    last = second.session.last_run
    assert last is not None
    by_position = {
        row.position: row.reason
        for row in second.session.cache.log.attempts()
        if isinstance(row, AttemptRow) and row.run == last.id
    }
    assert by_position == {"0": TOLD, "1": TOLD}
    second.cell("%%process q(v) -> w from src --cache off\nw = 1")
    assert second.run("q").reasons["q"] == NOT_KEPT
    allowed = second.folder / "allowed"
    hidden = str(allowed)[::-1]  # a name written as it is would count in the hash
    body = f"import os\nw = v if v or os.path.exists({hidden!r}[::-1]) else 1 / v"
    second.cells(["%channel src = of(0)", f"%%process r(v) -> w from src\n{body}"])
    second.run("r")
    allowed.touch()
    second.cell("%channel src = of(0, 3)")
    also = "new input: no earlier task has v 3; 1 whose earlier attempt did not succeed"
    assert second.run("r").reasons["r"] == also
    mended = second.folder / "mended"
    hidden = str(mended)[::-1]
    body = f"import os\nw = 1 / (v - 4 if os.path.exists({hidden!r}[::-1]) else v)"
    second.cells(["%channel src = of(0)", f"%%process s(v) -> w from src\n{body}"])
    second.run("s")
    mended.touch()
    second.cell("%channel src = of(0, 4)")
    [plan] = second.session.plan(["s"])
    assert plan.reason == also.replace("v 3", "v 4")
    assert second.run("s").reasons["s"] == plan.reason  # that of 4 fails: it ran as well


def test_the_line_of_a_run_names_the_files_and_the_inputs_that_are_new_or_counts_them(
    kernels: Callable[[], Notebook],
) -> None:
    first, second = kernels(), kernels()
    names = [first.folder / f"part{number}.csv" for number in range(5)]
    for each in names:
        each.write_text("a")
    header = "(x, f: path) -> out from grid.combine(files)"
    cells = ["%channel files = from_path('part*.csv')", f"%%process p{header}\nout = x"]

    def reason(notebook: Notebook, grid: str) -> str:
        notebook.cells([f"%channel grid = of({grid})", *cells])
        [plan] = notebook.session.plan()
        run = notebook.run()
        assert run.reasons.get("p", "") == plan.reason  # once all are decided, they say the same
        return plan.reason

    assert reason(first, "1") == "first run of this code here"
    assert reason(second, "1") == ""
    names[3].write_text("bb")
    assert reason(second, "1") == "file part3.csv (input f) changed"
    names[0].write_text("bb")
    names[1].write_text("cc")
    first.session.cache.log.rotate()
    first.session.cache.log.fold()
    both = "file part0.csv (input f) changed and file part1.csv (input f) changed"
    assert reason(second, "1, 2") == f"{both}; new input: no earlier task has x 2"
    for each in names:
        each.write_text("dddd")
    several = "5 files of inputs changed, such as file part0.csv (input f)"
    assert reason(second, "1") == several
    assert reason(second, "1, 2") == "new combinations of inputs"
    last = second.session.last_run
    assert last is not None
    own = [
        row.reason
        for row in second.session.cache.log.attempts()
        if isinstance(row, AttemptRow) and row.run == last.id
    ]
    assert set(own) == {"new combinations of inputs"}


def test_a_value_that_travels_is_told_apart_by_its_parts_and_by_who_made_it(
    kernels: Callable[[], Notebook],
) -> None:
    notebook = kernels()
    made = "class P:\n    def __init__(self, k): self.k = k\n    def m(self): return self.k + 1\n"
    values = "import pandas as pd\ntable = pd.DataFrame({'a': [1, 2], 'b': 0})\nobject = P(3)\n"
    channels = ["%channel tables = value(table)", "%channel objects = of([object])"]
    processes = [
        "%%process sums(x) -> o from tables\no = int(x.a.sum())",
        "%%process calls(y) -> o from objects\no = y[0].m()",
        "%channel some = of(3, 4)",
        "%%process makes(v) -> p from some\np = P(v)",
        "%%process uses(p) -> o from makes\no = p.m()",
        "%%process gathers(p) -> o from makes.collect()\no = len(p)",
    ]
    notebook.cells([made + values, *channels, *processes])
    assert not notebook.run().failures
    notebook.cell(made.replace("+ 1", "+ 2") + values.replace("[1, 2]", "[1, 3]"))
    assert not notebook.run().failures

    tasks = {"sums": "", "calls": "", "uses": "0", "gathers": ""}
    heads = {
        name: why(notebook.session.cache, [name, *each.split()]).head
        for name, each in tasks.items()
    }
    assert "input x: column 'a' (int64) changed" in heads["sums"]
    assert "input y: [0] its class (P) changed" in heads["calls"]
    assert "p is a new result of makes[v=3], which ran: helper P changed" in heads["uses"]
    gathered = "2 of the 2 are new, such as that of makes[v=3], which ran: helper P changed"
    assert gathered in heads["gathers"]


def test_what_was_edited_and_set_back_is_no_reason_for_tasks_of_new_inputs(
    notebook: Notebook,
) -> None:
    def ran(limit: int, *items: int) -> str:
        notebook.cells([f"limit = {limit}", f"%channel src = of{items}"])
        [plan] = notebook.session.plan()
        run = notebook.run()
        assert not run.error
        assert run.reasons.get("p", "") == plan.reason
        return plan.reason

    notebook.cell("%%process p(v) -> w from src\nw = v + limit")
    ran(5, 1, 2)
    assert ran(7, 1, 2, 3).startswith("limit 5 → 7; ")
    assert ran(5, 1, 2, 4) == "new input: no earlier task has v 4"
    # that 3 is no new input is seen, too: with this limit it never ran
    assert ran(7, 1, 2) == ""
    assert ran(5, 1, 2, 3).startswith("limit 7 → 5; ")


def test_a_file_that_some_tasks_had_read_is_no_reason_for_those_of_new_inputs(
    notebook: Notebook,
) -> None:
    data = notebook.folder / "data.txt"
    data.write_text("1")
    read = f"open({str(notebook.folder)!r} + '/da' + 'ta.txt').read()"
    notebook.cell("%channel src = of(1)")
    notebook.cell(f"%%process p(v) -> w from src\nw = {read}")
    notebook.run()
    data.write_text("2")
    notebook.cell("%channel src = of(1, 2)")

    run = notebook.run()

    cache = notebook.session.cache
    reasons = fetch(cache, f"SELECT reason FROM tasks WHERE run = '{run.id}' ORDER BY position")
    assert reasons == [
        ("file data.txt that it reads changed",),
        ("new input: no earlier task has v 2",),
    ]


def test_a_new_input_is_named_whether_or_not_its_task_fails(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process p(v) -> w from src --on_error ignore\nw = 1 / v")
    notebook.run()
    notebook.cell("%channel src = of(1, 2, 0)")
    [plan] = notebook.session.plan()

    run = notebook.run()

    assert run.counts()["ignored"] == 1
    assert run.reasons["p"] == plan.reason == "2 new inputs: v 2, v 0"


def test_rows_that_cannot_be_read_or_are_many_fail_no_task_and_leave_the_reason_plain(
    kernels: Callable[[], Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = kernels()

    def reason(number: int) -> str:
        notebook.cells([f"%channel src = of({number})", "%%process p(v) -> w from src\nw = v"])
        run = notebook.run()
        assert not run.failures
        assert run.status is RunStatus.SUCCEEDED
        return run.reasons["p"]

    reason(0)
    log = notebook.session.cache.log
    log.rotate()
    log.fold()
    assert reason(1) == "new input: no earlier task has v 1"
    with monkeypatch.context() as patched:
        patched.setattr(reasons, "_MOST_ATTEMPTS", 0)
        assert reason(2) == "new inputs"
    assert log.segments()
    for name in log.segments():  # what else is in them was read before
        (log.root / "log" / (name + ROWS)).write_bytes(b"no rows")

    assert reason(3) == "new inputs"


def test_reasons_are_settled_when_none_is_being_found(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding, settling, overlaps = threading.Event(), threading.Event(), []
    new_among, line_of = EarlierInputs.new_among, Reasons.line_of

    def slowly(self: EarlierInputs, inputs: dict[str, InputSummary]) -> list[Any]:
        if inputs["file"].summary.startswith("b.txt"):
            finding.set()
            overlaps.append(settling.wait(0.2))  # as long as the run's end could come between
        return new_among(self, inputs)

    def noticed(self: Reasons, *args: Any) -> str:
        settling.set()
        return line_of(self, *args)

    for name in "abc":
        (notebook.folder / f"{name}.txt").write_text(name)
    process = "%%process p(file: path) -> w from src\nw = 1"
    notebook.cells(["%channel src = from_path('c.txt')", process])
    notebook.run()
    notebook.cells(["%channel src = from_path('[ab].txt')", process])
    monkeypatch.setattr(EarlierInputs, "new_among", slowly)
    monkeypatch.setattr(Reasons, "line_of", noticed)

    run = notebook.session.start(())
    assert finding.wait(PATIENCE_S)
    run.cancel()

    assert run.wait(PATIENCE_S)
    assert settling.is_set()
    assert overlaps == [False]


def test_inputs_that_are_folded_away_while_they_are_read_are_on_record(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache") as cache:
        row = attempt()
        cache.log.append([row])

        record = InputsOnRecord(cache.log)  # a run before is being tidied up
        cache.log.rotate()
        cache.log.fold()

        assert not record.of(row.process).new_among({row.inputs[0].name: row.inputs[0]})


def test_new_inputs_are_named_in_the_order_of_tasks_whatever_the_order_of_decisions() -> None:
    on_record, line = EarlierInputs(), NewInputs()
    for position in (3, 1, 4, 0, 2):
        value = position if position != 4 else 0  # the same input as that of the first task
        row = InputSummary("x", identity_digest(str(value).encode()), str(value))
        line.add((position,), on_record.new_among({"x": row}))

    assert str(line) == "4 new inputs: x 0, x 1, x 2, ..."
