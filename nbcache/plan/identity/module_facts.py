"""What the source of a local module says: its statements, definitions and imports.

Works on text that is handed in: what counts is the file that a worker will import, not what the
kernel loaded earlier. Which parts of it count is for `module_reach` to say. A change here changes
the keys of all who use local modules.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

from nbcache.plan.identity.asked import Asked, annotated_names
from nbcache.plan.identity.code import lines_of, normalise
from nbcache.plan.identity.module_effects import NO_EFFECTS, Definition, Effects, effects_of
from nbcache.plan.identity.uses import Import, Uses, uses_of

Bindings = dict[str, tuple[tuple[str, str | None], ...]]


@dataclass(frozen=True, slots=True)
class Part:
    """A statement of a module: its canonical form, what it uses, its text and first line.

    `defines` is the name that a `def` or `class` binds, "" for other statements; `effects` are
    what it does to other objects when the module is imported; `annotated` are the names in its
    annotations, where somebody asks for these.
    """

    normal: bytes
    uses: Uses
    text: str
    line: int
    defines: str = ""
    effects: Effects = NO_EFFECTS
    annotated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What a module's source says; `statements` are all of its top level, in order.

    `bindings`: name -> all (module, attribute or None) that imports bind it to; several where one
    of them is tried first, or by a condition. `assigned`: each name that the top level binds in
    another way -> the names that its value may be made of. `starred` are the modules of which it
    takes all names; `settled` the names that statements behind it are sure to bind before any
    reads them, here or in a module that is imported meanwhile.
    """

    name: str
    whole: bytes
    text: str
    statements: tuple[Part, ...]
    definitions: dict[str, tuple[Part, ...]]
    bindings: Bindings
    imports: tuple[tuple[str, tuple[str, ...]], ...]  # run when the module is imported
    assigned: dict[str, frozenset[str]]
    starred: tuple[str, ...] = ()
    settled: frozenset[str] = frozenset()
    parsed: bool = True

    def binds(self, name: str) -> bool:
        """Say whether a statement of the module itself binds a name."""
        return name in self.definitions or name in self.bindings or name in self.assigned


def read_module(
    name: str, source: str, *, is_package: bool, asked: frozenset[Asked] = frozenset()
) -> ModuleFacts:
    """Return what the source of a module says (its text as a whole where it does not parse).

    `asked` is what counts besides the code; where the source does, so does its whole text.
    """
    package = name if is_package else name.rpartition(".")[0]
    try:
        facts = _facts(name, package, source, asked)
    except (SyntaxError, ValueError):
        return ModuleFacts(name, _raw(source), _shown(source), (), {}, {}, (), {}, parsed=False)
    return replace(facts, whole=_raw(source), parsed=False) if "source" in asked else facts


def _raw(source: str) -> bytes:
    return source.encode("utf-8", "surrogateescape")


def _shown(source: str) -> str:
    return _raw(source).decode("utf-8", "replace")


def _facts(name: str, package: str, source: str, asked: frozenset[Asked]) -> ModuleFacts:
    tree = ast.parse(source)
    docstrings = "docstrings" in asked
    future = [
        each
        for each in tree.body
        if isinstance(each, ast.ImportFrom) and each.module == "__future__"
    ]
    statements: list[Part] = []
    definitions: dict[str, tuple[Part, ...]] = {}
    bindings: Bindings = {}
    imports: list[tuple[str, tuple[str, ...]]] = []
    starred: list[str] = []
    settled: set[str] = set()
    early: set[str] = set()  # what may be read while a star still says what it is
    is_shown = False  # what a star brought, to another module that may take it
    lines = lines_of(source)
    typed = not any(map(_checks_types, tree.body))
    for node in tree.body:
        if _never_runs(node, typed) or (_is_text(node) and not docstrings):
            continue
        part = _part(node, future, lines, asked)
        early |= part.uses.names.keys() - settled
        is_shown |= bool(starred) and any(each.bound for each in part.uses.imports)
        if not is_shown and isinstance(node, Definition | ast.Import | ast.ImportFrom | ast.Assign):
            settled |= part.uses.stored - early
        for each in part.uses.imports:
            if each.bound:
                module = absolute(each.module, each.level, package)
                imports.append((module, each.names))
                if each.names == ("*",):
                    starred.append(module)
                    settled.clear()
                _bind(each, module, bindings)
        part = _absolute_uses(part, package)
        if part.defines:
            definitions[part.defines] = (*definitions.get(part.defines, ()), part)
        statements.append(part)
    assigned: dict[str, frozenset[str]] = {}
    for statement in statements:
        uses = statement.uses
        for stored in uses.stored - definitions.keys() - bindings.keys():
            assigned[stored] = assigned.get(stored, frozenset()) | uses.names.keys()
    whole = normalise(tree, docstrings=docstrings)
    return ModuleFacts(
        name, whole, source, tuple(statements), definitions, bindings, tuple(imports), assigned,
        tuple(starred), frozenset(settled),
    )  # fmt: skip


def _is_text(node: ast.stmt) -> bool:
    """Tell whether a statement is a docstring: of the module, or of the name assigned above."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _part(
    node: ast.stmt, future: list[ast.ImportFrom], lines: list[str], asked: frozenset[Asked]
) -> Part:
    module = ast.Module(body=[*future, node], type_ignores=[])
    uses = uses_of(compile(module, "<module>", "exec", dont_inherit=True))
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    text = "".join(lines[first - 1 : node.end_lineno])
    defines = node.name if isinstance(node, Definition) else ""
    annotated = frozenset(annotated_names(node)) if "annotations" in asked else frozenset()
    normal = normalise(node, docstrings="docstrings" in asked)
    return Part(normal, uses, text, first, defines, effects_of(node), annotated)


def _absolute_uses(part: Part, package: str) -> Part:
    if not any(each.level for each in part.uses.imports):
        return part
    imports = tuple(
        Import(
            absolute(each.module, each.level, package),
            0, each.names, each.bound, each.targets, each.aliased, each.reads,
        )
        for each in part.uses.imports
    )  # fmt: skip
    return replace(part, uses=replace(part.uses, imports=imports))


def absolute(module: str, level: int, package: str) -> str:
    """Return the full name of a module that was imported with `level` leading dots."""
    if not level:
        return module
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{module}" if module and base else base or module


def _bind(each: Import, module: str, bindings: Bindings) -> None:
    for position, target in enumerate(each.targets):
        found: tuple[str, str | None]
        if each.names:
            found = (module, each.names[position])
        elif each.aliased:
            found = (module, None)
        else:
            found = (module.partition(".")[0], None)
        bindings[target] = (*bindings.get(target, ()), found)


def _checks_types(node: ast.stmt) -> bool:
    """Tell whether a statement says itself what TYPE_CHECKING is, and not that it is false."""
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    is_false = isinstance(node.value, ast.Constant) and not node.value.value
    return any(_last_name(each) == "TYPE_CHECKING" for each in targets) and not is_false


def _never_runs(node: ast.stmt, typed: bool) -> bool:
    """Tell whether a statement is the `if __name__ == "__main__":` or type checkers' block.

    typed: TYPE_CHECKING means what it means to everybody.
    """
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        sides = [test.left, test.comparators[0]]
        return any(isinstance(each, ast.Name) and each.id == "__name__" for each in sides) and any(
            isinstance(each, ast.Constant) and each.value == "__main__" for each in sides
        )
    return typed and _last_name(test) == "TYPE_CHECKING"


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
