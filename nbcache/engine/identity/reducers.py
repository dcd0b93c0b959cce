"""How objects travel that cloudpickle sends by a name, in part, or not at all."""

from __future__ import annotations

import functools
import importlib
import operator
import struct
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from inspect import getattr_static
from operator import attrgetter
from typing import Any

from nbcache.codec.classes import Reduced
from nbcache.codec.python import reduce_with
from nbcache.codec.whole import reduce_whole
from nbcache.plan.identity.canonical.names import attribute, shared_generator
from nbcache.plan.identity.written import (
    descriptor_attributes,
    given_attributes,
    wrapped_by,
)


def reduce_by_value(value: Any, by_value: Collection[str]) -> Reduced | None:
    """Return how an object is made anew in a worker; None: as cloudpickle does it.

    `by_value` are modules that a worker cannot import, beside the notebook.
    """
    make = _REDUCERS.get(type(value))
    if make is not None:
        return make(value, by_value)
    if isinstance(value, type):
        return _reduce_filled_model(value)
    if isinstance(value, types.ModuleType) and sys.modules.get(value.__name__) is value:
        return importlib.import_module, (value.__name__,)  # of a class of its own, or lazy
    if isinstance(value, _UNPICKLED) and type(value) not in _UNPICKLED:
        return _reduce_descriptor(value)
    if type(value).__name__ in ("Random", "RandomState"):
        shared = shared_generator(value)
        if shared is not None:
            return find_global, shared
    if type(value).__name__ == "ValidateCallWrapper" and hasattr(value, "config_wrapper"):
        config = dict(value.config_wrapper.config_dict)
        return make_validated, (value.function, config, value.validate_return)
    return reduce_whole(value)


def _reduce_filled_model(cls: type) -> Reduced | None:
    """What pydantic makes of `Model[int]`: it makes one for each parameter, and finds it again."""
    said = vars(cls).get("__pydantic_generic_metadata__")
    if not isinstance(said, dict) or said.get("origin") is None:
        return None
    return operator.getitem, (said["origin"], said["args"])


@reduce_with
def reduce_result(value: object) -> Reduced | None:
    """Return how an object that is in a result is made anew; code counts there without its file."""
    return None if type(value) is types.CodeType else reduce_by_value(value, ())


def _reduce_function(value: Any, by_value: Collection[str]) -> Reduced | None:
    registry = getattr(value, "registry", None)
    if not isinstance(registry, types.MappingProxyType):
        return None
    modules = {attribute(each, "__module__") for each in registry.values()}
    if _has_a_place(value, by_value) and "__main__" not in modules:
        return None
    branches = [(cls, each) for cls, each in registry.items() if cls is not object]
    return make_dispatch, (registry[object], branches)


def _reduce_cached(value: Any, by_value: Collection[str]) -> Reduced | None:
    if _has_a_place(value, by_value):
        return None
    parameters = value.cache_parameters()
    arguments = (value.__wrapped__, parameters["maxsize"], parameters["typed"])
    return make_cached, (*arguments, given_attributes(value))


def _reduce_descriptor(value: Any) -> Reduced:
    base, names = wrapped_by(value)
    wrapped = tuple(getattr(value, name) for name in names)
    held = descriptor_attributes(value)
    if base is functools.cached_property:
        held["attrname"] = value.attrname
    return make_descriptor, (type(value), base, wrapped, held)


def _reduce_new_type(value: Any, by_value: Collection[str]) -> Reduced | None:
    if _has_a_place(value, by_value):
        return None
    return make_new_type, (value.__name__, value.__supertype__, value.__module__)


def _reduce_type_parameter(value: Any, by_value: Collection[str]) -> Reduced | None:
    """Those of `class A[T]` say that they are of `typing`; cloudpickle forgets what is newer."""
    if _has_a_place(value, by_value):
        return None
    from cloudpickle.cloudpickle import _get_or_create_tracker_id

    said = {name: getattr(value, f"__{name}__", None) for name in _SAID_OF_PARAMETERS}
    named = {name: each for name, each in said.items() if each}
    if sys.version_info >= (3, 13) and value.has_default():
        named["default"] = value.__default__
    limits = getattr(value, "__constraints__", ())
    added = [each for each in _ADDED_TO_PARAMETERS if not hasattr(type(value), each)]
    held = {each: getattr(value, each) for each in added if hasattr(value, each)}
    held["__module__"] = value.__module__
    arguments = (type(value), value.__name__, limits, named, held)
    return make_type_parameter, (*arguments, _get_or_create_tracker_id(value))


def _reduce_type_alias(value: Any, by_value: Collection[str]) -> Reduced | None:
    if _has_a_place(value, by_value):
        return None
    if not _names_itself(value):
        return make_type_alias, (value.__name__, value.__value__, value.__type_params__)
    if value.__type_params__:
        raise TypeError(f"the type alias {value.__name__!r} has parameters and names itself")
    held: list[object] = []  # its value, which can be made when there is the alias
    arguments = (value.__name__, value.__module__, held)
    return make_recursive_alias, arguments, (held, value.__value__), None, None, fill_alias


def _names_itself(alias: Any) -> bool:
    """Tell whether a type alias is part of what it stands for."""
    seen: set[int] = set()
    left = [alias.__value__]
    while left:
        each = left.pop()
        if each is alias:
            return True
        if id(each) not in seen:
            seen.add(id(each))
            arguments = attribute(each, "__args__")
            left += arguments if isinstance(arguments, tuple) else ()
            left += [attribute(each, "__origin__"), attribute(each, "__value__")]
    return False


# Descriptors that pickle refuses where they are of a derived class.
_UNPICKLED = (staticmethod, classmethod, property, functools.cached_property)


def _reduce_code(code: Any, _: Collection[str]) -> Reduced:
    """cloudpickle forgets where code was written, which tracebacks and `inspect` ask for."""
    from cloudpickle.cloudpickle import _code_reduce

    make, arguments = _code_reduce(code)
    return make_code, (code.co_filename, make, *arguments)


def make_code(filename: str, make: Callable[..., types.CodeType], *arguments: Any) -> Any:
    """Make code anew under the name of the file or cell that it was written in."""
    return make(*arguments).replace(co_filename=filename)


def _reduce_dispatching(value: Any, _: Collection[str]) -> Reduced:
    """Python 3.13 gives such a method a cache of weak references, which nothing can pickle."""
    return make_dispatching, (value.func, value.dispatcher, descriptor_attributes(value))


def make_dispatching(func: Any, dispatcher: Any, attributes: Mapping[str, object]) -> object:
    """Make a `singledispatchmethod` with all that was registered."""
    made: Any = functools.singledispatchmethod(func)
    made.__dict__.update(attributes, dispatcher=dispatcher)
    return made


def _reduce_partial(value: Any, _: Collection[str]) -> Reduced:
    """From Python 3.14 on none can be made without its function, as pickle would."""
    return functools.partial(functools.partialmethod, value.func, *value.args, **value.keywords), ()


# Parameters of what makes a type parameter; True or given, else not said.
_SAID_OF_PARAMETERS = ("bound", "covariant", "contravariant")
if sys.version_info >= (3, 12):
    _SAID_OF_PARAMETERS += ("infer_variance",)


def _reduce_view(value: memoryview, _: Collection[str]) -> Reduced | None:
    shape = value.shape or ()
    if (0 in shape and len(shape) != 1) or value.format.strip("@") not in _FORMATS:
        return None  # nothing casts to these: it goes as bytes
    data = value.tobytes()
    return make_view, (data if value.readonly else bytearray(data), value.format, shape)


# Of views: all that a cast can make.
_FORMATS = frozenset("bBcdefhHiIlLnNPqQ?")
# What `typing_extensions` adds to them on a Python that is older than that.
_ADDED_TO_PARAMETERS = ("__default__", "has_default", "__infer_variance__")

_REDUCERS: dict[type, Callable[[Any, Collection[str]], Reduced | None]] = {
    types.CodeType: _reduce_code,
    types.FunctionType: _reduce_function,
    type(functools.lru_cache(maxsize=None)(lambda: None)): _reduce_cached,
    functools.cached_property: lambda value, _: _reduce_descriptor(value),
    functools.singledispatchmethod: _reduce_dispatching,
    functools.partialmethod: _reduce_partial,
    memoryview: _reduce_view,
    struct.Struct: lambda value, _: (struct.Struct, (value.format,)),
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_type_parameter,
    typing.TypeVar: _reduce_type_parameter,
    typing.TypeVarTuple: _reduce_type_parameter,
}
# What `update_wrapper(self, float)` copies of a builtin class.
for _member in (types.ClassMethodDescriptorType, types.GetSetDescriptorType):
    _REDUCERS[_member] = lambda each, _: (getattr_static, (each.__objclass__, each.__name__))
if sys.version_info >= (3, 12):
    _REDUCERS[typing.TypeAliasType] = _reduce_type_alias


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


def make_view(data: bytes | bytearray, form: Any, shape: tuple[int, ...]) -> memoryview:
    """Make a memoryview of this form and shape."""
    plain = memoryview(data)
    return plain.cast(form) if 0 in shape else plain.cast(form, shape)


def make_dispatch(
    function: Callable[..., object], branches: Iterable[tuple[type, Callable[..., object]]]
) -> object:
    """Make a single dispatch function anew in a worker."""
    made = functools.singledispatch(function)
    for cls, each in branches:
        made.register(cls, each)
    return made


def make_cached(
    function: Callable[..., object],
    maxsize: int | None,
    typed: bool,
    attributes: Mapping[str, object],
) -> object:
    """Make a function with a cache anew, and the cache empty."""
    made: Any = functools.lru_cache(maxsize, typed)(function)
    made.__dict__.update(attributes)
    return made


def make_descriptor(
    cls: type, base: type, wrapped: Reduced, attributes: Mapping[str, object]
) -> object:
    """Make a descriptor of Python's, or of a class derived from it, anew.

    Of a derived class only `__init__` of Python's own is called; what its own did is among the
    attributes. Its owner does not tell it its name a second time.
    """
    made: Any = base.__new__(cls, *wrapped)
    base.__init__(made, *wrapped)  # type: ignore[misc]
    if attributes:
        made.__dict__.update(attributes)
    return made


def make_validated(
    function: Callable[..., object], config: Mapping[str, object], validate_return: bool
) -> object:
    """Make what `pydantic.validate_call` calls anew, without the notebook's whole namespace.

    Its validators come with the first call: by then all names that annotations use are there.
    """
    made: Any = importlib.import_module("pydantic._internal._validate_call").ValidateCallWrapper
    return made(function, {**config, "defer_build": True}, validate_return, None)


def make_new_type(name: str, of: object, module: str) -> object:
    """Make a typing.NewType anew."""
    make: Any = typing.NewType
    made = make(name, of)
    made.__module__ = module
    return made


def make_type_parameter(
    kind: Callable[..., object],
    name: str,
    constraints: Reduced,
    named: Mapping[str, object],
    attributes: Mapping[str, object],
    tracker: str,
) -> object:
    """Make a TypeVar, ParamSpec or TypeVarTuple anew; one in a worker, however often it is sent."""
    from cloudpickle.cloudpickle import _lookup_class_or_track

    made = kind(name, *constraints, **named)
    for attribute_name, each in attributes.items():
        setattr(made, attribute_name, each)
    return _lookup_class_or_track(tracker, made)


def make_type_alias(name: str, value: object, parameters: tuple[object, ...]) -> object:
    """Make what `type name[parameters] = value` makes."""
    make: Any = getattr(typing, "TypeAliasType")  # noqa: B009  # from Python 3.12 on
    return make(name, value, type_params=parameters)


def make_recursive_alias(name: str, module: str, held: list[object]) -> object:
    """Make what `type name = value` makes, where the value is held later and names the alias."""
    made: dict[str, object] = {"__name__": module, "__held__": held}
    exec(f"type {name} = __held__[0]", made)  # only this statement makes one without a value
    return made[name]


def fill_alias(alias: object, state: tuple[list[object], object]) -> None:
    """Give a recursive type alias its value."""
    held, value = state
    held.append(value)
