"""Headers, channels and commands: what they mean, and where they say they are wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import (
    BodyError,
    DeclarationError,
    HeaderError,
    NbcacheError,
    OptionError,
)
from nbcache.model.process import Dynamic, Input, Output, PortType, ProcessDecl
from nbcache.plan.language.header import (
    parse_channel_cell,
    parse_channel_line,
    parse_process_cell,
)
from nbcache.plan.language.header_text import mark_above
from nbcache.plan.language.option_lines import low_options
from tests.exploring import examples


def read(line: str, cell: str = "x\n") -> ProcessDecl:
    return parse_process_cell(line, cell)


def fault(
    line: str, cell: str = "x\n", error: type[DeclarationError] = HeaderError
) -> DeclarationError:
    with pytest.raises(DeclarationError) as caught:
        parse_process_cell(line, cell)
    assert type(caught.value) is error
    return caught.value


def under_caret(error: DeclarationError) -> str:
    """Return the word that the error's caret stands under."""
    assert error.source is not None
    assert error.column is not None
    return (error.source[error.column :].split() or [""])[0]


def refusal(call: Callable[[], object]) -> NbcacheError | None:
    """Return the error that a call ends in, None where it goes well; any other error goes on."""
    try:
        call()
    except NbcacheError as error:
        return error
    return None


# What a header means


def test_inputs_outputs_sources_and_options_are_read() -> None:
    decl = read(
        "quant(sample, r1: path, r2: path, index: path) -> sample, quant: path = "
        '"quant_{sample}" from pairs, index --bash --cpus 2',
        "salmon quant\n",
    )

    assert decl.name == "quant"
    path = PortType("path")
    assert [(each.name, each.type) for each in decl.inputs or ()] == [
        ("sample", None),
        ("r1", path),
        ("r2", path),
        ("index", path),
    ]
    assert [(each.name, each.type, each.pattern) for each in decl.outputs or ()] == [
        ("sample", None, None),
        ("quant", path, "quant_{sample}"),
    ]
    assert decl.sources == ("pairs", "index")
    assert decl.interpreter == ("bash", "-euo", "pipefail")
    assert (decl.language, decl.directives.cpus) == ("script", 2)
    assert (decl.body, decl.body_line) == ("salmon quant\n", 2)


def test_what_a_header_leaves_out_is_none_and_what_it_empties_is_empty() -> None:
    bare, empty = read("fit"), read("fit()")

    assert (bare.inputs, bare.outputs, bare.sources) == (None, None, None)
    assert empty.inputs == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path", PortType("path")),
        ("list[path]", PortType("path", 1)),
        ("list[list[path]] | None", PortType("path", 2, True)),
        ("None | str", PortType("str", 0, True)),
        ("pd.DataFrame", PortType("pd.DataFrame")),
    ],
)
def test_types_are_read(text: str, expected: PortType) -> None:
    (each,) = read(f"fit(x: {text})").inputs or ()

    assert each.type == expected


def test_defaults_may_be_any_expression_and_stand_before_inputs_without() -> None:
    decl = read('fit(a=(1, 2), b: str = "x, y -> z from w --bash", c={"k": [1]}, d)')

    assert [(each.name, each.default) for each in decl.inputs or ()] == [
        ("a", "(1, 2)"),
        ("b", '"x, y -> z from w --bash"'),
        ("c", '{"k": [1]}'),
        ("d", None),
    ]


def test_a_rest_input_may_stand_alone_and_have_a_type() -> None:
    (each,) = read("fit(*reads: list[path],)").inputs or ()

    assert (each.name, each.rest, each.type) == ("reads", True, PortType("path", 1))


def test_sources_are_divided_only_at_commas_outside_brackets() -> None:
    decl = read("fit from work.map(lambda a, b: a + b), of('x, y'), grid.collect()")

    assert decl.sources == ("work.map(lambda a, b: a + b)", "of('x, y')", "grid.collect()")


def test_a_header_goes_on_while_a_bracket_is_open_or_a_line_ends_in_a_backslash() -> None:
    decl = read(
        "fit(",
        "    a,  # the first, with a ) and a quote's end\n    b,\n) -> c \\\n from grid.map(\n"
        "  str\n)\nc = a\n",
    )

    assert [(each.name, each.line, each.column) for each in decl.inputs or ()] == [
        ("a", 2, 4),
        ("b", 3, 4),
    ]
    assert [each.name for each in decl.outputs or ()] == ["c"]
    assert decl.sources == ("grid.map(\n  str\n)",)
    assert (decl.body, decl.body_line) == ("c = a\n", 8)


def test_a_remark_ends_the_header_but_not_inside_an_option_or_a_string() -> None:
    decl = read('fit(x) from of("#1") --tag run#{x} --memory "4GB" # why --bash')

    assert decl.sources == ('of("#1")',)
    assert decl.directives.tag == "run#{x}"
    assert decl.language == "python"


def test_option_lines_mean_what_header_options_mean() -> None:
    above = read('fit(x) --memory "4GB * task.attempt" --max-forks 3 --when "x > 1"')
    below = read("fit(x)", "#| memory: 4GB * task.attempt\n\n#| max_forks: 3\n#| when: x > 1\nx\n")
    quoted = read("fit(x)", '#| memory: "4GB * task.attempt"\n#|max_forks:3\n#| when: "x > 1"\nx')

    assert above.directives == below.directives == quoted.directives
    assert above.directives.when == Dynamic("x > 1")
    assert (below.body, below.body_line) == ("x\n", 6)


def test_a_shebang_names_the_interpreter_and_is_no_part_of_the_body() -> None:
    decl = read("fit(x)", "#| cpus: 2\n#!/usr/bin/env -S Rscript --vanilla\ncat(x)\n")

    assert decl.interpreter == ("Rscript", "--vanilla")
    assert (decl.language, decl.body, decl.body_line) == ("script", "cat(x)\n", 4)


@pytest.mark.parametrize("first", ["# needs numpy:", "#!/usr/bin/env Rscript"])
def test_what_stands_below_a_remark_or_the_interpreter_is_the_body_s_own(first: str) -> None:
    own = "#!pip install numpy\n#| alpha: the rate\n#|box|\n#| cpus: 2\ny = 1\n"
    decl = read("fit(x)", f"{first}\n{own}")

    assert decl.body.endswith(own)
    assert decl.language == ("script" if first.startswith("#!") else "python")
    assert decl.directives.cpus == 1


def test_an_option_too_far_down_is_pointed_at() -> None:
    body = "# note\n#| cpus = 1\ny = x\n#| on-eror: ignore\n#| alpha: 1\n#| title: a note\n"
    decl = read("fit(x)", body)

    cpus, on_error = low_options(decl.body, decl.body_line)
    assert cpus.startswith("line 3: `#| cpus = 1` is only a remark")
    assert on_error.startswith("line 5: `#| on-eror: ignore` is only a remark")


def test_the_source_is_the_whole_cell_as_written() -> None:
    decl = parse_process_cell("fit(x)", "# c\nx\n", cell_name="cell [5]", filename="<cell>")

    assert decl.source == "%%process fit(x)\n# c\nx\n"
    assert (decl.cell, decl.filename) == ("cell [5]", "<cell>")


def test_lines_that_stood_above_are_counted() -> None:
    error = fault(mark_above("# one\n\n") + "fit form grid")

    assert (error.line, error.column) == (3, 14)
    assert error.source == "%%process fit form grid"


# What is wrong with a header, and where


def test_a_typo_for_from_shows_the_line_a_caret_and_the_word() -> None:
    error = fault("fit form grid")

    assert str(error) == (
        'line 1: "form" is not expected here\n'
        "    %%process fit form grid\n"
        "                  ^\n"
        '  did you mean "from"?'
    )


def test_several_names_or_files_without_a_comma_are_told_to_have_one() -> None:
    with pytest.raises(HeaderError, match=r"commas between them: --files a\.txt,b\.txt$"):
        parse_process_cell("p(v) -> o from a --files a.txt b.txt", "o = 1")


@pytest.mark.parametrize(
    ("line", "message", "caret", "hint"),
    [
        ("", "a process needs a name", "", "NAME(inputs)"),
        ("2fit(x)", "the name of a process is expected", "2fit(x)", None),
        ("class(x)", '"class" is a word of Python', "class(x)", None),
        ("sum(x) from y", "would hide the builtin", "sum(x)", "another name"),
        ("fit(x) out from y", '"out" is not expected', "out", "-> out"),
        ("fit grid", '"grid" is not expected', "grid", "from grid"),
        ("fit(x) => out", '"=>" is not expected', "=>", 'did you mean "->"'),
        ("fit(x) - > out", '"-" is not expected', "-", 'did you mean "->"'),
        ("fit(x) -> ", 'an output is missing after "->"', "->", None),
        ("fit(x) -> a form g", '"form" is not expected', "form", 'did you mean "from"'),
        ("fit(x) -> a: path form g", '"form" is not expected', "form", 'did you mean "from"'),
        ("fit(x) -> a -> b", '"->" stands twice', "->", "commas"),
        ("fit(x) from a from b", '"from" stands twice', "from", "commas"),
        ("fit(x) from y -> z", 'outputs come before "from"', "->", None),
        ("fit(x) from", 'a channel is missing after "from"', "from", None),
        ("fit(x) from a, , b", "a channel is missing between", ",", None),
        ("fit(x) from a +", "a channel is not a Python expression", "", None),
        ("fit(x) from a b", "a channel is not a Python expression", "a", None),
        ("fit(x", '"(" is never closed', "(x", None),
        ("fit(x]", '"]" does not close', "]", None),
        ("fit x)", '")" closes nothing', ")", None),
        ("fit(x='a)", "the quote ' is never closed", "'a)", None),
        ("fit(a,,b)", "a name is missing between the commas", ",b)", None),
        ("fit(a, a)", 'two inputs named "a"', "a)", None),
        ("fit -> a, a", 'two outputs named "a"', "a", None),
        ("fit(a b)", '"b" is not expected', "b)", None),
        ("fit(if)", '"if" is a word of Python', "if)", None),
        ("fit(x=)", 'the default of "x" is missing', "=)", None),
        ("fit(x=1 2)", 'the default of "x" is not a Python expression', "1", None),
        ("fit(x == 1)", '"==" is not expected', "==", 'did you mean "="'),
        ("fit(*r, x)", '"*r" takes what is left', "x)", None),
        ("fit(*r=1)", "has no default", "=1)", None),
        ("fit(x:)", "a type is missing after the colon", ":)", None),
        ("fit(x: dict[str, int])", '"dict[str, int]" is not a type', "dict[str,", "list[...]"),
        ("fit(x: Path)", "would count by name only", "Path)", "path"),
        ('fit -> a: path = "{"', '"{" stands alone', "a:", None),
        ("fit -> a: path = a.txt", 'the file name of "a" is a quoted string', "a.txt", '"a.txt"'),
        ('fit -> a = "a.txt"', "only a path has a file name", "a", "a: path"),
        ('fit -> a = "stdout"', "only a path has a file name", "a", "-> stdout"),
        ("fit -> a, b.txt", "b.txt is not an output", "b.txt", 'b: path = "b.txt"'),
        ("fit -> path('*.bam')", "is not an output", "path('*.bam')", 'out: path = "*.bam"'),
        ("fit(s) -> {s}.txt", "is not an output", "{s}.txt", 'out: path = "{s}.txt"'),
        ("fit -> tuple val(a), b", "is not an output", "tuple", "-> a, b"),
        ("fit -> a b", '"b" is not expected', "b", "commas between them: ..., b"),
        ("fit -> if.txt", "is not an output", "if.txt", 'out: path = "if.txt"'),
        ("fit(x): -> a", '":" is not expected', ":", "no colon"),
        ("fit(x: file)", "would count by name only", "file)", "path"),
        ('fit -> a: path = "/tmp/a"', "has to lie in the work directory", '"/tmp/a"', None),
        ('fit -> a: path = "../a"', "has to lie in the work directory", '"../a"', None),
        ("fit(x) --cpus=2", '"=" is not expected in an option', "=2", "--cpus VALUE"),
        ("fit(x) --memory 4 GB", '"GB" is not expected', "GB", "quoted"),
        ("fit(PATH) --bash", 'cannot be named "PATH"', "PATH)", None),
        ("fit(x, BASH_ENV) --bash", 'cannot be named "BASH_ENV"', "BASH_ENV)", None),
        ("fit(cpus) --script Rscript", 'cannot be named "cpus"', "cpus)", None),
    ],
)
def test_a_malformed_header_says_what_and_points_at_it(
    line: str, message: str, caret: str, hint: str | None
) -> None:
    error = fault(line, error=OptionError if '"{"' in line else HeaderError)

    assert message in error.message
    assert error.line == 1
    assert under_caret(error) == caret
    assert hint is None or hint in (error.hint or "")


def test_an_error_in_a_continued_header_points_at_its_own_line() -> None:
    error = fault("fit(a,", "    b c)\nx\n")

    assert (error.line, error.column, error.source) == (2, 6, "    b c)")


def test_a_template_that_names_no_input_lists_the_inputs() -> None:
    error = fault('fit(sample) -> a: path = "{smaple}.txt"', error=OptionError)

    assert (error.line, under_caret(error)) == (1, "a:")
    assert error.hint == 'did you mean "sample"? the inputs are: sample'


def test_what_a_task_cannot_tell_an_option_is_said_before_it_fails() -> None:
    option = """--on_error "'retry' if task.exitStatus == 137 else 'stop'\""""
    error = fault(f"fit(x) from y {option}", error=OptionError)

    assert error.message == "--on_error: task has no 'exitStatus'"
    assert error.hint == 'did you mean "exit"?'
    option = "--cpus 'task.a_b_c'"
    error = fault(f"fit(x) from y {option}", error=OptionError)
    assert (error.hint or "").startswith("it has attempt, index, process")
    read("fit(x) from y --cpus 'max(task.real for task in [2])'")


def test_the_attempt_of_an_option_is_that_of_the_task() -> None:
    error = fault("fit(x) from y --memory '200 MB * attempt'", error=OptionError)

    assert error.message == '--memory: "attempt" is none of its inputs'
    assert 'did you mean "task.attempt"?' in (error.hint or "")


def test_an_unknown_option_names_the_nearest() -> None:
    error = fault("fit(x) from y --cpu 3", error=OptionError)

    assert (error.line, under_caret(error)) == (1, "--cpu")
    assert (error.message, error.hint) == (
        'there is no option "--cpu"',
        'did you mean "--cpus"?',
    )


def test_an_unknown_option_line_points_at_its_key() -> None:
    error = fault("fit(x)", "#| cpus: 1\n#| memroy: 4GB\nx\n", OptionError)

    assert (error.line, error.column, error.source) == (3, 3, "#| memroy: 4GB")
    assert error.hint == 'did you mean "--memory"?'


def test_an_option_line_without_a_colon_says_how_to_write_it() -> None:
    error = fault("fit(x)", "#| cpus 2\nx\n")

    assert (error.line, error.column) == (2, 0)
    assert "#| cpus: 2" in (error.hint or "")


@pytest.mark.parametrize(
    ("line", "cell", "where"),
    [
        ("fit", "input: grid\noutput: model\nmodel = grid", 2),
        ("fit", "# as I know it\n\ninput:\nval x\n", 4),
        ("index --bash", "input:\n  path reads\nscript:\n  salmon index\n", 2),
    ],
)
def test_blocks_of_nextflow_are_told_where_they_stand_here(
    line: str, cell: str, where: int
) -> None:
    error = fault(line, cell, BodyError)

    assert error.line == where
    assert "%%process NAME(INPUTS) -> OUTPUTS" in str(error.hint)


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("fit", 'output: str = "x"\n'),
        ("index --bash", "cat > config.yaml <<EOF\ninput: reads\noutput:\nEOF\n"),
        ("index --bash", 'inputs=1\necho "script: $inputs"\n'),
    ],
)
def test_what_only_looks_like_a_block_is_a_body_as_any_other(line: str, cell: str) -> None:
    assert read(line, cell).body.split() == cell.split()


@pytest.mark.parametrize("cell", ["", "\n", "# only a remark\n", "#| cpus: 2\n"])
def test_an_empty_body_is_an_error(cell: str) -> None:
    error = fault("fit(x) from y", cell, BodyError)

    assert error.message == 'process "fit" has no body'
    assert (error.line, under_caret(error)) == (1, "fit(x)")


def test_names_that_mean_something_to_a_shell_are_fine_in_python() -> None:
    assert read("fit(PATH, task)").inputs is not None


# Any text at all

PIECES = st.sampled_from(
    ["fit", "(", ")", "->", "from", "--cpus", "--bash", "--when", "2", "x", ",", ": path", "=",
     '"a{x}"', "'", '"', "#", "\\\n", "\n", "[", "]", "*", "|", "None", " ", "#| cpus: 1\n", "é"]
)  # fmt: skip


@examples(300)
@given(
    st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map(" ".join)),
    st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=10).map("".join)),
)
def test_no_text_fails_with_anything_but_an_error_that_points_into_it(line: str, cell: str) -> None:
    line = line.replace("\n", " ").replace("\r", " ")
    error = refusal(lambda: parse_process_cell(line, cell))

    if isinstance(error, DeclarationError):
        whole = f"%%process {line}\n{cell}".split("\n")
        assert error.line is not None
        assert 1 <= error.line <= len(whole)
        assert error.column is None or 0 <= error.column <= len(whole[error.line - 1])
        assert str(error)


@examples(200)
@given(st.text(max_size=40))
def test_no_channel_text_fails_with_anything_but_a_declaration_error(text: str) -> None:
    for call in (lambda: parse_channel_line(text), lambda: parse_channel_cell(text, text)):
        error = refusal(call)
        assert error is None or isinstance(error, DeclarationError)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).map(lambda name: "v_" + name)
TYPES = st.sampled_from([None, "path", "list[path]", "str | None", "pd.DataFrame"])
DEFAULTS = st.one_of(
    st.none(),
    st.text(max_size=12).map(ascii),
    st.lists(st.integers(), max_size=3).map(repr),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2).map(ascii),
)
SPACES = st.sampled_from(["", " ", "  ", "\n  ", " \\\n "])


@examples(200)
@given(
    st.lists(st.tuples(NAMES, TYPES, DEFAULTS), unique_by=lambda each: each[0], max_size=4),
    st.lists(NAMES, unique=True, min_size=1, max_size=3),
    st.lists(st.text(max_size=8).map(lambda text: f"of({text!a})"), min_size=1, max_size=3),
    SPACES,
)
def test_a_header_that_is_written_is_read_back(
    inputs: list[tuple[str, str | None, str | None]],
    outputs: list[str],
    sources: list[str],
    space: str,
) -> None:
    written = ",".join(
        name + (f"{space}: {kind}" if kind else "") + (f"{space}= {value}" if value else "")
        for name, kind, value in inputs
    )
    header = f"fit({space}{written}{space}) -> {', '.join(outputs)} from {', '.join(sources)}"
    first, _, below = f"{header}\nx".partition("\n")

    decl = parse_process_cell(first, below)

    assert [(each.name, each.default) for each in decl.inputs or ()] == [
        (name, value) for name, _, value in inputs
    ]
    assert [str(each.type) if each.type else None for each in decl.inputs or ()] == [
        kind for _, kind, _ in inputs
    ]
    assert [each.name for each in decl.outputs or ()] == outputs
    assert list(decl.sources or ()) == sources
    assert decl.body == "x"
    lines = decl.source.split("\n")
    for each in (*(decl.inputs or ()), *(decl.outputs or ())):
        assert isinstance(each, Input | Output)
        assert lines[each.line - 1].startswith(each.name, each.column)


# Channels


def test_a_channel_line_is_a_name_and_an_expression() -> None:
    decl = parse_channel_line('pairs = from_file_pairs("data/ggal_*_{1,2}.fq")  # the # reads')

    assert (decl.name, decl.expression) == ("pairs", 'from_file_pairs("data/ggal_*_{1,2}.fq")')
    assert (decl.line, decl.column) == (1, 17)


def test_a_channel_line_may_span_lines_in_brackets() -> None:
    decl = parse_channel_line("grid = product(\n  a=[1],  # one\n)")

    assert eval(decl.expression or "", {"product": dict}) == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("", "a channel needs a name", ""),
        ("grid", "a channel needs an expression", ""),
        ("grid =", "a channel needs an expression", "="),
        ("grid of(1)", '"=" is expected here', "of(1)"),
        ("grid == of(1)", '"=" is expected here', "=="),
        ("grid = of(1", '"(" is never closed', "(1"),
        ("grid = of(1) of(2)", "a channel is not a Python expression", "of(1)"),
        ("for = of(1)", '"for" is a word of Python', "for"),
        ("filter = of(1)", "would hide the builtin", "filter"),
        ("a.b = of(1)", "a channel needs an expression", ".b"),
    ],
)
def test_a_malformed_channel_says_what_and_points_at_it(
    text: str, message: str, caret: str
) -> None:
    with pytest.raises(HeaderError) as caught:
        parse_channel_line(text)

    assert message in caught.value.message
    assert caught.value.line == 1
    assert under_caret(caught.value) == caret


def test_a_channel_cell_is_a_name_and_a_block() -> None:
    decl = parse_channel_cell("rows  # kept", "good = [1]\nfrom_iterable(good)\n")

    assert (decl.name, decl.expression) == ("rows", None)
    assert (decl.block, decl.line) == ("good = [1]\nfrom_iterable(good)\n", 2)


@pytest.mark.parametrize(
    ("cell", "line", "message"),
    [
        ("x = of(1)\n", 2, "does not end in an expression"),
        ("\n", 1, "does not end in an expression"),
        ("a = 1\n!ls\n", 3, "a magic cannot run"),
        ("a = 1\nof(1 2)\n", 3, "SyntaxError"),
    ],
)
def test_a_channel_block_that_gives_no_channel_says_where(
    cell: str, line: int, message: str
) -> None:
    with pytest.raises(BodyError) as caught:
        parse_channel_cell("rows", cell)

    assert message in caught.value.message
    assert caught.value.line == line
