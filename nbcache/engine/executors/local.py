"""Attempts in worker processes of this machine: a warm pool, killable one by one.

Belongs to one event loop. Decides which worker takes which attempt, when one is killed (time,
memory, cancel), and what a death means for what that worker had; never runs anything itself. Room
(cpus, memory) is the scheduler's business: what is submitted runs as soon as a worker is free, and
what is submitted beyond the number of workers waits inside of them (`executors.handle`), so that
tiny attempts follow each other without waiting for this process.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from nbcache.engine.executors.handle import Running, WorkerHandle
from nbcache.engine.executors.limits import Limits
from nbcache.engine.executors.link import Message
from nbcache.engine.executors.lost import Death, Losses, describe_death, why_killed
from nbcache.engine.executors.protocol import ShownCallback, Started, encode_frame
from nbcache.engine.executors.supervisor_handle import SupervisorHandle
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec, finished_row
from nbcache.engine.work.workplace import remove_left_folders
from nbcache.errors import StoreError
from nbcache.model.row import Row
from nbcache.store.cache import Cache

GRACE_S = 5.0  # between SIGTERM and SIGKILL
BALANCE_S = 0.01  # an attempt that runs for so long gives up what waits behind it to idle workers


class LocalExecutor:
    """A pool of up to `workers` processes working on one cache.

    `append` writes the rows of attempts whose worker died (default: a journal of this process).
    `grace_s` is the time between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        workers: int,
        append: Callable[[Sequence[Row]], None] | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.workers = max(1, workers)
        self._cache = Cache.open(root)
        self._losses = Losses(self._cache, append or self._cache.log.append)
        self._grace_s = grace_s
        self._processes: dict[str, tuple[ProcessSpec, bytes]] = {}
        self._pool: dict[int, WorkerHandle] = {}
        self._idle: list[WorkerHandle] = []
        self._queue: deque[Running] = deque()
        self._running: dict[str, Running] = {}
        self._next = 0
        self._is_open = False
        self._supervisor: SupervisorHandle | None = None  # also where somebody killed it
        self._limits = Limits(self._pool, self._end)
        self._balancing: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ starting and ending

    async def start(self) -> None:
        """Start the supervisor and the first workers."""
        if self._is_open:
            return
        self._loop = asyncio.get_running_loop()
        remove_left_folders(self._cache.work)
        while len(self._pool) < min(self.workers, 2):
            self._fork()
        self._is_open = True

    async def close(self) -> None:
        """End all workers; attempts that were running are cancelled."""
        if self._supervisor is None and not self._is_open:
            return
        self._is_open = False
        for running in [*self._queue, *self._running.values()]:
            if running.timer is not None:
                running.timer.cancel()
            running.future.cancel()
        self._queue.clear()
        self._running.clear()
        self._limits.close()
        if self._balancing is not None:
            self._balancing.cancel()
            self._balancing = None
        for worker in list(self._pool.values()):
            self._drop(worker)
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            await supervisor.close()
        remove_left_folders(self._cache.work)
        self._cache.log.rotate()

    # ------------------------------------------------------------------ the protocol

    def prepare(self, process: ProcessSpec) -> None:
        """Take what the attempts of a process share."""
        self._processes[process.key] = (process, encode_frame(("process", process)))

    def forget(self, key: str) -> None:
        """Let go of a process, here and in the workers: no attempt of it will come."""
        self._processes.pop(key, None)
        for worker in self._pool.values():
            if key in worker.known:
                worker.known.discard(key)
                worker.link.send(encode_frame(("forget", key)))

    def submit(
        self,
        spec: AttemptSpec,
        *,
        started: Started | None = None,
        shown: ShownCallback | None = None,
    ) -> asyncio.Future[AttemptReport]:
        """Queue an attempt; the future's result is its report."""
        if not self._is_open:
            raise StoreError("the executor is not started")
        process = self._processes[spec.process][0]
        running = Running(spec, process, self._loop.create_future(), started, shown)
        self._running[spec.id] = running
        self._queue.append(running)
        self._dispatch()
        return running.future

    def kill(self, attempt: str, reason: str) -> None:
        """End an attempt; its report says aborted."""
        running = self._running.get(attempt)
        if running is None:
            return
        running.aborted = True
        self._end(running, reason)

    def rotate(self) -> None:
        """Let idle workers close their journals."""
        for worker in self._idle:
            worker.link.send(encode_frame(("rotate",)))

    # ------------------------------------------------------------------ dispatching

    def _dispatch(self) -> None:
        while self._queue and self._is_open:
            first = self._queue[0]
            try:
                worker = self._free_worker(first) or self._patient_worker(first)
            except OSError as error:  # of starting a process
                cause = f"no other can be started: {type(error).__name__}: {error}"
                self._lose(self._queue.popleft(), None, Death(None, None, "", cause))
                continue
            if worker is None:
                return
            self._give(worker, self._queue.popleft())
        if self._idle and self._balancing is None and self._is_uneven():
            self._balancing = self._loop.call_later(BALANCE_S, self._balance)

    def _patient_worker(self, running: Running) -> WorkerHandle | None:
        """Return the busy worker with the shortest queue that knows the process, if any has room.

        Nothing waits behind an attempt that has been running for long: who waits here may still go
        to whichever worker is free first. What has a limit waits for a worker of its own: killing
        it must not hit another.
        """
        if running.is_limited:
            return None
        recently = time.time_ns() // 1000 - BALANCE_S * 1e6
        able = [
            worker
            for worker in self._pool.values()
            if running.spec.process in worker.known
            and worker.gpus == running.spec.gpus
            and worker.has_room(recently)
        ]
        return min(able, key=lambda worker: len(worker.assigned), default=None)

    def _is_uneven(self) -> bool:
        return any(len(worker.assigned) > 1 for worker in self._pool.values())

    def _balance(self) -> None:
        """Let idle workers have what waits behind attempts that turn out to take long."""
        self._balancing = None
        before = time.time_ns() // 1000 - BALANCE_S * 1e6
        for worker in self._pool.values():
            running = worker.running
            if self._idle and running is not None and running.begun < before:
                self._take_back(worker)
        self._dispatch()

    def _take_back(self, worker: WorkerHandle) -> None:
        """Put what a worker has not begun back into the queue, where it was."""
        self._queue.extendleft(reversed(worker.take_back()))
        if not worker.assigned and not worker.leaving and worker not in self._idle:
            self._idle.append(worker)

    def _free_worker(self, running: Running) -> WorkerHandle | None:
        """Return an idle worker that may run this, or None after asking for a new one."""
        process, gpus = running.process, running.spec.gpus
        fitting = [each for each in self._idle if each.serves(process, gpus)]
        for worker in reversed(fitting):
            if process.key in worker.known:
                self._idle.remove(worker)
                return worker
        if fitting:
            worker = fitting[-1]
            self._idle.remove(worker)
            return worker
        if len(self._pool) >= self.workers and self._idle:
            self._drop(self._idle.pop(0))  # it serves other local modules or GPUs
        if len(self._pool) < self.workers:
            self._fork()
            return self._free_worker(running) if self._idle else None
        return None

    def _give(self, worker: WorkerHandle, running: Running) -> None:
        process, frame = self._processes[running.spec.process]
        data = b""
        worker.gpus = running.spec.gpus
        if process.key not in worker.known:
            worker.learn(process)
            data = frame
        token = worker.add(running)
        worker.link.send(data + encode_frame(("run", token, running.spec)))
        if len(worker.assigned) == 1:
            self._begin(running)

    def _begin(self, running: Running) -> None:
        """An attempt is the first of its worker: it begins as soon as the worker is there."""
        running.begun = time.time_ns() // 1000
        self._limits.begin_memory(running)
        if running.started is not None:
            running.started()

    def _end(self, running: Running, reason: str) -> None:
        """Kill an attempt that is queued or running."""
        if running.future.done() or running.reason is not None:
            return
        running.reason = reason
        for worker in self._pool.values():
            if running in worker.assigned:
                self._take_back(worker)
                self._loop.call_soon(self._dispatch)
                if running in worker.assigned:  # it has begun
                    self._kill_worker(worker, self._grace_s)
        if running in self._queue:
            self._queue.remove(running)
            self._lose(running, None, Death(None, None, ""))

    # ------------------------------------------------------------------ workers

    def _fork(self) -> None:
        """Ask for a worker; of another supervisor, where somebody killed the last one."""
        if self._supervisor is None:
            self._supervisor = SupervisorHandle(self._cache, self._loop, self)
        ours, theirs = socket.socketpair()
        number, self._next = self._next, self._next + 1
        worker = WorkerHandle(number, ours)
        try:
            self._supervisor.fork(number, [theirs.fileno(), worker.token_end])
        finally:
            theirs.close()
        self._pool[number] = worker
        self._idle.append(worker)  # what is sent before it lives waits in the socket
        worker.link.open(self._loop, partial(self._take, worker), partial(self._leave, worker))

    def _kill_worker(self, worker: WorkerHandle, grace_s: float) -> None:
        worker.leaving = worker.doomed = True
        if self._supervisor is not None:
            self._supervisor.kill(worker.number, grace_s)

    def _leave(self, worker: WorkerHandle) -> None:
        """A worker takes nothing more: it is about to end, or has."""
        worker.leaving = True
        if worker in self._idle:
            self._idle.remove(worker)

    def _drop(self, worker: WorkerHandle) -> None:
        """Let go of a worker that runs nothing: its socket's end ends it."""
        self._pool.pop(worker.number, None)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.close()

    def _take(self, worker: WorkerHandle, message: Message) -> None:
        running = worker.running
        if running is None:
            return
        if message[0] == "report":
            self._reported(worker, running, message[1])
        elif message[1] != running.spec.id:
            return
        elif message[0] == "begun":
            self._limits.begin_time(running)
        elif message[0] == "shown":
            for chunk in message[2]:
                running.shown.add(chunk)
            if running.show is not None:
                running.show(message[2])

    def _reported(self, worker: WorkerHandle, running: Running, report: AttemptReport) -> None:
        worker.assigned.popleft()
        if running.spec.row is not None and report.columns:
            report.row = finished_row(running.spec.row, report.columns)
        if running.reason is not None and report.outcome == "failed":
            # the body caught the signal and ended by itself
            report.outcome = "aborted" if running.aborted else "failed"
            report.error = why_killed(running.reason, running.aborted)
        if report.retire:
            worker.leaving = True
        if worker.leaving:
            self._take_back(worker)
        if worker.running is not None:
            self._begin(worker.running)
        elif not worker.leaving:
            self._idle.append(worker)
        else:
            self._drop(worker)
        self._finish(running, report)
        self._dispatch()

    def _finish(self, running: Running, report: AttemptReport) -> None:
        if running.timer is not None:
            running.timer.cancel()
        self._running.pop(running.spec.id, None)
        if not running.future.done():
            running.future.set_result(report)

    # ------------------------------------------------------------------ deaths

    def born(self, number: int, pid: int) -> None:
        """A worker lives."""
        if number in self._pool:
            self._pool[number].pid = pid

    def buried(self, number: int, status: int) -> None:
        """A worker and all below it are gone; first take what it still said."""
        worker = self._pool.get(number)
        if worker is None:
            return
        self._leave(worker)
        for message in worker.link.rest():
            self._take(worker, message)
        if number not in self._pool:
            return
        assert self._supervisor is not None
        death = describe_death(status, self._supervisor.crash_path(number))
        self._end_of(worker, death)
        self._dispatch()

    def _end_of(self, worker: WorkerHandle, death: Death) -> None:
        """A worker is dead: what it ran is lost, what it had not begun goes to the others.

        What had followed one that was killed just as that ended is not to suffer for it. A worker
        that died before it began anything loses its first attempt: the next might die as well.
        """
        free = worker.take_back()
        if free and not worker.assigned:
            worker.assigned.append(free.pop(0))
        lost = [each for each in worker.assigned if each.reason is not None or not worker.doomed]
        free = [each for each in worker.assigned if each not in lost] + free
        worker.assigned.clear()
        self._drop(worker)
        self._queue.extendleft(reversed(free))
        for running in lost:
            self._lose(running, worker.pid, death)

    def supervisor_died(self) -> None:
        """Somebody killed the supervisor: its workers die with it; what waits needs another."""
        for worker in list(self._pool.values()):
            self._end_of(worker, Death(None, None, "", "the supervisor died"))
        if self._supervisor is not None:
            self._supervisor.bury()
        self._supervisor = None
        self._dispatch()

    def _lose(self, running: Running, pid: int | None, death: Death) -> None:
        self._finish(running, self._losses.report(running, pid, death))
