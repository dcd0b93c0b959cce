"""Parameters without a default: `reads = nbcache.required("the folder of the reads")`.

The value of such a variable cannot be used for anything: a cell that tries says that it is missing,
and no run starts while a public name of the notebook holds it. Given with `-p reads=...`, to
`%nbcache run` or to `nbcache run NOTEBOOK`, or by an assignment in another cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from nbcache.errors import MissingParameterError


class Required:
    """Stands for a parameter that somebody has to give."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"nbcache.required({self._text!r})" if self._text else "nbcache.required()"

    def _missing(self, *_: object) -> NoReturn:
        raise MissingParameterError((("", self._text),))

    __str__ = __fspath__ = __iter__ = __len__ = __bool__ = __call__ = __getitem__ = _missing
    __contains__ = __float__ = __int__ = __index__ = __format__ = __bytes__ = _missing
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _missing
    __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __neg__ = __abs__ = _missing
    __lt__ = __le__ = __gt__ = __ge__ = _missing
    __eq__ = __ne__ = _missing
    __hash__ = object.__hash__
    __nbcache_identity__ = _missing  # what captures it

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)  # what displays and pickles ask of any object
        self._missing()

    def __reduce__(self) -> NoReturn:
        self._missing()


def required(text: str = "") -> Any:
    """Return the stand-in of a parameter that has no default; `text` says what it is for."""
    return Required(text)


def check_given(namespace: Mapping[str, object]) -> None:
    """See that every required parameter has a value.

    Raises:
        MissingParameterError: names those that have none, and how to give them.
    """
    missing = tuple(
        (name, held._text)
        for name, held in sorted(namespace.items())
        if isinstance(held, Required) and not name.startswith("_")
    )
    if missing:
        raise MissingParameterError(missing)
