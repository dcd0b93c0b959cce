"""Events on their way to one run's scheduler, from the engine's loop and from other threads, and
what the run has to wait for meanwhile: a claim, a download, the first worker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable

from nbcache.model.event import Event


class Inbox:
    """Keeps events in the order in which they came, until the driver takes them.

    Belongs to the loop on which it was made.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._error: BaseException | None = None

    def tell(self, event: Event) -> None:
        """Take an event; on the loop's thread only."""
        self._events.append(event)
        self._filled.set()

    def tell_all(self, events: Iterable[Event]) -> None:
        """Take events, in order; on the loop's thread only."""
        self._events.extend(events)
        self._filled.set()

    def tell_later(self, after_s: float, event: Event) -> None:
        """Take an event when so many seconds have gone by; on the loop's thread only."""
        self._loop.call_later(after_s, self.tell, event)

    def tell_from_afar(self, *events: Event) -> None:
        """Take events, in order; from any thread."""
        self._loop.call_soon_threadsafe(self.tell_all, events)

    def break_off(self, error: BaseException) -> None:
        """Say that something which would have told an event failed: there is nothing to wait for.
        On the loop's thread only."""
        self._error = self._error or error
        self._filled.set()

    def take(self) -> list[Event]:
        """Return what has come since the last time; may be nothing. Raises what broke it off."""
        if self._error is not None:
            raise self._error
        events = list(self._events)
        self._events.clear()
        return events

    async def wait(self) -> None:
        """Wait until there is something to take."""
        self._filled.clear()
        if not self._events and self._error is None:
            await self._filled.wait()


class Errands:
    """Coroutines that nobody awaits. They tell the run's inbox when they are done; `failed` hears
    what one of them raised instead, since whoever waits for it would wait for ever."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly

    def send(self, coroutine: Coroutine[object, object, None]) -> None:
        """Let a coroutine run beside the others; on the loop's thread only."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def recall(self) -> None:
        """Cancel those that are still out."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)
