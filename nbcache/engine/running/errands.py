"""What one run has to wait for while it goes on: a claim, a download, the first worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Errands:
    """Coroutines that nobody awaits. They tell the run's inbox when they are done; `failed` hears
    what one of them raised instead, since whoever waits for it would wait for ever."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    def send(self, coroutine: Coroutine[object, object, None]) -> None:
        """Let a coroutine run beside the others; on the loop's thread only."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def recall(self) -> None:
        """Cancel those that are still out."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)
