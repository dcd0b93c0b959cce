"""What the cells of a notebook set in modules, by their text, and which of it some code reaches."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nbcache.engine.identity.input_settings import InputSetting
from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.identity.packages import is_covered
from nbcache.engine.identity.patches import Patch, top_of
from nbcache.engine.identity.setters import is_style, set_by_call, style
from nbcache.engine.identity.sources import cell_names, text_of, texts_of_notebook
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.module_reach import ModuleReach
from nbcache.plan.identity.module_settings import (
    ACCESSORS,
    CALLED,
    Aliases,
    CellSettings,
    Setting,
    Step,
    aliases_of,
    settings_in,
)
from nbcache.plan.identity.noted import Noted

# The import path and the environment have ways of their own; the rest is the kernel's business.
_OWN_WAYS = frozenset({"sys", "os", "nbcache", "IPython", "ipykernel", "__main__"})
_MOST = 1000  # members: a larger container is data


class ModuleSettings:
    """What the cells that this kernel ran, and scripts that they ran, set in modules."""

    def __init__(self, namespace: Mapping[str, object], folder: Path | None) -> None:
        said = list(_said(namespace, folder))
        aliases = aliases_of({name: full for each in said for name, full in each.imported})
        if aliases:
            said = list(_said(namespace, folder, aliases))
        self._namespace = namespace
        self._own = str(namespace.get("__name__", "__main__"))
        self._imported = {name: full for each in said for name, full in each.imported}
        self.submodules = tuple(dict.fromkeys(name for each in said for name in each.modules))
        self._places: dict[Patch, None] = {}  # in order
        self._calls: dict[tuple[Patch, str], None] = {}
        self._accessors: dict[Patch, None] = {}
        found: dict[tuple[Patch, Setting], None] = {}  # a cell is executed again and again
        for one in dict.fromkeys(said):
            for each in one.settings:
                patch = self._patch(each, one)
                if patch is not None:
                    found[patch, each] = None
        for patch, each in found:
            self._sort_in(patch, each)

    def _sort_in(self, patch: Patch, setting: Setting) -> None:
        if not setting.called:
            self._places |= dict.fromkeys(style() if is_style(patch) else [patch])
            return
        places = set_by_call(patch, setting.given) if setting.called == CALLED else None
        if places is not None:
            kept = self._accessors if patch.steps[-1] in ACCESSORS else self._places
            kept |= dict.fromkeys(each for each in places if each.is_there())
        elif not setting.inner:  # else a task that calls the function has it, too
            self._calls[patch, setting.called] = None

    def reached(
        self,
        noted: Noted,
        reach: ModuleReach,
        places: LocalModules,
        code: Sequence[str | None],
    ) -> list[Patch]:
        """Return the places in modules that cells set and code reaches, whose texts are `code`.

        What is given to all tables of a library counts where the code has its name.
        """
        tops = _tops(noted, reach)
        found = [*self._places]
        found += [each for name in reach.modules for each in _filled_by(self._own, name)]
        found = [each for each in found if _counts(each, tops, reach, places)]
        found += [each for each in self._accessors if mentions(code, str(each.steps[-1]))]
        return list(
            dict.fromkeys(
                each if places.home(each.module) == "local" else each.shortest() for each in found
            )
        )

    def unreached(self, noted: Noted, reach: ModuleReach, places: LocalModules) -> Iterator[Patch]:
        """Yield the places that code does not reach by itself: an input may bring it there."""
        tops = _tops(noted, reach)
        for each in self._places:
            if each.module != "sys" and not _counts(each, tops, reach, places):
                yield each if places.home(each.module) == "local" else each.shortest()

    def unnamed(self, noted: Noted, reach: ModuleReach, places: LocalModules) -> list[str]:
        """Return how cells set, in modules that code reaches, what their text does not name."""
        tops = _tops(noted, reach)
        return [
            called.format(patch)
            for patch, called in self._calls
            if _counts(patch, tops, reach, places)
        ]

    def _patch(self, setting: Setting, said: CellSettings) -> Patch | None:
        full = self._full_name(setting.root, said)
        steps: tuple[Step, ...] = (*full.split("."), *setting.steps)
        count = _depth_of_module(steps)
        if not count or not (steps[count:] or setting.called):
            return None
        if not all(isinstance(each, str) for each in steps[count : count + 1]):
            return None  # a module has no items
        if steps[0] in _OWN_WAYS and steps[:2] != ("sys", "modules"):
            return None
        patch = Patch(".".join(map(str, steps[:count])), steps[count:])
        if patch.is_there():
            return patch
        is_left = setting.gone and Patch(patch.module, patch.steps[:-1]).is_there()
        return patch if is_left else None

    def _full_name(self, name: str, said: CellSettings) -> str:
        """Return what a name means in full, "" where it means nothing that was imported."""
        if name not in self._namespace:  # a function imports it, or it is a module in a text
            return dict(said.imported).get(name, name)
        imported = self._imported.get(name, name)
        value = self._namespace[name]
        if isinstance(value, types.ModuleType):
            return value.__name__
        steps = tuple(imported.split("."))
        count = _depth_of_module(steps)
        if not count or not steps[count:]:
            return ""
        there = Patch(".".join(steps[:count]), steps[count:]).value()
        return imported if there is value else ""


# `to_string`, f-strings, `"%s" % a`, `map(str, a)`, what logs; an annotation `: str` is no text.
_MAKES_TEXT = re.compile(
    r"print|repr|format|display|render|\bto_(string|html|latex|markdown|clipboard)\b|\bstyle\b"
    r"|\b(log|debug|info|warn|warning|error|critical|exception)\b|__str__|\bstr\(|[(,=]\s*str\b"
    r"|\b[fF][rR]?[\"']|\b[rR][fF][\"']|[\"']\s*%"
)


def makes_text(sources: Iterable[str | None]) -> bool:
    """Say whether code may make text of values; best effort, rather yes than no."""
    return any(each is not None and _MAKES_TEXT.search(each) for each in sources)


def mentions(sources: Iterable[str | None], word: str) -> bool:
    """Say whether a word stands somewhere in some code."""
    return any(each is not None and re.search(rf"\b{word}\b", each) for each in sources)


class Surroundings(NamedTuple):
    """What the captures of one moment share that look at one namespace."""

    places: LocalModules
    settings: ModuleSettings
    of_inputs: dict[Patch, InputSetting]  # those that a capture asked for

    @classmethod
    def of(cls, namespace: Mapping[str, object], folder: Path | None) -> Surroundings:
        own = str(namespace.get("__name__", "__main__"))
        return cls(LocalModules(own, folder), ModuleSettings(namespace, folder), {})


def _tops(noted: Noted, reach: ModuleReach) -> set[str]:
    return {top_of(each) for each in noted.packages | noted.python | reach.packages}


def _depth_of_module(steps: tuple[Step, ...]) -> int:
    """Return how many of the first steps are the name of a module that is loaded."""
    found = 0
    for count in range(1, len(steps) + 1):
        name = ".".join(each if isinstance(each, str) else "[]" for each in steps[:count])
        if not isinstance(sys.modules.get(name), types.ModuleType):
            break
        found = count
    return found


def _said(
    namespace: Mapping[str, object], folder: Path | None, aliases: Aliases = frozenset()
) -> Iterator[CellSettings]:
    file = namespace.get("__file__")
    if isinstance(file, str):  # of a module with processes
        yield settings_in(text_of(file) or "", aliases)
    for name in cell_names():
        found = _said_in_cell(name, aliases)
        yield found
        for script in found.runs:
            with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
                path = (folder or Path.cwd()) / script
                if path.suffix == ".ipynb":
                    yield from (settings_in(each, aliases) for each in texts_of_notebook(path))
                else:
                    yield settings_in(path.read_text("utf-8", "surrogateescape"), aliases)


@cache  # the kernel keeps the texts of its cells, too
def _said_in_cell(name: str, aliases: Aliases) -> CellSettings:
    return settings_in(text_of(name) or "", aliases)  # another text has another name


def _filled_by(own: str, module: str) -> Iterator[Patch]:
    """Yield the places in a local module that hold what the notebook (`own`) made: a hook, a table
    in which a decorator registered a function. No text has to tell of these."""
    found = sys.modules.get(module)
    names = vars(found) if isinstance(found, types.ModuleType) else {}
    for name, value in list(names.items()):
        if name.startswith("__"):
            continue
        if _holds(value, own):
            yield Patch(module, (name,))
        elif isinstance(value, type) and value.__module__ == module:
            for inner, each in list(vars(value).items()):
                if not inner.startswith("__") and _holds(each, own):
                    yield Patch(module, (name, inner))


def _holds(value: object, own: str) -> bool:
    """Say whether a value is code of the notebook, or a container or dispatch with some in it."""
    kind = type(value)
    if kind is types.FunctionType or isinstance(value, type):
        if attribute(value, "__module__") == own:
            return True
        registry = attribute(value, "registry")
        return isinstance(registry, types.MappingProxyType) and _holds(dict(registry), own)
    if kind in (list, tuple, set, dict):
        members: Any = value.values() if isinstance(value, dict) else value
        return len(members) <= _MOST and any(
            attribute(each, "__module__") == own for each in members
        )
    return False


def _counts(patch: Patch, tops: set[str], reach: ModuleReach, places: LocalModules) -> bool:
    if patch.module == "builtins":
        return True
    if patch.module == "sys":  # another module under a name
        other = str(patch.steps[1][0]) if len(patch.steps) > 1 else ""
        return other in reach.modules or top_of(other) in tops
    top, home = top_of(patch.module), places.home(patch.module)
    if home != "local":
        return top in tops or (home == "package" and is_covered(top, tops))
    found = reach.modules.get(patch.module)
    if found is None or not patch.steps:
        return found is not None
    name = patch.steps[0]
    is_unread = name in found.facts.definitions and name not in found.names | found.acting
    return found.whole or not is_unread
