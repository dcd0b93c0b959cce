"""Cached cells in the history: a run per kernel, of which each cell that ran is a session."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

from nbcache.engine.record.history import CELL
from nbcache.engine.running.beginning import new_run
from nbcache.engine.running.rows import now_us
from nbcache.engine.session import Session
from nbcache.model.ids import RunId, run_name
from nbcache.model.row import AttemptRow, ProcessRecord, RunRow, UseRow
from nbcache.model.task import Outcome, RunStatus
from nbcache.plan.language.cell import CachedCell
from nbcache.store.files import new_ulid


@dataclass
class _Run:
    """What the next row of the run says of it."""

    id: RunId
    processes: dict[str, ProcessRecord] = field(default_factory=dict)
    session: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    saved: float = 0.0


class CellHistory:
    """Writes the rows of cached cells. A kernel has one run in each cache that it uses."""

    def __init__(self, session: Session, user: str) -> None:
        self._session, self._user = session, user
        self._runs: dict[str, _Run] = {}  # by cache

    def next_session(self) -> tuple[str, int]:
        """Return the run's id and the number of its next session, which a row is to bear."""
        run = self._of_this_cache()
        run.session += 1
        return run.id, run.session

    def append(
        self,
        row: AttemptRow | UseRow,
        cell: CachedCell,
        outcome: Outcome,
        *,
        saved_s: float = 0.0,
    ) -> None:
        """Write the row of a cell, and how the run stands with it.

        Raises:
            StoreError: the cache is read-only or the disk full; nothing was kept.
        """
        run = self._of_this_cache()
        run.saved += saved_s
        run.counts[outcome.value] = run.counts.get(outcome.value, 0) + 1
        record = ProcessRecord(
            name=cell.name,
            components=(),
            source=cell.decl.source,
            cell=cell.decl.cell,
            language=CELL,
            outputs=cell.names,
        )
        is_new = run.processes.get(cell.name) != record
        run.processes[cell.name] = record
        status = RunRow(
            id=new_ulid(),
            at=now_us(),
            run=run.id,
            session=run.session,
            name=run_name(run.id),
            status=RunStatus.SUCCEEDED.value,
            notebook=self._session.notebook,
            processes=tuple(run.processes.values()) if is_new else (),
            counts=dict(run.counts),
            saved=run.saved,
            host=socket.gethostname(),
            user=self._user,
            pid=os.getpid(),
            retention=self._session.retention,
        )
        self._session.cache.log.append([row, status])

    def _of_this_cache(self) -> _Run:
        cache = self._session.cache
        if cache.id not in self._runs:
            self._runs[cache.id] = _Run(new_run(cache))
        return self._runs[cache.id]
