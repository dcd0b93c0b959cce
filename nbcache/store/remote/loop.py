"""The one event loop on which this process talks to object stores, on a thread of its own.

Clients of object stores are bound to the loop they were made on. Here that is always this loop,
whoever asks: a cell, the driver on its own loop, a worker, a shell.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_running: tuple[int, asyncio.AbstractEventLoop] | None = None


def store_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process; a forked child gets one of its own."""
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="nbcache-store", daemon=True).start()
            _running = os.getpid(), loop
        return _running[1]


def wait_for(make: Callable[[], Coroutine[Any, Any, T]], deadline_s: float) -> T:
    """Run a coroutine on the store loop, and wait for it on this thread.

    Raises:
        TimeoutError: it took longer, and was cancelled.
    """

    async def within() -> T:
        async with asyncio.timeout(deadline_s):
            return await make()

    future = asyncio.run_coroutine_threadsafe(within(), store_loop())
    try:
        return future.result()
    except CancelledError:
        raise TimeoutError("the request was cancelled") from None
    finally:
        future.cancel()  # an interrupt of the waiting thread ends the request as well


def start(make: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run a coroutine on the store loop; nobody waits for it or hears of its end."""
    asyncio.run_coroutine_threadsafe(make(), store_loop())


def _forget_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
