"""What a store is able to do here and now, with these credentials: measured, once per cache.

A bucket policy may forbid writing or deleting; a server that speaks S3 may overlook the condition
of a create. Nothing tells but trying: the probe writes a few small objects, and races with itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nbcache.errors import (
    AccessDeniedError,
    ObjectMissingError,
    RemoteStoreError,
    StoreUnavailableError,
)
from nbcache.store.files import new_ulid
from nbcache.store.remote.protocol import Store

_PLACE = "probes/"
_RACERS = 16
_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What was found; `faults` say why something is not possible."""

    read: bool
    write: bool
    delete: bool
    exclusive_create: bool  # of racers for one key exactly one was told that it was first
    clock_offset_s: float | None  # the server's clock less ours; None: not known
    faults: tuple[str, ...] = ()

    @property
    def claims(self) -> bool:
        """Whether tasks can be claimed: without it two people may compute the same result."""
        return self.write and self.exclusive_create


def probe(store: Store, *, writes: bool = True) -> Capabilities:
    """Try what a shared cache needs; leaves nothing behind where deleting is allowed.

    About 60 small requests where writing is allowed, else two. writes: try whether it is.

    Raises:
        StoreUnavailableError, StoreGoneError: nothing can be told.
    """
    faults: list[str] = []
    keys: list[str] = []
    read = _allowed(lambda: next(store.list(), None), faults)
    read = _allowed(lambda: _miss(store), faults) and read
    clock = _clock(store, keys, faults) if writes else None
    write = clock is not None
    exclusive = write and _exclusive(store, keys, faults)
    delete = write and _allowed(lambda: store.delete(keys), faults)
    return Capabilities(
        read=read,
        write=write,
        delete=delete,
        exclusive_create=exclusive,
        clock_offset_s=clock,
        faults=tuple(dict.fromkeys(faults)),
    )


def creates_once(store: Store) -> bool:
    """Whether to create what is there is refused: some servers overlook the condition.

    Three small requests. Whether of many at once one wins, `probe` tries.

    Raises:
        RemoteStoreError: nothing can be told.
    """
    key = f"{_PLACE}{new_ulid()}"
    store.put_if_absent(key, b"")
    try:
        return not store.put_if_absent(key, b"") and store.atomic_create
    finally:
        with contextlib.suppress(RemoteStoreError):  # a clean-up takes it
            store.delete([key])


def _allowed(ask: Callable[[], object], faults: list[str]) -> bool:
    try:
        ask()
    except AccessDeniedError as error:
        faults.append(str(error))
        return False
    return True


def _miss(store: Store) -> None:
    """Read what is not there: with no right to read, the answer is another."""
    try:
        store.get(f"{_PLACE}{new_ulid()}")
    except ObjectMissingError:
        return


def _clock(store: Store, keys: list[str], faults: list[str]) -> float | None:
    """Return how far the server's clock is ahead of ours; None where nothing may be written."""
    key = f"{_PLACE}{new_ulid()}"
    before = time.time()

    def write() -> None:
        store.put(key, b"")
        keys.append(key)

    if not _allowed(write, faults):
        return None
    between = (before + time.time()) / 2
    return round(store.head(key).modified_us / 1e6 - between, 1)


def _exclusive(store: Store, keys: list[str], faults: list[str]) -> bool:
    """Race for keys; say whether each has exactly one winner, whose bytes are there."""
    with ThreadPoolExecutor(_RACERS) as threads:
        for _ in range(_ROUNDS):
            key = f"{_PLACE}{new_ulid()}"
            keys.append(key)
            start = threading.Barrier(_RACERS)

            def race(number: int, key: str = key, start: threading.Barrier = start) -> bool:
                start.wait()
                return store.put_if_absent(key, b"%d" % number)

            try:
                won = [
                    number
                    for number, first in enumerate(threads.map(race, range(_RACERS)))
                    if first
                ]
                held = store.get(key)
            except StoreUnavailableError:
                raise  # slow, and no sign of anything
            except RemoteStoreError as error:
                faults.append(str(error).partition("\n")[0])
                return False
            if [held] != [b"%d" % number for number in won]:
                faults.append(f"{len(won)} of {_RACERS} were told that they created one object")
                return False
    return store.atomic_create
