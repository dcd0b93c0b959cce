"""`check --repeat`: what does not come out the same when a kept task runs again."""

from __future__ import annotations

import pytest

from nbcache.engine.repeat import repeat
from nbcache.errors import NotRunError
from nbcache.store.verify import verify
from tests.engine.notebooks import Notebook


def test_outputs_that_differ_are_found_per_process_and_nothing_kept_changes(
    notebook: Notebook,
) -> None:
    counter = notebook.folder / "counter"
    notebook.cells(
        [
            "%channel src = of(*range(6))",
            f"%%process same(v) -> n from src\n{notebook.mark('v')}\nn = v * 2",
            "%%process noise(v) -> n, data from src\nimport os, time\n"
            "n = v\ndata = [v, os.urandom(4).hex()] * 2000",
            "%%process files(v) -> out: path from src --bash\n"
            'echo "$v" > out; test "$v" = 0 || date +%s%N >> out',
            "%%process once(v) -> n from src --on_error ignore\nimport os\n"
            f"os.mkdir({str(counter)!r} + str(v))\nn = v",
        ]
    )
    first = notebook.run()
    kept = list(first["noise"])
    cache = notebook.session.cache
    rows = len(list(cache.log.rows()))
    notebook.trace.write_text("")

    found = {each.process: each for each in repeat(notebook.session, sample=3)}

    assert notebook.ran() == ["0", "2", "5"]
    assert found["same"].good
    assert (found["same"].tasks, found["same"].kept) == (3, 6)
    noise = found["noise"].outputs
    assert (noise["n"].different, noise["data"].different) == (0, 3)
    assert noise["data"].task == "noise[v=0]"
    assert noise["data"].data is not None
    assert "changed" in noise["data"].data.head
    files = found["files"].outputs["out"]
    assert (files.different, files.task) == (2, "files[v=2]")
    assert [task for task, _ in found["once"].failed] == ["once[v=0]", "once[v=2]", "once[v=5]"]
    assert "FileExistsError" in found["once"].failed[0][1]
    assert len(list(cache.log.rows())) == rows
    assert verify(cache).orphans == []
    second = notebook.run()
    assert notebook.ran() == []
    assert list(second["noise"]) == kept


def test_of_one_process_all_tasks_are_repeated_on_request(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            f"%%process make(v) -> n from src\n{notebook.mark('v')}\nn = v",
            f"%%process use(n) -> m from make\n{notebook.mark('n * 10')}\nm = n",
        ]
    )
    with pytest.raises(NotRunError, match="no result"):
        repeat(notebook.session)
    notebook.run()
    notebook.trace.write_text("")

    (found,) = repeat(notebook.session, ["use"], sample=None)

    assert notebook.ran() == ["10", "20"]
    assert found.good
    assert found.record()["reproducible"] is True


def test_what_is_not_kept_is_named_as_left_out(notebook: Notebook) -> None:
    # given a process with one new item, and one that was edited
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell("%%process make(v) -> n from src\nn = v")
    notebook.cell("%%process use(n) -> m from make\nm = n")
    notebook.run()
    notebook.cell("%channel src = of(1, 2, 3)")
    notebook.cell("%%process use(n) -> m from make\nm = n + 1")

    make, use = repeat(notebook.session)

    # then it is said how many of their tasks were not looked at
    assert (make.process, make.tasks, make.left, make.good) == ("make", 2, 1, True)
    assert (use.process, use.tasks, use.left) == ("use", 0, 3)
    assert use.record()["reproducible"] is None
    with pytest.raises(NotRunError, match="no result"):
        repeat(notebook.session, ["src"])  # a channel has no results of its own
