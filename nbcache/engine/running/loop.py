"""The engine's own thread with its own event loop, one per process, started at first use.

A busy cell never stops the pipeline, and a busy pipeline never stops the cell.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from nbcache.errors import RunError

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_process = 0  # whose thread the loop has


def engine_loop() -> asyncio.AbstractEventLoop:
    """Return the engine's running loop; starts its daemon thread at the first call.

    Raises:
        RunError: this is a forked child of the process that has the loop, whose thread it lacks.
    """
    global _loop, _process
    with _lock:
        if _loop is not None and _process != os.getpid():
            raise RunError(
                f"nbcache is at work in process {_process}, of which this one is a fork: it has "
                "none of its threads.\n  Call nbcache there, or start this one by `spawn` instead "
                "of `fork` (multiprocessing.get_context)"
            )
        if _loop is None or _loop.is_closed():
            _process = os.getpid()
            _loop = asyncio.new_event_loop()
            _loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="nbcache-loop"))
            ready = threading.Event()
            loop = _loop

            def serve() -> None:
                asyncio.set_event_loop(loop)
                loop.call_soon(ready.set)
                loop.run_forever()

            threading.Thread(target=serve, name="nbcache-engine", daemon=True).start()
            ready.wait()
        return _loop


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the engine's loop; the future may be waited for on any thread.

    Raises:
        RunError: see `engine_loop`.
    """
    try:
        loop = engine_loop()
    except RunError:
        coroutine.close()
        raise
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


def call_at_exit(call: Callable[[], object]) -> None:
    """Call something when this process ends, while threads may still be given work: `atexit`
    itself comes after `concurrent.futures` has closed its pools. Not in its forked children,
    which have none of its threads: they would wait for what nobody does. Python 3.12.0 to 3.12.2
    start no thread any more then: a run that was under way is found interrupted afterwards."""
    process = os.getpid()

    def finish() -> None:
        if os.getpid() == process:
            call()

    with contextlib.suppress(RuntimeError):  # the process is ending already
        getattr(threading, "_register_atexit", atexit.register)(finish)


def at_exit(coroutine_function: Callable[[], Coroutine[Any, Any, None]], timeout: float) -> None:
    """Run `coroutine_function()` on the engine's loop when this process ends; it is waited for
    until `timeout` seconds are over."""

    def finish() -> None:
        if _loop is not None and not _loop.is_closed():
            # What fails here does no harm: the supervisor ends its workers when our pipe closes.
            with contextlib.suppress(TimeoutError, RuntimeError):
                submit(coroutine_function()).result(timeout)

    call_at_exit(finish)
