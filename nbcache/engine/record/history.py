"""Answers from the log: which runs there were, what one run did, how its tasks went.

Reads rows and never writes, in any process, also while a run is going (journals are read in
place). State is folded from rows here: a run that says RUNNING and that nobody holds is
INTERRUPTED. What people type for a run (a name, the start of an id, `last`) is resolved here.
"""

from __future__ import annotations

import difflib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TypeGuard

from nbcache.engine.record.holding import cancel_request, is_held, is_held_below
from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.record.task_ends import (
    FAILED,
    OUTCOME,
    End,
    counts_of,
    failed_before,
    is_left,
    last_rows,
)
from nbcache.errors import RunError, UsageError, command
from nbcache.model.ids import RunId, run_name
from nbcache.model.row import AttemptRow, ProcessRecord, Record, Row, RunRow, UseRow
from nbcache.model.task import Outcome, RunStatus, hit_rate
from nbcache.plan.language.header_text import meant
from nbcache.store.cache import Cache

LIVE = frozenset({RunStatus.RUNNING.value, RunStatus.RESUMING.value, RunStatus.CREATED.value})
_MICROSECOND = 1e-6
CELL = "cell"  # the language of a process record that tells of a cached cell


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run as its rows tell it. Times are microseconds since 1970, durations seconds."""

    id: str
    name: str
    status: str
    started: int
    last_word: int  # when its last row was written; killed and `as_it_stands`, also of its tasks'
    ended: int | None
    elapsed_s: float
    sessions: int
    cut: Mapping[int, int]  # the sessions that were killed, and when each wrote its last own row
    counts: Mapping[str, int]
    own: int  # of those cached: hits on what an equal task of this run made
    saved_s: float | None
    notebook: str | None
    parent: str | None
    parameters: Mapping[str, str]
    options: Mapping[str, str]
    targets: tuple[str, ...]
    recorded: Mapping[int, tuple[ProcessRecord, ...]]  # by session
    error: str | None
    host: str | None
    user: str | None
    pid: int | None
    retention: str = ""
    outline: Record = field(default_factory=dict)  # of its last session, as `RunRow` has it
    items: Mapping[str, int] = field(default_factory=dict)
    handed_on: tuple[str, ...] | None = None  # as `RunRow` has it
    wiring: Mapping[str, str] = field(default_factory=dict)  # of its first session

    @property
    def processes(self) -> tuple[ProcessRecord, ...]:
        """The processes as its last session recorded them."""
        return self.recorded[max(self.recorded)]

    def processes_of(self, session: int) -> tuple[ProcessRecord, ...]:
        """Return the processes as one of its sessions recorded them."""
        return self.recorded.get(session, ())

    @property
    def hit_rate(self) -> float | None:
        """As `nbcache.model.task` has it."""
        return hit_rate(self.counts, self.own)

    @property
    def cut_words(self) -> str:
        """What became of tasks that a look into a killed run does not find; "" of any other."""
        if self.status != RunStatus.INTERRUPTED.value:
            return ""
        return f"it was killed, and what had not ended by then has no row: resume {self.name}"

    @property
    def of_cells(self) -> bool:
        """Whether it is no pipeline's, but that of a kernel's cached cells."""
        return bool(self.processes) and all(each.language == CELL for each in self.processes)

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "run": self.id,
            "name": self.name,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "elapsed_s": round(self.elapsed_s, 3),
            "sessions": self.sessions,
            "counts": dict(self.counts),
            "hit_rate": self.hit_rate,
            "saved_s": self.saved_s,
            "parent": self.parent,
            "notebook": self.notebook,
            "parameters": dict(self.parameters),
            "options": dict(self.options),
            "targets": list(self.targets),
            "processes": [process.name for process in self.processes],
            "error": self.error,
            "host": self.host,
            "user": self.user,
            "pid": self.pid,
            "retention": self.retention,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOutcomes:
    """One process of a run: how its tasks ended and how long their bodies took in all."""

    name: str
    counts: Mapping[str, int]
    equal: int  # of those cached: they took what an equal task of this run had made
    computed_s: float
    reason: str
    upstream: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """A run, its processes and failed tasks (the last attempt of each), those ignored last."""

    run: RunSummary
    processes: tuple[ProcessOutcomes, ...]
    failures: tuple[AttemptRow, ...] = field(default=())

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            **self.run.record(),
            "processes": [
                {
                    "name": each.name,
                    "counts": dict(each.counts),
                    "computed_s": round(each.computed_s, 3),
                    "reason": each.reason,
                    "upstream": list(each.upstream),
                }
                for each in self.processes
            ],
            "failures": [
                {
                    "process": row.process,
                    "tag": row.tag,
                    "position": row.position,
                    "hash": row.hash,
                    "status": row.status,
                    "error": row.error,
                    "traceback": row.traceback,
                    "workdir": row.workdir,
                }
                for row in self.failures
            ],
        }


def runs(cache: Cache) -> list[RunSummary]:
    """Return all runs, the newest first: in the order of their ids, which no clock has a say in."""
    by_run: dict[str, list[RunRow]] = {}
    for row in {row.id: row for row in rare_rows(cache.log, RunRow)}.values():
        by_run.setdefault(row.run, []).append(row)
    folded = [_fold(cache, rows) for rows in by_run.values()]
    return sorted(folded, key=lambda run: run.id, reverse=True)


def _fold(cache: Cache, rows: Iterable[RunRow]) -> RunSummary:
    """Many rows of one run: the first says what it is, the last how it stands."""
    # A clock may go back between sessions and during one.
    ordered = sorted(rows, key=lambda row: (row.session, row.status not in LIVE, row.at, row.id))
    first, last = ordered[0], ordered[-1]
    sessions: dict[int, list[RunRow]] = {}
    for row in ordered:
        sessions.setdefault(row.session, []).append(row)
    begun = [each[0] for each in sessions.values()]
    going = last.status in LIVE and is_held(cache, first.run)
    elapsed = sum(map(_took, sessions.values()))
    if going:
        elapsed += time.time() - last.at * _MICROSECOND
    return RunSummary(
        id=first.run,
        name=first.name,
        status=last.status if going or last.status not in LIVE else RunStatus.INTERRUPTED.value,
        started=first.at,
        last_word=last.at,
        ended=None if last.status in LIVE else last.at,
        elapsed_s=max(0.0, elapsed),
        sessions=max(sessions),
        cut={
            number: each[-1].at
            for number, each in sessions.items()
            if each[-1].status in LIVE and not (going and number == last.session)
        },
        counts=last.counts,
        own=last.own,
        saved_s=last.saved,
        notebook=begun[-1].notebook,
        parent=first.parent,
        parameters={name: text for row in begun for name, text in row.parameters.items()},
        options=begun[-1].options,
        targets=first.targets,
        recorded={row.session: row.processes for row in begun},
        error=last.error,
        host=last.host,
        user=last.user,
        pid=last.pid,
        retention=next((row.retention for row in reversed(ordered) if row.retention), ""),
        outline=begun[-1].outline,
        items=last.items,
        handed_on=last.handed_on,
        wiring=first.wiring,
    )


def _took(session: Sequence[RunRow]) -> float:
    """Return how many seconds a session took, down to its last row: by the clock on the wall where
    it was killed, is a kernel's cells, or older than the column."""
    first, last = session[0], session[-1]
    if last.duration is not None:
        return last.duration
    return max(last.at - first.at, 0) * _MICROSECOND


def find_run(
    cache: Cache,
    word: str | None,
    *,
    notebook: str | None = None,
    known: Sequence[RunSummary] | None = None,
) -> RunSummary:
    """Return the run that `word` means: its name, the start of its id, or `last` (also None).

    The last run is that of a notebook of this name (its folder may have moved), if it has any; a
    pipeline's goes before that of cached cells, which every kernel has. known: all runs, where the
    caller has read them already.

    Raises:
        RunError: there is no such run (names the nearest), or several (lists them).
    """
    known = runs(cache) if known is None else known
    if not known:
        raise RunError(
            f"the cache {cache.root} has no runs yet, or its folder was deleted\n"
            f"  {command('run')} begins one"
        )
    if word is None or word == "last":
        known = [run for run in known if not run.of_cells] or known
        name = notebook and PurePath(notebook).name
        own = (run for run in known if run.notebook and PurePath(run.notebook).name == name)
        return next(own, known[0])
    named = [run for run in known if run.name == word]
    if named:
        return named[0]  # the newest of that name
    found = [run for run in known if word and run.id.startswith(word.upper())]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{run.id} ({run.name})" for run in found[:5])
        raise RunError(f"{word!r} is the start of {len(found)} run ids: {listed}")
    raise RunError(f"no run {word!r}; {_nearest_runs(word, known)}")


def name_in(runs: Mapping[str, RunSummary], run: str) -> str:
    """Return what people call a run: of one that only a shared cache tells of, what its id says."""
    return runs[run].name if run in runs else run_name(RunId(run))


def _nearest_runs(word: str, known: Sequence[RunSummary]) -> str:
    names = list(dict.fromkeys(run.name for run in known))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return "the nearest: " + ", ".join(close)
    return "the latest: " + ", ".join(names[:5])


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """Return "no KIND 'name'; did you mean ...", or all that there are where nothing is near."""
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    return f"no {kind} {name!r}; {meant(name, known, there)}"


def check_process(name: str, known: Sequence[RunSummary]) -> None:
    """See that a run has a process of this name.

    Raises:
        UsageError: none has; it names the nearest.
    """
    names = {process.name for run in known for process in run.processes}
    if name not in names:
        raise UsageError(unknown("run has a process", name, sorted(names)))


def show_run(cache: Cache, word: str | None = None) -> RunDetail:
    """Return one run in detail; `word` as in `find_run`."""
    run = as_it_stands(cache, find_run(cache, word))
    last = last_rows(cache, run.id, columns=(*OUTCOME, "realtime", "reason", "error"))
    made = {row.id for row in last.values() if isinstance(row, AttemptRow)}
    names = [process.name for process in run.processes]
    names += sorted({name for name, _ in last} - set(names))
    upstream = {process.name: process.upstream for process in run.processes}
    outcomes: list[ProcessOutcomes] = []
    for name in names:
        rows = [row for (process, _), row in last.items() if process == name]
        attempts = [row for row in rows if isinstance(row, AttemptRow)]
        counts = Counter(
            row.status if isinstance(row, AttemptRow) else Outcome.CACHED.value for row in rows
        )
        outcomes.append(
            ProcessOutcomes(
                name=name,
                counts=dict(counts),
                equal=sum(isinstance(row, UseRow) and row.cached_from in made for row in rows),
                computed_s=sum(row.realtime or 0.0 for row in attempts),
                reason=next((row.reason for row in attempts if row.reason), ""),
                upstream=upstream.get(name, ()),
            )
        )
    ids = [row.id for row in last.values() if isinstance(row, AttemptRow) and row.status in FAILED]
    left = [row for row in last.values() if isinstance(row, AttemptRow) and is_left(row)]
    failed = sorted(
        (
            *filter(_is_attempt, map(cache.log.row_of, cache.log.records_of(ids))),
            *failed_before(cache, left),
        ),
        key=lambda row: (FAILED.index(row.status), row.process, row.at, row.id),
    )
    return RunDetail(run=run, processes=tuple(outcomes), failures=tuple(failed))


def _is_attempt(row: Row | None) -> TypeGuard[AttemptRow]:
    return isinstance(row, AttemptRow)


def going_runs(cache: Cache) -> list[RunSummary]:
    """Return the runs that are going now, the newest first."""
    return [run for run in runs(cache) if run.status in LIVE]


def as_it_stands(cache: Cache, run: RunSummary) -> RunSummary:
    """Return a run with what the rows of its tasks tell and its own do not: how many tasks have
    ended with each outcome while it is going or where it was killed, and how long sessions took
    that were killed, down to the last task that ended."""
    is_going = run.status in LIVE
    if not is_going and not run.cut:
        return run
    lasted = _lasted(cache, run)
    run = replace(run, elapsed_s=run.elapsed_s + sum(lasted.values()) * _MICROSECOND)
    if not is_going and run.sessions not in run.cut:
        return run
    rows = last_rows(cache, run.id, columns=OUTCOME).values()
    counts, own = counts_of([*map(End.told_by, rows)])
    last = run.last_word + lasted.get(run.sessions, 0)
    return replace(run, counts=counts, own=own, last_word=last)


def _lasted(cache: Cache, run: RunSummary) -> dict[int, int]:
    """Return how many microseconds each killed session went on after its last own row."""
    ends = dict(run.cut)
    of_tasks = ("attempt", "use")
    for row in cache.log.rows(of_tasks, run=run.id, columns=OUTCOME) if ends else ():
        assert isinstance(row, (AttemptRow, UseRow))
        if row.session in ends:
            ends[row.session] = max(ends[row.session], _written(row))
    return {session: end - run.cut[session] for session, end in ends.items()}


def _written(row: AttemptRow | UseRow) -> int:
    """Return when a row was written: that of an attempt tells at once when it had been submitted
    (`at`) and when it ended."""
    return (row.complete if isinstance(row, AttemptRow) else None) or row.at


def request_cancel(cache: Cache, word: str | None) -> RunSummary:
    """Ask the process that drives a run to end it in order, from any process on any machine.

    Raises:
        RunError: there is no such run, it is not going, or it goes where nothing may be written.
    """
    if word is None:
        going = going_runs(cache)
        if not going:
            raise RunError("no run is going")
        if len(going) > 1:
            raise RunError(f"several runs are going: {', '.join(run.name for run in going)}")
        run = going[0]
    else:
        run = find_run(cache, word)
        if run.status not in LIVE:
            raise RunError(f"run {run.name} is not going: {run.status}")
    if not cache.writable or is_held_below(cache, run.id):
        place = cache.root if cache.below is None else cache.below.folder
        raise RunError(
            f"run {run.name} is going in the cache {place}, which may only be read: only its owner "
            "can end it"
        )
    cancel_request(cache, run.id).touch()
    return run
