"""Answers from the log: which runs there were, what one run did, how its tasks went.

Reads rows and never writes, in any process, also while a run is going (journals are read in
place). State is folded from rows here: a run that says RUNNING and whose process is gone is
INTERRUPTED. What people type for a run (a name, the start of an id, `last`) is resolved here.
"""

from __future__ import annotations

import difflib
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nbcache.engine.cancelling import cancel_request
from nbcache.errors import RunError
from nbcache.model.row import AttemptRow, ProcessRecord, RunRow, UseRow
from nbcache.model.task import Outcome, RunStatus
from nbcache.store.cache import Cache

_LIVE = frozenset({RunStatus.RUNNING.value, RunStatus.RESUMING.value, RunStatus.CREATED.value})
_MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run as its rows tell it. Times are microseconds since 1970, durations seconds."""

    id: str
    name: str
    status: str
    started: int
    ended: int | None
    elapsed_s: float
    sessions: int
    counts: Mapping[str, int]
    saved_s: float | None
    notebook: str | None
    parameters: Mapping[str, str]
    processes: tuple[ProcessRecord, ...]
    error: str | None
    host: str | None
    user: str | None
    pid: int | None
    retention: str = ""

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
            "saved_s": self.saved_s,
            "notebook": self.notebook,
            "parameters": dict(self.parameters),
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
    computed_s: float
    reason: str
    upstream: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """A run with its processes and its failed tasks (the last attempt of each)."""

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
                    "error": row.error,
                    "traceback": row.traceback,
                    "workdir": row.workdir,
                }
                for row in self.failures
            ],
        }


def runs(cache: Cache) -> list[RunSummary]:
    """Return all runs, the newest first."""
    by_run: dict[str, list[RunRow]] = {}
    for row in cache.log.rows(("run",)):
        if isinstance(row, RunRow):
            by_run.setdefault(row.run, []).append(row)
    folded = [_fold(rows) for rows in by_run.values()]
    return sorted(folded, key=lambda run: (run.started, run.id), reverse=True)


def _fold(rows: Iterable[RunRow]) -> RunSummary:
    """Many rows of one run: the first says what it is, the last how it stands."""
    ordered = sorted(rows, key=lambda row: (row.session, row.at, row.id))
    first, last = ordered[0], ordered[-1]
    live = last.status in _LIVE
    status = last.status
    if live and not is_alive(last):
        status = RunStatus.INTERRUPTED.value
    end = (time.time_ns() // 1000 if status == last.status else last.at) if live else last.at
    parameters = {name: text for row in ordered for name, text in row.parameters.items()}
    processes = next((row.processes for row in reversed(ordered) if row.processes), ())
    return RunSummary(
        id=first.run,
        name=first.name,
        status=status,
        started=first.at,
        ended=None if live else last.at,
        elapsed_s=max(0.0, (end - first.at) * _MICROSECOND),
        sessions=max(row.session for row in ordered),
        counts=last.counts,
        saved_s=last.saved,
        notebook=first.notebook,
        parameters=parameters,
        processes=processes,
        error=last.error,
        host=last.host,
        user=last.user,
        pid=last.pid,
        retention=next((row.retention for row in reversed(ordered) if row.retention), ""),
    )


def is_alive(row: RunRow) -> bool:
    """Whether the process that wrote a run's last row still lives.

    Of another host it is not known: then the run is believed to go on.
    """
    if row.pid is None or row.host != socket.gethostname():
        return row.pid is not None
    if row.pid == os.getpid():
        return True
    import psutil

    try:
        process = psutil.Process(row.pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # killed, and nobody has asked for it yet
            return False
        began: float = process.create_time()
    except psutil.Error:
        return False
    return began <= row.at * _MICROSECOND + 1.0  # else the number was given to another process


def find_run(cache: Cache, word: str | None) -> RunSummary:
    """Return the run that `word` means: its name, the start of its id, or `last` (also None).

    Raises:
        RunError: there is no such run (names the nearest), or several (lists them).
    """
    known = runs(cache)
    if not known:
        raise RunError(f"the cache {cache.root} has no runs yet")
    if word is None or word == "last":
        return known[0]
    named = [run for run in known if run.name == word]
    if named:
        return named[0]  # the newest of that name
    found = [run for run in known if run.id.startswith(word.upper())]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{run.id} ({run.name})" for run in found[:5])
        raise RunError(f"{word!r} is the start of {len(found)} run ids: {listed}")
    raise RunError(f"no run {word!r}; {_nearest_runs(word, known)}")


def _nearest_runs(word: str, known: Sequence[RunSummary]) -> str:
    names = list(dict.fromkeys(run.name for run in known))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return "the nearest: " + ", ".join(close)
    return "the latest: " + ", ".join(names[:5])


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """Return "no KIND 'name'; did you mean ...", or all that there are where nothing is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(known)}"
    return f"no {kind} {name!r}; {hint}"


def show_run(cache: Cache, word: str | None = None) -> RunDetail:
    """Return one run in detail; `word` as in `find_run`."""
    run = find_run(cache, word)
    last = last_attempts(cache, run.id)
    uses = [row for row in cache.log.rows(("use",), run=run.id) if isinstance(row, UseRow)]
    hits = {(row.process, row.position) for row in uses} - last.keys()
    names = [process.name for process in run.processes]
    names += sorted({name for name, _ in (*last, *hits)} - set(names))
    upstream = {process.name: process.upstream for process in run.processes}
    outcomes: list[ProcessOutcomes] = []
    for name in names:
        rows = [row for (process, _), row in last.items() if process == name]
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.status] = counts.get(row.status, 0) + 1
        cached = sum(process == name for process, _ in hits)
        if cached:
            counts[Outcome.CACHED.value] = cached
        outcomes.append(
            ProcessOutcomes(
                name=name,
                counts=counts,
                computed_s=sum(row.realtime or 0.0 for row in rows),
                reason=next((row.reason for row in rows if row.reason), ""),
                upstream=upstream.get(name, ()),
            )
        )
    failed = sorted(
        (row for row in last.values() if row.status == Outcome.FAILED.value),
        key=lambda row: (row.process, row.at, row.id),
    )
    return RunDetail(run=run, processes=tuple(outcomes), failures=tuple(failed))


def last_attempts(cache: Cache, run: str) -> dict[tuple[str, str], AttemptRow]:
    """Return the last attempt of each task of a run, by (process, position)."""
    last: dict[tuple[str, str], AttemptRow] = {}
    for row in cache.log.rows(("attempt",), run=run):
        if isinstance(row, AttemptRow):
            key = (row.process, row.position)
            earlier = last.get(key)
            if earlier is None or _order(row) > _order(earlier):
                last[key] = row
    return last


def _order(row: AttemptRow) -> tuple[int, int, int, str]:
    return (row.session, row.attempt, row.at, row.id)


def going_runs(cache: Cache) -> list[RunSummary]:
    """Return the runs that are going now, the newest first."""
    return [run for run in runs(cache) if run.status in _LIVE]


def request_cancel(cache: Cache, word: str | None) -> RunSummary:
    """Ask the process that drives a run to end it in order, from any process on any machine.

    Raises:
        RunError: there is no such run, or it is not going.
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
        if run.status not in _LIVE:
            raise RunError(f"run {run.name} is not going: {run.status}")
    cancel_request(cache, run.id).touch()
    return run
