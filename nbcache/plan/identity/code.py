"""Give code its identity: a canonical form of syntax trees, and of code objects without source.

Comments, blank space, formatting, quotes, docstrings and positions are left out; everything else
counts, constants with their types. Reads no file: source text is handed in. A change to
`normalise` or `encode_code` changes the digest of all code: raise NORMAL_VERSION.
"""

from __future__ import annotations
import __future__

import ast
import dis
import functools
import io
import sys
import types
from collections.abc import Callable

NORMAL_VERSION = 1

SourceOf = Callable[[types.CodeType], "str | None"]
"""Gives the whole text of the file or cell that a code object was compiled from, or None."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_WITH_DOCSTRING = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_HAS_DOCSTRING = 0x4000000  # from Python 3.14 on; without one, no constant stands in its place
_FUTURE_FLAGS = __future__.annotations.compiler_flag


class _Raw(bytes):
    """Bytes that are already encoded and wait on the stack."""


def normalise(source: str | ast.AST, *, docstrings: bool = False) -> bytes:
    """Return the canonical form of source text or of a syntax tree.

    Equal for two sources that differ in comments, layout, quotes, the `u` of strings, redundant
    brackets and (unless `docstrings`) docstrings. A string that is the only statement of a module
    is its value and not its docstring. The tree itself is not changed.

    Raises:
        SyntaxError: the source does not parse.
    """
    out = bytearray(b"ast%d" % NORMAL_VERSION)
    # A stack and not recursion: a long chain of operators nests deeper than Python may recurse.
    stack: list[object] = [ast.parse(source) if isinstance(source, str) else source]
    while stack:
        item = stack.pop()
        if type(item) is _Raw:
            out += item
        elif isinstance(item, ast.Constant):
            out += b"(Constant "
            out += encode_constant(item.value)
            out += b")"
        elif isinstance(item, ast.AST):
            out += b"(%b " % type(item).__name__.encode()
            stack.append(_Raw(b")"))
            for name in reversed(item._fields):
                value = getattr(item, name, None)
                if name == "body" and not docstrings and isinstance(item, _WITH_DOCSTRING):
                    value = without_docstring(item)
                if isinstance(item, ast.JoinedStr):  # Python 3.12.1 puts empty texts between parts
                    value = [each for each in item.values if not _is_empty_text(each)]
                if _counts(item, name, value):
                    stack += (value, _Raw(b"%b=" % name.encode()))
        elif isinstance(item, list):
            out += b"[%d " % len(item)
            stack.append(_Raw(b"]"))
            stack.extend(reversed(item))
        else:
            out += encode_constant(item)
    return bytes(out)


def _is_empty_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""


def _counts(node: ast.AST, name: str, value: object) -> bool:
    # Fields that are empty are left out, so that a field which a later Python adds changes nothing.
    if name in _IGNORED_FIELDS:
        return False
    if isinstance(node, ast.MatchSingleton):
        return True
    return value is not None and value != [] and not (name in ("level", "is_async") and not value)


def without_docstring(node: ast.AST) -> list[ast.stmt]:
    """Return the statements of a module, class or function without its docstring."""
    body: list[ast.stmt] = node.body  # type: ignore[attr-defined]
    if not body:
        return body
    first = body[0]
    is_text = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    if not is_text:
        return body
    if isinstance(node, ast.Module):
        return body[1:] if len(body) > 1 else body
    return body[1:] or [ast.Pass()]


def encode_constant(value: object) -> bytes:
    """Return the typed, length-delimited form of a constant: 1, 1.0, True and "1" all differ."""
    if value is None:
        return b"N;"
    kind = type(value)
    if kind is bool:
        return b"T;" if value else b"F;"
    if value is Ellipsis:
        return b"E;"
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"s%d:%b;" % (len(text), text)
    if isinstance(value, bytes):
        return b"b%d:%b;" % (len(value), value)
    if isinstance(value, int):
        return b"i%x;" % value
    if isinstance(value, float):
        return b"f%b;" % value.hex().encode()
    if isinstance(value, complex):
        return b"c%b,%b;" % (value.real.hex().encode(), value.imag.hex().encode())
    if isinstance(value, tuple):
        return b"t%d:%b;" % (len(value), b"".join(map(encode_constant, value)))
    if isinstance(value, frozenset):
        return b"z%d:%b;" % (len(value), b"".join(sorted(map(encode_constant, value))))
    if isinstance(value, types.CodeType):
        return encode_code(value)
    if isinstance(value, slice):  # constants from Python 3.14 on
        return b"l" + encode_constant((value.start, value.stop, value.step))
    raise TypeError(f"a {kind.__name__} is no constant of the language")


def encode_code(code: types.CodeType, *, docstring: str | None = None) -> bytes:
    """Return the canonical form of a compiled function, for functions that have no source.

    Without file name, lines and positions; `docstring` (the function's) is left out where it is
    the first constant. Stable within one minor version of Python only.
    """
    constants, flags = code.co_consts, code.co_flags
    instructions: object = code.co_code
    if sys.version_info >= (3, 14):
        has_docstring = docstring is not None and bool(flags & _HAS_DOCSTRING)
        instructions = _instructions(code, int(has_docstring))
        if has_docstring:
            constants, flags = constants[1:], flags & ~_HAS_DOCSTRING
    elif docstring is not None and constants and constants[0] == docstring:
        constants = (None, *constants[1:])
    parts: tuple[object, ...] = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        flags,
        instructions,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        getattr(code, "co_exceptiontable", b""),
        constants,
    )
    return b"code%d:%b" % (NORMAL_VERSION, encode_constant(parts))


def _instructions(code: types.CodeType, left_out: int) -> tuple[tuple[int, int | None], ...]:
    """Return operations and arguments, as they are when so many constants are left out in front."""
    return tuple(
        (each.opcode, each.arg - left_out if numbered and each.arg is not None else each.arg)
        for each in dis.get_instructions(code)
        for numbered in [each.opcode in dis.hasconst]
        if each.opname != "EXTENDED_ARG"
    )


def find_function(
    code: types.CodeType, source_of: SourceOf, *, exact: bool = True
) -> tuple[FunctionNode, str] | None:
    """Return the syntax tree and the source text of the function a code object was compiled from.

    None where there is no source or where the source is not what was compiled (a file edited
    since, a generated function): the text is compiled again and has to give an equal code object,
    unless `exact` is false.
    """
    source = source_of(code)
    if not source:
        return None
    index = _index(source, code.co_filename, code.co_flags & _FUTURE_FLAGS)
    if index is None:
        return None
    codes, nodes = index
    if exact and code not in codes:
        return None
    node = _match(code, nodes.get((code.co_firstlineno, code.co_name), ()))
    return None if node is None else (node, _text(node, source))


Nodes = dict[tuple[int, str], list[FunctionNode]]


@functools.lru_cache(maxsize=256)
def _index(
    source: str, filename: str, future: int
) -> tuple[frozenset[types.CodeType], Nodes] | None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | future
    try:
        tree = ast.parse(source)
        # As a module, and as a notebook has it, statement by statement: Python writes a call of
        # np.mean otherwise where `import numpy as np` is in the same piece.
        pieces = [tree, *(ast.Module([each], []) for each in tree.body if len(tree.body) > 1)]
        compiled = [compile(each, filename, "exec", flags, dont_inherit=True) for each in pieces]
    except (SyntaxError, ValueError, RecursionError):
        return None
    nodes: Nodes = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            nodes.setdefault((node.lineno, "<lambda>"), []).append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            nodes.setdefault((first, node.name), []).append(node)
    return frozenset(each for whole in compiled for each in nested_codes(whole)), nodes


def nested_codes(code: types.CodeType) -> list[types.CodeType]:
    """Return a code object and all those among its constants, at any depth."""
    found = [code]
    for each in found:
        found += [const for const in each.co_consts if isinstance(const, types.CodeType)]
    return found


def _match(code: types.CodeType, candidates: list[FunctionNode] | tuple[()]) -> FunctionNode | None:
    if len(candidates) == 1 or not candidates:
        return candidates[0] if candidates else None
    # Several lambdas on one line: the innermost one that holds every instruction's position.
    places = [
        (line, column, end_line, end_column)
        for line, end_line, column, end_column in code.co_positions()
        if None not in (line, end_line, column, end_column) and (column, end_column) != (0, 0)
    ]
    if not places:
        return None
    start = min(place[:2] for place in places)
    end = max(place[2:] for place in places)
    fitting: list[tuple[tuple[int, int], FunctionNode]] = []
    for node in candidates:
        inner = node.body if isinstance(node, ast.Lambda) else node
        assert isinstance(inner, ast.expr | ast.stmt)
        assert inner.end_lineno is not None
        assert inner.end_col_offset is not None
        first, last = (inner.lineno, inner.col_offset), (inner.end_lineno, inner.end_col_offset)
        if first <= start and end <= last:
            fitting.append(((-first[0], -first[1]), node))
    if not fitting:
        return None
    return min(fitting, key=lambda each: each[0])[1]


def _text(node: FunctionNode, source: str) -> str:
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment(source, node) or ""
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return "".join(lines_of(source)[first - 1 : node.end_lineno])


def lines_of(source: str) -> list[str]:
    """Return the lines of a source with their ends, as Python counts: a form feed ends none."""
    return io.StringIO(source, newline="").readlines()
