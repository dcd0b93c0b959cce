"""Files that a body names without declaring them.

A literal that names an existing file, in the body or in a helper, counts as a read: many libraries
open files where no audit hook sees it. A literal that is only opened for writing does not.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_WRITERS = frozenset({"write_text", "write_bytes", "touch", "unlink", "mkdir", "rmdir", "savefig"})
_MADE_UP = ("/proc/", "/sys/")  # by the system, at each look anew
_NAME = re.compile(r"(?!\.\Z)[^\n\0]{1,1024}")  # of a file, perhaps


def named_files(sources: Iterable[str], folder: Path) -> dict[str, Path]:
    """Return literal -> file for the string literals of Python sources that name readable files.

    Relative names are looked up beside the notebook. Sources that do not parse are passed over.
    """
    found: dict[str, Path] = {}
    for text in frozenset().union(*map(_read_literals, sources)):
        path = folder / text
        with suppress(OSError, ValueError):
            if path.is_file() and not str(path).startswith(_MADE_UP) and os.access(path, os.R_OK):
                found[text] = path
    return found


@lru_cache(maxsize=256)
def _read_literals(source: str) -> frozenset[str]:
    """Return the literals of a source that may name files and are not only written there."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return frozenset()
    written = {id(node) for call in nodes for node in _written_by(call)}
    return frozenset(
        node.value
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in written
        and _NAME.fullmatch(node.value)
    )


def _written_by(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the literals that a call names only to write there."""
    if not isinstance(node, ast.Call):
        return
    function = node.func
    if isinstance(function, ast.Name) and function.id == "open":
        yield from node.args[:1] if _writes(node, 1) else ()
    elif isinstance(function, ast.Attribute):
        if function.attr in _WRITERS or (function.attr == "open" and _writes(node, 0)):
            yield from ast.walk(function.value)
            yield from node.args[:1] if function.attr == "savefig" else ()
        elif function.attr.startswith("to_"):  # a table's to_csv, to_parquet
            yield from node.args[:1]


def _writes(call: ast.Call, position: int) -> bool:
    mode = next((word.value for word in call.keywords if word.arg == "mode"), None)
    if mode is None and len(call.args) > position:
        mode = call.args[position]
    text = mode.value if isinstance(mode, ast.Constant) else None
    return isinstance(text, str) and "r" not in text and "+" not in text
