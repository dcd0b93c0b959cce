"""Send captured values to workers: one pickle, with large buffers beside it.

Functions and classes of the notebook (or of the module that declares processes) go by value with
the globals that they use; those of other modules by name. Buffers of 1 MB and more stay out of
the pickle, so that they are written once and mapped read-only by every worker.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import sys
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from nbcache.codec.classes import ClassUnpickler, complete
from nbcache.engine.identity.reducers import reduce_by_value
from nbcache.model.digest import identity_digest
from nbcache.plan.identity.asked import annotations_of, names_in_annotation
from nbcache.plan.identity.noted import AMBIENT, is_of_nbcache
from nbcache.plan.identity.uses import uses_of

OUT_OF_BAND = 1 << 20  # bytes

_BY_VALUE: set[str] = set()  # modules that go by value while a pickle is made


@dataclass(frozen=True, slots=True)
class Payload:
    """A pickle and the buffers that it refers to, in order."""

    data: bytes
    buffers: tuple[memoryview, ...] = ()


def pickle_names(
    values: Mapping[str, object],
    namespace: Mapping[str, object],
    *,
    annotations: bool = False,
    everywhere: Collection[str] = (),
) -> Payload:
    """Return the pickle of {name: value}. Buffers are views of the values: write them at once.

    annotations: functions take along what their annotations name in texts, too. All functions take
    along the names `everywhere`.
    """
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
        pickler = _pickler()(out, protocol=5, buffer_callback=keep_inside)
        pickler.annotations, pickler.everywhere = annotations, frozenset(everywhere)
        pickler.dump(dict(values))
    finally:
        if module is not None:
            _BY_VALUE.discard(module.__name__)
            with suppress(ValueError):
                cloudpickle.unregister_pickle_by_value(module)
    return Payload(out.getvalue(), tuple(buffers))


@cache
def _pickler() -> Any:
    """Return cloudpickle's pickler, taught what it sends by a name, in part or not at all."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # a library without types
        annotations = False
        everywhere: frozenset[str] = frozenset()

        def reducer_override(self, value: object) -> Any:
            reduced = reduce_by_value(value, _BY_VALUE)
            if reduced is not None:
                return reduced
            reduced = super().reducer_override(value)
            return complete(value, reduced) if isinstance(value, type) else reduced

        def _dynamic_function_reduce(self, function: types.FunctionType) -> Any:
            # cloudpickle overlooks what the body of an inner class reads, and names in texts.
            reduced = super()._dynamic_function_reduce(function)
            globals_ = reduced[2][1]["__globals__"]
            uses = uses_of(function.__code__)
            names = {*uses.names, *self.everywhere}
            if self.annotations:
                said = map(names_in_annotation, annotations_of(function).values())
                names.update(*said)
            for name in names - AMBIENT - globals_.keys():
                if name not in function.__globals__:
                    continue
                value = function.__globals__[name]
                if name not in uses.by_text or not is_of_nbcache(value):
                    globals_[name] = value
            return reduced

    return Pickler


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


def unpickle_names(
    data: bytes,
    buffers: Sequence[memoryview] = (),
    codes: list[types.CodeType] | None = None,
) -> dict[str, object]:
    """Return {name: value} anew; arrays over `buffers` are read-only.

    The code of each function that is made, which went by value, is added to `codes`.
    """
    return cast("dict[str, object]", _Unpickler(io.BytesIO(data), buffers, codes).load())


class _Unpickler(ClassUnpickler):
    """Makes classes as they were; tells of which code it made functions."""

    def __init__(
        self, file: io.BytesIO, buffers: Sequence[memoryview], codes: list[types.CodeType] | None
    ) -> None:
        super().__init__(file, resets=True, buffers=buffers)
        self._codes = codes

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if self._codes is None or (module, name) != ("cloudpickle.cloudpickle", "_make_function"):
            return found

        codes = self._codes

        def make(code: types.CodeType, *more: Any) -> Any:
            codes.append(code)
            return found(code, *more)

        return make
