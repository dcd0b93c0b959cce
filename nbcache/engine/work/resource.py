"""Resources: objects that are made once per worker and identified by the code that makes them.

For what cannot or should not be sent to a worker: connections, API clients, models on a GPU. In
a body the name is the made object. Sent as its function; unpickled, it is made (once per digest).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from nbcache.codec.classes import keep_derived
from nbcache.model.digest import Digest
from nbcache.plan.identity.reach import combine

_T = TypeVar("_T")

_made: dict[Digest, object] = {}


class Resource(Generic[_T]):
    """A function without parameters whose result every task of a worker shares."""

    __nbcache_resource__: ClassVar[bool] = True

    def __init__(self, function: Callable[[], _T]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", "resource")
        self.__doc__ = function.__doc__
        self.digest: Digest | None = None

    def __nbcache_identity__(self, digest: Callable[[object], Digest]) -> Digest:
        self.digest = combine("resource", digest(self.function))
        return self.digest

    def get(self) -> _T:
        """Return the object, made at the first call in this process."""
        make, words = self.__reduce__()
        return make(*words)

    def __call__(self) -> _T:
        return self.get()

    def __reduce__(self) -> tuple[Callable[..., _T], tuple[Digest, Callable[[], _T]]]:
        key = self.digest or combine("resource of this process", str(id(self)))
        return (make_once, (key, self.function))

    def __repr__(self) -> str:
        return f"<resource {self.__name__}: made once per worker>"


def resource(function: Callable[[], _T]) -> Resource[_T]:
    """Mark a function as the maker of a resource: `@nbcache.resource def client(): ...`."""
    return Resource(function)


def make_once(key: Digest, function: Callable[[], _T]) -> _T:
    """Return what `function` makes, called once per process and key."""
    if key not in _made:
        _made[key] = function()
        keep_derived()
    return _made[key]  # type: ignore[return-value]
