"""What a failed attempt leads to, in a real session with real workers: retry, ignore, stop, finish.

"Again" is another kernel on the same cache; the numbers are those of the list of behaviours.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nbcache.engine.debugging import open_task
from nbcache.engine.record import history, task_ends
from nbcache.engine.record.query import fetch
from nbcache.model.row import AttemptRow
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S, wait_until

Kernels = Callable[[], Notebook]
QUICK = "--backoff 1ms"


def attempts(notebook: Notebook) -> list[AttemptRow]:
    """Return the attempts that the log holds, in the order in which they were submitted."""
    rows = notebook.session.cache.log.attempts()
    return sorted((r for r in rows if isinstance(r, AttemptRow)), key=lambda row: row.at)


def test_5_a_task_that_succeeds_at_its_third_attempt_is_a_hit_the_next_time(
    kernels: Kernels,
) -> None:
    counts = []
    for _ in range(2):
        notebook = kernels()
        notebook.cell("%channel src = of(1)")
        notebook.cell(
            f"%%process work(v) -> out from src --retries 2 {QUICK} --memory '1GB * task.attempt'\n"
            "assert task.attempt == 3, f'attempt {task.attempt}'\nout = task.memory"
        )
        run = notebook.run()
        counts.append(run.counts())
        assert run["work"].value == 3_000_000_000
    assert counts == [{"completed": 1}, {"cached": 1}]
    found = attempts(notebook)
    assert [(each.attempt, each.status) for each in found] == [
        (1, "failed"), (2, "failed"), (3, "completed"),
    ]  # fmt: skip
    assert [each.memory for each in found] == [1_000_000_000, 2_000_000_000, 3_000_000_000]
    assert "attempt 1" in (found[0].error or "")


def test_a_task_killed_for_its_memory_has_what_it_needs_at_its_second_attempt(
    notebook: Notebook,
) -> None:
    notebook.cell(
        f"%%process work() -> out --retries 1 {QUICK}\n"
        "#| memory: 300MB * (task.attempt if 'memory limit' in str(task.error) else 1)\n"
        "import threading\nblock = b'x' * 350_000_000\n"
        "if task.attempt == 1:\n    threading.Event().wait()\nout = len(block)"
    )

    assert notebook.run()["work"].value == 350_000_000

    first, second = attempts(notebook)
    assert (first.status, second.status) == ("failed", "completed")
    assert "memory limit of 300 MB exceeded" in (first.error or "")
    assert (first.peak_rss or 0) > 300_000_000
    assert 350_000_000 < (second.peak_rss or 0) < (second.memory or 0) == 600_000_000


def test_6_ignored_failures_run_again_and_successes_are_kept(kernels: Kernels) -> None:
    for again in (False, True):
        notebook = kernels()
        notebook.cell("%channel src = from_iterable(range(6))")
        notebook.cell(
            f"%%process work(v) -> out from src --on_error ignore\n{notebook.mark('v')}\n"
            "assert v % 2\nout = v"
        )
        notebook.cell("%%process total(outs) -> s from work.collect()\ns = sum(outs)")
        run = notebook.run()
        assert run.status is RunStatus.SUCCEEDED
        assert run["total"].value == 9
        assert [each.ignored for each in run.failures] == [True] * 3
        assert notebook.ran() == (["0", "2", "4"] if again else list("012345"))
    assert run.counts() == {"cached": 4, "ignored": 3}


def test_24_retry_then_ignore_by_a_function_of_the_attempt(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        f"%%process work(v) -> out from src {QUICK}\n"
        "#| on_error: 'retry' if task.attempt < 3 else 'ignore'\n"
        f"{notebook.mark('(v, task.attempt)')}\nassert v == 2\nout = v"
    )
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED
    assert run.counts() == {"completed": 1, "ignored": 1}
    assert len(attempts(notebook)) == 4


def test_directives_see_how_the_last_attempt_ended(notebook: Notebook) -> None:
    """Exit code, signal and error: of the failed attempt in `on_error`, of the one before in
    `memory`, `cpus` and `time`, where they are None at first."""
    notebook.cell("%channel src = of('exit', 'signal', 'error')")
    notebook.cell(
        f"%%process work(how) -> out: int from src --bash {QUICK}\n"
        "#| memory: 2GB if task.exit == 3 or task.signal == 'SIGUSR1' else 1GB\n"
        "#| on_error: 'retry' if task.exit == 3 or task.signal == 'SIGUSR1' else 'ignore'\n"
        'if [ "$task_attempt" = 2 ]; then out=$task_memory; exit 0; fi\n'
        "case $how in exit) exit 3;; signal) kill -USR1 $$;; esac\necho this is why >&2; exit 5"
    )
    run = notebook.run()
    assert run.counts() == {"completed": 2, "ignored": 1}
    assert list(run["work"]) == [2_000_000_000, 2_000_000_000]
    (failure,) = run.failures
    assert "exit code 5" in failure.error
    assert "this is why" in failure.error


def test_a_task_between_two_attempts_when_the_run_ends_is_aborted_in_the_history(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src --retries 1 --backoff 1h\nout = 1 / 0")
    run = notebook.session.start()
    wait_until(lambda: bool(attempts(notebook)))
    wait_until(lambda: run.progress().places[0].counts.get("ready") == 1)

    run.cancel()

    assert run.wait(PATIENCE_S)
    assert run.counts() == {"aborted": 1}
    cache = notebook.session.cache
    (task,) = fetch(cache, "SELECT status, attempt, error FROM tasks")
    assert task[:2] == ("ABORTED", 1)
    assert "before it was tried again" in task[2]
    assert "ZeroDivisionError" in task[2]
    assert [each.status for each in attempts(notebook)] == ["failed", "aborted"]
    ((key, last),) = task_ends.last_rows(cache, run.id).items()
    assert key == ("work", "0")
    assert isinstance(last, AttemptRow)
    assert last.status == "aborted"
    failed = attempts(notebook)[0].id
    for words in ([], ["work"], ["work", "v=1"]):
        assert open_task(cache, words).entry.folder.name == failed
    assert open_task(cache, ["work"], attempt="1").entry.folder.name == failed


def test_what_another_kernel_made_between_two_attempts_is_the_last_word_on_a_task(
    kernels: Kernels,
) -> None:
    """It is a hit after attempts that failed, for the history in Python as in SQL."""
    first, second = kernels(), kernels()
    gate = first.folder / "gate"
    hidden = f"{str(gate)[::-1]!r}[::-1]"  # a path that the body names would be in its hash
    for notebook in (first, second):
        notebook.cell("%channel src = of(1)")
        notebook.cell(
            "%%process work(v) -> out from src --retries 1000 --backoff 300ms\nimport os\n"
            f"assert os.path.exists({hidden}) and task.attempt == 1\nout = v"
        )
    run = first.session.start()
    wait_until(lambda: bool(attempts(first)))
    gate.touch()
    assert second.run().counts() == {"completed": 1}

    assert run.wait(PATIENCE_S)

    assert run.counts() == {"cached": 1}
    cache = first.session.cache
    in_sql = "SELECT status, attempt FROM tasks WHERE run = ?"
    assert fetch(cache, in_sql, [run.id]) == [("CACHED", 1)]
    assert history.show_run(cache, run.id).processes[0].counts == {"cached": 1}
    assert history.show_run(cache, run.id).failures == ()


def test_an_expression_that_fails_ends_the_run_in_order_and_says_so(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        "%%process work(v) -> out from src --on_error 'task.exit > 1 and \"retry\"'\nout = 1 / 0"
    )
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    (failure,) = run.failures
    assert "ZeroDivisionError" in failure.error
    assert "NoneType" in failure.error  # there is no exit code


@pytest.mark.parametrize("text", ["0s", "soon", "task.attempt * 1s"])
def test_a_backoff_is_a_time(notebook: Notebook, text: str) -> None:
    with pytest.raises(Exception, match="--backoff"):
        notebook.cell(f"%%process work() --backoff '{text}'\n1")


def test_stop_kills_what_runs_and_finish_lets_it_end(kernels: Kernels) -> None:
    """With both, the failed run names the failure, and what had finished is kept."""
    for action, counts in (
        ("stop", {"failed": 1, "aborted": 3}),
        ("finish", {"failed": 1, "aborted": 2, "completed": 1}),
    ):
        notebook = kernels()
        begun, gate = notebook.folder / f"begun-{action}", notebook.folder / f"gate-{action}"
        notebook.cell("%channel src = from_iterable(range(4))")
        notebook.cell(
            f"%%process work(v) -> out from src --on_error {action} --max_forks 2\n"
            f"import os, time\nbegun, gate = {str(begun)!r}, {str(gate)!r}\n"
            "if v == 0:\n    while not os.path.exists(begun):\n        time.sleep(0.01)\n"
            "    raise ValueError\nopen(begun, 'w').close()\n"
            "while not os.path.exists(gate):\n    time.sleep(0.01)\nout = v"
        )
        run = notebook.session.start()
        wait_until(lambda run=run: bool(run.failures))  # type: ignore[misc]
        if action == "finish":
            gate.touch()
        assert run.wait(PATIENCE_S)
        assert run.status is RunStatus.FAILED
        assert run.counts() == counts
        assert [failure.task for failure in run.failures] == ["work[v=0]"]


def test_limits_end_bodies_and_scripts_and_the_row_tells_the_peak(notebook: Notebook) -> None:
    """The whole process tree counts; the error names the limit and what was held."""
    hog = "x = b'1' * 200_000_000; import time; time.sleep(600)"
    notebook.cell("%channel src = of(1)")
    notebook.cell(f"%%process python(v) -> out from src --memory 100MB\n{hog}")
    notebook.cell(
        "%%process child(v) -> out from src --memory 100MB\nimport subprocess, sys\n"
        f'subprocess.run([sys.executable, "-c", "{hog}"])'
    )
    notebook.cell(f'%%process script(v) from src --bash --memory 100MB\npython3 -c "{hog}"')
    notebook.cell("%%process slow_script(v) from src --bash --time 200ms\nsleep 600 & wait")
    run = notebook.run()
    errors = {failure.process: failure.error for failure in run.failures}
    rows = {row.process: row for row in attempts(notebook)}
    for name in ("python", "child", "script"):
        assert "memory limit of 100 MB exceeded" in errors[name]
        peak = rows[name].peak_rss
        assert peak is not None
        assert peak > 100_000_000
        assert f"held {peak / 1e6:.0f} MB" in errors[name]
    assert "time limit of 0.2 s exceeded" in errors["slow_script"]


def test_a_body_that_takes_too_long_is_told_with_the_line_that_it_had_come_to(
    notebook: Notebook,
) -> None:
    for limit in (1, 10, 100):  # until the body comes so far within it
        notebook.cell(f"%%process slow() -> out --time {limit}s\nimport time\ntime.sleep(600)")
        (at,) = notebook.run().failures
        if "sleep" in at.where:
            break

    assert f"time limit of {limit} s exceeded" in at.error
    assert "time.sleep(600)" in at.where
    assert "nbcache" not in at.traceback


def test_the_peak_of_a_body_counts_what_it_started(notebook: Notebook) -> None:
    grow = "x = b'1' * 150_000_000"
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        "%%process child(v) -> out from src\nimport subprocess, sys\n"
        f'out = subprocess.run([sys.executable, "-c", "{grow}"]).returncode'
    )
    assert notebook.run().counts() == {"completed": 1}
    (row,) = attempts(notebook)
    assert (row.peak_rss or 0) > 150_000_000


def test_retries_begin_anew_when_a_run_is_resumed(kernels: Kernels) -> None:
    """`task.attempt` is 1 again, and rows go on counting: none is lost."""
    first, second = kernels(), kernels()
    gate = first.folder / "gate"
    for notebook in (first, second):
        notebook.cell("%channel src = of(1)")
        notebook.cell(
            f"%%process work(v) -> out from src --retries 1 {QUICK}\nimport os\n"
            f"assert os.path.exists({str(gate)!r}) and task.attempt == 2\nout = v"
        )
    assert first.run().status is RunStatus.FAILED
    gate.touch()
    run = second.session.resume()
    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.SUCCEEDED
    found = [(each.attempt, each.status) for each in attempts(second)]
    assert found == [(1, "failed"), (2, "failed"), (3, "failed"), (4, "completed")]
