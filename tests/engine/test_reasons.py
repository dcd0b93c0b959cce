"""Reasons of processes: from the rows of earlier runs, each read once."""

from __future__ import annotations

from collections.abc import Callable

from nbcache.engine.reasons import run_rows
from nbcache.model.row import RunRow
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
            assert {row.id for row in run_rows(log)} == wanted

    log.rotate()
    log.fold()
    log.compact()

    assert {row.id for row in run_rows(log)} == wanted | {
        row.id for row in log.rows(("run",)) if isinstance(row, RunRow)
    }
    assert len(wanted) >= 6
