"""Find modules that the notebook loaded from a file by itself, in no folder of the import path.

`spec_from_file_location` and an entry in `sys.modules` make a module that only the notebook has a
way to; what was sent names it, so a worker must find it, too.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec

from nbcache.engine.spec import ModuleSource


class _Finder(importlib.abc.MetaPathFinder):
    """Asked last, so nothing that is found in another way is found here."""

    def __init__(self) -> None:
        self.sources: Mapping[str, ModuleSource] = {}

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        source = self.sources.get(name)
        if source is None:
            return None
        folder, file = os.path.split(source.path)
        inner = [folder] if file == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, source.path, submodule_search_locations=inner
        )


_FINDER = _Finder()


def find_by_path(sources: Mapping[str, ModuleSource]) -> None:
    """Have these local modules found where they lie, if their names lead nowhere."""
    _FINDER.sources = sources
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
