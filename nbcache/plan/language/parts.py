"""Divide a body into its parts: a script for each case below `#| if:`, a stub below `#| stub:`.

    body = ( text | { "#| if:" | "#| elif:" condition NL script } [ "#| else:" NL script ] )
           [ "#| stub:" NL text ]

A script may begin with a `#!` line of its own. What a condition may name is
`language.directives`' business.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from nbcache.errors import HeaderError
from nbcache.model.process import Dynamic, Option, Script
from nbcache.plan.language.quantities import parse_expression

_STUB_LINE = re.compile(r"#\|[ \t]*stub[ \t]*:(.*)$")
_CASE_LINE = re.compile(r"#\|[ \t]*(if|elif|else)[ \t]*:(.*)$")
_CASES = "write #| if: CONDITION above the first script, #| elif: CONDITION and #| else: below"


@dataclass(frozen=True, slots=True)
class BodyParts:
    """A body without its stub, the scripts that it consists of if there are several, its stub."""

    body: str
    body_line: int
    scripts: tuple[Script, ...] = ()
    stub: str | None = None
    stub_line: int = 1


def divides_body(line: str) -> bool:
    """Whether a part of a body begins below this line."""
    return _STUB_LINE.match(line) is not None or _CASE_LINE.match(line) is not None


def divide_body(body: Sequence[str], first_line: int) -> BodyParts:
    """Return the parts of a body whose first line is line `first_line` (1-based) of the cell.

    Raises:
        HeaderError: lines that divide it stand where they cannot, or a part is empty.
    """
    stub = None
    at = _stub_at(body, first_line)
    if at is not None:
        body, stub = body[:at], "\n".join(body[at + 1 :])
    return BodyParts(
        "\n".join(body),
        first_line,
        tuple(_scripts(body, first_line)),
        stub,
        first_line + (at or 0) + 1,
    )


def _fail(wrong: str, line: int, source: str, hint: str) -> NoReturn:
    raise HeaderError(wrong, line=line, column=0, source=source, hint=hint)


def is_empty(lines: Sequence[str]) -> bool:
    """Whether no line of a body does anything."""
    return not any(line.strip() and not line.lstrip().startswith("#") for line in lines)


def _stub_at(body: Sequence[str], first_line: int) -> int | None:
    """Return which line of a body is `#| stub:`, below which its stub stands."""
    found = [index for index, line in enumerate(body) if _STUB_LINE.match(line)]
    if not found:
        return None
    at = found[0]
    wrong = ""
    if len(found) > 1:
        at, wrong = found[1], "a process has one stub"
    elif body[at].partition(":")[2].strip():
        wrong = "the stub stands below this line, down to the end of the cell"
    elif is_empty(body[at + 1 :]):
        wrong = "there is no stub below this line"
    elif any(_CASE_LINE.match(line) for line in body[at + 1 :]):
        wrong = "a stub is one script, for all cases"
    if wrong:
        hint = "write #| stub: below the body, and below it what a stub run does instead"
        _fail(wrong, first_line + at, body[at], hint)
    return at


def _scripts(body: Sequence[str], first_line: int) -> list[Script]:
    """Return the scripts of a body in their order; none where it is one."""
    begins = [index for index, line in enumerate(body) if _CASE_LINE.match(line)]
    if not begins:
        return []
    if not is_empty(body[: begins[0]]):
        wrong = "something stands above the first of several scripts"
        _fail(wrong, first_line + begins[0], body[begins[0]], "put it into each of them")
    found: list[Script] = []
    for begin, end in zip(begins, [*begins[1:], len(body)], strict=True):
        number, line = first_line + begin, body[begin].rstrip("\r")
        when = _condition(line, number, found)
        if when is not None and when in [each.when for each in found]:
            _fail("this condition stands above already", number, line, _CASES)
        below = begin + 1
        while below < end and not body[below].strip():
            below += 1
        interpreter: tuple[str, ...] = ()
        if below < end and body[below].startswith("#!"):
            interpreter = _own_interpreter(body[below].rstrip("\r"), first_line + below)
            below += 1
        if is_empty(body[below:end]):
            _fail("there is no script below this line", number, line, _CASES)
        text = "\n".join(body[below:end])
        found.append(Script(when, text, first_line + below, interpreter, number))
    return found


def _condition(line: str, number: int, above: Sequence[Script]) -> Dynamic | None:
    """Read a line that begins a script: its condition, None for else."""
    match = _CASE_LINE.match(line)
    assert match is not None
    word, text = match[1], match[2].strip()
    if above and above[-1].when is None:
        _fail("nothing can follow #| else:", number, line, _CASES)
    if word == "if" and above:
        _fail("the scripts of a process are one chain", number, line, "write #| elif: here")
    if word != "if" and not above:
        _fail(f"there is no #| if: above this #| {word}:", number, line, _CASES)
    if word == "else":
        if text:
            _fail("#| else: takes no condition", number, line, "write #| elif: for another one")
        return None
    if not text:
        _fail(f"#| {word}: needs a condition", number, line, f'write #| {word}: mode == "fast"')
    try:
        parse_expression(text, "expression")
    except SyntaxError:
        hint = f'write #| {word}: mode == "fast", Python over the inputs'
        _fail(f"{text!r} is not a Python expression", number, line, hint)
    return Dynamic(text)


def read_shebang(line: str, number: int) -> Option:
    """Return a `#!` line as an option: its key "#!", its text the words behind it."""
    return Option("#!", line[2:].strip(), number, 0)


def _own_interpreter(line: str, number: int) -> tuple[str, ...]:
    try:
        return interpreter_words(line[2:])
    except ValueError as error:
        _fail(f"no interpreter: {error}", number, line, "write #!/usr/bin/env Rscript")


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
