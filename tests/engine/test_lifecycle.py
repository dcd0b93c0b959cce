"""Runs that wait, end early or lose their folder under their feet."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.performing import WAITS
from nbcache.engine.record import explanations, history, task_ends
from nbcache.engine.record.finding import found_tasks
from nbcache.engine.record.query import fetch
from nbcache.engine.running import loop
from nbcache.engine.running.failing import Failures
from nbcache.engine.running.reasons import Reasons
from nbcache.engine.running.rows import now_us
from nbcache.errors import StoreError
from nbcache.model.row import RunRow
from nbcache.model.task import RunStatus
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]

Kernels = Callable[[], Notebook]


def gated(notebook: Notebook) -> Path:
    """Declare a process that waits for a file; return the file."""
    gate = notebook.folder / "gate"
    notebook.cells(
        [
            "%channel src = of(1)",
            "%%process slow(v) -> out from src\nimport os, time\n"
            f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\nout = v",
            "%%process quick(v) -> out from src\nout = v * 2",
        ]
    )
    return gate


def remove(folder: Path) -> None:
    """Delete a folder in which the end of the last run may still be folding journals."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def test_a_run_that_waits_for_its_turn_can_be_cancelled(notebook: Notebook) -> None:
    gate = gated(notebook)
    first = notebook.session.start(["slow"])
    second = notebook.session.start(["quick"])
    while WAITS not in second.progress().notes:
        assert not second.wait(0.01)

    second.cancel()

    assert second.wait(PATIENCE_S)
    assert second.status is RunStatus.CANCELLED
    assert not first.done
    gate.touch()
    assert first.wait(PATIENCE_S)
    assert first.status is RunStatus.SUCCEEDED
    assert notebook.run("quick")["quick"].value == 2


def test_runs_of_one_kernel_take_turns(notebook: Notebook) -> None:
    gate = gated(notebook)
    first = notebook.session.start(["slow"])
    second = notebook.session.start(["quick"])
    gate.touch()
    assert first.wait(PATIENCE_S)
    assert second.wait(PATIENCE_S)
    assert second.status is RunStatus.SUCCEEDED
    assert not second.progress().notes


def test_a_run_that_is_cancelled_at_once_ends(notebook: Notebook) -> None:
    gated(notebook)
    run = notebook.session.start(["slow"])
    run.cancel()
    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.CANCELLED


def test_a_deleted_cache_begins_anew_in_the_same_kernel(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(f"%%process work(v) -> out from src\n{notebook.mark('v')}\nout = v")
    notebook.run()
    remove(notebook.folder / "cache")
    assert notebook.run().counts() == {"completed": 2}
    assert notebook.run().counts() == {"cached": 2}


def test_a_cache_that_was_away_is_used_again(notebook: Notebook, kernels: Kernels) -> None:
    """BEHAVIOURS 2."""
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(f"%%process work(v) -> out from src\n{notebook.mark('v')}\nout = v")
    notebook.run()
    place, away = notebook.folder / "cache", notebook.folder / "away"
    place.rename(away)
    assert notebook.run().counts() == {"completed": 2}
    remove(place)
    away.rename(place)
    assert notebook.run().counts() == {"cached": 2}


def test_five_first_failures_of_a_process_end_the_run_as_finish(notebook: Notebook) -> None:
    notebook.cell("%channel src = from_iterable(range(40))")
    notebook.cell(f"%%process work(v) -> out from src\n{notebook.mark('v')}\nout = 1 / 0")
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    began = len(notebook.ran())
    assert began < 20
    counts = run.counts()
    assert counts == {"failed": began, "aborted": 40 - began}
    cache = notebook.session.cache
    found = fetch(cache, "SELECT lower(status), count(*)::int, max(attempt) FROM tasks GROUP BY 1")
    assert sorted(found) == [("aborted", 40 - began, 0), ("failed", began, 1)]
    (row,) = fetch(cache, "SELECT DISTINCT error FROM tasks WHERE status = 'ABORTED'")
    assert row == (task_ends.NOT_BEGUN,)
    (plan,) = notebook.session.plan()
    failed, left = f"{began} whose earlier attempt did not succeed", 40 - began
    assert plan.reason == f"{failed}; {left} that an earlier run left"
    why = explanations.why(cache, ["work", "39"])
    assert why.head == f"work[v=39] was not begun, since run {run.name} ended first"


def test_an_attempt_that_failed_before_the_end_of_its_run_reached_it_has_failed(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = notebook.folder / "gate"
    monkeypatch.setattr(LocalExecutor, "kill", lambda *_: gate.touch())  # and it is too late
    notebook.cells(
        [
            "%channel src = of(0, 1)",
            "%%process work(v) -> out from src --on-error stop\nimport os, time\n"
            f"while v and not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\nout = 1 / 0",
        ]
    )

    run = notebook.run()

    assert run.counts() == {"failed": 2}
    assert [each.task for each in run.failures] == ["work[v=0]", "work[v=1]"]
    found = fetch(notebook.session.cache, "SELECT status, count(*)::int FROM tasks GROUP BY 1")
    assert found == [("FAILED", 2)]


def test_a_run_after_one_that_was_cut_short_names_the_edit_that_came_before_both(
    notebook: Notebook,
) -> None:
    notebook.cells(["%channel src = of(1)", "def norm(x):\n    return x"])
    gate = notebook.folder / "gate"
    notebook.cell(
        f"%%process slow(v) -> out from src\n{notebook.mark('v')}\nimport os, time\n"
        f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\nout = norm(v)"
    )
    gate.touch()
    notebook.run()
    gate.unlink()
    notebook.cell("def norm(x):\n    return x * 2")
    run = notebook.session.start()
    wait_until(lambda: len(notebook.ran()) == 2, "the second attempt's beginning")
    run.cancel()
    run.wait(PATIENCE_S)

    (plan,) = notebook.session.plan()
    assert plan.reason.startswith("helper norm changed (line 2)")
    assert plan.reason.endswith("; an earlier run ended before it was done")


def test_a_run_after_one_that_was_killed_names_the_edit_before_it_too(notebook: Notebook) -> None:
    before, after = "def norm(x):\n    return x", "def norm(x):\n    return x * 2"
    one, two = "%channel src = of(1)", "%channel src = of(2)"
    notebook.cells([after, two, "%%process work(v) -> out from src\nout = norm(v)"])
    run = notebook.run()
    notebook.cells([before, one])
    notebook.run()
    log = notebook.session.cache.log
    (begun, *_) = [
        row for row in log.rows(("run",)) if isinstance(row, RunRow) if row.run == run.id
    ]
    assert begun.status == "running"
    log.append([replace(begun, id=new_ulid(), run=new_ulid(), at=now_us())])  # and no end
    notebook.cell(after)

    (plan,) = notebook.session.plan()
    assert plan.reason.startswith("helper norm changed (line 2)")
    assert plan.reason.endswith("; an earlier run ended before it was done")


def test_a_kernel_that_ends_fails_no_task(notebook: Notebook) -> None:
    gated(notebook)
    run = notebook.session.start(["slow"])
    while not any(place.counts.get("running") for place in run.progress().places):
        assert not run.wait(0.01)
    executor = notebook.session.performer._executor
    assert executor is not None
    loop.submit(executor.close()).result(PATIENCE_S)
    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.CANCELLED
    assert run.counts() == {"aborted": 1}


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 3),
    reason="these Pythons start no thread while they end (python/cpython#113964)",
)
def test_a_kernel_that_ends_cancels_its_run_in_order(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from tests.engine.notebooks import Notebook\n"
        f"notebook = Notebook(Path({str(tmp_path)!r}))\n"
        "notebook.cell('%channel src = of(1, 2, 3, 4, 5)')\n"
        "notebook.cell('%%process slow(v) -> out from src\\nimport time\\n"
        "time.sleep(0 if v == 1 else 600)\\nout = v')\n"
        "run = notebook.session.start()\n"
        "while not run.counts().get('completed'):\n"
        "    assert not run.wait(0.01), run.message\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=PATIENCE_S)

    with Cache.open(tmp_path / "cache") as cache:
        (run,) = history.runs(cache)
        assert (run.status, run.error) == ("cancelled", None)
        tasks = [each.made.status for each in found_tasks(cache, run)["slow"]]
        assert tasks.count("completed") == 1
        assert set(tasks) <= {"completed", "aborted"}
    assert not list((tmp_path / "cache/tmp").iterdir())


UNREADABLE = "the log cannot be read now"


def fail_under_claims(notebook: Notebook, patch: pytest.MonkeyPatch) -> None:
    """Let a run fail where it looks at the log under a claim, which must be of this moment."""
    log = notebook.session.cache.log
    refresh = log.refresh

    def failing(*, older_than_s: float = 0.0, **how: Any) -> None:
        if not older_than_s and threading.current_thread().name == "nbcache-engine":
            raise StoreError(UNREADABLE)
        refresh(older_than_s=older_than_s, **how)

    patch.setattr(log, "refresh", failing)


def test_a_forked_child_waits_for_no_threads_that_it_does_not_have(
    tmp_path: Path,
) -> None:
    # given a session that will leave in order at the end of its process
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio, multiprocessing, os\n"
        "from nbcache.engine.running import loop\n"
        "loop.engine_loop()\n"
        "loop.at_exit(asyncio.Event().wait, 10_000)\n"
        "def use():\n"
        "    try:\n"
        "        loop.engine_loop()\n"
        "    except Exception as error:\n"
        "        print(error, flush=True)\n"
        "child = multiprocessing.get_context('fork').Process(target=use)\n"
        "child.start()\n"
        f"child.join({PATIENCE_S})\n"
        "print(child.exitcode, flush=True)\n"
        "child.kill()\n"
        "os._exit(0)\n"
    )

    # when it forks, as a pool of processes in a cell does
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)

    # then the child, which cannot use nbcache itself, is told so and ends at once
    error, *_, code = ended.stdout.splitlines()
    assert "of which this one is a fork" in error
    assert code == "0"


def test_a_run_that_fails_while_it_waits_for_another_kernel_says_so_and_ends(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = kernels(), kernels()
    gate = gated(first)
    gated(second)
    other = first.session.start(["slow"])
    wait_until(lambda: other.at_work)
    run = second.session.start(["slow"])
    wait_until(lambda: any("another kernel" in wait.text for wait in run.waits.values()))

    with monkeypatch.context() as patch:
        fail_under_claims(second, patch)
        gate.touch()
        assert run.wait(PATIENCE_S)

    assert run.status is RunStatus.FAILED
    assert run.error == f"StoreError: {UNREADABLE}"
    assert other.wait(PATIENCE_S)
    assert second.run("slow")["slow"].value == 1


def test_a_run_that_breaks_off_lets_go_of_all_that_the_next_one_needs(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle_nothing(*_: object) -> str:
        raise RuntimeError("nor can its reasons be told")

    process = "%%process p(v) -> out from src\nout = v"
    notebook.cells(["%channel src = of(1)", process])
    notebook.run()
    notebook.cells(["%channel src = of(2, 3)", process])

    with monkeypatch.context() as patch:
        fail_under_claims(notebook, patch)
        patch.setattr(Reasons, "line_of", settle_nothing)
        assert notebook.run().status is RunStatus.FAILED

    assert list(notebook.run()["p"]) == [2, 3]


def test_a_run_that_cannot_take_the_end_of_an_attempt_breaks_off(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_nothing(*_: object) -> None:
        raise RuntimeError("no room for it")

    notebook.cell("%channel src = of(0, 1, 2)")
    notebook.cell("%%process p(v) -> out from src --max_forks 1\nout = 1 / v")
    with monkeypatch.context() as patch:
        patch.setattr(Failures, "fail", take_nothing)
        run = notebook.run()
    assert (run.status, run.error) == (RunStatus.FAILED, "RuntimeError: no room for it")
    (kept,) = history.runs(notebook.session.cache)
    assert kept.counts == run.counts() == {"aborted": 3}
    statuses = "SELECT lower(status) FROM tasks ORDER BY position"
    assert fetch(notebook.session.cache, statuses) == [("failed",), ("aborted",), ("aborted",)]
