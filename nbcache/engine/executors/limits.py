"""What an attempt may take, time and memory, and when it has taken more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from nbcache.engine.executors.handle import Running, WorkerHandle
from nbcache.engine.work.process_tree import resident_bytes
from nbcache.plan.language.quantities import size_text

POLL_S = 0.2
LONGEST_POLL_S = 5.0
SHARE = 10  # of the time that a look takes, before the next one
LOOKS = 2  # at once, on threads of their own: downloads may hold those of the loop for minutes


class Limits:
    """Watches the attempts of a pool of workers; `end` kills one, and is told why."""

    def __init__(
        self, pool: Mapping[int, WorkerHandle], end: Callable[[Running, str], None]
    ) -> None:
        self._pool, self._end = pool, end
        self._watching: set[asyncio.Task[None]] = set()
        self._threads: ThreadPoolExecutor | None = None

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
        """An attempt begins: look at the memory of its worker in rounds, if it has a limit."""
        if running.spec.memory is None:
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(LOOKS, thread_name_prefix="nbcache-memory")
        worker = next(each for each in self._pool.values() if each.running is running)
        looks = self._watch(worker, running, running.spec.memory, self._threads)
        task = running.future.get_loop().create_task(looks)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def close(self) -> None:
        """Look at nothing any more."""
        for task in self._watching:
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _watch(
        self, worker: WorkerHandle, running: Running, limit: int, threads: ThreadPoolExecutor
    ) -> None:
        """Kill an attempt when its process tree holds more than it asked for; each has its own
        rounds, since one look may take seconds."""
        loop, took = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(min(max(POLL_S, SHARE * took), LONGEST_POLL_S))
            if worker.running is not running:
                return
            if worker.pid is None:
                continue
            began = time.monotonic()
            held = await loop.run_in_executor(threads, _held, worker.pid, limit)
            took = time.monotonic() - began
            if worker.running is not running:
                return
            running.peak = max(running.peak, held)
            if held > limit:
                reason = f"memory limit of {size_text(limit)} exceeded: "
                self._end(running, f"{reason}it and what it started held {size_text(held)}")


def _held(pid: int, limit: int) -> int:
    """Return what a process tree holds; seconds, where many forks share much."""
    held = resident_bytes(pid)
    if held > limit:  # if what forks share counts for each of them
        held = resident_bytes(pid, exactly=True)
    return held
