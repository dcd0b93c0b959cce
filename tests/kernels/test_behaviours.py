"""The behaviours that a pipeline engine has to hold, each through real kernels: one notebook, run
by one kernel and then, on the same cache, by another one.

Here: 1 (again, with what was printed), 2 (unknown runs, no history), 7 (a value that a body
computed), 13, 14 (queues and values), 15, 16, 17 (gathering in order), 22 (modes of files), 24
(what a failure means), 25 (work directories), 26 (hooks, required parameters). `test_runs.py` holds
2 (the cache moved), 3, 4, 5, 6, 20, 21, `test_folders.py` 9, 10, 11, 12, 18, 19, 23,
`test_entries.py` 8. The same in more detail, without a kernel: `tests/engine`, where the names of
tests begin with these numbers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.scenarios import Notebook, error_of, text_of

LOAD = "%load_ext nbcache"
TELL = """
import json, nbcache
def tell(name, error, *see):
    run = nbcache.session().last_run
    with open(REPORT, "a") as report:
        told = {"name": name, "error": error, "counts": run.counts(), "status": run.status.value,
                "run": run.name, "see": json.loads(json.dumps([each(run) for each in see]))}
        report.write(json.dumps(told) + "\\n")
def printed(name):
    return lambda run: ["".join(c.text for c in chunks) for _, _, chunks in run.shown(name)]
def values(name):
    return lambda run: list(run[name])
"""


@dataclass(frozen=True)
class Part:
    """Some cells, the processes to run, expressions to look at; and what both kernels count."""

    name: str
    cells: tuple[str, ...]
    targets: str
    see: str
    first: Mapping[str, int]
    again: Mapping[str, int]


PARTS = (
    Part(
        "1 printed",
        (
            "%channel src1 = of(1, 2)",
            "%%process one1(v) -> a from src1\nprint('one', v)\na = v + 1",
            "%%process two1(a) -> b from one1 --bash\necho two $a; b=$a",
        ),
        "two1", "printed('one1'), printed('two1')", {"completed": 4}, {"cached": 4},
    ),
    Part(
        "7 value",
        (
            "%%process made7() -> n\nimport random\nn = random.SystemRandom().random()",
            "%%process below7(n) -> m from made7\nm = n",
        ),
        "below7", "values('made7'), values('below7')", {"completed": 2}, {"cached": 2},
    ),
    Part(
        "13 product",
        (
            "%channel items13 = of(1, 2)",
            "%channel grid13 = items13.combine(of('x', 'y')).combine(of(0.1, 0.2, 0.3))",
            "%%process work13(a, b, c) -> out from grid13\nout = (a, b, c)",
        ),
        "work13", "values('work13')", {"completed": 12}, {"cached": 12},
    ),
    Part(
        "14 value beside a queue",
        (
            "%channel src14 = of(1, 2, 3)",
            "%%process ref14() -> r\nr = 10",
            "%%process use14(v, r) -> out from src14, ref14\nout = v * r",
        ),
        "use14", "values('use14')", {"completed": 4}, {"cached": 4},
    ),
    Part(
        "15 buffered",
        (
            "%channel files15 = from_path('data15/*').buffer(2)",
            "%%process group15(fs: list[path]) -> names from files15\n"
            "names = [each.name for each in fs]",
        ),
        "group15", "values('group15')", {"completed": 3}, {"cached": 3},
    ),
    Part(
        "16 17 gathered",
        (
            "import random",
            "%channel src16 = from_iterable(range(26))",
            "%%process slow16(v) -> out from src16\nimport random, time\n"
            "time.sleep(random.SystemRandom().random() / 20)\nout = v",
            "%%process all17(outs) -> n from slow16.collect()\nn = list(outs)",
            "%channel six16 = slow16.take(6).group_by(lambda out: out % 2)",
            "%%process group16(key, outs) -> got from six16\ngot = [key, list(outs)]",
        ),
        "all17 group16", "values('all17'), values('group16')", {"completed": 29}, {"cached": 29},
    ),
    Part(
        "22 modes",
        (
            "%channel file22 = of('data22/f')",
            "%channel swapped22 = of('data22/x', 'data22/y')",
            "%%process deep22(f: path) -> n from file22\nn = f.read_text()",
            "%%process standard22(f: path) -> n from file22 --cache standard\nn = f.read_text()",
            "%%process lenient22(f: path) -> n from file22 --cache lenient\nn = f.read_text()",
            "%%process folders22(d: path) -> n from swapped22\nn = (d / 'data').read_text()",
        ),
        "deep22 standard22 lenient22 folders22",
        "values('folders22'), lambda r: {n: [t.outcome.value for t in r[n].tasks] "
        "for n in ('deep22', 'standard22', 'lenient22', 'folders22')}",
        {"completed": 5}, {"cached": 2, "completed": 3},
    ),
    Part(
        "24 finish",
        (
            "%channel src24 = from_iterable(range(8))",
            "%%process work24(v) -> out from src24 --on_error finish --max_forks 2\n"
            "import os, time\nif v == 1:\n    open(GATE, 'w').close()\n"
            "while not os.path.exists(GATE):\n    time.sleep(0.01)\n"
            "if v == 0:\n    raise ValueError('no')\ntime.sleep(0.5)\nout = v",
        ),
        "work24", "lambda r: r.counts()['failed'], lambda r: len(r.tasks), "
        "lambda r: r.counts()['aborted'] > 3",
        {}, {},  # how many end before the failure is known depends on the machine
    ),
    Part(
        "24 ignore",
        (
            "%channel few24 = of(1, 2)",
            "%%process some24(v) -> out from few24 --backoff 1ms\n"
            "#| on_error: 'retry' if task.attempt < 3 else 'ignore'\n"
            "assert v == 1\nout = v",
        ),
        "some24", "values('some24'), lambda r: [f.ignored for f in r.failures]",
        {"completed": 1, "ignored": 1}, {"cached": 1, "ignored": 1},
    ),
    Part(
        "25 work directories",
        (
            "%channel src25 = of(5)",
            "%%process make25(v) -> o: path = 'o.txt' from src25 --bash\necho $v > o.txt",
        ),
        "make25", "lambda r: r['make25'].value.read_text()", {"completed": 1}, {"cached": 1},
    ),
    Part(
        "26 hooks",
        (
            "hooked = []",
            "@nbcache.on_complete\ndef told26(run):\n"
            "    hooked.append([run.status.value, bool(run.name), run.elapsed_s > 0])",
            "@nbcache.on_error\ndef failed26(run):\n    hooked.append(run.failures[0].error)",
            "%%process bad26() -> out\nout = 1 / 0",
        ),
        "bad26", "lambda r: hooked", {"failed": 1}, {"failed": 1},
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let two kernels run all parts; files, and the cache's work, change in between."""
    notebook = Notebook(tmp_path_factory.mktemp("behaviours"))
    notebook.write({f"data15/{n}.txt": n for n in "edbca"})
    notebook.write({"data22/f": "same", "data22/x/data": "1", "data22/y/data": "2"})
    first = run(notebook)
    os.utime(notebook.folder / "data22/f", (1, 1))
    notebook.write({"data22/x/data": "2", "data22/y/data": "1"})
    work = notebook.root / "cache/work"
    shutil.rmtree(work)
    (work / "01ABANDONED").mkdir(parents=True)
    (work / "01ABANDONED/o.txt").write_text("from a crash")
    return first, run(notebook)


def run(notebook: Notebook) -> dict[str, Any]:
    places = f"REPORT, GATE = {str(notebook.report)!r}, {str(notebook.root / 'gate')!r}"
    cells = [LOAD, f"%nbcache use {notebook.root}/cache", f"{places}\n{TELL}"]
    for part in PARTS:
        cells += part.cells
        cells.append(
            f"error = ''\ntry:\n    %nbcache run {part.targets}\n"
            f"except Exception as problem:\n    error = str(problem)\n"
            f"tell({part.name!r}, error, {part.see})"
        )
    notebook.report.write_text("")
    executed = notebook.execute(cells)
    assert [error_of(cell) for cell in executed if error_of(cell)] == []
    told = [json.loads(line) for line in notebook.report.read_text().splitlines()]
    return {each["name"]: each for each in told}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_second_kernel_finds_what_the_first_made(
    seen: tuple[dict[str, Any], dict[str, Any]], part: Part
) -> None:
    first, again = (each[part.name] for each in seen)
    assert not part.first or (first["counts"], again["counts"]) == (part.first, part.again)
    if part.name != "22 modes":
        assert again["see"] == first["see"]


def test_what_was_printed_gathered_and_said_is_what_it_has_to_be(
    seen: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    again = {name: each["see"] for name, each in seen[1].items()}
    assert again["1 printed"] == [["one 1\n", "one 2\n"], ["two 2\n", "two 3\n"]]
    assert again["14 value beside a queue"] == [[10, 20, 30]]
    assert again["15 buffered"] == [[["a.txt", "b.txt"], ["c.txt", "d.txt"], ["e.txt"]]]
    assert again["16 17 gathered"] == [[list(range(26))], [[0, [0, 2, 4]], [1, [1, 3, 5]]]]
    assert again["24 ignore"] == [[1], [True]]
    assert again["25 work directories"] == ["5\n"]
    assert again["26 hooks"] == [["ZeroDivisionError: division by zero", ["failed", True, True]]]
    assert again["24 finish"] == [1, 8, True]
    assert seen[1]["24 finish"]["status"] == "failed"
    assert "work24" in seen[1]["24 finish"]["error"]
    assert seen[1]["24 ignore"]["status"] == "succeeded"


def test_a_new_time_counts_in_one_mode_only_and_swapped_folders_count(
    seen: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    values, outcomes = seen[1]["22 modes"]["see"]
    assert values == ["2", "1"]
    assert outcomes == {
        "deep22": ["cached"], "standard22": ["completed"], "lenient22": ["cached"],
        "folders22": ["completed", "completed"],
    }  # fmt: skip


def test_2_26_without_history_unknown_runs_and_missing_parameters(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    cells = notebook.execute(
        [
            LOAD,
            f"%nbcache use {tmp_path}/cache",
            "%channel src = of(1, 2)",
            f"%%process work(v) -> out from src\n{notebook.mark('ran')}\nout = v",
            "%nbcache resume nobody",
            "%nbcache resume",
            "%nbcache resume nobody",
            "import nbcache\nlimit = nbcache.required('the highest value')",
            f"%%process bounded(v) -> out from src\n{notebook.mark('bounded')}\nout = v < limit",
            "%nbcache run",
            "%nbcache run -p limit=2",
        ]
    )
    assert "has no runs yet" in error_of(cells[4])
    assert "no runs yet: this is a plain run" in text_of(cells[5])
    assert "no run 'nobody'; the latest: " in error_of(cells[6])
    assert "limit" in error_of(cells[9])
    assert "the highest value" in error_of(cells[9])
    assert error_of(cells[10]) == ""
    assert notebook.ran() == ["bounded", "bounded", "ran", "ran"]
