"""What the notebook's cells set in modules: found by their text, read from the living modules, and
set for the time of a task in the worker, which imports the modules as they are on disk.

A `Patch` is a place in a module; what is there now is its value. Nothing is remembered: a place
that is set again or put back has the value that it has when a run begins.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nbcache.engine.identity.modules import LocalModules, is_covered
from nbcache.engine.identity.sources import cell_names, source_of
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.module_reach import ModuleReach
from nbcache.plan.identity.module_settings import (
    CALL,
    STYLERS,
    CellSettings,
    Setting,
    Step,
    settings_in,
)
from nbcache.plan.identity.reach import Walker

PATCHES = "<patches>"  # in a payload: no name of a notebook
ABSENT = "<absent>"
# The import path and the environment have ways of their own; the rest is the kernel's business.
_OWN_WAYS = frozenset({"sys", "os", "nbcache", "IPython", "ipykernel", "__main__"})
_STYLED = frozenset({"matplotlib", "seaborn"})  # whose setters all write into matplotlib.rcParams
_NO_STYLE = ("backend", "interactive", "webagg.", "toolbar", "tk.", "savefig.directory")
_MOST = 1000  # members: a larger container is data


class Patch(NamedTuple):
    """A place in a module that a cell set: the module's full name, and the steps from it."""

    module: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return self.module + "".join(map(_written, self.steps))

    def value(self) -> object:
        """Return what is there now; ABSENT where nothing is."""
        try:
            return self._down(self.steps)
        except Exception:  # whatever a foreign object raises where it has no such thing
            return ABSENT

    def put(self, value: object) -> Callable[[], None]:
        """Set it here; return what undoes that.

        What others may hold, a list, a dict or a set, stays the object that it is.
        """
        before = self.value()
        if _is_absent(before) and _is_absent(value):
            return lambda: None
        if type(before) is type(value) and isinstance(value, (list, dict, set)):
            kept = before.copy()  # type: ignore[attr-defined]
            _fill(before, value)
            return lambda: _fill(before, kept)
        self._set(value)
        return lambda: self._set(before)

    def shortest(self) -> Patch:
        """Return the place by its shortest name: packages give objects of their parts, too."""
        if len(self.steps) > 1:
            parts, holder = self.module.split("."), Patch(self.module, self.steps[:1]).value()
            for count in range(1, len(parts)):
                package = ".".join(parts[:count])
                if Patch(package, self.steps[:1]).value() is holder:
                    return Patch(package, self.steps)
        return self

    def counts_for_text_alone(self) -> bool:
        """Say whether it is a setting of how pandas shows tables, and of no value."""
        option = self.steps[1:2] if self.steps[:1] == ("options",) else ()
        return self.module == "pandas" and option in (("display",), ("styler",))

    def _set(self, value: object) -> None:
        holder, last = self._down(self.steps[:-1]), self.steps[-1]
        if isinstance(last, str):
            if _is_absent(value):
                delattr(holder, last)
            else:
                setattr(holder, last, value)
        elif _is_absent(value):
            del holder[last[0]]
        else:
            holder[last[0]] = value

    def _down(self, steps: Sequence[Step]) -> Any:
        found: Any = importlib.import_module(self.module)
        for each in steps:
            # A class's own, so that a method is what it was written as
            if isinstance(each, str) and isinstance(found, type) and each in vars(found):
                found = vars(found)[each]
            else:
                found = _step(found, each)
        return found


def _is_absent(value: object) -> bool:
    return type(value) is str and value == ABSENT  # a worker has another object


def _step(found: Any, step: Step) -> Any:
    if step == CALL:
        return found()
    return getattr(found, step) if isinstance(step, str) else found[step[0]]


def _written(step: Step) -> str:
    if step == CALL:
        return "()"
    return f".{step}" if isinstance(step, str) else f"[{step[0]!r}]"


def _fill(held: Any, value: Any) -> None:
    if isinstance(held, list):
        held[:] = value
        return
    fresh = value.copy()
    held.clear()
    held.update(fresh)


class ModuleSettings:
    """What the cells that this kernel ran, and scripts that they ran, set in modules."""

    def __init__(self, namespace: Mapping[str, object], folder: Path | None) -> None:
        said = list(_said(namespace, folder))
        self._namespace = namespace
        self._own = str(namespace.get("__name__", "__main__"))
        self._imported = {name: full for each in said for name, full in each.imported}
        self.submodules = tuple(dict.fromkeys(name for each in said for name in each.modules))
        self._places: dict[Patch, None] = {}  # in order
        self._calls: dict[tuple[Patch, str], None] = {}
        self._is_styled = False
        for one in said:
            for each in one.settings:
                patch = self._patch(each, one)
                if patch is not None:
                    self._sort_in(patch, each.called)

    def _sort_in(self, patch: Patch, called: str) -> None:
        is_of_styles = _top(patch.module) in _STYLED
        if patch.steps[:1] == ("rcParams",) and len(patch.steps) == 1 and is_of_styles:
            self._is_styled = True
        elif called and patch.steps and patch.steps[-1] in STYLERS:
            self._is_styled |= is_of_styles  # of other modules it is something else
        elif called:
            self._calls[patch, called] = None
        else:
            self._places[patch] = None

    def reached(self, walker: Walker, reach: ModuleReach, places: LocalModules) -> list[Patch]:
        """Return the places in modules that cells set and code reaches."""
        found = [*self._places, *(_style() if self._is_styled else [])]
        found += [each for name in reach.modules for each in _filled_by(self._own, name)]
        tops = _tops(walker, reach)
        return list(
            dict.fromkeys(
                each if places.home(each.module) == "local" else each.shortest()
                for each in found
                if _counts(each, tops, reach, places)
            )
        )

    def unnamed(self, walker: Walker, reach: ModuleReach, places: LocalModules) -> list[str]:
        """Return how cells set, in modules that code reaches, what their text does not name."""
        tops = _tops(walker, reach)
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
        if patch.value() is not ABSENT:
            return patch
        is_left = setting.gone and Patch(patch.module, patch.steps[:-1]).value() is not ABSENT
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


class Surroundings(NamedTuple):
    """What the captures of one moment share that look at one namespace."""

    places: LocalModules
    settings: ModuleSettings

    @classmethod
    def of(cls, namespace: Mapping[str, object], folder: Path | None) -> Surroundings:
        own = str(namespace.get("__name__", "__main__"))
        return cls(LocalModules(own, folder), ModuleSettings(namespace, folder))


def _tops(walker: Walker, reach: ModuleReach) -> set[str]:
    return {_top(each) for each in walker.packages | walker.python | reach.packages}


def _style() -> list[Patch]:
    """Return the places of what makes plots look as they do in this kernel."""
    matplotlib: Any = sys.modules.get("matplotlib")
    if matplotlib is None:
        return []
    now, default = dict.copy(matplotlib.rcParams), dict(matplotlib.rcParamsDefault)
    return [
        Patch("matplotlib", ("rcParams", (name,)))
        for name, value in now.items()
        if not name.startswith(_NO_STYLE) and value != default.get(name)
    ]


def _top(module: str) -> str:
    return module.partition(".")[0]


def _depth_of_module(steps: tuple[Step, ...]) -> int:
    """Return how many of the first steps are the name of a module that is loaded."""
    found = 0
    for count in range(1, len(steps) + 1):
        name = ".".join(each if isinstance(each, str) else "[]" for each in steps[:count])
        if not isinstance(sys.modules.get(name), types.ModuleType):
            break
        found = count
    return found


def _said(namespace: Mapping[str, object], folder: Path | None) -> Iterator[CellSettings]:
    file = namespace.get("__file__")
    if isinstance(file, str):  # of a module with processes
        yield settings_in(source_of(file) or "")
    for name in cell_names():
        found = _said_in_cell(name)
        yield found
        for script in found.runs:
            with suppress(OSError):
                path = (folder or Path.cwd()) / script
                yield settings_in(path.read_text("utf-8", "surrogateescape"))


@cache  # the kernel keeps the texts of its cells, too
def _said_in_cell(name: str) -> CellSettings:
    return settings_in(source_of(name) or "")  # another text has another name


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
        return other in reach.modules or _top(other) in tops
    top, home = _top(patch.module), places.home(patch.module)
    if home != "local":
        return top in tops or (home == "package" and is_covered(top, tops))
    found = reach.modules.get(patch.module)
    if found is None or not patch.steps:
        return found is not None
    name = patch.steps[0]
    is_unread = name in found.facts.definitions and name not in found.names | found.acting
    return found.whole or not is_unread


@contextmanager
def patched(patches: Sequence[tuple[Patch, object]]) -> Iterator[None]:
    """Set what the notebook set in modules, for the time of a task."""
    undoing: list[Callable[[], None]] = []
    try:
        for patch, value in patches:
            undoing.append(patch.put(value))
        yield
    finally:
        for undo in reversed(undoing):
            with suppress(Exception):  # the task changed more there: its worker is not used again
                undo()
