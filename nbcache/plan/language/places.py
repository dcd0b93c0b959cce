"""Where in a cell a declaration says something: for errors that are found later, at a plan or run.

The grammar keeps no offsets of sources and of the header's first line, so these are looked up in
the cell's text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nbcache.model.process import ProcessDecl
from nbcache.plan.language.scanning import line_and_column, line_of

_FROM = re.compile(r"\bfrom\s+")


class Place(NamedTuple):
    """A line of a cell (1-based), its text, and a column in it (0-based; None: the whole line)."""

    line: int
    text: str
    column: int | None = None


def place_of_header(decl: ProcessDecl) -> Place:
    """Return the line of a process's `%%process`; of a function its first line."""
    lines = decl.source.split("\n")
    at = next((n for n, each in enumerate(lines) if each.lstrip().startswith("%%process")), 0)
    return Place(decl.source_line + at, lines[at].strip())


def place_of_input(decl: ProcessDecl, name: str) -> Place:
    """Return the line of the header that declares an input; else that of the header."""
    for each in decl.inputs or ():
        text = line_of(decl.source, each.line - decl.source_line + 1)
        if each.name == name and re.search(rf"\b{re.escape(name)}\b", text):
            return Place(each.line, text.strip())
    return place_of_header(decl)


def place_of_source(decl: ProcessDecl, source: str, name: str = "") -> Place | None:
    """Return where `from` says a source (and a name in it); None where the header does not."""
    header = "\n".join(decl.source.split("\n")[: decl.body_line - decl.source_line])
    for mark in _FROM.finditer(header):
        if decl.sources and header.startswith(decl.sources[0].strip(), mark.end()):
            found = header.find(source.strip(), mark.end())
            inside = re.search(rf"\b{re.escape(name)}\b", source.strip()) if name else None
            if found >= 0:
                row, column = line_and_column(header, found + (inside.start() if inside else 0))
                return Place(decl.source_line + row - 1, line_of(header, row), column)
    return None


def said_place(decl: ProcessDecl, place: Place) -> str:
    """Return a place as an error names it: "cell [4] line 1: %%process fit(a) from grid"."""
    return f"{decl.cell or decl.name} line {place.line}: {place.text}"
