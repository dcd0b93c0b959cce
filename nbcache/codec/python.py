"""JSON for plain data and pickle for everything that no other codec takes.

JSON is used only where it brings back exactly what was given: exact builtin types, text keys, no
list or dict that occurs twice (the two would come back apart), no lone surrogates. NaN and the
infinities are written as Python's json module does; a NaN's payload is not kept.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, BinaryIO, cast

from nbcache.codec.classes import ClassUnpickler, Reduced, complete
from nbcache.codec.whole import reduce_whole
from nbcache.errors import CodecError, kind_of

_MOST_MEMBERS = 100_000  # above this, pickle is so much quicker that JSON is no service
_DEEPEST = 50

_SCALARS = frozenset({str, int, float, bool, type(None)})
_encoder = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


def encode_json(value: object) -> bytes | None:
    """Return JSON text in UTF-8, or None where the value would not come back exactly."""
    cls = type(value)
    if cls not in _SCALARS and not (cls in (list, dict) and _is_plain(value)):
        return None
    try:
        return _encoder.encode(value).encode()
    except ValueError:  # lone surrogates, or an int of more digits than Python prints
        return None


def _is_plain(value: object) -> bool:
    seen: set[int] = set()
    level: list[object] = [value]
    count = 0
    for _ in range(_DEEPEST):
        deeper: list[object] = []
        for each in level:
            if id(each) in seen:
                return False
            seen.add(id(each))
            if type(each) is dict:
                if any(type(key) is not str for key in each):
                    return False
                members = list(each.values())
            else:
                members = cast("list[object]", each)
            count += len(members)
            if count > _MOST_MEMBERS:
                return False
            for member in members:
                cls = type(member)
                if cls in (list, dict):
                    deeper.append(member)
                elif cls not in _SCALARS:
                    return False
        if not deeper:
            return True
        level = deeper
    return False


def decode_json(data: bytes | memoryview) -> object:
    """Return the value of some JSON text."""
    return json.loads(bytes(data))


class _WholePickler(pickle.Pickler):
    def reducer_override(self, obj: object) -> Any:
        reduced = reduce_whole(obj)
        return NotImplemented if reduced is None else reduced


class _Pickler(_WholePickler):
    """Python's own pickler, which is several times quicker than cloudpickle where it suffices."""

    def reducer_override(self, obj: object) -> Any:
        # What a notebook defines can only be pickled by value, which is cloudpickle's work.
        if isinstance(obj, type) or callable(obj) or type(obj).__module__ == "typing":
            module = getattr(obj, "__module__", None)
            if module == "__main__":
                raise _NeedsCloudpickle
        if type(obj).__name__ in _GENERATORS:  # it may be the one of the process, known by its name
            raise _NeedsCloudpickle
        return super().reducer_override(obj)


_GENERATORS = ("Random", "RandomState")


class _NeedsCloudpickle(Exception):
    pass


def encode_by_reference(value: object) -> bytes:
    """Return a pickle that names what the notebook defines, for a reader that defines it too.

    Raises:
        CodecError: the value cannot be pickled so.
    """
    sink = io.BytesIO()
    try:
        _WholePickler(sink, protocol=5).dump(value)
        return sink.getvalue()
    except Exception as error:
        raise CodecError(
            f"{kind_of(value)} cannot be kept: {type(error).__name__}: {error}"
        ) from error


def encode_pickle(value: object) -> bytes:
    """Return a pickle (protocol 5); what a notebook defines goes in by value.

    Raises:
        CodecError: the value cannot be pickled; names its type and the reason.
    """
    sink = io.BytesIO()
    try:
        _Pickler(sink, protocol=5).dump(value)
        return sink.getvalue()
    except Exception:  # also what only cloudpickle can do: lambdas, local functions
        return _encode_cloudpickle(value)


_reducers: list[Callable[[object], Reduced | None]] = []


def reduce_with(reduce: Callable[[object], Reduced | None]) -> Callable[[object], Reduced | None]:
    """Have a function say how objects travel that cloudpickle sends by a name, or not at all."""
    _reducers.append(reduce)
    return reduce


@cache
def _cloud_pickler() -> Any:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # a library without types
        def reducer_override(self, obj: object) -> Any:
            # cloudpickle would make a copy of the text in memory of it, which is no file.
            if isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr):
                raise TypeError("an open file, which another process does not have")
            for reduce in _reducers:
                reduced = reduce(obj)
                if reduced is not None:
                    return reduced
            reduced = super().reducer_override(obj)
            return complete(obj, reduced) if isinstance(obj, type) else reduced

    return Pickler


class _Sink(io.BytesIO):
    """Takes so many bytes at most: what is larger is found before it is written."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > self._most:
            raise OverflowError(f"it has more than {self._most // 1000} kB")
        return super().write(data)


def pickle_by_value(value: object, most: int | None = None) -> bytes:
    """Return a pickle (protocol 5) that holds whatever another process cannot import.

    Raises:
        OverflowError: it has more bytes than `most`.
        Exception: whatever pickle raises for what cannot travel.
    """
    sink = io.BytesIO() if most is None else _Sink(most)
    _cloud_pickler()(sink, protocol=5).dump(value)
    return sink.getvalue()


def _encode_cloudpickle(value: object) -> bytes:
    try:
        return pickle_by_value(value)
    except Exception as error:
        way_out = "Return plain data, a table, an array or a path instead."
        if isinstance(value, io.IOBase):
            way_out = "Close it and return its path, or what it holds: .read()."
        elif isinstance(value, Iterator):
            way_out = "It gives its members once only: return list(...) of it."
        raise CodecError(
            f"{kind_of(value)} cannot be kept: {type(error).__name__}: {error}.\n  {way_out}"
        ) from error


def decode_pickle(data: bytes | memoryview, modules: set[str] | None = None) -> object:
    """Return the unpickled value. Runs code: only for bytes whose writer is trusted.

    To `modules` are added those that its classes and functions come from.
    """
    return load_pickle(io.BytesIO(data), set() if modules is None else modules)


def load_pickle(file: BinaryIO, modules: set[str]) -> object:
    """Return the value of an open file, as `decode_pickle` does that of bytes."""
    return _Unpickler(file, modules).load()


class _Unpickler(ClassUnpickler):
    """Notes the module of each class and function that a pickle names."""

    def __init__(self, file: BinaryIO, modules: set[str]) -> None:
        super().__init__(file)
        self._modules = modules

    def find_class(self, module: str, name: str) -> Any:
        self._modules.add(module)
        return super().find_class(module, name)
