"""What one scope of Python binds, and how names and targets are written: by syntax alone.

Pure functions over `ast` nodes, for the walk in `language.free_names`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(slots=True)
class Scope:
    kind: Literal["module", "class", "function", "comprehension", "parameters"]
    locals: frozenset[str] = frozenset()  # of functions, comprehensions and type parameters
    globals: frozenset[str] = frozenset()
    nonlocals: frozenset[str] = frozenset()


def dotted_chain(node: ast.expr) -> list[str] | None:
    """Return ["np", "linalg", "svd"] for np.linalg.svd, None where the root is no name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return [node.id, *reversed(names)]


def root_name(node: ast.expr) -> str | None:
    """Return the name behind attributes and subscripts, None where a call or other stands."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def written(node: ast.expr) -> str:
    """Write attributes and subscripts as in the source, with `[...]` for what is inside."""
    if isinstance(node, ast.Attribute):
        return f"{written(node.value)}.{node.attr}"
    if isinstance(node, ast.Subscript):
        return f"{written(node.value)}[...]"
    return node.id if isinstance(node, ast.Name) else "..."


_OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip


def operator_sign(node: ast.operator) -> str:
    return _OPERATORS[type(node)]


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a scope's body, in its order, without those of scopes inside it (their
    heads count)."""
    if isinstance(node, ast.Lambda):
        stack: list[ast.AST] = [node.body]
    else:
        stack = [*reversed(getattr(node, "body", []))]
    while stack:
        each = stack.pop()
        yield each
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack.extend(each.decorator_list)
            stack.extend(_head(each.args))
        elif isinstance(each, ast.ClassDef):
            stack.extend([*each.decorator_list, *each.bases, *each.keywords])
        elif isinstance(each, ast.Lambda):
            stack.extend(_head(each.args))
        elif isinstance(each, Comprehension):
            stack.extend(reversed(_walruses(each)))
        else:
            stack.extend(reversed([*ast.iter_child_nodes(each)]))


def _head(arguments: ast.arguments) -> list[ast.AST]:
    return [each for each in (*arguments.defaults, *arguments.kw_defaults) if each is not None]


def _walruses(node: ast.AST) -> list[ast.expr]:
    """Return the targets of `:=` in a comprehension: they are bound around it."""
    found: list[ast.expr] = []
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.NamedExpr):
            found.append(each.target)
        if not isinstance(each, _SCOPES):
            found += _walruses(each)
    return found


def function_scope(node: Function) -> Scope:
    arguments = node.args
    names = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None}
    declared: set[str] = set()
    outer: set[str] = set()
    for each in own_nodes(node):
        if isinstance(each, ast.Global):
            declared |= set(each.names)
        elif isinstance(each, ast.Nonlocal):
            outer |= set(each.names)
        else:
            names |= set(bound_by(each))
    return Scope(
        "function", frozenset(names - declared - outer), frozenset(declared), frozenset(outer)
    )


def bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node alone binds or deletes."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        for each in node.names:
            yield each.asname or each.name.partition(".")[0]
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def pattern_names(pattern: ast.pattern) -> Iterator[str]:
    for node in ast.walk(pattern):
        if isinstance(node, (ast.MatchAs, ast.MatchStar, ast.MatchMapping)):
            yield from bound_by(node)


def stored_names(target: ast.expr) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def type_parameters(node: ast.AST) -> list[str]:
    return [each.name for each in getattr(node, "type_params", [])]


def annotations_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    arguments = node.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    for each in (*every, arguments.vararg, arguments.kwarg):
        if each is not None and each.annotation is not None:
            yield each.annotation
    if node.returns is not None:
        yield node.returns
