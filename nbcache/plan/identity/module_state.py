"""Tell settings of a local module from what its code keeps there: caches, counters, registries.

A setting is plain data: a name that the module binds once, to a literal, and that code which counts
reads and never changes. By the text, and best effort: in doubt a name is no setting.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

from nbcache.plan.language.mutations import MUTATORS
from nbcache.plan.language.scopes import root_name

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_LOOKING = frozenset(
    "len bool list tuple set frozenset dict sorted sum min max any all enumerate zip str repr "
    "print isinstance type".split()
)


def literals_of(node: ast.stmt) -> dict[str, object]:
    """Return the names that a statement binds to a literal."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return {}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = ast.literal_eval(node.value)
        return {each.id: value for each in targets if isinstance(each, ast.Name)}
    return {}


def levels_of(value: object) -> int | None:
    """Return how many levels of containers that can be changed there are; None: no plain data."""
    if type(value) in _SCALARS:
        return 0
    if type(value) not in (list, tuple, set, frozenset, dict):
        return None
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    highest = 0
    for each in parts:  # type: ignore[attr-defined]
        found = levels_of(each)
        if found is None:
            return None
        highest = max(highest, found)
    return highest + (type(value) in (list, set, dict) or highest > 0)


def is_same(one: object, other: object) -> bool:
    """Say whether two values are the same plain data; the code of no foreign object is asked."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple | dict | set | frozenset):
        if len(one) != len(other):  # type: ignore[arg-type]
            return False
        if isinstance(one, list | tuple):
            return all(map(is_same, one, other))  # type: ignore[call-overload]
        if isinstance(one, dict):
            return is_same([*one.items()], [*other.items()])  # type: ignore[attr-defined]
    if levels_of(one) is None:
        return False
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))  # type: ignore[call-overload]
    return one == other and repr(one) == repr(other)  # 0.0 and -0.0


@lru_cache(maxsize=16384)
def may_change(text: str, name: str, levels: int, *, by_name: bool, roots: frozenset[str]) -> bool:
    """Say whether code binds a name of a module anew, or may change the container that it holds.

    by_name: the code has it under this name, else as an attribute below `roots`.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError:  # it begins within a line
        return True
    above = {below: node for node in ast.walk(tree) for below in ast.iter_child_nodes(node)}
    for node in above:
        if isinstance(node, ast.Global) and by_name and name in node.names:
            return True
        is_it = isinstance(node, ast.Attribute) and node.attr == name and root_name(node) in roots
        if isinstance(node, ast.Name) and by_name and node.id == name:
            is_it = isinstance(node.ctx, ast.Load)  # what is set, not global, is the function's own
        if is_it and not _only_looks(node, above, levels):
            return True
    return False


def _only_looks(node: ast.AST, above: Mapping[ast.AST, ast.AST], levels: int) -> bool:
    """Say whether a read of so many levels of containers leaves all of them as they are."""
    while levels:
        around = above[node]
        if isinstance(around, ast.Subscript) and around.value is node:
            if not isinstance(around.ctx, ast.Load):
                return False
            levels -= not isinstance(around.slice, ast.Slice)
        elif isinstance(around, ast.Attribute):
            method, around = around.attr, above[around]
            if method in MUTATORS or not isinstance(around, ast.Call):
                return False
            if method != "get":
                return levels == 1
            levels -= 1
        else:
            return _is_look(around, node) and (levels == 1 or isinstance(around, ast.Compare))
        node = around
    return True


def _is_look(around: ast.AST, node: ast.AST) -> bool:
    match around:
        case ast.Compare() | ast.BinOp() | ast.UnaryOp() | ast.FormattedValue() | ast.Starred():
            return True
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            return around.iter is node
        case ast.If() | ast.IfExp() | ast.While() | ast.Assert():
            return around.test is node
        case ast.Dict():
            return any(
                key is None and value is node
                for key, value in zip(around.keys, around.values, strict=True)
            )
        case ast.keyword():
            return around.arg is None
        case ast.Call(func=ast.Name(id=called)):
            return called in _LOOKING
    return False
