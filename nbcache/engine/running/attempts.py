"""The running attempts of one run: handed to the executor, watched, told of when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nbcache.engine.executors.protocol import Executor
from nbcache.engine.running.claiming import Right
from nbcache.engine.running.course import Course
from nbcache.engine.running.decision import Decision, Place
from nbcache.engine.running.devices import Devices
from nbcache.engine.running.failing import Failures
from nbcache.engine.running.run import AtWork
from nbcache.engine.running.specs import Packer, attempt_spec
from nbcache.engine.running.undeclared import (
    changed_note,
    overlooked_note,
    read_notes,
    undeclared,
    unset_notes,
)
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.engine.work.shown import Shown
from nbcache.errors import CannotKeepError
from nbcache.model.event import (
    AttemptAborted,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    InputRecalled,
    TaskKey,
)
from nbcache.model.view import ShownChunk
from nbcache.store.files import full_disk_error, is_full, read_only_error


@dataclass(slots=True)
class Attempt:
    """A running attempt: what has to be let go of when it ends."""

    id: str
    number: int
    right: Right | None
    gpus: tuple[str, ...] = ()


class Attempts:
    """Begins attempts and hears of their ends. On the engine's loop."""

    def __init__(
        self,
        course: Course,
        executor: Executor,
        make_spec: Callable[[Place], ProcessSpec],
        packer: Packer,
        devices: Devices,
        failures: Failures,
    ) -> None:
        self._course, self._executor, self._failures = course, executor, failures
        self._make_spec, self._packer, self._devices = make_spec, packer, devices
        self._specs: dict[str, ProcessSpec] = {}
        self._running: dict[TaskKey, Attempt] = {}
        self._is_ready, self._broken = False, ""
        self._waiting: list[tuple[Decision, AttemptSpec]] = []

    def begin(self, decision: Decision, number: int, right: Right | None) -> None:
        """Begin an attempt at a task; `right` is let go of when it ends."""
        course, task = self._course, decision.task
        gpus: tuple[str, ...] = ()
        try:
            resources = course.decider.evaluator.resources(decision, number)
            process = self._spec(decision.place)
            failed_as = course.decider.evaluator.failed_as(decision, number)
            gpus = self._devices.take(resources.gpus)
            spec = attempt_spec(
                decision, process, number, resources, course.rows, self._packer, failed_as, gpus
            )
            if course.rows is not None:
                course.rows.append(course.rows.lists(decision))
        except Exception as error:
            if right is not None:
                right.release()
            self._devices.give(gpus)
            course.inbox.tell(AttemptStarted(task))
            self._failures.fail(decision, number, None, f"{type(error).__name__}: {error}")
            return
        self._running[task] = Attempt(spec.id, number, right, gpus)
        self._submit(decision, spec)

    def kill(self, task: TaskKey) -> None:
        """End the attempt at a task, if there is one."""
        attempt = self._running.get(task)
        if attempt is not None:
            self._executor.kill(attempt.id, "the run is ending")

    def break_off(self) -> None:
        """Let go of all that still run: nobody waits for their ends."""
        for task, attempt in list(self._running.items()):
            self._executor.kill(attempt.id, "the run broke off")
            self._let_go(task)

    def _spec(self, place: Place) -> ProcessSpec:
        """Return what the attempts of a process share; told to the executor at the first need."""
        if place.key not in self._specs:
            spec = self._make_spec(place)
            self._executor.prepare(spec)  # where that fails, the next task tries again
            self._specs[place.key] = spec
        return self._specs[place.key]

    def _submit(self, decision: Decision, spec: AttemptSpec) -> None:
        """Hand an attempt over; the executor is started at the first one, so that a run of hits
        starts no process at all."""
        course, task = self._course, decision.task
        if not self._is_ready:
            self._waiting.append((decision, spec))
            if len(self._waiting) == 1:
                course.errands.send(self._get_ready())
            return
        if task in course.killed:
            self._let_go(task)
            course.inbox.tell(AttemptAborted(task))
            return
        if self._broken:
            number = self._running[task].number
            self._let_go(task)
            self._failures.fail(decision, number, None, self._broken)
            return
        run, live = course.run, Shown()
        run.live_shown[task] = live

        def show(chunks: Sequence[ShownChunk]) -> None:
            for chunk in chunks:
                live.add(chunk)
            if decision.place.talks:
                run.talk.hear(task, decision.label, chunks)

        def started() -> None:
            run.at_work[task] = AtWork(decision.label, spec.attempt, time.time(), spec.row)
            course.begun.add(task)
            course.retrying.pop(task, None)
            course.inbox.tell(AttemptStarted(task))

        future = self._executor.submit(spec, started=started, shown=show)

        def ended(done: asyncio.Future[AttemptReport]) -> None:
            try:
                self._ended(decision, done)
            except BaseException as error:  # the loop would only log it, and the task never end
                course.inbox.break_off(error)

        future.add_done_callback(ended)

    async def _get_ready(self) -> None:
        root, reason = self._course.cache.root, self._course.cache.read_only
        try:
            if reason is not None:
                raise read_only_error(root, reason)
            await self._executor.start()
        except CannotKeepError as error:
            self._broken, self._failures.keeps_nothing = str(error), True
        except Exception as error:
            if isinstance(error, OSError) and is_full(error):
                error, self._failures.keeps_nothing = full_disk_error(root, "a result"), True
            self._broken = f"no worker can be started: {type(error).__name__}: {error}"
        self._is_ready = True
        for decision, spec in self._waiting:
            self._submit(decision, spec)
        self._waiting.clear()

    def _ended(self, decision: Decision, done: asyncio.Future[AttemptReport]) -> None:
        course, task = self._course, decision.task
        if task not in self._running:
            return  # the run broke off: nobody waits for its end
        course.run.talk.end(task, decision.label)
        number = self._running[task].number
        if done.cancelled():  # the kernel is ending: nothing has failed
            self._let_go(task)
            course.inbox.tell(CancelRequested())
            course.inbox.tell(AttemptAborted(task))
            return
        if done.exception() is not None:
            self._let_go(task)
            self._failures.fail(decision, number, None, repr(done.exception()))
            return
        report = done.result()
        counts = report.outcome == "completed" and report.row is not None and not report.changed
        self._let_go(task, report.row.id if counts and report.row is not None else None)
        producer = None if report.missing is None else course.recalled(report.missing)
        if producer is not None:
            course.inbox.tell(InputRecalled(task, (producer,)))
        elif report.outcome == "completed":
            self._succeed(decision, report)
        elif report.outcome == "aborted":
            course.note_row(task, report)
            course.inbox.tell(AttemptAborted(task))
        else:
            self._failures.fail(decision, number, report, report.error or "failed")

    def _let_go(self, task: TaskKey, row: str | None = None) -> None:
        """Free what an attempt held; `row` is its result."""
        self._course.run.at_work.pop(task, None)
        attempt = self._running.pop(task, None)
        if attempt is not None:
            self._devices.give(attempt.gpus)
        if attempt is not None and attempt.right is not None:
            attempt.right.release(row)

    def _succeed(self, decision: Decision, report: AttemptReport) -> None:
        course, task, name = self._course, decision.task, decision.place.name
        course.note_row(task, report)
        item = course.decider.item(decision, report.outputs)
        if item is None:
            self._failures.fail(decision, 1, report, decision.reason)
            return
        if report.row is not None and report.row.realtime is not None:
            is_light = course.pace.note(name, report.row.realtime)
            if is_light is not None:
                course.scheduler.light(name, is_light)
        reads = undeclared(decision, self._spec(decision.place).folder, report.watched)
        for text in read_notes(name, decision.place.decl, reads):
            course.run.note(text)
        if settings := decision.place.captured.settings:
            for text in unset_notes(name, settings, report.watched):
                course.run.note(text)
        for each in set(report.overlooked) - course.overlooked:
            course.overlooked.add(each)
            course.run.note(overlooked_note(each))
        for each in report.changed:
            course.run.note(changed_note(decision, each))
        decision.outputs = item
        course.inbox.tell(AttemptSucceeded(task, item))
