"""Read a `%%cached` cell: its header, the names that come back, what is defined and not kept.

Pure. Imports, functions and classes of the cell are executed again on a hit, in the notebook's
own names, since a kept function would live in names of its own; what the cell assigns is kept.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeGuard

from nbcache.errors import BodyError, HeaderError, NotKept, OptionError
from nbcache.model.process import Directives, Output, ProcessDecl
from nbcache.plan.language.body import analyse_body
from nbcache.plan.language.facts import BodyFacts
from nbcache.plan.language.header import parse_process_cell
from nbcache.plan.language.header_text import split_above
from nbcache.plan.language.parts import is_empty
from nbcache.plan.language.scopes import bound_by, own_nodes, stored_names

_HEADER = re.compile(r"\s*(?P<names>.*?)\s*(?P<options>(?<!\S)--\w.*)?\Z", re.DOTALL)
_OPTION = re.compile(r"(?<!\S)--([\w-]+)")
_OPTIONS = "%%cached takes --env and --ignore, and no other option"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True, slots=True)
class CachedCell:
    """A cell as read. `names` are kept; `bound` is all that it assigns, temporary names too, and
    `unsure` those of them that it may leave as they were, or delete again; `definitions` are its
    statements that are executed on a hit, with the lines of the cell, and `gone` what it binds and
    deletes again."""

    decl: ProcessDecl
    facts: BodyFacts
    names: tuple[str, ...]
    bound: frozenset[str]
    definitions: tuple[ast.stmt, ...]
    gone: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """What the history calls the cell: its first name that is kept, else `cell`."""
        return self.names[0] if self.names else "cell"


def parse_cached_cell(
    line: str, body: str, *, cell_name: str, filename: str, line_above: int = 0
) -> CachedCell:
    """Read a cell: `line` follows `%%cached`, `body` is everything below; `line_above` are the
    lines that stand above.

    Raises:
        HeaderError, OptionError: the header is wrong. NotKept: the cell can run, but what it makes
            cannot be told from its text; says why.
    """
    _, line = split_above(line)
    header = _HEADER.match(line.partition("#")[0].rstrip())
    assert header is not None
    asked = _names(header["names"])
    if not {"env", "ignore"}.issuperset(_OPTION.findall(header["options"] or "")):
        raise HeaderError(_OPTIONS)
    if is_empty(body.split("\n")):
        raise HeaderError("%%cached: there is no code below it whose results could be kept")
    try:
        decl = parse_process_cell(
            f" cell {header['options'] or ''}", body, cell_name=cell_name, filename=filename
        )
    except OptionError as error:
        if error.line == 1:  # of the line as it was read, not as it was written
            error.source, error.column = f"%%cached {line.strip()}", None
        raise
    decl = replace(decl, body_line=decl.body_line + line_above)
    known = Directives(env=decl.directives.env, ignore=decl.directives.ignore)
    if decl.directives != known or decl.language != "python":
        raise HeaderError(_OPTIONS)
    try:
        facts = analyse_body(decl.body, body_line=decl.body_line, cell_name=cell_name)
    except BodyError as error:
        raise NotKept(_why_not(error)) from None
    tree = ast.parse(decl.body)
    definitions = tuple(each for each in tree.body if _is_definition(each))
    defined = {name for each in definitions for name in _bound_by(each)}
    others = [each for each in tree.body if each not in definitions]
    assigned = {name for each in others for name in _bound_by(each)}
    if twice := sorted(defined & assigned):
        raise NotKept(f"it both defines {twice[0]} and assigns to it")
    deleted = {name for each in others for name in _deleted(each)}
    caught = {n.name for n in _nodes(*others) if isinstance(n, ast.ExceptHandler) and n.name}
    if strange := sorted(deleted - assigned - defined - caught):
        raise NotKept(f"it deletes {strange[0]}, which it does not assign")
    passing = {name for each in others for name in _passing(each)}
    if unknown := sorted(set(asked) - assigned - defined):
        raise HeaderError(f"%%cached {unknown[0]}: the cell never assigns {unknown[0]}")
    kept = [name for name in asked if name not in defined] or [
        name
        for name in _in_order(others, assigned)
        if not asked and name not in passing and name[:1] != "_"
    ]
    outputs = tuple(Output(name) for name in kept)
    for each in definitions:
        ast.increment_lineno(each, decl.body_line - 1)
    return CachedCell(
        replace(decl, outputs=outputs),
        facts,
        tuple(kept),
        frozenset(assigned),
        definitions,
        frozenset(name for name in deleted if _ends_deleted(name, tree.body, name in defined)),
        frozenset(assigned - _surely_assigned(others) | deleted),
    )


def _surely_assigned(statements: list[ast.stmt]) -> set[str]:
    """Return the names of which it takes no look at what happens to say that they are assigned."""
    targets: list[ast.expr] = []
    for each in statements:
        if isinstance(each, ast.Assign):
            targets += each.targets
        elif isinstance(each, ast.With | ast.AsyncWith):
            targets += [item.optional_vars for item in each.items if item.optional_vars]
        elif isinstance(each, ast.AugAssign) or (isinstance(each, ast.AnnAssign) and each.value):
            targets.append(each.target)
    return {name for target in targets for name in stored_names(target)}


def _ends_deleted(name: str, statements: list[ast.stmt], is_defined: bool) -> bool:
    """Say whether the last statement that binds or deletes a name deletes it, always."""
    last = next(
        each for each in reversed(statements) if name in {*_bound_by(each), *_deleted(each)}
    )
    return name in _deleted(last) and (is_defined or isinstance(last, ast.Delete))


def _deleted(statement: ast.stmt) -> set[str]:
    return {node.id for node in _nodes(statement) if _is_deletion(node)}


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    for name in names:
        if not name.isidentifier():
            raise HeaderError(f"%%cached takes names, joined by commas, and not {name!r}")
    return names


def _why_not(error: BodyError) -> str:
    where = f"line {error.line}: " if error.line is not None else ""
    if "magic" in error.message:
        return f"{where}what a magic or a command reads and changes is not seen"
    return where + error.message


def _is_definition(statement: ast.stmt) -> bool:
    if isinstance(statement, (*_FUNCTIONS, *_IMPORTS)):
        return True
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, ast.Lambda)
    if isinstance(statement, ast.If | ast.Try):
        inner = [*statement.body, *statement.orelse, *getattr(statement, "finalbody", ())]
        inner += [each for one in getattr(statement, "handlers", ()) for each in one.body]
        return all(isinstance(each, (*_IMPORTS, ast.Pass)) for each in inner)
    return False


def _nodes(*statements: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of statements of a module, in their order, without those of inner scopes."""
    return own_nodes(ast.Module([*statements], []))


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    for node in _nodes(statement):
        if not isinstance(node, ast.ExceptHandler) and not _is_deletion(node):
            yield from bound_by(node)


def _is_deletion(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del)


def _passing(statement: ast.stmt) -> Iterator[str]:
    """Yield names that hold something for the length of a block only: what `with` opens."""
    for node in _nodes(statement):
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                for target in ast.walk(item.optional_vars) if item.optional_vars else ():
                    if isinstance(target, ast.Name):
                        yield target.id


def _in_order(statements: list[ast.stmt], names: set[str]) -> list[str]:
    found = dict.fromkeys(name for each in statements for name in _bound_by(each))
    return [name for name in found if name in names]
