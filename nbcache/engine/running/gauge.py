"""How far a run is: counts, items, the time that is left; read off at intervals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from nbcache.engine.running.course import Course
from nbcache.engine.running.pace import left_to_run
from nbcache.model.channel import upstream_of
from nbcache.model.view import PlaceProgress

SNAPSHOT_S = 0.08


class Gauge:
    """Keeps the user's `Run` up to date. On the engine's loop."""

    def __init__(
        self,
        course: Course,
        tell: Callable[[Sequence[PlaceProgress], float | None], None] = lambda *_: None,
    ) -> None:
        """`tell`: is told the same as the user, for those who wait elsewhere."""
        self._course, self._tell = course, tell
        self._loop = asyncio.get_running_loop()
        self._read_at = 0.0
        self._due: asyncio.TimerHandle | None = None
        self._began: float | None = None  # when the first attempt did, in seconds since 1970

    def show(self, *, final: bool = False) -> None:
        """Update what the run shows, unless that was done just now: then a little later."""
        now = time.monotonic()
        if not final and now - self._read_at <= SNAPSHOT_S:
            if self._due is None:
                self._due = self._loop.call_later(SNAPSHOT_S, self._show_late)
            return
        self._read_at = now
        if self._due is not None:
            self._due.cancel()
            self._due = None
        run, places = self._course.run, self._places()
        left_s = self._time_left(places)
        run.ends_at = None if left_s is None else now + left_s
        drawn = {edge.node for edge in run.outline.edges}
        run.update(places, {node: self._course.scheduler.items(node) for node in drawn})
        self._tell(places, left_s)

    def _show_late(self) -> None:
        self._due = None
        self.show(final=True)

    def _places(self) -> tuple[PlaceProgress, ...]:
        """Return the counts of all processes."""
        graph, scheduler, run = self._course.graph, self._course.scheduler, self._course.run
        equal = run.equal_tasks()
        return tuple(
            PlaceProgress(
                name=name,
                upstream=upstream_of(graph, index),
                counts=dict(scheduler.counts(name)),
                expected=scheduler.expected(name),
                equal=equal[index],
                reason=run.reasons.get(name, ""),
            )
            for name, index in graph.places.items()
        )

    def _time_left(self, places: Sequence[PlaceProgress]) -> float | None:
        """Estimate how long the run still goes, None where nothing tells."""
        run, now = self._course.run, time.time()
        at_work = list(run.at_work.items())
        if self._began is None and at_work:
            self._began = min(each.since for _, each in at_work)
        if self._began is None:
            return None
        names = {index: name for name, index in run.graph.places.items()}
        begun = [
            (names[key[0]], max(0.0, now - each.since)) for key, each in at_work if key[0] in names
        ]
        left = {place.name: left_to_run(place) for place in places}
        return self._course.pace.left_s(left, begun, now - self._began)
