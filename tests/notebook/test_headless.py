"""What `nbcache run NOTEBOOK` says of a cell that failed, and at its end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output

from nbcache.cli import USAGE, main
from nbcache.model.view import RunProgress
from nbcache.notebook.again import check_begun_from
from nbcache.notebook.headless import Execution, error_of, write_notebook
from nbcache.notebook.own_kernel import own_kernel
from nbcache.notebook.progress import render_progress
from nbcache.notebook.render import box
from nbcache.notebook.report import final_words, last_output
from tests.cli.test_cli import nbcache
from tests.waiting import PATIENCE_S, wait_until


def test_a_failed_cell_is_told_by_its_traceback() -> None:
    printed = new_output("stream", name="stderr", text="a warning\n")
    raised = new_output("error", ename="ValueError", evalue="no", traceback=["line 1", "no"])

    assert error_of(new_code_cell(outputs=[printed, raised])) == "line 1\nno"


def test_a_usage_error_that_ipython_only_prints_is_told_too() -> None:
    printed = [
        new_output("stream", name="stdout", text="before\n"),
        new_output("stream", name="stderr", text="UsageError: Line magic `%x` not found.\n"),
    ]

    assert error_of(new_code_cell(outputs=printed)) == "UsageError: Line magic `%x` not found."
    ours = "UsageError: Cell magic `%%process` not found.\n"
    printed = [new_output("stream", name="stderr", text=ours)]
    assert "%load_ext nbcache" in error_of(new_code_cell(outputs=printed))


def test_a_cell_that_says_nothing_has_failed_all_the_same() -> None:
    assert error_of(new_code_cell(outputs=[])) == "the cell failed"


def test_what_the_cells_below_the_last_run_showed_ends_a_headless_run() -> None:
    def cell(text: str, html: str = "", kind: str = "display_data") -> nbformat.NotebookNode:
        data = {"text/plain": text, **({"text/html": html} if html else {})}
        output = nbformat.v4.new_output(kind, data=data)
        return nbformat.v4.new_code_cell("", outputs=[output])

    def last(*cells: nbformat.NotebookNode) -> list[str]:
        return last_output(nbformat.v4.new_notebook(cells=list(cells)), {"fit[0] | hello"}).split()

    ended = RunProgress(
        run="r",
        name="neat-dove",
        status="succeeded",
        elapsed_s=1,
        left_s=None,
        saved_s=0,
        places=(),
    )
    run, looked_at = (
        cell("2 ran", render_progress(ended).html, kind)
        for kind in ("display_data", "execute_result")
    )
    card = cell("f(n)", box(""))
    assert last(cell("data"), run, cell("best"), cell("sql")) == ["best", "sql"]
    shown = [cell("best"), card, cell("map"), looked_at, cell("sql")]
    assert last(run, *shown) == ["best", "map", "sql"]
    assert last(cell("early"), cell("data"), cell("fit[0] | hello"), run) == ["data"]
    assert last(*[cell(str(number)) for number in range(5)]) == ["2", "3", "4"]


@pytest.mark.parametrize(("source", "said"), [("1", True), ("# why\n%%cached x\nx = 1", False)])
def test_a_notebook_without_a_run_says_so_unless_it_has_cached_cells(
    source: str, said: bool
) -> None:
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_markdown_cell("text")]

    words = final_words(Execution(nbformat.v4.new_notebook(cells=cells)))

    assert words == ("no nbcache run took place in this notebook\n" if said else "")


@pytest.mark.parametrize(
    ("output", "said"),
    [("missing/out.ipynb", "there is no folder"), (".", "it is a folder")],
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, said: str
) -> None:
    assert main(["run", str(tmp_path / "a.ipynb"), "-o", str(tmp_path / output)]) == USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_misspelt_process_to_begin_from_is_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    cells = ["import mine", "# why\n%%process fit() -> y\ny = 1", "%nbcache run"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    nbformat.write(book, tmp_path / "a.ipynb")

    assert main([verb, str(tmp_path / "a.ipynb"), "--from", "fit,fitt"]) == USAGE
    said = capsys.readouterr().err
    assert "--from fitt: the notebook declares no such process" in said
    assert 'did you mean "fit"?' in said
    check_begun_from(book, ["fit", "fit-2", "mine", "of_a_module", "fitt"], ["fitt"])


def test_an_executed_notebook_replaces_the_one_there_as_a_whole(tmp_path: Path) -> None:
    kept = tmp_path / "kept.ipynb"
    kept.write_text("before")
    kept.chmod(0o640)
    (tmp_path / "link.ipynb").symlink_to(kept)

    write_notebook("after", tmp_path / "link.ipynb")

    assert kept.read_text() == "after\n"
    assert kept.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["kept.ipynb", "link.ipynb"]


def test_an_executed_notebook_goes_down_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader:
        write_notebook("{}", Path(f"/dev/fd/{writing}"))
        os.close(writing)
        assert reader.read() == "{}\n"


def test_a_file_that_nothing_may_replace_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_mounted(old: object, new: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "replace", is_mounted)
    kept = tmp_path / "kept.ipynb"
    kept.write_text("before, and longer")

    write_notebook("after", kept)

    assert kept.read_text() == "after\n"
    assert list(tmp_path.iterdir()) == [kept]


def test_a_kernel_that_dies_while_it_starts_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "dies.py").write_text("import os\nos._exit(1)\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    nbformat.write(nbformat.v4.new_notebook(cells=[new_code_cell("1")]), tmp_path / "a.ipynb")

    ended = nbcache(tmp_path, "run", "a.ipynb")

    assert ended.returncode == USAGE
    (line,) = ended.stderr.splitlines()
    assert "cannot start a kernel" in line


def test_a_kernel_that_cannot_be_started_is_said_and_the_old_output_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=[new_code_cell("1")]), tmp_path / "a.ipynb")
    output = tmp_path / "out.ipynb"
    output.write_text("before")
    monkeypatch.setattr(sys, "executable", str(output))  # which nobody may execute

    assert main(["run", str(tmp_path / "a.ipynb"), "-o", str(output)]) == USAGE

    assert "cannot start a kernel" in capsys.readouterr().err
    assert output.read_text() == "before"


ENDLESS = """
import pathlib, time
for name in ("begun", "interrupted"):
    try:
        pathlib.Path(name).touch()
        time.sleep(3600)
    except KeyboardInterrupt:
        pass
"""


def interrupt(folder: Path, at: tuple[str, ...], number: signal.Signals) -> tuple[int, str]:
    """Execute the notebook of a folder; send a signal when each of these files is there."""
    (folder / "temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "nbcache", "run", "a.ipynb"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for name in at:
            wait_until((folder / name).exists, name)
            process.send_signal(number)
        said = process.communicate(timeout=PATIENCE_S)[1]
    finally:
        process.kill()
    assert list((folder / "temporary").iterdir()) == []
    return process.returncode, said


def test_an_interrupt_while_the_kernel_starts_ends_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "waits.py").write_text(ENDLESS)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    nbformat.write(nbformat.v4.new_notebook(cells=[new_code_cell("1")]), tmp_path / "a.ipynb")

    assert interrupt(tmp_path, ("begun",), signal.SIGTERM) == (130, "interrupted\n")


def test_a_second_interrupt_kills_a_kernel_that_the_first_did_not_end(tmp_path: Path) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=[new_code_cell(ENDLESS)]), tmp_path / "a.ipynb")

    code, said = interrupt(tmp_path, ("begun", "interrupted"), signal.SIGINT)

    assert (code, said) == (130, "\ncell [1] failed:\nthe kernel died\n")


def test_the_folder_of_a_run_that_was_killed_goes_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = """if True:
        from nbcache.notebook.own_kernel import own_kernel
        with own_kernel():
            print("there", flush=True)
            input()
        """
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with (
        own_kernel(),
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"there\n"
        living = set(tmp_path.iterdir())
        other.kill()
        other.wait(PATIENCE_S)
        assert len(living) == 2

        with own_kernel():
            left = set(tmp_path.iterdir())

    assert len(living & left) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_its_owners_from_the_beginning_and_one_never_marked_goes_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, young = tmp_path / "nbcache-kernel-old", tmp_path / "nbcache-kernel-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    lock, others = fcntl.flock, contextlib.ExitStack()

    def another_begins_before(file: Any, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        others.enter_context(own_kernel())
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", another_begins_before)

    with own_kernel() as kernel, others:
        folder = Path(kernel.connection_file).parent
        with own_kernel():
            assert (folder / "in-use").exists()
        assert not old.exists()
        assert young.exists()
