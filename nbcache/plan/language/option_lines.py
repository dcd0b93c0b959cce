"""Read options: ` --key value` in a header, `#| key: value` lines and `#!` below it.

The same options with the same text in both places: a text that is exactly one quoted string stands
for its content, and `#|` lines are not YAML. What a key means is `language.directives`' business.
Lines that divide a body (`#| stub:`, `#| if:`) end the options; `language.parts` reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbcache.errors import HeaderError
from nbcache.model.process import Option
from nbcache.plan.language.header_text import HeaderText, literal_string, nearest
from nbcache.plan.language.options import OPTIONS
from nbcache.plan.language.parts import BodyParts, divide_body, divides_body, read_shebang
from nbcache.plan.language.scanning import is_option, line_and_column

_KEY = re.compile(r"--([^\W\d][\w-]*)")
_OPTION_LINE = re.compile(r"#\|[ \t]*([^\W\d][\w-]*)[ \t]*:(.*)$")
_LIKE_OPTION = re.compile(r"#\|[ \t]*([^\W\d][\w-]*)[ \t]*[:=].*$")


@dataclass(frozen=True, slots=True)
class Preamble:
    """What stands below a header: option lines, a `#!` line, and the body in its parts."""

    options: tuple[Option, ...]
    shebang: Option | None  # key "#!", its text the words behind it
    parts: BodyParts


def read_option(text: HeaderText, at: int) -> tuple[Option, int]:
    """Read ` --key [WORD | STRING]` at offset `at`: (the option, offset behind it)."""
    scan = text.scan
    line, column = line_and_column(text.text, at)
    key = _KEY.match(scan.clean, at, scan.end)
    if key is None:
        text.fail("an option is two dashes and a word", at)
    end = key.end()
    if end < scan.end and not scan.clean[end].isspace():
        hint = f"write --{key.group(1)} VALUE" if scan.clean[end] == "=" else None
        text.fail(f'"{scan.clean[end]}" is not expected in an option', end, hint)
    start = text.skip_blank(end, scan.end)
    if start == scan.end or is_option(scan.clean, start, scan.start):
        return Option(key.group(1), "", line, column), end
    stop = start
    while stop < scan.end and not (scan.clean[stop].isspace() and scan.depth_at(stop) == 0):
        stop += 1
    piece = scan.clean[start:stop]
    value = literal_string(piece)
    return Option(key.group(1), piece if value is None else value, line, column), stop


def read_preamble(source: str, start: int) -> Preamble:
    """Read the option lines and the `#!` line from offset `start` on.

    They end where the body begins: at the `#!` line, a remark, or code. What stands below is the
    body's own, since a remark may read like either (`#!pip install`, Quarto's `#| echo: false`).
    """
    lines = source[start:].split("\n")
    first_line = source.count("\n", 0, start) + 1
    options: list[Option] = []
    shebang = None
    taken = index = 0
    while index < len(lines):
        line = lines[index].rstrip("\r")
        if divides_body(line):
            break
        if line.startswith("#|"):
            options.append(_option_line(line, first_line + index))
            taken = index + 1
        elif line.startswith("#!"):
            shebang = read_shebang(line, first_line + index)
            taken = index + 1
            break
        elif line.strip():
            break
        index += 1
    return Preamble(tuple(options), shebang, divide_body(lines[taken:], first_line + taken))


def low_options(body: str, first_line: int) -> list[str]:
    """Say which lines of a body read like options of a process, and are none so far down."""
    found = ((number, _LIKE_OPTION.match(line)) for number, line in enumerate(body.split("\n")))
    return [
        f"line {first_line + number}: `{match[0].strip()}` is only a remark: options stand right "
        "below the header, above all else"
        for number, match in found
        if match is not None and nearest(match[1], OPTIONS, 0.75)
    ]


def _option_line(line: str, number: int) -> Option:
    found = _OPTION_LINE.match(line)
    if not found:
        raise HeaderError(
            "an option line has a key, a colon and a value",
            line=number,
            column=0,
            source=line,
            hint="write #| cpus: 2",
        )
    text = found.group(2).strip()
    value = literal_string(text)
    return Option(found.group(1), text if value is None else value, number, found.start(1))
