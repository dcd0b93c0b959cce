"""An input transformer that mends what IPython does not, for nbcache's own magics only.

- Blank and comment lines above `%%process` (and the other cell magics): IPython knows a cell magic
  only in the first line. They go into a mark behind the magic's name (`language.header_text`), and
  whoever reads the line puts them back; so every line number is that of the cell as written.
- `%%nbsql SELECT 1`, a cell magic without a body: IPython refuses an empty one. It gets an empty
  line, so that nbcache itself can say what is missing, if anything is.
- `%load_ext nbcache` once more (a cell run again): IPython would say that it is loaded already.
  While this transformer hangs in a shell it is, so the line is left empty.
- `%channel x = product(` whose brackets span lines, or are never closed: IPython joins only lines
  that end in a backslash. It becomes the call that IPython would make, with the lines as they are,
  and blank lines after it in place of those it took.

Put it first among the cleanup transformers: IPython's own drop leading blank lines. It never
raises, changes nothing else, and changes nothing when applied twice.
"""

from __future__ import annotations

import re

from nbcache.plan.language.header_text import ABOVE, mark_above
from nbcache.plan.language.scanning import Scan, logical_lines, scan_logical_line

CELL_MAGICS = ("process", "channel", "nbsql", "cached")
CACHED_CALL = "__nbcache_cached__"
_CELL_MAGIC = re.compile(rf"%%({'|'.join(CELL_MAGICS)})(?=\s|$)")
_LOAD_AGAIN = re.compile(r"[ \t]*%?load_ext[ \t]+nbcache[ \t]*$")
_CHANNEL = re.compile(r"([ \t]*)%channel[ \t]+(?=\S)")
# behind these a mark stands in the line, and their parsers take it off; SQL keeps its first line
_MARKED = frozenset({"process", "channel"})


def transform(lines: list[str]) -> list[str]:
    """Return the lines of a cell as IPython can read them."""
    try:
        return _transform(lines)
    except Exception:  # an error here would make every cell of the kernel fail
        return lines


# IPython's terminal asks whether a cell is complete after each line typed: not through this one,
# since a `%%process` header alone would then count as a whole cell.
transform.has_side_effects = True  # type: ignore[attr-defined]


def for_completeness(lines: list[str]) -> list[str]:
    """Return lines in which a `%channel` that spans lines is an assignment of Python.

    For the question whether a cell is complete, which a terminal asks after each line typed: this
    stands behind `transform`, which takes those lines out of a cell that runs.
    """
    try:
        return _as_python(lines)
    except Exception:  # as above
        return lines


def _as_python(lines: list[str]) -> list[str]:
    if next((line for line in lines if not _is_remark(line)), "").startswith("%%"):
        return lines  # somebody else's cell
    text = "".join(lines)
    pieces, at = [], 0
    for start, end in logical_lines(text) if "%channel" in text else ():
        found = _CHANNEL.match(text, start)
        if found and _spans_lines(scan_logical_line(text, found.end()), end):
            pieces += [text[at:start], found.group(1)]
            at = found.end()
    return ("".join(pieces) + text[at:]).splitlines(keepends=True) if pieces else lines


def _spans_lines(scan: Scan, end: int) -> bool:
    """Whether brackets hold more together than the line that ends at `end`, or never close."""
    if scan.fault is not None:
        return scan.fault_kind == "open"
    return scan.end > end and "\n" in scan.text[scan.start : scan.end]


def _transform(lines: list[str]) -> list[str]:
    first = next((at for at, line in enumerate(lines) if not _is_remark(line)), None)
    if first is None:
        return lines
    found = _CELL_MAGIC.match(lines[first])
    if found:
        return _cell_magic(lines, first, found)
    if lines[first].startswith("%%"):
        return lines  # somebody else's cell
    return _spanning_channels(["\n" if _LOAD_AGAIN.match(each) else each for each in lines])


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _cell_magic(lines: list[str], first: int, found: re.Match[str]) -> list[str]:
    above, line, below = lines[:first], lines[first], lines[first + 1 :]
    name = found.group(1)
    rest = line[len(name) + 3 :].rstrip("\n")  # as written, so that columns stay right
    if name == "cached":
        return [*above, f"{CACHED_CALL}({rest!r}, {''.join(below)!r})\n", *below]
    mark = ""
    if above and name in _MARKED and not rest.startswith(ABOVE):
        mark = mark_above("".join(above))
    return [f"%%{name} {mark}{rest}\n", *(below or ["\n"])]


def _spanning_channels(lines: list[str]) -> list[str]:
    text = "".join(lines)
    if "%channel" not in text:
        return lines
    pieces, at = [], 0
    for start, end in logical_lines(text):
        found = _CHANNEL.match(text, start)
        if not found or start < at:
            continue
        scan = scan_logical_line(text, found.end())
        if not _spans_lines(scan, end):
            continue
        taken = text.count("\n", start, scan.end)
        call = f"get_ipython().run_line_magic('channel', {text[found.end() : scan.end]!r})"
        pieces += [text[at:start], found.group(1), call, "\n" * taken]
        at = scan.end
    if not pieces:
        return lines
    return ("".join(pieces) + text[at:]).splitlines(keepends=True)
