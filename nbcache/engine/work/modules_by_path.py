"""Find modules that the notebook loaded from a file by itself, where their names do not lead to it.

`spec_from_file_location` and an entry in `sys.modules` make a module that only the notebook has a
way to, be there another of its name or none; what was sent names it, so a worker must find it, too.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder

from nbcache.engine.identity.modules import is_same_file
from nbcache.engine.spec import ModuleSource


class _Finder(importlib.abc.MetaPathFinder):
    """Asked first, but only where the path leads elsewhere: whoever changes how modules are loaded
    from there is not passed over."""

    def __init__(self) -> None:
        self.sources: Mapping[str, ModuleSource] = {}
        self.given: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        source = self.sources.get(name)
        if source is None or not os.path.isfile(source.path):  # in an archive
            return None
        found = PathFinder.find_spec(name, path)
        if found is not None and is_same_file(found.origin or "", source.path):
            return None
        self.given.add(name)
        folder, file = os.path.split(source.path)
        inner = [folder] if file == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, source.path, submodule_search_locations=inner
        )


_FINDER = _Finder()


def find_by_path(sources: Mapping[str, ModuleSource]) -> None:
    """Have these local modules found where they lie, wherever their names lead."""
    _FINDER.sources = sources
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def place_of(name: str, folders: Sequence[str] | None) -> str | None:
    """Return the file that an import of a name would look in; None: the path knows none."""
    found = _FINDER.find_spec(name, folders) or PathFinder.find_spec(name, folders)
    return None if found is None else found.origin


def have_strangers(loaded: Iterable[str]) -> bool:
    """Say whether one of the modules was found here for a process with other modules."""
    return any(each in _FINDER.given and each not in _FINDER.sources for each in loaded)
