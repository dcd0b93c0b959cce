"""What becomes of the cells of a notebook that is executed for its plan alone, and what is said.

Nothing runs in that kernel. So a cell that needs a result that is not cached cannot be executed,
nor can one that needs a name which such a cell would have bound. These are left out, and named; any
other error is one.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any

from nbcache.errors import NotRunError, UnknownNameError
from nbcache.notebook.again import RUN_LINE

_MAGIC = re.compile(r"^\s*(?:[%!?]|[\w., ]+=\s*[%!])")
_BOUND = re.compile(
    r"^\s*%%?channel\s+(\w+)|^\s*%%process\s+(\w+)|^\s*(\w+)\s*=\s*[%!]|^%%nbsql\b.*?(\w+)\s*<<",
    re.MULTILINE,
)
_WIDTH = 60  # of a cell's first line


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A cell that was not executed: its number, its first line, and why."""

    number: int
    line: str
    error: str


@dataclass(slots=True)
class Planning:
    """What a plan of a notebook found: its text, what it says of each process, and of what it knows
    nothing yet and why; `left_out` are the cells that it had to do without."""

    text: str = ""
    records: list[dict[str, object]] = field(default_factory=list)
    not_known: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    _lost: set[str] = field(default_factory=set)

    def leaves_out(self, number: int, cell: Any) -> bool:
        """Say whether a cell that failed is left out, and if so, take note of it."""
        failed = next((each for each in cell.outputs if each.output_type == "error"), None)
        if failed is None or not self._is_for_want(failed.ename, failed.evalue):
            return False
        self._lost |= bound_names(cell.source)
        lines = map(str.strip, cell.source.split("\n"))
        line = next((each for each in lines if each and each[0] != "#"), "")
        self.left_out.append(LeftOut(number, line, f"{failed.ename}: {failed.evalue}"))
        return True

    def _is_for_want(self, error: str, text: str) -> bool:
        if error == NotRunError.__name__:
            return True
        is_of_name = error in (NameError.__name__, UnknownNameError.__name__)
        return is_of_name and not self._lost.isdisjoint(re.findall(r"'(\w+)'", text))

    def words(self) -> str:
        """Return what is printed of it."""
        lines = [self.text.rstrip()]
        for name, why in self.not_known.items():
            lines.append(f"{name} is not known yet: {why.partition(chr(10))[0]}")
        named = [each for each in self.left_out if not RUN_LINE.match(each.line)]
        if named:
            lines.append("left out, since what they need is not cached:")
            lines += [f"  cell [{each.number}] {each.line[:_WIDTH]}" for each in named]
        return "\n".join(filter(None, lines))

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "plan": self.records,
            "not_known": self.not_known,
            "left_out": [{"cell": each.number, "error": each.error} for each in self.left_out],
        }


def bound_names(source: str) -> set[str]:
    """Return the names that a cell would bind."""
    found = {name for each in _BOUND.findall(source) for name in each if name}
    lines = ["" if _MAGIC.match(line) else line for line in source.split("\n")]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
    return found
