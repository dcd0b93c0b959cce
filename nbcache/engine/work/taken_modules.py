"""Which local modules a body takes by a name that only the run knows.

By `import_module`, `__import__`, the text of an `exec`, `runpy.run_module`, a pickle; or since the
import of a module does so, as one does that looks for plugins. That happens once per worker, and
counts for every attempt that uses the module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nbcache.engine.spec import ModuleSource
from nbcache.engine.work.child_notes import ChildNotes
from nbcache.model.digest import Digest
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

    def __init__(self, children: ChildNotes) -> None:
        self._children = children
        self._told: set[object] = set()  # import statements and calls that asked already
        self.named: set[str] = set()  # what the body itself asked for, local or not
        self._asked: set[str] = set()
        self._whole: set[str] = set()  # those of them that are asked for what their code defines
        # By `runpy`, or in a forked child, so none is loaded here: files, and what these held then.
        self.run: dict[str, tuple[str, Digest | None]] = {}
        self._parts: set[Taken] = set()  # what pickles brought, or a text names, of which modules
        self._importing: list[Importing] = []
        self._imports: dict[str, Importing] = {}

    def begin(self) -> None:
        self.named, self.run = set(), {}
        self.forget()

    @property
    def told(self) -> set[object]:
        """What asked already and need not be told again; each import of a module is told all."""
        return set() if self._importing else self._told

    def ask(self, module: str, name: str, *, is_taken: bool, is_named: bool) -> None:
        """Code asks for a module by name, or for this part of it: for what the code there defines
        (is_taken), by code of the user's (is_named)."""
        if self._children.is_child:
            said = {"name": name, "is_taken": is_taken, "is_named": is_named}
            self._children.tell("module", module, said)
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

    def loaded_by_child(self, module: str, file: str, digest: Digest | None) -> None:
        """A forked child loaded a local module, of which its file held this then."""
        self.ask(module, "", is_taken=False, is_named=False)
        self.run.setdefault(module, (file, digest))

    def forget(self) -> None:
        """Take no note of what was taken so far, but for what imports did."""
        self._parts, self._asked, self._whole = set(), set(), set()
        self._told = set()

    def begin_import(self) -> Importing:
        """The code of a local module begins to run."""
        begun = Importing()
        self._importing.append(begun)
        return begun

    def end_import(self, module: str, file: str, digest: Digest | None, begun: Importing) -> None:
        self._importing.remove(begun)  # threads may import at once
        self._imports[module] = begun
        if self._children.is_child:
            self._children.tell("loaded", module, (file, digest))
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
