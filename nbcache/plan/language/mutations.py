"""Which calls change the object that they are made on: by how they are written."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from nbcache.plan.language.scopes import root_name, written

# Methods that change their object and return nothing worth having. Those in _ALSO_RETURN are, in
# some table libraries, functions that return a new object; so they count only as a statement of
# their own that is not the last one.
_ALSO_RETURN = frozenset("add clear reverse sort update".split())
_ALWAYS = frozenset("pop popitem popleft setdefault".split())
_MUTATORS = _ALSO_RETURN | _ALWAYS | frozenset(
    "append appendleft extend extendleft insert remove discard rotate difference_update "
    "intersection_update symmetric_difference_update insert_column setflags fill".split()
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutation:
    """A place where a body would change an object that it was given. Line and column as in ast."""

    name: str
    how: str
    line: int
    column: int
    deferred: bool  # in a function


def mutator_call(node: ast.expr, *, alone: bool, last: bool = False) -> tuple[str, str] | None:
    """Return the name whose object a call of one of its methods changes, and the call as written.

    alone: the call is a statement of its own; last: it is the last one. None: it is no such call.
    """
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    root, method = root_name(node.func), node.func.attr
    if root is None:
        return None
    if alone:
        counts = method in _MUTATORS - _ALWAYS
        if not counts or (method in _ALSO_RETURN and last):
            return None
        return root, f"{written(node.func)}(...)"
    inplace = any(
        each.arg == "inplace" and isinstance(each.value, ast.Constant) and each.value.value is True
        for each in node.keywords
    )
    if not inplace and method not in _ALWAYS:
        return None
    return root, f"{written(node.func)}({'inplace=True' if inplace else '...'})"
