"""Which line of a notebook performs the run that goes on, and with which notebook and values."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from nbcache.errors import UsageError, command, spoken
from nbcache.model.run_options import RunOptions
from nbcache.notebook.again import injected, notebook_of, run_lines
from nbcache.notebook.choices import choices_of
from nbcache.notebook.front import Front
from nbcache.notebook.settings import HEADLESS_VARIABLE, Again, Headless, Pending
from nbcache.notebook.verbs import parse_line


def book(*sources: str) -> Any:
    cells = [nbformat.v4.new_code_cell(each) for each in sources]
    return nbformat.v4.new_notebook(cells=cells)


def test_lines_that_ask_for_the_same_targets_are_counted() -> None:
    notebook = book("%nbcache run", "r = %nbcache run fit --fresh\n%nbcache run", "%nbcache runs")
    assert run_lines(notebook, ()) == 2
    assert run_lines(notebook, ("fit",)) == 1
    assert run_lines(notebook, ("other",)) == 0


def test_the_first_line_with_all_processes_of_the_run_takes_it_and_no_other_does() -> None:
    pending = Pending(Again("resume", "01A", (), ("a", "b-2"), lines=3))
    assert not pending.takes(["a"], ["a", "b"])
    assert not pending.takes([], ["a"])
    assert pending.takes([], ["a", "b"])
    assert not pending.takes([], ["a", "b"])


def test_the_last_line_takes_it_where_a_process_has_another_name_now() -> None:
    pending = Pending(Again("resume", "01A", ("fit",), ("fit", "load"), lines=2))
    assert not pending.takes(["fit"], ["fit"])
    assert pending.takes(["fit"], ["fit"])


def test_what_the_kernel_is_told_comes_out_as_it_went_in() -> None:
    told = Headless(
        "here", {"stub": True, "from_": ("a",)}, "n.ipynb", {"x": "1"},
        Again("relaunch", "01A", ("fit",), ("fit",), 1),
    )  # fmt: skip
    written = json.dumps({**json.loads(told.to_variable()), "of a later version": 1})
    environment = {HEADLESS_VARIABLE: written}
    found = Headless.from_environment(environment)
    assert found is not None
    assert environment == {}
    assert RunOptions().but(found.choices) == RunOptions(stub=True, from_=("a",))
    assert (found.again, found.parameters) == (told.again, told.parameters)


def test_a_kernel_that_a_shell_started_names_commands_as_that_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(HEADLESS_VARIABLE, Headless(typed_cache="there").to_variable())

    with spoken("%nbcache {}".format):
        Front.for_shell(None)
        assert command("use FOLDER") == "--cache FOLDER"
        assert command("relaunch calm-otter") == "nbcache relaunch calm-otter --cache there"


def test_a_notebook_that_is_gone_is_asked_for(tmp_path: Path) -> None:
    def run(path: str | None) -> Any:
        return SimpleNamespace(name="calm-otter", notebook=path)

    (tmp_path / "here.ipynb").touch()
    assert notebook_of(run("/gone/a.ipynb"), tmp_path, "b.ipynb") == Path("b.ipynb")
    assert notebook_of(run("here.ipynb"), tmp_path, None) == tmp_path / "here.ipynb"
    with pytest.raises(UsageError, match=r"say where it is: --notebook .*/here\.ipynb"):
        notebook_of(run("/gone/here.ipynb"), tmp_path, None)
    with pytest.raises(UsageError, match="say where it is: --notebook FILE"):
        notebook_of(run("/gone/a.ipynb"), tmp_path, None)
    with pytest.raises(UsageError, match="outside of a notebook"):
        notebook_of(run(None), tmp_path, None)


def test_values_go_into_the_cell_of_parameters_or_hold_for_the_run_alone() -> None:
    notebook = book("depth = 1\nname = 'a'")
    notebook.cells[0].metadata["tags"] = ["parameters"]
    assert injected(notebook, {"depth": "2", "other": "3"}, {"name": "b", "other": "4"}) == {
        "depth": "2",
        "name": "b",
    }
    assert injected(notebook, {}, {"nobody": "1"}) == {"nobody": "1"}  # refused where it goes


def test_options_of_a_command_are_choices_and_what_is_not_said_is_left_out() -> None:
    line = "run --from a,b --from c --levels --max-parallel 2 --max-errors none"
    assert choices_of(parse_line(line)) == {
        "from_": ("a", "b", "c"),
        "levels": True,
        "max_parallel": 2,
        "max_errors": None,
    }
    assert choices_of(parse_line("resume --dataflow")) == {"levels": False}
    for wrong in ("resume --levels --dataflow", "run --max-parallel 0", "run --max-errors some"):
        with pytest.raises(UsageError):
            choices_of(parse_line(wrong))


def test_options_survive_their_texts() -> None:
    options = RunOptions(
        fresh=True, from_=("a", "b"), levels=True, max_parallel=2, max_errors=3, stub=True
    )
    assert RunOptions.from_texts(options.texts()) == options
    assert RunOptions.from_texts({**options.texts(), "later": "x"}) == options
    assert RunOptions().texts() == {}
