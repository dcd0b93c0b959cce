"""What the code met on a walk reads by name: of the notebook, of modules, of packages.

`reach.Walker` identifies objects; what their code reads, imports, asks of code and looks up by
texts is noted here, and whoever began the walk follows it. Reads no file: source text is parsed
already.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Literal, Protocol

from nbcache.plan.identity.asked import Asked, asked_of_code
from nbcache.plan.identity.canonical.names import attribute, module_of, qualname_of
from nbcache.plan.identity.looked_up import WORDS, LookUp, look_ups
from nbcache.plan.identity.named_in_text import names_told
from nbcache.plan.identity.uses import (
    DEFINED,
    NAME_MODULES,
    Chain,
    Import,
    Uses,
    modules_told,
    takes_any,
)

Home = Literal["notebook", "local", "package", "python", "unknown"]

# Names that every module or cell has without saying so; they tell where code lies, not what it is.
AMBIENT = frozenset(
    "__name__ __doc__ __file__ __package__ __loader__ __spec__ __builtins__ __builtin__ __module__ "
    "__qualname__ __annotations__ __class__ __dict__ __path__ __cached__".split()
)


class Places(Protocol):
    """Tells whose code a module is."""

    def home(self, module: str) -> Home:
        """Return where the module of this full name comes from."""
        ...

    def home_of(self, module: types.ModuleType) -> Home:
        """Return where a module comes from; "unknown" where its name leads to another one."""
        ...


class Noted:
    """What was read so far. `wanted` are names of `namespace`, `local` modules, both with the
    attribute chains read off them."""

    def __init__(self, namespace: Mapping[str, object], places: Places) -> None:
        self._namespace, self._places = namespace, places
        self.home_name = str(namespace.get("__name__", "__main__"))
        self.wanted: dict[str, set[Chain]] = {}
        self.local: dict[str, set[Chain]] = {}
        self.packages: set[str] = set()
        self.python: set[str] = set()  # modules of Python's own
        self.texts: set[str] = set()
        self.asks: set[Asked] = set()
        self.annotated: set[str] = set()  # names in annotations that are texts
        self.passed: set[str] = set()  # modules that are used as a whole, such as by `getattr`
        self.looked_up: set[str] = set()  # names that are read off the notebook by a text
        self.unknown: LookUp | None = None  # one that may read any name
        self.puts_names = False  # into the notebook, by texts: what is unknown may be these
        self.whole: list[LookUp] = []  # where code has all names of the notebook at hand
        self.subclasses: set[str] = set()  # classes that are reached from those above them
        self.lists_all = False  # those of which class cannot be told
        self.takes_any = False  # modules that only the run knows, of those that are loaded

    def used(self, uses: Uses, own: Iterable[str] = ()) -> None:
        """Note all that some code of the notebook uses; `own` are names that it binds itself."""
        skipped = {*AMBIENT, *own}
        for name, chains in uses.names.items():
            if name not in skipped and name in self._namespace:
                if name in uses.by_text and is_of_nbcache(self._namespace[name]):
                    continue  # a process or channel that a text happens to name
                self.wanted.setdefault(name, set()).update(chains)
        if reads_main(uses):
            self.look_up({*uses.attributes, *uses.texts} - skipped)
        if "__subclasses__" in uses.attributes:
            found = self._subclasses(uses, skipped)
            self.wanted |= {name: {()} for name in found if name not in self.wanted}
            self.subclasses |= found
        self.imported(uses)

    def look_up(self, names: Iterable[str]) -> None:
        """Note names of the notebook that code reads by a text; others are passed over."""
        for name in names:
            if name in self._namespace and not is_of_nbcache(self._namespace[name]):
                self.wanted.setdefault(name, set()).add(())
                self.looked_up.add(name)

    def looks_up(self, code: ast.AST, *, at_top: bool, own: Collection[str] = ()) -> None:
        """Note the names that code of the notebook looks up by a text; `own` it binds itself."""
        public = [each for each in self._namespace if each[0] != "_" and each not in own]
        for found in look_ups(code, at_top=at_top):
            if found.how == "puts":
                self.puts_names = True
            elif found.pattern is not None:
                self.look_up(filter(found.matches, public))
            elif found.how in ("whole", "given"):
                self.whole.append(found)
            else:
                self.unknown = found

    def look_up_in_texts(self, own: Collection[str]) -> None:
        """Note the names in the texts of all code met so far, where some of it may run one with all
        names at hand; `own` the body binds itself."""
        if any(each.how == "given" for each in self.whole):
            told = chain.from_iterable(map(names_told, self.texts))
            self.look_up(each for each in told if each[0] != "_" and each not in own)

    def _subclasses(self, uses: Uses, own: Collection[str]) -> set[str]:
        """Return the notebook's classes that derive from one whose subclasses some code asks for;
        where it cannot be told which those are, all that derive from any class of the notebook.

        own: names that the code binds itself.
        """
        asked = {before for before, name, _ in uses.members if name == "__subclasses__"}
        bases = dict(self._asked_bases(uses, own))
        told = asked and asked == bases.keys()
        self.lists_all |= not told
        for base in bases.values():
            self.module_read(module_of(base), {(qualname_of(base), "__subclasses__")})
        return {
            name
            for name, value in self._namespace.items()
            if isinstance(value, type)
            and module_of(value) == self.home_name
            and any(
                base in bases.values() if told else module_of(base) == self.home_name
                for base in value.__mro__[1:]
            )
        }

    def _asked_bases(self, uses: Uses, own: Collection[str]) -> Iterator[tuple[str, type]]:
        """Yield the classes that code asks for subclasses by name, behind the last of these."""
        for name, chains in uses.names.items():
            for steps in [(name, *each) for each in chains if "__subclasses__" in each]:
                at = steps.index("__subclasses__")
                base = None if name in own else self._namespace.get(name)
                for step in steps[1:at]:
                    base = attribute(base, step) if isinstance(base, types.ModuleType) else None
                if isinstance(base, type):
                    yield steps[at - 1], base

    def imported(self, uses: Uses) -> None:
        """Note the modules that some code imports itself, its texts, and what it asks of code."""
        self.texts |= uses.texts
        self.asks |= asked_of_code(uses)
        for each in uses.imports:
            self._import(each, uses)
        called_sys = [each for each in uses.taken_from if self._namespace.get(each) is sys]
        self.takes_any |= takes_any(uses, called_sys)
        for told in modules_told(uses):
            self.module_read(told, {()}, only_local="find_spec" not in uses.attributes)

    def module_read(
        self, module: str, chains: Iterable[Chain], *, only_local: bool = False
    ) -> None:
        """Note that attributes are read off a module."""
        chains = set(chains)
        if not chains.isdisjoint(((), DEFINED)):
            self.passed.add(module)
        home = self._places.home(module)
        if home == "local":
            self.local.setdefault(module, set()).update(chains)
        elif home == "package" and not only_local:
            self.packages.add(module)
        elif home == "python":
            self.python.add(module)

    def _import(self, each: Import, uses: Uses) -> None:
        if each.level:
            return  # relative: only in modules, which are read from their source
        if not each.bound:
            for module, chains in each.read_locally():
                self.module_read(module, chains)
        elif each.names == ("*",):  # of what the module has from others, what is used counts
            used = {(name, *chain) for name, chains in uses.names.items() for chain in chains}
            self.module_read(each.module, {DEFINED, *used})
        for position, target in enumerate(each.targets if each.bound else ()):
            read = uses.names.get(target, frozenset())
            if each.names:
                name = each.names[position]
                self.module_read(each.module, {(name, *chain) for chain in read} or {(name,)})
            elif each.aliased:
                self.module_read(each.module, read)
            else:
                self.module_read(each.module, ())
                self.module_read(each.module.partition(".")[0], read)

    def note_type(self, cls: type) -> None:
        """Note the packages that a class and those above it come from."""
        for base in cls.__mro__:
            module = module_of(base)
            home = self._places.home(module)
            if home == "package":
                self.packages.add(module)
            elif home == "python":
                self.python.add(module)


def reads_main(uses: Uses) -> bool:
    """Say whether code asks for the notebook's names as those of a module."""
    names_it = "__main__" in uses.texts or "__name__" in uses.read
    by_text = names_it and not NAME_MODULES.isdisjoint(uses.attributes)
    return by_text or any(each.module == "__main__" for each in uses.imports)


def may_look_up(uses: Uses) -> bool:
    """Say whether code may read names of the notebook by texts that it puts together."""
    return reads_main(uses) or not WORDS.isdisjoint(uses.read)


def is_of_nbcache(value: object) -> bool:
    """Say whether a value is a process, a channel, or what else this package gives people."""
    return module_of(type(value)).startswith("nbcache.")
