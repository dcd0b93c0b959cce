"""`%%cached` in a real shell: what a cell assigned and showed comes back in a fresh session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from tests.executing import execute
from tests.notebook.shells import Answer, Shell, shell_in

HELPER = "factor = 3\ntable = [1, 2, 3]\ndef scale(x):\n    return x * factor"


SLY = "sly = object()"


@pytest.fixture
def again(tmp_path: Path) -> Callable[..., Answer]:
    """Return a function that runs cells in a fresh session and answers for the last one."""

    def run(*cells: str) -> Answer:
        with shell_in(tmp_path) as shell:
            for cell in cells[:-1]:
                shell.ok(cell)
            answer = shell.run(cells[-1])
            answer.value = {
                name: value for name, value in shell.ip.user_ns.items() if name[:1] != "_"
            }
            return answer

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with shell_in(tmp_path) as opened:
        yield opened


def mark(folder: Path, name: str = "ran") -> str:
    """Return a statement that notes that a cell ran, past what is watched."""
    return f"__import__('os').mkdir({str(folder)!r} + f'/{name}-{{__import__(\"uuid\").uuid4()}}')"


def ran(folder: Path) -> int:
    found = list(folder.glob("ran-*"))
    for path in found:
        path.rmdir()
    return len(found)


def badge(answer: Answer) -> str:
    lines = [str(each.get("text/plain", "")) for each in answer.shown]
    return next((line for line in lines if " · cached " in line), "")


def not_kept(answer: Answer) -> str:
    lines = [str(each.get("text/plain", "")) for each in answer.shown]
    return next((line for line in lines if line.startswith("not kept: ")), "")


def test_names_and_displays_come_back_in_order_in_a_fresh_session(
    again: Callable[..., Answer], tmp_path: Path
) -> None:
    cell = (
        "%%cached\nimport math, sys\nfrom IPython.display import HTML, display\n"
        f"{mark(tmp_path)}\nprint('one')\ndisplay(HTML('<b>two</b>'))\n"
        "print('three', file=sys.stderr)\ntotal = scale(sum(table))\n"
        "def area(r):\n    return math.pi * r * r * factor\n"
        "class Point:\n    def __init__(self, x): self.x = x\np = Point(total)\ntotal"
    )
    first = again(HELPER, cell)
    second = again(HELPER, cell)

    assert badge(first) == ""
    assert ran(tmp_path) == 1, badge(second)
    assert first.out == "one\nOut[2]: 18\nthree\n"
    assert second.out == "one\nthree\n"
    assert [each.get("text/html") for each in second.shown[:1]] == ["<b>two</b>"]
    assert second.shown[1]["text/plain"] == "18"
    names = second.value
    assert names["total"] == 18
    assert type(names["p"]) is names["Point"]
    assert names["area"](1) == pytest.approx(3 * 3.14159265)
    assert names["math"] is __import__("math")
    assert badge(second).startswith("total, p · cached today ")
    assert " · saved " in badge(second)


def test_a_function_of_a_kept_cell_comes_back_as_the_one_that_it_was(
    again: Callable[..., Answer], tmp_path: Path
) -> None:
    """Python compiles what it calls in another way where the import stands in the same piece."""
    tools = "%%cached\nimport math\ndef root(x):\n    return math.sqrt(x)\nn = 16"
    cell = f"%%cached\n{mark(tmp_path)}\ny = root(n)"
    again(tools, cell)

    assert badge(again(tools, cell))
    assert ran(tmp_path) == 1


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        (HELPER, HELPER.replace("factor = 3", "factor = 4"), 2),
        (HELPER, HELPER.replace("x * factor", "x + factor"), 2),
        (HELPER, HELPER.replace("[1, 2, 3]", "[1, 2, 4]"), 2),
        (HELPER, HELPER + "  # a remark\nunrelated = 5", 1),
    ],
)
def test_what_the_cell_reaches_counts_and_nothing_else(
    again: Callable[..., Answer], tmp_path: Path, before: str, after: str, runs: int
) -> None:
    cell = f"%%cached\n{mark(tmp_path)}\ntotal = scale(sum(table))"
    again(before, cell)
    again(after, cell)

    assert ran(tmp_path) == runs


def test_a_name_that_a_cell_leaves_as_it_was_is_no_result_of_it(
    again: Callable[..., Answer], tmp_path: Path
) -> None:
    cell = f"%%cached\n{mark(tmp_path)}\nfor last in tuple():\n    pass\ntotal = 1"
    assert "last" not in again(cell).value
    assert again("last = 5", cell).value["last"] == 5, "where there was none, none was left"

    assert again("last = 6", cell).value["last"] == 6
    assert ran(tmp_path) == 3
    assert again("last = 6", cell).value["last"] == 6
    assert "last" not in again(cell).value
    assert ran(tmp_path) == 0, "with this it has run"
    loop = f"%%cached\n{mark(tmp_path)}\nfor last in (7, 8):\n    pass"
    again(loop)
    assert again("last = 6", loop).value["last"] == 8
    assert ran(tmp_path) == 1, "what it assigned does not go by what was there"
    gone = f"%%cached\n{mark(tmp_path)}\nlast = 1\ndel last\nmore = 1"
    for value in (6, 7):
        assert "last" not in again(f"last = {value}", gone).value
    assert ran(tmp_path) == 1


def test_a_file_that_the_cell_reads_counts(again: Callable[..., Answer], tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1")
    cell = f"%%cached\n{mark(tmp_path)}\nname = 'da' + 'ta.csv'\nx = open(name).read()"
    again(cell)
    assert again(cell).value["x"] == "1"
    data.write_text("2")

    assert again(cell).value["x"] == "2"
    assert ran(tmp_path) == 2
    data.write_text("1")

    assert again(cell).value["x"] == "1"
    assert ran(tmp_path) == 0, "what it gave with this content is still kept"


def test_a_local_module_counts_and_a_stale_one_is_not_believed(
    again: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "nbcache_test_norms.py"
    module.write_text("def norm(x):\n    return x + 1\n")
    unload = "import sys\nsys.modules.pop('nbcache_test_norms', None)"
    cell = f"%%cached\nimport nbcache_test_norms as m\n{mark(tmp_path)}\nx = m.norm(1)"
    again(unload, cell)
    assert badge(again(unload, cell))

    module.write_text("def norm(x):\n    return x + 20\n")
    stale = again("import nbcache_test_norms", cell)
    assert stale.value["x"] == 2  # as the loaded module says
    assert "module nbcache_test_norms changed after it was imported" in not_kept(stale)

    reload = "import importlib, nbcache_test_norms as m\nimportlib.reload(m)"
    assert again(reload, "pass", cell).value["x"] == 21
    assert badge(again(unload, cell))
    assert ran(tmp_path) == 3


def test_a_local_module_that_only_a_run_names_counts_and_a_stale_one_is_not_believed(
    again: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "nbcache_test_named.py"
    begin = "import sys\nsys.modules.pop('nbcache_test_named', None)\ntail = 'named'"
    found = "importlib.import_module('nbcache_test_' + tail)"
    cell = f"%%cached\nimport importlib\n{mark(tmp_path)}\nx = {found}.K"
    for value in (1, 22):
        module.write_text(f"K = {value}\n")
        assert again(begin, cell).value["x"] == value
        assert badge(again(begin, cell))
    loaded = f"{begin}\nimport pickle, nbcache_test_named"
    for number, taken in enumerate(
        (
            "pickle.loads(b'cnbcache_test_named\\nK\\n.')",
            "__import__('nbcache_test_' + tail).K",
        )
    ):
        again_loaded = f"%%cached x\n{mark(tmp_path)}\nx = {taken}"
        for value in (3, 44):
            module.write_text(f"K = {value}{number}\n")
            assert again(loaded, again_loaded).value["x"] == int(f"{value}{number}"), taken
            assert badge(again(loaded, again_loaded)), taken
    assert ran(tmp_path) == 6, "two by each"
    module.write_text("K = 22\n")

    edit = f"import nbcache_test_named\nopen({str(module)!r}, 'w').write('K = 333\\n')"
    stale = again(begin, edit, cell)
    assert stale.value["x"] == 22  # as the loaded module says
    assert "module nbcache_test_named changed after it was imported" in not_kept(stale)


def test_a_cell_that_reads_what_it_assigns_starts_from_what_was_there(shell: Shell) -> None:
    shell.ok("x = 1")
    shell.ok("%%cached\nx = x + 1")
    shell.ok("%%cached\nx = x + 1")
    assert shell.ip.user_ns["x"] == 3

    shell.ok("x = 1")
    assert badge(shell.ok("%%cached\nx = x + 1"))
    assert shell.ip.user_ns["x"] == 2


@pytest.mark.parametrize(
    ("before", "cell", "why"),
    [
        ("t = [1]", "t.append(2)\nx = 1", "it changes t in place"),
        ("def f():\n    global n\n    n = 2\nn = 1", "x = f()", "f assigns the global n"),
        ("pass", "globals()['sly'] = 1\nx = 1", "it calls globals()"),
        (SLY, "get_ipython().push({'sly': object()})\nx = 1", "it changes sly"),
        ("gone = 1", "del gone\nx = 1", "it deletes gone, which it does not assign"),
        ("gone = 1", "get_ipython().drop_by_id({'gone': 1})\nx = 1", "it deletes gone"),
        ("pass", "x = (i for i in range(3))", "x: a generator cannot be kept"),
        ("pass", "x = open('f.txt', 'w')", "x: a TextIOWrapper cannot be kept"),
        ("t = [1]", "x = t", "x is t itself"),
        (
            "import threading\nlock = threading.Lock()",
            "with lock: x = 1",
            "'lock' is a _thread lock: no canonical form (a lock); leave it out: --ignore lock",
        ),
        ("pass", "x = 1\n!true", "line 3: what a magic or a command reads"),
        (
            "open('g.txt', 'w').write('a')",
            "x = open('g.txt').read()\nopen('g.txt', 'w').write('b')",
            "changed while it ran",
        ),
    ],
)
def test_what_would_not_come_back_is_not_kept_and_the_cell_runs_each_time(
    shell: Shell, before: str, cell: str, why: str
) -> None:
    for _ in range(2):
        shell.ok(before)
        answer = shell.ok(f"%%cached\n{cell}")
        assert why in not_kept(answer), answer.text
        assert badge(answer) == ""
        assert "x" in shell.ip.user_ns


def test_results_of_tasks_are_to_be_read_in_a_cell_above(shell: Shell) -> None:
    shell.ok("%%process p()\n1")
    shell.ok("r = %nbcache run")
    shell.ok("results = r['p']")
    for name, kind in (("p", "Process"), ("r", "Run"), ("results", "Results")):
        said = not_kept(shell.ok(f"%%cached\nx = str({name})"))
        assert f"'{name}' is a {kind}: no canonical form (it stands for results of tasks)" in said
        assert said.endswith("; read them in a cell above")

    shell.ok("%%process q()\nstr(r)")
    error = str(shell.run("%nbcache run q").error)
    assert error.endswith("\n  Take them as inputs, `from ...`; or read them in a cell above")
    assert "resource" not in error


def test_an_error_is_that_of_any_cell_and_keeps_nothing(shell: Shell, tmp_path: Path) -> None:
    cell = f"%%cached\n{mark(tmp_path)}\nx = 1\nx / 0"

    for _ in range(2):
        answer = shell.run(cell)
        assert isinstance(answer.error, ZeroDivisionError)
        assert "line 4" in answer.out
        assert "%%cached" in answer.out or "__nbcache" not in answer.out
    assert ran(tmp_path) == 2
    assert shell.ip.user_ns["x"] == 1


def test_a_wrong_header_runs_nothing(shell: Shell, tmp_path: Path) -> None:
    answer = shell.run(f"%%cached nope\n{mark(tmp_path)}\nx = 1")

    assert "the cell never assigns nope" in str(answer.error)
    assert ran(tmp_path) == 0


def test_temporary_names_are_gone_after_a_hit(shell: Shell) -> None:
    cell = "%%cached total\nsteps = 3\ntotal = sum(range(steps))"
    shell.ok(cell)
    shell.ok("steps = 'of another cell'")

    assert badge(shell.ok(cell)).startswith("total · ")

    assert "steps" not in shell.ip.user_ns


def test_what_a_cell_defines_and_deletes_is_gone_after_a_hit(shell: Shell) -> None:
    cell = (
        "%%cached\nimport os\ndef f(): return 1\na = f()\ndel os, f\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    b = 2\n    del e"
    )
    shell.ok(cell)

    assert badge(shell.ok(cell)).startswith("a, b · ")

    assert {"os", "f", "e"}.isdisjoint(shell.ip.user_ns)


def test_annotations_stay_texts_where_the_notebook_wants_them_so(shell: Shell) -> None:
    cell = "%%cached\nfrom __future__ import annotations\ndef f(x: Bee): return x\na = 1"
    shell.ok(cell)

    assert badge(shell.ok(cell)).startswith("a · ")

    assert shell.ip.user_ns["f"].__annotations__ == {"x": "Bee"}


def test_one_object_under_two_names_comes_back_as_one(shell: Shell) -> None:
    cell = "%%cached\na = b = [1]"
    shell.ok(cell)
    shell.ok("del a, b")
    shell.ok(cell)

    assert shell.ip.user_ns["a"] is shell.ip.user_ns["b"]


def test_awaiting_at_the_top_works_and_other_magics_may_stand_above(shell: Shell) -> None:
    cell = "%%cached\nimport asyncio\nawait asyncio.sleep(0)\nx = 5\nx"
    shell.ok(cell)
    answer = shell.ok(cell)
    assert answer.shown[0]["text/plain"] == "5"

    shell.ok("%%time\n%%cached\ny = 6")
    assert badge(shell.ok("%%time\n%%cached\ny = 6"))


def test_a_value_that_is_gone_or_damaged_is_made_again(shell: Shell, tmp_path: Path) -> None:
    cell = f"%%cached\n{mark(tmp_path)}\nx = b'x' * 100_000"
    shell.ok(cell)
    (blob,) = [path for path in (tmp_path / ".nbcache/blobs").rglob("*") if path.is_file()]
    blob.unlink()
    shell.ok(cell)
    assert ran(tmp_path) == 2
    blob.chmod(0o644)
    blob.write_bytes(b"y" * 100_000)
    shell.ok(cell)
    assert ran(tmp_path) == 1
    assert badge(shell.ok(cell))


def test_the_history_tells_of_cells(shell: Shell) -> None:
    shell.ok("depth = 1")
    shell.ok("%%cached\nbest = depth * 2")
    shell.ok("%%cached\nbest = depth * 2")
    shell.ok("depth = 3")
    shell.ok("%%cached\nbest = depth * 2")

    assert "best ran: depth 1 → 3" in shell.ok("%nbcache why best").text
    log = shell.ok("%nbcache log -f process,status,attempt").text
    assert "best" in log
    assert "COMPLETED" in log
    frame = shell.ok("%nbsql SELECT status, counts FROM runs").value
    assert list(frame["status"]) == ["SUCCEEDED"]
    assert dict(frame["counts"][0]) == {"completed": 2, "cached": 1}
    shell.ok("%%cached\nother = 1")  # each cell is a session of the one run
    assert len(shell.ok("%nbsql SELECT * FROM tasks").value) == 2
    assert "best" in shell.ok("%nbcache show").text


def test_the_last_run_is_the_pipelines_and_cells_are_compared_with_cells(
    again: Callable[..., Answer],
) -> None:
    pipeline = ["%channel src = of(1)", "%%process big(v) -> n from src\nn = v", "%nbcache run"]
    again(*pipeline, "%%cached\nscore = 3 * 2")
    told = again(
        "%%cached\nscore = 4 * 2", "name = %nbsql SELECT name FROM runs ORDER BY start DESC",
        "ip = get_ipython()", "ip.run_line_magic('nbcache', 'diff ' + name['name'][0])",
    )  # fmt: skip
    assert "the code of score changed" in told.text
    assert "1 came out different" in told.text

    restored = again("%%cached\nother = 1", "%nbcache restore")

    assert list(restored.value["big"]) == [1]


def test_figures_are_shown_again_in_a_fresh_jupyter_kernel(tmp_path: Path) -> None:
    cells = [
        "%load_ext nbcache\n%matplotlib inline\nimport pandas as pd, asyncio",
        "%%cached\nimport matplotlib.pyplot as plt\nawait asyncio.sleep(0)\n"
        "table = pd.DataFrame({'a': [1.0, 2.0]})\n"
        "fig, ax = plt.subplots()\nax.plot(table.a)\ntable",
        "table['b'] = 2\nprint(table.shape, 'fig' in globals())",
    ]
    seen = []
    for _ in range(2):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        execute(notebook, tmp_path)
        seen.append([each.outputs for each in notebook.cells[1:]])

    (made, first), (back, second) = seen
    assert [sorted(each.data) for each in made] == [
        ["text/html", "text/plain"], ["image/png", "text/plain"],
    ]  # fmt: skip
    assert [each.data for each in back[:2]] == [each.data for each in made]
    assert "shown and not kept: fig, ax" in back[2].data["text/plain"]
    assert (first[0].text, second[0].text) == ("(2, 2) True\n", "(2, 2) False\n")
