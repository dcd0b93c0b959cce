"""Tidying after runs, when nobody waits: journals become segments, what may go is deleted.

The first time in a process it imports pyarrow, which holds the interpreter for a quarter of a
second. A run that follows at once, as in a notebook that is run from top to bottom, should not have
to share that, so it waits for a quiet moment; when the kernel ends it waits no longer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from nbcache.errors import NbcacheError

QUIET_S = 0.5


class Tidier:
    """Calls `tidy` on a thread of its own once no run has begun for a moment. On the loop only.

    What fails is done after the next run.
    """

    def __init__(self, tidy: Callable[[], None]) -> None:
        self._tidy = tidy
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Future[None] | None = None

    def run_begins(self) -> None:
        """Wait until it has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run_ends(self, *, has_written: bool) -> None:
        """Begin soon, if there is anything to tidy up."""
        self._is_due = self._is_due or has_written
        if self._is_due and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._begin)

    async def finish(self) -> None:
        """Do what is due, now, and see the end of it; also where the process gives no threads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._work is not None:
            await self._work
        if self._is_due:
            self._is_due = False
            self._perform()

    def _begin(self) -> None:
        self._timer = None
        try:
            self._work = asyncio.get_running_loop().run_in_executor(None, self._perform)
        except RuntimeError:  # the process ends and gives no threads: left to `finish`
            return
        self._is_due = False

    def _perform(self) -> None:
        with contextlib.suppress(NbcacheError, OSError):
            self._tidy()
