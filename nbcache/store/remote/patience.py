"""How long a store is asked again that is too busy for what somebody needs of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from nbcache.errors import StoreUnavailableError

T = TypeVar("T")

_RETRIES = (0.5, 2.0, 5.0)  # seconds: a store that is asked too often
_OBSTORES_TIMEOUT = "kind: Timeout"  # which has no class of its own


def patiently(request: Callable[[], T], is_worth: Callable[[], bool] = lambda: True) -> T:
    """Send a request again where the store was too busy, as long as it is worth it; gives up
    after some seconds.

    A store that refuses is busy, and a connection that broke can be made again, however long it
    lasted. One that was silent for all the time that a request has is not waited for again: four
    times what a large transfer is given would be hours.
    """
    for wait in _RETRIES:
        try:
            return request()
        except StoreUnavailableError as error:
            if _was_silent(error) or not is_worth():
                raise
        time.sleep(wait)
    return request()


def within(seconds: float, act: Callable[[], T]) -> T:
    """Act on a thread of its own, for so long at most: a file system whose network is gone holds
    whoever asks it for as long as it likes.

    Raises:
        TimeoutError: it takes longer, and goes on.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="nbcache-folder", daemon=True).start()
    return future.result(seconds)


def _was_silent(error: BaseException | None) -> bool:
    """Whether an error comes of a time-out, of which each client makes one of its own."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_was_silent, error.exceptions))
    if error is None or isinstance(error, TimeoutError) or _OBSTORES_TIMEOUT in str(error):
        return error is not None
    return _was_silent(error.__cause__ or error.__context__)
