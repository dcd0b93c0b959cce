"""Where a call puts what it sets: of functions that libraries have for their settings, as they are
loaded here. What a function sets that is not listed, nobody can tell."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from nbcache.engine.identity.patches import GETTERS, Patch
from nbcache.plan.identity.module_settings import ACCESSORS, CALL, OPTIONS, STYLERS, Step

_CONTEXT = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")  # decimal's
_STYLED = frozenset({"matplotlib", "seaborn"})  # whose setters all write into matplotlib.rcParams
_NO_STYLE = ("backend", "interactive", "webagg.", "toolbar", "tk.", "savefig.directory")


def set_by_call(function: Patch, given: tuple[object, ...]) -> list[Patch] | None:
    """Return the places that a call of a function sets, of which some may be as they always were.

    `given` are the names among its arguments, with None for those that only a run knows. None: what
    the function sets is nowhere to be read.
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
    if name == "setcontext":
        context = (*beside, "getcontext", CALL)
        return [Patch(function.module, (*context, each)) for each in _CONTEXT]
    found = Patch(function.module, (*beside, GETTERS.get(str(name), ""), CALL))
    return [found] if found.is_there() else None


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


def top_of(module: str) -> str:
    return module.partition(".")[0]


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
