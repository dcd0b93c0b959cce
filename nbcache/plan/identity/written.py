"""What somebody wrote into a class or a wrapper, without what Python and libraries put there.

Enum, namedtuple, dataclasses, attrs, pydantic and functools add members of their own, some of them
other ones in every process. What is left, as plain data where an object has no canonical form,
decides what the class does. A change here changes the keys of all helpers.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Iterator

from nbcache.plan.identity.asked import annotations_of

_NOT_OF_THE_CLASS = frozenset(
    "__dict__ __weakref__ __module__ __qualname__ __firstlineno__ __static_attributes__ "
    "__abstractmethods__ _abc_impl __signature__ __slotnames__ __annotations_cache__ "
    "__attrs_base_of_slotted__ __annotate_func__ __classdictcell__ "
    "_abc_cache _abc_negative_cache _abc_negative_cache_version _abc_registry".split()
)
# What sympy works out of `is_...` and `_eval_is_...`, in the order of a set.
_OF_SYMPY = frozenset({"_explicit_class_assumptions", "default_assumptions", "_prop_handler"})
_OF_MEMBERS = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})
_OF_NAMED_TUPLES = frozenset(
    "__new__ _make _replace __replace__ _asdict __repr__ __getnewargs__ __slots__".split()
)


def class_members(cls: type) -> Iterator[tuple[str, str, object]]:
    """Yield of each member its name, what an error calls it, and what is compared of it."""
    names = dict(vars(cls))
    skipped = set(_NOT_OF_THE_CLASS) | {"__doc__"}
    names["__annotations__"] = annotations_of(cls)
    if not names["__annotations__"]:  # Python makes an empty one when somebody asks
        skipped.add("__annotations__")
    if issubclass(cls, enum.Enum):
        values = [(name, each._value_) for name, each in cls.__members__.items()]
        yield "members", f"values of {cls.__name__}", values
        held = {each.name: found for each in cls if (found := member_attributes(each))}
        if held:
            yield "held", f"members of {cls.__name__}", held
        skipped |= set(cls.__members__)
        names = {name: each for name, each in names.items() if not _is_of_enum(name, each)}
    elif cls.__bases__ == (tuple,) and "_fields" in names:
        skipped |= {name for name in _OF_NAMED_TUPLES & names.keys() if _is_generated(names[name])}
    if type(names.get("default_assumptions")).__module__ == "sympy.core.assumptions":
        skipped |= _OF_SYMPY
    if type(cls).__module__ == "torch.autograd.function":
        skipped.add("_backward_cls")  # which it makes itself, and numbers
    for name in sorted(names):
        if name not in skipped and not name.startswith("__pydantic"):
            yield name, f"{cls.__name__}.{name}", _comparable(names[name])
    fields = vars(cls).get("__pydantic_fields__")
    if isinstance(fields, dict):
        said = [(key, _field_of_pydantic(each)) for key, each in fields.items()]
        yield "fields", f"fields of {cls.__name__}", said


def _comparable(value: object) -> object:
    """Return plain data for the objects in classes that have none of their own."""
    if (
        isinstance(value, dict)
        and value
        and all(isinstance(each, dataclasses.Field) for each in value.values())
    ):
        return [
            (
                each.name, each.type, each.default, each.default_factory, each.init, each.repr,
                each.hash, each.compare, each.kw_only, dict(each.metadata),
            )
            for each in value.values()
        ]  # fmt: skip
    if isinstance(value, types.FunctionType) and value.__name__ == "__hash__":
        # That of attrs holds a number which differs with the seed of hashes; what it hashes is said
        # by the attributes.
        return "__hash__" if value.__code__.co_filename.startswith("<attrs generated") else value
    if type(value).__name__ in ("_DataclassParams", "_tuplegetter"):
        return repr(value) if type(value).__name__ == "_DataclassParams" else value.__reduce__()[1]
    return value


def _field_of_pydantic(field: object) -> dict[str, object]:
    """Return what a field of a model says, without the forms that it goes through on its way."""
    names = getattr(type(field), "__slots__", ())
    held = {
        name: getattr(field, name, None)
        for name in names
        if not name.startswith("_") and name != "metadata"
    }
    held["metadata"] = [
        # What pydantic makes of pattern=, strict= and the like has a class made on the fly.
        (type(each).__qualname__, vars(each)) if "<locals>" in type(each).__qualname__ else each
        for each in getattr(field, "metadata", ())
    ]
    return held


def given_attributes(wrapper: object) -> dict[str, object]:
    """Return what somebody set on a callable of functools, without what that copied itself."""
    held = getattr(wrapper, "__dict__", {})
    return {name: each for name, each in held.items() if not name.startswith("__")}


def member_attributes(member: enum.Enum) -> dict[str, object]:
    """Return what a member of an Enum holds besides its name and value: set by `__init__`."""
    return {name: each for name, each in vars(member).items() if name not in _OF_MEMBERS}


def _is_of_enum(name: str, value: object) -> bool:
    """Tell whether EnumType itself put an attribute into a class, rather than whoever wrote it."""
    if isinstance(value, types.BuiltinFunctionType | types.WrapperDescriptorType):
        return True
    made_in = _name_of_globals(value)
    if made_in is not None:
        return made_in == "enum"
    return name.startswith("_") and name.endswith("_") and name not in _SAID_OF_ENUM


_SAID_OF_ENUM = frozenset({"_boundary_", "__annotations__"})


def _is_generated(value: object) -> bool:
    """Tell whether `collections.namedtuple` made an attribute of its class."""
    made_in = _name_of_globals(value)
    return made_in is None or made_in.startswith(("collections", "namedtuple_"))


def _name_of_globals(value: object) -> str | None:
    """Return the name of the module in whose globals a function or method runs, or None."""
    inner = getattr(value, "__func__", value)
    if isinstance(inner, types.FunctionType):
        return str(inner.__globals__.get("__name__", ""))
    return None


_WRAPPED: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    types.DynamicClassAttribute: ("fget", "fset", "fdel"),  # enum.property
    functools.cached_property: ("func",),
    functools.singledispatchmethod: ("dispatcher",),
    functools.partialmethod: ("func", "args", "keywords"),
}
"""Python's descriptors that wrap functions, and where they keep these."""
DESCRIPTORS = tuple(_WRAPPED)


def wrapped_by(descriptor: object) -> tuple[type, tuple[str, ...]]:
    """Return which of Python's descriptors something is, and the names of what it wraps."""
    base = next(each for each in type(descriptor).__mro__ if each in _WRAPPED)
    return base, _WRAPPED[base]


def descriptor_attributes(descriptor: object) -> dict[str, object]:
    """Return what a descriptor of a derived class holds besides what it wraps."""
    _, names = wrapped_by(descriptor)
    # The next two are of a cached property, the last two of a method that dispatches: what its
    # dispatcher begins with, and from Python 3.13 on a cache.
    own = {*names, "lock", "attrname", "func", "_method_cache"}
    return {name: each for name, each in given_attributes(descriptor).items() if name not in own}
