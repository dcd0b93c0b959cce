"""Drive one run: obey the scheduler's commands, feed back what happened.

Runs on the engine's loop. It decides nothing about order or states (the scheduler does) and shows
nothing (the front does). Each kind of command is performed by a part of its own: `Deciding`,
`Starting`, `Attempts`, `Applying`, `Announcer`; what these share is the `Course` of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from nbcache.engine.declared.operating import call_operator
from nbcache.engine.executors.protocol import Executor
from nbcache.engine.running.announcing import Announcer
from nbcache.engine.running.attempts import Attempts
from nbcache.engine.running.claiming import SharedClaims
from nbcache.engine.running.course import Course
from nbcache.engine.running.deciding import Deciding
from nbcache.engine.running.decision import Place
from nbcache.engine.running.devices import Devices
from nbcache.engine.running.failing import Failures
from nbcache.engine.running.gauge import Gauge
from nbcache.engine.running.prepare import of_channel
from nbcache.engine.running.publish import Publisher
from nbcache.engine.running.reasons import Reasons
from nbcache.engine.running.specs import Packer
from nbcache.engine.running.starting import Starting
from nbcache.engine.spec import ProcessSpec
from nbcache.errors import NbcacheError
from nbcache.model.command import Apply, Command, Decide, End, Kill, Load, Report, Start, Wait
from nbcache.model.event import (
    Applied,
    CancelRequested,
    ChannelFailed,
    Event,
    RetryDue,
    SourceLoaded,
    TaskKey,
)
from nbcache.model.task import RunStatus

SLICE_S = 0.01  # how long the loop may be held before others on it get their turn
STARTS = 64  # at most, between two looks at what other processes did


class Driver:
    """Drives one run to its end; `drive` returns when the scheduler says so."""

    def __init__(
        self,
        course: Course,
        executor: Executor,
        make_spec: Callable[[Place], ProcessSpec],
        packer: Packer,
        devices: Devices,
        *,
        reasons: Reasons | None,
        publisher: Publisher,
        claims: SharedClaims | None,
    ) -> None:
        """`reasons`: who says why a task runs; `claims`: those on the shared cache."""
        self._course = course
        self._gauge = Gauge(course) if claims is None else Gauge(course, claims.say)
        self._deciding = Deciding(course, reasons)
        self._failures = Failures(course)
        self._applying = Applying(course, self._failures)
        self._attempts = Attempts(course, executor, make_spec, packer, devices, self._failures)
        self._starting = Starting(course, self._attempts, self._failures, claims)
        self._announcer = Announcer(course, publisher, self._failures)

    async def drive(self) -> RunStatus:
        """Perform commands until the run ends; returns how it ended."""
        course = self._course
        course.run.steered_by(self)
        commands: deque[Command] = deque(course.scheduler.start())
        status: RunStatus | None = None
        try:
            while status is None:
                status = self._perform_some(commands)
                if status is not None:
                    break
                events = course.inbox.take()
                if events:
                    commands.extend(course.scheduler.handle_many(events))
                    await asyncio.sleep(0)
                elif not commands:
                    self._gauge.show()
                    await course.inbox.wait()
                self._gauge.show()
            status = await self._announcer.finish(status)
        except BaseException:
            self._announcer.break_off()
            raise
        finally:
            self._close()
        return status

    def _perform_some(self, commands: deque[Command]) -> RunStatus | None:
        """Perform commands for one time slice; rows of hits are appended before they count."""
        until = time.monotonic() + SLICE_S
        applies: list[Apply] = []
        reports: list[Report] = []
        starts: list[Start] = []
        status = None
        while commands:
            command = commands.popleft()
            kind = type(command)
            if kind is Decide:
                self._deciding.decide(command)  # type: ignore[arg-type]
            elif kind is Report:
                reports.append(command)  # type: ignore[arg-type]
            elif kind is Start:
                starts.append(command)  # type: ignore[arg-type]
            elif kind is Apply:
                applies.append(command)  # type: ignore[arg-type]
            elif kind is End:
                assert isinstance(command, End)
                status = command.status
            else:
                self._perform_rare(command)
            if time.monotonic() > until or len(starts) >= STARTS:
                break
        if starts:
            self._starting.start(starts)
        if applies:
            self._applying.apply(applies)
        if reports:
            self._announcer.report(reports)
        return status

    def _perform_rare(self, command: Command) -> None:
        inbox = self._course.inbox
        if isinstance(command, Load):
            inbox.tell(SourceLoaded(command.node, self._course.sources[command.node]))
        elif isinstance(command, Wait):
            inbox.tell_later(command.after_s, RetryDue(command.task))
        elif isinstance(command, Kill):
            self._course.killed.add(command.task)
            self._attempts.kill(command.task)

    def _close(self) -> None:
        """Leave what the run's reader asks for later, and let go of everything else."""
        course, scheduler = self._course, self._course.scheduler
        with contextlib.ExitStack() as steps:  # upwards, each of them whatever another raises
            steps.callback(self._starting.close)
            steps.callback(self._gauge.show, final=True)  # also to those who wait for claims
            steps.callback(self._attempts.break_off)  # there are some only where the run broke off
            steps.callback(course.errands.recall)
            steps.callback(self._deciding.settle)
            steps.callback(self._deciding.close)
            steps.callback(self._applying.close)
            if scheduler.gave_up:
                course.run.note(scheduler.gave_up)
            for node, error in scheduler.channel_errors[:1]:
                course.run.fault = self._channel_error(node, error)
            course.run.keep_channels(scheduler.elements, scheduler.lacks)
            course.run.handed_on = tuple(course.decider.handed_on(scheduler.elements))

    def _channel_error(self, node: int, error: BaseException) -> str:
        label = self._course.graph.nodes[node].name or self._course.graph.nodes[node].label
        if isinstance(error, NbcacheError):
            return of_channel(label, str(error))
        return f"channel {label}: {type(error).__name__}: {error}"

    def cancel(self) -> None:
        """Ask for an orderly end; from any thread."""
        self._course.inbox.tell_from_afar(CancelRequested())  # before an input is missing
        self._course.decider.downloads.end()


class Applying:
    """Calls the operator functions of one run, on one thread, one at a time and in order."""

    def __init__(self, course: Course, failures: Failures) -> None:
        self._course, self._failures = course, failures
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nbcache-operators")

    def apply(self, commands: Sequence[Apply]) -> None:
        """Call what is asked for; all answers come together."""
        self._thread.submit(self._apply, commands)

    def close(self) -> None:
        """Call nothing more; nobody waits for what has begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _apply(self, commands: Sequence[Apply]) -> None:
        events: list[Event] = []
        for command in commands:
            try:
                events.append(Applied(command.call, self._call(command)))
            except BaseException as error:
                events.append(ChannelFailed(command.node, error))
        self._course.inbox.tell_from_afar(*events)

    def _call(self, command: Apply) -> object:
        course = self._course
        if command.role == "failure":
            return self._failures.item(cast(TaskKey, command.args[0]))
        return call_operator(course.graph.nodes[command.node], command.args, course.decoder.value)
