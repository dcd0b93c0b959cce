"""What is said when something is wrong: what, where, why, and the way out."""

from __future__ import annotations

from operator import attrgetter

import pytest

from nbcache import channel
from nbcache.engine.describe import channel_view_of
from nbcache.engine.record.explanations import why
from nbcache.engine.record.finding import find_task
from nbcache.engine.record.history import show_run
from nbcache.errors import (
    BodyError,
    ChannelError,
    DeclarationError,
    HeaderError,
    NoCanonicalFormError,
    UnknownNameError,
    WiringError,
)
from tests.engine.notebooks import Notebook


def test_an_operator_that_is_not_there_names_the_nearest(notebook: Notebook) -> None:
    with pytest.raises(HeaderError) as caught:
        notebook.cell("%channel bad = of(1).mapp(lambda x: x)")

    assert str(caught.value).endswith('did you mean "map"?')
    lines = str(caught.value).split("\n")
    assert lines[1].index("mapp") == lines[2].index("^")
    assert "bad" not in notebook.names


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("%channel bad = of(1).groupTuple()", '.group_by("FIELD")'),
        (
            "%channel bad = of((1, 2)).fields('a', 'b').a.collect()",
            '.select("a") if that is a field',
        ),
        ("%channel bad = Channel.of(1)", "stand alone here: of(...)"),
        ("%%process bad --errorStrategy ignore\n1", "--on_error ACTION"),
        ("%%process bad(val n) from of(1)\nn", "a type follows its name: a, b: path"),
        ("%%process bad from of(1) -cpus 2\n1", "two dashes: --cpus"),
        ("%%process bad --memory 4\n1", "a number of bytes; write 4GB, or 4B"),
        ("%%process bad --disk 2000\n1", "a number of bytes; write 2000MB, or 2000B"),
        ("%channel bad = of(1).toSortedList()", ".collect().map(sorted)"),
    ],
)
def test_the_words_of_another_engine_and_slips_are_answered_with_what_is_meant(
    notebook: Notebook, cell: str, hint: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        notebook.cell(cell)

    assert hint in str(caught.value)
    assert "bad" not in notebook.names


def test_a_channel_that_fails_is_told_before_the_tasks_that_failed_beside_it(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel numbers = of(1, 2)")
    notebook.cell("%%process broken(n) from numbers\nraise ValueError(n)")
    notebook.cell("%%process seen(label) --on_failure_of broken\nlabel")
    notebook.cell("%channel bad = seen.map(lambda label: 1 / 0)")
    notebook.cell("%%process below(n) from bad\nn")

    message = notebook.run().message

    assert message.startswith("channel bad: ZeroDivisionError")
    assert "failed as well: broken[" in message


def test_a_channel_without_a_name_says_how_its_items_are_read() -> None:
    with pytest.raises(TypeError, match="%channel NAME"):
        list(channel.of(1))


def test_what_makes_a_channel_of_data_is_said_and_that_one_cannot_be_made_of_itself(
    notebook: Notebook,
) -> None:
    notebook.cell("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\nrows = [{'a': 1}]")
    for text, way in (
        ("[1, 2]", "from_iterable([1, 2])"),
        ("df", "from_table(df)"),
        ("'*.csv'", "from_path('*.csv')"),
        ("5", "value(5)"),
    ):
        with pytest.raises(HeaderError) as caught:
            notebook.cell(f"%channel made = {text}")
        assert way in str(caught.value)
        notebook.cell(f"%%process read(a) -> b from {text}\nb = a")
        with pytest.raises(WiringError) as refused:
            notebook.names["read"].table()
        assert f"`from {way}`" in str(refused.value)
    notebook.cell("%channel made = from_iterable(rows)")
    made = notebook.names["made"]
    view = channel_view_of(made, notebook.session)
    assert "from_table(...)" in view.note
    with pytest.raises(WiringError, match="made is made of itself"):
        notebook.cell("%channel made = made.map(lambda row: row)")
    assert notebook.names["made"] is made


def test_an_output_asked_of_its_process_is_told_where_it_is(notebook: Notebook) -> None:
    notebook.cell("%%process fit(x) -> x, score from of(1)\nscore = x")
    fit = notebook.names["fit"]

    with pytest.raises(AttributeError, match=r"fit\[0\].score, .* \[each.score for each in fit\]"):
        attrgetter("score")(fit)
    assert [each.score for each in fit] == [1]
    notebook.cell("%%process one(x) from of(2)\nout = x + 1")
    with pytest.raises(AttributeError, match=r"the output: one\[0\], of all tasks list\(one\)"):
        attrgetter("out")(notebook.names["one"])
    with pytest.raises(AttributeError, match='did you mean "table"'):
        attrgetter("tabel")(fit)
    assert not hasattr(fit, "_repr_png_")


def test_branches_are_no_channel_but_each_of_them_is(notebook: Notebook) -> None:
    with pytest.raises(HeaderError, match=r"several branches") as caught:
        notebook.cell("%channel parts = of(1, 2).branch(odd=lambda v: v % 2, even=lambda v: True)")
    assert "`%channel even = ....branch(...).even`" in str(caught.value)
    notebook.cell("%channel odd = of(1, 2).branch(odd=lambda v: v % 2, even=lambda v: True).odd")
    assert list(notebook.names["odd"]) == [1]


def test_a_product_without_names_is_told_how(notebook: Notebook) -> None:
    with pytest.raises(ChannelError, match=r"product takes named fields: product\(depth="):
        notebook.cell("%channel bad = product([1, 2], ['x'])")


def test_an_input_that_a_process_keeps_back_names_the_header(notebook: Notebook) -> None:
    notebook.cell("%channel grid = product(depth=[2, 4], rep=[0])")
    notebook.cell("%%process fit(depth, rep) -> score from grid\nscore = depth")
    notebook.cell("%%process best(score, depth) from fit.collect()\nmax(score)")

    with pytest.raises(WiringError) as caught:
        notebook.run()

    assert "`%%process fit ... -> depth, score`" in str(caught.value)


def test_a_body_that_reads_a_channel_of_its_from_is_told_as_what_the_items_come_in(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel text = of('ab')")
    notebook.cell("%%process count from text\nc = len(text)\nc")
    notebook.cell("%%process title from text\ntext.title()")
    notebook.cell("%channel rows = of(('a', 1)).fields('text', 'n')")

    with pytest.raises(BodyError, match="Its items come in as c: read that"):
        notebook.cell("%%process top from title, count\n[title, count]")
    with pytest.raises(BodyError, match="Its items come in as n and text: read these"):
        notebook.cell("%%process q(n, text) from rows\n[rows, n]")
    with pytest.raises(BodyError, match="Its items come in as a: read that"):
        notebook.cell("%%process q(a) from title\n[title, a]")


def test_a_captured_connection_is_named_with_its_resource(notebook: Notebook) -> None:
    notebook.cell("import sqlite3\nengine = sqlite3.connect(':memory:')")
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process db(v) from src\nengine.execute('select 1').fetchall()")

    with pytest.raises(NoCanonicalFormError) as caught:
        notebook.run()

    assert "@nbcache.resource\n  def engine(): return <the Connection>\n" in str(caught.value)
    assert "`--ignore engine`" in str(caught.value)


def test_queues_that_do_not_pair_are_said_by_the_card_and_once_by_the_plan(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(1, 2, 3)")
    notebook.cell("%%process two(a, b) from src, of(1, 2)\na + b")
    notebook.cell("%%process fine(v) from src\nv")
    notebook.cell("%%process typed(v: str) from of(1, 2)\nv")

    view = notebook.session.card(notebook.names["two"])
    plan = {each.name: each for each in notebook.session.plan()}

    assert view.plan is None
    assert "queues pair item by item" in view.hindrances[-1]
    assert plan["two"].error == view.hindrances[-1]
    assert plan["two"].tasks is None
    assert plan["fine"].error == ""
    assert plan["fine"].tasks == 3
    (typed,) = notebook.session.plan(["typed"])
    assert typed.failing == 2


def test_an_output_of_another_type_than_declared_fails_its_task(notebook: Notebook) -> None:
    notebook.cells(
        [
            "%channel src = of(1, 2, 3)",
            "%%process typed(v) -> n: int, t: str | None from src\n"
            "n = {1: 1, 2: 'two', 3: None}[v]\nt = None",
        ]
    )
    run = notebook.run()

    assert run.counts() == {"completed": 1, "failed": 2}
    text, none = (failure.error for failure in run.failures)
    assert text == (
        "output 'n' is declared as int, but the body made 'two' (str)\n"
        "  declare the type that the body makes, or convert the value"
    )
    assert none.endswith("where there may be nothing to give: `n: int | None`")
    assert [failure.where for failure in run.failures] == 2 * [
        "cell [2] line 1: %%process typed(v) -> n: int, t: str | None from src"
    ]


def test_a_generator_as_output_is_told_to_become_a_list(notebook: Notebook) -> None:
    notebook.cells(["%channel src = of(1)", "%%process gen(v) from src\n(i for i in range(v))"])

    [failure] = notebook.run().failures

    assert failure.error.startswith("output 'gen': a generator cannot be kept")
    assert "return list(...) of it" in failure.error


def test_what_ended_a_worker_is_not_advised_to_be_tried_in_the_kernel(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell(
        "%%process end(v) from src\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    )

    message = notebook.run().message

    assert "died of SIGSEGV" in message
    assert "what ended the worker may end that" in message
    assert "--item failed" not in message


def test_a_file_beside_the_notebook_is_told_with_the_header_to_paste(notebook: Notebook) -> None:
    (notebook.folder / "x.csv").write_text("1,2")
    notebook.cell("%channel grid = product(depth=[2])")
    notebook.cell("name = 'x'")
    notebook.cell("%%process read from grid --cpus 1\nf'{depth} ' + open(name + '.csv').read()")
    message = notebook.run().message

    header = next(line for line in message.split("\n") if "%%process" in line)
    assert header == '  %%process read(depth, x: path = "x.csv") from grid --cpus 1'
    notebook.cell(f"{header.strip()}\nf'{{depth}} ' + x.read_text()")
    assert notebook.run()["read"].value == "2 1,2"


def test_failures_stand_in_the_order_of_the_items(notebook: Notebook) -> None:
    notebook.cells(
        [
            "import time",
            "%channel src = of(3, 2, 1, 0)",
            "%%process bad(v) from src\ntime.sleep(v / 20)\n1 / 0",
        ]
    )
    run = notebook.run()

    assert [failure.task for failure in run.failures] == [f"bad[v={v}]" for v in (3, 2, 1, 0)]


def test_what_writing_a_file_returns_is_not_taken_for_the_file(notebook: Notebook) -> None:
    notebook.cells(
        [
            "import pathlib",
            "%channel src = of(1)",
            "%%process text(v) -> f: path from src\npathlib.Path('f').write_text('hi')",
            "%%process both(v) -> n, f: path from src\npathlib.Path('f').write_text('hi')\nv + 1",
            "%%process named(v) -> g: path from src\n"
            "pathlib.Path('h').write_text('ho')\npathlib.Path('h')",
        ]
    )
    run = notebook.run()

    assert run["text"].value.read_text() == "hi"
    assert run["both"].value.n == 2
    assert run["named"].value.read_text() == "ho"


def test_a_captured_resource_is_called_one_and_used_under_its_name(notebook: Notebook) -> None:
    notebook.cell("import nbcache\n@nbcache.resource\ndef engine():\n    return {'n': 1}")
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process db(v) from src\nengine['n'] + v")

    view = notebook.session.card(notebook.names["db"])

    assert [(each.name, each.summary) for each in view.captures] == [("engine", "resource")]
    assert notebook.run()["db"].value == 2


def test_a_block_that_raises_says_in_which_line_of_its_cell(notebook: Notebook) -> None:
    with pytest.raises(ChannelError, match=r"'block', line 3: 1 / 0\n  ZeroDivisionError"):
        notebook.cell("%%channel block\nrows = [1]\n1 / 0\nof(1)")
    with pytest.raises(UnknownNameError) as caught:
        notebook.cell("%%channel block\nrows = [1]\nof(rowz)")
    assert str(caught.value).startswith("line 3: ")
    assert "    of(rowz)\n       ^" in str(caught.value)
    with pytest.raises(UnknownNameError, match="has to be called: lambda x: path"):
        notebook.cell("%channel files = of('a.txt').map(path)")


def test_a_field_that_an_operator_cannot_find_is_explained_like_one_that_an_input_lacks(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel grid = product(group=['a', 'b'], x=[1, 2])")
    notebook.cell("%%process fit(group, x) from grid\nscore = 2 * x")
    passed = "pass it on: `%%process fit ... -> group, score`"

    with pytest.raises(
        WiringError, match=r"'group' is no field of fit; its fields are score\n"
    ) as by:
        notebook.cell("%channel each = fit.group_by('group')")
    with pytest.raises(WiringError, match="has no field 'group'") as selected:
        notebook.cell("%channel each = fit.select('group')")
    with pytest.raises(UnknownNameError, match='the name of a field is a text: "group"'):
        notebook.cell("%channel each = fit.group_by(group)")

    assert passed in str(by.value)
    assert passed in str(selected.value)


def test_a_card_shows_defaults_and_misses_no_name_that_a_star_may_bring(
    notebook: Notebook,
) -> None:
    notebook.cell("%channel src = of(1)")
    notebook.cell("%%process half(v, by=0.5) from src\nfrom math import *\nfloor(v * by)")
    notebook.cell("%%process odd(v, by: float = 0.5) from src\nfloor(v * by)")

    half = notebook.session.card(notebook.names["half"])
    odd = notebook.session.card(notebook.names["odd"])

    assert half.signature == "half(v, by = 0.5) → half"
    assert odd.signature == "odd(v, by: float = 0.5) → odd"
    assert half.notes == ()
    assert odd.hindrances == ("nothing is called floor yet: the body would stop with a NameError",)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("(v: str) -> out from one", "declared as str, but the item is 1 (int)"),
        ("(v: path) -> out from one", "declared as a path, but the item is 1 (int)"),
        ('(v, f: path = "gone.csv") -> out from one', "gone.csv"),
        ("(v, w) -> out from one", "2 inputs are free (v, w)"),
        ("(v, w) -> out from one, two", "queues pair item by item"),
        ("(v) -> out from base", "not a channel"),
        ("(unknown) -> out", "is not wired"),
        ("(v) -> out from work", "a cycle: work -> work"),
    ],
)
def test_what_only_a_run_finds_is_said_with_the_cell_and_its_line(
    notebook: Notebook, header: str, said: str
) -> None:
    notebook.cell("%channel one = of(1, 2)")
    notebook.cell("%channel two = of('a', 'b', 'c')")
    notebook.cell("base = 3")
    notebook.cell(f"%%process work{header}\nout = 1")

    try:
        text = notebook.run().message
    except WiringError as error:
        text = str(error)

    assert said in text
    assert f"\n  cell [4] line 1: %%process work{header}" in text


def test_a_channel_that_is_not_there_is_pointed_at_in_the_header(notebook: Notebook) -> None:
    notebook.cell("%channel one = of(1)")
    notebook.cell("%%process work(v,\n  w) -> out from one, oen.collect()\nout = 1")

    with pytest.raises(UnknownNameError) as caught:
        notebook.run()

    lines = str(caught.value).split("\n")
    assert lines[0].startswith("cell [2] line 2: process 'work': from oen.collect(): no channel")
    assert lines[1].index("oen") == lines[2].index("^")
    assert lines[3] == '  did you mean "one"?'


def test_a_type_that_is_a_slip_of_the_pen_is_no_type(notebook: Notebook) -> None:
    notebook.cell("%channel one = of(1)\n")
    with pytest.raises(HeaderError) as caught:
        notebook.cell("%%process work(file: pth) -> out from one\nout = 1")

    lines = str(caught.value).split("\n")
    assert lines[0] == 'line 1: there is no type "pth"'
    assert lines[1].index("pth") == lines[2].index("^")
    assert lines[3] == '  did you mean "path"?'
    notebook.cell("class pth: pass")
    notebook.cell("%%process work(file: pth, other: Frame) -> out from one\nout = 1")


def test_a_task_whose_input_is_refused_stands_in_the_history(notebook: Notebook) -> None:
    notebook.cell("%channel src = of(1, 'x')")
    notebook.cell("%%process work(v: int) -> out from src\nout = v")
    run = notebook.run()
    cache = notebook.session.cache

    assert (run.counts(), run.failures[0].command) == ({"completed": 1, "failed": 1}, "")
    found = find_task(cache, ["work[1]"])
    assert found.made.status == "failed"
    assert found.made.error == (
        "process 'work': input 'v' is declared as int, but the item is 'x' (str)"
    )
    assert [row.position for row in show_run(cache, run.id).failures] == ["1"]

    notebook.cell("%channel src = of(1, 2)")
    assert notebook.run().counts() == {"cached": 1, "completed": 1}
    assert "no earlier task has v 2" in why(cache, ["work", "1"]).head


def test_a_helper_that_fails_shows_its_line_and_a_body_can_ask_for_its_text(
    notebook: Notebook,
) -> None:
    helper = (
        "def outer(v):\n    def inner(w):\n        return 1 / w  # a remark\n    return inner(v)"
    )
    notebook.cells([f"import inspect\n{helper}\nsteps = [outer]", "%channel src = of(0)"])
    notebook.cell("%%process direct(v) -> out from src\nout = outer(v)")
    notebook.cell("%%process listed(v) -> out from src\nout = inspect.getsource(steps[0])")
    run = notebook.run()

    assert list(run["listed"]) == [helper + "\n"]
    [failure] = run.failures
    assert "    return 1 / w  # a remark" in failure.traceback


def test_a_captured_object_that_does_not_unpickle_is_said_with_the_way_out(
    notebook: Notebook,
) -> None:
    cell = "class Bad:\n    def __reduce__(self): return int, ('x',)\nt = Bad()"
    notebook.cells([cell, "%channel src = of(0)"])
    notebook.cell("%%process p(v) -> out from src\nout = str(t)")
    [failure] = notebook.run().failures

    assert "does not unpickle: make it once per worker" in failure.error


def test_a_captured_figure_is_refused_since_it_is_another_whenever_it_is_drawn(
    notebook: Notebook,
) -> None:
    notebook.cells(
        ["import matplotlib.pyplot as plt\nfig, ax = plt.subplots()", "%channel src = of(0)"]
    )
    notebook.cell("%%process p(v) -> out from src\nout = len(ax.lines)")

    with pytest.raises(NoCanonicalFormError) as caught:
        notebook.run()
    notebook.cell("plt.close(fig)")
    assert "captured name 'ax' is a matplotlib Axes" in str(caught.value)
    assert "capture its data and draw in the body" in str(caught.value)
