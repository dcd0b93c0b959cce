"""Attempts in this process and thread, one after the other: for tests and for looking closely.

The same interface and the same attempts as the local executor; only isolation is missing: a body
runs in this process, so it sees and may change its state, and nothing of it can be killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence

from nbcache.engine.executors.protocol import ShownCallback, Started
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.engine.work.attempt import run_attempt
from nbcache.engine.work.shown import Capture
from nbcache.engine.work.workplace import Workplace
from nbcache.model.row import Row
from nbcache.model.view import ShownChunk


class InlineExecutor:
    """Runs each attempt at the next turn of the loop; `append` takes the rows."""

    workers = 1

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        append: Callable[[Sequence[Row]], None] | None = None,
    ) -> None:
        self._capture = Capture(self._shown)
        self._place = Workplace(root, self._capture, isolated=False, append=append)
        self._processes: dict[str, ProcessSpec] = {}
        self._waiting: deque[
            tuple[AttemptSpec, asyncio.Future[AttemptReport], Started | None, ShownCallback | None]
        ] = deque()
        self._show: ShownCallback | None = None

    async def start(self) -> None:
        """Nothing to get ready."""

    async def close(self) -> None:
        """Drop what waits."""
        for _, future, _, _ in self._waiting:
            future.cancel()
        self._waiting.clear()
        here = os.getcwd()
        self._place.close()
        os.chdir(here)

    def prepare(self, process: ProcessSpec) -> None:
        """Take what the attempts of a process share."""
        self._processes[process.key] = process

    def forget(self, key: str) -> None:
        """Let go of a process."""
        self._processes.pop(key, None)
        self._place.forget(key)

    def submit(
        self,
        spec: AttemptSpec,
        *,
        started: Started | None = None,
        shown: ShownCallback | None = None,
    ) -> asyncio.Future[AttemptReport]:
        """Queue an attempt."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AttemptReport] = loop.create_future()
        self._waiting.append((spec, future, started, shown))
        loop.call_soon(self._run_next)
        return future

    def kill(self, attempt: str, reason: str) -> None:
        """Take an attempt that waits out of the queue; a running one cannot be ended."""
        for entry in list(self._waiting):
            if entry[0].id == attempt:
                self._waiting.remove(entry)
                report = AttemptReport(id=attempt, outcome="aborted", error=f"aborted: {reason}")
                entry[1].set_result(report)

    def rotate(self) -> None:
        """Let go of the journal."""
        self._place.journal.rotate()

    def _run_next(self) -> None:
        if not self._waiting:
            return
        spec, future, started, self._show = self._waiting.popleft()
        if started is not None:
            started()
        report = self._run(spec)
        if not future.done():
            future.set_result(report)

    def _run(self, spec: AttemptSpec) -> AttemptReport:
        before = os.getcwd(), sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._capture.stdout, self._capture.stderr
        try:
            return run_attempt(spec, self._processes[spec.process], self._place)
        finally:
            sys.stdout, sys.stderr = before[1:]
            os.chdir(before[0])

    def _shown(self, chunks: list[ShownChunk]) -> None:
        if self._show is not None:
            self._show(chunks)
