"""Attempts on a dask worker that sees no file of the kernel: all that they need goes there, and all
that they make comes back.

The kernel's folder is called /proc/self/cwd here, which is another folder in each process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from nbcache.engine.executors import cluster_site
from nbcache.engine.executors.cargo import Item, file_item, items_of_attempt, items_of_result
from nbcache.engine.executors.carrying import Carrier
from nbcache.engine.executors.depot import Depot
from nbcache.engine.running.run import Run
from nbcache.engine.spec import AttemptSpec, FileInput, InputValue
from nbcache.engine.work.reentry import load
from nbcache.errors import InputChangedError, InputMissingError
from nbcache.model.row import AttemptRow
from nbcache.model.value import Stored
from nbcache.store.cache import Cache
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

HERE = Path("/proc/self/cwd")

pytestmark = pytest.mark.skipif(not HERE.exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A scheduler here, and a dask worker in a process of its own, with a folder of its own."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with LocalCluster(
        n_workers=0, protocol="tcp://", host="127.0.0.1", dashboard_address=":0"
    ) as running:
        words = [
            *(sys.executable, "-m", "distributed.cli.dask_worker", running.scheduler_address),
            *("--nthreads", "2", "--no-nanny", "--no-dashboard", "--local-directory", elsewhere),
        ]
        paths = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
        worker = subprocess.Popen(
            words, cwd=elsewhere, env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.DEVNULL
        )
        try:
            with Client(running.scheduler_address, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=PATIENCE_S)
            yield running
        finally:
            worker.terminate()
            try:
                worker.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    made = Notebook(HERE)
    yield made
    made.close()


def ended(run: Run) -> Run:
    assert run.wait(PATIENCE_S)
    return run


def attempts(notebook: Notebook) -> list[AttemptRow]:
    rows = notebook.session.cache.log.attempts()
    return [row for row in rows if isinstance(row, AttemptRow)]


def test_all_that_a_task_needs_and_makes_travels(
    notebook: Notebook, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = notebook.folder
    (folder / "data.txt").write_text("5")
    (folder / "many").mkdir()
    (folder / "many" / "a").write_text("A")
    (folder / "many" / "b").symlink_to("a")
    (folder / "far_helper.py").write_text(
        "class Pair:\n    def __init__(self, x):\n        self.x = x\n\n"
        "def twice(x):\n    return 2 * x\n"
    )
    (folder / "tool.sh").write_text('#!/bin/sh\necho "tool $1"\n')
    (folder / "tool.sh").chmod(0o755)
    monkeypatch.syspath_prepend(str(folder))
    notebook.cells(
        [
            "import far_helper\nimport numpy\nlarge = numpy.arange(400_000.0)",
            "%channel src = of(1, 2)",
            '%channel given = of((path("data.txt"), path("many")))',
            "%%process make(v) -> v, file: path = 'made.bin', dir: path = 'dir' from src --bash\n"
            'head -c 5000000 /dev/zero > made.bin; mkdir dir; echo "$v" > dir/number\n'
            "ln -s number dir/link; cp made.bin dir; chmod +x made.bin; ./tool.sh $v",
            "%%process read(v, file: path, dir: path) -> n from make\n"
            "import os\n"
            "n = (file.stat().st_size, os.access(file, os.X_OK), (dir / 'link').read_text(),\n"
            "     far_helper.twice(v), large[3])",
            "%%process pair(v) -> p from src\nfrom far_helper import Pair\np = Pair(v)",
            "%%process unpair(p) -> n from pair\nn = p.x",
            "%%process see(x: path, y: path) -> n from given\n"
            "n = x.read_text() + ''.join(sorted(each.read_text() for each in y.iterdir()))",
        ]
    )
    there = f"dask:{cluster.scheduler_address}"
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        seen = client.run(cluster_site.look, str(notebook.session.cache.root))
    assert [facts["cache"] for facts in seen.values()] == [""]

    run = ended(notebook.session.start(executor=there))

    assert run.counts() == {"completed": 9}, [each.error for each in run.failures]
    assert list(run["read"]) == [
        (5_000_000, True, "1\n", 2, 3.0),
        (5_000_000, True, "2\n", 4, 3.0),
    ]
    assert list(run["see"]) == ["5AA"]
    assert list(run["unpair"]) == [1, 2]
    assert not run.notes
    assert [chunk.text for chunk in run.shown("make")[0][2]] == ["tool 1\n"]
    assert ended(notebook.session.start(executor=there)).counts() == {"cached": 9}
    assert ended(notebook.session.start(executor="local")).counts() == {"cached": 9}


def test_what_failed_there_can_be_entered_here(notebook: Notebook, cluster: Any) -> None:
    notebook.cells(
        [
            "%%process make() -> file: path = 'big.bin' --bash\n"
            "head -c 3000000 /dev/zero > big.bin",
            "%%process fails(file: path) -> n from make --bash\necho left > left.txt\nn=1\nexit 3",
            "%%process dies(file: path) -> n from make\nimport os, signal\n"
            "open('left.txt', 'w').write('left')\nos.kill(os.getpid(), signal.SIGKILL)\nn = 1",
        ]
    )

    run = ended(notebook.session.start(executor=f"dask:{cluster.scheduler_address}"))

    assert run.counts() == {"completed": 1, "failed": 2}
    kept = {row.process: Path(row.workdir) for row in attempts(notebook) if row.workdir}
    assert kept.keys() == {"fails", "dies"}
    for workdir in kept.values():
        assert workdir.parent == notebook.session.cache.work
        assert (workdir / "left.txt").read_text().strip() == "left"
        assert load(workdir).process.folder == str(notebook.folder)
    assert (kept["fails"] / "big.bin").stat().st_size == 3_000_000


def test_a_body_runs_once_whose_folder_cannot_be_brought(notebook: Notebook, cluster: Any) -> None:
    work = notebook.session.cache.work.resolve()  # here, where the kernel unpacks
    runs = notebook.folder.resolve() / "runs"
    notebook.cells(
        [
            "%%process fails() -> n --bash\n"
            f"echo once >> {runs}\nmv {work} {work}-away\ntouch {work}\nn=1\nexit 3",
        ]
    )

    run = ended(notebook.session.start(executor=f"dask:{cluster.scheduler_address}"))

    assert run.counts() == {"failed": 1}
    assert runs.read_text() == "once\n"
    (row,) = attempts(notebook)
    assert (row.exit, row.workdir) == (3, None)


def test_a_worker_that_cannot_keep_an_input_is_told_from_an_input_that_is_gone(
    notebook: Notebook, cluster: Any
) -> None:
    (notebook.folder / "data.txt").write_text("5")
    notebook.cells(
        [
            "%%process spoils() -> n\nfrom pathlib import Path\n"
            "(Path.cwd().parents[2] / 'coming').rmdir()\nn = 1",
            '%channel data = of(path("data.txt"))',
            "%%process reads(n, file: path) -> m from spoils, data\nm = file.read_text()",
        ]
    )

    run = ended(notebook.session.start(executor=f"dask:{cluster.scheduler_address}"))

    assert run.counts() == {"completed": 1, "failed": 1}
    assert "cannot keep what the task takes" in run.failures[0].error


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    made = Depot(tmp_path / "there" / "depot", str(tmp_path / "folder" / ".nbcache"))
    yield made
    made.close()


def brought(depot: Depot, folder: Path, cache: Cache, *more: str) -> dict[str, str | None]:
    """Bring a folder to a depot, for a task that takes also what is at `more` in it; return the
    files there by name, links as "-> target"."""
    given: dict[str, InputValue] = {
        name: FileInput(str(folder / name), None, name) for name in (".", *more)
    }
    spec = AttemptSpec(id="1", process="p", task="p[]", inputs=given)
    wanted = items_of_attempt(spec, cache.blobs)
    lacking = [wanted[number] for number in depot.lacks(wanted)]
    for batch in Carrier(None, "topic", cache).batches(lacking):
        depot.take(batch)
    assert depot.lacks(wanted) == []
    top = depot.mirror.place(str(folder))
    return {
        str(each.relative_to(top)): f"-> {os.readlink(each)}"
        if each.is_symlink()
        else (None if each.is_dir() else each.read_text())
        for each in top.rglob("*")
    }


def test_a_depot_is_nobody_elses_and_holds_a_folder_as_it_is_now(
    tmp_path: Path, depot: Depot
) -> None:
    with Cache.open(tmp_path / ".nbcache") as cache:
        data = tmp_path / "data"
        data.mkdir()
        (data / "a").write_text("A")
        (data / "b").write_text("B")
        (data / "link").symlink_to("a")
        (data / "turns").symlink_to("a")
        (data / "folder").mkdir()
        (data / "folder" / "in").write_text("in")
        (data / "linked").symlink_to("folder")
        before = brought(depot, data, cache, "linked", "link", "linked/in")
        assert before["linked"] == "-> folder"
        assert before["link"] == before["turns"] == "-> a"
        assert (tmp_path / "there" / "depot").stat().st_mode & 0o777 == 0o700

        for name in ("a", "link", "turns", "linked"):
            (data / name).unlink()
        shutil.rmtree(data / "folder")
        (data / "a").symlink_to("b")
        (data / "link").symlink_to("b")
        (data / "turns").mkdir()
        (data / "turns" / "in").write_text("turned")
        (data / "folder").write_text("a file")

        assert brought(depot, data, cache) == {
            "a": "-> b",
            "b": "B",
            "link": "-> b",
            "turns": None,
            "turns/in": "turned",
            "folder": "a file",
        }
        (data / "a").unlink()
        (data / "a").write_text("A")
        assert brought(depot, data, cache)["a"] == "A"


def test_a_folder_that_holds_the_cache_goes_without_it_and_leaves_the_depots_alone(
    tmp_path: Path, depot: Depot
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data.txt").write_text("5")
    blob = depot.cache.blobs.put_bytes(b"made there")
    with Cache.open(folder / ".nbcache") as cache:
        cache.blobs.put_bytes(b"made here")
        assert brought(depot, folder, cache) == {"data.txt": "5"}
        depot.lacks([Item(str(cache.root), size=-1)])
        assert depot.cache.blobs.read(blob) == b"made there"


def test_what_is_not_as_it_was_is_not_sent(notebook: Notebook) -> None:
    cache, data = notebook.session.cache, notebook.folder / "data.txt"
    carrier = Carrier(None, "topic", cache)
    data.write_text("before")
    item = file_item(data)
    assert [piece.data for batch in carrier.batches([item]) for piece in batch] == [b"before"]
    data.write_text("after, and longer")
    with pytest.raises(InputChangedError, match="changed after the run began"):
        list(carrier.batches([item]))

    blob = cache.blobs.put_bytes(b"1" * 5000)
    whole = Stored(blob, "value", "bytes", 5000, blob)
    (item,) = items_of_result(whole, cache.blobs)
    cache.blobs.set_aside(blob)
    with pytest.raises(InputMissingError):
        list(carrier.batches([item]))
    with pytest.raises(InputMissingError):
        list(items_of_result(whole, cache.blobs))
