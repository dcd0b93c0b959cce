"""Parameters of a notebook, by papermill's convention: a cell tagged `parameters` assigns defaults.

Pure: notebook in, notebook out. Given values are assigned in a cell of their own right below it,
tagged `injected-parameters`, so that the executed notebook shows what it ran with.

Source: papermill, "Parameterize" (github.com/nteract/papermill).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from nbcache.engine.declared.parameters import parameter_code
from nbcache.errors import MissingParameterError, UsageError
from nbcache.plan.language.header_text import meant

TAG = "parameters"
INJECTED_TAG = "injected-parameters"


def inject(notebook: Any, given: Mapping[str, str]) -> None:
    """Put the given values into a notebook, in place; an earlier injected cell is replaced.

    Raises:
        UsageError: no cell is tagged `parameters`, or it assigns no such name.
    """
    cells = notebook.cells
    cells[:] = [cell for cell in cells if not is_injected(cell)]
    if not given:
        return
    place = _place(notebook)
    if place is None:
        raise UsageError(
            f"the notebook has no cell tagged `{TAG}`, so -p {next(iter(given))}=... has nowhere "
            "to go: tag the cell that assigns the defaults"
        )
    known = assigned_names(cells[place].source)
    for name in given:
        if name not in known:
            raise UsageError(_unknown(name, known))
    lines = [f"{name} = {parameter_code(text)}" for name, text in given.items()]
    cells.insert(place + 1, _code_cell("\n".join(["# Parameters", *lines]), INJECTED_TAG))


def is_injected(cell: Any) -> bool:
    """Whether a cell is the one that `inject` has put in."""
    return INJECTED_TAG in _tags(cell)


def known_parameters(notebook: Any) -> list[str]:
    """Return the names that the notebook's cell of parameters assigns; none where it has none."""
    place = _place(notebook)
    return [] if place is None else assigned_names(notebook.cells[place].source)


def _place(notebook: Any) -> int | None:
    return next((k for k, cell in enumerate(notebook.cells) if TAG in _tags(cell)), None)


def check_required(notebook: Any, given: Mapping[str, str]) -> None:
    """See, before a kernel is started, that every `NAME = nbcache.required(...)` gets a value.

    Raises:
        MissingParameterError: neither the command line nor another cell gives one.
    """
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    needed = {name: text for source in sources for name, text in _required_in(source)}
    for source in sources:
        own = {name for name, _ in _required_in(source)}
        for name in assigned_names(source):
            if name not in own:
                needed.pop(name, None)
    missing = tuple((name, text) for name, text in needed.items() if name not in given)
    if missing:
        raise MissingParameterError(missing)


def _required_in(source: str) -> list[tuple[str, str]]:
    """Return (name, what it is for) of the required parameters that a cell declares."""
    found = []
    for statement in _statements(source):
        call = getattr(statement, "value", None)
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or not isinstance(call, ast.Call):
            continue
        if ast.unparse(call.func) in ("required", "nbcache.required"):
            text = (
                call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
            )
            found += [(name, str(text)) for name in _targets(statement)]
    return found


def assigned_names(source: str) -> list[str]:
    """Return the names that a cell assigns at its top level, in order; magics are passed over."""
    names: list[str] = []
    for statement in _statements(source):
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            names += _targets(statement)
    return list(dict.fromkeys(names))


def _statements(source: str) -> list[ast.stmt]:
    lines = [
        "" if line.lstrip().startswith(("%", "!", "?")) else line for line in source.split("\n")
    ]
    try:
        return ast.parse("\n".join(lines)).body
    except SyntaxError:
        return []


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [
        node.id
        for target in targets
        for node in ast.walk(target)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def _unknown(name: str, known: list[str]) -> str:
    has = f"the notebook has: {', '.join(known) or 'none'}"
    return "; ".join(filter(None, (f"no parameter {name!r}", meant(name, known), has)))


def _tags(cell: Any) -> list[str]:
    return list(cell.get("metadata", {}).get("tags", ()))


def _code_cell(source: str, tag: str) -> Any:
    import nbformat

    cell = nbformat.v4.new_code_cell(source)
    cell.metadata["tags"] = [tag]
    return cell
