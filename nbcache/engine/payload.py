"""Send captured values to workers: one pickle, with large buffers beside it.

Functions and classes of the notebook (or of the module that declares processes) go by value with
the globals that they use; those of other modules by name. Buffers of 1 MB and more stay out of
the pickle, so that they are written once and mapped read-only by every worker.
"""

from __future__ import annotations

import functools
import importlib
import io
import mmap
import os
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from nbcache.model.digest import identity_digest
from nbcache.plan.canonical.names import attribute, shared_generator
from nbcache.plan.reach import AMBIENT
from nbcache.plan.uses import uses_of

OUT_OF_BAND = 1 << 20  # bytes

_BY_VALUE: set[str] = set()  # modules that go by value while a pickle is made


@dataclass(frozen=True, slots=True)
class Payload:
    """A pickle and the buffers that it refers to, in order."""

    data: bytes
    buffers: tuple[memoryview, ...] = ()


def pickle_names(values: Mapping[str, object], namespace: Mapping[str, object]) -> Payload:
    """Return the pickle of {name: value}. Buffers are views of the values: write them at once."""
    import cloudpickle

    if not values:
        return Payload(pickle.dumps({}, protocol=5))
    buffers: list[memoryview] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    module = _module_by_value(namespace)
    if module is not None:
        cloudpickle.register_pickle_by_value(module)
        _BY_VALUE.add(module.__name__)
    try:
        out = io.BytesIO()
        _pickler()(out, protocol=5, buffer_callback=keep_inside).dump(dict(values))
    finally:
        if module is not None:
            _BY_VALUE.discard(module.__name__)
            with suppress(ValueError):
                cloudpickle.unregister_pickle_by_value(module)
    return Payload(out.getvalue(), tuple(buffers))


@cache
def _pickler() -> Any:
    """Return cloudpickle's pickler, taught the functools that it sends by a name or not at all."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # a library without types
        def reducer_override(self, value: object) -> Any:
            make = _REDUCERS.get(type(value))
            if make is not None:
                reduced = make(value)
                if reduced is not None:
                    return reduced
            if type(value).__name__ in ("Random", "RandomState"):
                shared = shared_generator(value)
                if shared is not None:
                    return find_global, shared
            return super().reducer_override(value)

        def _dynamic_function_reduce(self, function: types.FunctionType) -> Any:
            # cloudpickle overlooks the globals that the body of an inner class reads.
            reduced = super()._dynamic_function_reduce(function)
            globals_ = reduced[2][1]["__globals__"]
            for name in uses_of(function.__code__).names.keys() - AMBIENT - globals_.keys():
                if name in function.__globals__:
                    globals_[name] = function.__globals__[name]
            return reduced

    return Pickler


def _reduce_function(value: Any) -> tuple[object, ...] | None:
    registry = getattr(value, "registry", None)
    if not isinstance(registry, types.MappingProxyType) or _has_a_place(value):
        return None
    branches = [(cls, each) for cls, each in registry.items() if cls is not object]
    return make_dispatch, (registry[object], branches)


def _reduce_cached(value: Any) -> tuple[object, ...] | None:
    if _has_a_place(value):
        return None
    parameters = value.cache_parameters()
    return make_cached, (value.__wrapped__, parameters["maxsize"], parameters["typed"])


def _reduce_property(value: Any) -> tuple[object, ...]:
    return make_property, (value.func, value.attrname)


_REDUCERS: dict[type, Callable[[Any], tuple[object, ...] | None]] = {
    types.FunctionType: _reduce_function,
    type(functools.lru_cache(maxsize=None)(lambda: None)): _reduce_cached,
    functools.cached_property: _reduce_property,
}


def _has_a_place(value: object) -> bool:
    """Tell whether a worker finds the object under its name."""
    module = attribute(value, "__module__")
    if module == "__main__" or module not in sys.modules or module in _BY_VALUE:
        return False
    try:
        return attrgetter(getattr(value, "__qualname__", ""))(sys.modules[module]) is value
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


def _module_by_value(namespace: Mapping[str, object]) -> types.ModuleType | None:
    name = namespace.get("__name__")
    if not isinstance(name, str) or name == "__main__":
        return None  # cloudpickle sends these by value by itself
    module = sys.modules.get(name)
    return module if module is not None and vars(module) is namespace else None


def write_buffers(buffers: Iterable[memoryview], folder: Path) -> tuple[Path, ...]:
    """Write each buffer once, under its digest; equal buffers of other runs are not rewritten."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for buffer in buffers:
        path = folder / identity_digest(buffer).replace(":", "-")
        if not path.exists() or path.stat().st_size != buffer.nbytes:
            partial = path.with_name(f"{path.name}.{os.getpid()}.part")
            with partial.open("wb") as file:
                file.write(buffer)
            partial.replace(path)
        paths.append(path)
    return tuple(paths)


def map_buffers(paths: Sequence[Path | str]) -> tuple[memoryview, ...]:
    """Map written buffers into memory, read-only and shared by all who map them."""
    maps: list[memoryview] = []
    for path in paths:
        with open(path, "rb") as file:
            maps.append(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    return tuple(maps)


def unpickle_names(data: bytes, buffers: Sequence[memoryview] = ()) -> dict[str, object]:
    """Return {name: value} anew; arrays over `buffers` are read-only."""
    return cast("dict[str, object]", pickle.loads(data, buffers=buffers))
