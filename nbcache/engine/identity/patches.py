"""Places in modules that the notebook's cells set: read from the living modules, and set for the
time of a task in the worker, which imports the modules as they are on disk.

A `Patch` is such a place; what is there now is its value. Nothing is remembered: a place that is
set again or put back has the value that it has when a run begins. Which places cells set is for
`identity.cell_settings` to find out.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import Any, NamedTuple

from nbcache.errors import SettingError
from nbcache.plan.identity.module_settings import CALL, Step

PATCHES = "<patches>"  # in a payload: no name of a notebook
ABSENT = "<absent>"

GETTERS = {
    ("numpy", "seterr"): "geterr",
    ("numpy", "set_printoptions"): "get_printoptions",
    ("sklearn", "set_config"): "get_config",
    ("xarray", "set_options"): "get_options",
    ("socket", "setdefaulttimeout"): "getdefaulttimeout",
    ("torch", "set_default_dtype"): "get_default_dtype",
    ("torch", "set_default_device"): "get_default_device",
    ("torch", "set_float32_matmul_precision"): "get_float32_matmul_precision",
    ("torch", "use_deterministic_algorithms"): "are_deterministic_algorithms_enabled",
    ("keras", "set_floatx"): "floatx",
    ("tensorflow", "set_floatx"): "floatx",
}
"""A function of a library that sets something -> the one beside it that gives what is set, as a
mapping of the arguments or as the only one. What other modules give under such a name may be
anything, and asking for it do anything."""

_SETTERS = {getter: setter for (_, setter), getter in GETTERS.items()} | {"save": "load"}


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

    def is_there(self) -> bool:
        return not _is_absent(self.value())

    def put(self, value: object) -> Callable[[], None]:
        """Set it here; return what undoes that.

        What others may hold, a list, a dict or a set, stays the object that it is.
        """
        before = self.value()
        if _is_absent(before) and _is_absent(value):
            return lambda: None
        is_held = self.steps[-1:] != (CALL,)
        if is_held and type(before) is type(value) and isinstance(value, (list, dict, set)):
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
        """Say whether it is a setting of how tables or arrays are shown, and of no value."""
        if self.steps[-2:] == ("get_printoptions", CALL) or self == OF_POLARS:
            return True
        option = self.steps[1:2] if self.steps[:1] == ("options",) else ()
        return self.module == "pandas" and option in (("display",), ("styler",))

    def _set(self, value: object) -> None:
        if self.steps[-1] == CALL:
            setter = getattr(self._down(self.steps[:-2]), _SETTERS[str(self.steps[-2])])
            setter(**value) if isinstance(value, Mapping) else setter(value)
            return
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
        found: Any = sys.modules.get(self.module) or importlib.import_module(self.module)
        for each, after in zip_longest(steps, steps[1:]):
            # A class's own, so that a method is what it was written as
            is_own = isinstance(each, str) and isinstance(found, type) and each in vars(found)
            if is_own and after != CALL:
                found = vars(found)[each]
            else:
                found = _step(found, each)
        return found


OF_POLARS = Patch("polars", ("Config", "save", CALL))


def top_of(module: str) -> str:
    return module.partition(".")[0]


def _is_absent(value: object) -> bool:
    return type(value) is str and value == ABSENT  # a worker has another object


def _step(found: Any, step: Step) -> Any:
    if step == CALL:
        return found()
    return getattr(found, step) if isinstance(step, str) else found[step[0]]


def _written(step: Step) -> str:
    if step == CALL:
        return "()"
    if isinstance(step, str):
        return f".{step}"
    return f"[{step[0].__name__ if isinstance(step[0], type) else repr(step[0])}]"


def _fill(held: Any, value: Any) -> None:
    if isinstance(held, list):
        held[:] = value
        return
    fresh = value.copy()
    held.clear()
    held.update(fresh)


@contextmanager
def patched(patches: Sequence[tuple[Patch, object]]) -> Iterator[None]:
    """Set what the notebook set in modules, for the time of a task.

    Raises:
        SettingError: it cannot be set here; a result without it would be a wrong one.
    """
    undoing: list[Callable[[], None]] = []
    try:
        for patch, value in patches:
            try:
                undoing.append(patch.put(value))
            except Exception as error:  # whatever a library raises
                raise SettingError(str(patch), f"{type(error).__name__}: {error}") from error
        yield
    finally:
        for undo in reversed(undoing):
            with suppress(Exception):  # the task changed more there: its worker is not used again
                undo()
