"""How objects of libraries travel whose own pickle loses a part, or cannot be read.

Each entry is a class of which that was found: a masked array forgets that its mask is hard, an
array of a derived class its attributes, an image the alpha of its palette, a scalar of Arrow what
Python's types do not hold, the type of a map that its keys are sorted; groups and windows of pandas
take along what they computed, which may be out of date; `numpy.vectorize` keeps a ufunc that
nothing can pickle once it was called. Libraries are told by the names of their classes, never
imported to find out. And of any class with a `__getattr__`, which pickle asks before the object has
what that looks into, or with a `__new__`, or an `__init__` in place of one of Python's (that of an
exception, an OrderedDict, a deque), that takes other arguments than those that pickle has.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import operator
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

from nbcache.codec.classes import Reduced

Reducer = Callable[[Any], Reduced | None]

_MOST_KNOWN = 4096  # classes
_known: dict[int, tuple[ref[type], Reducer | None]] = {}  # by id: a class need not be hashable


def reduce_whole(value: object) -> Reduced | None:
    """Return how an object is made anew with all that it has; None: as its pickle does it."""
    cls = type(value)
    known = _known.get(id(cls))
    if known is None or known[0]() is not cls:  # another class had its id before
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[id(cls)] = (ref(cls), _reducer(cls))
    make = known[1]
    return None if make is None else make(value)


def _reducer(cls: type) -> Reducer | None:
    for base in cls.__mro__:
        found = _REDUCERS.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            return found
    if issubclass(cls, type) or cls in copyreg.dispatch_table:
        return None
    if (base := _base_that_tells(cls)) is not None:
        return partial(_reduce_as, base)
    if not _pickles_as(object, cls):
        return None
    if _asks_for_more(cls):
        return _reduce_unmade
    return _reduce_unasked if hasattr(cls, "__getattr__") else None


def _reduce_unasked(value: object) -> Reduced | None:
    reduced = value.__reduce_ex__(5)
    if not isinstance(reduced, tuple) or reduced[2] is None:
        return None
    return (*reduced, set_attributes)


def _asks_for_more(cls: type) -> bool:
    """Tell whether the `__new__` of a class has to be called with more than pickle would."""
    new, told = cls.__new__, getattr(cls, "__getnewargs__", None)  # that of int, str, ... tells one
    if not isinstance(new, types.FunctionType) or hasattr(cls, "__getnewargs_ex__"):
        return False
    if isinstance(told, types.FunctionType):
        teller = next(each for each in cls.__mro__ if "__getnewargs__" in vars(each))
        is_of_fields = issubclass(cls, tuple) and "_fields" in vars(teller)
        return is_of_fields and new is not teller.__new__  # it tells what that would take
    needed = new.__code__.co_argcount - len(new.__defaults__ or ()) - 1
    by_name = new.__code__.co_kwonlyargcount - len(new.__kwdefaults__ or ())
    return needed > (told is not None) or by_name > 0


def _reduce_unmade(value: object) -> Reduced:
    reduced: Any = value.__reduce_ex__(5)
    cls, rest = type(value), reduced[2:]
    base: Any = next(
        each
        for each in cls.__mro__
        if "__new__" in vars(each) and not isinstance(each.__new__, types.FunctionType)
    )
    told = vars(base).get("__getnewargs__", lambda _: ())
    return (make_unmade, (base, cls, *told(value)), *rest, set_attributes)


def make_unmade(base: Any, cls: type, *arguments: object) -> object:
    """Make an object of a class as pickle does, but not by the `__new__` of its own."""
    return base.__new__(cls, *arguments)


def _base_that_tells(cls: type) -> Any:
    """Return the class of Python's that tells pickle what objects of a class that derives from it
    are called with, where that one is called with something else, as far as anybody knows."""
    teller = next(each for each in cls.__mro__ if not _TELLERS.isdisjoint(vars(each)))
    if teller is object or issubclass(cls, BaseExceptionGroup):  # keeps what it is called with
        return None
    is_own = True
    for each in cls.__mro__:
        library = str(each.__module__).partition(".")[0]  # None where a library hides it
        if library in sys.stdlib_module_names and issubclass(each, teller):
            return None if is_own else each
        is_own = is_own and _CALLED.isdisjoint(vars(each))
    return None


_TELLERS, _CALLED = {"__reduce__", "__reduce_ex__"}, {"__new__", "__init__"}


def _reduce_as(base: Any, value: Any) -> Reduced | None:
    make, arguments, *rest = value.__reduce_ex__(5)
    if make is not type(value):
        return None
    state, items, pairs = (*rest, None, None, None)[:3]
    if state is None:
        state = getattr(value, "__dict__", None) or None
    names = {*copyreg._slotnames(make)} - {*copyreg._slotnames(base)}  # type: ignore[attr-defined]
    slots = {name: getattr(value, name) for name in names if hasattr(value, name)}
    held = (base, state, slots, [*(items or ())], [*(pairs or ())])
    return make_as, (base, make, *arguments), held, None, None, set_as


def make_as(base: Any, cls: type, *arguments: object) -> object:
    """Make an object of a class as the class of Python's that it derives from is made."""
    made = base.__new__(cls, *arguments)
    with contextlib.suppress(TypeError):  # its class has not called it either, or not so
        base.__init__(made, *arguments)
    return made


make_exception = make_as  # in pickles that were made before


def set_as(made: Any, held: tuple[Any, Any, Any, Any, Any]) -> None:
    """Complete an object that `make_as` made: its attributes come before its items, which its own
    methods have seen already."""
    base, state, slots, items, pairs = held
    if state is not None and hasattr(type(made), "__setstate__"):
        made.__setstate__(state)
    elif state is not None:
        set_attributes(made, state)
    set_attributes(made, (None, slots))
    if items:
        base.extend(made, items)
    for key, each in pairs:
        base.__setitem__(made, key, each)


def set_attributes(made: object, state: Any) -> None:
    """Complete an object as pickle does, but do not ask it for a `__setstate__`."""
    held, slots = state if isinstance(state, tuple) else (state, {})
    if held:
        vars(made).update(held)
    for name, each in slots.items():
        object.__setattr__(made, name, each)


def _with(reduced: Any, more: object, set_state: Callable[..., None]) -> Reduced:
    """Return a reduced form whose state is (what it was, more)."""
    make, arguments, state = reduced[:3]
    return make, arguments, (state, more), None, None, set_state


def _reduce_array(array: Any) -> Reduced | None:
    import numpy as np

    cls, attributes = type(array), getattr(array, "__dict__", None)
    if not attributes or cls is np.memmap or not _pickles_as(np.ndarray, cls):
        return None
    attributes = {name: each for name, each in attributes.items() if _travels(each)}
    return _with(array.__reduce_ex__(4), attributes, set_array) if attributes else None


def _travels(value: object) -> bool:
    """Whether pickle takes an attribute: a lock beside an array does not keep it from its readers,
    who find there what `__array_finalize__` of its class gives an array."""
    if type(value) in _PLAIN:
        return True
    import cloudpickle

    try:  # without the content of its arrays
        pickler = cloudpickle.Pickler(io.BytesIO(), protocol=5, buffer_callback=lambda _: None)
        pickler.dump(value)
    except Exception:  # whatever it and its parts raise
        return False
    return True


_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None)})


def _reduce_masked(array: Any) -> Reduced | None:
    import numpy as np

    if (
        not array.hardmask
        or array is np.ma.masked
        or not _pickles_as(np.ma.MaskedArray, type(array))
    ):
        return None
    soft = array.view()
    soft.soften_mask()
    return operator.methodcaller("harden_mask"), (soft,)


def _pickles_as(base: type, cls: type) -> bool:
    """Whether a derived class leaves it to this one how it is pickled."""
    names = ("__reduce__", "__reduce_ex__", "__setstate__")
    return all(getattr(cls, name, None) is getattr(base, name, None) for name in names)


def set_array(array: Any, state: Reduced) -> None:
    """Complete an array of a derived class."""
    inner, attributes = state
    array.__setstate__(inner)
    array.__dict__.update(attributes)


def _reduce_vectorized(function: Any) -> Reduced | None:
    held = vars(function)
    if type(held.get("_ufunc")) is not dict:
        return None
    return copyreg.__newobj__, (type(function),), {**held, "_ufunc": {}}  # type: ignore[attr-defined]


def _reduce_image(image: Any) -> Reduced | None:
    image.load()  # which may change the mode
    if image.mode not in ("P", "PA"):
        return None
    mode = image.im.getpalettemode()
    reduced = None if mode == "RGB" else image.__reduce_ex__(4)
    if not isinstance(reduced, tuple) or len(reduced) < 3:
        return None
    return _with(reduced, (mode, bytes(image.getpalette(None))), set_image)


def set_image(image: Any, state: Reduced) -> None:
    """Complete an image whose palette is not one of red, green and blue."""
    inner, (mode, palette) = state
    image.__setstate__(inner)
    image.putpalette(palette, mode)


def _reduce_without_cache(value: Any) -> Reduced | None:
    make, arguments, state, *_ = value.__reduce_ex__(4)
    cache = state.get("_cache") if type(state) is dict else None
    if type(cache) is not dict:
        return None
    kept = {name: part for name, part in cache.items() if name == "_ilevel"}
    return make, arguments, {**state, "_cache": kept}


def _reduce_arrow_column(column: Any) -> Reduced | None:
    """As its own pickle does it, which copies the whole to make one array of what is one."""
    held: Any = vars(column).get("_pa_array")
    if getattr(held, "num_chunks", 0) != 1:
        return None
    whole = held.chunk(0)
    if whole.offset or whole.get_total_buffer_size() > 1.1 * whole.nbytes:
        return None  # a part of a larger one
    state = {**vars(column), "_pa_array": whole}
    if "_cache" in state:
        state["_cache"] = {}
    return copyreg.__newobj__, (type(column),), state  # type: ignore[attr-defined]


def _reduce_map(kind: Any) -> Reduced:
    import pyarrow as pa

    return pa.map_, (kind.key_field, kind.item_field, kind.keys_sorted)


def _reduce_scalar(scalar: Any) -> Reduced | None:
    import pyarrow as pa

    if isinstance(scalar, pa.DictionaryScalar):  # whose own pickle keeps it as it is
        return None
    try:
        return operator.getitem, (pa.repeat(scalar, 1), 0)
    except pa.ArrowNotImplementedError:
        return None


_REDUCERS: dict[str, Reducer] = {
    "numpy.ma.MaskedArray": _reduce_masked,
    "numpy.ma.core.MaskedArray": _reduce_masked,
    "numpy.ndarray": _reduce_array,
    "numpy.finfo": lambda limits: (type(limits), (limits.dtype,)),
    "numpy.vectorize": _reduce_vectorized,
    "PIL.Image.Image": _reduce_image,
    "pandas.arrays.ArrowExtensionArray": _reduce_arrow_column,
    "pandas.core.arrays.arrow.array.ArrowExtensionArray": _reduce_arrow_column,
    "pandas.core.groupby.groupby.BaseGroupBy": _reduce_without_cache,
    "pandas.core.groupby.grouper.Grouping": _reduce_without_cache,
    "pandas.core.groupby.ops.BaseGrouper": _reduce_without_cache,
    "pandas.core.window.rolling.BaseWindow": _reduce_without_cache,
    "pyarrow.lib.MapType": _reduce_map,
    "pyarrow.lib.Scalar": _reduce_scalar,
}
