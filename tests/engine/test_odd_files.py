"""Files as people really have them: pipes, devices, broken links, names that look like options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbcache.engine.record.explanations import why
from nbcache.errors import ChannelError
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook


@pytest.mark.parametrize("where", ["pipe", "folder/pipe"])
def test_a_pipe_as_input_is_refused_and_never_read(notebook: Notebook, where: str) -> None:
    (notebook.folder / "folder").mkdir()
    os.mkfifo(notebook.folder / where)
    notebook.cell(f'%%process work(f: path = "{where.split("/")[0]}") -> n\nn = f.name')
    run = notebook.run()
    assert run.status is RunStatus.FAILED
    assert "process 'work': input 'f'" in run.failures[0].error
    assert f"{where} is neither a file" in run.failures[0].error


def test_a_file_that_is_not_there_is_not_named_where_its_input_looks_secret(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel tokens = of(['hunter2'])")
    notebook.cell("%%process work(token: list[path]) -> n from tokens\nn = 1")
    run = notebook.run()
    assert "no file (not shown)\n" in run.failures[0].error
    notebook.cell("%channel places = of('https://host/x?token=hunter2')")
    notebook.cell("%%process read(f: path) -> n from places\nn = 1")
    run = notebook.run("read")
    assert "no file (not shown); a URL is taken by path(...)" in run.failures[0].error


def test_a_file_inside_of_an_input_is_declared_with_it(notebook: Notebook) -> None:
    for name in ("inside", "beside"):
        (notebook.folder / name).write_text(name)
    notebook.cell('%channel held = of({"a": path("inside"), "b": 1})')
    notebook.cell(
        "%%process work(held) -> n from held\n"
        "n = open(held['a']).read() + open(held['a'].parent / 'beside').read()"
    )
    run = notebook.run()
    assert [note.partition(",")[0] for note in run.notes] == ["work reads file beside"]
    (notebook.folder / "inside").write_text("another")
    assert notebook.run().counts() == {"completed": 1}


def test_a_device_as_input_is_refused_and_never_read(notebook: Notebook) -> None:
    notebook.cell('%%process work(f: path = "/dev/zero") -> n\nn = f.name')
    run = notebook.run()
    assert "/dev/zero is neither a file nor a folder" in run.failures[0].error


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no such file")
def test_a_file_that_cannot_be_read_is_told_with_the_input_that_it_is(notebook: Notebook) -> None:
    notebook.cell('%%process work(f: path = "/proc/self/mem") -> n\nn = 1')
    (failure,) = notebook.run().failures
    assert failure.error.startswith("process 'work': input 'f': cannot read /proc/self/mem: ")


def test_a_task_with_a_file_is_called_alike_while_it_runs_and_afterwards(
    notebook: Notebook,
) -> None:
    (notebook.folder / "my data.txt").write_text("x")
    notebook.cell('%%process work(f: path = "my data.txt") -> n\n1 / 0')

    (failure,) = notebook.run().failures

    assert failure.task == "work[f=my data.txt]"
    assert why(notebook.session.cache, [failure.task]).task == failure.task


def test_a_body_may_read_a_device(notebook: Notebook) -> None:
    notebook.cell('%%process work() -> n\nn = len(open("/dev/zero", "rb").read(3))')
    assert notebook.run()["work"].value == 3
    assert notebook.run().counts() == {"cached": 1}


def test_a_link_to_nothing_says_where_it_leads(notebook: Notebook) -> None:
    (notebook.folder / "data.txt").symlink_to("gone.txt")
    notebook.cell('%%process work(f: path = "data.txt") -> n\nn = f.name')
    run = notebook.run()
    assert "is a link to gone.txt, which is not there" in run.failures[0].error
    with pytest.raises(ChannelError, match=r"data\.txt is a link to gone\.txt, which is not there"):
        notebook.cell("%channel one = value(path('data.txt'))")


@pytest.mark.parametrize("name", [".", ".."])
def test_a_folder_that_holds_the_cache_is_no_input(notebook: Notebook, name: str) -> None:
    notebook.cell(f'%%process work(f: path = "{name}") -> n\nn = f.name')
    run = notebook.run()
    assert "holds the cache" in run.failures[0].error


def test_an_empty_text_is_no_path(notebook: Notebook) -> None:
    notebook.cell('%channel names = of("")')
    notebook.cell("%%process work(f: path) -> n from names\nn = f.name")
    run = notebook.run()
    assert "an empty text" in run.failures[0].error


def test_a_folder_that_an_operator_gives_on_is_the_folder_that_its_task_made(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel names = of('ant', 'bee')")
    notebook.cell(
        "%%process made(name) -> name, whole: path from names --bash\n"
        "mkdir -p whole/inner && echo $name > whole/inner/a.txt && cp -p /bin/true whole/run"
    )
    seen = "%%process seen(name, whole: path) -> files from {}\nfiles = sorted(whole.rglob('*'))"
    notebook.cell(seen.format("made"))
    first = notebook.run()

    notebook.cell("%channel given = made.map(lambda name, whole: dict(name=name, whole=whole))")
    notebook.cell(seen.format("given"))
    again = notebook.run()

    assert again.counts() == {"cached": 4}, again.failures
    assert list(again["seen"]) == list(first["seen"])
    inner = "%channel given = made.map(lambda whole: whole / 'inner')"
    notebook.cells([inner, "%%process listed(f: path) from given\n[e.name for e in f.iterdir()]"])
    assert list(notebook.run("listed")["listed"]) == [["a.txt"]] * 2


def test_a_search_below_the_notebooks_folder_is_no_read_of_the_cache(notebook: Notebook) -> None:
    (notebook.folder / "data.txt").write_text("1")
    here = f"from pathlib import Path\nhere = Path({str(notebook.folder)!r})\n"
    notebook.cell(f"%%process work() -> n\n{here}n = len(list(here.rglob('data.*')))")

    notes = [each for each in notebook.run().notes if "folder" in each]

    assert notes == ["work reads folder ., which it does not declare; it is checked from now on"]
    assert notebook.run().counts() == {"cached": 1}
