"""Read the first lines of a cell: `%%process`, `%channel`, `%%channel` and `%nbcache`.

    header  = NAME [ "(" [ inputs ] ")" ] [ "->" outputs ] [ "from" sources ]
              { option } [ "#" remark ]
    channel = "%channel" NAME "=" py_expr [ "#" remark ] | "%%channel" NAME NL py_block

A header goes on while a bracket is open or its line ends in a backslash. Cuts at `->`, `from`,
` --word` and `#` outside brackets and strings, gives the pieces to `ast`, and points every error at
its line and column. Evaluates nothing.
"""

from __future__ import annotations

import ast
import re

from nbcache.errors import BodyError
from nbcache.model.process import ChannelDecl, Input, Option, Output, ProcessDecl
from nbcache.plan.language.body import parse_body
from nbcache.plan.language.directive_checks import check_templates
from nbcache.plan.language.directives import parse_options
from nbcache.plan.language.header_text import BUILTINS, HeaderText, nearest, split_above
from nbcache.plan.language.nextflow import BLOCKS_HINT, is_block
from nbcache.plan.language.option_lines import read_option, read_preamble
from nbcache.plan.language.options import OPTIONS
from nbcache.plan.language.parts import is_empty
from nbcache.plan.language.ports import parse_inputs, parse_outputs
from nbcache.plan.language.scanning import (
    is_option,
    line_and_column,
    line_of,
    offset_of,
    scan_logical_line,
    split_at,
)

PROCESS_MAGIC = "%%process "
_RESERVED = frozenset(
    "PATH IFS HOME cpus task ENV PWD OLDPWD SHELL SHELLOPTS TMPDIR LD_LIBRARY_PATH LD_PRELOAD "
    "PYTHONPATH PYTHONHOME PS4 UID EUID PPID GROUPS RANDOM SECONDS LINENO REPLY OPTIND OPTARG "
    "FUNCNAME PIPESTATUS DIRSTACK HOSTNAME".split()
)
_FROM = re.compile(r"\bfrom\b")


def reserved_in_scripts(name: str) -> bool:
    """Whether an input of this name would change how a shell itself works."""
    return name in _RESERVED or name.startswith(("BASH", "NBCACHE_"))


def parse_process_cell(
    line: str, cell: str, *, cell_name: str = "cell", filename: str = "<process>"
) -> ProcessDecl:
    """Read a `%%process` cell: `line` follows the magic's name, `cell` is everything below.

    Lines count from 1 in the cell as written: lines that an input transformer moved out of the way
    (see `header_text.mark_above`) are put back first.

    Raises:
        HeaderError: the header does not follow the grammar.
        OptionError: an option is unknown, given twice, or its value does not parse.
        BodyError: there is nothing below the header.
    """
    above, line = split_above(line)
    source = f"{above}{PROCESS_MAGIC}{line}\n{cell}"
    begin = len(above) + len(PROCESS_MAGIC)
    text = HeaderText(source, scan_logical_line(source, begin, options=True))
    text.check_balance()
    parts = _cut(text)
    preamble = read_preamble(source, text.scan.end + 1)
    lines = source.split("\n")
    body = preamble.parts
    directives, language, interpreter = parse_options(
        [*parts.options, *preamble.options],
        shebang=preamble.shebang,
        lines=lines,
        scripts=body.scripts,
    )
    decl = ProcessDecl(
        name=parts.name,
        inputs=parts.inputs,
        outputs=parts.outputs,
        sources=parts.sources,
        directives=directives,
        language=language,
        interpreter=interpreter,
        body=body.body,
        body_line=body.body_line,
        stub=body.stub,
        stub_line=body.stub_line,
        scripts=body.scripts,
        cell=cell_name,
        filename=filename,
        source=source,
    )
    _check_whole(decl, text, parts)
    return decl


def parse_output_list(source: str) -> tuple[Output, ...]:
    """Return the outputs that stand in a text of their own, as behind `->` in a header.

    Raises:
        HeaderError: they do not follow the grammar.
    """
    text = HeaderText(source, scan_logical_line(source, 0))
    text.check_balance()
    return parse_outputs(text, 0, len(source), 0)


class _Parts:
    """The pieces of a process header and where they stand."""

    name: str = ""
    name_at: int = 0
    inputs: tuple[Input, ...] | None = None
    outputs: tuple[Output, ...] | None = None
    sources: tuple[str, ...] | None = None
    options: tuple[Option, ...] = ()


def _cut(text: HeaderText) -> _Parts:
    """Walk the header from left to right: name, inputs, outputs, sources, options."""
    parts, scan = _Parts(), text.scan
    at = text.skip_blank(scan.start, scan.end)
    if at == scan.end:
        text.fail("a process needs a name", scan.start, "write %%process NAME(inputs) -> outputs")
    parts.name_at = at
    parts.name, at = text.name(at, scan.end, "the name of a process")
    if parts.name in BUILTINS:
        text.fail(
            f'"{parts.name}" would hide the builtin of that name in the notebook',
            parts.name_at,
            f"choose another name, such as {parts.name}_items",
        )
    options_at = _first_option(text, at)
    at = text.skip_blank(at, options_at)
    if at < options_at and scan.clean[at] == "(":
        close = _closing(text, at)
        parts.inputs = parse_inputs(text, at + 1, close)
        at = text.skip_blank(close + 1, options_at)
    arrows, froms = _marks(text, at, options_at)
    _check_marks(text, arrows, froms)
    first = min([*arrows, *froms, options_at])
    if at < first:
        expected = (
            ("->", "from", "--") if parts.inputs is not None or arrows else ("from", "->", "--")
        )
        text.unexpected(at, first, expected)
    if arrows:
        stop = froms[0] if froms else options_at
        parts.outputs = parse_outputs(text, arrows[0] + 2, stop, arrows[0])
    if froms:
        parts.sources = _parse_sources(text, froms[0], options_at)
    parts.options = _parse_header_options(text, options_at)
    return parts


def _first_option(text: HeaderText, at: int) -> int:
    scan = text.scan
    for offset in range(at, scan.end):
        if scan.depth_at(offset) == 0 and is_option(scan.clean, offset, scan.start):
            return offset
    return scan.end


def _closing(text: HeaderText, opening: int) -> int:
    depth = text.scan.depth_at(opening)
    at = opening + 1
    while text.scan.depth_at(at) != depth:
        at += 1
    return at


def _marks(text: HeaderText, start: int, end: int) -> tuple[list[int], list[int]]:
    """Return the offsets of `->` and of `from` outside brackets and strings."""
    scan = text.scan
    arrows = [
        at
        for at in range(start, end)
        if scan.clean.startswith("->", at) and scan.depth_at(at) == 0 and at + 2 <= end
    ]
    froms = [
        found.start()
        for found in _FROM.finditer(scan.clean, start, end)
        if scan.depth_at(found.start()) == 0
    ]
    return arrows, froms


def _check_marks(text: HeaderText, arrows: list[int], froms: list[int]) -> None:
    if len(arrows) > 1:
        text.fail('"->" stands twice', arrows[1], "outputs are divided by commas: -> a, b")
    if len(froms) > 1:
        text.fail('"from" stands twice', froms[1], "channels are divided by commas: from a, b")
    if arrows and froms and froms[0] < arrows[0]:
        text.fail(
            'outputs come before "from"', arrows[0], "write NAME(inputs) -> outputs from channels"
        )


def _parse_sources(text: HeaderText, mark: int, end: int) -> tuple[str, ...]:
    start = mark + len("from")
    if not text.clean(start, end).strip():
        text.fail('a channel is missing after "from"', mark)
    sources = []
    for begin, stop in split_at(text.scan, ",", start, end, 0):
        if not text.clean(begin, stop).strip():
            text.fail("a channel is missing between the commas", begin - 1)
        hint = _option_hint(text.clean(begin, stop))
        sources.append(text.expression(begin, stop, "a channel", hint))
    return tuple(sources)


def _option_hint(source: str) -> str | None:
    """Say that an option has two dashes, where one has one dash, or that of a typesetter."""
    for word in re.findall(r"\s[-–—]+([A-Za-z]\w*)", source):
        if meant := nearest(word, OPTIONS, 0.75):
            return f"an option has two dashes: --{meant}"
    return None


def _parse_header_options(text: HeaderText, at: int) -> tuple[Option, ...]:
    options = []
    while at < text.scan.end:
        option, at = read_option(text, at)
        options.append(option)
        at = text.skip_blank(at, text.scan.end)
        if at < text.scan.end and not is_option(text.scan.clean, at, text.scan.start):
            key, value = option.key, option.text
            hint = f'a value with blanks is quoted: --{key} "{value} ..."' if value else None
            if value and OPTIONS[key].form in ("names", "words"):
                hint = f"several have commas between them: --{key} {value},{_word(text, at)}"
            text.fail(f'"{_word(text, at)}" is not expected here', at, hint)
    return tuple(options)


def _word(text: HeaderText, at: int) -> str:
    return (text.clean(at, text.scan.end).split() or [""])[0]


def _check_whole(decl: ProcessDecl, text: HeaderText, parts: _Parts) -> None:
    """What can be told only when all parts are read: reserved names, templates, the body's head."""
    if decl.language == "script":
        for each in decl.inputs or ():
            if reserved_in_scripts(each.name):
                text.fail(
                    f'an input of a script cannot be named "{each.name}"',
                    offset_of(text.text, each.line, each.column),
                    "the shell itself, or nbcache, gives that variable its value",
                )
    check_templates(decl, text.text.split("\n"))
    body = decl.body.split("\n")
    if is_empty(body):
        line, column = line_and_column(text.text, parts.name_at)
        raise BodyError(
            f'process "{decl.name}" has no body',
            line=line,
            column=column,
            source=line_of(text.text, line),
            hint="write what a task does in the lines below the header",
        )
    # Further down such a line may stand in a text, like a YAML file that the body writes.
    row = next(row for row, line in enumerate(body) if not is_empty([line]))
    if is_block(body[row]):
        raise BodyError(
            "a body has no blocks",
            line=decl.body_line + row,
            column=0,
            source=body[row],
            hint=BLOCKS_HINT,
        )


def parse_channel_line(text: str) -> ChannelDecl:
    """Read what follows `%channel`: NAME = expression [# remark]. Brackets may span lines.

    Raises:
        HeaderError: the name or the expression is missing or malformed.
    """
    above, text = split_above(text)
    magic = "%channel "
    source = above + magic + text
    start = len(above) + len(magic)
    whole = HeaderText(source, scan_logical_line(source, start))
    whole.check_balance()
    name, at = _channel_name(whole)
    end = whole.scan.end
    if at == end or whole.scan.clean[at] != "=" or whole.scan.clean.startswith("==", at):
        if at < end and (whole.scan.clean[at].isalnum() or whole.scan.clean[at] in "=:<("):
            whole.fail('"=" is expected here', at, f"write %channel {name} = ...")
        whole.fail("a channel needs an expression", at, f"write %channel {name} = ...")
    if not whole.clean(at + 1, end).strip():
        whole.fail("a channel needs an expression", at, f"write %channel {name} = of(1, 2, 3)")
    expression = whole.expression(at + 1, end, "a channel")
    if source[end:].strip():
        beyond = end + len(source[end:]) - len(source[end:].lstrip())
        whole.fail("the channel ends above", beyond, "one channel to a %channel; or use %%channel")
    line, column = line_and_column(source, whole.skip_blank(at + 1, end))
    return ChannelDecl(
        name=name, expression=expression, block=None, line=line, column=column, source=source
    )


def parse_channel_cell(line: str, cell: str) -> ChannelDecl:
    """Read a `%%channel NAME` cell whose block's final expression is the channel.

    Raises:
        HeaderError: the name is missing or malformed.
        BodyError: the block is no Python, or does not end in an expression.
    """
    above, line = split_above(line)
    magic = "%%channel "
    source = f"{above}{magic}{line}\n{cell}"
    whole = HeaderText(source, scan_logical_line(source, len(above) + len(magic)))
    whole.check_balance()
    name, at = _channel_name(whole)
    if at != whole.scan.end:
        whole.unexpected(at, whole.scan.end, ())
    start = whole.scan.end + 1
    block_line, _ = line_and_column(source, start)
    block = source[start:]
    tree = parse_body(block, block_line)
    if not tree.body or not isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1].lineno if tree.body else 1
        at_line = block_line + last - 1 if tree.body else block_line - 1
        raise BodyError(
            f'the block of channel "{name}" does not end in an expression',
            line=at_line,
            column=tree.body[-1].col_offset if tree.body else 0,
            source=line_of(source, at_line),
            hint="its last line is the channel, as in any cell: of(1, 2, 3)",
        )
    return ChannelDecl(
        name=name, expression=None, block=block, line=block_line, column=0, source=source
    )


def _channel_name(text: HeaderText) -> tuple[str, int]:
    start = text.skip_blank(text.scan.start, text.scan.end)
    if start == text.scan.end:
        text.fail("a channel needs a name", text.scan.start, "write %channel NAME = ...")
    name, at = text.name(start, text.scan.end, "the name of a channel")
    if name in BUILTINS:
        text.fail(f'"{name}" would hide the builtin of that name in the notebook', start)
    return name, text.skip_blank(at, text.scan.end)
