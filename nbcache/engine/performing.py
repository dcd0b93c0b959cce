"""Perform the runs of one kernel, one after the other, by its workers.

A run that was begun ends, whatever happens: with its last row, its hooks, and a word to whoever
waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from nbcache.engine.executors.cluster import ClusterExecutor
from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.executors.protocol import Executor
from nbcache.engine.garbage import collected_rarely
from nbcache.engine.host import Host
from nbcache.engine.opening import Opened
from nbcache.engine.record.holding import cancel_request
from nbcache.engine.running import loop
from nbcache.engine.running.course import Course
from nbcache.engine.running.decision import Place
from nbcache.engine.running.devices import Devices, gpu_ids
from nbcache.engine.running.driver import Driver
from nbcache.engine.running.hooks import Hooks
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.publish import Publisher
from nbcache.engine.running.rows import user_name
from nbcache.engine.running.run import Run
from nbcache.engine.running.specs import Packer, process_spec
from nbcache.engine.spec import ProcessSpec
from nbcache.engine.upkeep.tidying import Tidier
from nbcache.errors import NbcacheError
from nbcache.model.run_options import RunOptions
from nbcache.model.task import RunStatus
from nbcache.plan.dataflow.scheduler import Scheduler
from nbcache.store.files import deleted_error

WAITS = "another run of this kernel is going; this one starts when it has ended"
PATIENCE_S = 0.02  # before a run says that it waits
CANCEL_POLL_S = 0.3
LEAVE_S = 3.0  # for a run to end in order when its kernel does; Jupyter waits 5 s
CLOSE_S = 3.0  # for the workers to end after it
TIDY_S = 20.0  # for what is then to be tidied up; the next run does what is left


class Performer:
    """Performs runs on the engine's loop; they take turns. `tidy` is called when none follows."""

    def __init__(self, session: Host, tidy: Callable[[], None]) -> None:
        self._session = session
        self.going: list[Run] = []  # begun and not ended, in the order of their turns
        self._executor: Executor | None = None
        self._clusters: dict[str, ClusterExecutor] = {}  # by address
        self._turn = asyncio.Lock()
        self._tidier = Tidier(tidy)
        self._overlooked: set[str] = set()  # folders, of which a run has told

    def begin(self, opened: Opened) -> None:
        """Perform a run when its turn comes; returns at once."""
        is_new = opened.beginning.session == 1
        opened.run.status = RunStatus.RUNNING if is_new else RunStatus.RESUMING
        self.going.append(opened.run)
        loop.submit(self._perform(opened, Hooks.of(self._session.namespace)))

    def executor(self) -> Executor:
        """Return the workers of this machine; made at the first need."""
        if self._executor is None:
            cpus, _ = machine()
            cache = self._session.cache
            self._executor = LocalExecutor(cache.root, workers=cpus, append=cache.log.append)
            self._leave_in_order()
        return self._executor

    def _cluster(self, address: str) -> ClusterExecutor:
        if address not in self._clusters:
            cache = self._session.cache
            executor = ClusterExecutor(cache.root, address, append=cache.log.append)
            self._clusters[address] = executor
            self._leave_in_order()
        return self._clusters[address]

    def _leave_in_order(self) -> None:
        if len(self._executors()) == 1:  # the first one
            loop.at_exit(self._leave, LEAVE_S + CLOSE_S + TIDY_S)

    def _executors(self) -> list[Executor]:
        return [*self._clusters.values(), *([] if self._executor is None else [self._executor])]

    def leave(self) -> None:
        """Do now what is done when the kernel ends, for as long as it takes."""
        loop.submit(self._leave()).result()

    def close(self) -> None:
        """End the workers; others begin at the next need."""
        executors = self._executors()
        self._executor, self._clusters = None, {}
        for executor in executors:
            loop.submit(executor.close()).result()

    async def _perform(self, opened: Opened, hooks: Hooks) -> None:
        run, rows, tier = opened.run, opened.rows, opened.tier
        status = RunStatus.FAILED
        cache = self._session.cache
        scratch = cache.tmp / f"run-{run.id}"
        try:
            with cache.activity.working(recorded=rows is not None):
                asked = asyncio.get_running_loop().create_task(self._obey(run))
                try:
                    status = await self._drive(opened, scratch)
                except BaseException as problem:  # a fault of ours: the cell must not wait
                    run.fault = run.fault or f"{type(problem).__name__}: {problem}"
                    raise
                finally:
                    asked.cancel()
                    if rows is not None and not cache.is_there():
                        run.is_lost, run.fault = True, str(deleted_error(cache.root))
                        status = RunStatus.FAILED
                    with contextlib.suppress(NbcacheError):
                        if rows is not None:
                            rows.append([rows.ended(status, run.fault)])
                    if opened.beginning.hold is not None:
                        opened.beginning.hold.release()
                    self._forget(run, opened.prepared)
                    shutil.rmtree(scratch, ignore_errors=True)
        finally:
            if tier is not None:
                tier.run_ended(run.id)
            run.close(status)
            await hooks.tell(run)
            self.going.remove(run)
            run.end()
            executors = self._executors()
            for executor in executors:
                executor.rotate()
            self._tidier.run_ends(has_written=rows is not None and bool(executors))

    async def _drive(self, opened: Opened, scratch: Path) -> RunStatus:
        """Drive a run when its turn has come; CANCELLED where that comes first."""
        run, prepared, session = opened.run, opened.prepared, self._session

        def make_spec(place: Place) -> ProcessSpec:
            key = _spec_key(run, place)
            return process_spec(place, session.cache, session.folder, key, scratch)

        if not await take_turn(self._turn, run):
            return RunStatus.CANCELLED
        try:
            options = opened.beginning.options
            try:
                executor, cpus, memory, gpus = await self._place(options)
            except NbcacheError as error:
                run.fault = str(error)
                return RunStatus.FAILED
            if isinstance(executor, ClusterExecutor):
                places = [place for held in prepared.places.values() for place in held.each()]
                executor.know_modules(
                    module.path for place in places for module in place.captured.modules.values()
                )
            scheduler = Scheduler(
                prepared.graph,
                cpus=cpus,
                memory=memory,
                gpus=len(gpus),
                disk=None
                if isinstance(executor, ClusterExecutor)
                else shutil.disk_usage(session.cache.root).free,
                max_parallel=options.max_parallel,
                levels=options.levels,
                max_errors=options.max_errors,
            )
            driver = Driver(
                Course(
                    run,
                    prepared.graph,
                    prepared.sources,
                    scheduler,
                    prepared.decider,
                    prepared.decoder,
                    session.cache,
                    opened.rows,
                    overlooked=self._overlooked,
                ),
                executor,
                make_spec,
                Packer(scratch),
                Devices(gpus),
                reasons=None if opened.rows is None else session.reasons(before=run.id),
                publisher=Publisher(session.cache, session.folder, prepared.decider.evaluator),
                claims=None if opened.tier is None else opened.tier.claims(run.name, user_name()),
            )
            self._tidier.run_begins()
            with collected_rarely():
                return await driver.drive()
        finally:
            self._turn.release()

    async def _place(
        self, options: RunOptions
    ) -> tuple[Executor, int, int | None, tuple[str, ...]]:
        """Return where a run's attempts go, and the cpus, memory and GPUs that are there.

        Raises:
            UsageError: there is no such cluster, or it cannot serve this kernel.
        """
        kind, _, address = options.executor.partition(":")
        if kind == "dask":
            cluster = self._cluster(address)
            return (cluster, *await cluster.connect(), ())
        return (self.executor(), *machine(), gpu_ids())

    def _forget(self, run: Run, prepared: Prepared) -> None:
        """Let the workers forget what the processes of a run have captured."""
        for executor in self._executors():
            for held in prepared.places.values():
                for place in held.each():
                    executor.forget(_spec_key(run, place))

    async def _obey(self, run: Run) -> None:
        """End a run when another process asks for it (`nbcache cancel`)."""
        request = cancel_request(self._session.cache, run.id)
        while not request.exists():
            await asyncio.sleep(CANCEL_POLL_S)
        request.unlink(missing_ok=True)
        run.cancel()

    async def _leave(self) -> None:
        """End in order what goes on in a kernel that ends: its runs are cancelled, and can go on.
        What is to be tidied up comes last: while workers end, somebody is at work on the cache."""
        going = list(self.going)
        for run in going:
            run.cancel()
        waits = (asyncio.to_thread(run.wait, LEAVE_S) for run in going)
        await asyncio.gather(*waits)
        try:
            await asyncio.gather(*(executor.close() for executor in self._executors()))
        finally:
            await self._tidier.finish()


def _spec_key(run: Run, place: Place) -> str:
    """Return under which name workers know a process of a run."""
    return f"{run.id}/{place.key}"


def machine() -> tuple[int, int]:
    """Return how many processors and how many bytes of memory this machine gives us."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cpus = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path(name).read_text()))
    return cpus, memory


class Queued:
    """Steers a run that has not begun."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.asked = asyncio.Event()

    def cancel(self) -> None:
        """Give up the turn; from any thread."""
        self._loop.call_soon_threadsafe(self.asked.set)


async def take_turn(turn: asyncio.Lock, run: Run) -> bool:
    """Wait for a run's turn; False, without the turn, if the run is cancelled before it comes."""
    queued = Queued()
    run.steered_by(queued)
    taking = asyncio.ensure_future(turn.acquire())
    asked = asyncio.ensure_future(queued.asked.wait())
    done, _ = await asyncio.wait(
        (taking, asked), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
    )
    if not done:
        run.notes.append(WAITS)
        await asyncio.wait((taking, asked), return_when=asyncio.FIRST_COMPLETED)
    if WAITS in run.notes:
        run.notes.remove(WAITS)
    if not asked.done():
        asked.cancel()
        return True
    if taking.done():
        turn.release()
    taking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await taking
    return False
