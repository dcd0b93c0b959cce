"""Labels name several processes at once; what a `debug` process prints is heard while it runs."""

from __future__ import annotations

import pytest

from nbcache.errors import UsageError
from nbcache.store import history
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S


def test_a_debug_process_is_heard_line_by_line_while_it_runs_and_on_a_hit(
    notebook: Notebook,
) -> None:
    gate = notebook.folder / "gate"
    notebook.cell(
        "%%process quiet(v = 1) -> o --bash\necho not heard\no=1\n",
    )
    notebook.cell(
        "%%process loud(v = 1) -> o --bash --debug\n"
        f"echo first; printf second; while [ ! -e '{gate}' ]; do sleep 0.01; done\no=1"
    )
    run = notebook.session.start()
    heard: list[str] = []
    while "loud[v=1] | first" not in heard:
        assert not run.wait(0.02), heard
        heard += run.printed()
    gate.touch()
    assert run.wait(PATIENCE_S)
    assert heard + run.printed() == ["loud[v=1] | first", "loud[v=1] | second"]
    assert notebook.run().printed() == ["loud[v=1] | first", "loud[v=1] | second"]


def test_a_label_stands_for_its_processes_and_in_the_history(notebook: Notebook) -> None:
    notebook.cell("%%process a() -> x --label big,io\nx = 1")
    notebook.cell("%%process b() -> y --label io\ny = 1")
    notebook.cell("%%process c() -> z\nz = 1")
    assert notebook.session.names.labelled("io") == ["a", "b"]
    with pytest.raises(UsageError, match="there are: big, io"):
        notebook.session.names.labelled("large")
    notebook.run(*notebook.session.names.labelled("io"))
    query = "SELECT process, labels FROM processes ORDER BY process"
    rows = history.connect(notebook.session.cache, live=False).execute(query).fetchall()
    assert rows == [("a", ["big", "io"]), ("b", ["io"])]


def test_neither_is_part_of_the_hash(notebook: Notebook) -> None:
    notebook.cell("%%process a() -> x\nx = 1")
    notebook.run()
    notebook.cell("%%process a() -> x --label big --debug\nx = 1")
    assert notebook.run().counts() == {"cached": 1}
