"""The input transformer, alone and in a real IPython shell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from nbcache.model.process import ChannelDecl, ProcessDecl
from nbcache.notebook.transform import for_completeness, transform
from nbcache.plan.language.header import parse_channel_cell, parse_channel_line, parse_process_cell


@magics_class
class Recorder(Magics):
    """Takes the magics as nbcache does and keeps what arrived."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self.processes: list[ProcessDecl] = []
        self.channels: list[ChannelDecl] = []
        self.queries: list[str] = []
        self.commands: list[str] = []

    @no_var_expand
    @cell_magic
    def process(self, line: str, cell: str) -> None:
        self.processes.append(parse_process_cell(line, cell))

    @no_var_expand
    @line_magic
    def channel(self, line: str) -> None:
        self.channels.append(parse_channel_line(line))

    @no_var_expand
    @cell_magic("channel")
    def channel_cell(self, line: str, cell: str) -> None:
        self.channels.append(parse_channel_cell(line, cell))

    @no_var_expand
    @line_magic
    def nbsql(self, line: str) -> str:
        self.queries.append(line)
        return line

    @no_var_expand
    @cell_magic("nbsql")
    def nbsql_cell(self, line: str, cell: str) -> None:
        self.queries.append(f"{line}\n{cell}".strip())

    @no_var_expand
    @line_magic
    def nbcache(self, line: str) -> str:
        self.commands.append(line)
        return "a run"


@pytest.fixture(params=["first", "last"])
def shell(request: pytest.FixtureRequest) -> Iterator[tuple[InteractiveShell, Recorder]]:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    recorder = Recorder(shell)
    shell.register_magics(recorder)
    place = 0 if request.param == "first" else len(shell.input_transformers_cleanup)
    shell.input_transformers_cleanup[place:place] = [transform, for_completeness]
    yield shell, recorder
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, cell: str) -> None:
    shell.run_cell(cell).raise_error()


def test_a_process_with_comments_above_it_is_declared_with_the_lines_of_the_cell(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    cell = '# how deep\n\n# "quoted" \\ remark\n%%process fit(x) from grid\n#| cpus: 2\nscore = x\n'

    run(shell[0], cell)

    (decl,) = shell[1].processes
    assert (decl.name, decl.sources, decl.directives.cpus) == ("fit", ("grid",), 2)
    assert decl.source == cell
    assert decl.body_line == 6
    assert decl.inputs is not None
    assert (decl.inputs[0].line, decl.inputs[0].column) == (4, 14)


def test_blank_lines_above_count_when_the_transformer_is_the_first() -> None:
    lines = transform(["\n", "  \n", "%%process fit\n", "1\n"])

    assert lines[0].startswith("%%process ")
    decl = parse_process_cell(lines[0].removeprefix("%%process ").rstrip(), lines[1])
    assert decl.body_line == 4


def test_a_process_without_comments_is_not_touched() -> None:
    lines = ["%%process fit(x) from grid\n", "x\n"]

    assert transform(lines) == lines


def test_a_tab_behind_the_magic_is_a_blank() -> None:
    assert transform(["%%process\tfit\n", "x\n"]) == ["%%process fit\n", "x\n"]


def test_a_header_that_spans_lines_arrives_whole(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    run(
        shell[0],
        "%%process fit(\n    depth,  # levels\n    trees,\n) from grid \\\n --bash\necho 1\n",
    )

    (decl,) = shell[1].processes
    assert [each.name for each in decl.inputs or ()] == ["depth", "trees"]
    assert (decl.sources, decl.language, decl.body_line) == (("grid",), "script", 6)


def test_dollars_and_braces_in_a_header_are_left_alone(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    shell[0].user_ns["x"] = "expanded"

    run(shell[0], '%%process fit(x) -> o: path = "{x}_$x" from grid\n1')

    assert (shell[1].processes[0].outputs or ())[0].pattern == "{x}_$x"


def test_a_query_on_the_line_of_its_cell_magic_is_a_whole_query(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    run(shell[0], "%%nbsql SELECT count(*) FROM tasks")
    run(shell[0], "# the second\n%%nbsql SELECT 'it''s' -- ? {x}\nFROM tasks")

    assert shell[1].queries == [
        "SELECT count(*) FROM tasks",
        "SELECT 'it''s' -- ? {x}\nFROM tasks",
    ]


def test_a_process_without_body_reaches_nbcaches_own_error(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    result = shell[0].run_cell("%%process fit(x) from grid")

    assert "no body" in str(result.error_in_exec)


def test_a_channel_whose_brackets_span_lines_is_one_channel(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    cell = (
        "before = 1\n"
        "%channel grid = product(\n"
        "    depth=[2, 4],  # (levels\n"
        "    name=[\"a)\", 'b'],\n"
        ")  # the sweep\n"
        "%channel one = of(1)\n"
        "after = 2\n"
    )

    run(shell[0], cell)

    grid, one = shell[1].channels
    assert (grid.name, one.name, one.expression) == ("grid", "one", "of(1)")
    made = eval(grid.expression or "", {"product": dict})
    assert made == {"depth": [2, 4], "name": ["a)", "b"]}
    assert (shell[0].user_ns["before"], shell[0].user_ns["after"]) == (1, 2)


def test_lines_below_a_channel_that_spans_lines_keep_their_numbers() -> None:
    lines = ["%channel grid = product(\n", "    a=[1],\n", ")\n", "1 / 0\n"]

    changed = transform(lines)

    assert changed[3] == "1 / 0\n"
    assert len(changed) == 4


def test_a_channel_inside_a_string_is_no_channel() -> None:
    lines = ['text = """\n', "%channel x = of(\n", "1)\n", '"""\n']

    assert transform(lines) == lines


def test_a_channel_with_an_open_bracket_reaches_nbcaches_own_error(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    result = shell[0].run_cell("%channel x = of(1,\n")

    assert '"(" is never closed' in str(result.error_in_exec)


@pytest.mark.parametrize(
    ("typed", "is_whole"),
    [
        ("%channel grid = product(\n", False),
        ("%channel grid = product(\na=[1],\n", False),
        ("k = 2\n%channel grid = product(\n    a=[", False),
        ("%channel grid = product(\na=[1])\n", True),
        ("%channel one = of(1)\n", True),
        ("%channel one = of(1))\n", True),
    ],
)
def test_a_terminal_asks_for_lines_until_the_brackets_of_a_channel_are_closed(
    shell: tuple[InteractiveShell, Recorder], typed: str, is_whole: bool
) -> None:
    status, _ = shell[0].check_complete(typed)

    assert (status != "incomplete") is is_whole


def test_a_channel_cell_with_comments_above_works(
    shell: tuple[InteractiveShell, Recorder],
) -> None:
    run(shell[0], "# rows\n%%channel rows\nkept = [1, 2]\nfrom_iterable(kept)")

    (decl,) = shell[1].channels
    assert (decl.name, decl.line) == ("rows", 3)


def test_assignments_from_magics_keep_working(shell: tuple[InteractiveShell, Recorder]) -> None:
    run(shell[0], "x = 1\nrun = %nbcache run --fresh\ndf = %nbsql SELECT 1 AS one, 'a' AS b\n")

    assert shell[0].user_ns["run"] == "a run"
    assert shell[0].user_ns["df"] == "SELECT 1 AS one, 'a' AS b"
    assert shell[1].commands == ["run --fresh"]


def test_other_cells_and_other_magics_are_not_touched() -> None:
    for cell in ("# c\n%%time\nx\n", "# only a remark\n", "", "x = 1\n!ls (\n", "%%processes x\n"):
        lines = cell.splitlines(keepends=True)
        assert transform(lines) == lines


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["%channel x = of(\n", "1)\n", "# c\n", "\n", "%%process fit(\n", "'''\n", "!a ' (\n"]
        ),
        st.text(alphabet="%ab=()[]'\"#\\ !?\n\t", max_size=12).map(lambda text: text + "\n"),
    ),
    max_size=8,
)


@given(LINES)
def test_no_cell_makes_it_raise_and_twice_is_once(lines: list[str]) -> None:
    once = transform(lines)

    assert transform(once) == once


@given(LINES)
def test_the_number_of_lines_below_never_changes(lines: list[str]) -> None:
    text = "".join(lines).splitlines(keepends=True)
    if any(line.startswith("%%") for line in text):
        return

    assert len(transform(text)) == len(text)


@pytest.mark.parametrize("magic", ["%%time", "%%writefile other.py", "# remark\n%%capture out"])
def test_a_cell_of_somebody_elses_magic_is_left_alone(magic: str) -> None:
    lines = [f"{line}\n" for line in f"{magic}\n%channel g = of(\n    1)".split("\n")]

    assert for_completeness(transform(lines)) == lines
