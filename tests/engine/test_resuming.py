"""A run goes on under its own id, or a new one is made of it: sessions with real workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.record import history, task_ends
from nbcache.engine.record.query import fetch
from nbcache.engine.running.run import Run
from nbcache.errors import RunError, UsageError, WiringError
from nbcache.model.row import AttemptRow, Row, RunRow
from nbcache.model.task import RunStatus
from nbcache.store.log import Log
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

Kernels = Callable[[], Notebook]


def sometimes(notebook: Notebook, options: str = "") -> Path:
    """Declare three items, of which number 1 fails until the file that is returned exists."""
    gate = notebook.folder / "mended"
    notebook.cell("%channel src = of(0, 1, 2)")
    notebook.cell(
        f"%%process work(v) -> out from src {options}\n{notebook.mark('v')}\nimport os\n"
        f"if v == 1 and not os.path.exists({str(gate.parent)!r} + '/mended'):\n"
        "    raise ValueError('not yet')\n"
        "out = v * 10"
    )
    notebook.cell(
        f"%%process total(out) -> s from work.collect()\n{notebook.mark(repr('sum'))}\ns = sum(out)"
    )
    return gate


def ended(notebook: Notebook, begin: Callable[[], Run]) -> Run:
    """Begin a run and wait for its end; `notebook.ran()` then tells of it alone. Its last word
    counts what the rows of its tasks tell, over all its sessions."""
    notebook.trace.write_text("")
    run = begin()
    assert run.wait(PATIENCE_S), run.progress()
    cache = notebook.session.cache
    told = history.find_run(cache, run.id)
    ends = [*map(task_ends.End.told_by, task_ends.last_rows(cache, run.id).values())]
    assert (told.counts, told.own) == task_ends.counts_of(ends)
    return run


def said(notebook: Notebook) -> list[str]:
    """Return the list that collects what the session says from now on."""
    lines: list[str] = []
    notebook.session.teller = lambda text: lines.extend(text.split("\n"))
    return lines


def statuses(notebook: Notebook, run: str) -> list[tuple[int, str]]:
    rows = notebook.session.cache.log.rows(("run",), run=run)
    ordered = sorted((row for row in rows if isinstance(row, RunRow)), key=lambda row: row.id)
    return [(row.session, row.status) for row in ordered]


def attempts(notebook: Notebook, run: str) -> list[tuple[str, int, int, str]]:
    rows = notebook.session.cache.log.attempts(run=run)
    found = [row for row in rows if isinstance(row, AttemptRow) and row.process == "work"]
    return sorted((row.position, row.session, row.attempt, row.status) for row in found)


def test_a_resume_goes_on_under_the_same_id_and_runs_only_what_is_missing(
    kernels: Kernels,
) -> None:
    first, second = kernels(), kernels()
    gate = sometimes(first)
    failed = first.run()
    assert failed.status is RunStatus.FAILED
    sometimes(second)
    gate.touch()

    run = ended(second, second.session.resume)

    assert (run.id, run.name, run.status) == (failed.id, failed.name, RunStatus.SUCCEEDED)
    assert second.ran() == ["1", "sum"]
    assert statuses(second, run.id) == [
        (1, "running"),
        (1, "failed"),
        (2, "resuming"),
        (2, "succeeded"),
    ]
    assert attempts(second, run.id) == [
        ("0", 1, 1, "completed"),
        ("1", 1, 1, "failed"),
        ("1", 2, 2, "completed"),
        ("2", 1, 1, "completed"),
    ]
    (known,) = history.runs(second.session.cache)
    assert (known.status, known.sessions, known.counts) == ("succeeded", 2, {"completed": 4})
    assert known.hit_rate == 0.0
    shown = {each.name: each.counts for each in history.show_run(second.session.cache).processes}
    assert shown == {"work": {"completed": 3}, "total": {"completed": 1}}


@pytest.mark.parametrize(("options", "how"), [("", {"fresh": True}), ("--cache off", {})])
def test_what_the_run_itself_made_is_kept_also_where_no_cache_is_used(
    kernels: Kernels, options: str, how: dict[str, bool]
) -> None:
    first = kernels()
    gate = sometimes(first, options)
    gate.touch()
    first.run()  # what another run made must not count
    gate.unlink()
    failed = first.run(**how)
    assert first.ran() == ["0", "1", "2"]
    gate.touch()

    run = ended(first, lambda: first.session.resume(failed.id))

    assert first.ran() == (["1", "sum"] if not options else ["1"])
    assert run["total"].value == 30
    assert len(attempts(first, run.id)) == 4


def test_tasks_without_cache_are_no_hits_for_any_other_run(notebook: Notebook) -> None:
    sometimes(notebook, "--cache off").touch()
    notebook.run()
    again = notebook.run()
    assert notebook.ran() == ["0", "1", "2"]
    assert again.counts() == {"completed": 3, "cached": 1}
    rows = [each for each in attempts(notebook, again.id) if each[3] == "completed"]
    assert len(rows) == 3  # they are in the history all the same


def test_parameters_of_the_run_hold_again_and_some_can_be_changed(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    for each in (first, second):
        each.cell("scale, bad = 2, -1")
        each.cell("%channel src = of(1, 2)")
        each.cell(
            f"%%process work(v) -> out from src\n{each.mark('v')}\n"
            "if v == bad:\n    raise ValueError('bad')\nout = v * scale"
        )
    failed = first.run(parameters={"scale": "5", "bad": "2"})  # type: ignore[arg-type]
    assert failed.counts() == {"completed": 1, "failed": 1}
    lines = said(second)

    run = ended(second, lambda: second.session.resume(parameters={"bad": "3"}))

    assert list(run["work"]) == [5, 10]
    assert second.names["scale"] == 2
    assert "  parameter bad: 2 → 3" in lines
    known = history.find_run(second.session.cache, run.id)
    assert known.parameters == {"scale": "5", "bad": "3"}
    with pytest.raises(UsageError, match=f"run {run.name} had the parameter scale=5"):
        kernels().session.relaunch()


def test_runs_that_cannot_be_resumed_say_why(notebook: Notebook) -> None:
    gate = sometimes(notebook)
    failed = notebook.run("work")
    gate.touch()
    good = notebook.run()

    with pytest.raises(RunError, match=f"run {good.name} has succeeded.*resumed is {failed.name}"):
        notebook.session.resume()
    with pytest.raises(RunError, match=r"no run 'zzz'; the latest: "):
        notebook.session.resume("zzz")
    near = good.name + "x"
    with pytest.raises(RunError, match=f"no run '{near}'; the nearest: .*{good.name}"):
        notebook.session.resume(near)
    with pytest.raises(RunError, match="is the start of 2 run ids"):
        notebook.session.resume(good.id[:3])
    with pytest.raises(RunError, match="no run ''"):
        notebook.session.resume("")


def test_without_any_history_it_is_a_plain_run_and_says_so(notebook: Notebook) -> None:
    sometimes(notebook).touch()
    lines = said(notebook)
    run = ended(notebook, notebook.session.resume)
    assert run.status is RunStatus.SUCCEEDED
    assert lines[0].endswith("has no runs yet: this is a plain run")
    empty = Notebook(notebook.folder, "another cache")
    with pytest.raises(RunError, match="no runs yet"):
        empty.session.resume("calm-otter")


def test_before_it_starts_it_says_what_differs_from_the_beginning(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = kernels(), kernels()
    first.cells(
        [
            "rate = 2",
            "%channel src = of(1)",
            "%%process load(v) -> x from src\nx = v",
            "%%process clean(x) -> y from load\ny = x + 1",
            "%%process fit(y) -> z from clean\nz = y * rate",
            "%%process old(x) -> w from load\nw = x",
            "%%process bad(z) -> q from fit\nq = 1 / 0",
        ]
    )
    failed = first.run()
    second.cells(
        [
            "rate = 3",
            "%channel src = of(1)",
            "%%process load(v) -> x from src\nx = v",
            "%%process tidy(x) -> y from load\ny = x + 1",
            "%%process fit(x) -> z from load\nz = x * rate",
            "%%process more(x) -> u from load\nu = -x",
            "%%process bad(z) -> q from fit\nq = 1",
        ]
    )
    lines = said(second)
    started: list[str] = []
    begin = second.session.begin

    def note(*words: Any, **how: Any) -> Any:
        started.extend(lines)
        return begin(*words, **how)

    monkeypatch.setattr(second.session, "begin", note)
    read_rows = Log.rows
    read: list[Any] = []

    def rows(log: Log, kinds: Any = None, **which: Any) -> Iterator[Row]:
        if which.get("run") == failed.id and which.get("process") is None:
            read.append(kinds)
        return read_rows(log, kinds, **which)

    monkeypatch.setattr(Log, "rows", rows)

    run = second.session.resume()
    assert run.wait(PATIENCE_S), run.progress()
    monkeypatch.undo()

    assert len(read) == 1, read  # each session adds a row per task

    assert run.status is RunStatus.SUCCEEDED
    assert "rate 2 → 3" in run.reasons["fit"]  # an earlier session is an earlier run
    cache, kept = second.session.cache, {"load", "tidy", "fit", "more", "bad"}
    assert {name for name, _ in task_ends.last_rows(cache, run.id)} == kept
    assert {name for (name,) in fetch(cache, "SELECT process FROM tasks")} == kept
    assert started == lines
    assert lines[0] == f"resuming run {failed.name} (failed), session 2; since it began:"
    assert "  tidy was called clean" in lines
    assert "  more is new" in lines
    assert "  old is gone" in lines
    assert "  fit takes from load, before from clean" in lines
    assert any(line.startswith("  fit: the code of fit changed") for line in lines)
    assert any("captured rate 2 → 3" in line or "rate 2 → 3" in line for line in lines)
    assert any(line.startswith("  bad: the code of bad changed") for line in lines)
    assert not any(line.startswith("  load") for line in lines)


def test_a_resume_tells_of_edited_channels_and_of_what_processes_take(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    for each, source, taken, cell in (
        (first, "of(1, 2)", "fit", "of(7)"),
        (
            second,
            "of(1, 2).filter(lambda v: v > 1)",
            "fit.map(lambda z: z + 1)",
            "of( 7 )  # as is",
        ),
    ):
        each.cells(
            [
                f"%channel src = {source}",
                f"%channel same = {cell}",
                "%%process fit(v, same) -> z from src, same.first()\nz = v",
                f"%%process bad(z) -> q from {taken}\nq = 1 / 0",
            ]
        )
    failed = first.run()
    lines = said(second)

    ended(second, second.session.resume)

    assert lines == [
        f"resuming run {failed.name} (failed), session 2; since it began:",
        "  channel src was edited",
        "  bad takes from another expression than before",
    ]


def test_a_resume_that_changes_nothing_says_so(notebook: Notebook) -> None:
    sometimes(notebook)
    failed = notebook.run()
    lines = said(notebook)
    ended(notebook, lambda: notebook.session.resume(failed.name))
    assert lines == [
        f"resuming run {failed.name} (failed), session 2: "
        "code, wiring and parameters are as when it began"
    ]


def test_a_pipeline_that_does_not_fit_together_leaves_the_run_as_it_was(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    sometimes(first)
    failed = first.run()
    second.cell("%%process work(v) -> out from nowhere\nout = v")

    with pytest.raises(WiringError):
        second.session.resume()

    assert statuses(second, failed.id) == [(1, "running"), (1, "failed")]
    sometimes(second).touch()
    assert ended(second, second.session.resume).status is RunStatus.SUCCEEDED


def test_of_two_resumes_at_once_one_goes_and_the_other_names_who_has_it(kernels: Kernels) -> None:
    import os
    import socket

    first, second = kernels(), kernels()
    gate = first.folder / "mended"
    for each in (first, second):
        each.cell("%channel src = of(0)")
        each.cell(
            "%%process work(v) -> out from src\nimport os, time\n"
            f"while not os.path.exists({str(gate.parent)!r} + '/mended'):\n    time.sleep(0.01)\n"
            "out = v"
        )
    stopped = first.session.start()
    with pytest.raises(RunError, match="is running"):
        second.session.resume()
    stopped.cancel()
    assert stopped.wait(PATIENCE_S)
    runs: list[Run] = []
    errors: list[str] = []
    both = threading.Barrier(2)

    def go_on(each: Notebook) -> None:
        both.wait()
        try:
            runs.append(each.session.resume(stopped.id))
        except RunError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=go_on, args=(each,)) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    gate.touch()

    assert len(runs) == len(errors) == 1
    assert f"(process {os.getpid()} on {socket.gethostname()})" in errors[0]
    assert runs[0].wait(PATIENCE_S)
    assert statuses(first, stopped.id)[2:] == [(2, "resuming"), (2, "succeeded")]


def test_the_choices_of_the_run_are_kept_unless_told_otherwise(notebook: Notebook) -> None:
    sometimes(notebook)
    failed = notebook.run("work", levels=True, max_parallel=1, max_errors=2)  # type: ignore[arg-type]

    def options() -> dict[str, str]:
        return dict(history.find_run(notebook.session.cache, failed.id).options)

    assert options() == {"levels": "true", "max_parallel": "1", "max_errors": "2"}
    again = ended(notebook, lambda: notebook.session.resume(failed.id))
    assert again.places == ("work",)
    assert options() == {"levels": "true", "max_parallel": "1", "max_errors": "2"}
    ended(notebook, lambda: notebook.session.resume(levels=False, max_parallel=None))
    assert options() == {"max_errors": "2"}
    with pytest.raises(UsageError, match="--max-parallel takes a number from 1 on"):
        notebook.session.resume(max_parallel=0)
    assert len(statuses(notebook, failed.id)) == 6


def test_a_relaunch_is_a_new_run_from_the_parameters_of_an_old_one(notebook: Notebook) -> None:
    notebook.cells(
        [
            "scale, shift = 2, 0",
            "%channel src = of(1, 2)",
            f"%%process work(v) -> out from src\n{notebook.mark('v')}\nout = v * scale + shift",
        ]
    )
    old = notebook.run(parameters={"scale": "5"})  # type: ignore[arg-type]

    new = ended(notebook, lambda: notebook.session.relaunch(parameters={"shift": "1"}))

    assert list(new["work"]) == [6, 11]
    known = history.find_run(notebook.session.cache, new.id)
    assert (known.parent, known.parameters) == (old.id, {"scale": "5", "shift": "1"})
    assert new.id != old.id


def test_a_resume_and_a_relaunch_keep_the_retention_of_the_run_or_change_it(
    notebook: Notebook,
) -> None:
    notebook.cell("%%process work() -> out\nout = 1 / 0")
    session = notebook.session

    def retention(run: Run) -> str:
        assert run.wait(PATIENCE_S)
        return history.find_run(session.cache, run.id).retention

    first = session.start(retention="30d")
    assert retention(first) == "30d"
    assert retention(session.resume()) == "30d"
    assert retention(session.resume(retention="failure=24h")) == "failure=24h"
    assert retention(session.relaunch(first.id)) == "failure=24h"
    assert retention(session.relaunch(first.id, retention="keep")) == "keep"
    with pytest.raises(UsageError, match="retention 'soon'"):
        session.resume(first.id, retention="soon")


def test_from_a_process_it_and_all_below_it_run_again_and_their_results_win(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel src = of(1)",
            f"%%process a(v) -> x from src\n{notebook.mark(repr('a'))}\nx = v",
            f"%%process b(x) -> y from a\n{notebook.mark(repr('b'))}\ny = x",
            f"%%process c(y) -> z from b.collect()\n{notebook.mark(repr('c'))}\nz = y",
            f"%%process d(x) -> w from a\n{notebook.mark(repr('d'))}\nw = x",
        ]
    )
    notebook.run()

    again = ended(notebook, lambda: notebook.session.relaunch(from_=["b"]))

    assert notebook.ran() == ["b", "c"]
    assert again.reasons["b"] == "asked to run again"
    later = notebook.run()
    assert later.counts() == {"cached": 4}
    entry = notebook.session.cache.log.find(later["b"].tasks[0].hash)  # type: ignore[arg-type]
    assert entry is not None
    assert (entry.run, entry.generation) == (again.id, 2)
    with pytest.raises(UsageError, match=r'--from bb: .*did you mean "b"'):
        notebook.session.start(from_=["bb"])


def test_a_run_ends_when_so_many_tasks_have_failed_and_says_so(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(*range(12))")
    notebook.cell("%%process work(v) -> out from src\nout = 1 / (v % 4 - 2)")
    run = notebook.run(max_errors=2, max_parallel=1)  # type: ignore[arg-type]
    assert run.status is RunStatus.FAILED
    assert run.counts() == {"completed": 5, "failed": 2, "aborted": 5}
    assert "2 tasks have failed (--max-errors 2): no more were started" in run.notes
    notebook.cell("%%process third(out) -> t from work\nt = 1 / 0")
    notebook.cell("%%process fourth(t) -> u from third\nu = t")
    notebook.run()  # fourth was there, and none of its tasks has ended
    notebook.cell("%%process third(out) -> t from work\nt = out")
    assert notebook.run().reasons["fourth"] == "first run of this code here"


def test_level_by_level_a_process_starts_when_those_above_have_ended(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(*range(4))")
    for name, source in (("a", "src"), ("b", "a"), ("c", "b")):
        notebook.cell(
            f"%%process {name}(v) -> v from {source}.fields('v')\n"
            f"{notebook.mark(repr(name))}\nv = v"
        )
    notebook.run(levels=True)
    order = notebook.trace.read_text().split()
    assert order == sorted(order)
    assert len(order) == 12


def test_a_cache_that_was_moved_goes_on_in_its_new_place(kernels: Kernels, tmp_path: Path) -> None:
    first = kernels()
    gate = sometimes(first)
    failed = first.run()
    first.close()
    (tmp_path / "cache").rename(tmp_path / "moved")
    moved = Notebook(tmp_path, "moved")
    try:
        sometimes(moved)
        gate.touch()
        run = ended(moved, lambda: moved.session.resume(failed.id[:20]))
        assert run.id == failed.id
        assert moved.ran() == ["1", "sum"]
    finally:
        moved.close()
