"""Behaviour 26: hooks see how a run ended; a required parameter that is missing starts nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbcache.errors import MissingParameterError
from nbcache.model.task import RunStatus
from tests.cli.test_cli import nbcache, write_notebook
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

HOOKS = """
import nbcache
told = []
def of(run):
    return run.name, f"{run.status}", run.elapsed_s, run.error, run.message, run.counts()
@nbcache.on_complete
def tell(run):
    told.append(("complete", *of(run)))
@nbcache.on_error
def warn(run):
    told.append(("error", *of(run)))
"""


def test_hooks_see_status_name_error_and_durations(notebook: Notebook) -> None:
    notebook.cell(HOOKS)
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell("%%process work(v) -> out from src\nout = 1 / (v - limit)")
    told = notebook.names["told"]
    assert isinstance(told, list)

    notebook.cell("limit = 0")
    run = notebook.run()
    assert told == [
        ("complete", run.name, "succeeded", run.elapsed_s, "", "", {"completed": 2}),
    ]
    told.clear()
    notebook.cell("limit = 2")
    run = notebook.run()
    assert [each[0] for each in told] == ["error", "complete"]
    for _, name, status, elapsed, error, message, counts in told:
        assert (name, status) == (run.name, "failed")
        assert 0 < elapsed == run.elapsed_s
        assert error == "work[v=2] ZeroDivisionError: division by zero"
        assert message.startswith(error)
        assert counts == {"completed": 1, "failed": 1}


def test_a_hook_that_fails_is_a_note_and_never_a_failed_run(notebook: Notebook) -> None:
    """The others are called all the same, also one that is a coroutine and one that reads."""
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nout = v + 1")
    notebook.cell(
        "import nbcache\nseen = []\n"
        "@nbcache.on_complete\ndef first(run):\n    raise KeyError('no mail today')\n"
        "@nbcache.on_complete\nasync def second(run):\n    seen.append(run['work'].value)\n"
        "@nbcache.on_complete\ndef third(run):\n    seen.append(work.value)"
    )
    run = notebook.run()
    assert run.status is RunStatus.SUCCEEDED
    assert notebook.names["seen"] == [2, 2]
    (note,) = run.notes
    assert note.startswith("the hook first failed: KeyError: 'no mail today' (line 5: raise Key")
    notebook.cell("del first, second, third")
    assert not notebook.run().notes


def test_a_run_that_a_hook_starts_tells_no_hooks_so_it_ends(notebook: Notebook) -> None:
    """A read in a hook runs what failed, once more; the hook's line says what became of it. It may
    read on a thread of its own, or on one that such a thread started."""
    notebook.cell("%channel src = of(0, 1)")
    notebook.cell("%%process work(v) -> out from src\nout = 1 / v")
    notebook.cell(
        "import nbcache\nseen = []\n"
        "@nbcache.on_complete\ndef reads(run):\n    seen.append(run.name)\n    work.table()"
    )
    run = notebook.run()
    assert notebook.names["seen"] == [run.name]
    (note,) = run.notes
    assert note.startswith("the hook reads failed: RunFailed: work[v=0] ZeroDivisionError")
    assert "(line 6: work.table())" in note
    notebook.cell(
        "import concurrent.futures, threading\n"
        "@nbcache.on_complete\ndef reads(run):\n    seen.append(run.name)\n"
        "    with concurrent.futures.ThreadPoolExecutor(1) as pool:\n"
        "        pool.submit(on_a_thread).result()\n"
        "def on_a_thread():\n    reader = threading.Thread(target=read, daemon=True)\n"
        "    reader.start()\n    reader.join()\n"
        "def read():\n    try:\n        work.table()\n"
        "    except nbcache.errors.RunFailed:\n        seen.append('failed')"
    )
    notebook.names["seen"].clear()
    run = notebook.run()
    assert notebook.names["seen"] == [run.name, "failed"]
    notebook.cell(
        "over = threading.Event()\n"
        "def read_later():\n    over.wait()\n    read()\n"
        "@nbcache.on_complete\ndef reads(run):\n    seen.append(run.name)\n"
        "    global later\n    later = threading.Thread(target=read_later)\n    later.start()"
    )
    notebook.names["seen"].clear()
    run = notebook.run()
    notebook.names["over"].set()
    notebook.names["later"].join(PATIENCE_S)
    assert notebook.names["seen"] == [run.name, "failed"]


def test_what_was_cancelled_is_complete_and_no_error(notebook: Notebook) -> None:
    notebook.cell(HOOKS)
    notebook.cell("%%process work() -> out\nimport time\ntime.sleep(600)\nout = 1")
    run = notebook.session.start()
    run.cancel()
    assert run.wait(PATIENCE_S)
    told = notebook.names["told"]
    assert isinstance(told, list)
    assert [(each[0], each[2]) for each in told] == [("complete", "cancelled")]


def test_26_a_missing_required_parameter_stops_the_run_before_anything_starts(
    notebook: Notebook,
) -> None:
    notebook.cell("import nbcache\nreads = nbcache.required('folder of reads')")
    notebook.cell("limit = nbcache.required()")
    notebook.cell("%channel src = of(1, 2)")
    notebook.cell(f"%%process work(v) -> out from src\n{notebook.mark('v')}\nout = v + limit")
    assert "-p limit=..." in notebook.session.card(notebook.names["work"]).hindrances[0]
    with pytest.raises(MissingParameterError) as caught:
        notebook.run()
    assert "limit, reads (folder of reads)" in str(caught.value)
    assert "-p limit=..." in str(caught.value)
    assert not notebook.trace.read_text()
    assert not list(notebook.session.cache.log.rows(("run",)))
    given = {"reads": "data", "limit": "10"}
    run = notebook.session.start(parameters=given)
    assert run.wait(PATIENCE_S)
    assert list(run["work"]) == [11, 12]
    notebook.cell("limit, reads = 20, 'x'")
    assert list(notebook.run()["work"]) == [21, 22]


def test_a_required_parameter_cannot_be_used_by_mistake(notebook: Notebook) -> None:
    notebook.cell("import nbcache\nreads = nbcache.required('folder of reads')")
    for text in ("f'{reads}/x'", "reads / 'x'", "reads + 1", "bool(reads)", "list(reads)",
                 "reads.upper()", "reads == 1", "open(reads)"):  # fmt: skip
        with pytest.raises(MissingParameterError, match="folder of reads"):
            notebook.cell(text)
    with pytest.raises(MissingParameterError, match="folder of reads"):
        notebook.cell("%channel files = from_path(reads)")
    assert "files" not in notebook.names
    assert repr(notebook.names["reads"]) == "nbcache.required('folder of reads')"


def test_the_shell_says_so_before_it_starts_a_kernel(tmp_path: Path) -> None:
    cells = (
        "%load_ext nbcache\nimport nbcache",
        "depth: int = nbcache.required('of the tree')\nwidth = nbcache.required()",
        "width = 3",
        "%channel src = of(depth)",
        "%%process fit(x) -> score from src\nscore = x * width",
        "print('the score is', fit.value)",
    )
    write_notebook(tmp_path / "fit.ipynb", *cells, parameters=1)
    refused = nbcache(tmp_path, "run", "fit.ipynb", "-o", "out.ipynb")
    assert refused.returncode == 2
    assert "no value is given for depth (of the tree)" in refused.stderr
    assert "width" not in refused.stderr
    assert not (tmp_path / "out.ipynb").exists()
    assert not (tmp_path / ".nbcache").exists()
    given = nbcache(tmp_path, "run", "fit.ipynb", "-p", "depth=4")
    assert given.returncode == 0, given.stderr
    assert "the score is 12" in given.stdout
    runs = json.loads(nbcache(tmp_path, "runs", "--json").stdout)
    assert runs[0]["parameters"] == {"depth": "4"}
