"""All that the report of a run tells, read from the log in one go. Reads only."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nbcache.engine.record import history, task_log
from nbcache.engine.record.finding import inputs_of
from nbcache.engine.record.history import ProcessOutcomes, RunSummary
from nbcache.engine.record.query import fetch
from nbcache.engine.record.results import label_at, task_label
from nbcache.model.fingerprint import Component
from nbcache.model.ids import parse_position
from nbcache.model.row import AttemptRow
from nbcache.model.task import Outcome
from nbcache.plan.identity.fingerprint import of_tasks
from nbcache.store.cache import Cache
from nbcache.store.history import reading

FAILURES = 500  # looked at one by one
TASKS = 10_000  # in the table; failed ones first, then those that ran
_LOG_LINES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """A task of the run, as in the view `tasks`: times in UTC, durations seconds, sizes bytes."""

    id: str  # of the attempt that made its result
    process: str
    position: str
    tag: str | None
    status: str
    attempt: int | None
    short: str
    exit: int | None
    start: datetime | None
    duration: float | None
    realtime: float | None
    cpu_percent: float | None
    peak_rss: int | None
    rchar: int | None
    wchar: int | None
    cpus: int | None
    memory: int | None
    host: str | None
    reason: str | None
    error: str | None
    cached_from_run: str | None
    label: str = ""  # how people call it


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An attempt of the run on the clock: seconds since the run began."""

    process: str
    label: str
    status: str
    attempt: int
    submitted: float
    started: float
    ended: float
    peak_rss: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task that failed, with the end of what it printed."""

    row: AttemptRow
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run as its report tells it. `left_out` counts tasks that the table has no room for."""

    run: RunSummary
    made: datetime
    processes: tuple[ProcessOutcomes, ...]
    tasks: tuple[TaskLine, ...]
    left_out: int
    measured: Mapping[str, Sequence[TaskLine]]  # by process, those that ran in this run
    bars: tuple[Bar, ...]
    failures: tuple[Failure, ...]
    failed: int
    untold: int  # failures that `failures` has no room for
    reasons: tuple[tuple[str, str, int], ...]  # process, reason, tasks
    components: Mapping[str, tuple[Component, ...]]
    run_names: Mapping[str, str]
    clock_s: float  # how long the bars' axis is

    @property
    def counts(self) -> Mapping[str, int]:
        """Tasks by status."""
        found = Counter[str]()
        for process in self.processes:
            found.update(process.counts)
        return found

    @property
    def equal(self) -> int:
        """Of those cached, how many took what an equal task of this run had made."""
        return sum(process.equal for process in self.processes)


def report_of(cache: Cache, word: str | None = None) -> RunReport:
    """Return what the report of a run tells; `word` as in `find_run`.

    Raises:
        RunError: there is no such run.
    """
    detail = history.show_run(cache, word)
    run = detail.run
    tasks = _tasks(cache, run.id)
    measured: dict[str, list[TaskLine]] = {}
    for task in tasks:
        if task.cached_from_run is None and task.realtime is not None:
            measured.setdefault(task.process, []).append(task)
    labels = _labels(cache, sorted(tasks, key=_place_in_table)[:TASKS])
    shown = [
        dataclasses.replace(task, label=labels[task.process, task.position])
        for task in tasks
        if (task.process, task.position) in labels
    ]
    bars = _bars(cache, run, labels)
    return RunReport(
        run=run,
        made=datetime.now(UTC),
        processes=detail.processes,
        tasks=tuple(shown),
        left_out=len(tasks) - len(shown),
        measured=measured,
        bars=bars,
        failures=_failures(cache, run.id, detail.failures[:FAILURES]),
        failed=sum(each.counts.get(Outcome.FAILED.value, 0) for each in detail.processes),
        untold=max(0, len(detail.failures) - FAILURES),
        reasons=tuple(
            fetch(
                cache,
                "SELECT process, reason, count(*) FROM tasks WHERE run = ? AND reason <> ''"
                " GROUP BY ALL ORDER BY process, count(*) DESC",
                [run.id],
                runs=[run.id],
            )
        ),
        components={each.name: of_tasks(each.components) for each in run.processes},
        run_names={each.id: each.name for each in history.runs(cache)},
        clock_s=max([0.001, *(bar.ended for bar in bars)]),
    )


def _place_in_table(task: TaskLine) -> tuple[bool, bool]:
    return task.status not in ("FAILED", "IGNORED"), task.cached_from_run is not None


def _tasks(cache: Cache, run: str) -> list[TaskLine]:
    names = [each.name for each in dataclasses.fields(TaskLine) if each.name != "label"]
    columns = ", ".join(f't."{name}"' for name in names)
    query = f"SELECT {columns} FROM tasks t WHERE run = ? ORDER BY t.process, {task_log.IN_ORDER}"
    rows = fetch(cache, query, [run], runs=[run])
    return [TaskLine(**dict(zip(names, row, strict=True))) for row in rows]


def _labels(cache: Cache, tasks: Sequence[TaskLine]) -> dict[tuple[str, str], str]:
    """Return how people call these tasks, by process and position."""
    with reading(cache) as cursor:
        inputs = inputs_of(cursor, {task.id for task in tasks})
    return {
        (task.process, task.position): task_label(
            task.process, inputs.get(task.id, {}), parse_position(task.position), task.tag or ""
        )
        for task in tasks
    }


def _bars(cache: Cache, run: RunSummary, labels: Mapping[tuple[str, str], str]) -> tuple[Bar, ...]:
    """The attempts that ran, by when they began."""
    rows = fetch(
        cache,
        "SELECT process, position, tag, status, attempt, epoch(submit), epoch(start),"
        " epoch(complete), peak_rss FROM attempts"
        " WHERE run = ? AND start IS NOT NULL AND complete IS NOT NULL ORDER BY start",
        [run.id],
        runs=[run.id],
    )
    began = min([run.started / 1e6, *(row[5] or row[6] for row in rows)])
    bars = []
    for process, position, tag, status, attempt, submitted, started, ended, peak in rows:
        bars.append(
            Bar(
                process=process,
                label=labels.get((process, position)) or label_at(process, tag or position),
                status=status,
                attempt=attempt,
                submitted=(submitted or started) - began,
                started=started - began,
                ended=max(started, ended) - began,
                peak_rss=peak,
            )
        )
    return tuple(bars)


def _failures(cache: Cache, run: str, rows: Sequence[AttemptRow]) -> tuple[Failure, ...]:
    if not rows:
        return ()
    fields = ("process", "position", "log")
    printed = {
        (process, position): "\n".join(str(log).rstrip("\n").split("\n")[-_LOG_LINES:])
        for status in {row.status for row in rows}
        for process, position, log in task_log.log_rows(cache, [run], fields=fields, status=status)
    }
    return tuple(Failure(row=row, log=printed.get((row.process, row.position), "")) for row in rows)
