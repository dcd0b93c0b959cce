"""GPUs that tasks have for themselves, and room on the disk that has to be free."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nbcache.engine.running.devices import Devices, gpu_ids
from nbcache.model.row import AttemptRow
from nbcache.store.history import connect
from tests.engine.notebooks import Notebook


@pytest.mark.parametrize(
    ("environ", "cards", "ids"),
    [
        ({"NBCACHE_GPUS": "2"}, 0, ("0", "1")),
        ({"NBCACHE_GPUS": "0"}, 3, ()),
        ({"NBCACHE_GPUS": "1,GPU-ab"}, 0, ("1", "GPU-ab")),
        ({"NBCACHE_GPUS": "3,"}, 0, ("3",)),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, 4, ("1", "0")),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, 4, ("1",)),
        ({"CUDA_VISIBLE_DEVICES": ""}, 4, ()),
        ({}, 2, ("0", "1")),
        ({}, None, ()),
    ],
)
def test_gpus_are_those_that_are_named_or_that_the_driver_lists(
    tmp_path: Path, environ: dict[str, str], cards: int | None, ids: tuple[str, ...]
) -> None:
    driver = tmp_path / "gpus"
    for number in range(cards or 0):
        (driver / f"0000:0{number}:00.0").mkdir(parents=True)
    assert gpu_ids(environ, driver) == ids


def test_what_is_given_back_is_taken_first_again() -> None:
    devices = Devices(("5", "2", "7"))
    assert devices.take(2) == ("5", "2")
    assert devices.take(1) == ("7",)
    devices.give(("7",))
    devices.give(("5", "2"))
    assert devices.take(1) == ("5",)


def test_tasks_have_gpus_for_themselves_and_others_see_what_the_kernel_sees(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tasks than GPUs: no two at a time have the same one, whatever workers served before."""
    monkeypatch.setenv("NBCACHE_GPUS", "4,6")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    log = notebook.folder / "log"
    notebook.cells(
        [
            "%channel src = from_iterable(range(6))",
            "%%process plain(v) -> seen from src\nimport os\n"
            "seen = os.environ.get('CUDA_VISIBLE_DEVICES')",
            f"%%process one(v) -> had from src --gpus 1\nimport os\n"
            "had = os.environ['CUDA_VISIBLE_DEVICES']\n"
            f"with open({str(log)!r}, 'a') as log:\n    log.write(f'+{{had}} ')\n    log.flush()\n"
            "    sum(range(200_000))\n    log.write(f'-{had} ')",
            "%%process both(v) -> had from src --bash\n"
            "#| gpus: 2 if v > 3 else 0\n"
            'had="$task_gpus:${CUDA_VISIBLE_DEVICES-none}"',
        ]
    )
    run = notebook.run()
    assert run.failures == []
    assert list(run["plain"]) == [None] * 6
    assert set(run["one"]) <= {"4", "6"}
    assert list(run["both"]) == ["0:none"] * 4 + ["2:4,6"] * 2
    held: set[str] = set()
    for sign, gpu in re.findall(r"([+-])(\d)", log.read_text()):
        assert (gpu in held) is (sign == "-"), log.read_text()
        held ^= {gpu}
    rows = [row for row in notebook.session.cache.log.rows() if isinstance(row, AttemptRow)]
    assert {(row.process, row.gpus) for row in rows} == {
        ("plain", None), ("one", 1), ("both", None), ("both", 2),
    }  # fmt: skip
    monkeypatch.setenv("NBCACHE_GPUS", "0")
    assert notebook.run().counts() == {"cached": 18}


def test_gpus_that_a_machine_does_not_have_are_refused_with_the_way_out(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBCACHE_GPUS", "1")
    notebook.cell("%%process work() -> out --gpus 2\nout = 1")
    (failure,) = notebook.run().failures
    assert "asks for 2 gpus, but this machine has 1" in failure.error
    assert "NBCACHE_GPUS" in failure.error


def test_room_that_is_not_free_fails_a_task_before_its_body_runs(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(
        "%%process work(v) -> out from src --disk '1MB if v == 1 else 10_000TB'\n"
        f"{notebook.mark('(v, task.disk)')}\nout = v"
    )
    run = notebook.run()
    assert run.counts() == {"completed": 1, "failed": 1}
    assert "".join(notebook.ran()) == "(1,1000000)"
    (failure,) = run.failures
    assert "asks for 10 PB of disk, but only" in failure.error
    assert "--scratch" in failure.error
    with connect(notebook.session.cache) as connection:
        asked = connection.execute("SELECT disk FROM tasks ORDER BY position").fetchall()
    assert asked == [(1_000_000,), (10**16,)]
