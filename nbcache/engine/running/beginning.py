"""How a session of a run begins: which run it is, as what, and what it did in earlier sessions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from nbcache.engine.record.holding import hold_run
from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.record.task_ends import OUTCOME, End, last_rows
from nbcache.errors import RunError
from nbcache.model.ids import RunId, is_ulid, make_ulid, run_name
from nbcache.model.row import AttemptRow, RunRow, UseRow
from nbcache.model.run_options import RunOptions
from nbcache.model.task import Outcome
from nbcache.store.cache import Cache
from nbcache.store.claims import Claim
from nbcache.store.files import new_ulid

_AHEAD_MS = 366 * 24 * 3_600_000
_named: deque[str] = deque(maxlen=64)  # the names of this process's last runs, where none recurs


def new_run(cache: Cache) -> RunId:
    """Return the id of a new run: it sorts behind those that the cache has, also where the clock
    has gone back since, and is called unlike the last ones here."""
    now = time.time_ns() // 1_000_000
    # Most often nothing is later than now, and no segment is read. But where a run is, those after
    # it have later ids and rows of now.
    latest = _latest_run(cache, now, now) and _latest_run(cache, now, 0)
    run = RunId(new_ulid(after=latest))
    while run_name(run) in _named:
        run = RunId(new_ulid(after=latest))
    _named.append(run_name(run))
    return run


def _latest_run(cache: Cache, now_ms: int, since_ms: int) -> str:
    """Return the latest run of later than now that rows since then are of, "" where there is none.

    What is no id of a run, or years ahead, is somebody else's mistake, and none of ours follows.
    """
    rows = rare_rows(cache.log, RunRow, readable=True, since_ms=since_ms)
    bounds = make_ulid(now_ms, bytes(10)), make_ulid(now_ms + _AHEAD_MS, bytes(10))
    runs = (row.run for row in rows if bounds[0] < row.run < bounds[1] and is_ulid(row.run))
    return max(runs, default="")


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a run did in its earlier sessions, by (process, position) of each of its tasks."""

    attempts: Mapping[tuple[str, str], int] = field(default_factory=dict)  # the highest number
    made: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # completed rows
    last: Mapping[tuple[str, str], End] = field(default_factory=dict)  # of those that it still has

    @classmethod
    def of(cls, cache: Cache, run: str) -> Earlier:
        """Read it from the run's rows, once: each session adds one per task."""
        attempts: dict[tuple[str, str], int] = {}
        made: dict[tuple[str, str], frozenset[str]] = {}

        def note(row: AttemptRow | UseRow) -> None:
            key = (row.process, row.position)
            attempts[key] = max(row.attempt, attempts.get(key, 0))
            if isinstance(row, AttemptRow) and row.status == Outcome.COMPLETED.value:
                made[key] = made.get(key, frozenset()) | {row.id}

        last = last_rows(cache, run, columns=OUTCOME, note=note)
        return cls(attempts, made, {key: End.told_by(row) for key, row in last.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """One session of a run. `hold` is the right to drive it (None: it leaves no rows)."""

    run: RunId
    name: str
    options: RunOptions
    targets: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    retention: str = ""
    session: int = 1
    hold: Claim | None
    earlier: Earlier = Earlier()

    @classmethod
    def new(
        cls,
        cache: Cache,
        options: RunOptions,
        targets: tuple[str, ...],
        parameters: Mapping[str, str],
        parent: str | None,
        retention: str,
        *,
        kept: bool,
    ) -> Beginning:
        """Return the first session of a new run; `kept`: it leaves rows."""
        run = new_run(cache)
        hold = hold_run(cache, run) if kept else None
        if kept and hold is None:
            raise RunError(f"run {run} is held by somebody else")
        return cls(
            run=run,
            name=run_name(run),
            options=options,
            targets=targets,
            parameters=parameters,
            parent=parent,
            retention=retention,
            hold=hold,
        )
