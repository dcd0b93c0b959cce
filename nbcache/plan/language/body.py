"""Read a Python body: its facts, its faults with their lines, and its code.

The rules are those of a notebook cell: module scope, top-level `await`, and a final expression that
is the result. Lines in facts and errors are those of the cell as written. Runs nothing.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from types import CodeType
from typing import NoReturn

from nbcache.errors import BodyError
from nbcache.plan.language.facts import BodyFacts, BodyResult, SplitBody
from nbcache.plan.language.free_names import NameWalk
from nbcache.plan.language.nextflow import BLOCKS_HINT, is_block
from nbcache.plan.language.scanning import line_of, logical_lines

_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FUTURES = 0x0FFF0000 | 0x1000000  # CO_FUTURE_* in a code object's flags
_MAGIC = re.compile(r"\s*(%%?\w|!|\?+\s*\w)|[^#'\"]*\S\?\??\s*(#.*)?$|\s*[\w., ]+=\s*(%\w|!)")
_SILENT = frozenset({"print", "display"})
_KEYBOARD = "a task has no keyboard"


def parse_body(body: str, body_line: int = 1, filename: str = "<process>") -> ast.Module:
    """Return the syntax tree of a body (its own lines, from 1).

    Raises:
        BodyError: a magic stands in it, or it is no Python; with the line of the cell.
    """
    try:
        return ast.parse(body, filename)
    except SyntaxError as error:
        _refuse_magics(body, body_line)
        _refuse_syntax(error, body, body_line)
    except (ValueError, RecursionError, MemoryError) as error:
        raise BodyError(f"the body cannot be read: {error}", line=body_line) from None


def _refuse_syntax(error: SyntaxError, body: str, body_line: int) -> NoReturn:
    row = min(max(error.lineno or 1, 1), max(body.count("\n") + 1, 1))
    column = max((error.offset or 1) - 1, 0)
    source = line_of(body, row)
    raise BodyError(
        f"SyntaxError: {error.msg}",
        line=body_line + row - 1,
        column=min(column, len(source)),
        source=source,
        hint=BLOCKS_HINT if any(map(is_block, body.split("\n"))) else None,
    ) from None


def _refuse_magics(body: str, body_line: int) -> None:
    for start, _ in logical_lines(body):
        found = _MAGIC.match(body, start, (body + "\n").index("\n", start))
        if not found:
            continue
        row = body.count("\n", 0, start) + 1
        source = line_of(body, row)
        column = len(source) - len(source.lstrip())
        mark = source.lstrip()
        shell = mark.startswith("!") or "!" in (found.group(3) or "")
        if mark.startswith("%%process"):
            message, hint = "a cell holds one process", "put the second one into a cell of its own"
        elif shell:
            message = "a magic cannot run inside a task: this is a shell command"
            hint = "make it a process of its own with --bash, or call subprocess.run(...)"
        else:
            message = "a magic cannot run inside a task"
            hint = "run it in another cell, or make the commands a process of their own with --bash"
        raise BodyError(
            message, line=body_line + row - 1, column=column, source=source, hint=hint
        ) from None


def analyse_body(
    body: str,
    *,
    body_line: int = 1,
    filename: str = "<process>",
    cell_name: str = "cell",
    keyboard: bool = False,
) -> BodyFacts:
    """Return what a body reads, binds and gives.

    `keyboard` allows a call of input(), which only works in the kernel.

    Raises:
        BodyError: `return`, a magic, input() or anything that is no Python; with line and column.
    """
    tree = parse_body(body, body_line, filename)
    _refuse_outside_function(tree, body, body_line)
    try:
        compile(tree, filename, "exec", flags=_FLAGS, dont_inherit=True)
    except SyntaxError as error:
        _refuse_syntax(error, body, body_line)
    except (ValueError, RecursionError, MemoryError) as error:
        raise BodyError(f"{cell_name}: the body cannot be read: {error}", line=body_line) from None
    walk = NameWalk()
    walk.run(tree)
    shift = body_line - 1
    calls = tuple(
        (name, line + shift, _column(body, line, column))
        for name, (line, column) in walk.calls.items()
        if name not in walk.bound
    )
    for name, line, column in calls:
        if name == "input" and not keyboard:
            raise BodyError(
                _KEYBOARD,
                line=line,
                column=column,
                source=line_of(body, line - shift),
                hint="ask in another cell and pass the answer as an input; `%nbcache try NAME` "
                "runs one item in the kernel",
            )
    return BodyFacts(
        free=frozenset(walk.free),
        bound=frozenset(walk.bound),
        result=_result(tree, body, shift),
        imports=frozenset(top for each in walk.imports if (top := each.partition(".")[0])),
        modules=frozenset(walk.imports),
        stars=frozenset(walk.stars),
        uses_await=walk.uses_await,
        builtins=frozenset(walk.builtins),
        classes=frozenset(walk.classes),
        calls=calls,
        mutations=tuple(
            replace(each, line=each.line + shift, column=_column(body, each.line, each.column))
            for each in walk.mutations
        ),
    )


def _column(body: str, row: int, offset: int) -> int:
    """Turn the bytes that `ast` counts into characters."""
    line = line_of(body, row)
    return offset if line.isascii() else len(line.encode()[:offset].decode(errors="replace"))


def _refuse_outside_function(tree: ast.Module, body: str, body_line: int) -> None:
    """Refuse `return` and `yield` at module scope, where a cell cannot have them either."""
    stack: list[ast.AST] = list(reversed(tree.body))
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            word = "return" if isinstance(node, ast.Return) else "yield"
            hint = {
                "return": "a body is a cell: its final expression, or a final assignment's name, "
                "is the output",
                "yield": "a task gives one item; give a list and use .flat_map(...) for more",
            }[word]
            raise BodyError(
                f'"{word}" outside a function',
                line=body_line + node.lineno - 1,
                column=_column(body, node.lineno, node.col_offset),
                source=line_of(body, node.lineno),
                hint=hint,
            )
        stack.extend(reversed(list(ast.iter_child_nodes(node))))


def _result(tree: ast.Module, body: str, shift: int) -> BodyResult:
    if not tree.body:
        return BodyResult("nothing")
    last = tree.body[-1]
    line, column = last.lineno + shift, _column(body, last.lineno, last.col_offset)
    suppressed = _ends_in_semicolon(last, body)
    if isinstance(last, ast.Expr):
        if isinstance(last.value, ast.Name):
            return BodyResult("name", last.value.id, suppressed, False, line, column)
        empty = _is_silent(last.value)
        return BodyResult("expression", None, suppressed, empty, line, column)
    target: ast.expr | None = None
    if isinstance(last, ast.Assign):
        target = last.targets[0]  # of `t = s = ...` what stands first
    elif isinstance(last, ast.AugAssign) or (isinstance(last, ast.AnnAssign) and last.value):
        target = last.target
    if isinstance(target, ast.Name):
        return BodyResult("assignment", target.id, suppressed, False, line, column)
    return BodyResult("nothing", None, suppressed, False, line, column)


def _ends_in_semicolon(last: ast.stmt, body: str, shift: int = 0) -> bool:
    line = line_of(body, (last.end_lineno or last.lineno) - shift).encode()
    return line[last.end_col_offset or 0 :].lstrip().startswith(b";")


def _is_silent(node: ast.expr) -> bool:
    """Whether an expression is only there to show something, and is None."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in _SILENT
    return isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "plt.show"


def split_body(body: str, filename: str = "<process>", body_line: int = 1) -> SplitBody:
    """Compile a body for a worker, with the lines of the cell.

    Raises:
        BodyError: it is no Python.
    """
    tree = ast.increment_lineno(parse_body(body, body_line, filename), body_line - 1)
    final: ast.expr | None = None
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr) and not _ends_in_semicolon(last, body, body_line - 1):
        final = last.value
        tree.body.pop()
    try:
        statements = compile(tree, filename, "exec", flags=_FLAGS, dont_inherit=True)
        expression: CodeType | None = None
        if final is not None:
            futures = statements.co_flags & _FUTURES
            expression = compile(
                ast.Expression(final), filename, "eval", flags=_FLAGS | futures, dont_inherit=True
            )
    except SyntaxError as error:
        error.lineno = (error.lineno or body_line) - body_line + 1
        _refuse_syntax(error, body, body_line)
    return SplitBody(statements, expression)
