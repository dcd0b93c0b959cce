"""How the tasks of a run ended: the last word on each, and what a row says of its attempt.

Reads rows of attempts and hits; what is known of runs is folded in `history`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from nbcache.engine.record.rare_rows import rare_rows
from nbcache.model.row import AttemptRow, RunRow, UseRow
from nbcache.model.task import Outcome, RunStatus
from nbcache.store.cache import Cache

FAILED = (Outcome.FAILED.value, Outcome.IGNORED.value)
NOT_BEGUN = "the run ended before it began"  # of a task that its session did not attempt
NOT_RETRIED = "the run ended before it was tried again"  # of a task between two attempts


def was_begun(row: AttemptRow) -> bool:
    """Whether the session that a row is of has tried its task."""
    return row.status != Outcome.ABORTED.value or row.error != NOT_BEGUN


def is_left(row: AttemptRow) -> bool:
    """Whether a row tells of no attempt, but that its run left a task which it had tried before."""
    is_aborted = row.status == Outcome.ABORTED.value and row.attempt > 0
    return is_aborted and (row.error or "").startswith((NOT_BEGUN, NOT_RETRIED))


def failed_before(cache: Cache, left: Sequence[AttemptRow]) -> list[AttemptRow]:
    """Return the failed attempts after which a run left tasks; they have the number that the row
    which says so has."""
    wanted = {(row.process, row.position, row.attempt) for row in left}
    return [
        row
        for run in {row.run for row in left}
        for row in cache.log.attempts(run=run)
        if (row.process, row.position, row.attempt) in wanted and row.status in FAILED
    ]


OUTCOME = (
    *("kind", "id", "at", "run", "session", "process", "position", "hash"),
    *("status", "attempt", "complete", "cached_from"),
)  # all that a row must have, and what tells how its task ended


def last_rows(
    cache: Cache,
    run: str,
    process: str | None = None,
    *,
    columns: Collection[str] | None = None,
    note: Callable[[AttemptRow | UseRow], None] | None = None,
) -> dict[tuple[str, str], AttemptRow | UseRow]:
    """Return the last word on each task of a run over its sessions, by (process, position).

    A hit on the task's own attempt of an earlier session is that attempt: the run made it. What
    only sessions had before one that settled its process, as a resume that succeeded does with
    all, is no task of the run any more: the process was renamed, the item is gone, or what failed
    above an `on_failure_of` did not again. (A cell of a kernel is a session, too, and no resume.)

    columns: what rows have to hold, if not all. note: is told of each row on the way.
    """
    words = [each for each in rare_rows(cache.log, RunRow, readable=True) if each.run == run]
    resumed = {each.session for each in words if each.status == RunStatus.RESUMING.value}
    ended = (each.session for each in words if each.status == RunStatus.SUCCEEDED.value)
    whole = max(resumed.intersection(ended), default=0)
    since: dict[str, int] = {}
    for each in words:
        for name in each.settled:
            since[name] = max(each.session, since.get(name, whole))
    last: dict[tuple[str, str], AttemptRow | UseRow] = {}
    made: dict[str, AttemptRow] = {}
    for row in cache.log.rows(("attempt", "use"), run=run, process=process, columns=columns):
        assert isinstance(row, (AttemptRow, UseRow))
        if note is not None:
            note(row)
        if isinstance(row, AttemptRow):
            made[row.id] = row
        if row.session < since.get(row.process, whole):
            continue
        key = (row.process, row.position)
        if key not in last or _order(row) > _order(last[key]):
            last[key] = row
    for key, row in last.items():
        own = made.get(row.cached_from) if isinstance(row, UseRow) else None
        if own is not None and (own.process, own.position) == key:
            last[key] = own
    return last


class End(NamedTuple):
    """How a task of a run ended; the row of its last attempt, or of what it took where cached."""

    outcome: str
    row: str

    @classmethod
    def told_by(cls, row: AttemptRow | UseRow) -> End:
        """Return what the last word on a task says."""
        if isinstance(row, AttemptRow):
            return cls(row.status, row.id)
        return cls(Outcome.CACHED.value, row.cached_from)


def counts_of(ends: Collection[End]) -> tuple[dict[str, int], int]:
    """Return how many of a run's tasks ended with each outcome, and how many of those cached took
    what the run itself had made."""
    cached = Outcome.CACHED.value
    made = {each.row for each in ends if each.outcome != cached}
    own = sum(each.outcome == cached and each.row in made for each in ends)
    return dict(Counter(each.outcome for each in ends)), own


def _order(row: AttemptRow | UseRow) -> tuple[int, int, bool, int, str]:
    """Return the key by which the rows of a task follow one another; clocks may go back."""
    return (row.session, row.attempt, isinstance(row, UseRow), row.at, row.id)
