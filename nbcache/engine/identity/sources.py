"""Where code was written: the text of a function or class, and the place as people find it."""

from __future__ import annotations

import ast
import json
import linecache
import re
import sys
import textwrap
import types
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from nbcache.model.process import ProcessDecl
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.code import find_function, lines_of

_ALL_TIMED = "<timed exec>"  # what IPython calls the files of all that is timed
_timed_in: WeakKeyDictionary[types.CodeType, str] = WeakKeyDictionary()  # the cell of such code
_MAGIC = "get_ipython().run_"
_TIMING = re.compile(
    rf"^([ \t]*){re.escape(_MAGIC)}(?:cell|line)_magic(\('(?:time|timeit|prun)', .*\))$",
    re.MULTILINE,
)
_CACHED = "%%cached"  # stands in the texts of such cells, for tracebacks
_CACHED_LINE = re.compile(rf"^{_CACHED}\b.*$", re.MULTILINE)
_GENERATED = ("<string>", "<attrs generated", "<frozen")  # by dataclasses, attrs, namedtuple


def code_of(value: object) -> types.CodeType | None:
    """Return the code that shows where a function or class was written, or None."""
    if isinstance(value, types.FunctionType):
        inner = value
        while isinstance(attribute(inner, "__wrapped__"), types.FunctionType):
            inner = inner.__wrapped__  # type: ignore[attr-defined]
        return inner.__code__
    if isinstance(value, type):
        found = []
        for each in vars(value).values():
            function = getattr(each, "__func__", getattr(each, "fget", each))
            if isinstance(function, types.FunctionType) and function.__qualname__.startswith(
                value.__qualname__ + "."
            ):
                code = code_of(function)  # not of what wraps it, as dataclasses do
                if code is None:
                    continue
                is_generated = code.co_filename.startswith(_GENERATED)
                if function.__module__ == value.__module__ and not is_generated:
                    return code
                found.append((not is_generated, code))  # or brought along, as by a named tuple
        return min(found, key=itemgetter(0), default=(False, None))[1]
    wrapped = attribute(value, "__wrapped__")
    return wrapped.__code__ if isinstance(wrapped, types.FunctionType) else None


def module_around(value: object) -> object:
    """Return the name of the module whose globals a function reads, or None."""
    return value.__globals__.get("__name__") if isinstance(value, types.FunctionType) else None


def class_text(source: str, qualname: str, inside: int | None) -> tuple[int, str | None]:
    """Return first line and text of the class of that name (that holds line `inside`)."""
    name = qualname.rpartition(".")[2]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == name and node.end_lineno is not None:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if inside is None or first <= inside <= node.end_lineno:
                return first, "".join(lines_of(source)[first - 1 : node.end_lineno])
    return inside or 0, None


def cell_of_class(cls: type) -> tuple[str, str | None]:
    """Return place and text of a class without methods: the latest cell that defines its name."""
    for filename in reversed(_cells()):
        text = text_of(filename) or ""
        if f"class {cls.__name__}" in text:
            with suppress(SyntaxError):
                line, found = class_text(text, cls.__qualname__, None)
                if found is not None:
                    return place_of(filename, line), found
    return "", None


def text_of(filename: str) -> str | None:
    """Return the source text of a file or cell as it is now, or None; of a cell as Python."""
    linecache.checkcache(filename)
    text = "".join(linecache.getlines(filename))
    return (_as_python(text) if filename in _cells() else text) or None


def texts_of_notebook(path: Path) -> list[str]:
    """Return the cells of a notebook's file as Python, as `%run` executes them."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    codes = ["".join(each["source"]) for each in cells if each["cell_type"] == "code"]
    return [_as_python(_shell().transform_cell(each)) for each in codes]


def source_of(code: types.CodeType) -> str | None:
    """Return the source text of the file or cell in which some code was written, or None."""
    return text_of(file_of(code))


def file_of(code: types.CodeType) -> str:
    """Return the name of the file or cell in which some code was written."""
    if code.co_filename != _ALL_TIMED:
        return code.co_filename
    if code not in _timed_in:
        _timed_in[code] = code.co_filename  # where none holds it: a line, not a cell, was timed
        word = code.co_name.strip("<>")  # of a lambda, too
        for name in filter(_is_timed, reversed(_cells())):
            text = text_of(name) or ""
            if word in text and find_function(code, lambda _, text=text: text):  # type: ignore[misc]
                _timed_in[code] = name
                break
    return _timed_in[code]


def _is_timed(filename: str) -> bool:
    return linecache.getline(filename, 1).startswith(f"{_MAGIC}cell_magic('time'")


def _as_python(text: str) -> str:
    """Return a text with what is timed in place of the magics that time it, and none of ours."""
    return _without_magics(text) if _CACHED in text or _MAGIC in text else text


@lru_cache(maxsize=2048)  # the kernel keeps the texts of its cells, too
def _without_magics(text: str) -> str:
    return _TIMING.sub(_timed_by, _CACHED_LINE.sub("", text))


def _timed_by(call: re.Match[str]) -> str:
    """Return what a magic that times executes, as Python; the call where that is no Python."""
    try:
        timed = _shell().transform_cell(ast.literal_eval(call[2])[-1]).rstrip("\n")
        ast.parse(timed)
    except Exception:  # an option of the magic, a call that somebody wrote, a file without IPython
        return call[0]
    return textwrap.indent(timed, call[1])


def place_of(filename: str, line: int) -> str:
    """Return where people find a line: "cell 3, line 4", or "pipeline.py, line 4"."""
    cells = _cells()
    if filename in cells:
        return f"cell {cells[filename]}, line {line + _is_timed(filename)}"
    if filename.startswith("<"):
        return f"line {line}"
    return f"{Path(filename).name}, line {line}"


def name_of_source(filename: str) -> str:
    """Return what people call a file or cell, as a `%%process` cell is named: "cell [3]"."""
    return cells_among([filename]).get(filename) or Path(filename).name


def cells_among(filenames: Iterable[str]) -> dict[str, str]:
    """Return file name -> what people call it, "cell [3]", of those that are cells."""
    cells = _cells()
    return {name: f"cell [{cells[name]}]" for name in filenames if name in cells}


def place_of_body(decl: ProcessDecl) -> str:
    """Return where the body begins, as people find it: "cell 5, line 2"."""
    cell = decl.cell.replace("[", "").replace("]", "")
    return f"{cell}, line {decl.body_line}" if cell else ""


def cell_names() -> list[str]:
    """Return the file names of the cells that the kernel ran, oldest first."""
    return list(_cells())


def _cells() -> dict[str, int]:
    """Return file name -> number of the cells that the kernel ran, oldest first."""
    return getattr(getattr(_shell(), "compile", None), "_filename_map", {})


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None
