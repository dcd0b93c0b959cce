"""Source and diffs in colour: comments, strings, numbers, keywords. What is not known stays plain.

Pure. A reader of colours only needs to be right mostly: this is no parser, and a diff shows pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbcache.notebook.markup import Element, element

_PYTHON = frozenset(
    "and as assert async await break case class continue def del elif else except False finally "
    "for from global if import in is lambda match None nonlocal not or pass raise return True try "
    "while with yield".split()
)
_SHELL = frozenset(
    "case do done elif else esac export fi for function if in local return set then while".split()
)
_TOKEN = re.compile(
    r"(?P<comment>#[^\n]*)"
    r"|(?P<string>\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<figure>\b\d[\w.]*)"
    r"|(?P<word>[^\W\d]\w*)"
)


def coloured(text: str, language: str = "python") -> Iterator[Element | str]:
    """Yield source as pieces, those with a colour as elements."""
    words = _PYTHON if language in ("python", "cell") else _SHELL
    at = 0
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind == "word" and match[0] not in words:
            continue
        if match.start() > at:
            yield text[at : match.start()]
        yield element("span", kind, match[0])
        at = match.end()
    if at < len(text):
        yield text[at:]


def source_block(text: str, language: str) -> Element:
    """Return source as a block that scrolls."""
    return element("pre", "code", *coloured(text, language), tabindex="0")


def diff_block(text: str, language: str = "python") -> Element:
    """Return a unified diff, a line each: its sign says the same as the colour.

    Without the two lines that name its sides: it stands below a title that does.
    """
    lines = text.split("\n")
    if lines[0].startswith("--- ") and lines[1:2] and lines[1].startswith("+++ "):
        lines = lines[2:]
    shown = (_diff_line(line, language) for line in lines)
    return element("pre", "code diff", *shown, tabindex="0", aria_label="difference")


def _diff_line(line: str, language: str) -> Element:
    if line.startswith("@@"):
        return element("span", "place-line", f"{line}\n")
    look = {"+": "new-line", "-": "old-line"}.get(line[:1], "same-line")
    return element("span", look, line[:1], *coloured(line[1:], language), "\n")
