"""Which local modules a body takes by a name that only the run knows.

By `import_module`, `__import__`, the text of an `exec`, `runpy.run_module`, a pickle; or since the
import of a module does so, as one does that looks for plugins. That happens once per worker, and
counts for every attempt that uses the module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nbcache.engine.spec import ModuleSource
from nbcache.engine.work.child_notes import ChildNotes
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

    def __init__(self, children: ChildNotes, is_local: Callable[[str], bool]) -> None:
        self._children, self._is_local = children, is_local
        self.named: set[str] = set()  # what the body itself asked for, local or not
        self._asked: set[str] = set()
        self._whole: set[str] = set()  # those of them that are asked for what their code defines
        # By `runpy`, or in a forked child, where none is loaded here: names and files.
        self.run: dict[str, str] = {}
        self._parts: set[Taken] = set()  # what pickles brought, or a text names, of which modules
        self._importing: list[Importing] = []
        self._imports: dict[str, Importing] = {}

    def begin(self) -> None:
        self.named, self.run = set(), {}
        self.forget()

    def ask(self, module: str, name: str, *, is_taken: bool, is_named: bool) -> None:
        """Code asks for a module by name, or for this part of it: for what the code there defines
        (is_taken), by code of the user's (is_named)."""
        if self._children.is_child:
            file = getattr(sys.modules.get(module), "__file__", None)
            self._children.tell("module", module, (file, name, is_taken, is_named))
            return
        if name:
            self._parts.add((module, tuple(name.split("."))))
        else:
            self._asked.add(module)
            self._whole |= {module} if is_taken else set()
        self.named |= {module} if is_named else set()
        for each in self._importing:
            each.asked |= {module} if is_taken else set()
            each.named |= {module} if is_named else set()

    def hear(self, module: str, file: str | None, name: str, taken: bool, named: bool) -> None:
        """A forked child asked for a module, or loaded it."""
        self.ask(module, name, is_taken=taken, is_named=named)
        if file and self._is_local(file):
            self.run[module] = file

    def forget(self) -> None:
        """Take no note of what was taken so far, but for what imports did."""
        self._parts, self._asked, self._whole = set(), set(), set()

    def begin_import(self) -> Importing:
        """The code of a local module begins to run."""
        begun = Importing()
        self._importing.append(begun)
        return begun

    def end_import(self, module: str, begun: Importing) -> None:
        self._importing.remove(begun)  # threads may import at once
        self._imports[module] = begun
        if self._children.is_child:
            self.ask(module, "", is_taken=False, is_named=False)
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
        taken = {each for each in tuple(self._parts) if each[0] in loaded}
        taken |= {(name, ()) for name in whole if name in loaded}
        return {each for each in taken if not _is_known(each, known)}


def _is_known(taken: Taken, known: Mapping[str, ModuleSource]) -> bool:
    """Whether what was taken of a module counts already, and with it what it reaches."""
    name, chain = taken
    if name not in known:
        return False
    names = known[name].names
    return names is None or (chain[:1] != () and chain[0] in names)
