"""Attempts on a dask cluster: they run in pools of its workers, and end with what asked for them.

The cluster's scheduler and workers live in this process; each dask worker starts real processes.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster

from nbcache.engine.executors import cluster_site
from nbcache.engine.executors.alike import check_machine, describe_machine
from nbcache.engine.running.run import Run
from nbcache.engine.spec import AttemptSpec
from nbcache.errors import UsageError
from nbcache.model.row import AttemptRow
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two dask workers with two threads each, at a TCP address as any other cluster."""
    with small_cluster(2) as running:
        yield running


def small_cluster(workers: int) -> Any:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address=":0",
        memory_limit=0,  # of the whole process, which is that of all tests here
    )


def ended(run: Run) -> Run:
    assert run.wait(PATIENCE_S)
    return run


def wait_until(holds: Callable[[], bool]) -> None:
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "what was waited for did not come"
        pause.wait(0.02)


def attempts(notebook: Notebook) -> list[AttemptRow]:
    rows = notebook.session.cache.log.attempts()
    return [row for row in rows if isinstance(row, AttemptRow)]


def test_a_run_goes_on_between_this_machine_and_a_cluster(notebook: Notebook, cluster: Any) -> None:
    gate = notebook.folder / "gate"
    notebook.cells(
        [
            "%channel src = of(1, 2, 3)",
            "factor = 10",
            "%%process make(v) -> made: path = 'made.txt' from src --bash\n"
            f'echo "making $v"\n[ "$v" != 3 ] || [ -e "{gate}" ]\necho "$v" > made.txt',
            "%%process read(made: path) -> n from make\nn = int(made.read_text()) * factor",
        ]
    )
    there = f"dask:{cluster.scheduler_address}"

    first = ended(notebook.session.start(executor=there))
    again = ended(notebook.session.resume())
    gate.touch()
    here = ended(notebook.session.resume(executor="local"))

    assert first.counts() == {"completed": 4, "failed": 1}, first.error
    assert again.counts() == {"cached": 4, "failed": 1}
    assert here.counts() == {"cached": 4, "completed": 2}
    assert list(here["read"]) == [10, 20, 30]
    third = [row for row in attempts(notebook) if (row.process, row.position) == ("make", "2")]
    assert [(row.executor, row.session) for row in third] == [
        ("dask", 1), ("dask", 2), ("local", 3),
    ]  # fmt: skip
    assert [chunk.text for chunk in first.shown("make")[0][2]] == ["making 1\n"]
    assert ended(notebook.session.start(executor=there)).counts() == {"cached": 6}


def test_limits_reads_and_deaths_are_as_on_this_machine(notebook: Notebook, cluster: Any) -> None:
    (notebook.folder / "data.txt").write_text("5")
    notebook.cells(
        [
            "%%process slow() -> n --time 1s\nimport time\ntime.sleep(600)\nn = 1",
            "%%process dies() -> n\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nn = 1",
            "%%process wide() -> n --cpus 3\nn = 1",
            "%%process reads() -> n\nimport os\n"
            f"n = int(open(os.path.join({str(notebook.folder)!r}, 'data.' + 'txt')).read())",
        ]
    )

    run = ended(notebook.session.start(executor=f"dask:{cluster.scheduler_address}"))

    errors = {failure.process: failure.error for failure in run.failures}
    assert "time limit of 1 s exceeded" in errors["slow"]
    assert "SIGKILL" in errors["dies"]
    assert errors["wide"] == "asks for 3 cpus, which no worker of the dask cluster has"
    assert run["reads"].value == 5
    assert any("data.txt" in note for note in run.notes)
    assert {row.process: row.signal for row in attempts(notebook)} == {
        "slow": "SIGTERM", "dies": "SIGKILL", "wide": None, "reads": None,
    }  # fmt: skip


def test_a_cancelled_run_leaves_no_process_and_a_closed_session_no_pool(
    notebook: Notebook, cluster: Any
) -> None:
    pid = notebook.folder / "pid"
    notebook.cells(
        [
            "%channel src = of(1, 2, 3, 4, 5, 6)",
            f"%%process wait(v) -> n from src --bash\necho $$ >> {pid}\nsleep 600\nn=1",
        ]
    )
    run = notebook.session.start(executor=f"dask:{cluster.scheduler_address}")
    wait_until(lambda: pid.exists() and len(pid.read_text().split()) == 4)

    run.cancel()

    assert ended(run).status is RunStatus.CANCELLED
    assert run.counts() == {"aborted": 6}
    assert not any(psutil.pid_exists(int(each)) for each in pid.read_text().split())
    notebook.session.performer.close()
    wait_until(lambda: not cluster_site._sites)


# What else a dask worker may be busy with: by name, so that the cluster finds these very objects.
_busy = threading.Semaphore(0)
_gate = threading.Event()


def be_busy(number: int) -> None:
    _busy.release()
    _gate.wait(PATIENCE_S)


def test_a_run_whose_tasks_wait_behind_those_of_others_can_be_cancelled(
    notebook: Notebook, cluster: Any
) -> None:
    notebook.cells(["%channel src = of(1, 2, 3, 4, 5)", "%%process wait(v) -> n from src\nn = v"])
    _gate.clear()
    with Client(cluster.scheduler_address, set_as_default=False) as other:
        held = other.map(be_busy, range(4), pure=False)
        for _ in range(4):
            assert _busy.acquire(timeout=PATIENCE_S)
        run = notebook.session.start(executor=f"dask:{cluster.scheduler_address}")
        wait_until(lambda: len(cluster.scheduler.tasks) == 8)
        assert not run.done

        run.cancel()

        try:
            assert ended(run).counts() == {"aborted": 5}
        finally:
            _gate.set()
        other.gather(held)
    assert all(each.start is None for each in attempts(notebook))  # none had begun


def test_a_run_can_be_cancelled_when_all_dask_workers_are_lost(notebook: Notebook) -> None:
    begun = notebook.folder / "begun"
    notebook.cell(f"%%process wait() -> n --bash\ntouch {begun}\nsleep 600\nn=1")
    with small_cluster(1) as cluster:
        run = notebook.session.start(executor=f"dask:{cluster.scheduler_address}")
        wait_until(begun.exists)
        cluster.scale(0)
        wait_until(lambda: not cluster.scheduler.workers)
        assert not run.done

        run.cancel()

        assert ended(run).status is RunStatus.CANCELLED
        assert run.counts() == {"aborted": 1}
        notebook.session.performer.close()


def test_a_clean_up_between_runs_leaves_the_cluster_usable(
    notebook: Notebook, cluster: Any
) -> None:
    there, tmp = f"dask:{cluster.scheduler_address}", notebook.session.cache.tmp
    notebook.cells(["factor = 1", "%%process work() -> n\nn = factor"])
    assert ended(notebook.session.start(executor=there)).counts() == {"completed": 1}
    assert not [each for each in tmp.iterdir() if "nbcache" in each.name]
    tmp.rename(notebook.folder / "taken")
    tmp.mkdir(exist_ok=True)
    notebook.cells(
        [
            "factor = 2",
            "%channel src = of(1, 2, 3, 4, 5)",  # more than there are worker processes by now
            "%%process dies(v) -> n from src --on_error ignore\n"
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nn = 1",
        ]
    )

    run = ended(notebook.session.start(executor=there))

    assert run["work"].value == 2
    assert len(run.failures) == 5
    assert all("SIGKILL" in failure.error for failure in run.failures)


def test_a_task_fails_on_a_machine_with_another_package_or_tool(
    notebook: Notebook, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, tools = notebook.folder / "site-packages", notebook.folder / "bin"
    (installed / "strange-1.0.dist-info").mkdir(parents=True)
    (installed / "strange.py").write_text("value = 1\n")
    tools.mkdir()
    (tools / "mytool").write_text("#!/bin/sh\necho 1\n")
    (tools / "mytool").chmod(0o755)
    monkeypatch.syspath_prepend(installed)
    notebook.cells(
        [
            "%%process upgrades() -> done --bash\n"
            f"mv {installed}/strange-1.0.dist-info {installed}/strange-2.0.dist-info\n"
            f"echo '# new' >> {tools}/mytool\ndone=1",
            "%%process imports(done) -> n from upgrades\nimport strange\nn = strange.value",
            "%%process calls(done) -> n from upgrades --bash\nn=$(mytool)",
        ]
    )

    run = ended(notebook.session.start(executor=f"dask:{cluster.scheduler_address}"))

    errors = {failure.process: failure.error for failure in run.failures}
    assert (
        "package strange is there with strange 2.0, and in the kernel with strange 1.0"
        in errors["imports"]
    )
    assert f"tool mytool is another {tools}/mytool than the kernel's" in errors["calls"]
    assert run.counts() == {"completed": 1, "failed": 2}


@pytest.mark.parametrize("what", ["Python", "nbcache", "platform"])
def test_a_machine_of_another_kind_is_refused(what: str) -> None:
    check_machine("far", describe_machine(), describe_machine())

    with pytest.raises(UsageError, match=f"the dask worker on far has {what} other, and this"):
        check_machine("far", describe_machine(), {**describe_machine(), what: "other"})


def test_a_pool_that_ends_while_an_attempt_is_on_its_way_ends_that_too(notebook: Notebook) -> None:
    site = cluster_site.Site("name", str(notebook.session.cache.root), 1)
    spec = AttemptSpec(id="late", task="late", process="none")
    site.asked.add(spec.id)
    site.end()

    errand = cluster_site.Errand("topic", "", "", {}, "none", spec, None)

    with pytest.raises(concurrent.futures.CancelledError):
        site.perform(errand, "nowhere", lambda kind, what: None, lambda: True)

    wait_until(site.loop.is_closed)


def test_what_is_no_cluster_is_said(notebook: Notebook, tmp_path: Path) -> None:
    notebook.cell("%%process work() -> out\nout = 1")
    for wrong in ("inline", "dask", "dask:", "slurm:x"):
        with pytest.raises(UsageError, match="--executor takes local, or dask:ADDRESS"):
            notebook.session.start(executor=wrong)

    run = ended(notebook.session.start(executor="dask:nonsense://x"))

    assert run.status is RunStatus.FAILED
    assert "no dask cluster answers at nonsense://x" in run.error
    assert ended(notebook.session.start()).counts() == {"completed": 1}
