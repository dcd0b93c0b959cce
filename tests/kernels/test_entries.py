"""Entries of the cache between kernels: lost and damaged blobs, early cutoff, living kernels."""
# ruff: noqa: E501 - a cell is easiest to read on one line

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kernels.scenarios import Notebook, error_of, text_of


def _run(notebook: Notebook, cells: Sequence[str], cache: str = "") -> tuple[list[str], str]:
    """Run cells in a fresh kernel; return what ran, and the text of the last cell."""
    place = cache or str(notebook.root / "cache")
    executed = notebook.execute(["%load_ext nbcache", f"%nbcache use {place}", *cells])
    errors = [error_of(each) for each in executed]
    assert not any(errors), errors
    return notebook.ran(), text_of(executed[-1])


def _pipeline(notebook: Notebook, *, factor: int = 1, big: str = "bytes(80_000)") -> list[str]:
    return [
        "%channel src = of(1, 2)",
        f"%%process big(v) -> data from src\n{notebook.mark('big')}\ndata = {big} + bytes([v])",
        f"%%process same(v) -> data from src\n{notebook.mark('same')}\nw = v\n"
        "data = bytes(80_000) + bytes([w])",
        f"%%process size(data) -> n from big\n{notebook.mark('size')}\nprint('x' * 9000, data[-1])\n"
        f"n = len(data) * {factor}",
        f"%%process size2(data) -> n from same\n{notebook.mark('size2')}\nn = len(data) * {factor}",
        "%nbcache run",
        "for name in ('big', 'same', 'size', 'size2'):\n"
        "    print(name, sum(len(x) if isinstance(x, bytes) else x for x in globals()[name]))",
    ]


def _blobs(notebook: Notebook) -> list[Path]:
    found = [path for path in (notebook.root / "cache" / "blobs").rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_size)


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path / "place")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run the pipeline once; return its folder, and a copy of all that was in it then."""
    root = tmp_path_factory.mktemp("entries") / "place"
    notebook = Notebook(root)
    everything, _ = _run(notebook, _pipeline(notebook))
    assert everything == sorted(["big", "same", "size", "size2"] * 2)
    kept = root.with_name("kept")
    shutil.copytree(root, kept, symlinks=True)
    return root, kept


@pytest.fixture
def ran_once(place: tuple[Path, Path]) -> Notebook:
    """A notebook whose pipeline a kernel has run, where it ran: bodies name their folder."""
    root, kept = place
    shutil.rmtree(root)
    notebook = Notebook(root)
    shutil.copytree(kept, root, symlinks=True, dirs_exist_ok=True)
    return notebook


def test_one_damaged_blob_that_two_processes_made_is_healed_once(ran_once: Notebook) -> None:
    large = [path for path in _blobs(ran_once) if path.stat().st_size > 60_000]
    assert len(large) == 2
    flipped = large[0]
    data = bytearray(flipped.read_bytes())
    data[-5] ^= 1
    flipped.chmod(0o644)
    flipped.write_bytes(data)

    ran, said = _run(ran_once, _pipeline(ran_once, factor=2))

    assert ran.count("big") + ran.count("same") == 1
    assert (ran.count("size"), ran.count("size2")) == (2, 2)
    assert said.split() == ["big", "160002", "same", "160002", "size", "320004", "size2", "320004"]
    assert _run(ran_once, _pipeline(ran_once, factor=2))[0] == []


def test_a_blob_that_is_gone_or_cut_is_made_again_and_nothing_else_runs(ran_once: Notebook) -> None:
    gone, cut = [path for path in _blobs(ran_once) if path.stat().st_size > 60_000]
    gone.unlink()
    cut.chmod(0o644)
    cut.write_bytes(cut.read_bytes()[:-7])

    ran, said = _run(ran_once, _pipeline(ran_once))

    assert set(ran) <= {"big", "same"}
    assert 2 <= len(ran) <= 4  # tasks that find the loss at the same time all make it good
    assert said.split()[1::2] == ["160002"] * 4


def test_a_result_whose_output_is_no_longer_kept_is_a_hit_and_says_so(ran_once: Notebook) -> None:
    shown = [path for path in _blobs(ran_once) if 9_000 <= path.stat().st_size < 60_000]
    assert len(shown) == 2
    for path in shown:
        path.unlink()

    place = f"%nbcache use {ran_once.root}/cache"
    executed = ran_once.execute(["%load_ext nbcache", place, *_pipeline(ran_once)])

    assert ran_once.ran() == []
    (card,) = [each for each in executed if each.source.startswith("%%process size(")]
    assert "no longer kept" in text_of(card)


def test_an_equal_result_of_an_edited_step_stops_there(ran_once: Notebook) -> None:
    ran, _ = _run(ran_once, _pipeline(ran_once, big="bytes(40_000) * 2"))

    assert ran == ["big", "big"]


def test_the_cache_serves_another_folder_and_another_notebook(ran_once: Notebook) -> None:
    moved = ran_once.root / "elsewhere"
    shutil.move(ran_once.root / "cache", moved)
    ran_once.folder = ran_once.root / "other" / "place"
    ran_once.folder.mkdir(parents=True)

    assert _run(ran_once, ["import math", *_pipeline(ran_once)], str(moved))[0] == []


def test_a_project_that_is_copied_with_what_it_reads_is_a_hit_until_the_copy_is_edited(
    notebook: Notebook,
) -> None:
    notebook.write(
        {
            "rated.py": "import pathlib\nHERE = pathlib.Path(__file__).parent\n"
            "def rate(): return int((HERE / 'data' / 'rate.txt').read_text())\n",
            "data/rate.txt": "2",
        }
    )
    cells = [
        "import rated",
        "%channel src = of(1)",
        f"%%process times(v) -> out from src\n{notebook.mark('times')}\nout = v * rated.rate()",
        "%nbcache run",
        "print(times.value)",
    ]
    first, _ = _run(notebook, cells)
    copy = notebook.root / "copy"
    shutil.copytree(notebook.folder, copy)
    notebook.folder = copy

    copied, same = _run(notebook, cells)
    notebook.write({"data/rate.txt": "3"})
    edited, other = _run(notebook, cells)

    assert (first, copied, edited) == (["times"], [], ["times"])
    assert (same.strip(), other.strip()) == ("2", "3")


def test_a_task_that_changes_its_input_is_reported_and_not_kept(notebook: Notebook) -> None:
    source = notebook.folder / "x.txt"
    source.write_text("a")
    body = "import os\nos.chmod(real, 0o644)\nopen(real, 'a').write('b')\nout = 1"
    cells = [
        f"real = {str(source)!r}",
        "%channel src = of(1)",
        '%%process bad(v, data: path = "x.txt") -> out from src\n'
        + notebook.mark("bad")
        + "\n"
        + body,
        "%nbcache run",
    ]

    first, said = _run(notebook, cells)
    source.write_text("a")
    second, _ = _run(notebook, cells)

    assert (first, second) == (["bad"], ["bad"])
    assert "changed" in said


_LIVE = [
    "import importlib, os, sys\nsys.dont_write_bytecode = True\nimport live_module",
    "class Model:\n    def m(self, v): return v + 1\nmodel = Model()\nrows = [1, 2]",
    "%channel one = of(3)",
    "%%process a(v) -> out from one\n{a}\nout = live_module.f(v)",
    "%%process b(v) -> out from one\n{b}\nout = model.m(v) + sum(rows)",
    "%%process c(v) -> out from one\n{c}\nout = os.environ.get('LIVE_FOR_TEST')",
    "%nbcache run",
    "say()",
]


def test_edits_in_a_living_kernel_count_at_once(notebook: Notebook) -> None:
    path = notebook.folder / "live_module.py"
    path.write_text("RATE = 1\ndef f(v):\n    return v + RATE\n")
    say = (
        "def say():\n    import pathlib\n    trace = pathlib.Path("
        f"{str(notebook.trace)!r})\n    print(sorted(trace.read_text().split()),"
        " a.value, b.value, c.value)\n    trace.write_text('')"
    )
    marks = {name: notebook.mark(name) for name in "abc"}
    again = ["%nbcache run", "say()"]
    edits = [
        f"open({str(path)!r}, 'w').write('RATE = 2\\ndef f(v):\\n    return v + RATE\\n')",
        "importlib.reload(live_module)",
        "rows.append(3)",
        "class Model:\n    def m(self, v): return v + 2",
        "model = Model()",
        "os.environ['LIVE_FOR_TEST'] = 'x'",
        "os.environ['LIVE_FOR_TEST'] = 'y'",
        "os.makedirs('down', exist_ok=True)\nos.chdir('down')",
    ]
    cells = [say, *(each.format(**marks) if "{" in each else each for each in _LIVE)]
    for each in edits:
        cells += [each, *again]

    executed = notebook.execute(
        ["%load_ext nbcache", f"%nbcache use {notebook.root}/cache", *cells]
    )

    assert [error_of(each) for each in executed if error_of(each)] == []
    said = [text_of(each).strip() for each in executed if each.source == "say()"]
    assert said == [
        "['a', 'b', 'c'] 4 7 None",
        "['a'] 5 7 None",  # the file counts, reloaded or not
        "[] 5 7 None",
        "['b'] 5 10 None",
        "[] 5 10 None",  # the instance is still of the class that it was made of
        "['b'] 5 11 None",
        "['c'] 5 11 x",
        "['c'] 5 11 y",
        "[] 5 11 y",
    ]


def test_a_random_edit_never_makes_plan_and_run_disagree(notebook: Notebook) -> None:
    """Random edits of a small pipeline, one after the other in one kernel and again in another."""
    import random

    chance = random.Random(7)
    state = {"k": 1, "helper": 1, "items": 3, "body": 1, "last": 1}
    cells = [
        "import nbcache\ndef plan():\n    global planned\n"
        "    planned = {p.name: p.to_run for p in nbcache.session().plan() if not p.unknown}\n"
        "def check():\n    import pathlib\n    trace = pathlib.Path("
        f"{str(notebook.trace)!r})\n    ran = trace.read_text().split() if trace.exists() else []\n"
        "    trace.write_text('')\n"
        "    for name, n in planned.items():\n        assert ran.count(name) == n, (name, n, ran)\n"
        "    print(sorted(ran), list(p1), list(p2), total.value)",
        "pass",
    ]
    for _ in range(12):
        what = chance.choice(sorted(state))
        state[what] = chance.randint(1, 3)
        k, helper, items, body, last = (
            state[each] for each in ("k", "helper", "items", "body", "last")
        )
        cells += [
            f"k = {k}\ndef h(v): return v * {helper} + k",
            f"%channel src = from_iterable(range({items}))",
            f"%%process p1(v) -> out from src\n{notebook.mark('p1')}\nout = h(v) // 2 + {body}",
            f"%%process p2(out) -> w from p1\n{notebook.mark('p2')}\nw = out * k",
            f"%%process total(ws) -> s from p2.collect()\n{notebook.mark('total')}\ns = sum(ws) * {last}",
            "plan()",
            "%nbcache run",
            "check()",
            f"print(sum((h(v) // 2 + {body}) * k for v in range({items})) * {last} == total.value)",
        ]

    for round_number in range(2):
        executed = notebook.execute(
            ["%load_ext nbcache", f"%nbcache use {notebook.root}/cache", *cells]
        )
        assert [error_of(each) for each in executed if error_of(each)] == []
        judged = [text_of(each) for each in executed if each.source.startswith("print(sum(")]
        assert [each.strip() for each in judged] == ["True"] * 12
        said = [text_of(each) for each in executed if each.source == "check()"]
        if round_number:
            assert all(each.startswith("[] ") for each in said), said
