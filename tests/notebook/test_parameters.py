from __future__ import annotations

import math

import nbformat
import pytest

from nbcache.engine.declared.parameters import parameter_value
from nbcache.errors import UsageError
from nbcache.notebook.headless import needs_a_run
from nbcache.notebook.parameters import assigned_names, inject
from nbcache.notebook.verbs import parse_argv, parse_line


def notebook(*sources: str, tagged: int | None = None) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    if tagged is not None:
        cells[tagged].metadata["tags"] = ["parameters"]
    return nbformat.v4.new_notebook(cells=cells)


def test_given_values_are_assigned_right_below_the_defaults() -> None:
    book = notebook("%load_ext nbcache", "depth = 2\nname: str = 'a'", "use(depth)", tagged=1)

    inject(book, {"depth": "8", "name": "gut sample"})

    assert book.cells[2].source == "# Parameters\ndepth = 8\nname = 'gut sample'"
    assert book.cells[2].metadata["tags"] == ["injected-parameters"]
    assert len(book.cells) == 4


def test_injecting_again_replaces_the_earlier_cell() -> None:
    book = notebook("depth = 2", tagged=0)

    inject(book, {"depth": "3"})
    inject(book, {"depth": "4"})

    assert [cell.source for cell in book.cells] == ["depth = 2", "# Parameters\ndepth = 4"]


def test_an_unknown_parameter_lists_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r'did you mean "depth".*depth, trees'):
        inject(notebook("depth, trees = 1, 2", tagged=0), {"dept": "3"})


def test_without_a_tagged_cell_the_error_says_what_to_tag() -> None:
    with pytest.raises(UsageError, match="no cell tagged `parameters`"):
        inject(notebook("depth = 1"), {"depth": "3"})


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.1", 0.1), ("[1, 2]", [1, 2]), ("None", None), ("abc", "abc"), ("true", True),
     ("-inf", -math.inf), ("nan", math.nan), ("1e999", math.inf), ("'nan'", "nan")],
)  # fmt: skip
def test_a_value_is_a_python_literal_or_a_text(text: str, value: object) -> None:
    book, namespace = notebook("f = 1", tagged=0), dict[str, object]()

    inject(book, {"f": text})

    exec(book.cells[1].source, namespace)
    assert repr(parameter_value(text)) == repr(namespace["f"]) == repr(value)


def test_a_value_that_does_not_end_is_no_text() -> None:
    for text in ("[1,", "[a,", "{1:", "(1, 2", '["a'):
        with pytest.raises(UsageError, match="does not end") as caught:
            parse_argv(["run", "n.ipynb", "-p", f"items={text}"]).parameters()
        way_out = str(caught.value).partition("has its own: ")[2]
        (given,) = parse_line(f"run {way_out}").parameters().values()
        assert parameter_value(given) == text
    for text in ("[ab]*.fq", "{id}.txt", '""', "a[", "", "(", '"', "'90s", "(wip", "[...", "(1 of"):
        assert parse_argv(["run", "n.ipynb", "-p", f"items={text}"]).parameters() == {"items": text}


def test_names_assigned_beside_magics_are_found() -> None:
    assert assigned_names("%matplotlib inline\na = 1\nb: int = 2\na = 3") == ["a", "b"]


def test_a_pipeline_that_no_cell_runs_needs_a_run() -> None:
    assert needs_a_run(notebook("# first\n%%process fit(x) -> y from xs\ny = x"))
    assert not needs_a_run(notebook("%%process fit(x) -> y from xs\ny = x", "run = %nbcache run"))
    assert not needs_a_run(notebook("print('%%process')"))
