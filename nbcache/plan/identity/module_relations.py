"""Tell how local modules relate: whose a name is, which module one changes when it is imported.

By their source alone, whatever is reached: found once for all that looks at them at one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nbcache.plan.identity.module_facts import ModuleFacts, Part
from nbcache.plan.identity.uses import Chain, modules_told

IsSuch = Callable[[str, Part], bool]  # of a module and its definition of a class


def _is_told(_: str, definition: Part) -> bool:
    """Say whether a class learns of its subclasses."""
    return definition.effects.hooks


def _touched(facts: ModuleFacts, names: frozenset[str]) -> set[str]:
    """Return the names through which other modules may be changed: these, and those in functions
    of the module that are called by them."""
    found = set(names)
    waiting = list(found)
    while waiting:
        for each in facts.definitions.get(waiting.pop(), ()):
            waiting += each.effects.inside - found
            found |= each.effects.inside
    return found


def _with_members(imports: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[str]:
    """Yield the modules of imports, the packages around them, and what may be submodules."""
    for module, names in imports:
        steps = module.split(".")
        yield from (".".join(steps[:count]) for count in range(1, len(steps) + 1))
        yield from (f"{module}.{name}" for name in names)


class ModuleRelations:
    """Those of the modules of which `load` gives the facts, and None for any other name."""

    def __init__(self, load: Callable[[str], ModuleFacts | None]) -> None:
        self._loader = load
        self._asked: dict[str, ModuleFacts | None] = {}
        self._origins: dict[tuple[str, str], frozenset[str]] = {}
        self._by_star: dict[tuple[str, str], list[str]] = {}
        self._told: dict[tuple[str, Chain], bool] = {}
        self._acting: dict[str, frozenset[str]] = {}
        self._changed: dict[str, frozenset[str]] = {}
        self._before: dict[str, frozenset[str]] = {}

    def changed_by(self, module: str) -> frozenset[str]:
        """Return the modules that importing one may change: it patches, or registers there."""
        if module not in self._changed:
            facts, found = self.load(module), set[str]()
            for part in facts.statements if facts is not None else ():
                if facts is not None and (not part.defines or part.defines in self.acting(facts)):
                    found |= self.changed_in(facts, part)
            self._changed[module] = frozenset(found)
        return self._changed[module]

    def changed_in(self, facts: ModuleFacts, part: Part) -> set[str]:
        """Return the modules that a statement of one may change."""
        found = self._behind_all(facts, part.effects.targets)
        seen: set[tuple[str, Chain]] = set()
        for each in part.effects.called:
            found |= self._changed_by_call(facts.name, each, seen)
        found |= modules_told(part.uses, facts.name)  # sys.modules["other"].f = g
        return found - {facts.name}

    def _behind_all(self, facts: ModuleFacts, names: frozenset[str]) -> set[str]:
        """Return the modules of which names may mean something."""
        return {one for each in _touched(facts, names) for one in self.behind(facts.name, each)}

    def _changed_by_call(self, module: str, chain: Chain, seen: set[tuple[str, Chain]]) -> set[str]:
        """Return the modules that a call of what a chain of names means may change: a function that
        changes one, or a method of an object that is not looked into."""
        facts = self.load(module)
        if facts is None or not chain or (module, chain) in seen:
            return set()
        seen.add((module, chain))
        name, rest = chain[0], chain[1:]
        found: set[str] = set()
        for part in facts.definitions.get(name, ()):
            found |= self._behind_all(facts, part.effects.inside)
        if name in facts.assigned:
            return found | self._behind_all(facts, frozenset({name}))
        for each in self._elsewhere(facts, name, rest):
            found |= self._changed_by_call(*each, seen)
        return found

    def behind(self, module: str, name: str) -> frozenset[str]:
        """Return the modules that a name of one may come from, and through which it does."""
        if (module, name) not in self._origins:
            self._origins[module, name] = frozenset(self._find_behind(module, name))
        return self._origins[module, name]

    def _find_behind(self, module: str, name: str) -> set[str]:
        found: set[str] = set()
        waiting, seen = [(module, name)], {(module, name)}
        for home, each in waiting:  # grows meanwhile
            facts = self.load(home)
            if facts is None:
                continue
            if each in facts.definitions or each in facts.assigned:
                found.add(home)
            further = {(home, one) for one in facts.assigned.get(each, ())}
            further |= {(target, each) for target in self.by_star(facts, each)}
            for target, attribute in facts.bindings.get(each, ()):
                found |= {target, f"{target}.{attribute}"}
                further.add((target, attribute or ""))
            waiting += further - seen
            seen |= further
        return found

    def by_star(self, facts: ModuleFacts, name: str) -> list[str]:
        """Return the modules from which a star may bring a name into one, directly or through
        others: also where that binds the name itself, unless it is sure to do so last."""
        if not facts.starred:
            return []
        if (facts.name, name) not in self._by_star:
            found: list[str] = []
            waiting, seen = [facts], {facts.name}
            for each in waiting:  # grows meanwhile
                targets = [] if name in each.settled else [*dict.fromkeys(each.starred)]
                for target in [one for one in targets if one not in seen]:
                    seen.add(target)
                    inner = self.load(target)
                    if inner is not None:
                        waiting.append(inner)
                        found += [target] if inner.binds(name) else []
            self._by_star[facts.name, name] = found
        return self._by_star[facts.name, name]

    def imported_before(self, submodule: str) -> frozenset[str]:
        """Return the modules that a package imports, directly or not, until it binds the name of a
        submodule to something else, maybe."""
        package, _, name = submodule.rpartition(".")
        if submodule not in self._before:
            facts, waiting, seen = self.load(package), list[str](), {package}
            for part in facts.statements if facts is not None and facts.binds(name) else ():
                waiting += _with_members((each.module, each.names) for each in part.uses.imports)
                if name in part.uses.stored:
                    break
            for each in waiting:  # grows meanwhile
                inner = self.load(each) if each not in seen else None
                seen.add(each)
                waiting += _with_members(inner.imports) if inner is not None else ()
            self._before[submodule] = frozenset(seen)
        return self._before[submodule]

    def load(self, module: str) -> ModuleFacts | None:
        """Return what the source of a local module says; None where it is not local."""
        if module not in self._asked:
            self._asked[module] = self._loader(module)
        return self._asked[module]

    def acting(self, facts: ModuleFacts) -> frozenset[str]:
        """Return the definitions that do something to other objects when they are executed."""
        if facts.name not in self._acting:
            self._acting[facts.name] = frozenset(
                each.defines
                for each in facts.statements
                if each.defines and self._acts(facts, each)
            )
        return self._acting[facts.name]

    def _acts(self, facts: ModuleFacts, part: Part) -> bool:
        effects = part.effects
        return (
            effects.always
            or any(self._is_users(facts, name) for name in effects.roots)
            or any(self._tells(facts.name, each) for each in effects.bases)
        )

    def _tells(self, module: str, base: Chain) -> bool:
        """Say whether a base class, or one above it, learns of what derives from it."""
        if (module, base) not in self._told:
            self._told[module, base] = self.any_above(module, base, _is_told, set())
        return self._told[module, base]

    def _is_users(self, facts: ModuleFacts, name: str) -> bool:
        """Say whether a name of a module means something that the user wrote or made."""
        return any(self.load(each) is not None for each in self.behind(facts.name, name))

    def any_above(
        self, module: str, chain: Chain, is_such: IsSuch, seen: set[tuple[str, Chain]]
    ) -> bool:
        """Say whether a class, or one above it, is such a one, or whether that cannot be told.

        Classes of installed packages are taken not to be.
        """
        facts = self.load(module)
        if facts is None or not chain or (module, chain) in seen:
            return False
        seen.add((module, chain))
        name, rest = chain[0], chain[1:]
        for part in facts.definitions.get(name, ()):
            if not part.effects.is_class or rest or is_such(module, part):
                return True
            if any(self.any_above(module, base, is_such, seen) for base in part.effects.bases):
                return True
        elsewhere = self._elsewhere(facts, name, rest)
        if any(self.any_above(*each, is_such, seen) for each in elsewhere):
            return True
        return name in facts.assigned

    def _elsewhere(self, facts: ModuleFacts, name: str, rest: Chain) -> list[tuple[str, Chain]]:
        """Return what attributes of a name mean where it is of other modules, or a module."""
        found = [
            (target, rest if attribute is None else (attribute, *rest))
            for target, attribute in facts.bindings.get(name, ())
        ]
        found += [(target, (name, *rest)) for target in facts.starred]
        return [*found, (f"{facts.name}.{name}", rest)] if rest else found
