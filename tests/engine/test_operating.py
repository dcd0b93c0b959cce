"""Functions on channels: they cannot change what others see, and their errors say where."""

from __future__ import annotations

import pytest

from nbcache.errors import ChannelError
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook


def test_a_function_that_changes_its_item_changes_no_other_branch(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of([1], [2])",
            "%channel grown = src.map(lambda x: x.append(9) or x)",
            "%%process a(v) -> out from grown\nout = v",
            "%%process b(v) -> out from src\nout = v",
        ]
    )
    run = notebook.run()
    assert list(run["a"]) == [[1, 9], [2, 9]]
    assert list(run["b"]) == [[1], [2]]


def test_a_function_that_returns_one_growing_list_gives_items_as_they_were(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%%channel grown\nseen = []\nof(1, 2, 3).map(lambda x: seen.append(x) or seen)",
            "%%process count(v) -> out from grown\nout = list(v)",
        ]
    )
    run = notebook.run()
    assert list(run["count"]) == [[1], [1, 2], [1, 2, 3]]


def test_a_fold_leaves_its_initial_value_alone(notebook: Notebook) -> None:
    notebook.cells(
        [
            "start = []",
            "%channel folded = of(1, 2).reduce(lambda old, x: old.append(x) or old, start)",
            "%%process count(v) -> out from folded\nout = v",
        ]
    )
    for _ in range(2):
        assert notebook.run()["count"].value == [1, 2]
    assert notebook.names["start"] == []


def test_an_error_in_a_function_names_channel_item_and_line(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2, 0)")
    notebook.cell("%%process p(v) -> out from src\nout = v")
    notebook.cell("def inverse(x):\n    return 1 / x\n")
    notebook.cell("%channel inverted = p.map(inverse)")
    notebook.cell("%%process w(v) -> out from inverted\nout = v")
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    assert "channel inverted: ZeroDivisionError: division by zero (the item:" in run.error
    assert "line 2 of inverse(): return 1 / x" in run.error


def test_an_error_in_a_function_is_said_when_its_channel_is_declared(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 0)")
    with pytest.raises(ChannelError, match=r"channel bad: ZeroDivisionError.*the item: 0"):
        notebook.cell("%channel bad = src.map(lambda x: 1 / x)")
    assert "bad" not in notebook.names


def test_exit_in_a_function_ends_no_kernel(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 0)")
    with pytest.raises(ChannelError, match="channel bad: SystemExit"):
        notebook.cell("%channel bad = src.map(lambda x: exit(3))")
