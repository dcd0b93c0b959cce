"""Bodies: the names they take, how they end, what is refused and where."""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import pathlib
import random
import symtable
import sys
import sysconfig
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import BodyError
from nbcache.plan.language.bindings import AMBIENT
from nbcache.plan.language.body import analyse_body, split_body
from nbcache.plan.language.body_checks import check_body, check_script, infer_outputs
from nbcache.plan.language.facts import BodyFacts
from nbcache.plan.language.free_names import NameWalk
from nbcache.plan.language.header import parse_process_cell
from nbcache.plan.language.script import script_facts
from tests.exploring import examples


def facts(body: str) -> BodyFacts:
    return analyse_body(body)


def free(body: str) -> list[str]:
    return sorted(facts(body).free)


# Names


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = x + 1", "x"),
        ("x += 1", "x"),
        ("x = 1\nx += y", "y"),
        ("x: int\nprint(x)", "x"),
        ("x: np.ndarray = y", "np y"),
        ("if c: x = 1\nx", "c x"),
        ("if c: x = 1\nelse: x = 2\nx", "c"),
        ("if c: x = 1\nelse: raise E\nx", "E c"),
        ("for i in r: t = i\nt, i", "r"),
        ("for i in r:\n  if i: break\n  t = 1\nt", "r t"),
        ("for q in w: raise E\nz", "E w z"),
        ("while True:\n  a = f()\n  if a: break\na", "f"),
        ("while (chunk := f()): g(chunk)\nchunk", "f g"),
        ("def f(a, b=d): return a + b + g + h\nh = 1", "d g"),
        ("class C(B):\n  y = z\n  w = y\n  def m(self): return y", "B y z"),
        ("class C:\n  x = x", "x"),
        ("[a for a in b if c for d in a]", "b c"),
        ("[y := a for a in b]\ny", "b"),
        ("c and (x := 1)\nx", "c x"),
        ("(x := 1) if c else 2\nx", "c x"),
        ("try:\n import q\nexcept ImportError as e:\n q = e\nq", ""),
        ("try:\n x = f()\nexcept E: pass\nx", "E f x"),
        ("try:\n x = f()\nfinally:\n x.close()", "f"),
        ("with open(p) as fh: d = fh.read()\nd", "p"),
        ("match s:\n case [a, *b]: a, b\n case {'k': v, **r}: v, r\n case P(x=1) if q: 1", "P q s"),
        ("match s:\n case 1: x = 1\nx", "s x"),
        ("match s:\n case 1: x = 1\n case _: x = 2\nx", "s"),
        ("del df\ndf", "df"),
        ("def f():\n  global k\n  k += 1\nf()", "k"),
        ("lambda u, v=w: u + t", "t w"),
        ("import numpy as np, os.path\nfrom a import b as c\nnp.x, os, c", ""),
        ("def f():\n  def g():\n    nonlocal n\n    n = m\n  n = 0", "m"),
        ("def f(a: T) -> U:\n  x: V = 1", "T U"),
        ("from __future__ import annotations\ndef f(a: T) -> U: pass\nx: V = 1", ""),
        ("def f():\n  return [k for k in z if k in w]", "w z"),
        ("print(len(x)); display(y); __name__", "x y"),
        ("await a.b()", "a"),
        ("@dec\ndef f(): f()", "dec"),
        ("x[i] = y", "i x y"),
        ("f'{x!r:>{w}}'", "w x"),
        ("x = 1\ndef f(x=x): return x", ""),
        ("def a(): return b()\ndef b(): return 1\na()", ""),
    ],
)
def test_a_name_is_free_where_the_body_may_take_it_from_outside(body: str, expected: str) -> None:
    assert free(body) == expected.split()


def test_what_a_body_binds_imports_and_names_is_known() -> None:
    found = facts(
        "import numpy as np, os.path\nfrom helpers.io import load\nfrom x import *\n"
        "class C: pass\n"
        "def f():\n    import json\n    return np.linalg.svd(data.T), open('in.csv')\n"
        "out = f'{load}part'\n"
    )

    assert found.bound == {"np", "os", "load", "C", "f", "out"}
    assert found.imports == {"numpy", "os", "helpers", "x", "json"}
    assert found.modules == {"numpy", "os.path", "helpers.io", "x", "json"}
    assert found.stars == {"x"}
    assert found.classes == {"C"}
    assert found.builtins == {"open"}
    assert not found.uses_await


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("await f()", True),
        ("async with a as b: pass", True),
        ("async for a in b: pass", True),
        ("[a async for a in b]", True),
        ("async def f(): await g()", False),
    ],
)
def test_top_level_await_is_known(body: str, expected: bool) -> None:
    assert facts(body).uses_await is expected


# How a body ends


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("1 + 1", ["fit"]),
        ("score", ["score"]),
        ("(score)  # the result", ["score"]),
        ("x = 1\nscore = x", ["score"]),
        ("score: float = 1", ["score"]),
        ("score += 1", ["score"]),
        ("df['a'] = 1", []),
        ("a = b = 1", ["a"]),
        ("a['k'] = b = 1", []),
        ("a, b = 1, 2", []),
        ("score;", []),
        ("score = 1;", []),
        ("f();  # not kept", []),
        ("'a;'", ["fit"]),
        ("print(score)", []),
        ("plt.show()", []),
        ("None", []),
        ("score: float", []),
        ("for i in x: i", []),
        ("def f(): pass", []),
        ("import os", []),
    ],
)
def test_without_an_arrow_the_last_statement_says_what_the_output_is(
    body: str, outputs: list[str]
) -> None:
    decl = parse_process_cell("fit", body)

    assert [each.name for each in infer_outputs(decl, facts(body))] == outputs


# What is refused


@pytest.mark.parametrize(
    ("body", "line", "column", "message", "hint"),
    [
        ("x = 1\nreturn x", 5, 0, '"return" outside a function', "final expression"),
        ("for a in b:\n    return a", 5, 4, '"return" outside a function', "final expression"),
        ("é = 1; yield é", 4, 7, '"yield" outside a function', "flat_map"),
        ("!ls", 4, 0, "a magic cannot run inside a task: this is a shell command", "--bash"),
        ("x = 1\n  \n!ls 'a (\n", 6, 0, "this is a shell command", "subprocess"),
        ("files = !ls", 4, 0, "this is a shell command", "--bash"),
        ("%time f()", 4, 0, "a magic cannot run inside a task", "--bash"),
        ("if x:\n    %timeit f()", 5, 4, "a magic cannot run inside a task", "--bash"),
        ("t = %time f()", 4, 0, "a magic cannot run inside a task", "another cell"),
        ("df?", 4, 0, "a magic cannot run inside a task", "another cell"),
        ("?df", 4, 0, "a magic cannot run inside a task", "another cell"),
        ("%%bash\nls", 4, 0, "a magic cannot run inside a task", "--bash"),
        ("1\n%%process b(x)\n2", 5, 0, "a cell holds one process", "a cell of its own"),
        ("x = 1\nname = input('who? ')", 5, 7, "a task has no keyboard", "%nbcache try NAME"),
        ("def f(): return input()", 4, 16, "a task has no keyboard", "%nbcache try NAME"),
        ("x = 1\ny = (2,\n", 5, 4, "SyntaxError", None),
        ("s = '''\n!ls\n'''\na b", 7, 2, "SyntaxError", None),
        ('tag "$id"\ninput:\n  val id', 4, 4, "SyntaxError", "in the header here"),
        ("break", 4, 0, "SyntaxError: 'break' outside loop", None),
        ("def f():\n    await g()", 5, 4, "SyntaxError", None),
    ],
)
def test_what_cannot_run_as_a_task_is_refused_with_its_line_in_the_cell(
    body: str, line: int, column: int, message: str, hint: str | None
) -> None:
    with pytest.raises(BodyError) as caught:
        analyse_body(body, body_line=4)

    error = caught.value
    assert message in error.message
    assert (error.line, error.column) == (line, column)
    assert error.source == body.split("\n")[line - 4]
    assert (hint or "") in (error.hint or "")


@pytest.mark.parametrize("body", ["x = (a\n% b)", "'''\n!ls\n%time\n'''", "input = str\ninput(1)"])
def test_python_that_looks_like_a_magic_is_python(body: str) -> None:
    assert facts(body)


def test_a_keyboard_may_be_allowed() -> None:
    assert "input" in analyse_body("input()", keyboard=True).builtins


def test_a_function_of_the_body_named_like_a_builtin_is_called_without_complaint() -> None:
    assert facts("def f(): return input()\ndef input(): return 1\nf()").calls == ()


# Checks against the declaration


def check(header: str, body: str, captured: str = "") -> None:
    decl = parse_process_cell(header, body)
    check_body(decl, facts_of(header, body), captured.split())


def facts_of(header: str, body: str) -> BodyFacts:
    decl = parse_process_cell(header, body)
    return analyse_body(decl.body, body_line=decl.body_line)


def refusal(header: str, body: str, captured: str = "") -> BodyError:
    with pytest.raises(BodyError) as caught:
        check(header, body, captured)
    return caught.value


@pytest.mark.parametrize(
    ("body", "place", "how"),
    [
        ("df['a'] = 1", 0, "df[...] = ..."),
        ("y = 1\n  \ndf.loc[0, 'a'] += 1", 0, "df.loc[...] += ..."),
        ("df.name = 'a'", 0, "df.name = ..."),
        ("del df['a']", 4, "del df[...]"),
        ("x, df[0] = 1, 2", 3, "df[...] = ..."),
        ("df.append(1)\n1", 0, "df.append(...)"),
        ("df.a.b.update(x)\n1", 0, "df.a.b.update(...)"),
        ("y = df.pop()", 4, "df.pop(...)"),
        ("df.dropna(inplace=True)", 0, "df.dropna(inplace=True)"),
        ("for x in df:\n  df.remove(x)", 2, "df.remove(...)"),
        ("def f():\n  df['a'] = 1\nf()", 2, "df[...] = ..."),
        ("def f():\n  global df\n  df += 1\nf()", 2, "df += ..."),
        ("[df.setdefault(k, 1) for k in 'ab']", 1, "df.setdefault(...)"),
        ("if x: df = df.copy()\ndf['a'] = 1", 0, "df[...] = ..."),
    ],
)
def test_a_change_to_a_captured_object_is_refused(body: str, place: int, how: str) -> None:
    error = refusal("fit(x)", body, "df")

    assert error.message == (f'`{how}` would change a copy of "df", which comes from the notebook')
    assert error.column == place
    assert error.source is not None
    assert "df" in error.source
    assert "copy it first" in (error.hint or "")


@pytest.mark.parametrize(
    "body",
    [
        "df = df.copy()\ndf['a'] = 1",
        "df = list(df); df.append(1)",
        "def f(df): df.append(1)\nf([])",
        "def f():\n  df = []\n  df.append(1)\nf()",
        "[df.append(1) for df in x]",
        "for df in x: df['a'] = 1",
        "df.sort('a')",  # polars: the result is the output
        "y = df.update(1)",
        "df += 1\ndf",
        "df.dropna(inplace=False)",
        "df.copy().pop()",
        "df.mean()\n1",
    ],
)
def test_a_change_to_an_object_of_the_body_is_fine(body: str) -> None:
    check("fit(x)", body, "df")


def test_an_input_may_be_changed() -> None:
    check("fit(df)", "df['a'] = 1\ndf", "df")


def test_an_output_that_the_body_never_sets_points_into_the_header() -> None:
    error = refusal("fit(x) -> score, model from grid", "scores = x\nmodel = 1\n")

    assert error.message == 'output "score" is never set'
    assert (error.line, error.column) == (1, 20)
    assert error.source == "%%process fit(x) -> score, model from grid"
    assert 'did you mean "scores"?' in (error.hint or "")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("fit(x) -> score", "x + 1"),
        ("fit(x) -> x, score", "1"),
        ("fit(x) -> score", "if x: score = 1"),
        ("fit(x) -> score", "def f():\n  global score\n  score = 1\nf()"),
        ("fit(x) -> x, a: path, b: path = 'b*'", "open('a', 'w')\nimport os"),
        ("fit(x) -> score", "from helpers import *"),
        ("fit -> score, sample from grid", "score = 1"),  # sample may be a field of grid
    ],
)
def test_an_output_may_be_set_passed_through_or_left_to_the_final_expression(
    header: str, body: str
) -> None:
    check(header, body)


@pytest.mark.parametrize(
    ("header", "body", "name"),
    [
        ("fit(x) -> a, b", "x", "a"),
        ("fit(x) -> score", "x;", "score"),
        ("fit(x) -> score", "other = x", "score"),
    ],
)
def test_the_final_expression_is_the_value_of_one_output_only(
    header: str, body: str, name: str
) -> None:
    assert refusal(header, body).message == f'output "{name}" is never set'


@pytest.mark.parametrize(
    ("header", "body", "line"), [("fit -> C", "class C: pass", 1), ("fit", "class C: pass\nC", 3)]
)
def test_a_class_of_the_body_is_no_output(header: str, body: str, line: int) -> None:
    error = refusal(header, body)

    assert '"C" is a class defined in the body' in error.message
    assert error.line == line


def test_an_input_that_hides_a_builtin_which_the_body_calls_is_refused() -> None:
    error = refusal("fit(max, id)", "y = 1\nmax(1, 2) + id")

    assert 'the input "max" hides the builtin max()' in error.message
    assert (error.line, error.column) == (3, 0)
    check("fit(id)", "id + 1")


# Code for the worker


def test_a_body_is_split_into_statements_and_a_final_expression() -> None:
    split = split_body("x = 20\nx * 2 + 2\n", "<cell>", 3)
    namespace: dict[str, object] = {}

    exec(split.statements, namespace)

    assert split.expression is not None
    assert eval(split.expression, namespace) == 42


def test_tracebacks_name_the_lines_of_the_cell() -> None:
    split = split_body("x = 1\n\nx / 0", "<cell>", 5)
    namespace: dict[str, object] = {}
    exec(split.statements, namespace)
    assert split.expression is not None

    with pytest.raises(ZeroDivisionError) as caught:
        eval(split.expression, namespace)

    assert caught.traceback[-1].lineno + 1 == 7
    assert str(caught.traceback[-1].path) == "<cell>"


@pytest.mark.parametrize("body", ["x = 1", "x;", "if 1: 2"])
def test_a_body_that_ends_otherwise_is_all_statements(body: str) -> None:
    assert split_body(body, "<cell>", 1).expression is None


def test_top_level_await_gives_coroutines() -> None:
    split = split_body("import asyncio\nx = await asyncio.sleep(0, 40)\nx + await f()\n")
    namespace: dict[str, object] = {}

    async def two() -> int:
        return 2

    namespace["f"] = two

    async def run() -> object:
        await eval(split.statements, namespace)
        assert split.expression is not None
        return await eval(split.expression, namespace)

    assert asyncio.run(run()) == 42


def test_a_future_import_of_the_body_holds_and_ours_does_not() -> None:
    lazy, eager = (
        split_body(f"{head}def f(a: int): pass\nf.__annotations__['a']")
        for head in ("from __future__ import annotations\n", "")
    )
    results = []
    for split in (lazy, eager):
        namespace: dict[str, object] = {}
        exec(split.statements, namespace)
        assert split.expression is not None
        results.append(eval(split.expression, namespace))

    assert results == ["int", int]


# Scripts


def test_a_script_tells_its_variables_and_commands() -> None:
    found = script_facts(
        "# salmon\n"
        'set -e; n=$(wc -l < "$reads" | tr -d " ")\n'
        "for f in *.fq; do\n  gzip -c \"$f\" > out/$f.gz && echo 'rm x'\ndone\n"
        "if [ -f x ]; then samtools view x; fi\n"
        "export OUT=1; read -r first rest < file; arr=(a b) LC_ALL=C sort -u\n"
        "cat <<'END'\nnot_a_command here\nEND\n"
        'echo "$(bcftools view "$(basename x)")" 2>&1 | tee log\n'
        "ls | xargs -n 1 fastqc\nenv A=1 python3 script.py\n./helper.sh\n"
        "x=`date`\n"
    )

    assert found.variables == {"n", "f", "OUT", "first", "rest", "arr", "LC_ALL", "x"}
    assert set(found.commands) == set(
        "wc tr gzip samtools sort cat bcftools basename tee ls xargs fastqc env python3 "
        "./helper.sh date".split()
    )
    assert not found.opaque


def test_a_script_that_runs_text_is_opaque() -> None:
    assert script_facts("source env.sh\n").opaque
    assert script_facts("eval $x\n").opaque


@given(st.text(alphabet="ab \n'\"$(){}`|&;<>#=\\", max_size=40))
def test_no_script_makes_the_reader_fail(body: str) -> None:
    assert script_facts(body).commands is not None


def test_an_output_variable_that_a_script_never_assigns_is_refused() -> None:
    decl = parse_process_cell("size(x: path) -> x, bytes --bash", "byts=$(wc -c < $x)\n")

    with pytest.raises(BodyError) as caught:
        check_script(decl, script_facts(decl.body))

    assert caught.value.message == 'output "bytes" is never set'
    assert (caught.value.line, caught.value.column) == (1, 30)
    good = parse_process_cell("size(x) -> x, n, f: path --bash", "n=1\n")
    check_script(good, script_facts(good.body))


# Against Python's own symbol tables, and against what really happens


LIBRARY = pathlib.Path(sysconfig.get_paths()["stdlib"])
MODULES = (
    "argparse ast asyncio/base_events codecs configparser contextlib csv dataclasses datetime "
    "decimal enum fractions functools imaplib inspect json/decoder locale logging/__init__ pathlib "
    "pdb pickle platform pydoc random shutil ssl string subprocess textwrap threading typing "
    "urllib/parse weakref"
).split()


def tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from tables(child)


def comprehension_targets(text: str) -> set[str]:
    comprehensions = (
        each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.comprehension)
    )
    return {
        name.id
        for each in comprehensions
        for name in ast.walk(each.target)
        if isinstance(name, ast.Name)
    }


def test_names_agree_with_pythons_symbol_tables_on_the_standard_library() -> None:
    compared = 0
    for module in MODULES:
        path = LIBRARY / f"{module}.py"
        if not path.exists():  # some modules come and go with the Python version
            continue
        text = path.read_text(encoding="utf-8")
        top = symtable.symtable(text, str(path), "exec")
        read: set[str] = set()
        bound = {
            each.get_name()
            for each in top.get_symbols()
            if each.is_assigned() or each.is_imported() or each.is_namespace()
        }
        for table in tables(top):
            for each in table.get_symbols():
                inside = table is not top and each.is_global()
                if each.is_referenced() and (table is top or inside):
                    read.add(each.get_name())
                if (
                    inside
                    and each.is_declared_global()
                    and (each.is_assigned() or each.is_imported())
                ):
                    bound.add(each.get_name())
        walk = NameWalk()
        walk.run(ast.parse(text))

        # From 3.12 on, a comprehension at the top has its variables in the module's own table.
        inlined = comprehension_targets(text) if sys.version_info >= (3, 12) else set()
        assert set(walk.bound) - inlined == bound - inlined, module
        assert set(walk.free) - bound == read - bound - AMBIENT, module
        assert set(walk.free) <= read, module
        compared += 1
    assert compared > 20


class Outside(dict[str, object]):
    """A namespace that tells which names were asked for before anybody had bound them."""

    def __init__(self, seed: int) -> None:
        super().__init__(__builtins__=builtins, nullcontext=contextlib.nullcontext)
        self.random = random.Random(seed)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> object:
        if name not in self:
            if hasattr(builtins, name):
                raise KeyError(name)
            self.asked.add(name)
            self[name] = self.random.randint(0, 2)
        return super().__getitem__(name)


NAME = st.sampled_from("abcd")
EXPRESSION = st.recursive(
    st.one_of(NAME, st.sampled_from("012")),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]} + {two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]} and {two[1]})"),
        st.tuples(inner, inner, inner).map(lambda all_: "({} if {} else {})".format(*all_)),
        st.tuples(NAME, inner).map(lambda two: f"({two[0]} := {two[1]})"),
        st.tuples(inner, NAME).map(lambda two: f"sum([{two[0]} for {two[1]} in (1,)])"),
    ),
    max_leaves=5,
)


def indented(block: str) -> str:
    return "".join(f"    {line}\n" for line in block.splitlines())


FORMS = (
    "{one}{two}",
    "if {test}:\n    {in_one}",
    "if {test}:\n    {in_one}else:\n    {in_two}",
    "for {name} in (1, 2):\n    {in_one}",
    "for i in (1, 2):\n    {in_one}    if {test}: break\n    {in_two}",
    "for i in (1, 2):\n    if {test}: continue\n    {in_one}else:\n    {in_two}",
    "try:\n    {in_one}    1 / {test}\nexcept ZeroDivisionError:\n    {in_two}",
    "match {test}:\n  case 1 as m:\n    {in_one}  case n:\n    {in_two}",
    "with nullcontext(1) as {name}:\n    {in_one}",
)


def build(parts: tuple[str, str, str, str, str]) -> str:
    form, name, test, one, two = parts
    inside = {key: indented(text)[4:] for key, text in (("in_one", one), ("in_two", two))}
    return form.format(name=name, test=test, one=one, two=two, **inside)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(FORMS), NAME, EXPRESSION, inner, inner).map(build)


STATEMENT = st.one_of(
    st.tuples(NAME, EXPRESSION).map(lambda two: f"{two[0]} = {two[1]}\n"),
    st.tuples(NAME, EXPRESSION).map(lambda two: f"{two[0]} += {two[1]}\n"),
    EXPRESSION.map(lambda one: one + "\n"),
)


BLOCK = st.recursive(STATEMENT, compound, max_leaves=4)


@examples(150)
@given(st.lists(compound(BLOCK), min_size=1, max_size=3).map("".join), st.integers(0, 5))
def test_every_name_that_a_running_body_takes_from_outside_is_free(body: str, seed: int) -> None:
    body += "a, b, c, d\n"  # so that what was not surely bound is asked for
    namespace = Outside(seed)
    try:
        code = compile(body, "<body>", "exec")
    except SyntaxError:
        return  # `:=` to a comprehension's own name
    exec(code, namespace)

    assert namespace.asked <= facts(body).free
