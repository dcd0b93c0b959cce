"""Stub runs: other bodies, results of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from nbcache.engine.record import history
from nbcache.engine.running.reasons import FIRST
from nbcache.engine.session import Session, set_current_session
from nbcache.errors import DeclarationError
from nbcache.model.run_options import RunOptions
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S

Kernels = Callable[[], Notebook]


def pipeline(notebook: Notebook) -> Notebook:
    """A script and a Python process with stubs; one between them without."""
    notebook.cells(
        [
            "%channel src = of('a', 'b')",
            '%%process index(name) -> made: path = "*.txt" from src --bash\n'
            f'echo "real $name" >> {notebook.trace}\necho "real $name" > "$name.txt"\n'
            '#| stub:\ntouch "$name.txt"',
            f"%%process size(name) -> n from src\n{notebook.mark(repr('size'))}\nn = len(name)",
            "%%process read(made) from index\n"
            f"{notebook.mark(repr('read'))}\ntext = made.read_text()\ntext.upper()\n"
            "#| stub:\nmade.name",
        ]
    )
    return notebook


def test_20_a_stub_run_and_a_real_run_share_nothing_but_what_has_no_stub(
    kernels: Kernels,
) -> None:
    stubbed = pipeline(kernels()).run(stub=True)
    assert list(stubbed["read"]) == ["a.txt", "b.txt"]

    notebook = pipeline(kernels())
    real = notebook.run()
    assert notebook.ran() == ["a", "b", "read", "read", "real", "real"]
    assert list(real["read"]) == ["REAL A\n", "REAL B\n"]
    assert {task.outcome.value for task in real["size"].tasks} == {"cached"}

    again = pipeline(kernels()).run(stub=True)
    assert again.counts() == {"cached": 6}
    assert list(again["read"]) == ["a.txt", "b.txt"]


def test_a_stub_with_the_text_of_the_body_is_a_stub_all_the_same(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nout = v\n#| stub:\nout = v")
    assert notebook.run(stub=True).counts() == {"completed": 1}
    real = notebook.run()
    assert real.counts() == {"completed": 1}
    assert real.reasons == {
        "work": FIRST
    }  # of the body: the stub before was no other version of it
    notebook.cell("%%process work(v) -> out from src\nout = v\n#| stub:\nout = -v")
    assert "the code of work changed" in notebook.run(stub=True).reasons["work"]


def test_an_edit_of_the_stub_runs_nothing_in_a_real_run(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nout = v\n#| stub:\nout = 0")
    notebook.run()
    notebook.cell("%%process work(v) -> out from src\nout = v\n#| stub:\nout = -1")
    assert notebook.run().counts() == {"cached": 1}
    assert notebook.run(stub=True)["work"].value == -1


def test_a_resume_of_a_stub_run_is_a_stub_run(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nout = v\n#| stub:\nout = 1 / 0")
    failed = notebook.run(stub=True)
    assert failed.status is RunStatus.FAILED
    assert "line 4" in failed.failures[0].where
    notebook.cell("%%process work(v) -> out from src\nout = v\n#| stub:\nout = 'stub'")

    run = notebook.session.resume()
    assert run.wait(PATIENCE_S)

    assert run["work"].value == "stub"
    assert history.find_run(notebook.session.cache, run.id).options == {"stub": "true"}


def test_a_stub_run_leaves_published_and_stored_results_alone(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        '%%process work(v) -> made: path = "r.txt" from src --bash --store kept --publish shown\n'
        "echo real > r.txt\n#| stub:\necho stub > r.txt"
    )
    notebook.run(stub=True)
    assert not (notebook.folder / "kept").exists()
    assert not (notebook.folder / "shown").exists()
    assert notebook.run()["work"].value.read_text() == "real\n"
    assert (notebook.folder / "shown" / "r.txt").read_text() == "real\n"


@pytest.mark.parametrize(
    ("below", "message"),
    [
        ("#| stub: out = 1", "the stub stands below this line"),
        ("#| stub:\n# nothing", "there is no stub below this line"),
        ("#| stub:\nout = 1\n#| stub:\nout = 2", "a process has one stub"),
        ("#| stub:\nother = 1", "the stub of 'work': output \"out\" is never set"),
        ("#| stub:\nreturn 1", "line 4: the stub of 'work': .*return"),
    ],
)
def test_a_wrong_stub_is_an_error_of_its_cell(notebook: Notebook, below: str, message: str) -> None:
    notebook.cell("%channel src = of(1)")
    with pytest.raises(DeclarationError, match=message):
        notebook.cell(f"%%process work(v) -> out from src\nout = v\n{below}")
    assert "work" not in notebook.names


def test_a_stub_without_a_body_is_no_process(notebook: Notebook) -> None:
    with pytest.raises(DeclarationError, match='process "work" has no body'):
        notebook.cell("%%process work(v) -> out\n#| stub:\nout = v")


def test_where_runs_are_stub_runs_so_are_reads(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process work(v) -> out from src\nout = v\n#| stub:\nout = 'stub'")
    notebook.session.manner = RunOptions(stub=True)
    assert notebook.names["work"].value == "stub"
    assert notebook.run().counts() == {"cached": 1}


TWIN = """
from pathlib import Path
from nbcache import process
kept = 7

def quick(v):
    return kept, v

def wrong(w):
    return w

def broken(v):
    return 1 / 0, v

@process(from_="src", outputs="made, size", stub=quick)
def work(v):
    if v:
        return v * 100, 1
    return 0, 0
"""


@contextlib.contextmanager
def current(session: Session) -> Iterator[None]:
    set_current_session(session)
    try:
        yield
    finally:
        set_current_session(None)


def twin(notebook: Notebook) -> Notebook:
    notebook.cell("%channel src = of(1, 2)")
    with current(notebook.session):
        notebook.cell(TWIN)
    return notebook


def test_a_function_is_the_stub_of_the_twin_with_what_it_captures(notebook: Notebook) -> None:
    twin(notebook)
    assert list(notebook.run(stub=True)["work"]) == [(7, 1), (7, 2)]
    assert list(notebook.run()["work"]) == [(100, 1), (200, 1)]
    notebook.cell("kept = 8")
    assert notebook.run().counts() == {"cached": 2}
    assert list(notebook.run(stub=True)["work"]) == [(8, 1), (8, 2)]


def test_a_stub_of_the_twin_that_fails_shows_its_own_line(notebook: Notebook) -> None:
    twin(notebook)
    with current(notebook.session):
        notebook.cell(TWIN.replace("stub=quick", "stub=broken"))
    (first, _) = notebook.run(stub=True).failures
    assert "ZeroDivisionError" in first.error
    assert "1 / 0" in first.where


@pytest.mark.parametrize(
    ("stub", "said"), [("wrong", "takes w, which is none of its inputs"), ("lambda v: v", "def")]
)
def test_a_function_that_can_be_no_stub_is_refused(
    notebook: Notebook, stub: str, said: str
) -> None:
    with current(notebook.session), pytest.raises(DeclarationError, match=said):
        notebook.cell(TWIN.replace("stub=quick", f"stub={stub}"))


def test_the_card_says_that_there_is_a_stub_and_which_scripts(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        "%%process work(v) -> stdout from src --bash\n#| if: v > 1\necho 1\n#| else:\necho 2\n"
        "#| stub:\necho 3"
    )
    card = notebook.session.card(notebook.names["work"])
    assert card.notes == ("2 scripts: v > 1, else", "has a stub: %nbcache run --stub")
