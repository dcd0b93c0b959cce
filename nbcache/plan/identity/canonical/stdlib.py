"""Canonical forms of the standard library's value types, and of nbcache's own.

Each handler writes what a pickled copy of the value would still show, under the type's name. A
subclass counts with its class (see `objects`), so only exact types are listed here.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import random
import re
import struct
import sys
import types
import typing
import uuid
import zoneinfo

from nbcache.model.value import FilePath, Gathered, Record, RemoteFile, Stored
from nbcache.plan.identity.canonical.encoder import Encoder, Foreign, Handler
from nbcache.plan.identity.canonical.names import installed_function, shared_generator


def _parts(name: str, *attributes: str) -> Handler:
    """Return the handler of a type whose values are what these attributes are."""

    def write(encoder: Encoder, value: Foreign) -> None:
        encoder.tagged(name, *(getattr(value, each) for each in attributes))

    return write


def _decimal(encoder: Encoder, value: decimal.Decimal) -> None:
    encoder.tagged("decimal.Decimal", str(value))  # exact: keeps sign, exponent, NaN's payload


def _date(encoder: Encoder, value: datetime.date) -> None:
    encoder.tagged("datetime.date", value.toordinal())


def _time(encoder: Encoder, value: datetime.time) -> None:
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    encoder.tagged("datetime.time", clock, value.tzinfo)


def _datetime(encoder: Encoder, value: datetime.datetime) -> None:
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    encoder.tagged("datetime.datetime", value.toordinal(), clock, value.tzinfo)


def _timezone(encoder: Encoder, value: datetime.timezone) -> None:
    encoder.tagged("datetime.timezone", value.utcoffset(None), value.tzname(None))


def _zone(encoder: Encoder, value: zoneinfo.ZoneInfo) -> None:
    if value.key is None:
        encoder.refuse(value, "a time zone read from a file, without a key")
    encoder.tagged("zoneinfo.ZoneInfo", value.key)


def pytz_handler(base: type) -> Handler | None:
    """Return the handler for a zone of pytz, as pandas before 3 has them, or None.

    Their classes are not found under their names; a zone is what it tells pickle.
    """
    return _write_pytz if issubclass(base, datetime.tzinfo) else None


def _write_pytz(encoder: Encoder, value: Foreign) -> None:
    make, told = value.__reduce__()
    encoder.tagged("pytz", make.__name__, *told)


def rpds_handler(base: type) -> Handler | None:
    """Return the handler for a map or set of rpds, or None: both have the order of their hashes."""
    return _write_hash_trie if base.__name__.startswith("HashTrie") else None


def _write_hash_trie(encoder: Encoder, value: Foreign) -> None:
    encoder.write_class(type(value))
    encoder.write_unordered(value.items() if hasattr(value, "items") else value, len(value))


def _uuid(encoder: Encoder, value: uuid.UUID) -> None:
    if value.is_safe is uuid.SafeUUID.unknown:
        encoder.tagged("uuid.UUID", value.int)
    else:
        encoder.tagged("uuid.UUID", value.int, value.is_safe.value)


def _path(encoder: Encoder, value: pathlib.PurePath) -> None:
    encoder.tagged("pathlib", type(value).__name__, str(value))


def _deque(encoder: Encoder, value: collections.deque[object]) -> None:
    if not encoder.met_before(value):
        encoder.tagged("collections.deque", value.maxlen)
        encoder.write_sequence(value, len(value))


def _ordered_dict(encoder: Encoder, value: collections.OrderedDict[object, object]) -> None:
    if not encoder.met_before(value):
        encoder.tag("collections.OrderedDict")
        encoder.write_pairs(value.items(), len(value))
        _attributes(encoder, value)


def _counter(encoder: Encoder, value: collections.Counter[object]) -> None:
    if not encoder.met_before(value):
        encoder.tag("collections.Counter")
        encoder.write_pairs(value.items(), len(value))


def _default_dict(encoder: Encoder, value: collections.defaultdict[object, object]) -> None:
    if not encoder.met_before(value):
        encoder.tag("collections.defaultdict")
        encoder.write_step(".default_factory", value.default_factory)
        encoder.write_pairs(value.items(), len(value))


def _chain_map(encoder: Encoder, value: collections.ChainMap[object, object]) -> None:
    if not encoder.met_before(value):
        encoder.tagged("collections.ChainMap", value.maps)


def _mapping_proxy(encoder: Encoder, value: types.MappingProxyType[object, object]) -> None:
    encoder.tag("types.MappingProxyType")
    encoder.write_pairs(value.items(), len(value))


def _namespace(encoder: Encoder, value: types.SimpleNamespace) -> None:
    if not encoder.met_before(value):
        encoder.tag("types.SimpleNamespace")
        encoder.write_pairs(vars(value).items(), len(vars(value)), attributes=True)


def _array(encoder: Encoder, value: array.array[Foreign]) -> None:
    if encoder.met_before(value):
        return
    if value.typecode in "fd":
        encoder.tagged("array.array", value.typecode, value.tolist())
        return
    if sys.byteorder == "big":
        value = value[:]
        value.byteswap()
    encoder.tagged("array.array", value.typecode, value.itemsize, len(value))
    if len(value):
        encoder.raw(memoryview(value).cast("B"))


def _memoryview(encoder: Encoder, value: memoryview) -> None:
    encoder.tagged("memoryview", value.format, value.shape, value.readonly, value.tobytes())


def _random(encoder: Encoder, value: random.Random) -> None:
    if encoder.met_before(value):
        return
    shared = shared_generator(value)
    if shared is not None:
        encoder.tagged("global", *shared)
    else:
        encoder.tagged("random.Random", value.getstate())


def _function(encoder: Encoder, value: Foreign) -> None:
    reason = installed_function(value)
    if reason is not None:
        encoder.refuse(value, reason)
    encoder.tagged("function", value.__module__, value.__qualname__)


def _builtin(encoder: Encoder, value: types.BuiltinFunctionType) -> None:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        encoder.tagged("function", value.__module__, value.__qualname__)
    else:  # a method bound to a value, such as "abc".upper
        encoder.tagged("method", value.__name__, owner)


def _method(encoder: Encoder, value: types.MethodType) -> None:
    encoder.tag("method")
    encoder.write_step(".__func__", value.__func__)
    encoder.write_step(".__self__", value.__self__)


def _partial(encoder: Encoder, value: functools.partial[object]) -> None:
    if not encoder.met_before(value):
        encoder.tag("functools.partial")
        encoder.write_step(".func", value.func)
        encoder.write_step(".args", value.args)
        encoder.write_step(".keywords", value.keywords)
        _attributes(encoder, value)


def _attributes(encoder: Encoder, value: object) -> None:
    """Write the attributes that somebody gave to an object of the standard library."""
    if vars(value):
        encoder.write_pairs(vars(value).items(), len(vars(value)), attributes=True)


def write_class_value(encoder: Encoder, value: type) -> None:
    """Write a class that is itself the value."""
    encoder.tag("class")
    encoder.write_class(value)


def write_enum(encoder: Encoder, value: enum.Enum) -> None:
    """Write a member of an Enum: its class, its name and its value."""
    encoder.tag("enum")
    encoder.write_class(type(value))
    encoder.write(value.name)
    encoder.write_step(".value", value.value)


def write_path_subclass(encoder: Encoder, value: pathlib.PurePath) -> None:
    """Write a path of a class that somebody derived."""
    encoder.tag("pathlib subclass")
    encoder.write_class(type(value))
    encoder.write(str(value))


def write_set_subclass(encoder: Encoder, value: Foreign) -> None:
    """Write a set or frozenset of a derived class, with the attributes it may carry."""
    if encoder.met_before(value):
        return
    encoder.tag("set subclass")
    encoder.write_class(type(value))
    encoder.write_unordered(set.__iter__(value) if isinstance(value, set) else value, len(value))
    encoder.write(getattr(value, "__dict__", None))


def write_random_subclass(encoder: Encoder, value: random.Random) -> None:
    """Write a generator derived from random.Random by its state."""
    if isinstance(value, random.SystemRandom):
        encoder.refuse(value, "it draws from the operating system, so no two draws are alike")
    if not encoder.met_before(value):
        encoder.tag("random subclass")
        encoder.write_class(type(value))
        encoder.write(value.getstate())
        encoder.write(value.__dict__)


def _stored(encoder: Encoder, value: Stored) -> None:
    if value.kind in ("file", "tree"):  # the name is what the body sees
        encoder.tagged("nbcache.Stored", value.kind, value.name, str(value.digest))
    else:
        encoder.tagged("nbcache.Stored", value.kind, str(value.digest))


def _gathered(encoder: Encoder, value: Gathered) -> None:
    encoder.tag("nbcache.Gathered")
    encoder.write_sequence(value, len(value))


def _record(encoder: Encoder, value: Record) -> None:
    encoder.tagged("nbcache.Record", value.fields)
    encoder.write_sequence(tuple(value), len(value))


def _file(encoder: Encoder, value: FilePath | RemoteFile) -> None:
    encoder.refuse(value, "files are identified by content, through the file table")


EXACT: dict[type, Handler] = {
    decimal.Decimal: _decimal,
    fractions.Fraction: _parts("fractions.Fraction", "numerator", "denominator"),
    datetime.date: _date,
    datetime.time: _time,
    datetime.datetime: _datetime,
    datetime.timedelta: _parts("datetime.timedelta", "days", "seconds", "microseconds"),
    datetime.timezone: _timezone,
    zoneinfo.ZoneInfo: _zone,
    uuid.UUID: _uuid,
    pathlib.PosixPath: _path,
    pathlib.WindowsPath: _path,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    re.Pattern: _parts("re.Pattern", "pattern", "flags"),
    range: _parts("range", "start", "stop", "step"),
    slice: _parts("slice", "start", "stop", "step"),
    collections.deque: _deque,
    collections.OrderedDict: _ordered_dict,
    collections.Counter: _counter,
    collections.defaultdict: _default_dict,
    collections.ChainMap: _chain_map,
    types.MappingProxyType: _mapping_proxy,
    types.SimpleNamespace: _namespace,
    array.array: _array,
    memoryview: _memoryview,
    struct.Struct: _parts("struct.Struct", "format"),
    random.Random: _random,
    types.FunctionType: _function,
    types.BuiltinFunctionType: _builtin,
    **dict.fromkeys(
        (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
        _parts("descriptor", "__objclass__", "__name__"),
    ),
    types.MethodType: _method,
    functools.partial: _partial,
    typing.ForwardRef: _parts(  # an annotation given as a text, without its compiled code
        "typing.ForwardRef", "__forward_arg__", "__forward_is_class__", "__forward_module__"
    ),
    type: write_class_value,
    Stored: _stored,
    Gathered: _gathered,
    Record: _record,
    FilePath: _file,
    RemoteFile: _file,
}

BASES: dict[type, Handler] = {
    type: write_class_value,
    enum.Enum: write_enum,
    pathlib.PurePath: write_path_subclass,
    set: write_set_subclass,
    frozenset: write_set_subclass,
    random.Random: write_random_subclass,
    FilePath: _file,
}
