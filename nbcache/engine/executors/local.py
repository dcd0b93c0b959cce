"""Attempts in worker processes of this machine: a warm pool, killable one by one.

Belongs to one event loop. Decides which worker takes which attempt, when one is killed (time,
memory, cancel), and what is said of an attempt whose worker died; never runs anything itself. Room
(cpus, memory) is the scheduler's business: what is submitted runs as soon as a worker is free, and
what is submitted beyond the number of workers waits inside of them (`executors.handle`), so that
tiny attempts follow each other without waiting for this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbcache.engine.executors.handle import Running, WorkerHandle
from nbcache.engine.executors.lost import (
    Death,
    describe_death,
    find_row,
    lost_row,
    why_killed,
)
from nbcache.engine.executors.protocol import (
    ShownCallback,
    Started,
    encode_frame,
)
from nbcache.engine.executors.supervisor import BORN, EXIT, FORK, KILL, MESSAGE, crash_path
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec, finished_row
from nbcache.engine.work.attempt import store_shown
from nbcache.engine.work.harvest import from_ports
from nbcache.engine.work.process_tree import resident_bytes
from nbcache.engine.work.reentry import leave_way_back
from nbcache.engine.work.workplace import keep_folder, remove_left_folders
from nbcache.errors import StoreError
from nbcache.model.digest import Digest
from nbcache.model.row import AttemptRow, Row
from nbcache.plan.language.quantities import size_text
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid

GRACE_S = 5.0  # between SIGTERM and SIGKILL
MEMORY_POLL_S = 0.2
BALANCE_S = 0.01  # an attempt that runs for so long gives up what waits behind it to idle workers
CLOSE_S = 10.0  # for the supervisor: if it were killed, what scripts had started would live on
READ_SIZE = 1 << 18

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "  # this very nbcache, not an installed one
    "from nbcache.engine.executors.supervisor import main; "
    "sys.path.append(sys.path.pop(0)); main(sys.argv[2:])"
)


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
        self._append = append or self._cache.log.append
        self._grace_s = grace_s
        self._processes: dict[str, tuple[ProcessSpec, bytes]] = {}
        self._pool: dict[int, WorkerHandle] = {}
        self._idle: list[WorkerHandle] = []
        self._queue: deque[Running] = deque()
        self._running: dict[str, Running] = {}
        self._next = 0
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._answers = b""
        self._crash_folder = ""
        self._memory: asyncio.Task[None] | None = None
        self._balancing: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ starting and ending

    async def start(self) -> None:
        """Start the supervisor and the first workers."""
        if self._supervisor is not None:
            return
        self._loop = asyncio.get_running_loop()
        remove_left_folders(self._cache.work)
        self._crash_folder = str(self._cache.tmp / f"crash-{new_ulid()}")
        os.mkdir(self._crash_folder)
        ours, theirs = socket.socketpair()
        package = str(Path(__file__).resolve().parents[3])
        root = str(self._cache.root)
        arguments = [package, str(theirs.fileno()), root, self._crash_folder]
        environment = {**os.environ, "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
        self._supervisor = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *arguments],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        theirs.close()
        self._control = ours
        self._loop.add_reader(ours, self._answered)
        for _ in range(min(self.workers, 2)):
            self._fork()

    async def close(self) -> None:
        """End all workers; attempts that were running are cancelled."""
        if self._supervisor is None:
            return
        for running in [*self._queue, *self._running.values()]:
            if running.timer is not None:
                running.timer.cancel()
            running.future.cancel()
        self._queue.clear()
        self._running.clear()
        if self._memory is not None:
            self._memory.cancel()
            self._memory = None
        if self._balancing is not None:
            self._balancing.cancel()
            self._balancing = None
        for worker in list(self._pool.values()):
            self._drop(worker)
        supervisor, self._supervisor = self._supervisor, None
        self._close_control()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(supervisor.wait, CLOSE_S)
        if supervisor.poll() is None:
            supervisor.kill()
            supervisor.wait()
        shutil.rmtree(self._crash_folder, ignore_errors=True)
        remove_left_folders(self._cache.work)
        self._cache.log.rotate()

    def _close_control(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None

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
                self._write(worker, encode_frame(("forget", key)))

    def submit(
        self,
        spec: AttemptSpec,
        *,
        started: Started | None = None,
        shown: ShownCallback | None = None,
    ) -> asyncio.Future[AttemptReport]:
        """Queue an attempt; the future's result is its report."""
        if self._supervisor is None:
            raise StoreError("the executor is not started")
        running = Running(spec, self._loop.create_future(), started, shown)
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
            self._write(worker, encode_frame(("rotate",)))

    # ------------------------------------------------------------------ dispatching

    def _dispatch(self) -> None:
        while self._queue:
            first = self._queue[0]
            worker = self._free_worker(first.spec) or self._patient_worker(first)
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

    def _free_worker(self, spec: AttemptSpec) -> WorkerHandle | None:
        """Return an idle worker that may run this, or None after asking for a new one."""
        process = self._processes[spec.process][0]
        fitting = [each for each in self._idle if _fits(each, process, spec.gpus)]
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
            return self._free_worker(spec) if self._idle else None
        return None

    def _give(self, worker: WorkerHandle, running: Running) -> None:
        process, frame = self._processes[running.spec.process]
        data = b""
        worker.gpus = running.spec.gpus
        if process.key not in worker.known:
            worker.known.add(process.key)
            worker.modules.update(_module_digests(process))
            data = frame
        token = worker.add(running)
        self._write(worker, data + encode_frame(("run", token, running.spec)))
        if len(worker.assigned) == 1:
            self._begin(running)

    def _begin(self, running: Running) -> None:
        """An attempt is the first of its worker: it begins as soon as the worker is there."""
        running.begun = time.time_ns() // 1000
        if running.spec.memory is not None and self._memory is None:
            self._memory = self._loop.create_task(self._watch_memory())
        if running.started is not None:
            running.started()

    def _limit(self, running: Running) -> None:
        """The worker says that it begins an attempt with a time limit: its time counts from now."""
        assert running.spec.time is not None
        running.timer = self._loop.call_later(
            running.spec.time,
            self._end,
            running,
            f"time limit of {running.spec.time:g} s exceeded",
        )

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

    async def _watch_memory(self) -> None:
        """Kill attempts whose process tree holds more than they asked for."""
        while True:
            await asyncio.sleep(MEMORY_POLL_S)
            for worker in list(self._pool.values()):
                running = worker.running
                if running is None or running.spec.memory is None or worker.pid is None:
                    continue
                held = resident_bytes(worker.pid)
                running.peak = max(running.peak, held)
                if held > running.spec.memory:
                    limit = size_text(running.spec.memory)
                    self._end(
                        running,
                        f"memory limit of {limit} exceeded: it and what it started held "
                        f"{size_text(held)}",
                    )

    # ------------------------------------------------------------------ workers

    def _fork(self) -> None:
        assert self._control is not None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        number, self._next = self._next, self._next + 1
        worker = WorkerHandle(number, ours)
        descriptors = [theirs.fileno(), worker.token_end]
        try:
            socket.send_fds(self._control, [MESSAGE.pack(FORK, number, 0)], descriptors)
        finally:
            theirs.close()
        self._pool[number] = worker
        self._idle.append(worker)  # what is written before it lives waits in the socket
        self._loop.add_reader(ours, self._readable, worker)

    def _kill_worker(self, worker: WorkerHandle, grace_s: float) -> None:
        worker.leaving = worker.doomed = True
        if self._control is not None:
            message = MESSAGE.pack(KILL, worker.number, int(grace_s * 1000))
            with contextlib.suppress(OSError):
                self._control.sendall(message)

    def _drop(self, worker: WorkerHandle) -> None:
        """Let go of a worker that runs nothing: its socket's end ends it."""
        self._pool.pop(worker.number, None)
        if worker in self._idle:
            self._idle.remove(worker)
        self._loop.remove_reader(worker.link)
        self._loop.remove_writer(worker.link)
        worker.close()

    def _write(self, worker: WorkerHandle, data: bytes) -> None:
        """Send at the end of this turn of the loop, so that several messages go in one call."""
        if not worker.out:
            self._loop.call_soon(self._flush, worker)
        worker.out += data

    def _flush(self, worker: WorkerHandle) -> None:
        if worker.link.fileno() >= 0 and worker.out and not self._sent(worker):
            self._loop.add_writer(worker.link, self._writable, worker)

    def _writable(self, worker: WorkerHandle) -> None:
        if self._sent(worker):
            self._loop.remove_writer(worker.link)

    def _sent(self, worker: WorkerHandle) -> bool:
        """Send what the socket takes; says whether that was all."""
        try:
            del worker.out[: worker.link.send(worker.out)]
        except BlockingIOError:
            pass
        except OSError:
            worker.out.clear()  # it has died: the supervisor says so
        return not worker.out

    def _readable(self, worker: WorkerHandle) -> None:
        try:
            data = worker.link.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(worker.link)
            worker.leaving = True
            if worker in self._idle:
                self._idle.remove(worker)
            return
        for message in worker.reader.feed(data):
            self._take(worker, message)

    def _take(self, worker: WorkerHandle, message: tuple[Any, ...]) -> None:
        running = worker.running
        if message[0] == "begun":
            if running is not None and running.spec.id == message[1]:
                self._limit(running)
        elif message[0] == "shown":
            if running is not None and running.spec.id == message[1]:
                for chunk in message[2]:
                    running.shown.add(chunk)
                if running.show is not None:
                    running.show(message[2])
        elif message[0] == "report" and running is not None:
            report: AttemptReport = message[1]
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

    def _answered(self) -> None:
        """Take what the supervisor says."""
        assert self._control is not None
        try:
            data = self._control.recv(MESSAGE.size * 64)
        except OSError:
            data = b""
        if not data:
            self._supervisor_died()
            return
        data = self._answers + data
        whole = len(data) // MESSAGE.size * MESSAGE.size
        self._answers = data[whole:]
        for verb, number, argument in MESSAGE.iter_unpack(data[:whole]):
            worker = self._pool.get(number)
            if worker is None:
                continue
            if verb == BORN:
                worker.pid = argument
            elif verb == EXIT:
                self._buried(worker, argument)

    def _buried(self, worker: WorkerHandle, status: int) -> None:
        """A worker and all below it are gone; first take what it still said."""
        worker.leaving = True
        if worker in self._idle:
            self._idle.remove(worker)
        while worker.running is not None:
            try:
                data = worker.link.recv(READ_SIZE)
            except OSError:
                break
            if not data:
                break
            for message in worker.reader.feed(data):
                self._take(worker, message)
        if worker.number not in self._pool:
            return
        death = describe_death(status, crash_path(self._crash_folder, worker.number))
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

    def _supervisor_died(self) -> None:
        """Somebody killed the supervisor: its workers die with it; start again."""
        was_busy = bool(self._running)
        for worker in list(self._pool.values()):
            self._end_of(worker, Death(None, None, "", "the supervisor died"))
        self._close_control()
        if self._supervisor is not None:
            self._supervisor.wait()
        self._supervisor = None
        if was_busy:
            task = self._loop.create_task(self._restart())
            self._restarting = task

    async def _restart(self) -> None:
        await self.start()
        self._dispatch()

    def _lose(self, running: Running, pid: int | None, death: Death) -> None:
        """Report an attempt whose worker is dead, after looking whether its row is there."""
        spec = running.spec
        row = find_row(self._cache, spec.row.id) if spec.row is not None and pid else None
        workdir = keep_folder(self._cache.work, pid, spec.id)
        if row is not None and row.status == "completed":
            report = AttemptReport(
                id=spec.id,
                outcome="completed",
                row=row,
                outputs=from_ports(row.outputs),
                watched=row.watched,
            )
            self._finish(running, report)
            return
        error = death.error(running.reason, running.aborted)
        process = self._processes[spec.process][0]
        report = AttemptReport(
            id=spec.id,
            outcome="aborted" if running.aborted else "failed",
            error=error,
            traceback=death.traceback(error, process),
            where=death.where(process),
            exit=death.exit,
            signal=death.signal,
            workdir=workdir,
        )
        if workdir is not None:
            leave_way_back(Path(workdir), process, spec, running.shown.text(), death.exit)
        if row is None and spec.row is not None and running.begun:
            row = self._keep_row(running, report)
        report.row = row
        self._finish(running, report)

    def _keep_row(self, running: Running, report: AttemptReport) -> AttemptRow:
        """Write the row that the dead worker could not write."""
        shown = None
        with contextlib.suppress(StoreError):
            shown = store_shown(running.shown, self._cache)
        spec, status = running.spec, running.spec.status_after(report.outcome)
        assert spec.row is not None
        row = lost_row(spec.row, status, report, running.begun, running.peak, shown)
        if not spec.row_is_drivers(report.outcome):
            with contextlib.suppress(StoreError):
                self._append([row])
        return row


def _module_digests(process: ProcessSpec) -> dict[str, Digest]:
    """Return what a worker that has imported it cannot serve in another form: local modules, and
    packages, which may be upgraded while a kernel lives: those that the code imports, and whatever
    the classes of inputs come from."""
    local = {name: source.digest for name, source in process.modules.items()}
    packages = {f"package {name}": digest for name, digest in process.packages.items()}
    return local | packages | ({"installed": process.installed} if process.installed else {})


def _fits(worker: WorkerHandle, process: ProcessSpec, gpus: tuple[str, ...]) -> bool:
    """Say whether a worker has no local module in another text than this process wants, and
    can show it these GPUs: a library looks once which there are."""
    if worker.leaving or worker.gpus not in (None, gpus):
        return False
    if process.key in worker.known or not worker.modules:
        return True
    wanted = _module_digests(process)
    return all(wanted.get(name, digest) == digest for name, digest in worker.modules.items())
