"""What one run has to wait for while it goes on: a claim, a download, the first worker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Errands:
    """Coroutines that nobody awaits. They tell the run's inbox when they are done."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    def send(self, coroutine: Coroutine[object, object, None]) -> None:
        """Let a coroutine run beside the others; on the loop's thread only."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def recall(self) -> None:
        """Cancel those that are still out."""
        for task in self._tasks:
            task.cancel()
