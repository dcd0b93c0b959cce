"""Headers to paste: what nbcache writes out for a user is a whole one, in the user's own words."""

from __future__ import annotations

import functools
import re

from nbcache.plan.language.scanning import scan_logical_line

_NAMED = re.compile(r"%%process\s+\w+")


@functools.lru_cache(maxsize=64)  # each task of a process may ask
def header_with(source: str, process: str, inputs: tuple[str, ...], declared: str) -> str:
    """Return a process's header with one more input, written as `declared`.

    source: the cell as written. inputs: the names that a header without any infers. A header over
    several lines, and a function, get a short one.
    """
    line = next((each for each in source.splitlines() if _NAMED.match(each)), "")
    named = _NAMED.match(line)
    if named is None or scan_logical_line(line).fault is not None or line.endswith("\\"):
        return f"%%process {process}({', '.join((*inputs, declared))})"
    scan = scan_logical_line(line)
    rest = line[named.end() :]
    if not rest.lstrip().startswith("("):
        return f"{named.group()}({', '.join((*inputs, declared))}){rest}"
    opening = line.index("(")
    closing = next(
        at for at in range(opening, len(line)) if line[at] == ")" and not scan.depth_at(at)
    )
    written = line[opening + 1 : closing].strip(" ,")
    return f"{line[:opening]}({', '.join(filter(None, (written, declared)))}){line[closing + 1 :]}"
