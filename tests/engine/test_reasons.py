"""Reasons of processes: from the rows of earlier runs, each read once."""

from __future__ import annotations

from collections.abc import Callable

from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.running.prepare import AGAIN as TOLD
from nbcache.engine.running.reasons import AGAIN, NEW_INPUT, NOT_KEPT
from nbcache.model.row import AttemptRow, RunRow
from tests.engine.notebooks import Notebook


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
    assert second.run().reasons["p"] == NEW_INPUT  # of a process, what holds for more
    assert second.run().reasons["p"] == AGAIN
    assert second.run(fresh=True).reasons["p"] == TOLD
    last = second.session.last_run
    assert last is not None
    by_position = {
        row.position: row.reason
        for row in second.session.cache.log.rows(("attempt",))
        if isinstance(row, AttemptRow) and row.run == last.id
    }
    assert by_position == {"0": TOLD, "1": TOLD}
    second.cell("%%process q(v) -> w from src --cache off\nw = 1")
    assert second.run("q").reasons["q"] == NOT_KEPT
