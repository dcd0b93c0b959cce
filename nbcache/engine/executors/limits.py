"""What an attempt may take, time and memory, and when it has taken more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from nbcache.engine.executors.handle import Running, WorkerHandle
from nbcache.engine.work.process_tree import resident_bytes
from nbcache.plan.language.quantities import size_text

POLL_S = 0.2
LONGEST_POLL_S = 5.0
SHARE = 10  # of the time that a look takes, before the next one


class Limits:
    """Watches the attempts of a pool of workers; `end` kills one, and is told why."""

    def __init__(
        self, pool: Mapping[int, WorkerHandle], end: Callable[[Running, str], None]
    ) -> None:
        self._pool, self._end = pool, end
        self._polling: asyncio.Task[None] | None = None

    def begin_time(self, running: Running) -> None:
        """The worker says that it begins an attempt with a time limit: its time counts from now."""
        limit = running.spec.time
        assert limit is not None
        reason = f"time limit of {limit:g} s exceeded"
        running.timer = running.future.get_loop().call_later(limit, self._end_late, running, reason)

    def _end_late(self, running: Running, reason: str) -> None:
        for worker in self._pool.values():
            if worker.running is running and worker.pid is not None:
                running.peak = max(running.peak, resident_bytes(worker.pid))
        self._end(running, reason)

    def begin_memory(self, running: Running) -> None:
        """An attempt begins: look at the memory of its worker, if it has a limit."""
        if running.spec.memory is not None and self._polling is None:
            self._polling = running.future.get_loop().create_task(self._poll())

    def close(self) -> None:
        """Look at nothing any more."""
        if self._polling is not None:
            self._polling.cancel()
            self._polling = None

    async def _poll(self) -> None:
        took = 0.0
        while True:
            await asyncio.sleep(min(max(POLL_S, SHARE * took), LONGEST_POLL_S))
            began = time.monotonic()
            await asyncio.gather(*map(self._look_at, list(self._pool.values())))
            took = time.monotonic() - began

    async def _look_at(self, worker: WorkerHandle) -> None:
        """Kill what runs in a worker if its process tree holds more than it asked for."""
        running = worker.running
        if running is None or running.spec.memory is None or worker.pid is None:
            return
        held = await asyncio.to_thread(_held, worker.pid, running.spec.memory)
        if worker.running is not running:
            return  # it ended meanwhile
        running.peak = max(running.peak, held)
        if held > running.spec.memory:
            self._end(
                running,
                f"memory limit of {size_text(running.spec.memory)} exceeded: "
                f"it and what it started held {size_text(held)}",
            )


def _held(pid: int, limit: int) -> int:
    """Return what a process tree holds; seconds, where many forks share much."""
    held = resident_bytes(pid)
    if held > limit:  # if what forks share counts for each of them
        held = resident_bytes(pid, exactly=True)
    return held
