"""How objects of libraries travel whose own pickle loses a part, or cannot be read.

Each entry is a class of which that was found: a masked array forgets that its mask is hard, an
array of a derived class its attributes, an image the alpha of its palette, a scalar of Arrow what
Python's types do not hold; `numpy.vectorize` keeps a ufunc that nothing can pickle once it was
called. Libraries are told by the names of their classes, never imported to find out.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any

from nbcache.codec.classes import Reduced

Reducer = Callable[[Any], Reduced | None]

_MOST_KNOWN = 4096  # classes
_known: dict[int, tuple[type, Reducer | None]] = {}  # by id: a class need not be hashable


def reduce_whole(value: object) -> Reduced | None:
    """Return how an object is made anew with all that it has; None: as its pickle does it."""
    cls = type(value)
    known = _known.get(id(cls))
    if known is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[id(cls)] = (cls, _reducer(cls))
    make = known[1]
    return None if make is None else make(value)


def _reducer(cls: type) -> Reducer | None:
    for base in cls.__mro__:
        found = _REDUCERS.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            return found
    return None


def _with(value: Any, reduced: Any, more: object, set_state: Callable[..., None]) -> Reduced:
    """Return a reduced form whose state is (what it was, more)."""
    make, arguments, state = reduced[:3]
    return make, arguments, (state, more), None, None, set_state


def _reduce_array(array: Any) -> Reduced | None:
    import numpy as np

    cls, attributes = type(array), getattr(array, "__dict__", None)
    if not attributes or cls is np.memmap or not _pickles_as(np.ndarray, cls):
        return None
    return _with(array, array.__reduce_ex__(4), attributes, set_array)


def _reduce_masked(array: Any) -> Reduced | None:
    import numpy as np

    if (
        not array.hardmask
        or array is np.ma.masked
        or not _pickles_as(np.ma.MaskedArray, type(array))
    ):
        return None
    return _with(array, array.__reduce_ex__(4), None, set_masked)


def _pickles_as(base: type, cls: type) -> bool:
    """Whether a derived class leaves it to this one how it is pickled."""
    names = ("__reduce__", "__reduce_ex__", "__setstate__")
    return all(getattr(cls, name) is getattr(base, name) for name in names)


def set_array(array: Any, state: Reduced) -> None:
    """Complete an array of a derived class."""
    inner, attributes = state
    array.__setstate__(inner)
    array.__dict__.update(attributes)


def set_masked(array: Any, state: Reduced) -> None:
    """Complete a masked array whose mask is hard."""
    array.__setstate__(state[0])
    array.harden_mask()


def _reduce_vectorized(function: Any) -> Reduced | None:
    held = vars(function)
    if type(held.get("_ufunc")) is not dict:
        return None
    return copyreg.__newobj__, (type(function),), {**held, "_ufunc": {}}  # type: ignore[attr-defined]


def _reduce_image(image: Any) -> Reduced | None:
    reduced = image.__reduce_ex__(4)  # reads what is not loaded yet
    if image.mode not in ("P", "PA") or not isinstance(reduced, tuple) or len(reduced) < 3:
        return None
    mode = image.im.getpalettemode()
    if mode == "RGB":
        return None
    return _with(image, reduced, (mode, bytes(image.getpalette(None))), set_image)


def set_image(image: Any, state: Reduced) -> None:
    """Complete an image whose palette is not one of red, green and blue."""
    inner, (mode, palette) = state
    image.__setstate__(inner)
    image.putpalette(palette, mode)


def _reduce_scalar(scalar: Any) -> Reduced | None:
    import pyarrow as pa

    try:
        return first_of, (pa.repeat(scalar, 1),)
    except pa.ArrowNotImplementedError:
        return None


def first_of(array: Any) -> object:
    """Return the only member of an Arrow array."""
    return array[0]


_REDUCERS: dict[str, Reducer] = {
    "numpy.ma.MaskedArray": _reduce_masked,
    "numpy.ma.core.MaskedArray": _reduce_masked,
    "numpy.ndarray": _reduce_array,
    "numpy.finfo": lambda limits: (type(limits), (limits.dtype,)),
    "numpy.vectorize": _reduce_vectorized,
    "PIL.Image.Image": _reduce_image,
    "pyarrow.lib.Scalar": _reduce_scalar,
}
