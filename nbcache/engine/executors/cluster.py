"""Attempts on the workers of a dask cluster.

Belongs to one event loop. Decides which dask worker takes which attempt, by the cpus and memory
that each has; what happens to it there is `cluster_site`'s business, and how it gets its files
where a dask worker does not see the cache's folder, `carrying`'s. When a dask worker is lost, dask
gives what it ran to another. `distributed` is imported when a run is to go to a cluster.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbcache.engine.executors import cluster_site
from nbcache.engine.executors.alike import check_machine, describe_machine
from nbcache.engine.executors.cargo import (
    Item,
    companions,
    file_item,
    items_of_attempt,
    items_of_process,
)
from nbcache.engine.executors.carrying import Carrier
from nbcache.engine.executors.cluster_site import Errand
from nbcache.engine.executors.depot import Goods
from nbcache.engine.executors.lost import lost_row
from nbcache.engine.executors.protocol import ShownCallback, Started
from nbcache.engine.spec import AttemptReport, AttemptSpec, Ending, ProcessSpec, finished_row
from nbcache.engine.work.attempt import rows_to_append
from nbcache.errors import (
    ClusterDiffersError,
    InputMissingError,
    NbcacheError,
    StoreError,
    UsageError,
)
from nbcache.model.digest import Digest
from nbcache.model.row import Row
from nbcache.plan.language.quantities import size_text
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid

CONNECT_S = 10.0
CLOSE_S = 2.0
ANSWER_S = 10.0  # for the workers to say whether they have an attempt
KILL_AGAIN_S = 1.0
LOOKS = 3
TRIES = 3  # of an attempt whose results were lost with a dask worker


@dataclass(slots=True)
class Room:
    """What a dask worker has left: cpus, and bytes of memory (None: it has no limit)."""

    cpus: int
    memory: int | None

    def fits(self, spec: AttemptSpec) -> bool:
        """Whether an attempt can start there now."""
        return spec.cpus <= self.cpus and (self.memory is None or (spec.memory or 0) <= self.memory)

    def take(self, spec: AttemptSpec, sign: int = 1) -> None:
        """An attempt starts there (or, with sign -1, has ended)."""
        self.cpus -= sign * spec.cpus
        if self.memory is not None:
            self.memory -= sign * (spec.memory or 0)


@dataclass(slots=True, eq=False)
class _Held:
    """An attempt between `submit` and its report."""

    spec: AttemptSpec
    future: asyncio.Future[AttemptReport]
    started: Started | None
    shown: ShownCallback | None
    items: tuple[Item, ...] | None = None  # what it takes along, where not all see the cache
    task: Any = None  # dask's future
    begun: int = 0
    doomed: str = ""  # why it is being killed
    refused: Exception | None = None  # why its inputs cannot be sent

    def begin(self) -> None:
        """It has started, or has ended without a word of that."""
        if not self.begun:
            self.begun = time.time_ns() // 1000
            if self.started is not None:
                self.started()


@dataclass(frozen=True, slots=True)
class _Known:
    """A process, the file that tells of it, and all files that its attempts need."""

    spec: ProcessSpec
    path: Path
    items: tuple[Item, ...] | None


@dataclass(slots=True)
class _Cluster:
    """A connection, and what the workers have: in all, and left."""

    client: Any
    carrier: Carrier
    is_far: bool = False  # some worker does not see the cache
    whole: dict[str, Room] = field(default_factory=dict)
    left: dict[str, Room] = field(default_factory=dict)


class ClusterExecutor:
    """Runs attempts on the cluster whose scheduler is at `address`."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        address: str,
        *,
        append: Callable[[Sequence[Row]], None],
    ) -> None:
        self._cache, self._address, self._append = Cache.open(root), address, append
        self._topic = f"nbcache-{new_ulid()}"
        self._processes: dict[str, _Known] = {}
        self._modules: tuple[str, ...] = ()
        self._queue: deque[_Held] = deque()
        self._running: dict[str, _Held] = {}
        self._cluster: _Cluster | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> tuple[int, int | None]:
        """Connect, and look at the workers that there are now; return their cpus and memory.

        Raises:
            UsageError: there is no such cluster, or its workers cannot serve this kernel.
        """
        if self._cluster is None or self._cluster.client.status != "running":
            client = await self._client()
            self._cluster = _Cluster(client, Carrier(client, self._topic, self._cache))
            self._cluster.client.subscribe_topic(self._topic, self._heard)
        cluster = self._cluster
        try:
            found = await self._look(cluster.client)
        except Exception as error:  # nbcache is not there
            raise UsageError(
                f"the dask cluster at {self._address} cannot run tasks of this kernel: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not found:
            raise UsageError(f"the dask cluster at {self._address} has no workers")
        for facts in found.values():
            check_machine(facts["host"], describe_machine(), facts.get("machine", {}))
        cluster.is_far = any(facts["cache"] != self._cache.id for facts in found.values())
        cluster.whole = {name: Room(each["cpus"], each["memory"]) for name, each in found.items()}
        cluster.left = {name: Room(each.cpus, each.memory) for name, each in cluster.whole.items()}
        limits = [each.memory for each in cluster.whole.values()]
        memory = None if None in limits else sum(each or 0 for each in limits)
        return sum(each.cpus for each in cluster.whole.values()), memory

    async def _look(self, client: Any) -> dict[str, Any]:
        """Look at the workers; again where one is lost in this instant."""
        for left in reversed(range(LOOKS)):
            try:
                found: dict[str, Any] = await client.run(cluster_site.look, str(self._cache.root))
                return found
            except OSError:
                if not left:
                    raise
        raise AssertionError  # the last one returns or raises

    async def _client(self) -> Any:
        try:
            from distributed import Client
        except ImportError:
            raise UsageError(
                "--executor dask needs the package distributed: pip install 'nbcache[dask]'"
            ) from None
        client = Client(self._address, asynchronous=True, timeout=CONNECT_S, set_as_default=False)
        try:
            return await client
        except (OSError, ValueError) as error:
            with contextlib.suppress(Exception):
                await client.close()  # else it would, when nobody can wait for it any more
            raise UsageError(
                f"no dask cluster answers at {self._address}: {error}.\n  Start one (`dask "
                "scheduler`, `dask worker ADDRESS`), or run here: --executor local"
            ) from error

    # ------------------------------------------------------------------ the protocol

    async def start(self) -> None:
        """Connect, if that has not been done."""
        if self._cluster is None:
            await self.connect()

    async def close(self) -> None:
        """End the pools on the cluster; attempts that were running are cancelled."""
        cluster, self._cluster = self._cluster, None
        if cluster is None:
            return
        for held in [*self._queue, *self._running.values()]:
            held.future.cancel()
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            async with asyncio.timeout(CLOSE_S):
                await cluster.client.run(cluster_site.leave, self._topic, on_error="ignore")
                await cluster.client.close()

    def know_modules(self, files: Iterable[str]) -> None:
        """Take the files of the local modules that a run's processes know, also of those of which
        no task will run: a value that one of them made may be of any."""
        self._modules = tuple(dict.fromkeys(files))

    def prepare(self, process: ProcessSpec) -> None:
        """Write down what the attempts of a process share, where the cluster finds it, in the
        folder of the run: no clean-up takes that while the run goes on."""
        folder = Path(process.run_folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"process-{new_ulid()}"
        is_far = self._cluster is not None and self._cluster.is_far
        if is_far:
            process = replace(process, companions=companions(self._modules))
        path.write_bytes(pickle.dumps(process, protocol=5))
        items = (file_item(path), *items_of_process(process)) if is_far else None
        self._processes[process.key] = _Known(process, path, items)

    def forget(self, key: str) -> None:
        """Let go of a process."""
        known = self._processes.pop(key, None)
        if known is not None:
            known.path.unlink(missing_ok=True)
            self._tell_all(cluster_site.forget, str(known.path))

    def submit(
        self,
        spec: AttemptSpec,
        *,
        started: Started | None = None,
        shown: ShownCallback | None = None,
    ) -> asyncio.Future[AttemptReport]:
        """Queue an attempt; the future's result is its report."""
        if self._cluster is None:
            raise StoreError("the executor is not started")
        held = _Held(spec, asyncio.get_running_loop().create_future(), started, shown)
        self._running[spec.id] = held
        if any(each.fits(spec) for each in self._cluster.whole.values()):
            self._queue.append(held)
            self._dispatch()
        else:
            wants = f"{spec.cpus} cpus" + (f" and {size_text(spec.memory)}" if spec.memory else "")
            self._lose(held, f"asks for {wants}, which no worker of the dask cluster has", "failed")
        return held.future

    def kill(self, attempt: str, reason: str) -> None:
        """End an attempt; its report says aborted."""
        held = self._running.get(attempt)
        if held is None or held.doomed:
            return
        held.doomed = reason
        if held in self._queue:
            self._queue.remove(held)
            self._lose(held, f"aborted: {reason}", "aborted")
        else:
            self._later(self._end(held))

    def rotate(self) -> None:
        """Let idle workers close their journals."""
        self._tell_all(cluster_site.rotate)

    # ------------------------------------------------------------------ attempts

    def _dispatch(self) -> None:
        """Give away what fits, in order: what is large is passed by nothing."""
        while self._queue and self._cluster is not None:
            spec = self._queue[0].spec
            able = [name for name, each in self._cluster.left.items() if each.fits(spec)]
            if not able:
                return
            worker = max(able, key=lambda name: self._cluster.left[name].cpus)  # type: ignore[union-attr]
            self._cluster.left[worker].take(spec)
            self._later(self._follow(self._cluster, self._queue.popleft(), worker))

    async def _follow(self, cluster: _Cluster, held: _Held, worker: str) -> None:
        """Have an attempt performed and take its report; one that dask gave up is lost."""
        spec = held.spec
        try:
            self._finish(held, await self._performed(cluster, held, worker))
        except ClusterDiffersError as error:
            self._lose(held, str(error), "failed")
        except (Exception, asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            if self._cluster is None:
                raise
            if held.doomed:  # where it may have begun all the same, its row is written there
                self._lose(held, f"aborted: {held.doomed}", "aborted")
            elif held.refused is not None:
                self._refuse(held, held.refused)
            else:
                held.begin()
                lost = f"the dask cluster lost it: {type(error).__name__}: {error}"
                self._lose(held, lost, "failed")
        finally:
            if held.task is not None:
                held.task.release()
            if worker in cluster.left:
                cluster.left[worker].take(spec, -1)
            self._dispatch()

    async def _performed(self, cluster: _Cluster, held: _Held, worker: str) -> AttemptReport:
        """Return the report of an attempt that has ended, with its results in the cache and its row
        in the log. It is performed again where its results were lost with a dask worker."""
        spec, process = held.spec, self._processes[held.spec.process]
        if process.items is not None:
            own = await asyncio.to_thread(self._items, held)
            held.items = (*process.items, *own)
        errand = Errand(
            self._topic,
            str(self._cache.root),
            self._cache.id,
            describe_machine(),
            str(process.path),
            spec,
            held.items,
        )
        for number in range(TRIES):
            held.task = cluster.client.submit(
                cluster_site.perform,
                errand,
                key=f"nbcache-{spec.id}-{number}",
                workers=[worker],
                allow_other_workers=True,
                pure=False,
            )
            report, report.row, goods = await held.task  # a report crosses without its row
            held.begin()
            if goods is None:
                return report  # type: ignore[no-any-return]
            try:
                await self._take(cluster.carrier, held, report, goods)
                return report  # type: ignore[no-any-return]
            except StoreError:
                raise
            except Exception:
                if number == TRIES - 1:
                    raise
        raise AssertionError  # the last one returns or raises

    async def _end(self, held: _Held) -> None:
        """Kill an attempt where it is, and again where dask starts it anew; take it from dask
        where it is nowhere: it waits, or its worker is lost. One that had begun may just have
        ended, so it is looked for twice."""
        is_missed = not held.begun
        while not held.future.done() and self._cluster is not None:
            found: dict[str, bool] = {}
            with contextlib.suppress(Exception):  # no scheduler, no attempt
                async with asyncio.timeout(ANSWER_S):
                    found = await self._cluster.client.run(
                        cluster_site.kill, self._topic, held.spec.id, held.doomed, on_error="ignore"
                    )
            is_here = any(found.values())
            if not is_here and is_missed and held.task is not None:
                with contextlib.suppress(Exception):
                    await held.task.cancel()
            is_missed = not is_here
            await asyncio.wait([held.future], timeout=KILL_AGAIN_S)

    def _heard(self, event: tuple[float, bytes]) -> None:
        """Take what an attempt shows while it runs; it comes from this kernel's own cluster."""
        attempt, kind, what = pickle.loads(event[1])
        held = self._running.get(attempt)
        if held is None:
            return
        if kind == "wants":
            self._later(self._send(held, *what))
            return
        held.begin()
        if kind == "shown" and held.shown is not None:
            held.shown(what)

    # ------------------------------------------------------------------ without a shared folder

    def _items(self, held: _Held) -> list[Item]:
        try:
            return items_of_attempt(held.spec, self._cache.blobs)
        except (NbcacheError, OSError) as error:
            held.refused = error
            raise

    async def _send(self, held: _Held, address: str, numbers: Sequence[int]) -> None:
        """Send what an attempt needs to where it is performed; it is taken back where that fails
        by a fault of what is sent. Where the worker is lost, another one asks."""
        if self._cluster is None or held.items is None:
            return
        try:
            await self._cluster.carrier.send(address, [held.items[each] for each in numbers])
        except (NbcacheError, FileNotFoundError, PermissionError) as error:
            held.refused = error
            with contextlib.suppress(Exception):
                await held.task.cancel()
        except Exception:  # of dask's; it asks again
            pass

    def _refuse(self, held: _Held, error: Exception) -> None:
        """Report an attempt whose inputs are gone or changed."""
        if isinstance(error, InputMissingError):  # who made it runs again
            report = AttemptReport(id=held.spec.id, outcome="failed", error=str(error))
            report.missing = Digest(error.digest)
            held.begin()
            self._finish(held, report)
        else:
            held.begin()
            self._lose(held, str(error), "failed")

    async def _take(
        self, carrier: Carrier, held: _Held, report: AttemptReport, goods: Goods
    ) -> None:
        """Bring what an attempt made into the cache, then append its row."""
        spec, row = held.spec, report.row
        await carrier.fetch(goods)
        process = self._processes[spec.process].spec
        report.workdir = None
        with contextlib.suppress(Exception):  # how the attempt ended is known without it
            report.workdir = await carrier.fetch_workdir(goods, process, spec, report.exit)
        if row is None:
            return
        report.row = finished_row(row, {"workdir": report.workdir})
        self._append(rows_to_append(spec, report))

    # ------------------------------------------------------------------ ends

    def _finish(self, held: _Held, report: AttemptReport) -> None:
        self._running.pop(held.spec.id, None)
        if not held.future.done():
            held.future.set_result(report)

    def _lose(self, held: _Held, error: str, outcome: Ending) -> None:
        """Report an attempt of which nothing came back, and write its row."""
        spec = held.spec
        report = AttemptReport(id=spec.id, outcome=outcome, error=error, traceback=error)
        if spec.row is not None and held.begun:
            report.row = lost_row(spec.row, spec.status_after(outcome), report, held.begun, 0, None)
            if not spec.row_is_drivers(outcome):
                with contextlib.suppress(StoreError):
                    self._append([report.row])
        self._finish(held, report)

    def _tell_all(self, function: Callable[..., None], *words: str) -> None:
        """Have something done on all workers, some time soon."""
        if self._cluster is not None:
            client = self._cluster.client
            self._later(self._tell(client, function, *words))

    async def _tell(self, client: Any, function: Callable[..., None], *words: str) -> None:
        with contextlib.suppress(Exception):  # a worker that is lost has nothing left to do
            await client.run(function, self._topic, *words, on_error="ignore")

    def _later(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
