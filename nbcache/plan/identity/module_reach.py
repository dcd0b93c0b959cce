"""Tell which parts of local modules count: what their import runs, and what is reached of the rest.

Works on source text that is handed in: what counts is the file that a worker will import, not
what the kernel loaded earlier. Statements other than `def` and `class` always count, definitions
when they are reached; where reach cannot be told (a star import, a module passed around, `eval`)
the whole module does. A change here changes the keys of all who use local modules.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from nbcache.model.digest import Digest, identity_digest
from nbcache.plan.identity.asked import Asked, annotated_names, asked_of_code
from nbcache.plan.identity.code import encode_constant, normalise
from nbcache.plan.identity.explain import PART
from nbcache.plan.identity.module_effects import NO_EFFECTS, Definition, Effects, effects_of
from nbcache.plan.identity.uses import NAME_MODULES, Chain, Import, Uses, uses_of

Bindings = dict[str, tuple[tuple[str, str | None], ...]]

_SEES_ALL = frozenset({"globals", "vars", "eval", "exec", "locals"})
_SHOWS_ALL = frozenset({"__globals__", "f_globals", "getmodule"})  # as attributes or imported
_OWN_NAME = frozenset({"__name__", "__module__", "__spec__"})  # with which sys.modules is asked


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
    of them is tried first, or by a condition.
    """

    name: str
    whole: bytes
    text: str
    statements: tuple[Part, ...]
    definitions: dict[str, tuple[Part, ...]]
    bindings: Bindings
    imports: tuple[tuple[str, tuple[str, ...]], ...]  # run when the module is imported
    assigned: frozenset[str] = frozenset()  # names that its top level binds in another way
    parsed: bool = True


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
        return ModuleFacts(name, _raw(source), _shown(source), (), {}, {}, (), parsed=False)
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
    lines = source.splitlines(keepends=True)
    typed = not any(map(_checks_types, tree.body))
    for node in tree.body:
        if _never_runs(node, typed) or (_is_text(node) and not docstrings):
            continue
        part = _part(node, future, lines, asked)
        for each in part.uses.imports:
            if each.bound:
                module = absolute(each.module, each.level, package)
                imports.append((module, each.names))
                _bind(each, module, bindings)
        part = _absolute_uses(part, package)
        if part.defines:
            definitions[part.defines] = (*definitions.get(part.defines, ()), part)
        statements.append(part)
    stored = {name for each in statements for name in each.uses.stored}
    assigned = frozenset(stored - definitions.keys() - bindings.keys())
    whole = normalise(tree, docstrings=docstrings)
    return ModuleFacts(
        name, whole, source, tuple(statements), definitions, bindings, tuple(imports), assigned
    )


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


_GAP = 4  # lines between two pieces of a module from which on the text says where it goes on


@dataclass(slots=True)
class Reached:
    """What counts of one module: what its import runs, and the definitions that are reached.

    `acting` are the definitions that do something to other objects when the module is imported.
    """

    facts: ModuleFacts
    acting: frozenset[str] = frozenset()
    names: set[str] = field(default_factory=set)
    whole: bool = False

    def run_at_import(self) -> tuple[Part, ...]:
        """Return the statements that count whether or not they are reached, in order."""
        return tuple(
            each
            for each in self.facts.statements
            if not each.defines or each.defines in self.acting
        )

    def digest(self) -> Digest:
        """Return the identity of what counts; definitions in the order of their names."""
        if self.whole:
            return identity_digest(encode_constant(("whole", self.facts.whole)))
        return identity_digest(
            encode_constant(
                (
                    "parts",
                    tuple(each.normal for each in self.run_at_import()),
                    tuple(
                        (name, tuple(each.normal for each in self.facts.definitions[name]))
                        for name in sorted(self.names)
                    ),
                )
            )
        )

    def text(self, file: str) -> str:
        """Return the source text of what counts, in the order of the file, and where it stands."""
        if self.whole:
            return f"{PART}{file}, line 1\n{self.facts.text}"
        parts = {each.line: each.text for each in self.run_at_import()}
        parts |= {
            each.line: each.text for name in self.names for each in self.facts.definitions[name]
        }
        lines: list[str] = []
        following = -_GAP  # the line of the file that would come next
        for line, text in sorted(parts.items()):
            gap = line - following
            lines += [""] * gap if 0 <= gap < _GAP else [f"{PART}{file}, line {line}"]
            lines += text.rstrip("\n").split("\n")
            following = line + text.rstrip("\n").count("\n") + 1
        return "\n".join(lines)


class ModuleReach:
    """Follows reads of modules through their source.

    `load` gives the facts of a local module, and None for any other name. `packages` collects
    the names of modules that are not local, `modules` what counts of those that are, `asks` what
    their code asks of other code.
    """

    def __init__(self, load: Callable[[str], ModuleFacts | None]) -> None:
        self._loader = load
        self._asked: dict[str, ModuleFacts | None] = {}
        self.modules: dict[str, Reached] = {}
        self.packages: set[str] = set()
        self.texts: set[str] = set()
        self.asks: set[Asked] = set()
        self._queue: list[tuple[str, Chain]] = []
        self._seen: set[tuple[str, Chain]] = set()
        self._lists_subclasses = False

    def read(self, module: str, chains: Iterable[Chain]) -> None:
        """Follow attribute chains read off a module; () means the module as a whole."""
        self._enter(module)
        self._queue += [(module, chain) for chain in chains]
        while self._queue:
            asked = self._queue.pop()
            if asked not in self._seen:
                self._seen.add(asked)
                self._resolve(*asked)

    def changes_reached(self, module: str) -> bool:
        """Say whether importing a local module changes one that is reached: patches, registers."""
        facts = self._load(module)
        if facts is None:
            return False
        for part in facts.statements:
            effects = part.effects
            if not effects.targets or (part.defines and not self._acts(facts, part)):
                continue
            for name in effects.targets:
                for target, attribute in facts.bindings.get(name, ()):
                    inner = f"{target}.{attribute}"
                    if target in self.modules or inner in self.modules:
                        return True
        return False

    def _load(self, module: str) -> ModuleFacts | None:
        if module not in self._asked:
            self._asked[module] = self._loader(module)
        return self._asked[module]

    def _enter(self, module: str) -> Reached | None:
        """Note that a module (and the packages around it) is imported."""
        known = self.modules.get(module)
        if known is not None:
            return known
        facts = self._load(module)
        if facts is None:
            self.packages.add(module)
            return None
        acting = frozenset(
            each.defines for each in facts.statements if each.defines and self._acts(facts, each)
        )
        reached = self.modules[module] = Reached(facts, acting, whole=not facts.parsed)
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
        for part in reached.run_at_import():
            self._follow(module, part, at_import=True)
        if self._lists_subclasses:
            self._reach_subclasses(reached)
        return reached

    def _acts(self, facts: ModuleFacts, part: Part) -> bool:
        """Say whether a definition does something to other objects when it is executed."""
        effects = part.effects
        return (
            effects.always
            or any(self._is_users(facts, name) for name in effects.roots)
            or any(self._is_told_of(facts.name, chain, set()) for chain in effects.bases)
        )

    def _is_users(self, facts: ModuleFacts, name: str) -> bool:
        """Say whether a name of a module means something that the user wrote or made."""
        if name in facts.definitions or name in facts.assigned:
            return True
        return any(self._load(target) is not None for target, _ in facts.bindings.get(name, ()))

    def _is_told_of(self, module: str, chain: Chain, seen: set[tuple[str, Chain]]) -> bool:
        """Say whether a base class learns of its subclasses, or whether that cannot be told.

        Classes of installed packages are taken not to: what they register they know themselves.
        """
        facts = self._load(module)
        if facts is None or not chain or (module, chain) in seen:
            return False
        seen.add((module, chain))
        name, rest = chain[0], chain[1:]
        for part in facts.definitions.get(name, ()):
            effects = part.effects
            if not effects.is_class or rest or effects.hooks:
                return True
            if any(self._is_told_of(module, base, seen) for base in effects.bases):
                return True
        found = facts.bindings.get(name, ())
        for target, attribute in found:
            inner = rest if attribute is None else (attribute, *rest)
            if self._is_told_of(target, inner, seen):
                return True
        return name in facts.assigned and not found

    def _is_module(self, name: str) -> bool:
        return name.rpartition(".")[0] in self.modules and self._load(name) is not None

    def _resolve(self, module: str, chain: Chain) -> None:
        reached = self._enter(module)
        if reached is None:
            return
        if "__subclasses__" in chain:
            self._list_subclasses()
        if not chain or chain[0] == "__dict__":
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
                    self._follow(facts.name, part, at_import=False)
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

    def _list_subclasses(self) -> None:
        if not self._lists_subclasses:
            self._lists_subclasses = True
            for each in list(self.modules.values()):
                self._reach_subclasses(each)

    def _reach_subclasses(self, reached: Reached) -> None:
        for name, parts in reached.facts.definitions.items():
            if any(part.effects.bases for part in parts):
                self._own(reached, name, ())

    def _follow(self, module: str, part: Part, *, at_import: bool) -> None:
        reached, uses = self.modules[module], part.uses
        self.texts |= uses.texts
        self.asks |= asked_of_code(uses)
        self._queue += [(module, (name,)) for name in part.annotated]
        for name, chains in uses.names.items():
            if name in reached.facts.definitions or name in reached.facts.bindings:
                self._queue += [(module, (name, *chain)) for chain in chains]
            elif name in _SEES_ALL:
                self._queue.append((module, ()))
        for each in uses.imports:
            if not (at_import and each.bound):
                self._import_locally(each)
        if "__subclasses__" in uses.attributes:
            self._list_subclasses()
        if uses.read & _SHOWS_ALL:
            self._queue.append((module, ()))
        if uses.attributes & NAME_MODULES:
            if uses.read & _OWN_NAME:  # sys.modules[__name__]
                self._queue.append((module, ()))
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
