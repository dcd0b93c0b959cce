"""How long a store is asked again that is too busy for what somebody needs of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
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


class _Helper:
    """A thread that acts for another one, again and again, until that ends."""

    def __init__(self) -> None:
        self.process = os.getpid()  # whose thread it is: a forked child has none
        self._asked = SimpleQueue[Callable[[], object] | None]()
        name = "nbcache-folder"
        threading.Thread(target=_serve, args=(self._asked,), name=name, daemon=True).start()

    def __del__(self) -> None:
        self._asked.put(None)

    def begin(self, act: Callable[[], T]) -> Future[T]:
        """Have it act; one thing after another."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(act())
            except BaseException as error:
                future.set_exception(error)

        self._asked.put(run)
        return future


def _serve(asked: SimpleQueue[Callable[[], object] | None]) -> None:
    while (run := asked.get()) is not None:
        run()
        del run  # with all that it holds


_mine = threading.local()


def within(seconds: float, act: Callable[[], T]) -> T:
    """Act on a thread beside this one, for so long at most: a file system whose network is gone
    holds whoever asks it for as long as it likes.

    Raises:
        TimeoutError: it takes longer, and goes on.
    """
    helper: _Helper | None = getattr(_mine, "helper", None)
    if helper is None or helper.process != os.getpid():
        helper = _mine.helper = _Helper()
    future = helper.begin(act)
    try:
        return future.result(seconds)
    finally:
        if not future.done():  # it is held: the next one is not to wait for that
            _mine.helper = None


def _was_silent(error: BaseException | None) -> bool:
    """Whether an error comes of a time-out, of which each client makes one of its own."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_was_silent, error.exceptions))
    if error is None or isinstance(error, TimeoutError) or _OBSTORES_TIMEOUT in str(error):
        return error is not None
    return _was_silent(error.__cause__ or error.__context__)
