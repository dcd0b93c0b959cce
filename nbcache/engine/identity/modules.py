"""Find local modules: whose a module is, where it lies, its source.

Reads source files; never imports a module to find out. What counts of a local module is decided by
`identity.module_reach`, what of an installed one by `packages`.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

from nbcache.engine.spec import ModuleSource
from nbcache.model.digest import identity_digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.asked import Asked
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.module_facts import ModuleFacts, read_module
from nbcache.plan.identity.module_reach import ModuleReach, Reached
from nbcache.plan.identity.module_relations import ModuleRelations
from nbcache.plan.identity.noted import Home, Noted
from nbcache.plan.identity.uses import Chain


class LocalModules:
    """Whose modules are, at one moment (of a capture, or of all those of a run): looks at each file
    once. Not kept: files change."""

    def __init__(self, notebook_module: str = "__main__", folder: Path | None = None) -> None:
        self._notebook = notebook_module
        self.path = [os.path.abspath(entry) for entry in sys.path]
        if folder is not None and str(folder.absolute()) not in self.path:
            self.path.append(str(folder.absolute()))
        self._homes: dict[str, Home] = {}
        self._specs: dict[str, ModuleSpec | None] = {}
        self._facts: dict[tuple[str, frozenset[Asked]], ModuleFacts | None] = {}
        self._relations: dict[frozenset[Asked], ModuleRelations] = {}
        self._imported: tuple[int, list[str]] = (0, [])
        self.sources: dict[str, ModuleSource] = {}

    def home(self, module: str) -> Home:
        """Return where the module of this full name comes from; by its top-level package."""
        top = module.partition(".")[0]
        found = self._homes.get(top)
        if found is None or module == self._notebook:
            found = self._homes[top] = self._home(top) if module != self._notebook else "notebook"
        return found

    def home_of(self, module: ModuleType) -> Home:
        """Return where a module comes from; "unknown" where its name leads to another file, as that
        of one may that the notebook loaded by itself."""
        file = attribute(module, "__file__")
        if isinstance(file, str) and sys.modules.get(module.__name__) is not module:
            spec = self.spec(module.__name__)
            origin = None if spec is None else spec.origin
            if origin and os.path.exists(origin) and not is_same_file(origin, file):
                return "unknown"
        return self.home(module.__name__)

    def imported(self) -> list[str]:
        """Return the local modules that this process has imported, in that order."""
        if self._imported[0] != len(sys.modules):
            names = list(sys.modules)
            tops = {name.partition(".")[0] for name in names}
            local = {top for top in tops if self.home(top) == "local"}
            own = self._notebook
            found = [each for each in names if each.partition(".")[0] in local and each != own]
            self._imported = (len(names), found)
        return self._imported[1]

    def _home(self, top: str) -> Home:
        if not top:
            return "unknown"
        if top in (self._notebook, "__main__"):
            return "notebook"
        if top in sys.builtin_module_names or (
            top in sys.stdlib_module_names and not self._is_hidden(top)
        ):
            return "python"
        if top == "nbcache":  # also while it is developed: its own formats have versions
            return "package"
        spec = self.spec(top)
        if spec is None:
            return "unknown"
        return "package" if all(map(_is_installed, files_of(spec))) else "local"

    def _is_hidden(self, top: str) -> bool:
        """Say whether a module of the user's stands in for the one of Python's of that name."""
        spec = self.spec(top)
        return spec is not None and not all(map(_is_installed, files_of(spec)))

    def spec(self, module: str) -> ModuleSpec | None:
        """Return where a module lies, without importing it; None where there is none."""
        if module not in self._specs:
            self._specs[module] = self._find(module)
        return self._specs[module]

    def _find(self, module: str) -> ModuleSpec | None:
        parent, _, name = module.rpartition(".")
        folders: list[str] = []
        try:
            if not parent:
                loaded = getattr(sys.modules.get(module), "__spec__", None)
                if isinstance(loaded, ModuleSpec) and any(map(os.path.exists, files_of(loaded))):
                    return loaded
                return PathFinder.find_spec(module, self.path) or importlib.util.find_spec(module)
            around = self.spec(parent)
            if around is None or around.submodule_search_locations is None:
                return None
            folders += around.submodule_search_locations
            return PathFinder.find_spec(module, folders)
        except KeyError:  # a folder without __init__.py in a package that is not imported
            found = ModuleSpec(module, None, is_package=True)
            places = (os.path.join(each, name) for each in folders)
            found.submodule_search_locations = list(filter(os.path.isdir, places))
            return found
        except (ImportError, ValueError, AttributeError):
            return None

    def relations(self, asked: frozenset[Asked]) -> ModuleRelations:
        if asked not in self._relations:
            self._relations[asked] = ModuleRelations(partial(self.load, asked=asked))
        return self._relations[asked]

    def load(self, module: str, asked: frozenset[Asked] = frozenset()) -> ModuleFacts | None:
        """Return what the source of a local module says; None where it is not local."""
        if (module, asked) not in self._facts:
            self._facts[module, asked] = self._load(module, asked)
        return self._facts[module, asked]

    def _load(self, module: str, asked: frozenset[Asked]) -> ModuleFacts | None:
        if self.home(module) != "local":
            return None
        spec = self.spec(module)
        if spec is None:
            return None
        if spec.origin is None or spec.origin == "namespace":  # a folder without __init__.py
            return read_module(module, "", is_package=True)
        path = Path(spec.origin)
        data = _data_of(module, spec, path)
        if data is None:
            return None
        self.sources[module] = ModuleSource(str(path), identity_digest(data))
        if path.name.endswith(tuple(EXTENSION_SUFFIXES)):
            # Compiled code counts by content; as source it is one constant.
            return read_module(module, f"_ = {identity_digest(data)!r}", is_package=False)
        return _read(module, data, spec.submodule_search_locations is not None, asked)


def _data_of(module: str, spec: ModuleSpec, path: Path) -> bytes | None:
    """Return what a module's file holds, also where it lies in an archive; None: it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        loader: Any = spec.loader
    try:
        if hasattr(loader, "invalidate_caches"):
            loader.invalidate_caches()  # a zip file that was written anew
        text = loader.get_source(module)
        return loader.get_data(spec.origin) if text is None else str(text).encode()
    except (AttributeError, ImportError, OSError):
        return None


@lru_cache(maxsize=512)
def _read(module: str, data: bytes, is_package: bool, asked: frozenset[Asked]) -> ModuleFacts:
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        text = data.decode("utf-8", "surrogateescape")
    return read_module(module, text, is_package=is_package, asked=asked)


def _component_of(name: str, reached: Reached, modules: LocalModules) -> Component:
    file = Path(modules.sources[name].path).name if name in modules.sources else "folder"
    return component("module", name, reached.digest(), file, reached.text(file))


def local_components(
    modules: LocalModules, noted: Noted, asked: frozenset[Asked]
) -> tuple[list[Component], ModuleReach, list[str]]:
    """Return a component for each local module that counts of those that code of the notebook
    reads, and what was found on the way.

    The names given last are of modules that change reached ones when they are imported, as they
    were in the notebook: they register or patch something there, whether or not the body imports
    them.
    """
    reach = ModuleReach(modules.relations(asked))
    reach.lists_all = noted.lists_all
    if noted.takes_any:
        reach.takes_any()
    for module, chains in sorted(noted.local.items()):
        reach.read(module, sorted(chains))
    imported = modules.imported() if reach.modules else []
    while found := [
        each for each in imported if each not in reach.modules and reach.changes_reached(each)
    ]:
        for each in found:
            reach.read(each, ())
    changing = {each for each in imported if each in reach.modules and reach.changes_reached(each)}
    changing.update(*map(reach.named_by, changing))  # which have to be there before
    return (
        [_component_of(name, each, modules) for name, each in sorted(reach.modules.items())],
        reach,
        [each for each in imported if each in changing],
    )


def reached_beyond(
    known: Mapping[str, ModuleSource], taken: Iterable[tuple[str, Chain]], loaded: Iterable[str]
) -> set[str]:
    """Return the loaded local modules of which more is reached than what is known of them.

    `taken` are attributes of modules, () the module as a whole, and of a package that is not known
    all that is loaded of it.
    """
    reach = ModuleReach(LocalModules().relations(frozenset()))
    inside = tuple(f"{name}." for name, chain in taken if not chain and name not in known)
    for name, chain in sorted(
        {*taken, *((each, ()) for each in loaded if each.startswith(inside))}
    ):
        reach.read(name, [chain])
    return ({name for name, _ in taken} - known.keys()) | {
        name
        for name in reach.modules.keys() & set(loaded)
        if name not in known or not _covers(known[name].names, reach.modules[name])
    }


def _covers(names: frozenset[str] | None, reached: Reached) -> bool:
    more = reached.facts.definitions.keys() if reached.whole else reached.names
    return names is None or names.issuperset(more)


def is_same_file(path: str, other: str) -> bool:
    """Say whether two paths are of one file; one that is gone is none."""
    try:
        return path == other or os.path.samefile(path, other)
    except OSError:
        return False


def files_of(spec: ModuleSpec) -> list[str]:
    """Return the file that a module is made of, of a package without one its folders."""
    if spec.origin and spec.origin not in ("namespace", "built-in", "frozen"):
        return [spec.origin]
    return list(spec.submodule_search_locations or ())


@lru_cache(maxsize=1)
def _installed_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(folder.rstrip("/") + "/" for folder in folders)


def _is_installed(path: str) -> bool:
    return (
        path.startswith(_installed_folders())
        or "/site-packages/" in path
        or "/dist-packages/" in path
    )
