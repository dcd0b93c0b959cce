"""Parameters of a run: names of the notebook that hold another value while its snapshot is taken.

What a cell made from a parameter before would not follow: such a run is refused, with the cell.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator, Mapping, Sequence

from nbcache.errors import UsageError
from nbcache.plan.language.header_text import nearest

_WORDS = {"true": True, "false": False}
_NO_LITERAL = (ValueError, SyntaxError, MemoryError, RecursionError)
_NUMBERS = frozenset(f"{sign}{name}" for sign in ("", "+", "-") for name in ("nan", "inf"))


def parameter_value(text: str) -> object:
    """Return the Python literal that `-p name=text` means, or the text itself: 3, [1, 2], abc.

    `nan` and `inf` are numbers, as in papermill; `'nan'` is the text.
    """
    try:
        value: object = ast.literal_eval(text)
    except _NO_LITERAL:
        return float(text) if text in _NUMBERS else _WORDS.get(text, text)
    return value


def check_literal(name: str, text: str) -> None:
    """Refuse what `parameter_value` takes for a text though nobody quoted it.

    Raises:
        UsageError: so that a slip in a list does not make a text of it.
    """
    if text not in _NUMBERS:
        try:
            ast.literal_eval(text)
        except _NO_LITERAL:
            raise UsageError(f"{name}: {text} is no Python literal; a text has quotes") from None


def parameter_code(text: str) -> str:
    """Return Python for what `-p name=text` means."""
    try:
        ast.literal_eval(text)
    except _NO_LITERAL:
        return f"float({text!r})" if text in _NUMBERS else repr(parameter_value(text))
    return text.strip()


@contextlib.contextmanager
def given(
    namespace: dict[str, object], parameters: Mapping[str, str], cells: Sequence[str]
) -> Iterator[None]:
    """Let parameters hold in the namespace meanwhile; those that hold already are left alone.

    cells: what was executed, in order, the first of them number 0.

    Raises:
        UsageError: there is no such variable; or an executed cell made other names from it, so
            that they would not follow.
    """
    values: dict[str, object] = {}
    for name, text in parameters.items():
        if name not in namespace:
            meant = nearest(name, [each for each in namespace if each[:1] != "_"])
            hint = f'; did you mean "{meant}"?' if meant else ""
            raise UsageError(f"-p {name}: no variable of the notebook has this name{hint}")
        value = parameter_value(text)
        if not _same(value, namespace[name]):
            values[name] = value
    _refuse_derived(set(values), cells)
    before = {name: namespace[name] for name in values}
    namespace.update(values)
    try:
        yield
    finally:
        namespace.update(before)


def _same(value: object, held: object) -> bool:
    """Whether a variable holds a literal already. Texts tell `1`, `1.0` and `True` apart."""
    return type(value) is type(held) and repr(value) == repr(held)


def _refuse_derived(names: set[str], cells: Sequence[str]) -> None:
    if not names:
        return
    for number, cell in enumerate(cells):
        for derived, parameter in derived_names(cell, names):
            raise UsageError(
                f"-p {parameter}: cell [{number}] makes {derived} from it, and would not be "
                f"run again.\n  Set {parameter} in its cell and run the cells below, or let a "
                f"fresh kernel run the notebook, in a shell: nbcache run NOTEBOOK -p "
                f"{parameter}=...; nbcache resume and nbcache relaunch do the same for a run"
            )


def derived_names(cell: str, parameters: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, parameter) for module-level assignments of a cell that read a parameter."""
    if cell.lstrip().startswith(("%", "#|")):
        return
    try:
        tree = ast.parse(cell)
    except SyntaxError:
        return
    for statement in tree.body:
        if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            continue
        read = {
            node.id
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for parameter in sorted(read & parameters):
            for target in targets:
                names = [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]
                yield from ((name, parameter) for name in names)
