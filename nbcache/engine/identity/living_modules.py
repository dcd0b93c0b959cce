"""What functions of local modules set there: `m.set_rate(5)`, which no text of a cell tells of.

Told by what the living module holds in place of the literal that its source has. Which source
that is has to be known: a module that is older than its file holds the literals of the older one.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Collection, Iterator
from contextlib import suppress
from copy import deepcopy

from nbcache.engine.identity.loaded import LOADED
from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.identity.patches import Patch
from nbcache.plan.identity.module_reach import ModuleReach, Reached
from nbcache.plan.identity.module_state import is_same, levels_of


class LivingModules:
    """The local modules of this process at one moment; `assigned` are places that cells name."""

    def __init__(self, places: LocalModules, assigned: Collection[Patch]) -> None:
        self._places, self._assigned = places, assigned
        self._changed: dict[str, dict[str, tuple[object, ...]]] = {}

    def set_in(self, reach: ModuleReach) -> Iterator[Patch]:
        """Yield the places that were set in modules that are reached, by their functions."""
        for name, reached in list(reach.modules.items()):
            if reached.whole:
                continue  # what is reached may be all that sets it
            if name not in self._changed:
                self._changed[name] = dict(self._changed_in(name, reached))
            for each, held in self._changed[name].items():
                least = max(type(one) in (list, set, dict) for one in held)
                if reach.is_setting(name, each, least):  # else it may be large
                    levels = _levels_of_all(held)
                    if levels is not None and reach.is_setting(name, each, levels):
                        yield Patch(name, (each,))

    def _changed_in(self, name: str, reached: Reached) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Yield the names of a module that hold another thing than a literal of its source, with
        that and the literals: the file may say another by now, or the module be loaded anew."""
        module, source = sys.modules.get(name), self._places.sources.get(name)
        if type(module) is not types.ModuleType or source is None:
            return
        loaded = LOADED.source_of(name, source.path, reached.facts)
        for each, literal in loaded.literals.items() if loaded is not None else ():
            if each in vars(module) and each in reached.facts.literals:
                now, literals = vars(module)[each], (literal, reached.facts.literals[each])
                if not any(is_same(now, self._with_assigned(one, now)) for one in literals):
                    yield each, (now, *literals)

    def _with_assigned(self, literal: object, now: object) -> object:
        """Return a literal with the items that cells assigned in what holds it now."""
        places = [
            patch
            for patch in (self._assigned if type(now) in (list, dict) else ())
            if patch.steps[1:] and Patch(patch.module, patch.steps[:1]).value() is now
        ]
        found = deepcopy(literal) if places else literal
        for patch in places:
            with suppress(Exception):  # the literal has no such place
                inner = found
                for step in patch.steps[1:-1]:
                    inner = inner[step[0]]  # type: ignore[index]
                inner[patch.steps[-1][0]] = patch.value()  # type: ignore[index]
        return found


def _levels_of_all(values: tuple[object, ...]) -> int | None:
    """Return how many levels of containers the deepest has; None: one is no plain data."""
    try:
        levels = [levels_of(each) for each in values]
    except RecursionError:  # it holds itself
        return None
    return None if None in levels else max(filter(None, levels), default=0)
