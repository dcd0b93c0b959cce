"""Find installed packages: which package a module is of, its version, and what it requires.

Reads the metadata of packages, which installers leave beside them, and the files of what has none.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from nbcache.engine.identity.modules import LocalModules, files_of
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.code import encode_constant
from nbcache.plan.identity.fingerprint import component
from nbcache.store.filestate import StatKey, is_settled, stat_key


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
    for place in files_of(spec) if spec is not None else ():
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
            places = [each for each in Path(entry or ".").iterdir() if each.suffix in _METADATA]
        except OSError:
            continue
        for each in sorted(places, key=lambda each: each.suffix):
            name, _, version = each.stem.partition("-")
            if version:
                version = re.sub(r"-py\d.*", "", version)  # of an egg: the Python it is for
                found.setdefault(_normal(name), (version, each))
    return found


# Folders by the names NAME-VERSION; those of Debian's packages and of old installers are eggs.
_METADATA = (".dist-info", ".egg-info")


@lru_cache(maxsize=64)
def _providers(folders: Folders) -> dict[str, str]:
    """Top-level module -> distribution. Reads the file lists of all that is installed, so it is
    asked only for modules that are named unlike their package."""
    found: dict[str, str] = {}
    for name, (_, place) in _installed(folders).items():
        for line in _lines(place, "RECORD", "top_level.txt"):
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
    place = _installed(folders)[name][1]
    if place.suffix == ".egg-info":  # up to the extras and conditions, which have a head each
        lines = _lines(place, "requires.txt")
        needed = list(itertools.takewhile(lambda line: line[:1] != "[", lines))
    else:
        head = itertools.takewhile(bool, _lines(place, "METADATA"))
        parts = [line.partition(":") for line in head]
        needed = [text for key, _, text in parts if key == "Requires-Dist"]
        needed = [each for each in needed if "extra ==" not in each and "extra==" not in each]
    names = (re.split(r"[^\w.-]", each.strip(), maxsplit=1)[0] for each in needed)
    return tuple(_normal(each) for each in names if each)


def _lines(place: Path, *names: str) -> list[str]:
    """Return the lines of the first of these files that metadata has."""
    for name in names:
        with contextlib.suppress(OSError):
            return (place / name).read_text("utf-8", "replace").splitlines()
    return []


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
