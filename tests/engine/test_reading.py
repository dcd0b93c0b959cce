"""Reading through a name: a process's results, a channel's items, and what it must not run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nbcache.engine.running.run import Run
from nbcache.errors import (
    MissingPackageError,
    NotRunError,
    RunError,
    RunFailed,
    UnknownNameError,
    UsageError,
)
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook


def test_a_channel_gives_its_items_without_a_run(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel grid = product(depth=[2, 4], rep=range(2))",
            "%channel pairs = of(('a', 1), ('b', 2))",
            "%channel only = value(7)",
            "%channel lists = grid.buffer(3)",
        ]
    )
    names = notebook.names

    assert [(item.depth, item.rep) for item in names["grid"]] == [(2, 0), (2, 1), (4, 0), (4, 1)]
    assert list(names["pairs"]) == [("a", 1), ("b", 2)]
    assert names["pairs"][1] == ("b", 2)
    assert names["only"].value == 7
    assert [item.rep for item in names["lists"]] == [[0, 1, 0], [1]]
    table = names["grid"].table()
    assert list(table.columns) == ["depth", "rep"]
    assert len(table) == 4
    assert list(names["only"].table().columns) == ["only"]
    with pytest.raises(UsageError, match="4 results"):
        _ = names["grid"].value
    assert notebook.session.last_run is None


def test_a_channel_behind_a_process_runs_what_is_missing_once(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2, 3)",
            f"%%process work(v) -> v, out from src\n{notebook.mark('v')}\nout = v * 10",
            "%channel big = work.filter(lambda out: out > 10)",
        ]
    )
    big = notebook.names["big"]

    assert [item.out for item in big] == [20, 30]
    first = notebook.session.last_run
    assert list(big.table().v) == [2, 3]
    assert notebook.session.last_run is first
    run = notebook.run("big")
    assert [item.v for item in run["big"]] == [2, 3]
    assert notebook.ran() == []


@pytest.mark.parametrize("channel", ["fit.take(2)", "fit.first()", "fit.unique()"])
def test_an_item_that_depends_on_those_before_it_is_read_once_they_are_made(
    notebook: Notebook, channel: str
) -> None:
    notebook.cells(["%channel src = of(2, 3)", "%%process fit(v) -> out from src\nout = v * 10"])
    notebook.run()
    notebook.cells(["%channel src = of(1, 2, 3)", f"%channel best = {channel}"])

    best = notebook.names["best"]

    assert best[0] == 10


def test_a_file_that_can_be_executed_is_read_as_one_after_an_equal_one_that_cannot(
    notebook: Notebook,
) -> None:
    body = "%%process {0}(v) -> t: path = 't.sh' from src --bash\necho > t.sh"
    notebook.cell("%channel src = of(1)")
    notebook.cells([body.format("plain"), f"{body.format('able')}; chmod +x t.sh"])
    run = notebook.run()
    for each in (notebook.folder / "cache" / "blobs").rglob("*"):
        if each.is_file():
            each.chmod(0o444)  # as those that come from elsewhere are

    paths = [run[name].value for name in ("plain", "able")]

    assert os.access(paths[1], os.X_OK)


def test_a_channel_that_is_no_longer_bound_says_so(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    src = notebook.names.pop("src")

    with pytest.raises(NotRunError, match="no longer bound"):
        list(src)


def test_what_was_ignored_is_not_tried_again_by_a_read(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(0, 1, 2)",
            "%%process inverse(v) -> out from src --on_error ignore\n"
            f"{notebook.mark('v')}\nout = 1 / v",
            "%%process total(outs) -> s from inverse.collect()\ns = sum(outs)",
        ]
    )

    assert notebook.names["total"].value == 1.5
    first = notebook.session.last_run
    assert list(notebook.names["inverse"]) == [1.0, 0.5]
    assert notebook.names["total"].value == 1.5
    assert notebook.session.last_run is first
    notebook.run()
    assert notebook.ran() == ["0"]


def start_held(notebook: Notebook, hold: Path) -> Run:
    """Start a run whose second task ends when the file `hold` is there."""
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            "%%process work(v) -> out from src --bash\n"
            f"while [ $v = 2 ] && [ ! -e '{hold}' ]; do sleep 0.05; done\nout=$((v * 10))",
        ]
    )
    return notebook.session.start()


def test_a_read_during_a_run_takes_what_the_run_makes(notebook: Notebook, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    run = start_held(notebook, hold)
    work = notebook.names["work"]
    said: list[str] = []

    assert work[0] == "10"
    assert work[:1] == ["10"]
    assert not run.done

    def tell(text: str) -> None:
        said.append(text)
        hold.touch()

    notebook.session.teller = tell
    assert list(work) == ["10", "20"]

    assert said == [f"work waits for run {run.name}, which is going"]
    assert notebook.session.last_run is run


def test_a_read_that_waits_for_a_run_ends_when_that_is_cancelled(
    notebook: Notebook, tmp_path: Path
) -> None:
    run = start_held(notebook, tmp_path / "hold")
    notebook.session.teller = lambda text: run.cancel()

    with pytest.raises(RunError, match="was cancelled"):
        list(notebook.names["work"])

    assert notebook.session.last_run is run


def test_a_plan_does_not_take_what_would_run_for_ignored(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(0, 1, 2)",
            "%%process inverse(v) -> out from src --on_error ignore\nout = 1 / v",
            "%%process total(outs) -> s from inverse.collect()\ns = sum(outs)",
            "%%process each(out) -> s from inverse\ns = out",
        ]
    )
    plans = {plan.name: plan for plan in notebook.session.plan()}

    assert (plans["inverse"].to_run, plans["inverse"].tasks) == (3, 3)
    assert (plans["total"].to_run, plans["total"].unknown) == (0, 1)
    assert (plans["each"].to_run, plans["each"].unknown) == (0, 3)


def test_a_plan_goes_on_however_many_tasks_would_run(notebook: Notebook) -> None:
    notebook.cells(
        [
            "items = list(range(8))",
            "%channel src = from_iterable(items)",
            "%%process work(v) -> out from src\nout = v",
            "%%process more(out) -> s from work\ns = out",
        ]
    )
    notebook.run()
    notebook.cell("items = [*range(100, 107), *range(8)]")
    plans = {plan.name: plan for plan in notebook.session.plan()}

    assert (plans["work"].to_run, plans["work"].cached) == (7, 8)
    assert (plans["more"].unknown, plans["more"].cached) == (7, 8)


def test_one_broken_process_spoils_no_other(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            "%%process broken(v) -> out from nowhere\nout = v",
            "%channel later = of(3)",
            "%%process good(v) -> out from src\nout = v",
        ]
    )

    assert notebook.run("good").status is RunStatus.SUCCEEDED
    assert list(notebook.names["later"]) == [3]
    view = notebook.session.card(notebook.names["good"])
    assert view.plan is not None
    assert view.plan.cached == 2
    with pytest.raises(UnknownNameError, match="nowhere"):
        notebook.run()
    notebook.cell("del broken")
    assert notebook.run().status is RunStatus.SUCCEEDED


def test_a_card_does_not_count_groups_that_nobody_knows_yet(notebook: Notebook) -> None:
    notebook.cell("%channel words = of('a', 'bb', 'c')")
    notebook.cell("%%process size(words) -> n from words\nn = len(words)")
    notebook.cell(
        "%%process each(n, words) from size.map(lambda n: dict(n=n, words='')).group_by('n')\nn"
    )
    notebook.cell("%%process below(each) from each\neach")
    for name in ("each", "below"):
        plan = notebook.session.card(notebook.names[name]).plan
        assert plan is not None
        assert plan.tasks is None

    notebook.run()

    plan = notebook.session.card(notebook.names["each"]).plan
    assert plan is not None
    assert (plan.tasks, plan.cached) == (2, 2)


def test_a_table_without_pandas_says_what_to_install(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.cell("%channel words = of('a', 'bb')")
    notebook.cell("%%process size(word) -> n from words\nn = len(word)")
    notebook.run()
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingPackageError, match=r"pip install pandas; .* list\(size\)"):
        notebook.names["size"].table()

    assert list(notebook.names["size"]) == [1, 2]


def test_a_kept_result_whose_condition_fails_now_is_no_answer(notebook: Notebook) -> None:
    """`when` is in no hash: what it raises fails the run, whether or not there is a result."""
    notebook.cell("%channel src = of(2, 0)")
    notebook.cell("%%process fit(v) -> out from src\nout = v")
    notebook.run()
    notebook.cell("%%process fit(v) -> out from src --when '1 / v < 1'\nout = v")

    with pytest.raises(RunFailed, match="division by zero"):
        notebook.names["fit"].table()
