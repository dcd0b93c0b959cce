"""What code asks about other code: told by the names that it reads, not by those that it binds."""

from __future__ import annotations

import ast
import typing

import pytest

from nbcache.plan.identity.asked import annotated_names, asked_of_code, names_in_annotation
from nbcache.plan.identity.uses import uses_of


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("f.__doc__", {"docstrings"}),
        ("getattr(f, '__doc__')", {"docstrings"}),
        ("def g(): return __doc__", {"docstrings"}),
        ("from inspect import getdoc", {"docstrings"}),
        ("inspect.signature(f)", {"annotations"}),
        ("def g(): return inspect.getsource(f)", {"source"}),
        ("now.timestamp()", {"zone"}),
        ("f(x).timestamp()", {"zone"}),
        ("def g(t): return t.ctime()", {"zone"}),
        ("map(datetime.timestamp, v)", {"zone"}),
        ("import time as t\nt.tzname", {"zone"}),
        ("from time import ctime as c\nc(1)", {"zone"}),
        ("map(localtime, v)", {"zone"}),
        ("D.fromtimestamp", {"zone"}),
        ("E.timestamp", set()),
        ("df.timestamp.sum()", set()),
        ("def g(row): return row.ctime + row.localtime", set()),
        ("timestamp = 1\nctime = f(timestamp, ctime)", set()),
        ("class C:\n    'text'\n    x: int = 1", set()),
        ("print('signature')", set()),
    ],
)
def test_code_asks_by_what_it_reads(source: str, asked: set[str]) -> None:
    assert asked_of_code(uses_of(compile(source, "<test>", "exec"))) == asked


def test_names_in_annotations_are_found_in_texts_too() -> None:
    tree = ast.parse("def f(a: A, b: 'list[B]') -> 'C | None': x: D = 1")

    assert {"A", "B", "C", "D"} <= set(annotated_names(tree))


def test_names_in_annotations_are_found_in_forward_references() -> None:
    listed: object = list[typing.ForwardRef("A | None")]  # type: ignore[misc]
    assert set(names_in_annotation(listed)) == {"A"}
