"""Which cells a plan of a notebook does without, and that other errors are errors."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_output

from nbcache.notebook.planning import Planning, bound_names


def failed(source: str, error: str, text: str = "") -> object:
    return new_code_cell(source, outputs=[new_output("error", ename=error, evalue=text)])


def test_what_needs_a_missing_result_is_left_out_and_so_is_what_needs_that_in_turn() -> None:
    planning = Planning("plan")

    assert planning.leaves_out(3, failed("run = %nbcache run", "NotRunError"))
    assert planning.leaves_out(4, failed("# best\nrows = fit.table()", "NotRunError"))
    undefined = "name 'rows' is not defined"
    assert planning.leaves_out(5, failed("%channel best = of(rows)", "UnknownNameError", undefined))
    assert planning.leaves_out(6, failed("show(best)", "NameError", "name 'best' is not defined"))

    said = planning.words().split("\n")
    assert said[0] == "plan"
    assert said[2:] == [
        "  cell [4] rows = fit.table()",
        "  cell [5] %channel best = of(rows)",
        "  cell [6] show(best)",
    ]


def test_a_mistake_below_what_was_left_out_is_one_all_the_same() -> None:
    planning = Planning()
    assert planning.leaves_out(3, failed("rows = fit.table()", "NotRunError"))

    assert not planning.leaves_out(4, failed("import nothing", "ModuleNotFoundError", "'rows'"))
    assert not planning.leaves_out(5, failed("rosw", "NameError", "name 'rosw' is not defined"))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("%load_ext nbcache\nimport a.b, c as d\nfrom e import f", "a d f"),
        ("def g():\n    x = 1\nclass H: pass\nk, (m, n) = 1, (2, 3)", "H g k m n x"),
        ("run = %nbcache run\ntable = fit.table()", "run table"),
        ("%%process fit(x) -> y from c\ny = x", "fit y"),
        ("%%nbsql counts <<\nSELECT 1", "counts"),
        ("%channel grid = of(1)", "grid"),
    ],
)
def test_the_names_that_a_cell_would_bind_are_known_by_its_text(source: str, names: str) -> None:
    assert sorted(bound_names(source)) == names.split()
