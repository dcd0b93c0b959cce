"""How objects travel that cloudpickle sends by a name, in part, or not at all."""

from __future__ import annotations

import functools
import importlib
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from typing import Any

from nbcache.plan.identity.canonical.names import attribute, shared_generator
from nbcache.plan.identity.reach import member_attributes

Reduced = tuple[Any, ...]


def reduce_by_value(value: Any, by_value: Collection[str]) -> Reduced | None:
    """Return how an object is made anew in a worker; None: as cloudpickle does it.

    `by_value` are modules that a worker cannot import, beside the notebook.
    """
    make = _REDUCERS.get(type(value))
    if make is not None:
        return make(value, by_value)
    if type(value).__name__ in ("Random", "RandomState"):
        shared = shared_generator(value)
        if shared is not None:
            return find_global, shared
    return None


def with_members(cls: Any, reduced: Any) -> Any:
    """Add to cloudpickle's form of an Enum what its members and aliases hold besides values."""
    if not isinstance(reduced, tuple) or len(reduced) != 6:  # it goes by its name
        return reduced
    make, arguments, state, _, _, set_state = reduced
    members = {each.name: member_attributes(each) for each in cls}
    aliases = {name: each.name for name, each in cls.__members__.items() if name != each.name}
    return make, arguments, (state, members, aliases, set_state), None, None, set_members


def set_members(cls: Any, state: Reduced) -> Any:
    """Complete an Enum that was made anew."""
    inner, members, aliases, set_state = state
    set_state(cls, inner)
    for name, attributes in members.items():
        vars(cls[name]).update(attributes)
    for alias, name in aliases.items():
        if alias not in cls.__members__:
            setattr(cls, alias, cls[name])
            cls._member_map_[alias] = cls[name]
    return cls


def _reduce_function(value: Any, by_value: Collection[str]) -> Reduced | None:
    registry = getattr(value, "registry", None)
    if not isinstance(registry, types.MappingProxyType):
        return None
    if _has_a_place(value, by_value) and not any(map(_is_of_notebook, registry.values())):
        return None
    branches = [(cls, each) for cls, each in registry.items() if cls is not object]
    return make_dispatch, (registry[object], branches)


def _is_of_notebook(value: object) -> bool:
    return attribute(value, "__module__") == "__main__"


def _reduce_cached(value: Any, by_value: Collection[str]) -> Reduced | None:
    if _has_a_place(value, by_value):
        return None
    parameters = value.cache_parameters()
    return make_cached, (value.__wrapped__, parameters["maxsize"], parameters["typed"])


def _reduce_property(value: Any, _: Collection[str]) -> Reduced:
    return make_property, (value.func, value.attrname)


def _reduce_new_type(value: Any, by_value: Collection[str]) -> Reduced | None:
    if _has_a_place(value, by_value):
        return None
    return make_new_type, (value.__name__, value.__supertype__, value.__module__)


_REDUCERS: Mapping[type, Callable[[Any, Collection[str]], Reduced | None]] = {
    types.FunctionType: _reduce_function,
    type(functools.lru_cache(maxsize=None)(lambda: None)): _reduce_cached,
    functools.cached_property: _reduce_property,
    typing.NewType: _reduce_new_type,
}


def _has_a_place(value: object, by_value: Collection[str]) -> bool:
    """Tell whether a worker finds the object under its name."""
    module = attribute(value, "__module__")
    if module == "__main__" or module not in sys.modules or module in by_value:
        return False
    name = attribute(value, "__qualname__") or attribute(value, "__name__")
    try:
        return attrgetter(str(name))(sys.modules[module]) is value
    except AttributeError:
        return False


def find_global(module: str, name: str) -> object:
    """Find the worker's own object of that name."""
    return getattr(importlib.import_module(module), name)


def make_dispatch(
    function: Callable[..., object], branches: Iterable[tuple[type, Callable[..., object]]]
) -> object:
    """Make a single dispatch function anew in a worker."""
    made = functools.singledispatch(function)
    for cls, each in branches:
        made.register(cls, each)
    return made


def make_cached(function: Callable[..., object], maxsize: int | None, typed: bool) -> object:
    """Make a function with a cache anew, and the cache empty."""
    return functools.lru_cache(maxsize, typed)(function)


def make_property(function: Callable[[Any], object], name: str | None) -> object:
    """Make a cached property anew; its class does not tell it its name a second time."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def make_new_type(name: str, of: object, module: str) -> object:
    """Make a typing.NewType anew."""
    make: Any = typing.NewType
    made = make(name, of)
    made.__module__ = module
    return made
