"""Find the handler of a type, and offer the encoder's public functions.

Looked up along the MRO, so the most specific class that somebody taught (`register`) or that
nbcache knows wins; what nobody knows is written as an object (`objects`). Libraries are told by
the name of the class's module, never imported to find out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from xxhash import xxh3_128_hexdigest

import nbcache.plan.identity.canonical.arrays as arrays
import nbcache.plan.identity.canonical.arrow as arrow
import nbcache.plan.identity.canonical.stdlib as stdlib
import nbcache.plan.identity.canonical.tables as tables
from nbcache.errors import NbcacheError, NoCanonicalFormError
from nbcache.model.digest import Digest
from nbcache.plan.identity.canonical.encoder import (
    SCALARS,
    Encoder,
    Foreign,
    Handler,
    Leaf,
    Refused,
    write_too_deep,
)
from nbcache.plan.identity.canonical.names import type_name
from nbcache.plan.identity.canonical.objects import refusal, write_object

_T = TypeVar("_T")

_LIBRARIES: dict[str, Callable[[type], Handler | None]] = {
    "numpy": arrays.numpy_handler,
    "scipy": arrays.scipy_handler,
    "torch": arrays.torch_handler,
    "PIL": arrays.pillow_handler,
    "pandas": tables.pandas_handler,
    "polars": arrow.polars_handler,
    "pyarrow": arrow.pyarrow_handler,
    "pytz": stdlib.pytz_handler,
    "rpds": stdlib.rpds_handler,
}

_registered: dict[type, Callable[[Foreign], object]] = {}
_resolved: WeakKeyDictionary[type, Handler] = WeakKeyDictionary()


def register(cls: type[_T], function: Callable[[_T], object]) -> None:
    """Teach a type: `function(value)` returns plain data that tells all of its values apart.

    Holds for classes derived from it too, unless a more specific one is registered. The value
    counts with its class's qualified name, so two types may return the same data.

    Raises:
        TypeError: the type is a builtin scalar or container, whose form is fixed.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register takes a class, not {cls!r}")
    if cls in SCALARS or cls in (list, tuple, dict, set, frozenset, bytearray, object, type):
        raise TypeError(f"the canonical form of {cls.__name__} is fixed")
    _registered[cls] = function
    _resolved.clear()


def unregister(cls: type) -> None:
    """Forget what `register` taught; a type that was never registered is no error."""
    _registered.pop(cls, None)
    _resolved.clear()


def resolve(cls: type) -> Handler:
    """Return the handler that writes values of exactly this class."""
    handler = _resolved.get(cls)
    if handler is None:
        handler = _resolved[cls] = _find(cls)
    return handler


def _find(cls: type) -> Handler:
    for base in cls.__mro__:
        function = _registered.get(base)
        if function is not None:
            return _taught(base, function)
        if base is cls and base in stdlib.EXACT:
            return stdlib.EXACT[base]
        if base in stdlib.BASES and not issubclass(cls, enum.Enum):
            return stdlib.BASES[base]
        if refusal(base) is not None:
            return write_object
        # Of Cython's own types it is no text.
        library = _LIBRARIES.get(str(base.__module__).partition(".")[0])
        handler = library(base) if library is not None else None
        if handler is not None:
            return handler
    return stdlib.write_enum if issubclass(cls, enum.Enum) else write_object


def _taught(base: type, function: Callable[[Foreign], object]) -> Handler:
    def write_registered(encoder: Encoder, value: Foreign) -> None:
        if encoder.met_before(value):
            return
        try:
            plain = function(value)
        except Exception as error:
            encoder.refuse(value, f"the registered function raised {type(error).__name__}: {error}")
        encoder.tag("registered")
        encoder.write((type_name(base), type_name(type(value))))
        encoder.write_known_class(type(value))
        encoder.write(plain)

    return write_registered


def _encoded(value: object, leaf: Leaf | None, *, streaming: bool) -> Encoder:
    encoder = Encoder(resolve, leaf, streaming=streaming)
    try:
        encoder.write(value)
    except RecursionError:
        raise _public(write_too_deep(value)) from None
    except Refused as refused:
        raise _public(refused) from None
    except NbcacheError:  # what `leaf` has to say of a file
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # a library's own
        reason = f"looking into it raised {type(error).__name__}: {error}"
        raise NoCanonicalFormError(type_name(type(value)), reason) from error
    return encoder


def _public(refused: Refused) -> NoCanonicalFormError:
    return NoCanonicalFormError(refused.type_name, refused.reason, "".join(refused.trail).lstrip())


def canonical_bytes(value: object, *, leaf: Leaf | None = None) -> bytes:
    """Return the canonical bytes of a value: equal if and only if a body cannot tell them apart.

    `leaf` answers for values that the caller knows better (functions and classes of the notebook,
    files, modules): what it gives a digest for is written as that digest.

    Raises:
        NoCanonicalFormError: the value, or one inside it, has none; `reason` says where it is.
    """
    return bytes(_encoded(value, leaf, streaming=False).out)


def canonical_digest(value: object, *, leaf: Leaf | None = None) -> Digest:
    """Return `identity_digest(canonical_bytes(value))` without building the bytes of large arrays.

    Raises:
        NoCanonicalFormError: the value, or one inside it, has none; `reason` says where it is.
    """
    scalar = SCALARS.get(type(value))
    if scalar is not None:
        return Digest("xxh3:" + xxh3_128_hexdigest(scalar(value)))
    return _encoded(value, leaf, streaming=True).digest()
