"""Names that code looks up by a text, and what the text of a cell sets in modules."""

from __future__ import annotations

import ast

import pytest

from nbcache.plan.identity.looked_up import look_ups
from nbcache.plan.identity.module_settings import aliases_of, settings_in
from nbcache.plan.identity.named_in_text import names_told

NAMES = ("rate_a", "rate_b", "other")


def _names(code: str) -> list[str] | None:
    """Return which of NAMES some code may read; None: any."""
    found = list(look_ups(ast.parse(code), at_top=True))
    if any(each.pattern is None and each.how == "reads" for each in found):
        return None
    return [name for name in NAMES if any(each.matches(name) for each in found)]


@pytest.mark.parametrize(
    "code",
    [
        "globals()[f'rate_{k}']",
        "globals().get('rate_' + k)",
        "globals()['rate_%s' % k]",
        "globals()['rate_{}'.format(k)]",
        "f'rate_{k}' in globals()",
        "g = globals()\ng['rate_' + k]",
        "vars()['rate_' + k]",
        "import __main__ as m\ngetattr(m, 'rate_' + k)",
        "import __main__\nvars(__main__)['rate_' + k]",
        "f.__globals__['rate_' + k]",
        "eval(f'rate_{k} + 1')",
        "eval(f'rate_{k}', globals())",
        "exec(f'd = rate_{k}', globals(), {})",
        "eval(f'rate_{k}', {**globals(), 'a': 1})",
        "eval(f'rate_{k}', globals=dict(globals()))",
    ],
)
def test_what_stands_fixed_in_a_text_says_which_names_are_read(code: str) -> None:
    assert _names(code) == ["rate_a", "rate_b"]


@pytest.mark.parametrize(
    "code",
    [
        "globals()[k] = 1",
        "globals().update(x=1)",
        "locals().copy()",
        "f(**locals())",
        "'{rate_a}'.format(**globals())",
        "eval('rate_a', globals())",
        "[globals()[n] for n in ('rate_a', 'other')]",
        "def f():\n    return locals()[k]",
        "vars(thing)[k]",
        "del globals()[k]",
    ],
)
def test_what_is_written_or_seen_otherwise_is_no_look_up(code: str) -> None:
    assert _names(code) == []


def test_a_text_that_is_run_among_other_names_reads_none_of_these() -> None:
    assert _names("eval(f'rate_{k}', {'rate_a': 1})") == []


@pytest.mark.parametrize(
    "code", ["globals()[k]", "globals()[a + b]", "globals().get(k)", "f.__globals__[k]"]
)
def test_a_look_up_of_any_name_is_told(code: str) -> None:
    assert _names(code) is None


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("list(globals())", "given"),
        ("h(globals())", "given"),
        ("timeit('rate_a + 1', globals=globals())", "given"),
        ("eval(text, globals())", "given"),
        ("eval(text, {**globals(), 'v': v})", "given"),
        ("eval(text, globals() | {'v': v})", "given"),
        ("k in dir()", "whole"),
        ("globals().pop(k)", "whole"),
        ("globals().keys()", "whole"),
        ("types.FunctionType(f.__code__, f.__globals__)", "given"),
    ],
)
def test_code_with_all_names_at_hand_may_hand_them_on(code: str, how: str) -> None:
    assert [each.how for each in look_ups(ast.parse(code), at_top=True)] == [how]


@pytest.mark.parametrize(
    ("text", "names"),
    [("rate_a + 1", ["rate_a"]), ("a $other", ["other"]), ("no code", [])],
)
def test_a_text_tells_the_names_that_it_reads_when_it_is_run_or_filled_in(
    text: str, names: list[str]
) -> None:
    assert [*names_told(text)] == names


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("m.K = 1", [("m", ("K",))]),
        ("m.C.k += 1", [("m", ("C", "k"))]),
        ("m.D['a'] = 1", [("m", ("D", ("a",)))]),
        ("m.D[k] = 1", [("m", ("D",))]),
        ("del m.D['a']", [("m", ("D",))]),
        ("setattr(m, 'K', 1)", [("m", ("K",))]),
        ("m.L.append(1)", [("m", ("L",))]),
        ("m.D.update(a=1)", [("m", ("D", ("a",)))]),
        ("patch('a.b.c', 1)", [("a", ("b", "c"))]),
        ("mock.patch.object(m, 'K', 1)", [("m", ("K",))]),
        ("pd.set_option('a.b', 1, 'c', 2)", [("pd", ("set_option",))]),
        ("def f():\n    m.K = 1", [("m", ("K",))]),
        ("def f(m):\n    m.K = 1", []),
        ("vars(m)['K'] = 1", [("m", ("K",))]),
        ("vars(m).update(K=1)", [("m", ("K",))]),
        ("m.__dict__.update(d)", [("m", ())]),
        ("C.update(a=2)", [("C", (("a",),))]),
        ("L.append(5)", [("L", ())]),
        ("C[k] = 5", [("C", ())]),
        ("del m.K", [("m", ("K",))]),
        ("for k, v in d.items():\n    setattr(m, k, v)", [("m", ())]),
        ("plt.style.use('x')", [("plt", ("style", "use"))]),
        ("matplotlib.use('Agg')", []),
        ("np.set_printoptions(precision=3)", [("np", ("set_printoptions",))]),
        ("pl.Config.set_tbl_rows(3)", [("pl", ("Config", "set_tbl_rows"))]),
        ("use('x')\nset([1])", [("use", ())]),
        ("xr.set_options(keep_attrs=True)", [("xr", ("set_options",))]),
        ("xr.set_options(display_width=99)", []),
        ("m.getcontext().K = 1", [("m", ("getcontext", (), "K"))]),
        ("m.connect().K = 1", []),
        ("m.f(1)", []),
        ("np.seterr(all='ignore')", [("np", ("seterr",))]),
        ("def f():\n    seterr(all='ignore')", [("seterr", ())]),
        ("not python", []),
    ],
)
def test_the_text_of_a_cell_says_what_it_sets(
    text: str, places: list[tuple[str, tuple[object, ...]]]
) -> None:
    assert [(each.root, each.steps) for each in settings_in(text).settings] == places


def test_a_function_that_sets_is_known_by_another_name() -> None:
    imported = {"se": "numpy.seterr", "st": "matplotlib.style", "seterr": "numpy.seterr"}
    text = "se(all='raise')\nst.use('ggplot')\nother.use('x')\nnot_se(1)"

    found = settings_in(text, aliases_of(imported)).settings

    assert [(each.root, each.steps) for each in found] == [("se", ()), ("st", ("use",))]
