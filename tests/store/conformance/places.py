"""The stores that are examined: one place for each kind of server and client."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.opening import open_store
from nbcache.store.remote.protocol import Store

PATIENT_S = 30.0
_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """Where stores can be opened, by any process that is given this; empty when it is new."""

    url: str
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, **more: Any) -> Store:
        """Open a store that is patient, since the machine may be busy, unless told otherwise."""
        return open_store(self.url, **{"lookup_s": PATIENT_S, **self.options, **more})

    def fresh(self) -> Place:
        """Return an empty place on the same server."""
        return replace(self, url=f"{self.url}/{os.getpid()}-{next(_numbers)}")


class MemoryPlace:
    """As a place, but within one process: all its stores are one."""

    def __init__(self, make: Callable[..., Store] = MemoryStore) -> None:
        self._make = make
        self._store = make()

    def open(self, **more: Any) -> Store:
        return self._store if not more else self._make(**more)

    def fresh(self) -> MemoryPlace:
        return MemoryPlace(self._make)


AnyPlace = Place | MemoryPlace
