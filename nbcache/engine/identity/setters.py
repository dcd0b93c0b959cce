"""Where a call puts what it sets: of functions that libraries have for their settings, as they are
loaded here. What a function sets that is not listed, nobody can tell."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any

from nbcache.engine.identity.patches import ABSENT, GETTERS, OF_POLARS, Patch, top_of
from nbcache.plan.identity.module_settings import ACCESSORS, CALL, OPTIONS, STYLERS, Step

_CONTEXT = {  # decimal's, as a process begins with it
    "prec": 28,
    "rounding": "ROUND_HALF_EVEN",
    "Emin": -999999,
    "Emax": 999999,
    "capitals": 1,
    "clamp": 0,
}
_TRAPPED = frozenset({"InvalidOperation", "DivisionByZero", "Overflow"})
_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # numpy's
_DIRECT = {  # polars', which it does not read from the environment
    "set_fmt_float": "mixed",
    "set_float_precision": None,
    "set_thousands_separator": "",
    "set_decimal_separator": ".",
    "set_trim_decimal_zeros": False,
}
_STYLED = frozenset({"matplotlib", "seaborn"})  # whose setters all write into matplotlib.rcParams
_NO_STYLE = ("backend", "interactive", "webagg.", "toolbar", "tk.", "savefig.directory")


def set_by_call(function: Patch, given: tuple[object, ...]) -> list[Patch] | None:
    """Return the places that a call of a function sets, of which some may be as they always were.

    A place that is as the library comes is left out where that is known: the call may have been
    taken back, or stand in a function that nobody called. `given` are the names among its
    arguments, with None for those that only a run knows. None: what the function sets is nowhere
    to be read.
    """
    *around, name = function.steps
    beside: tuple[Step, ...] = tuple(around)
    if name in OPTIONS:
        return list(_options(given)) if top_of(function.module) == "pandas" else []
    if name in ACCESSORS:
        steps = [(ACCESSORS[str(name)], each) for each in given[:1] if isinstance(each, str)]
        return [Patch(top_of(function.module), each) for each in steps]
    if name in STYLERS:  # of other modules it is something else
        is_of_plots = top_of(function.module) in _STYLED and str(function) != "matplotlib.use"
        return style() if is_of_plots else []
    if str(function) == "decimal.setcontext":
        return list(_context())
    if "Config" in function.steps:
        return [OF_POLARS] if top_of(function.module) == "polars" and _is_set_in_polars() else []
    getter = GETTERS.get((top_of(function.module), str(name)))
    if getter is None:
        return None
    found = Patch(function.module, (*beside, getter, CALL))
    if not found.is_there():
        return None
    return [] if found.value() == _as_imported(str(found)) else [found]


def is_style(patch: Patch) -> bool:
    """Say whether a place holds all that makes plots look as they do."""
    return patch.steps == ("rcParams",) and top_of(patch.module) in _STYLED


def style() -> list[Patch]:
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


def _is_set_in_polars() -> bool:
    """Whether the options of polars, all of which are of how tables are shown or of how fast it is,
    are not as they come."""
    held = json.loads(str(OF_POLARS.value()))
    return any(held["environment"].values()) or held["direct"] != _DIRECT


def _context() -> Iterator[Patch]:
    """Yield the parts of the context of decimals that are not as they come."""
    decimal: Any = sys.modules["decimal"]
    now = decimal.getcontext()
    for name, value in _CONTEXT.items():
        if getattr(now, name) != value:
            yield Patch("decimal", ("getcontext", CALL, name))
    for signal, is_on in now.traps.items():
        if is_on != (signal.__name__ in _TRAPPED):
            yield Patch("decimal", ("getcontext", CALL, "traps", (signal,)))


def _as_imported(place: str) -> object:
    """Return what a place holds in a fresh process; ABSENT where nobody can tell."""
    if place == "numpy.geterr()":
        return _ERRORS
    if place == "socket.getdefaulttimeout()":
        return None
    if place == "numpy.get_printoptions()":
        numpy: Any = sys.modules["numpy"]
        core: Any = sys.modules.get("numpy._core.printoptions")
        is_in_context = isinstance(getattr(core, "format_options", None), ContextVar)
        return Context().run(numpy.get_printoptions) if is_in_context else ABSENT
    if place == "sklearn.get_config()":  # each thread sets a copy of its own
        config: Any = sys.modules.get("sklearn._config")
        return config._global_config if hasattr(config, "_threadlocal") else ABSENT
    return ABSENT


def _options(given: tuple[object, ...]) -> Iterator[Patch]:
    """Yield the options of pandas that patterns mean, as pandas reads them; of a name that only a
    run knows all that are not as they come."""
    config: Any = sys.modules.get("pandas._config.config")
    known: dict[str, Any] = getattr(config, "_registered_options", {})
    for each in given:
        if not isinstance(each, str):
            yield from (_option(key) for key in known if _now(config, key) != known[key].defval)
        elif each in known:
            yield _option(each)
        else:
            with suppress(re.error):  # pandas refused it, too
                meant = [key for key in known if re.search(each, key, re.IGNORECASE)]
                yield from map(_option, meant if len(meant) == 1 else [])


def _now(config: Any, key: str) -> object:
    """Return the value of an option; pandas itself would warn of those that will go."""
    found: Any = config._global_config
    for each in key.split("."):
        found = found[each]
    return found


def _option(key: str) -> Patch:
    return Patch("pandas", ("options", *key.split(".")))
