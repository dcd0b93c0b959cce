"""Ignored failures, wherever a run is told of: its rows, the views, `show`, `log`, `why`."""

from __future__ import annotations

import pytest

from nbcache.engine.debugging import open_task
from nbcache.engine.record import history, task_log
from nbcache.engine.record.explanations import why
from nbcache.errors import UsageError
from nbcache.model.row import AttemptRow
from nbcache.store.history import connect
from tests.engine.notebooks import Notebook

QUICK = "#| backoff: 1ms"
CELLS = [
    "%channel src = of(1, 2, 2)",
    "%channel words = of('no file')",
    f"%%process plain(v) -> out from src --on_error ignore --retries 1\n{QUICK}\n"
    "assert v == 1\nout = v",
    "%%process asked(v) -> out from src\n#| on_error: 'ignore' if task.error else 'stop'\n"
    "assert v != 2\nout = v",
    "%%process died(v) -> out from src --on_error ignore\n"
    "import os\nif v == 2:\n    os.kill(os.getpid(), 9)\nout = v",
    "%%process refused(f: path) -> out from words --on_error ignore\nout = 1",
]


@pytest.fixture
def ignored(notebook: Notebook) -> Notebook:
    notebook.cells(CELLS)
    assert notebook.run().counts() == {"completed": 3, "ignored": 7}
    return notebook


def test_rows_and_views_say_ignored_for_each_task_also_for_twins_and_refused_ones(
    ignored: Notebook,
) -> None:
    with connect(ignored.session.cache) as connection:
        tasks = connection.execute(
            "SELECT process, status, count(*) FROM tasks GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        attempts = connection.execute(
            "SELECT status FROM attempts WHERE task_id = 'plain[1]' ORDER BY attempt"
        ).fetchall()
    assert tasks == [
        ("asked", "COMPLETED", 1), ("asked", "IGNORED", 2),
        ("died", "COMPLETED", 1), ("died", "IGNORED", 2),
        ("plain", "COMPLETED", 1), ("plain", "IGNORED", 2),
        ("refused", "IGNORED", 1),
    ]  # fmt: skip
    assert attempts == [("FAILED",), ("IGNORED",)]


def test_show_log_and_why_say_ignored(ignored: Notebook) -> None:
    cache = ignored.session.cache
    shown = history.show_run(cache)
    assert {each.name: dict(each.counts) for each in shown.processes}["died"] == {
        "completed": 1, "ignored": 2,
    }  # fmt: skip
    assert {each.status for each in shown.failures} == {"ignored"}
    assert len(shown.failures) == 7
    logged = task_log.log_rows(cache, [shown.run.id], fields=("process",), status="ignored")
    assert len(logged) == 7
    assert why(cache, ["plain", "failed"]).outcome == "ignored"


def test_a_task_whose_input_cannot_be_identified_has_a_row_with_its_error(
    notebook: Notebook,
) -> None:
    notebook.cells(["%channel src = of('gone.txt')",
                    "%%process work(f: path) -> out from src\nout = 1"])  # fmt: skip
    for _ in range(2):
        notebook.run()
    rows = [row for row in notebook.session.cache.log.rows() if isinstance(row, AttemptRow)]
    assert [(row.status, row.position) for row in rows] == [("failed", "0")] * 2
    assert all("no file gone.txt" in (row.error or "") for row in rows)
    assert rows[0].hash != rows[1].hash  # a hash of its own, which nothing can hit
    with pytest.raises(UsageError, match="work directory"):
        open_task(notebook.session.cache, ["work"])


def test_without_cache_an_ignored_failure_leaves_no_row(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    run = notebook.run(no_cache=True)
    assert run.counts()["ignored"] == 7
    assert list(notebook.session.cache.log.rows()) == []
