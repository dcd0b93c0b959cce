"""What is said of an attempt whose worker died: by which signal, where it was, whether it had
finished. Reads the traceback that `faulthandler` wrote and the journals; writes the row that the
worker could not write.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbcache.engine.executors.handle import Running
from nbcache.engine.spec import AttemptReport, ProcessSpec, ended_columns, finished_row
from nbcache.engine.work.attempt import store_shown
from nbcache.engine.work.harvest import from_ports
from nbcache.engine.work.python_body import error_line
from nbcache.engine.work.reentry import leave_way_back
from nbcache.engine.work.script_body import signal_name
from nbcache.engine.work.shown import told_by_cells
from nbcache.engine.work.workplace import keep_folder
from nbcache.errors import StoreError
from nbcache.model.row import AttemptRow, Row
from nbcache.model.value import Stored
from nbcache.store.cache import Cache
from nbcache.store.files import deleted_error

_MEANING = {
    "SIGSEGV": "segmentation fault in C code",
    "SIGKILL": "killed from outside, possibly because memory ran out",
    "SIGABRT": "aborted by C code",
    "SIGBUS": "bus error: a mapped file was cut, or memory ran out",
    "SIGFPE": "arithmetic fault in C code",
    "SIGILL": "illegal instruction: a library built for another processor",
    "SIGTERM": "asked to end from outside",
}


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended: exit code or signal, and the traceback it left."""

    exit: int | None
    signal: str | None
    trace: str
    cause: str = ""

    def error(self, reason: str | None, aborted: bool) -> str:
        """Return one line; `reason` is why the executor killed it, if it did."""
        if reason is not None:
            return why_killed(reason, aborted)
        if self.cause:
            return f"the worker was lost: {self.cause}"
        if self.signal is not None:
            meaning = _MEANING.get(self.signal, "")
            return f"the worker died of {self.signal}" + (f" ({meaning})" if meaning else "")
        return f"the worker ended with exit code {self.exit} in the middle of the task"

    def traceback(self, error: str, process: ProcessSpec) -> str:
        """Return the traceback, innermost call first, as faulthandler writes it.

        It ends where the body began: the frames of the worker say nothing to a user.
        """
        lines = self.trace.rstrip().split("\n")
        body = [n for n, line in enumerate(lines) if f'File "{process.filename}"' in line]
        if not body:
            return error
        return told_by_cells("\n".join([*lines[: body[-1] + 1], error, ""]), process.cells)

    def where(self, process: ProcessSpec) -> tuple[int, str] | None:
        """Return the line of the body that was running, and its text."""
        pattern = rf'File "{re.escape(process.filename)}", line (\d+)'
        found = re.search(pattern, self.trace)
        if found is None:
            return None
        line = int(found[1])
        lines = process.sources.get(process.filename, "").splitlines()
        if not lines:
            lines = [""] * (process.body_line - 1) + process.body.splitlines()
        return line, lines[line - 1] if 0 < line <= len(lines) else ""


def why_killed(reason: str, aborted: bool) -> str:
    """Return what is said of an attempt that the executor ended."""
    return f"aborted: {reason}" if aborted else f"killed: {reason}"


def describe_death(status: int, crash: str) -> Death:
    """Return how a worker ended, from the status that waitpid gave and its crash file."""
    code = os.waitstatus_to_exitcode(status)
    trace = ""
    with contextlib.suppress(OSError):
        with open(crash, encoding="utf-8", errors="replace") as file:
            trace = file.read()
        os.unlink(crash)
    if code < 0:
        return Death(None, signal_name(-code), trace)
    return Death(code, None, trace)


class Losses:
    """Reports attempts whose worker died; `append` writes the rows that these could not write."""

    def __init__(self, cache: Cache, append: Callable[[Sequence[Row]], None]) -> None:
        self._cache, self._append = cache, append

    def report(self, running: Running, pid: int | None, death: Death) -> AttemptReport:
        """Return the report of an attempt, after looking whether its row is there.

        Never raises: an attempt ends, whatever has become of its cache.

        pid: of the worker; None for an attempt that was never given to one.
        """
        try:
            return self._report(running, pid, death)
        except Exception as error:
            return self._of_death(running, death, besides=error)

    def _report(self, running: Running, pid: int | None, death: Death) -> AttemptReport:
        spec = running.spec
        row = self._cache.log.find_attempt(spec.row.id) if spec.row is not None and pid else None
        workdir = keep_folder(self._cache.work, pid, spec.id)
        if row is not None and row.status == "completed":
            return AttemptReport(
                id=spec.id,
                outcome="completed",
                row=row,
                outputs=from_ports(row.outputs),
                watched=row.watched,
            )
        report = self._of_death(running, death)
        report.workdir = workdir
        if workdir is not None:
            printed = running.shown.text()
            leave_way_back(Path(workdir), running.process, spec, printed, death.exit)
        if row is None and spec.row is not None and running.begun:
            row = self._keep_row(running, report)
        report.row = row
        return report

    def _of_death(
        self, running: Running, death: Death, besides: Exception | None = None
    ) -> AttemptReport:
        """Return the report of a death, and of what else went wrong."""
        error = death.error(running.reason, running.aborted)
        is_deleted = not self._cache.is_there()
        if is_deleted:  # then no worker begins
            error = f"{error}: {deleted_error(self._cache.root)}"
        elif besides is not None:
            error = f"{error}; and {error_line(besides)}"
        return AttemptReport(
            id=running.spec.id,
            outcome="aborted" if running.aborted else "failed",
            error=error,
            traceback=death.traceback(error, running.process),
            where=death.where(running.process),
            exit=death.exit,
            signal=death.signal,
            unkept=is_deleted,
        )

    def _keep_row(self, running: Running, report: AttemptReport) -> AttemptRow:
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


def lost_row(
    row: AttemptRow,
    status: str,
    report: AttemptReport,
    begun_us: int,
    peak: int,
    shown: Stored | None,
) -> AttemptRow:
    """Return the row of an attempt whose worker died, as far as is known from outside.

    peak: the most bytes that its process tree was seen to hold, 0 where nobody looked.
    """
    known = ended_columns(row, report, status, begun_us * 1000)
    return finished_row(row, {**known, "peak_rss": peak or None, "shown": shown})
