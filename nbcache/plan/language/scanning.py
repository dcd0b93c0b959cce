"""Read text that is almost Python: quotes, brackets, remarks and line ends, and nothing more.

Python's tokenizer refuses `?`, `!` and half of what stands in a header, so headers, bodies with
magics and whole cells are first read by this scanner. It never fails: what is left open is told in
the result, and the caller says what is wrong. All offsets are into the text as given, and `clean`
has its length, so that every error can point at the column that the user wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

OPENING = {"(": ")", "[": "]", "{": "}"}
CLOSING = frozenset(OPENING.values())


@dataclass(frozen=True, slots=True)
class Scan:
    """What stands from `start` to `end` of `text`.

    `clean` is `text` with remarks and line continuations blanked; `depth[i]` is the bracket depth
    at offset `start + i`, -1 inside a string. `fault` is the offset of a bracket or quote that does
    not close (or closes nothing), with `fault_kind` "open", "close", "mismatch" or "quote".
    """

    text: str
    clean: str
    start: int
    end: int
    depth: Sequence[int]
    fault: int | None = None
    fault_kind: str = ""

    def depth_at(self, offset: int) -> int:
        return self.depth[offset - self.start]


def string_end(text: str, start: int) -> tuple[int, bool]:
    """Return the offset behind the string whose quote is at `start`, and whether it closes.

    A triple-quoted string may span lines; any other ends with its line at the latest.
    """
    quote = text[start]
    if text.startswith(quote * 3, start):
        quote *= 3
    at = start + len(quote)
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text.startswith(quote, at):
            return at + len(quote), True
        elif text[at] == "\n" and len(quote) == 1:
            return at, False
        else:
            at += 1
    return len(text), False


def line_end(text: str, start: int) -> int:
    """Return the offset of the newline that ends the line of `start` (or of the text's end)."""
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def scan_logical_line(text: str, start: int = 0, *, options: bool = False) -> Scan:
    """Scan from `start` to the end of the logical line: brackets and backslashes carry it on.

    `options`: behind the first ` --word` outside brackets a `#` is a remark only after a blank,
    so that `--tag a#1` is what it looks like.
    """
    clean = list(text)
    depth: list[int] = []
    brackets: list[int] = []
    fault: tuple[int, str] | None = None
    at, strict_remarks = start, False
    while at < len(text):
        char = text[at]
        step, level = 1, len(brackets)
        if char in "'\"":
            stop, closed = string_end(text, at)
            step, level = min(stop, len(text)) - at, -1
            if not closed and fault is None:
                fault = (at, "quote")
        elif char == "#" and (
            brackets or not strict_remarks or at == start or text[at - 1].isspace()
        ):
            step = line_end(text, at) - at
            clean[at : at + step] = " " * step
        elif char == "\\" and text.startswith("\n", at + 1):
            step = 2
            clean[at : at + 2] = "  "
        elif char == "\n" and not brackets:
            break
        elif char in OPENING:
            brackets.append(at)
        elif char in CLOSING:
            if brackets and OPENING[text[brackets[-1]]] == char:
                brackets.pop()
            elif fault is None:
                fault = (at, "mismatch" if brackets else "close")
            level = len(brackets)
        elif options and not brackets and is_option(text, at, start):
            strict_remarks = True
        depth.extend([level] * step)
        at += step
    if brackets and fault is None:
        fault = (brackets[-1], "open")
    kind = fault[1] if fault else ""
    return Scan(text, "".join(clean), start, at, depth, fault[0] if fault else None, kind)


def is_option(text: str, at: int, start: int = 0) -> bool:
    """Whether ` --word` stands here: two dashes after a blank (or at the start), then a letter."""
    return (
        text.startswith("--", at)
        and text[at + 2 : at + 3].isalpha()
        and (at == start or text[at - 1].isspace())
    )


def logical_lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each logical line; a line of a magic or shell command is never more
    than its physical line, since its quotes and brackets are not Python's."""
    at = 0
    while at < len(text):
        first = text[at : line_end(text, at)].lstrip()[:1]
        end = line_end(text, at) if first in ("%", "!", "?") else scan_logical_line(text, at).end
        yield at, end
        at = end + 1


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the 1-based line and 0-based column of an offset."""
    before = text.count("\n", 0, offset)
    return before + 1, offset - (text.rfind("\n", 0, offset) + 1)


def offset_of(text: str, line: int, column: int) -> int:
    """Return the offset of a 1-based line and 0-based column (both cut to what there is)."""
    at = 0
    for _ in range(line - 1):
        following = text.find("\n", at)
        if following < 0:
            return len(text)
        at = following + 1
    return min(at + max(column, 0), line_end(text, at))


def line_of(text: str, line: int) -> str:
    """Return the text of a 1-based line, empty where there is none."""
    lines = text.split("\n")
    return lines[line - 1].rstrip("\r") if 0 < line <= len(lines) else ""


def split_at(scan: Scan, mark: str, start: int, end: int, depth: int) -> list[tuple[int, int]]:
    """Split start..end at each `mark` character that stands at bracket depth `depth`."""
    pieces, begin = [], start
    for at in range(start, end):
        if scan.text[at] == mark and scan.depth_at(at) == depth and scan.clean[at] == mark:
            pieces.append((begin, at))
            begin = at + 1
    pieces.append((begin, end))
    return pieces


def strip_span(scan: Scan, start: int, end: int) -> tuple[int, int]:
    """Return the span without blanks (and remarks) at its ends."""
    while start < end and scan.clean[start].isspace():
        start += 1
    while end > start and scan.clean[end - 1].isspace():
        end -= 1
    return start, end
