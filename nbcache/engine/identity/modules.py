"""Find local modules and installed packages: whose a module is, its source, its version.

Reads source files and package metadata; never imports a module to find out. What counts of a
local module is decided by `identity.module_reach`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import site
import sys
import sysconfig
import time
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from io import BytesIO
from pathlib import Path
from typing import Any

from nbcache.engine.spec import ModuleSource
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.asked import Asked
from nbcache.plan.identity.code import encode_constant
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.module_facts import ModuleFacts, read_module
from nbcache.plan.identity.module_reach import ModuleReach, Reached
from nbcache.plan.identity.module_relations import ModuleRelations
from nbcache.plan.identity.noted import Home, Noted
from nbcache.plan.identity.uses import Chain
from nbcache.store.filestate import StatKey, is_settled, stat_key


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
        return "package" if all(map(_is_installed, _files(spec))) else "local"

    def _is_hidden(self, top: str) -> bool:
        """Say whether a module of the user's stands in for the one of Python's of that name."""
        spec = self.spec(top)
        return spec is not None and not all(map(_is_installed, _files(spec)))

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
                if isinstance(loaded, ModuleSpec) and any(map(os.path.exists, _files(loaded))):
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


def _files(spec: ModuleSpec) -> list[str]:
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


# -- installed packages ---------------------------------------------------------------------


def package_components(modules: LocalModules, names: Iterable[str]) -> list[Component]:
    """Return a component for each installed package: its version and those of what it needs.

    `names` are full names of modules; those of Python itself and of nobody are passed over.
    """
    tops = {name.partition(".")[0] for name in names}
    found: dict[str, Component] = {}
    for top in sorted(tops):
        if modules.home(top) != "package":
            continue
        distribution = distribution_of(top)
        if distribution is None:
            digest = _content(modules, top)
            found[top] = component("package", top, digest, "no version: by content")
            continue
        versions = closure_of(distribution)
        text = "\n".join(f"{name} {version}" for name, version in versions)
        digest = identity_digest(encode_constant(("versions", versions)))
        found[top] = component("package", top, digest, dict(versions)[distribution], text)
    return list(found.values())


def is_covered(top: str, packages: Iterable[str]) -> bool:
    """Say whether the version of a package counts with one of others, which requires it."""
    own = distribution_of(top)
    needed = (closure_of(name) for name in map(distribution_of, packages) if name is not None)
    return any(own == name for closure in needed for name, _ in closure)


def _content(modules: LocalModules, top: str) -> Digest:
    """Return a digest of an installed module without a version, and of the installed ones that it
    imports: by its text, in which a word too many costs a look at it."""
    parts: list[tuple[str, str]] = []
    waiting = [top]
    for each in waiting:  # grows meanwhile
        if (distribution := distribution_of(each)) is not None:
            parts += closure_of(distribution)
            continue
        imported: set[str] = set()
        for name, data in _contents(modules.spec(each)):
            parts.append((name, identity_digest(data)))
            for said in _IMPORTS.findall(data) if name.endswith(".py") else ():
                words = said.decode().split(None, 1)[1].split(",")
                imported.update(word.strip().partition(" ")[0].partition(".")[0] for word in words)
        others = sorted(imported.difference(waiting))
        waiting += [other for other in others if modules.home(other) == "package"]
    return identity_digest(encode_constant(("content", tuple(parts))))


_IMPORTS = re.compile(rb"^[ \t]*(?:from[ \t]+\w+|import[ \t]+\w[\w., \t]*)", re.M)


def _contents(spec: ModuleSpec | None) -> Iterator[tuple[str, bytes]]:
    """Yield the files of an installed module by their names."""
    for place in _files(spec) if spec is not None else ():
        root = Path(place)
        folder = root.parent if root.name == "__init__.py" else root
        for file in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield str(file.relative_to(folder.parent)), file.read_bytes()


# Spares the common ones the search through all file lists (100 ms); says nothing else than it.
_OFTEN = {
    "sklearn": "scikit-learn", "skimage": "scikit-image", "PIL": "pillow", "yaml": "pyyaml",
    "dateutil": "python-dateutil", "bs4": "beautifulsoup4", "Bio": "biopython",
}  # fmt: skip

Folders = tuple[str, ...]
"""Where packages are installed; () stands for those of this process."""


@lru_cache(maxsize=4096)
def distribution_of(top: str, folders: Folders = ()) -> str | None:
    """Return the normalised name of the distribution that installs a top-level module, or None."""
    for name in (_normal(top), _OFTEN.get(top, "")):
        if name in _versions(folders):
            return name
    return _providers(folders).get(top)


@lru_cache(maxsize=64)
def _versions(folders: Folders) -> dict[str, str]:
    """Name -> version of all that is installed, from the names of the metadata folders alone."""
    return {name: version for name, (version, _) in _installed(folders).items()}


@lru_cache(maxsize=1)
def digest_of_installed() -> Digest:
    """Return a digest of the names and versions of all that is installed."""
    return identity_digest(encode_constant(("installed", tuple(sorted(_versions(()).items())))))


@lru_cache(maxsize=64)
def _installed(folders: Folders) -> dict[str, tuple[str, Path]]:
    found: dict[str, tuple[str, Path]] = {}
    for entry in folders or sys.path:
        try:
            places = [each for each in Path(entry or ".").iterdir() if each.suffix == ".dist-info"]
        except OSError:
            continue
        for each in places:
            name, _, version = each.name.removesuffix(".dist-info").partition("-")
            if version:
                found.setdefault(_normal(name), (version, each))
    return found


@lru_cache(maxsize=64)
def _providers(folders: Folders) -> dict[str, str]:
    """Top-level module -> distribution. Reads the file lists of all that is installed, so it is
    asked only for modules that are named unlike their package."""
    found: dict[str, str] = {}
    for name, (_, place) in _installed(folders).items():
        try:
            lines = (place / "RECORD").read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            top, slash, _ = line.partition("/")
            if not slash:
                top = top.partition(".")[0]
            found.setdefault(top, name)
    return found


@lru_cache(maxsize=1024)
def closure_of(distribution: str, folders: Folders = ()) -> tuple[tuple[str, str], ...]:
    """Return (name, version) of a distribution and of all that it requires and is installed.

    Requirements of extras are left out; conditions on platform or version are not evaluated,
    since what they exclude is as a rule not installed.
    """
    found: dict[str, str] = {}
    waiting = [distribution]
    while waiting:
        name = waiting.pop()
        if name in found or name not in _versions(folders):
            continue
        found[name] = _versions(folders)[name]
        waiting += _requirements(name, folders)
    return tuple(sorted(found.items()))


@lru_cache(maxsize=4096)
def _requirements(name: str, folders: Folders) -> tuple[str, ...]:
    try:
        text = (_installed(folders)[name][1] / "METADATA").read_text("utf-8", "replace")
    except OSError:
        return ()
    found: list[str] = []
    for line in text.partition("\n\n")[0].splitlines():
        key, _, rest = line.partition(":")
        if key == "Requires-Dist" and "extra ==" not in rest and "extra==" not in rest:
            found.append(_normal(re.split(r"[^\w.-]", rest.strip(), maxsplit=1)[0]))
    return tuple(found)


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def see_packages() -> None:
    """Look at what is installed anew if something was installed while this process ran.

    An installer makes and removes metadata folders, which shows in the folder around them, once
    the clock has ticked.
    """
    began = time.time_ns()
    now = tuple(map(_state, sys.path))
    if _seen != [now]:
        settled = all(is_settled(state, began) for state in now if state is not None)
        _seen[:] = [now] if settled else []
        forget_packages()


_seen: list[tuple[StatKey | None, ...]] = []


def _state(folder: str) -> StatKey | None:
    try:
        return stat_key(folder or ".")
    except OSError:
        return None


def forget_packages() -> None:
    """Look at what is installed anew."""
    caches = (
        *(_installed, _versions, _providers, closure_of, _requirements, distribution_of),
        digest_of_installed,
    )
    for each in caches:
        each.cache_clear()
