"""What runs in the workers of a dask cluster: a pool of this machine for each kernel that asks.

An attempt is performed by a `LocalExecutor` here, so it is isolated, watched, limited and killed as
on the kernel's own machine. The pool ends when its kernel says so, when nobody has asked for a
while, and with the dask worker. Everything at the top level here is called by name through dask.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbcache.engine.executors.alike import WAY_OUT, check_machine, describe_machine, differences
from nbcache.engine.executors.cargo import Item
from nbcache.engine.executors.depot import Depot, Goods, Piece
from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.errors import BlobMissingError, CannotKeepError, ClusterDiffersError, NbcacheError
from nbcache.model.digest import Digest
from nbcache.model.row import AttemptRow
from nbcache.store.cache import Cache

FIRST_POLL_S = 0.01  # for inputs that are on their way
POLL_S = 0.5  # how soon an attempt ends whose kernel has gone
IDLE_S = 60.0  # after which a pool ends that nobody has asked for anything

_sites: dict[str, Site] = {}
_lock = threading.Lock()


def look(root: str, dask_worker: Any) -> dict[str, Any]:
    """Return what the kernel has to know of a dask worker: its room, its versions, its cache."""
    return {
        "cpus": dask_worker.state.nthreads,
        "memory": dask_worker.memory_manager.memory_limit,
        "machine": describe_machine(),
        "host": socket.gethostname(),
        "cache": _cache_at(root),
    }


def _cache_at(root: str) -> str:
    """Return the id of the cache in a folder as this machine sees it; "" where there is none."""
    try:
        with Cache.open(root, create=False) as cache:
            return cache.id
    except (NbcacheError, OSError):
        return ""


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be performed for a kernel, whose machine and cache these are.

    `process` is the file of the attempt's `ProcessSpec`; `items` are all files that the attempt
    needs, that one among them: for a dask worker that does not see the cache. None: all see it.
    """

    topic: str
    root: str
    cache: str
    machine: dict[str, str]
    process: str
    spec: AttemptSpec
    items: tuple[Item, ...] | None


def perform(errand: Errand) -> tuple[AttemptReport, AttemptRow | None, Goods | None]:
    """Perform an attempt to its end; this dask worker may have joined the cluster after the kernel
    looked at it.

    What it shows goes to those who subscribed to the topic. Returns the row beside the report,
    which crosses without it; and what it made, where the kernel has to fetch that.

    Raises:
        ClusterDiffersError: the machine, a package or a tool is another one than the kernel's.
    """
    check_machine(socket.gethostname(), errand.machine, describe_machine())
    from distributed import get_worker

    topic, spec = errand.topic, errand.spec
    worker = get_worker()
    key = worker.get_current_task()

    def tell(kind: str, what: object) -> None:
        worker.log_event(topic, pickle.dumps((spec.id, kind, what)))

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        stream = worker.batched_stream  # once it is closed the scheduler hears nothing of us
        is_heard = stream is not None and not stream.closed()
        return is_heard and task is not None and task.state != "cancelled"

    if spec.row is not None:
        spec.row = replace(spec.row, host=socket.gethostname())
    name = _name(topic, worker)
    with _lock:
        site = _sites.get(name)
        if site is None:
            depot = None
            if _cache_at(errand.root) != errand.cache:
                if errand.items is None:
                    raise ClusterDiffersError(
                        f"the dask worker on {socket.gethostname()} does not see the cache "
                        f"{errand.root}, and joined after the run began.\n  Run again."
                    )
                depot = Depot(Path(worker.local_directory) / topic, errand.root)
            site = _sites[name] = Site(name, errand.root, worker.state.nthreads, depot)
        site.asked.add(spec.id)
    report, goods = site.perform(errand, worker.address, tell, is_wanted)
    return report, report.row, goods


async def take(topic: str, pieces: list[Piece], dask_worker: Any) -> None:
    """Take pieces of what an attempt needs.

    Raises:
        BlobDamagedError: they are not what they are called. CannotKeepError: they cannot be kept.
    """
    with _lock:
        site = _sites.get(_name(topic, dask_worker))
    if site is None or site.depot is None:
        return
    try:
        await asyncio.to_thread(site.depot.take, pieces)
    except OSError as error:
        if not site.has_ended:  # else nobody needs them here any more
            host = socket.gethostname()
            raise CannotKeepError(
                f"the dask worker on {host} cannot keep what the task takes: {error}"
            ) from error


async def give(topic: str, digest: Digest, offset: int, dask_worker: Any) -> bytes:
    """Return a piece of a blob that an attempt made.

    Raises:
        BlobMissingError: it is not here any more.
    """
    with _lock:
        site = _sites.get(_name(topic, dask_worker))
    if site is None or site.depot is None:
        raise BlobMissingError(f"the blob {digest} went with the worker's files")
    site.loop.call_soon_threadsafe(site.is_used)
    return await asyncio.to_thread(site.depot.give, digest, offset)


def kill(topic: str, attempt: str, reason: str, dask_worker: Any) -> bool:
    """End an attempt if it is here, and say whether it is; returns at once."""
    with _lock:
        site = _sites.get(_name(topic, dask_worker))
        return site is not None and site.kill(attempt, reason)


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
    """A pool of worker processes for one kernel, on a loop of its own. It works on the kernel's
    cache at `root`, or on that of a `depot` where this machine does not see it.

    The loop ends when nothing is asked of a pool that has ended: who asks counts in `asked`, under
    the lock, from before it gives the loop anything to do until it needs it no longer.
    """

    def __init__(self, name: str, root: str, workers: int, depot: Depot | None = None) -> None:
        self._name, self.depot = name, depot
        self.asked: set[str] = set()  # the ids of attempts that run or are about to
        self._doomed: dict[str, str] = {}  # those to be killed, and why
        self.has_ended = self._is_closed = False
        self.executor = LocalExecutor(root if depot is None else depot.cache.root, workers=workers)
        self._known: dict[str, ProcessSpec] = {}
        self._idle: asyncio.TimerHandle | None = None
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, name="nbcache-site", daemon=True).start()

    def _serve(self) -> None:
        self.loop.run_forever()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.wait(left) if left else asyncio.sleep(0))
        self.loop.close()

    def perform(
        self,
        errand: Errand,
        address: str,
        tell: Callable[[str, object], None],
        is_wanted: Callable[[], bool],
    ) -> tuple[AttemptReport, Goods | None]:
        """Perform an attempt; from any thread, which waits. `address` is that of the dask worker.

        Raises:
            CancelledError: the pool has ended, or nobody waits for the attempt any more.
        """
        task = self._perform(errand, address, tell, is_wanted)
        try:
            return asyncio.run_coroutine_threadsafe(task, self.loop).result()
        finally:
            with _lock:
                self.asked.discard(errand.spec.id)
                self._doomed.pop(errand.spec.id, None)
                self.loop.call_soon_threadsafe(self.is_used)

    async def _perform(
        self,
        errand: Errand,
        address: str,
        tell: Callable[[str, object], None],
        is_wanted: Callable[[], bool],
    ) -> tuple[AttemptReport, Goods | None]:
        spec, depot = errand.spec, self.depot
        if self.has_ended:
            raise asyncio.CancelledError
        if depot is not None:
            await self._get(depot, errand, address, tell, is_wanted)
            spec = depot.mirror.attempt(spec)
        await self.executor.start()
        self._prepare(errand.process)
        done = self.executor.submit(
            spec,
            started=lambda: tell("started", None),
            shown=lambda chunks: tell("shown", chunks),
        )
        self._kill(spec.id)
        while not done.done():
            await asyncio.wait([done], timeout=POLL_S)
            if not done.done() and not is_wanted():
                self.executor.kill(spec.id, "its kernel is gone")
        report = done.result()
        goods = None
        if depot is not None:
            goods = await asyncio.to_thread(depot.goods, report, address)
        return report, goods

    async def _get(
        self,
        depot: Depot,
        errand: Errand,
        address: str,
        tell: Callable[[str, object], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Have the kernel send what an attempt needs; asks again for what does not come."""
        pause = POLL_S
        while lacking := await asyncio.to_thread(depot.lacks, errand.items or ()):
            if not is_wanted() or errand.spec.id in self._doomed:
                raise asyncio.CancelledError
            if pause == POLL_S:
                tell("wants", (address, lacking))
            pause = FIRST_POLL_S if pause == POLL_S else min(2 * pause, POLL_S)
            await asyncio.sleep(pause)

    def _prepare(self, process: str) -> None:
        """Take what the attempts of a process share, if this machine can serve it."""
        if process in self._known:
            return
        depot = self.depot
        path = Path(process) if depot is None else depot.mirror.place(process)
        known: ProcessSpec = pickle.loads(path.read_bytes())
        search_path = (os.environ if known.environ is None else known.environ).get("PATH", "")
        found = differences(known.shared, search_path)
        if found:
            raise ClusterDiffersError(
                f"the dask worker on {socket.gethostname()} is not as this kernel: "
                f"{'; '.join(found)}.\n  {WAY_OUT}"
            )
        if depot is not None:
            known = depot.mirror.process(known)
        self._known[process] = known
        self.executor.prepare(known)

    def kill(self, attempt: str, reason: str) -> bool:
        """End an attempt, also one that the pool has not been given yet; False: it is not here.
        With the lock held."""
        if attempt not in self.asked:
            return False
        self._doomed[attempt] = reason
        self.loop.call_soon_threadsafe(self._kill, attempt)
        return True

    def _kill(self, attempt: str) -> None:
        reason = self._doomed.get(attempt)
        if reason is not None:
            self.executor.kill(attempt, reason)

    def is_used(self) -> None:
        """An attempt has ended, or its results are fetched: stop after the last one, or wait a
        while for the next."""
        if self.has_ended:
            self._stop_if_unasked()
            return
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self.loop.call_later(IDLE_S, self._end_if_idle)

    def forget(self, process: str) -> None:
        """Let go of a process; on the loop's thread."""
        known = self._known.pop(process, None)
        if known is not None:
            self.executor.forget(known.key)
        with _lock:
            is_at_rest = not self.asked and not self._known
        if self.depot is not None and is_at_rest:  # its run has ended, and has all that it wants
            self.depot.clear()

    def _end_if_idle(self) -> None:
        with _lock:
            if self.asked or _sites.get(self._name) is not self:
                return
            del _sites[self._name]
        self.end()

    def end(self) -> None:
        """End the pool and the loop; from any thread."""

        asyncio.run_coroutine_threadsafe(self._close(), self.loop)

    async def _close(self) -> None:
        self.has_ended = True
        with contextlib.suppress(Exception):
            await self.executor.close()
        if self.depot is not None:
            await asyncio.to_thread(self.depot.close)
        self._is_closed = True
        self._stop_if_unasked()

    def _stop_if_unasked(self) -> None:
        with _lock:
            if self._is_closed and not self.asked:
                self.loop.stop()
