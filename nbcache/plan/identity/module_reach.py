"""Tell which parts of local modules count: what their import runs, and what is reached of the rest.

Statements other than `def` and `class` always count, definitions when they are reached; where
reach cannot be told (a star import, a module passed around, `eval`) the whole module does. A change
here changes the keys of all who use local modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nbcache.model.digest import Digest, identity_digest
from nbcache.plan.identity.asked import Asked, asked_of_code
from nbcache.plan.identity.code import encode_constant
from nbcache.plan.identity.explain import PART
from nbcache.plan.identity.module_facts import ModuleFacts, Part
from nbcache.plan.identity.module_relations import ModuleRelations
from nbcache.plan.identity.uses import DEFINED, NAME_MODULES, Chain, modules_told, takes_any

_OWN_NAME = frozenset({"__name__", "__module__", "__spec__"})
_SEES_ALL = frozenset({"globals", "eval", "exec"})
_MAY_SEE_ALL = frozenset({"vars", "locals"})  # what is asked outside of a function's own code
_SHOWS_ALL = frozenset({"__globals__", "f_globals", "getmodule"})  # as attributes or imported
_LISTS = ("__subclasses__",)
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

    def counted(self) -> frozenset[str] | None:
        """Return the definitions that count, None where all of the module does."""
        return None if self.whole else self.acting | self.names

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

    `known` has the facts of local modules. `packages` collects the names of modules that are not
    local, `modules` what counts of those that are, `asks` what their code asks of other code.
    `lists_all`: code asks for subclasses, of which class cannot be told.
    """

    def __init__(self, known: ModuleRelations) -> None:
        self._known = known
        self.modules: dict[str, Reached] = {}
        self.packages: set[str] = set()
        self.texts: set[str] = set()
        self.asks: set[Asked] = set()
        self._queue: list[tuple[str, Chain]] = []
        self._seen: set[tuple[str, Chain]] = set()
        self._named: dict[str, set[Chain]] = {}  # "pack.name" -> what is read of it, if a submodule
        self.lists_all = False
        self._takes_any = False
        self._listed: set[tuple[str, str]] = set()  # classes that are asked for their subclasses

    def read(self, module: str, chains: Iterable[Chain]) -> None:
        """Follow attribute chains read off a module; () means the module as a whole."""
        self._enter(module)
        self._queue += [(module, chain) for chain in chains]
        while self._queue:
            asked = self._queue.pop()
            if asked not in self._seen:
                self._seen.add(asked)
                self._resolve(*asked)

    def takes_any(self) -> None:
        """Reach all of each module: code takes one from those that are loaded, whichever it is."""
        self._takes_any = True
        self._queue += [(each, ()) for each in self.modules]

    def changes_reached(self, module: str) -> bool:
        """Say whether importing a local module changes one that is reached: patches, registers."""
        if not self.modules.keys().isdisjoint(self._known.changed_by(module)):
            return True
        facts = self._known.load(module) if self._listed or self.lists_all else None
        return facts is not None and any(
            self._is_below(module, part)
            and not self.modules.keys().isdisjoint(self._known.changed_in(facts, part))
            for part in facts.statements
        )

    def named_by(self, module: str) -> set[str]:
        """Return the reached modules that the statements of one name in a text."""
        facts = self._known.load(module)
        parts = facts.statements if facts is not None else ()
        return self.modules.keys() & {
            each for part in parts for each in modules_told(part.uses, module)
        }

    def _enter(self, module: str) -> Reached | None:
        """Note that a module (and the packages around it) is imported."""
        known = self.modules.get(module)
        if known is not None:
            return known
        facts = self._known.load(module)
        if facts is None:
            self.packages.add(module)
            return None
        self._queue += [(module, chain) for chain in self._named.get(module, ())]
        acting = self._known.acting(facts)
        reached = self.modules[module] = Reached(facts, acting, whole=not facts.parsed)
        parent = _package_of(module)
        if parent:
            self._enter(parent)
        if self._takes_any or (parent, ()) in self._seen:
            self._queue.append((module, ()))
        self._queue += [(target, DEFINED) for target in facts.starred]
        for target, names in facts.imports:
            self._enter(target)
            for name in names:
                if name != "*" and self._is_module(f"{target}.{name}"):
                    self._enter(f"{target}.{name}")
        for part in reached.run_at_import():
            self._follow(module, part, at_import=True)
        self._reach_subclasses(reached)
        return reached

    def _is_module(self, name: str) -> bool:
        return _package_of(name) in self.modules and self._known.load(name) is not None

    def _resolve(self, module: str, chain: Chain) -> None:
        reached = self._enter(module)
        if "__subclasses__" in chain:
            self._list_subclasses(module, reached, chain)
        if reached is None:
            return
        facts = reached.facts
        if not chain or chain == DEFINED:
            reached.whole = True
            for name in (*facts.definitions, *(() if chain else facts.bindings)):
                self._own(reached, name, ())
            if not chain:
                below = [each for each in self.modules if _package_of(each) == module]
                self._queue += [(each, ()) for each in (*facts.starred, *below)]
            return
        name, rest = chain[0], chain[1:]
        if name == "__dict__":
            self._queue.append((module, ()))
        elif not self._own(reached, name, rest):
            for home in (module, *self._starred(facts, name)):
                submodule = f"{home}.{name}"
                if self._is_module(submodule) and submodule not in self._known.by_star(facts, name):
                    self._queue.append((submodule, rest))

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
            below = f"{target}.{attribute}" if attribute else ""
            if self._is_module(below) and facts.name in self._known.imported_before(below):
                self._queue.append((below, rest))  # what the name means then, whatever it is later
        # No answer in itself: what a star brings may be a submodule that its home imports.
        self._queue += [(each, (name, *rest)) for each in self._known.by_star(facts, name)]
        return found

    def _starred(self, facts: ModuleFacts, name: str) -> tuple[str, ...]:
        return () if name in facts.assigned else facts.starred

    def _list_subclasses(self, module: str, reached: Reached | None, chain: Chain) -> None:
        """Reach what derives from a class, or from any where it cannot be told which one is asked;
        of one that a module has from another, the other is asked in its turn."""
        if reached is not None and chain[0] in reached.facts.definitions:
            is_told = chain[1:2] == ("__subclasses__",) and chain.count("__subclasses__") == 1
        else:
            is_told = reached is not None and (
                chain[0] in reached.facts.bindings or self._is_module(f"{module}.{chain[0]}")
            )
        if is_told:
            self._listed.add((module, chain[0]))
        self.lists_all |= not is_told
        for each in list(self.modules.values()):
            self._reach_subclasses(each)

    def _reach_subclasses(self, reached: Reached) -> None:
        for name, parts in reached.facts.definitions.items():
            if any(self._is_below(reached.facts.name, part) for part in parts):
                self._own(reached, name, ())

    def _is_below(self, module: str, definition: Part) -> bool:
        """Say whether a class derives from one that is asked for its subclasses."""
        if not definition.effects.bases or not (self._listed or self.lists_all):
            return False
        chain = (definition.defines,)
        return self.lists_all or self._known.any_above(
            module, chain, lambda home, each: (home, each.defines) in self._listed, set()
        )

    def _follow(self, module: str, part: Part, *, at_import: bool) -> None:
        facts, uses = self.modules[module].facts, part.uses
        self.texts |= uses.texts
        self.asks |= asked_of_code(uses)
        self._queue += [(module, (name,)) for name in part.annotated]
        for name, chains in uses.names.items():
            bound = name in facts.definitions or name in facts.bindings
            if bound or self._known.by_star(facts, name):
                self._queue += [(module, (name, *chain)) for chain in chains]
            elif name in _SEES_ALL or (at_import and name in _MAY_SEE_ALL):
                self._queue.append((module, ()))
            elif name in _MAY_SEE_ALL:  # `def f(table=vars())`, or of a module put together
                self._queue.append((module, DEFINED))
            else:  # a submodule, which a package has once somebody imports from it, or a builtin
                for home in (module, *self._starred(facts, name)):
                    below = f"{home}.{name}"
                    self._named.setdefault(below, set()).update(chains)
                    if below in self.modules:
                        self._queue += [(below, chain) for chain in chains]
        for each in uses.imports:
            for home, read in each.read_locally() if not (at_import and each.bound) else ():
                self._enter(home)
                self._queue += [(home, chain) for chain in read]
        if "__subclasses__" in uses.attributes:
            asked = {before for before, name, _ in uses.members if (name,) == _LISTS}
            followed = {
                name
                for name in asked & (facts.definitions.keys() | facts.bindings)
                if any(chain[:1] == _LISTS for chain in uses.names.get(name, ()))
            }
            if not asked or asked != followed:
                self._list_subclasses(module, None, _LISTS)
        if uses.read & _SHOWS_ALL:
            self._queue.append((module, ()))
        if uses.attributes & NAME_MODULES:
            if uses.read & _OWN_NAME:  # sys.modules[__name__], modules[f.__module__]
                self._queue.append((module, ()))
            called_sys = [each for each, found in facts.bindings.items() if ("sys", None) in found]
            if not self._takes_any and takes_any(uses, called_sys):
                self.takes_any()
            for told in modules_told(uses, module):
                if self._known.load(told) is not None:
                    self._queue.append((told, ()))
                elif "find_spec" in uses.attributes:
                    self.packages.add(told)


def _package_of(module: str) -> str:
    return module.rpartition(".")[0]
