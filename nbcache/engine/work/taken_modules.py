"""Which local modules a body takes by a name that only the run knows.

By `import_module`, `__import__`, `runpy.run_module`, a pickle; or since the import of a module does
so, as one does that looks for plugins. That happens once per worker, and counts for every attempt
that uses the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import FrameType

from nbcache.engine.spec import ModuleSource
from nbcache.engine.work.callers import takes_no_code
from nbcache.plan.identity.uses import Chain

Taken = tuple[str, Chain]
"""A module, and what was read of it; () is all of it."""


@dataclass(slots=True, eq=False)
class Importing:
    """What the code of a local module, while it was imported, loaded and asked for by name, and
    what of this the user's own code did."""

    loaded: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)


class TakenModules:
    """Those of one attempt at a time, from `begin` on."""

    def __init__(self, is_others: Callable[[FrameType], bool]) -> None:
        self._is_others = is_others
        self.named: set[str] = set()  # what the body itself asked for, local or not
        self._asked: set[str] = set()
        self._whole: set[str] = set()  # those of them that are asked for what their code defines
        self.run: dict[str, str] = {}  # by `runpy`, which loads none: names and files
        self._unpickled: set[Taken] = set()  # what pickles brought, of which modules
        self._importing: list[Importing] = []
        self._imports: dict[str, Importing] = {}

    def begin(self) -> None:
        self.named, self.run = set(), {}
        self.forget()

    def ask(self, module: str, frame: FrameType) -> None:
        """Code asks for a module by name."""
        is_taken, is_named = not takes_no_code(frame), not self._is_others(frame)
        self._asked.add(module)
        self._whole |= {module} if is_taken else set()
        self.named |= {module} if is_named else set()
        for each in self._importing:
            each.asked |= {module} if is_taken else set()
            each.named |= {module} if is_named else set()

    def unpickle(self, module: str, name: str) -> None:
        self._unpickled.add((module, tuple(name.split("."))))

    def forget(self) -> None:
        """Take no note of what was taken so far, but for what imports did."""
        self._unpickled, self._asked, self._whole = set(), set(), set()

    def begin_import(self) -> Importing:
        """The code of a local module begins to run."""
        begun = Importing()
        self._importing.append(begun)
        return begun

    def end_import(self, module: str, begun: Importing) -> None:
        self._importing.remove(begun)  # threads may import at once
        self._imports[module] = begun
        for each in self._importing:
            each.loaded.add(module)

    def beyond(
        self, known: Mapping[str, ModuleSource], used: Iterable[str], loaded: Mapping[str, str]
    ) -> set[Taken]:
        """Return what was taken of the loaded modules that is not known already.

        `used` are those of which the import counts.
        """
        imports = [self._imports[each] for each in {*used, *self._asked} if each in self._imports]
        self.named.update(*(each.named for each in imports))
        whole = self._whole.union(*(each.asked for each in imports))
        whole |= self._asked.union(*(each.loaded for each in imports)) - known.keys()
        taken = {each for each in tuple(self._unpickled) if each[0] in loaded}
        taken |= {(name, ()) for name in whole if name in loaded}
        return {each for each in taken if not _is_known(each, known)}


def _is_known(taken: Taken, known: Mapping[str, ModuleSource]) -> bool:
    """Whether what was taken of a module counts already, and with it what it reaches."""
    name, chain = taken
    if name not in known:
        return False
    names = known[name].names
    return names is None or (chain[:1] != () and chain[0] in names)
