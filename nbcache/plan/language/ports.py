"""Read the inputs, outputs and types of a header.

    input  = NAME [ ":" type ] [ "=" py_expr ]        output = NAME [ ":" type ] [ "=" STRING ]
    type   = base [ "|" "None" ]             base = "path" | "list[" base [ counts ] "]" | py_name
    counts = "," N [ "," ( N | "..." ) ]     exactly N; from N to N; N or more

A path's STRING is its file name, another output's is `$(command)`, whose answer it is.

Cuts only at marks outside brackets and strings, and gives the pieces to `ast`.
"""

from __future__ import annotations

import ast
import re

from nbcache.model.process import Input, Output, PortType
from nbcache.plan.language.header_text import (
    INPUT_ENDS,
    HeaderText,
    is_public_name,
    literal_string,
    nearest,
)
from nbcache.plan.language.scanning import line_and_column, split_at, strip_span

_TYPE_HINT = "a type is path, a name such as str, list[...] of one of these, or one of them | None"
_COUNTS_HINT = "write list[path, 2] for exactly two, list[path, 1, ...] for one or more"
_OUTPUTS_HINT = "outputs are names with commas between them: -> a, b"
_BARE_FILE = re.compile(r"(?=[\w-]*[*?{}./])[\w*?{}./-]+")
_COMMAND = re.compile(r"\$\((.+)\)\Z", re.DOTALL)


def parse_inputs(text: HeaderText, start: int, end: int) -> tuple[Input, ...]:
    """Read what stands between the parentheses (start and end leave them out)."""
    depth = text.scan.depth_at(start - 1) + 1
    spans = split_at(text.scan, ",", start, end, depth)
    if len(spans) > 1 and not text.clean(*spans[-1]).strip():
        spans.pop()  # a trailing comma
    elif len(spans) == 1 and not text.clean(*spans[0]).strip():
        return ()
    inputs: list[Input] = []
    for begin, stop in spans:
        at, stop = strip_span(text.scan, begin, stop)
        if at == stop:
            text.fail("a name is missing between the commas", begin)
        if inputs and inputs[-1].rest:
            text.fail(f'"*{inputs[-1].name}" takes what is left, so it comes last', at)
        each = _parse_input(text, at, stop, depth)
        if any(each.name == other.name for other in inputs):
            text.fail(f'there are two inputs named "{each.name}"', at)
        inputs.append(each)
    return tuple(inputs)


def _parse_input(text: HeaderText, start: int, end: int, depth: int) -> Input:
    line, column = line_and_column(text.text, start)
    rest = text.scan.clean[start] == "*"
    if rest:
        start = text.skip_blank(start + 1, end)
    name, at = text.name(start, end, "the name of an input")
    at, declared = _parse_type(text, at, end, depth, INPUT_ENDS)
    default = None
    if at < end:  # at "="
        if rest:
            text.fail(f'"*{name}" takes what is left and has no default', at)
        if not text.clean(at + 1, end).strip():
            text.fail(f'the default of "{name}" is missing', at)
        default = text.expression(at + 1, end, f'the default of "{name}"')
    return Input(name, declared, default, rest, column, line)


def parse_outputs(text: HeaderText, start: int, end: int, offset: int) -> tuple[Output, ...]:
    """Read what stands between `->` (at `offset`) and `from` or the options."""
    if not text.clean(start, end).strip():
        text.fail('an output is missing after "->"', offset)
    outputs: list[Output] = []
    for begin, stop in split_at(text.scan, ",", start, end, 0):
        at, stop = strip_span(text.scan, begin, stop)
        if at == stop:
            text.fail("a name is missing between the commas", begin - 1)
        each = _parse_output(text, at, stop)
        if any(each.name == other.name for other in outputs):
            text.fail(f'there are two outputs named "{each.name}"', at)
        outputs.append(each)
    return tuple(outputs)


def _parse_output(text: HeaderText, start: int, end: int) -> Output:
    line, column = line_and_column(text.text, start)
    _check_named(text, start, end)
    name, at = text.name(start, end, "the name of an output")
    at, declared = _parse_type(text, at, end, 0, (":", "=", ",", "from", "--"))
    if at == end:
        return Output(name, declared, None, column, line)
    if not text.clean(at + 1, end).strip():
        text.fail(f'the file name of "{name}" is missing', at)
    value_at, _ = strip_span(text.scan, at + 1, end)
    is_path = declared is not None and declared.is_path
    said = f'the {"file name" if is_path else "command"} of "{name}"'
    pattern = text.string(at + 1, end, said)
    if not is_path:
        command = _COMMAND.fullmatch(pattern.strip())
        if command is None or not command.group(1).strip():
            hint = f'write {name}: path = "...", or {name} = "$(a command)" for its answer'
            if pattern.strip() == "stdout":
                hint = "what the script prints is the output `-> stdout`"
            text.fail(f'only a path has a file name, and "{name}" is none', start, hint)
        return Output(name, declared, None, column, line, command.group(1).strip())
    parts = pattern.split("/")
    if pattern.startswith("/") or ".." in parts or not pattern.strip("/. "):
        text.fail(
            f'the file name of "{name}" has to lie in the work directory',
            value_at,
            f'write it as the body makes it, such as "{name}.txt" or "*.txt"',
        )
    return Output(name, declared, pattern, column, line)


def _check_named(text: HeaderText, start: int, end: int) -> None:
    """Say how a file is an output, where it stands without a name of its own, or as elsewhere."""
    piece = text.clean(start, end)
    if piece[:1] == "(" or re.match(r"(tuple|val)\b\s*[\w(]", piece):
        text.fail(f'"{piece}" is not an output', start, _OUTPUTS_HINT)
    bare = re.sub(r"^(path|file)\b(?=\s*[(\"'])", "", piece).strip(" ()")
    file = literal_string(bare) or (bare if _BARE_FILE.fullmatch(bare) else None)
    if file:
        stem = re.sub(r"\{[^}]*\}|\W+", "", file.rpartition("/")[2].partition(".")[0]).strip("_")
        name = stem if is_public_name(stem) else "out"
        hint = f'a file is written behind a name: {name}: path = "{file}"'
        text.fail(f"{piece} is not an output", start, hint)


def _parse_type(
    text: HeaderText, at: int, end: int, depth: int, expected: tuple[str, ...]
) -> tuple[int, PortType | None]:
    """Read `: type` if it is there: (offset of "=" or `end`, the type)."""
    at = text.skip_blank(at, end)
    if at == end or text.scan.clean[at] == "=":
        return _not_equal_sign(text, at, end), None
    if text.scan.clean[at] != ":":
        text.unexpected(at, end, expected)
    stop = split_at(text.scan, "=", at, end, depth)[0][1]
    begin, finish = strip_span(text.scan, at + 1, stop)
    if begin == finish:
        text.fail("a type is missing after the colon", at)
    piece = text.clean(begin, finish)
    try:
        tree = ast.parse(piece, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        word = text.scan.clean.find(" ", begin, finish)
        if word > 0 and text.scan.depth_at(word) == depth:
            after = text.skip_blank(word, finish)
            if text.scan.clean[after] not in "|[" and piece[: word - begin].isidentifier():
                text.unexpected(after, finish, expected)
        text.fail(f'"{piece}" is not a type', begin, _TYPE_HINT)
    declared = port_type(tree)
    if declared is None:
        text.fail(f'"{piece}" is not a type', begin, _type_hint(piece))
    if declared.base in ("Path", "pathlib.Path", "pathlib.PurePath", "file"):
        text.fail(f'"{piece}" would count by name only', begin, "a file counts by content as: path")
    return stop, declared


def _not_equal_sign(text: HeaderText, at: int, end: int) -> int:
    if text.scan.clean.startswith("==", at) and at < end:
        text.fail('"==" is not expected here', at, 'did you mean "="?')
    return at


def _type_hint(piece: str) -> str:
    if literal_string(piece) is not None:
        return 'a type is not quoted; a file name follows the type: path = "..."'
    if piece.startswith("list[") and "," in piece:
        return _COUNTS_HINT
    meant = nearest(piece, ("path",)) if piece.isidentifier() else None
    return f'did you mean "{meant}"?' if meant else _TYPE_HINT


def port_type(tree: ast.expr) -> PortType | None:
    """Return the type that an annotation's syntax tree spells, None where it is none of ours."""
    optional = False
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        if _is_none(tree.right):
            tree, optional = tree.left, True
        elif _is_none(tree.left):
            tree, optional = tree.right, True
    depth = 0
    arity = None
    while isinstance(tree, ast.Subscript):
        if not (isinstance(tree.value, ast.Name) and tree.value.id == "list"):
            return None
        tree, depth = tree.slice, depth + 1
        if isinstance(tree, ast.Tuple) and depth == 1:
            arity = _arity(tree.elts[1:])
            if arity is None:
                return None
            tree = tree.elts[0]
    base = _dotted(tree)
    return None if base is None else PortType(base, depth, optional, arity)


def _arity(counts: list[ast.expr]) -> tuple[int, int | None] | None:
    """Return (least, most) for `2`, `1, ...` or `2, 4`; None where it is none of these."""
    values = [each.value if isinstance(each, ast.Constant) else None for each in counts]
    if len(values) not in (1, 2) or type(values[0]) is not int or values[0] < 0:
        return None
    least, most = values[0], values[-1]
    if most is ...:
        return least, None
    return (least, most) if type(most) is int and most >= max(least, 1) else None


def _is_none(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) and tree.value is None


def _dotted(tree: ast.expr) -> str | None:
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, ast.Attribute):
        before = _dotted(tree.value)
        return before and f"{before}.{tree.attr}"
    return None
