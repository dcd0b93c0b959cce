"""How far a run is: counts, items, the time that is left; read off at intervals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from nbcache.engine.running.course import Course
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
        run.left_s = self._time_left(places)
        drawn = {edge.node for edge in run.outline.edges}
        run.update(places, {node: self._course.scheduler.items(node) for node in drawn})
        self._tell(places, run.left_s)

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
        """Estimate from the mean time of this run's tasks and how many run side by side."""
        left = 0.0
        for place in places:
            active = sum(place.counts.get(name, 0) for name in ("pending", "ready", "running"))
            if not active:
                continue
            mean = self._course.pace.mean_s(place.name)
            if mean is None:
                return None
            left += active * mean
        running = sum(place.counts.get("running", 0) for place in places)
        return left / max(1, running) if left else None
