"""Whether a value is of the type that a header declares for an input or an output."""

from __future__ import annotations

from nbcache.model.process import PortType
from nbcache.model.value import Gathered, Stored


def fits_type(value: object, declared: PortType | None) -> bool:
    """Whether a plain value is of the declared type, as far as that is one of Python's own."""
    if declared is None or (value is None and declared.optional):
        return True
    if declared.depth:
        return isinstance(value, (list, tuple))
    wanted = _BUILTIN.get(declared.base)
    if wanted is None or isinstance(value, Stored):
        return True
    if isinstance(value, bool) and declared.base in ("int", "float"):
        return False
    return isinstance(value, wanted) or type(value).__module__ == "numpy"


_BUILTIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool": (bool,),
    "bytes": (bytes, bytearray),
    "dict": (dict,),
    "list": (list, Gathered),
    "tuple": (tuple,),
    "set": (set, frozenset),
}
