"""Read options: ` --key value` in a header, `#| key: value` lines and `#!` below it.

The same options with the same text in both places: a text that is exactly one quoted string stands
for its content, and `#|` lines are not YAML. What a key means is `language.directives`' business.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from nbcache.errors import HeaderError
from nbcache.model.process import Option
from nbcache.plan.language.header_text import HeaderText, literal_string
from nbcache.plan.language.scanning import is_option, line_and_column

_KEY = re.compile(r"--([^\W\d][\w-]*)")
_STUB_LINE = re.compile(r"#\|[ \t]*stub[ \t]*:(.*)$")
_OPTION_LINE = re.compile(r"#\|[ \t]*([^\W\d][\w-]*)[ \t]*:(.*)$")


@dataclass(frozen=True, slots=True)
class Preamble:
    """What stands between header and body: option lines, a `#!` line; the body, and its stub."""

    options: tuple[Option, ...]
    shebang: Option | None  # key "#!", its text the words behind it
    body: str
    body_line: int
    stub: str | None = None
    stub_line: int = 1


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
    """Read the option lines and the `#!` line from offset `start` on."""
    lines = source[start:].split("\n")
    first_line = source.count("\n", 0, start) + 1
    options: list[Option] = []
    shebang = None
    taken = index = 0
    while index < len(lines):
        line = lines[index].rstrip("\r")
        if _STUB_LINE.match(line):
            break
        if line.startswith("#|"):
            options.append(_option_line(line, first_line + index))
            taken = index + 1
        elif line.startswith("#!"):
            shebang = _shebang(line, first_line + index)
            taken = index + 1
            break
        elif line.strip():
            break
        index += 1
    body, stub = lines[taken:], None
    at = _stub_at(body, first_line + taken)
    if at is not None:
        body, stub = body[:at], "\n".join(body[at + 1 :])
    return Preamble(
        tuple(options),
        shebang,
        "\n".join(body),
        first_line + taken,
        stub,
        first_line + taken + (at or 0) + 1,
    )


def _stub_at(body: Sequence[str], first_line: int) -> int | None:
    """Return which line of a body is `#| stub:`, below which its stub stands.

    Raises:
        HeaderError: there are two of them, something stands behind the colon, or nothing below.
    """
    found = [index for index, line in enumerate(body) if _STUB_LINE.match(line)]
    if not found:
        return None
    at = found[0]
    wrong = ""
    if len(found) > 1:
        at, wrong = found[1], "a process has one stub"
    elif body[at].partition(":")[2].strip():
        wrong = "the stub stands below this line, down to the end of the cell"
    elif not any(line.strip() and not line.lstrip().startswith("#") for line in body[at + 1 :]):
        wrong = "there is no stub below this line"
    if wrong:
        raise HeaderError(
            wrong,
            line=first_line + at,
            column=0,
            source=body[at],
            hint="write #| stub: below the body, and below it what a stub run does instead",
        )
    return at


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


def _shebang(line: str, number: int) -> Option:
    return Option("#!", line[2:].strip(), number, 0)


def interpreter_words(text: str) -> tuple[str, ...]:
    """Return the argv that an interpreter's text means: `/usr/bin/env [-S] NAME` is NAME.

    Raises:
        ValueError: a quote is not closed, or there is no word at all.
    """
    words = shlex.split(text)
    if words and words[0].rpartition("/")[2] == "env":
        words = words[1:]
        if words[:1] == ["-S"]:
            words = words[1:]
    if not words:
        raise ValueError("no interpreter is named")
    return tuple(words)
