"""What cells set in modules through functions of local ones: `m.set_rate(5)`, `@m.register`.

A place in a module counts as if a cell had assigned it, where code of the process reads it that
does not set it by itself: what computes a value and remembers it (a cache, a counter, what is
loaded at its first use) is no setting. Follows the living modules, and the texts of their
functions; calls nothing.
"""

from __future__ import annotations

import ast
import functools
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.identity.patches import Patch
from nbcache.plan.identity.canonical import canonical_digest
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.doings import OWN, Doing, doings_in
from nbcache.plan.identity.module_facts import Part
from nbcache.plan.identity.module_reach import ModuleReach
from nbcache.plan.identity.module_settings import Setting, Step
from nbcache.plan.identity.uses import Chain

_CALLED_WITH_A_CLASS = ("__new__", "__init__", "__post_init__", "__enter__", "__exit__")
_NONE = object()


class Unit(NamedTuple):
    """A function of a local module, and the place of the object that it is called on, if any."""

    module: str
    name: str
    own: Patch | None = None


class Told(NamedTuple):
    """A place that a function sets. `surely`: it is given what a caller said, and not looked at."""

    patch: Patch
    setting: Setting
    by: Unit
    surely: bool


class ToldModules:
    """Those of one moment. Nothing is looked at before it is asked for."""

    def __init__(self, places: LocalModules) -> None:
        self._places = places
        self._doing: dict[Unit, tuple[Part, Doing] | None] = {}
        self._called: dict[Unit, dict[Unit, None]] = {}
        self._behind: dict[Unit, frozenset[Unit]] = {}
        self._read: dict[Unit, frozenset[Patch]] = {}

    def told(self, chain: Chain, namespace: Mapping[str, object]) -> Iterator[Told]:
        """Yield what a function sets, and those that it calls, that a cell names by a chain."""
        for unit in self._units(namespace.get(chain[0], _NONE), chain[1:], None):
            behind = self._all_behind(unit)
            for each in behind:
                _, doing = self._doing_of(each) or (None, Doing())
                for setting in doing.sets:
                    patch = self._place(each, setting.root, setting.steps)
                    if patch is not None and (patch.steps or setting.called):
                        told = setting in doing.told and not any(
                            self._reads(one, patch) for one in behind
                        )
                        yield Told(patch, setting, unit, told)

    def count(
        self,
        told: Collection[Told],
        reach: ModuleReach,
        read: Mapping[str, set[Chain]],
        mentioned: Callable[[str], bool],
    ) -> bool:
        """Say whether a place that functions set is a setting for code that reaches modules, reads
        `read` off them itself, and mentions some names."""
        surely, patch = any(each.surely for each in told), next(iter(told)).patch
        facts = self._places.load(patch.module)
        if facts is None or patch.module not in reach.modules or self.is_as_imported(patch):
            return False
        names = _names(patch)
        for chain in read.get(patch.module, ()):
            is_vague = len(chain) < len(names) and chain[:1] and chain[0] in facts.definitions
            if chain[: len(names)] == names[: len(chain)] and (
                not is_vague or mentioned(str(names[-1]))
            ):
                return True
        units = [*self._reached(reach)]
        called = {each: self._calls(each) for each in units}
        inner = {each for caller, found in called.items() for each in found if each != caller}
        named = {(module, chain[0]) for module, chains in read.items() for chain in chains if chain}
        waiting = [
            each
            for each in units
            if each not in inner or (each.module, each.name.partition(".")[0]) in named
        ]
        seen: set[Unit] = set()
        while waiting:
            unit = waiting.pop()
            if unit in seen:
                continue
            seen.add(unit)
            sets_it = any(self._sets(each, patch) for each in self._all_behind(unit))
            if (surely or not sets_it) and self._reads(unit, patch):
                return True
            if surely or not sets_it:
                waiting += called.get(unit, ())
        return False

    def _reached(self, reach: ModuleReach) -> Iterator[Unit]:
        for module, found in reach.modules.items():
            for name in found.names | found.acting:
                for part in found.facts.definitions[name]:
                    yield from (Unit(module, each) for each in _doings(part))

    # -- functions --------------------------------------------------------------------------

    def _units(self, value: Any, steps: Iterable[str], at: Patch | None) -> Iterator[Unit]:
        """Yield the functions that attributes of a living value mean; `at` is where that lies."""
        own: Patch | None = None
        for step in steps:
            own, where = None, at
            if isinstance(value, types.ModuleType):
                at, found = Patch(value.__name__, (step,)), vars(value).get(step, _NONE)
            elif isinstance(value, type):
                found = _of_class(value, step)
                at = Patch(value.__module__, (*value.__qualname__.split("."), step))
                own = Patch(at.module, at.steps[:-1]) if isinstance(found, classmethod) else None
            elif self._places.home(type(value).__module__) != "local":
                return
            else:
                found = vars(value).get(step, _NONE) if hasattr(value, "__dict__") else _NONE
                at = where and Patch(where.module, (*where.steps, step))
                if found is _NONE:
                    own, found = where, _of_class(type(value), step)
            value = found
        yield from self._functions(value, own)

    def _functions(self, value: Any, own: Patch | None) -> Iterator[Unit]:
        if isinstance(value, property):
            value = value.fget
        if isinstance(value, functools.partial):
            value = value.func
        if isinstance(value, types.MethodType):
            around = vars(sys.modules.get(value.__func__.__module__, types))
            names = [name for name, each in around.items() if each is value.__self__]
            own = Patch(value.__func__.__module__, (names[0],)) if names else own
        if isinstance(value, staticmethod | classmethod | types.MethodType):
            value = value.__func__
        while isinstance(attribute(value, "__wrapped__"), types.FunctionType):
            value = value.__wrapped__
        if isinstance(value, types.FunctionType):
            name = value.__qualname__.partition(".<locals>")[0]
            if self._places.home(value.__module__ or "") == "local":
                yield Unit(value.__module__, name, own)
        elif isinstance(value, type):
            if self._places.home(value.__module__) == "local":
                for each in _CALLED_WITH_A_CLASS:
                    yield from self._functions(_of_class(value, each), None)
        elif self._places.home(str(type(value).__module__)) == "local":
            yield from self._functions(_of_class(type(value), "__call__"), own)

    def _doing_of(self, unit: Unit) -> tuple[Part, Doing] | None:
        if unit not in self._doing:
            facts = self._places.load(unit.module)
            parts = facts.definitions.get(unit.name.partition(".")[0], ()) if facts else ()
            found = [(part, _doings(part)) for part in parts]
            kept = [(part, each[unit.name]) for part, each in found if unit.name in each]
            self._doing[unit] = kept[-1] if kept else None
        return self._doing[unit]

    def _calls(self, unit: Unit) -> dict[Unit, None]:
        """Return the functions that one names."""
        if unit not in self._called:
            part, doing = self._doing_of(unit) or (None, Doing())
            found: dict[Unit, None] = {}
            for chain in sorted(doing.reads):
                for value, steps, at in self._meant(unit, part, chain):
                    found |= dict.fromkeys(self._units(value, steps, at))
            self._called[unit] = found
        return self._called[unit]

    def _all_behind(self, unit: Unit) -> frozenset[Unit]:
        """Return a function and all that it may call."""
        if unit not in self._behind:
            found, waiting = {unit}, [unit]
            while waiting:
                new = self._calls(waiting.pop()).keys() - found
                found |= new
                waiting += new
            self._behind[unit] = frozenset(found)
        return self._behind[unit]

    # -- places -----------------------------------------------------------------------------

    def _meant(
        self, unit: Unit, part: Part | None, chain: Chain
    ) -> Iterator[tuple[Any, Chain, Patch | None]]:
        """Yield what the first of some names stands for in a function, and where it lies."""
        root, rest = chain[0], chain[1:]
        if root == OWN:
            if unit.own is not None:
                yield unit.own.value(), rest, unit.own
            else:
                value: Any = sys.modules.get(unit.module)
                for step in unit.name.split(".")[:-1]:
                    value = attribute(value, step)
                yield value, rest, None
            return
        for each in part.uses.imports if part is not None else ():
            if not each.bound and root in each.targets:
                module = sys.modules.get(each.module)
                if each.names:
                    name = each.names[each.targets.index(root)]
                    yield module, (name, *rest), None
                    yield sys.modules.get(f"{each.module}.{name}"), rest, None
                else:
                    top = each.module if each.aliased else each.module.partition(".")[0]
                    yield sys.modules.get(top), rest, None
                return
        yield sys.modules.get(unit.module), chain, None

    def _place(self, unit: Unit, root: str, steps: tuple[Step, ...]) -> Patch | None:
        """Return the place in a module that a name means in a function, and steps from it."""
        if root == OWN:
            return unit.own and Patch(unit.own.module, (*unit.own.steps, *steps))
        doing = self._doing_of(unit)
        for module, chain, _ in self._meant(unit, doing and doing[0], (root,)):
            if not isinstance(module, types.ModuleType):
                continue
            if not chain:
                return self._home(module, steps)
            found = self._home(module, (*chain, *steps))
            if found is not None:
                return found
        return None

    def _home(self, module: types.ModuleType, steps: tuple[Step, ...]) -> Patch | None:
        """Return the place where steps from a module begin: not in one that only imports it."""
        if not steps or not isinstance(steps[0], str):
            return Patch(module.__name__, steps)
        name, rest = steps[0], steps[1:]
        value = vars(module).get(name, _NONE)
        if isinstance(value, types.ModuleType):
            return self._home(value, rest)
        if isinstance(value, type) and rest:
            return Patch(value.__module__, (*value.__qualname__.split("."), *rest))
        facts = self._places.load(module.__name__)
        if facts is not None and name not in facts.assigned and name not in facts.definitions:
            sources = [(at, each or name) for at, each in facts.bindings.get(name, ())]
            sources += [(at, name) for at, names in facts.imports if names == ("*",)]
            for at, each in sources:
                other = sys.modules.get(at)
                if other is not None and vars(other).get(each, _NONE) is value:
                    return self._home(other, (each, *rest))
        return Patch(module.__name__, steps)

    def _sets(self, unit: Unit, patch: Patch) -> bool:
        found = self._doing_of(unit)
        for each in found[1].sets if found is not None else ():
            if each.root == OWN and unit.own is None:
                if each.steps[:1] == patch.steps[-1:] or each.steps[:1] == _names(patch)[-1:]:
                    return True
            else:
                place = self._place(unit, each.root, each.steps)
                if place is not None and _overlap(place, patch):
                    return True
        return False

    def _reads(self, unit: Unit, patch: Patch) -> bool:
        found = self._doing_of(unit)
        if found is None:
            return False
        names = _names(patch)
        if len(names) > 1 and names[-1] in found[1].attributes:
            return True
        if unit not in self._read:
            places = (self._place(unit, each[0], each[1:]) for each in found[1].reads)
            self._read[unit] = frozenset(each for each in places if each is not None)
        return any(_overlap(each, patch) for each in self._read[unit])

    def is_as_imported(self, patch: Patch) -> bool:
        """Say whether a place holds what the text of its module gives it, and nothing else does."""
        facts = self._places.load(patch.module)
        if facts is None or len(patch.steps) != 1:
            return False
        name = str(patch.steps[0])
        about = [
            each
            for each in facts.statements
            if not each.defines
            and (
                name in each.uses.stored
                or name in each.uses.names
                or not facts.definitions.keys().isdisjoint(each.uses.names)
            )
        ]
        if len(about) != 1:
            return False
        with suppress(Exception):  # no such text; a value that has no identity
            node = ast.parse(about[0].text).body[0]
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                said, now = ast.literal_eval(node.value), patch.value()
                return type(said) is type(now) and canonical_digest(said) == canonical_digest(now)
        return False


def _doings(part: Part) -> Mapping[str, Doing]:
    return doings_in(part.text)


def _of_class(cls: type, name: str) -> Any:
    """Return what a class, or one above it, has under a name, as it was written."""
    return next((vars(each)[name] for each in cls.__mro__ if name in vars(each)), _NONE)


def _names(patch: Patch) -> tuple[Step, ...]:
    """Return the attributes at the head of a place's steps."""
    count = next((i for i, each in enumerate(patch.steps) if not isinstance(each, str)), None)
    return patch.steps[:count]


def _overlap(one: Patch, other: Patch) -> bool:
    """Say whether of two places one lies in the other."""
    first, second = _names(one), _names(other)
    count = min(len(first), len(second))
    return one.module == other.module and first[:count] == second[:count]
