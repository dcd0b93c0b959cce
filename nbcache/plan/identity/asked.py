"""What code may ask that is no part of what it does: docstrings, the time zone of the machine.

Comments, docstrings and the values of annotations do not count, nor where a task runs, except where
some code that is reached looks at it. Told by the names that it uses; reading nothing, deciding
nothing else.
"""

from __future__ import annotations

import ast
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Literal

from nbcache.plan.identity.uses import Uses

Asked = Literal["docstrings", "annotations", "source", "zone", "locale"]

_WORDS: dict[Asked, frozenset[str]] = {
    "docstrings": frozenset({"__doc__", "getdoc", "get_docstring"}),
    "annotations": frozenset(
        "__annotations__ __annotate__ get_type_hints get_annotations signature "
        "getfullargspec".split()
    ),
    "source": frozenset("getsource getsourcelines getcomments findsource".split()),
    "zone": frozenset("fromtimestamp astimezone mktime altzone tzlocal get_localzone".split()),
    "locale": frozenset("setlocale getlocale localeconv strcoll strxfrm nl_langinfo".split()),
}
_OF_CLOCKS = frozenset({"localtime", "ctime", "tzname"})  # of the module `time`
_ALSO_OF_DATA = _OF_CLOCKS | {"timestamp"}  # columns and fields are called so, too
_CLOCKS = frozenset({"time", "datetime", "date", "Timestamp"})


def asked_of_code(uses: Uses) -> set[Asked]:
    """Return what code asks, or may ask about other code through a text (`getattr`)."""
    words = uses.read | {each for each in uses.texts if each.startswith("__")}
    found = {each for each, names in _WORDS.items() if not names.isdisjoint(words)}
    return found | {"zone"} if _asks_clock(uses) else found


def _asks_clock(uses: Uses) -> bool:
    """Say whether code asks for the zone by a name that data may have, too: `.timestamp()` does,
    the column `df.timestamp` does not."""
    clocks: set[str] = set(_CLOCKS)
    imported: set[str] = set()
    for each in uses.imports:
        if each.module in ("time", "datetime"):
            clocks.update(each.targets)
            imported.update(each.names)
    by_name = _OF_CLOCKS & (imported | (uses.names.keys() - uses.stored))
    return bool(by_name) or any(
        name in _ALSO_OF_DATA and (called or before in clocks)
        for before, name, called in uses.members
    )


def annotations_of(thing: type | types.FunctionType) -> Mapping[str, object]:
    """Return the own annotations of a function or class.

    From Python 3.14 on they are evaluated when somebody asks: where that fails, as it does for a
    name that is defined later, they are the texts that were written.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        try:
            return get_annotations(thing)
        except Exception:
            return get_annotations(thing, format=Format.STRING)
    found: Mapping[str, object] = (
        vars(thing).get("__annotations__", {}) if isinstance(thing, type) else thing.__annotations__
    )
    return found


def annotated_names(node: ast.AST) -> Iterator[str]:
    """Yield the names in the annotations below a syntax tree, also where they are texts."""
    for each in ast.walk(node):
        for annotation in (getattr(each, "annotation", None), getattr(each, "returns", None)):
            if isinstance(annotation, ast.expr):
                yield from _names_in(annotation)


def names_in_annotation(annotation: object) -> Iterator[str]:
    """Yield the names in the texts of an annotation: it is one, or holds some (`list["Node"]`)."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        for each in getattr(annotation, "__args__", ()):
            yield from names_in_annotation(each)
        return
    try:
        yield from _names_in(ast.parse(annotation, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError):
        return


def _names_in(node: ast.expr) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield from names_in_annotation(each.value)
