"""The one event loop on which this process talks to object stores, on a thread of its own.

Clients of object stores are bound to the loop they were made on. Here that is always this loop,
whoever asks: a cell, the driver on its own loop, a worker, a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_running: tuple[int, asyncio.AbstractEventLoop, threading.Thread] | None = None
_END_S = 2.0


def store_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process; a forked child gets one of its own."""
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="nbcache-store", daemon=True)
            thread.start()
            _running = os.getpid(), loop, thread
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


def end_loop() -> None:
    """Stop the loop for good, when the interpreter ends.

    A native client answers from threads of its own. One that is still on its way out of Python when
    the interpreter goes would abort the whole process, so it is waited for.
    """
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid():
            return
        _, loop, thread = _running
        _running = None
    with contextlib.suppress(Exception):
        asyncio.run_coroutine_threadsafe(_rest(), loop).result(_END_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_END_S)
    until = time.monotonic() + _END_S
    while _native_threads_in_python() and time.monotonic() < until:
        threading.Event().wait(0.005)


async def _rest() -> None:
    """Let what was begun come to its end: connections of stores that were forgotten just now."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_END_S / 2)


def _native_threads_in_python() -> bool:
    """Whether threads that Python has not started are executing Python code."""
    ours = {thread.ident for thread in threading.enumerate()}
    return any(each not in ours for each in sys._current_frames())


def _forget_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
