"""Reading a `%%cached` cell: which names are kept, what is defined, what cannot be told."""

from __future__ import annotations

import pytest

from nbcache.errors import HeaderError, NotKept
from nbcache.plan.language.cell import CachedCell, parse_cached_cell


def read(body: str, line: str = "") -> CachedCell:
    return parse_cached_cell(line, body, cell_name="cell [1]", filename="<cell>")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("x = 1\ny = x", ("x", "y")),
        ("x, (y, *z) = f()", ("x", "y", "z")),
        ("for i in range(3):\n    if i: total = i", ("i", "total")),
        ("with open('f') as file:\n    text = file.read()", ("text",)),
        ("import math, os.path as p\nx = math.pi", ("x",)),
        ("def f(): y = 1\nx = f()", ("x",)),
        ("class C:\n    y = 1\nx = C()", ("x",)),
        ("key = lambda row: row[0]\nx = sorted(t, key=key)", ("x",)),
        ("try:\n    import numpy\nexcept ImportError:\n    pass\nx = 1", ("x",)),
        ("x = [y for y in t]", ("x",)),
        ("if (n := len(t)) > 3: print(n)", ("n",)),
        ("_tmp = 1\nx = _tmp", ("x",)),
        ("x += 1", ("x",)),
        ("match t:\n    case [first, *rest]: pass", ("first", "rest")),
        ("match t:\n    case {'a': 1, **rest}: pass", ("rest",)),
        ("x = [y for n in t if (y := n) > (z := 3)]", ("x", "y", "z")),
        ("print(1)", ()),
    ],
)
def test_what_a_cell_assigns_is_kept_and_what_it_defines_is_not(
    body: str, names: tuple[str, ...]
) -> None:
    assert read(body).names == names


def test_with_names_only_they_are_kept() -> None:
    cell = read("x = 1\ny = 2\n_z = 3", " y, _z")

    assert cell.names == ("y", "_z")
    assert cell.bound == {"x", "y", "_z"}
    assert cell.name == "y"


def test_a_cell_that_assigns_nothing_is_called_cell() -> None:
    assert read("print(1)").name == "cell"


def test_the_header_takes_options_and_a_remark() -> None:
    cell = read("x = 1", " x --env HOME --ignore log  # why not")

    assert cell.names == ("x",)
    assert cell.decl.directives.env == ("HOME",)
    assert cell.decl.directives.ignore == ("log",)


@pytest.mark.parametrize("line", [" nope", " x y", " x --cpus 3", " 3"])
def test_a_wrong_header_is_an_error(line: str) -> None:
    with pytest.raises(HeaderError):
        read("x = 1", line)


@pytest.mark.parametrize("option", ["--frehs", "--bash", "--env A --cpus 2"])
def test_another_option_is_an_error_that_names_those_that_there_are(option: str) -> None:
    with pytest.raises(HeaderError, match="takes --env and --ignore"):
        read("x = 1", f" x {option}")


def test_a_cell_without_code_is_an_error_of_its_own_magic() -> None:
    with pytest.raises(HeaderError, match="%%cached: there is no code below it"):
        read("# later\n", "")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("!ls\nx = 1", "line 2: what a magic or a command reads"),
        ("x = 1\n%time y = 2", "line 3: what a magic or a command reads"),
        ("def f(): pass\nf = cache(f)", "both defines f and assigns to it"),
        ("x = input()", "line 2"),
    ],
)
def test_what_cannot_be_told_from_the_text_is_not_kept(body: str, why: str) -> None:
    with pytest.raises(NotKept, match=why):
        read(body)
