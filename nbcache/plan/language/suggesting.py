"""Headers to paste: what nbcache writes out for a user is a whole one, in the user's own words."""

from __future__ import annotations

import builtins
import functools
import re
from pathlib import PurePath

from nbcache.plan.language.header import reserved_in_scripts
from nbcache.plan.language.header_text import is_public_name
from nbcache.plan.language.scanning import scan_logical_line

_NAMED = re.compile(r"^%%process\s+\w+", re.MULTILINE)


@functools.lru_cache(maxsize=64)  # each task of a process may ask
def header_taking(
    file: str, source: str, process: str, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> tuple[str, str]:
    """Return a process's header with one more input, a file or folder, and that input's name.

    file: its name, as the body would give it. source: the cell as written. inputs: the names that
    a header without any infers. A function gets a short header.
    """
    name = _free_name(file, (*inputs, *outputs))
    is_plain = file.isprintable() and not set('"\\') & set(file)
    declared = f'{name}: path = "{file}"' if is_plain else f"{name}: path = {file!r}"
    named = _NAMED.search(source)
    short = f"%%process {process}({', '.join((*inputs, declared))})"
    if named is None:
        return short, name
    scan = scan_logical_line(source, named.start(), options=True)
    if scan.fault is not None:
        return short, name
    before, after = named.group(), source[named.end() : scan.end]
    clean = scan.clean[named.end() : scan.end]
    if not clean.lstrip().startswith("("):
        return f"{before}({', '.join((*inputs, declared))}){after}", name
    opening = clean.index("(")
    closing = next(
        at
        for at in range(opening, len(clean))
        if clean[at] == ")" and not scan.depth_at(named.end() + at)
    )
    end = len(clean[:closing].rstrip(" ,\n"))  # behind the last input; a remark may follow
    comma = ", " if end > opening + 1 else ""
    left = after[end:closing] if after[end:closing].strip(" ,\n") else ""
    return f"{before}{after[:end]}{comma}{declared}{left}{after[closing:]}", name


def _free_name(file: str, taken: tuple[str, ...]) -> str:
    """Return a name for the input that a file becomes: that of the file, if an input may have it"""
    name = re.sub(r"\W+", "_", PurePath(file).name.lstrip(".").partition(".")[0]).strip("_")
    if not name.isidentifier():
        name = f"file_{name}" if f"file_{name}".isidentifier() and name else "data"
    is_free = is_public_name(name) and name not in taken and not hasattr(builtins, name)
    return name if is_free and not reserved_in_scripts(name) else _free_name(f"{name}_file", taken)
