"""What `nbcache run NOTEBOOK` says of a cell that failed."""

from __future__ import annotations

from nbformat.v4 import new_code_cell, new_output

from nbcache.notebook.headless import error_of


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


def test_a_cell_that_says_nothing_has_failed_all_the_same() -> None:
    assert error_of(new_code_cell(outputs=[])) == "the cell failed"
