"""What runs in the workers of a dask cluster: a pool of this machine for each kernel that asks.

An attempt is performed by a `LocalExecutor` here, so it is isolated, watched, limited and killed as
on the kernel's own machine. The pool ends when its kernel says so, when nobody has asked for a
while, and with the dask worker. Everything at the top level here is called by name through dask.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import platform
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.errors import NbcacheError
from nbcache.model.row import AttemptRow
from nbcache.store.cache import Cache

POLL_S = 0.5  # how soon an attempt ends whose kernel has gone
IDLE_S = 60.0  # after which a pool ends that nobody has asked for anything

_sites: dict[str, Site] = {}
_lock = threading.Lock()


def look(root: str, dask_worker: Any) -> dict[str, Any]:
    """Return what the kernel has to know of a dask worker: its room, its Python, its cache."""
    try:
        with Cache.open(root, create=False) as cache:
            held = cache.id
    except (NbcacheError, OSError):
        held = ""
    return {
        "cpus": dask_worker.state.nthreads,
        "memory": dask_worker.memory_manager.memory_limit,
        "python": platform.python_version_tuple()[:2],
        "host": socket.gethostname(),
        "cache": held,
    }


def perform(
    topic: str, root: str, process: str, spec: AttemptSpec
) -> tuple[AttemptReport, AttemptRow | None]:
    """Perform an attempt to its end; `process` is the file of its `ProcessSpec`.

    What it shows goes to those who subscribed to `topic`. Returns the row beside the report, which
    crosses without it.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def tell(kind: str, what: object) -> None:
        worker.log_event(topic, pickle.dumps((spec.id, kind, what)))

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    if spec.row is not None:
        spec.row = replace(spec.row, host=socket.gethostname())
    name = _name(topic, worker)
    with _lock:
        site = _sites.get(name)
        if site is None:
            site = _sites[name] = Site(name, root, worker.state.nthreads)
        site.asked += 1
    report = site.perform(process, spec, tell, is_wanted)
    return report, report.row


def kill(topic: str, attempt: str, reason: str, dask_worker: Any) -> None:
    """End an attempt if it runs here; returns at once."""
    _ask(topic, dask_worker, lambda site: site.executor.kill(attempt, reason))


def forget(topic: str, process: str, dask_worker: Any) -> None:
    """Let go of a process."""
    _ask(topic, dask_worker, lambda site: site.forget(process))


def rotate(topic: str, dask_worker: Any) -> None:
    """Let idle workers close their journals."""
    _ask(topic, dask_worker, lambda site: site.executor.rotate())


def leave(topic: str, dask_worker: Any) -> None:
    """End the pool of a kernel; returns at once."""
    with _lock:
        site = _sites.pop(_name(topic, dask_worker), None)
    if site is not None:
        site.end()


def _name(topic: str, dask_worker: Any) -> str:
    """Several dask workers may live in one process."""
    return f"{topic} {dask_worker.address}"


def _ask(topic: str, dask_worker: Any, act: Callable[[Site], None]) -> None:
    with _lock:
        site = _sites.get(_name(topic, dask_worker))
    if site is not None:
        site.loop.call_soon_threadsafe(act, site)


class Site:
    """A pool of worker processes for one kernel, on a loop of its own."""

    def __init__(self, name: str, root: str, workers: int) -> None:
        self._name = name
        self.asked = 0  # attempts that run or are about to
        self.executor = LocalExecutor(root, workers=workers)
        self._known: dict[str, ProcessSpec] = {}
        self._idle: asyncio.TimerHandle | None = None
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, name="nbcache-site", daemon=True).start()

    def _serve(self) -> None:
        self.loop.run_forever()
        self.loop.close()

    def perform(
        self,
        process: str,
        spec: AttemptSpec,
        tell: Callable[[str, object], None],
        is_wanted: Callable[[], bool],
    ) -> AttemptReport:
        """Perform an attempt; from any thread, which waits."""
        task = self._perform(process, spec, tell, is_wanted)
        return asyncio.run_coroutine_threadsafe(task, self.loop).result()

    async def _perform(
        self,
        process: str,
        spec: AttemptSpec,
        tell: Callable[[str, object], None],
        is_wanted: Callable[[], bool],
    ) -> AttemptReport:
        try:
            await self.executor.start()
            if process not in self._known:
                self._known[process] = pickle.loads(Path(process).read_bytes())
                self.executor.prepare(self._known[process])
            done = self.executor.submit(
                spec,
                started=lambda: tell("started", None),
                shown=lambda chunks: tell("shown", chunks),
            )
            while not done.done():
                await asyncio.wait([done], timeout=POLL_S)
                if not done.done() and not is_wanted():
                    self.executor.kill(spec.id, "its kernel is gone")
            return done.result()
        finally:
            with _lock:
                self.asked -= 1
            if self._idle is not None:
                self._idle.cancel()
            self._idle = self.loop.call_later(IDLE_S, self._end_if_idle)

    def forget(self, process: str) -> None:
        """Let go of a process; on the loop's thread."""
        known = self._known.pop(process, None)
        if known is not None:
            self.executor.forget(known.key)

    def _end_if_idle(self) -> None:
        with _lock:
            if self.asked or _sites.get(self._name) is not self:
                return
            del _sites[self._name]
        self.end()

    def end(self) -> None:
        """End the pool and the loop; from any thread."""

        async def close() -> None:
            with contextlib.suppress(Exception):
                await self.executor.close()
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(close(), self.loop)
