"""Processes that look into the failures of others: `on_failure_of`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.engine.record import history, task_ends
from nbcache.engine.record.query import fetch
from nbcache.errors import HeaderError, RunFailed, WiringError
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

Kernels = Callable[[], Notebook]

FIT = (
    "%%process fit(v) -> out from src --bash\n"
    'echo "working on $v"\necho partial > made.txt\n[ "$v" != 2 ] || [ -e $GATE ] || exit 3\nout=$v'
)
AUTOPSY = (
    "%%process autopsy(label, workdir, log, error, exit) -> found --on_failure_of fit\n{mark}\n"
    "found = (label, (workdir / 'made.txt').read_text(), log, error.split(chr(10))[0], exit)"
)


def declare(notebook: Notebook, *, on_error: str = "continue") -> Path:
    gate = notebook.folder / "gate"
    notebook.cell("%channel src = of(1, 2, 3)")
    fit = FIT.replace("$GATE", str(gate)).replace("--bash", f"--bash --on_error {on_error}")
    notebook.cell(fit)
    notebook.cell(AUTOPSY.format(mark=notebook.mark("label")))
    return gate


@pytest.mark.parametrize("levels", [False, True])
@pytest.mark.parametrize("on_error", ["continue", "finish", "stop"])
def test_it_runs_for_each_task_that_failed_with_its_folder_log_and_error(
    notebook: Notebook, on_error: str, levels: bool
) -> None:
    declare(notebook, on_error=on_error)
    run = notebook.run(levels=levels)
    assert run.status is RunStatus.FAILED
    error = "the script ended with exit code 3"
    assert list(run["autopsy"]) == [
        ("fit[v=2]", "partial\n", "working on 2\n", error, 3),
    ]
    assert run.tasks[run.graph.places["autopsy"], (1,)].outcome.succeeded


def test_to_read_by_name_what_was_found_makes_nothing_fail_once_more(notebook: Notebook) -> None:
    """Also of a task that could not even be identified; after an edit it runs."""
    declare(notebook)
    notebook.cell("%channel lost = of('gone.txt')")
    notebook.cell("%%process peek(f: path) -> y from lost\ny = 1")
    notebook.cell("%%process look(label) -> seen --on_failure_of peek,fit\nseen = label")
    notebook.cell("%%process count(seens) from look.collect()\nlen(seens)")
    run = notebook.run()
    names = notebook.names
    assert names["autopsy"].value[0] == "fit[v=2]"
    assert sorted(names["look"]) == ["fit[v=2]", "peek[0]"]
    assert names["count"].value == 2
    assert notebook.session.last_run is run
    declare(notebook)
    notebook.cell("%channel src = of(2)")
    assert names["autopsy"].value[0] == "fit[v=2]"
    assert notebook.session.last_run is run
    notebook.cell("%channel src = of(2, 5)")
    with pytest.raises(RunFailed):
        names["autopsy"].value  # noqa: B018


@pytest.mark.parametrize("on_error", ["finish", "stop"])
def test_to_read_what_was_found_of_a_run_that_gave_up_runs_nothing(
    notebook: Notebook, on_error: str
) -> None:
    """What it left counts for nobody who looks at failures alone; who needs it has it made."""
    declare(notebook, on_error=on_error)
    notebook.cell("%channel src = of(2, 1, 3, 4)")
    notebook.cell("%%process both(n, out) from autopsy.collect().map(len), fit\n(n, out)")
    run = notebook.run("autopsy", max_parallel=1)  # type: ignore[arg-type]
    names = notebook.names
    assert run.counts() == {"failed": 1, "aborted": 3, "completed": 1}
    assert [each[0] for each in names["autopsy"]] == ["fit[v=2]"]
    assert notebook.session.last_run is run
    with pytest.raises(RunFailed):
        names["both"].value  # noqa: B018
    assert notebook.session.last_run is not run


def test_not_again_unless_it_fails_again(kernels: Kernels) -> None:
    """A failure of another day is another failure; a success needs no look."""
    for number in range(2):
        notebook = kernels()
        gate = declare(notebook)
        run = notebook.run()
        assert notebook.ran() == ["fit[v=2]"], number
        assert run.counts()["completed"] == (3 if number == 0 else 1)
    gate.touch()
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED
    assert notebook.ran() == []
    assert list(run["autopsy"]) == []
    assert run.counts() == {"completed": 1, "cached": 2}


def test_only_the_last_attempt_counts_and_ignored_failures_are_none(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        "%%process fit(v) -> out from src --retries 2 --backoff 1ms\nprint(task.attempt)\n"
        "out = 1 / (v - 1)"
    )
    notebook.cell("%%process gone(v) -> out from src --on_error ignore\nout = 1 / 0")
    notebook.cell(
        "%%process look(label, attempt, log, traceback) --on_failure_of fit,gone\n"
        "(label, attempt, log, traceback.count('ZeroDivisionError'))"
    )
    run = notebook.run()
    assert list(run["look"]) == [("fit[v=1]", 3, "3\n", 1)]


def test_what_fails_above_is_no_failure_of_its_own(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell("%%process above(v) -> x from src\nx = 1 / (v - 1)")
    notebook.cell("%%process fit(x) -> y from above\ny = x")
    notebook.cell("%%process look(label) --on_failure_of fit\nlabel")
    notebook.cell("%%process count(looks) from look.collect()\nlen(looks)")
    run = notebook.run()
    assert run.counts() == {"failed": 1, "completed": 3}
    assert run["count"].value == 0


def test_a_task_that_could_not_start_has_no_folder(notebook: Notebook) -> None:
    notebook.cell("%channel src = of('gone.txt')")
    notebook.cell("%%process fit(f: path) -> y from src\ny = 1")
    notebook.cell("%%process look(error, workdir, log) --on_failure_of fit\n(error, workdir, log)")
    (found,) = notebook.run()["look"]
    error, workdir, log = found
    assert "no file gone.txt" in error
    assert (workdir, log) == (None, "")


def test_a_script_looks_into_failures_too_and_a_target_brings_it_along(notebook: Notebook) -> None:
    notebook.cell("%%process fit() -> y\nopen('made', 'w').write('half')\ny = 1 / 0")
    notebook.cell(
        "%%process look(workdir: path, error) -> text: path = 'report.txt' --bash "
        "--on_failure_of fit\n"
        '(cat "$workdir/made" "$workdir/.command.py"; echo; echo "$error") > report.txt'
    )
    run = notebook.run("fit")
    assert Path(str(run["look"].value)).read_text().split("\n")[-2:] == [
        "ZeroDivisionError: division by zero",
        "",
    ]


def test_failures_of_a_process_that_is_only_called_are_looked_into_at_all_its_places(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel one = of(1, 2)",
            "%channel two = of(3, 4)",
            "%%process fit(v) -> y\nassert v % 2\ny = v",
            "%channel left = fit(one)",
            "%channel right = fit(two).map(lambda y: y)",
            "%%process look(label) -> seen --on_failure_of fit\nseen = label",
        ]
    )
    run = notebook.run()
    assert sorted(run["look"]) == ["fit-2[v=4]", "fit[v=2]"]
    run = notebook.run("left")
    assert list(run["look"]) == ["fit[v=2]"]
    assert run.counts() == {"cached": 2, "failed": 1}
    notebook.cell("%%process fit(v) -> y from one\nassert v % 2\ny = v")
    assert len(list(notebook.run()["look"])) == 3


def test_a_cancelled_run_looks_into_nothing_more(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        "%%process fit(v) -> out from src --on_error finish\nimport time\n"
        "time.sleep(600 if v == 2 else 0)\nout = 1 / 0"
    )
    notebook.cell("%%process look(label) --on_failure_of fit\nimport time\ntime.sleep(600)")
    run = notebook.session.start()
    while not any(
        place.name == "look" and place.counts.get("running") for place in run.progress().places
    ):
        assert not run.wait(0.01), run.progress()
    run.cancel()
    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.CANCELLED
    assert run.counts() == {"failed": 1, "aborted": 2}


def test_what_is_wrong_with_it_is_said_in_its_cell_or_at_the_run(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process fit(v) -> y from src\ny = v")
    with pytest.raises(HeaderError, match="has no `from`"):
        notebook.cell("%%process look(label) from src --on_failure_of fit\nlabel")
    with pytest.raises(HeaderError, match="src is a channel"):
        notebook.cell("%%process look(label) --on_failure_of src\nlabel")
    notebook.cell("%%process look(label) --on_failure_of fitt\nlabel")
    with pytest.raises(WiringError, match='did you mean "fit"'):
        notebook.run()


def test_a_plan_foresees_no_failure(notebook: Notebook) -> None:
    declare(notebook)
    plans = {plan.name: plan for plan in notebook.session.plan()}
    assert (plans["fit"].to_run, plans["autopsy"].to_run) == (3, 0)
    assert plans["autopsy"].tasks is None


def test_a_resumed_run_looks_only_into_what_fails_again(kernels: Kernels) -> None:
    """Also into a failure under the same id and attempt number, since it is another failure; what
    was found in an earlier session stays readable."""
    notebook = kernels()
    gate = declare(notebook)
    first = notebook.run()
    for number in range(2):
        later = kernels()
        declare(later)
        if number:
            gate.touch()
        later.trace.write_text("")
        run = later.session.resume(first.id)
        assert run.wait(PATIENCE_S)
        assert run.id == first.id
        assert later.ran() == ([] if number else ["fit[v=2]"])
    assert run.status is RunStatus.SUCCEEDED
    assert list(run["fit"]) == ["1", "2", "3"]


def test_what_was_found_of_a_failure_that_healed_is_no_task_of_the_run_any_more(
    notebook: Notebook,
) -> None:
    """Whether or not others fail on; its attempt stays in the history."""
    gate = notebook.folder / "gate"
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(f"%%process fit(v) -> out from src --bash\n[ -e {gate}$v ] || exit 3\nout=$v")
    notebook.cell("%%process look(label) -> seen --on_failure_of fit\nseen = label")
    notebook.run()
    Path(f"{gate}1").touch()

    run = notebook.session.resume()

    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.FAILED
    cache = notebook.session.cache
    told = [("fit[0]", "COMPLETED"), ("fit[1]", "FAILED"), ("look[1]", "COMPLETED")]
    assert fetch(cache, "SELECT task_id, status FROM tasks ORDER BY task_id") == told
    assert {f"{name}[{at}]" for name, at in task_ends.last_rows(cache, run.id)} == dict(told).keys()
    counts = {"completed": 2, "failed": 1}
    assert dict(history.find_run(cache, None).counts) == counts
    assert fetch(cache, "SELECT counts FROM runs") == [(counts,)]
    assert fetch(cache, "SELECT count(*) FROM attempts WHERE process = 'look'") == [(2,)]
