"""Results that are gone or damaged come back by one run of their task; two kernels share work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nbcache.errors import ResultGone
from nbcache.model.task import RunStatus
from nbcache.model.value import Stored
from nbcache.store.verify import verify
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S, wait_until

Kernels = Callable[[], Notebook]


def pipeline(notebook: Notebook, add: int = 0) -> None:
    big = notebook.mark("'big' + str(v)")
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            f"%%process big(v) -> data from src\n{big}\ndata = bytes([v]) * 100_000",
            f"%%process size(data) -> n from big\n{notebook.mark(repr('size'))}\n"
            f"n = len(data) + data[0] + {add}",
        ]
    )


def blob_of(notebook: Notebook, index: int) -> Path:
    run = notebook.session.last_run
    assert run is not None
    outputs = run["big"].tasks[index].outputs
    assert outputs is not None
    stored = outputs[0]
    assert isinstance(stored, Stored)
    assert stored.blob is not None
    return notebook.session.cache.blobs.path(stored.blob)


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_fully_cached_run_needs_no_blob_that_nobody_reads(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    run = notebook.run()
    assert notebook.ran() == []
    assert list(run["size"]) == [100_001, 100_002]


def test_a_deleted_blob_is_made_again_and_nothing_else_runs(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    blob_of(notebook, 0).unlink()
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED
    assert notebook.ran() == ["big1"]


def test_a_lost_blob_of_several_tasks_is_made_again_once_though_they_start_together(
    notebook: Notebook,
) -> None:
    names = ("one", "two", "three")
    cells = [
        f"%%process {name}(x) -> out from src\n{notebook.mark(repr(name))}\nout = bytes(100_000)"
        for name in names
    ]
    notebook.cells(["%channel src = of(1)", *cells])
    notebook.run()
    assert len(notebook.ran()) == 3
    found = notebook.session.last_run
    assert found is not None
    outputs = [task.outputs for name in names for task in found[name].tasks]
    (blob,) = {each[0].blob for each in outputs if each and isinstance(each[0], Stored)}
    assert blob is not None
    notebook.session.cache.blobs.path(blob).unlink()
    plans = notebook.session.plan()
    assert [(each.to_run, each.equal) for each in plans] == [(1, 0), (0, 1), (0, 1)]

    run = notebook.run()

    assert len(notebook.ran()) == 1
    assert run.status is RunStatus.SUCCEEDED
    assert all([*run[name]] == [bytes(100_000)] for name in names)


def test_workers_go_on_where_somebody_has_cleared_the_work_folder_away(
    notebook: Notebook,
) -> None:
    pipeline(notebook)
    notebook.run()
    shutil.rmtree(notebook.session.cache.work)
    pipeline(notebook, add=5)
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED, run.failures


def test_a_run_ends_whose_cache_is_deleted_meanwhile_and_the_next_one_makes_it_anew(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = from_iterable(range(6))")
    root = str(notebook.session.cache.root)
    notebook.cell(
        "%%process work(v) -> out from src --max_forks 1\nimport os, shutil\nout = v\n"
        f"shutil.rmtree({root!r}, ignore_errors=True)\nos.kill(os.getpid(), 9)"
    )

    run = notebook.run()

    assert run.status is RunStatus.FAILED
    assert f"the cache {root} was deleted while the run went on" in run.failures[0].error
    notebook.cell("%%process work(v) -> out from src\nout = v")
    assert list(notebook.run()["work"]) == list(range(6))
    assert not verify(notebook.session.cache).problems


def test_a_cache_that_a_task_deletes_ends_the_run_and_stays_away(notebook: Notebook) -> None:
    root = notebook.session.cache.root
    notebook.cell("%channel src = from_iterable(range(4))")
    notebook.cell(
        "%%process work(v) -> out from src --max_forks 1\nimport shutil\nout = v\n"
        f"if v == 1: shutil.rmtree({str(root)!r})"
    )

    run = notebook.run()

    assert run.status is RunStatus.FAILED
    assert f"the cache {root} was deleted while the run went on" in run.message
    assert "done and kept" not in run.message
    assert not root.exists()
    (root / "work").mkdir(parents=True)  # as a worker that was just beginning may leave it
    notebook.cell("%%process work(v) -> out from src\nout = v")
    assert list(notebook.run()["work"]) == list(range(4))


def test_rows_go_to_a_new_journal_where_somebody_has_deleted_the_old_ones(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nout = v")
    notebook.run()
    for journal in (notebook.session.cache.root / "journal").iterdir():
        journal.unlink()
    notebook.cell("%%process work(v) -> out from src\nout = v + 1")
    assert notebook.run()["work"].value == 2


def test_a_consumer_that_meets_a_damaged_blob_recalls_its_producer(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.run()
    path = blob_of(notebook, 1)
    overwrite(path, b"\x07" * path.stat().st_size)
    pipeline(notebook, add=5)

    run = notebook.run()

    assert run.status is RunStatus.SUCCEEDED, run.progress()
    assert list(run["size"]) == [100_006, 100_007]
    assert notebook.ran().count("big2") == 1
    assert "big1" not in notebook.ran()
    assert not verify(notebook.session.cache).problems


def test_what_a_resumed_run_has_to_make_again_is_no_hit_of_it(notebook: Notebook) -> None:
    pipeline(notebook)
    notebook.cell("%%process size(data) -> n from big\nassert data[0] == 1\nn = len(data)")
    assert notebook.run().status is RunStatus.FAILED
    overwrite(blob_of(notebook, 1), bytes([9]) * 100_000)

    pipeline(notebook)
    run = notebook.session.resume()

    assert run.wait(PATIENCE_S)
    assert run.status is RunStatus.SUCCEEDED, run.failures
    counts = run.progress().places[0].counts
    assert (counts["completed"], counts["cached"]) == (1, 1)
    assert run.progress().own == 1


def test_a_damaged_file_never_reaches_who_takes_it(notebook: Notebook) -> None:
    body = "open(f'{v}.bin', 'wb').write(bytes([v]) * 2_000_000)"
    notebook.cells(
        [
            "%channel src = of(1, 2)",
            f'%%process big(v) -> data: path = "{{v}}.bin" from src\n{body}\n'
            f"{notebook.mark(repr('big'))}",
            "%%process size(data: path) -> n from big\nn = sum(data.read_bytes())",
        ]
    )
    notebook.run()
    path = blob_of(notebook, 1)
    overwrite(path, bytes([2]) * 1_999_999 + b"\7")
    notebook.cell("%%process size(data: path) -> n from big\nn = sum(data.read_bytes()) + 5")

    run = notebook.run()

    assert list(run["size"]) == [2_000_005, 4_000_005], run.failures
    assert notebook.ran() == ["big"]
    assert not verify(notebook.session.cache).problems


def test_two_kernels_at_once_run_each_task_once(kernels: Kernels) -> None:
    notebooks = [kernels(), kernels()]
    notebooks[0].trace.write_text("")
    for each in notebooks:
        each.cells(
            [
                "%channel src = from_iterable(range(6))",
                f"%%process slow(v) -> out from src\nimport time\n{each.mark('v')}\n"
                "time.sleep(0.2)\nout = v * v",
            ]
        )
    runs = [each.session.start() for each in notebooks]
    for run in runs:
        assert run.wait(PATIENCE_S)
    assert notebooks[0].ran() == [str(number) for number in range(6)]
    for run in runs:
        assert list(run["slow"]) == [0, 1, 4, 9, 16, 25]


def test_a_second_kernel_takes_over_when_the_first_lets_go(kernels: Kernels) -> None:
    first, second = kernels(), kernels()
    for each in (first, second):
        each.cells(["%channel src = of(1)", "%%process work(v) -> out from src\nout = v"])
    found = second.session.plan()
    assert found[0].to_run == 1
    claimed = second.session.prepare().decider.decide((1, (0,)), {"v": 1}).hash
    assert claimed is not None
    claim = first.session.cache.claims.try_claim(claimed)
    assert claim is not None
    second.cell(f"%%process free(v) -> out from src\n{second.mark('v')}\nout = v")
    second.trace.write_text("")
    run = second.session.start(max_parallel=1)
    while not run.progress().waits:
        assert not run.wait(0.02)
    assert "another kernel" in run.progress().waits[0].text
    wait_until(lambda: second.ran() == ["1"])  # meanwhile what is free runs
    claim.release()
    assert run.wait(PATIENCE_S)
    assert (run.progress().waits, run.progress().notes) == ((), ())
    assert run["work"].value == 1


def test_a_damaged_result_that_is_read_is_put_aside_and_made_again(notebook: Notebook) -> None:
    pipeline(notebook)
    run = notebook.run()
    path = blob_of(notebook, 0)
    overwrite(path, b"\x07" * path.stat().st_size)
    with pytest.raises(ResultGone, match=r"big\[v=1\]: its result .* is damaged"):
        list(run["big"])
    again = notebook.run()
    assert notebook.ran() == ["big1"]
    assert list(again["big"]) == [b"\x01" * 100_000, b"\x02" * 100_000]


@pytest.mark.parametrize("pattern", ["made", "made/text"])
def test_a_file_that_was_damaged_after_it_was_read_is_not_read_again(
    notebook: Notebook, pattern: str
) -> None:
    body = "import os\nos.mkdir('made')\nopen('made/text', 'w').write('all of it')"
    notebook.cells([f"%%process kept() -> made: path = {pattern!r}\n{body}"])
    notebook.run()

    def text() -> str:
        made = notebook.names["kept"].value
        return str((made / "text" if made.is_dir() else made).read_text())

    assert text() == "all of it"
    blobs = [*filter(Path.is_file, (notebook.session.cache.root / "blobs").rglob("*"))]
    (path,) = (each for each in blobs if each.read_bytes() == b"all of it")
    overwrite(path, b"all of IT")
    with pytest.raises(ResultGone, match="is damaged"):
        text()
    assert text() == "all of it"


def test_a_folder_that_could_not_be_read_whole_is_read_whole_later(notebook: Notebook) -> None:
    notebook.cell(
        "%%process work() -> made: path\n"
        "import pathlib\n"
        "made = pathlib.Path('made')\n"
        "made.mkdir()\n"
        "[(made / name).write_text(name * 5000) for name in 'abc']"
    )
    result = notebook.run()["work"]
    lost = next(
        path
        for path in (notebook.session.cache.root / "blobs").glob("??/*")
        if path.read_bytes() == b"c" * 5000
    )
    away = lost.rename(lost.with_name("away"))
    with pytest.raises(ResultGone):
        _ = result.value
    away.rename(lost)

    assert sorted(each.name for each in result.value.iterdir()) == ["a", "b", "c"]


def test_a_damaged_file_of_rows_costs_the_reasons_in_it_and_no_task_fails(
    notebook: Notebook, kernels: Kernels
) -> None:
    pipeline(notebook)
    notebook.run()
    notebook.close()
    second = kernels()
    second.session.cache.log.fold()
    second.close()
    for rows in (notebook.folder / "cache" / "log").glob("*.rows.parquet"):
        rows.chmod(0o644)
        os.truncate(rows, 300)

    third = kernels()
    pipeline(third, add=1)
    run = third.run()

    assert run.status is RunStatus.SUCCEEDED
    assert third.ran() == ["size", "size"]
