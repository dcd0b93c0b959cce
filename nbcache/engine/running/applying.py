"""Answer the scheduler's `Apply`: call the functions that people gave to operators."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from nbcache.engine.declared.operating import call_operator
from nbcache.engine.running.course import Course
from nbcache.engine.running.failing import Failures
from nbcache.model.command import Apply
from nbcache.model.event import Applied, ChannelFailed, Event, TaskKey


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
