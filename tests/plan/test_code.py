"""The canonical form of code: what it leaves out and keeps, and where a function stands."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.plan.identity.code import encode_code, encode_constant, find_function, normalise
from nbcache.plan.identity.uses import uses_of

EQUAL = [
    ("x=1", "x = 1  # one"),
    ("'a'\nx = 1", '"""b"""\nx = 1'),
    ("x = 'a' 'b'", "x = 'ab'"),
    ("x = u'a'", "x = 'a'"),
    ("x = 0x10", "x = 16"),
    ("x = (1)", "x = 1"),
    ("if a:\n  b\nelse:\n  c", "if a: b\nelse: c"),
    ("def f(): 'a'", "def f(): pass"),
    ("x = f(a,b,)", "x = f(a, b)"),
    ("x = r'\\d'", "x = '\\\\d'"),
    ("elif_ = 1", "elif_=1"),
]
DIFFERENT = [
    ("x = 1", "x = 1.0"),
    ("x = 1", "x = True"),
    ("x = '1'", "x = b'1'"),
    ("x = 0.0", "x = -0.0"),
    ("x = None", "x = ..."),
    ("x = 1j", "x = 1"),
    ("'a'", "'b'"),
    ("x = 1\n'a'", "x = 1\n'b'"),
    ("def f():\n  x\n  'a'", "def f():\n  x\n  'b'"),
    ("x = [a, [b]]", "x = [[a], b]"),
    ("f(a=b)", "f(b=a)"),
    ("{**a, 'b': c}", "{'b': c, **a}"),
    ("match x:\n case None: y", "match x:\n case False: y"),
    ("def f(*, a): pass", "def f(a): pass"),
    ("def f(a, /): pass", "def f(a): pass"),
    ("from . import a", "from .. import a"),
    ("from . import a", "import a"),
    ("async def f(): pass", "def f(): pass"),
    ("[x async for x in y]", "[x for x in y]"),
    ("a < b < c", "a < b and b < c"),
    ("x: int", "x: int = 1"),
    ("f'{x}'", "f'{x!s}'"),
    ("f'{x}'", "f'{{x}}'"),
    ("del a, b", "del (a, b)"),
    ("assert a, b", "assert (a, b)"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_layout_and_spelling_are_left_out(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_all_that_has_a_meaning_is_kept(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_docstrings_count_on_demand() -> None:
    assert normalise("'a'\nx", docstrings=True) != normalise("'b'\nx", docstrings=True)


def test_a_long_chain_of_operators_is_no_fault() -> None:
    tree = ast.parse("x")
    for _ in range(20_000):
        statement = tree.body[0]
        assert isinstance(statement, ast.Expr)
        statement.value = ast.UnaryOp(ast.Not(), statement.value)

    assert normalise(tree).count(b"Not") == 20_000


def test_the_tree_is_not_changed() -> None:
    tree = ast.parse("def f():\n    'doc'\n    return 1")
    before = ast.dump(tree)

    normalise(tree)

    assert ast.dump(tree) == before


_constants = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)  # fmt: skip


@given(_constants, _constants)
def test_two_constants_are_encoded_alike_only_if_they_are_the_same(
    one: object, other: object
) -> None:
    same = repr(one) == repr(other)  # tells 1, 1.0, True, -0.0 and 0.0 apart

    assert (encode_constant(one) == encode_constant(other)) == same


def _functions(source: str, name: str = "<cell>") -> dict[str, object]:
    space: dict[str, object] = {}
    exec(compile(source, name, "exec"), space)
    return space


def _found(source: str, name: str) -> str | None:
    function = _functions(source)[name]
    found = find_function(function.__code__, lambda _: source)  # type: ignore[attr-defined]
    return None if found is None else found[1]


def test_lambdas_on_one_line_are_told_apart() -> None:
    source = "a, b = lambda x: x + 1, lambda x: x + 2"

    assert _found(source, "a") == "lambda x: x + 1"
    assert _found(source, "b") == "lambda x: x + 2"


def test_a_lambda_inside_a_lambda_is_told_apart() -> None:
    source = "a = lambda x: lambda y: x + y\nb = a(1)"

    assert _found(source, "a") == "lambda x: lambda y: x + y"
    assert _found(source, "b") == "lambda y: x + y"


def test_the_later_of_two_functions_of_one_name_is_found() -> None:
    assert _found("def f(): return 1\ndef f(): return 2", "f") == "def f(): return 2"


def test_a_source_that_is_not_what_was_compiled_is_not_believed() -> None:
    function = _functions("def f(): return 1")["f"]
    code = function.__code__  # type: ignore[attr-defined]

    assert find_function(code, lambda _: "def f(): return 2") is None
    assert find_function(code, lambda _: "def f(: return") is None
    assert find_function(code, lambda _: None) is None


def test_code_without_source_leaves_out_places_and_docstring() -> None:
    def code(source: str, docstring: str | None = None) -> bytes:
        function = _functions(source)["f"]
        return encode_code(function.__code__, docstring=docstring)  # type: ignore[attr-defined]

    plain = code("def f(v): return v + 1000")
    assert plain == code("\n\n\ndef f(v):\n    # why\n    return v + 1000")
    assert plain == code("def f(v):\n    'doc'\n    return v + 1000", "doc")
    assert plain != code("def f(v): return v + 1000.0")
    assert plain != code("def f(v): return v - 1000")
    assert plain != code("def f(w): return w + 1000")


def test_names_are_read_with_the_attributes_read_off_them() -> None:
    uses = uses_of(compile("def f(x):\n    return a.b.c(x) + [d(i) for i in e] + x.g", "", "exec"))

    assert uses.names == {"a": {("b", "c")}, "d": {()}, "e": {()}}


def test_imports_are_read_with_what_they_bind() -> None:
    source = "import a.b\nimport c.d.e as f\nfrom g import h as i, j\nfrom . import k"
    uses = uses_of(compile(source, "", "exec"))

    assert [(each.module, each.level, each.names, each.targets) for each in uses.imports] == [
        ("a.b", 0, (), ("a",)),
        ("c.d.e", 0, (), ("f",)),
        ("g", 0, ("h", "j"), ("i", "j")),
        ("", 1, ("k",), ("k",)),
    ]
    assert [each.aliased for each in uses.imports] == [False, True, True, True]


def test_a_function_is_found_in_a_cell_that_was_compiled_statement_by_statement() -> None:
    source = "import math\ndef double(x):\n    return math.floor(x) * 2\n"
    names: dict[str, object] = {}
    for node in ast.parse(source).body:  # as IPython does: the code differs from a module's
        exec(compile(ast.Module([node], []), "<cell>", "exec", dont_inherit=True), names)

    found = find_function(names["double"].__code__, lambda _: source)  # type: ignore[attr-defined]

    assert found is not None
    assert found[1].startswith("def double")
