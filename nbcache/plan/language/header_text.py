"""A header as text with places: what its pieces say, and errors that point into it.

Shared by `header` (the grammar of the line) and `ports` (inputs and outputs). It decides
what is a name and what is an expression; it knows nothing of processes.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import json
import keyword
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from nbcache.errors import DeclarationError, HeaderError
from nbcache.plan.language.scanning import Scan, line_and_column, line_of, strip_span

NAME = re.compile(r"[^\W\d]\w*")
BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_"))
ABOVE = "--above "
_NO_SOURCES = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Starred)


def mark_above(text: str) -> str:
    """Return the mark that stands for the lines above a magic line (see notebook.transform)."""
    return f"{ABOVE}{json.dumps(text)} "


def split_above(line: str) -> tuple[str, str]:
    """Take the mark off a magic's line: (the lines that stood above, the line as written)."""
    if not line.startswith(ABOVE + '"'):
        return "", line
    try:
        above, end = json.JSONDecoder().raw_decode(line, len(ABOVE))
    except ValueError:
        return "", line
    return str(above), line[end + 1 :]


INPUT_ENDS = (":", "=", ",")
"""What may follow the name of an input."""
_COMMAS = "names are divided by commas, and a type follows its name: a, b: path"


def nearest(word: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that `word` was most likely meant to be; `cutoff` 1: the same one."""
    folded = {each.lower().replace("-", "_"): each for each in sorted(known)}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(folded), 1, cutoff)
    return folded[found[0]] if found else None


def meant(word: str, known: Collection[str], otherwise: str = "", cutoff: float = 0.5) -> str:
    """Return "did you mean ...?" with the nearest known word; `otherwise` where none is near."""
    found = nearest(word, known, cutoff)
    return otherwise if found is None else f'did you mean "{found}"?'


@dataclass(frozen=True, slots=True)
class HeaderText:
    """The whole cell, its header scanned, and the errors that point into it."""

    text: str
    scan: Scan

    def fail(
        self,
        message: str,
        offset: int,
        hint: str | None = None,
        error: type[DeclarationError] = HeaderError,
    ) -> NoReturn:
        line, column = line_and_column(self.text, offset)
        source = line_of(self.text, line)
        raise error(message, line=line, column=column, source=source, hint=hint)

    def check_balance(self) -> None:
        """Fail where a bracket or a quote is left open."""
        if self.scan.fault is None:
            return
        char = self.text[self.scan.fault]
        said = {
            "open": f'"{char}" is never closed',
            "close": f'"{char}" closes nothing',
            "mismatch": f'"{char}" does not close the bracket that is open here',
            "quote": f"the quote {char} is never closed",
        }
        kind, has_body = self.scan.fault_kind, "\n" in self.text.strip()
        hint = "the header goes on while a bracket is open, so the body was read as part of it"
        self.fail(said[kind], self.scan.fault, hint if kind == "open" and has_body else None)

    def clean(self, start: int, end: int) -> str:
        return self.scan.clean[start:end]

    def skip_blank(self, at: int, end: int) -> int:
        while at < end and self.scan.clean[at].isspace():
            at += 1
        return at

    def name(self, at: int, end: int, what: str) -> tuple[str, int]:
        """Read a name at `at`: (name, offset behind it)."""
        found = NAME.match(self.scan.clean, at, end)
        if not found:
            self.fail(f"{what} is expected here", at)
        name = found.group()
        if keyword.iskeyword(name):
            self.fail(f'"{name}" is a word of Python and cannot be {what}', at)
        return name, found.end()

    def expression(self, start: int, end: int, what: str, hint: str | None = None) -> str:
        """Check that a piece is one Python expression; return it without blanks around it."""
        start, end = strip_span(self.scan, start, end)
        piece = self.clean(start, end)
        try:
            tree = ast.parse(f"({piece}\n)", mode="eval")
        except SyntaxError as error:
            self.fail(
                f"{what} is not a Python expression: {error.msg}",
                self._place(error, start, piece),
                hint,
            )
        except ValueError as error:  # a null character
            self.fail(f"{what} is not a Python expression: {error}", start)
        except (RecursionError, MemoryError):
            self.fail(f"{what} is nested too deeply", start)
        if isinstance(tree.body, _NO_SOURCES):
            self.fail(f"{what} is not a Python expression", start)
        return piece

    def _place(self, error: SyntaxError, start: int, piece: str) -> int:
        """Map a syntax error in `(piece` back to an offset of the cell."""
        lines = piece.split("\n")
        row = max((error.lineno or 1) - 1, 0)
        if row >= len(lines):
            return start + len(piece)
        column = (error.offset or 1) - 1 - (1 if row == 0 else 0)
        before = sum(len(line) + 1 for line in lines[:row])
        return start + before + min(max(column, 0), len(lines[row]))

    def string(self, start: int, end: int, what: str) -> str:
        """Read a piece that has to be one quoted string."""
        start, end = strip_span(self.scan, start, end)
        piece = self.clean(start, end)
        value = literal_string(piece)
        if value is None:
            quoted = piece.replace('"', "").strip()
            self.fail(f"{what} is a quoted string", start, f'write "{quoted}"')
        return value

    def unexpected(self, at: int, end: int, expected: Sequence[str]) -> NoReturn:
        """Fail at a word that cannot stand here, and say what may have been meant."""
        found = NAME.match(self.scan.clean, at, end)
        if found:
            word = found.group()
            meant = nearest(word, [each for each in expected if each.isalpha()])
            hint = f'did you mean "{meant}"?' if meant else _place_hint(word, expected)
            self.fail(f'"{word}" is not expected here', at, hint)
        mark = re.compile(r"[^\w\s]{1,2}|.").match(self.scan.clean, at, end)
        word = mark.group() if mark else ""
        hint = _COMMAS if expected == INPUT_ENDS else None
        if word == ":" and "->" in expected:
            hint = "no colon stands behind the inputs"
        elif "->" in expected and set(word) & set("-=>") and not word.startswith("--"):
            hint = 'did you mean "->"?'
        elif word.startswith("--") or word == "—":
            hint = "an option is a blank, two dashes and a word: --bash"
        self.fail(f'"{word}" is not expected here', at, hint)


def _place_hint(word: str, expected: Sequence[str]) -> str | None:
    if expected == INPUT_ENDS:
        return _COMMAS
    ways = {
        ",": f"names have commas between them: ..., {word}",
        "->": f'an output follows "->": -> {word}',
        "from": f'a channel follows "from": from {word}',
        "--": f"an option has two dashes: --{word}",
    }
    said = [ways[each] for each in expected if each in ways]
    return "; ".join(said) or None


def literal_string(piece: str) -> str | None:
    """Return the value of a text that is exactly one plain string literal, else None."""
    if piece[:1] not in ("'", '"', "r", "R", "u", "U"):
        return None
    try:
        tree = ast.parse(piece, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return tree.value
    return None


def is_public_name(name: str) -> bool:
    """Whether a word can be bound: an identifier that is no keyword."""
    return name.isidentifier() and not keyword.iskeyword(name)
