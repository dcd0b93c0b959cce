"""Tell which parts of local modules count: what their import runs, and what is reached of the rest.

Works on source text that is handed in: what counts is the file that a worker will import, not
what the kernel loaded earlier. Statements other than `def` and `class` always count, definitions
when they are reached; where reach cannot be told (a star import, a module passed around, `eval`)
the whole module does. A change here changes the keys of all who use local modules.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nbcache.model.digest import Digest, identity_digest
from nbcache.plan.code import encode_constant, normalise, without_docstring
from nbcache.plan.uses import NAME_MODULES, Chain, Import, Uses, uses_of

Bindings = dict[str, tuple[tuple[str, str | None], ...]]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# Decorators that only change what they decorate. Any other may register it somewhere when the
# module is imported, so what it decorates counts even where nobody reaches it.
_QUIET = frozenset(
    "cache lru_cache wraps dataclass property staticmethod classmethod cached_property njit jit "
    "contextmanager asynccontextmanager overload final total_ordering singledispatch override "
    "runtime_checkable abstractmethod vectorize define frozen attrs setter getter deleter".split()
)
_SEES_ALL = frozenset({"globals", "vars", "eval", "exec", "locals"})


@dataclass(frozen=True, slots=True)
class Part:
    """A statement of a module: its canonical form, what it uses, its text and first line."""

    normal: bytes
    uses: Uses
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What a module's source says.

    `bindings`: name -> all (module, attribute or None) that imports bind it to; several where one
    of them is tried first, or by a condition.
    """

    name: str
    whole: bytes
    text: str
    statements: tuple[Part, ...]
    definitions: dict[str, tuple[Part, ...]]
    bindings: Bindings
    imports: tuple[tuple[str, tuple[str, ...]], ...]  # run when the module is imported
    parsed: bool = True


def read_module(name: str, source: str, *, is_package: bool) -> ModuleFacts:
    """Return what the source of a module says (its text as a whole where it does not parse)."""
    package = name if is_package else name.rpartition(".")[0]
    try:
        tree = ast.parse(source)
        whole = normalise(tree)
        return _facts(name, package, source, tree, whole)
    except (SyntaxError, ValueError):
        return ModuleFacts(name, source.encode("utf-8", "replace"), source, (), {}, {}, (), False)


def _facts(name: str, package: str, source: str, tree: ast.Module, whole: bytes) -> ModuleFacts:
    future = [
        each
        for each in tree.body
        if isinstance(each, ast.ImportFrom) and each.module == "__future__"
    ]
    statements: list[Part] = []
    definitions: dict[str, tuple[Part, ...]] = {}
    bindings: Bindings = {}
    imports: list[tuple[str, tuple[str, ...]]] = []
    lines = source.splitlines(keepends=True)
    for node in without_docstring(tree):
        if _never_runs(node):
            continue
        part = _part(node, future, lines)
        for each in part.uses.imports:
            if each.bound:
                module = absolute(each.module, each.level, package)
                imports.append((module, each.names))
                _bind(each, module, bindings)
        if isinstance(node, Definition):
            definitions[node.name] = (*definitions.get(node.name, ()), part)
            if not _quiet(node):
                statements.append(part)
        else:
            statements.append(part)
    resolved = [_absolute_uses(each, package) for each in statements]
    named = {
        key: tuple(_absolute_uses(each, package) for each in parts)
        for key, parts in definitions.items()
    }
    return ModuleFacts(name, whole, source, tuple(resolved), named, bindings, tuple(imports))


def _part(node: ast.stmt, future: list[ast.ImportFrom], lines: list[str]) -> Part:
    module = ast.Module(body=[*future, node], type_ignores=[])
    uses = uses_of(compile(module, "<module>", "exec", dont_inherit=True))
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    text = "".join(lines[first - 1 : node.end_lineno])
    return Part(normalise(node), uses, text, first)


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
    uses = part.uses
    changed = Uses(uses.names, imports, uses.texts, uses.stored, uses.attributes)
    return Part(part.normal, changed, part.text, part.line)


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


def _never_runs(node: ast.stmt) -> bool:
    """Tell whether a statement is the `if __name__ == "__main__":` or type checkers' block."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name):
        right = test.comparators[0]
        return (
            test.left.id == "__name__"
            and len(test.ops) == 1
            and isinstance(test.ops[0], ast.Eq)
            and isinstance(right, ast.Constant)
            and right.value == "__main__"
        )
    return _last_name(test) == "TYPE_CHECKING"


def _quiet(node: Definition) -> bool:
    if node.name in ("__getattr__", "__init_subclass__"):
        return False
    if isinstance(node, ast.ClassDef) and node.keywords:
        return False
    return all(_last_name(each) in _QUIET for each in node.decorator_list)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


@dataclass(slots=True)
class Reached:
    """What counts of one module."""

    facts: ModuleFacts
    names: set[str] = field(default_factory=set)
    whole: bool = False

    def digest(self) -> Digest:
        """Return the identity of what counts; definitions in the order of their names."""
        if self.whole:
            return identity_digest(encode_constant(("whole", self.facts.whole)))
        return identity_digest(
            encode_constant(
                (
                    "parts",
                    tuple(each.normal for each in self.facts.statements),
                    tuple(
                        (name, tuple(each.normal for each in self.facts.definitions[name]))
                        for name in sorted(self.names)
                    ),
                )
            )
        )

    def text(self) -> str:
        """Return the source text of what counts, in the order of the file."""
        if self.whole:
            return self.facts.text
        parts = {each.line: each.text for each in self.facts.statements}
        parts |= {
            each.line: each.text for name in self.names for each in self.facts.definitions[name]
        }
        return "\n".join(text.rstrip("\n") for _, text in sorted(parts.items()))


class ModuleReach:
    """Follows reads of modules through their source.

    `load` gives the facts of a local module, and None for any other name. `packages` collects
    the names of modules that are not local, `modules` what counts of those that are.
    """

    def __init__(self, load: Callable[[str], ModuleFacts | None]) -> None:
        self._load = load
        self._asked: dict[str, ModuleFacts | None] = {}
        self.modules: dict[str, Reached] = {}
        self.packages: set[str] = set()
        self.texts: set[str] = set()
        self._queue: list[tuple[str, Chain]] = []
        self._seen: set[tuple[str, Chain]] = set()

    def read(self, module: str, chains: Iterable[Chain]) -> None:
        """Follow attribute chains read off a module; () means the module as a whole."""
        self._enter(module)
        self._queue += [(module, chain) for chain in chains]
        while self._queue:
            asked = self._queue.pop()
            if asked not in self._seen:
                self._seen.add(asked)
                self._resolve(*asked)

    def _enter(self, module: str) -> Reached | None:
        """Note that a module (and the packages around it) is imported."""
        known = self.modules.get(module)
        if known is not None:
            return known
        if module not in self._asked:
            self._asked[module] = self._load(module)
        facts = self._asked[module]
        if facts is None:
            self.packages.add(module)
            return None
        reached = self.modules[module] = Reached(facts, whole=not facts.parsed)
        parent = module.rpartition(".")[0]
        if parent:
            self._enter(parent)
        for target, names in facts.imports:
            self._enter(target)
            if names == ("*",):
                self._queue.append((target, ()))
            for name in names:
                if name != "*" and self._is_module(f"{target}.{name}"):
                    self._enter(f"{target}.{name}")
        for part in facts.statements:
            self._follow(module, part.uses, at_import=True)
        return reached

    def _is_module(self, name: str) -> bool:
        if name.rpartition(".")[0] not in self.modules:
            return False
        if name not in self._asked:
            self._asked[name] = self._load(name)
        return self._asked[name] is not None

    def _resolve(self, module: str, chain: Chain) -> None:
        reached = self._enter(module)
        if reached is None:
            return
        if not chain:
            self._take_all(reached)
            return
        name, rest = chain[0], chain[1:]
        if not self._own(reached, name, rest) and self._is_module(f"{module}.{name}"):
            self._queue.append((f"{module}.{name}", rest))

    def _own(self, reached: Reached, name: str, rest: Chain) -> bool:
        facts = reached.facts
        found = False
        if name in facts.definitions:
            found = True
            if name not in reached.names:
                reached.names.add(name)
                for part in facts.definitions[name]:
                    self._follow(facts.name, part.uses, at_import=False)
        for target, attribute in facts.bindings.get(name, ()):
            if (target, attribute) == (facts.name, name):
                continue  # `from . import name` in a package: the submodule of that name
            found = True
            self._queue.append((target, rest if attribute is None else (attribute, *rest)))
        return found

    def _take_all(self, reached: Reached) -> None:
        reached.whole = True
        for name in reached.facts.definitions:
            self._own(reached, name, ())

    def _follow(self, module: str, uses: Uses, *, at_import: bool) -> None:
        reached = self.modules[module]
        self.texts |= uses.texts
        for name, chains in uses.names.items():
            if name in reached.facts.definitions or name in reached.facts.bindings:
                self._queue += [(module, (name, *chain)) for chain in chains]
            elif name in _SEES_ALL:
                self._queue.append((module, ()))
        for each in uses.imports:
            if not (at_import and each.bound):
                self._import_locally(each)
        if uses.attributes & NAME_MODULES:
            for text in uses.texts:
                if text.replace(".", "").isidentifier() and self._load(text) is not None:
                    self._queue.append((text, ()))

    def _import_locally(self, each: Import) -> None:
        self._enter(each.module)
        chains: set[Chain] = {(name,) for name in each.names if name != "*"}
        if not chains:
            chains = {()} if each.reads is None else set(each.reads)
        top = each.module if each.aliased else each.module.partition(".")[0]
        self._queue += [(top, chain) for chain in chains]
