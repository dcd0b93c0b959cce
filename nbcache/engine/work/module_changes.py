"""Tell by its text whether the code of a task changes an installed module, which cannot be undone.

There is no event for an assignment into a module, nor for a registration there. Only code that a
task has is read: the body, and the functions that its pickle brings.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Collection, Iterable, Mapping, Set
from contextlib import suppress
from typing import Any

from nbcache.engine.spec import ProcessSpec
from nbcache.plan.identity.module_settings import (
    MUTATORS,
    SCOPES,
    imported_names,
    names_of_its_own,
    own_nodes,
)
from nbcache.plan.language.scopes import root_name

# What engine.isolation puts back by itself.
_RESTORED = frozenset({"matplotlib", "pandas", "numpy", "decimal", "logging", "os", "random"})


def task_changes_modules(
    process: ProcessSpec, values: Mapping[str, Any], codes: Iterable[types.CodeType]
) -> bool:
    """Say whether the body, or a function that it was sent, changes a module, so that later tasks
    would notice.

    `values` are the captured ones, `codes` those of the functions in their pickle. What else the
    cells of helpers do was done in the notebook.
    """
    captured = {
        name: value.__name__
        for name, value in values.items()
        if isinstance(value, types.ModuleType)
    }
    body = ast.parse(process.body)
    if _changes(body, captured | imported_names(ast.walk(body))):
        return True
    places: dict[str, set[tuple[int, str]]] = {}
    for code in codes:
        places.setdefault(code.co_filename, set()).add((code.co_firstlineno, code.co_name))
    for filename in places.keys() & process.sources.keys():
        with suppress(SyntaxError, ValueError, RecursionError):
            cell = ast.parse(process.sources[filename])
            names = captured | imported_names(ast.walk(cell))
            if any(_changes(each, names) for each in _functions_at(cell, places[filename])):
                return True
    return False


def _functions_at(cell: ast.Module, places: Set[tuple[int, str]]) -> list[ast.AST]:
    """Return the functions of a cell that begin at some lines under some names; all of them where
    these are not there, as in a file that was edited since."""
    found: dict[tuple[int, str], list[ast.AST]] = {}
    for node in ast.walk(cell):
        if isinstance(node, ast.Lambda):
            place = (node.lineno, "<lambda>")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.lineno, *(each.lineno for each in node.decorator_list))
            place = (min(lines), node.name)
        else:
            continue
        found.setdefault(place, []).append(node)
    wanted = places if places <= found.keys() else found.keys()
    return [node for place in wanted for node in found[place]]


def _changes(scope: ast.AST, imported: Mapping[str, str]) -> bool:
    """Say whether code changes what it imported: sets an attribute or item (`math.pi = 3`), or
    registers something there (`mimetypes.add_type`).

    `imported` are the names of modules, and of what is in them, with the full names. Modules whose
    settings are restored anyway do not count, nor do attributes of other objects, or names that a
    function binds to something else.
    """
    nodes = list(own_nodes(scope))
    own = names_of_its_own(scope, nodes) - imported_names(nodes).keys()
    imported = {name: full for name, full in imported.items() if name not in own}
    names = {name for name, full in imported.items() if full.partition(".")[0] not in _RESTORED}
    for node in nodes:
        if isinstance(node, SCOPES):
            if _changes(node, imported):
                return True
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            if not isinstance(node.ctx, ast.Load) and root_name(node) in names:
                return True
            if isinstance(node, ast.Attribute) and _registers(node.attr, root_name(node), imported):
                return True
        elif isinstance(node, ast.Name):
            full = imported.get(node.id, "")
            if "." in full and _registers(full.rpartition(".")[2], node.id, imported):
                return True
        elif isinstance(node, ast.Call) and _is_change(node, names):
            return True
    return False


# What functions are called that change a module for all who use it later.
_REGISTRARS = frozenset({"add_type", "addLevelName", "putenv", "unsetenv"})


def _registers(name: str, root: str | None, imported: Mapping[str, str]) -> bool:
    return root in imported and (name.startswith("register") or name in _REGISTRARS)


def _is_change(node: ast.Call, names: Collection[str]) -> bool:
    called = node.func
    if isinstance(called, ast.Name):
        return (
            called.id in ("setattr", "delattr")
            and bool(node.args)
            and root_name(node.args[0]) in names
        )
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Attribute)
        and called.attr in MUTATORS
        and root_name(called) in names
    )
