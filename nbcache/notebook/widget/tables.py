"""The tasks of a process, one page at a time: only what somebody looks at crosses.

Sorted, filtered and cut by DuckDB over the log, so that 100,000 tasks cost what ten do. Of a run
that is not kept in the log (`--no-cache`), the kernel's own memory is asked.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypedDict

from nbcache.engine.record.finding import inputs_of
from nbcache.engine.record.results import task_label
from nbcache.engine.running.run import Run
from nbcache.errors import UsageError
from nbcache.model.ids import format_position, parse_position
from nbcache.store.cache import Cache
from nbcache.store.columns import table_of
from nbcache.store.history import reading

MOST_ROWS = 200  # of a page
MOST_RUNNING = 50
FRESH_S = 2.0  # how old the table of a run that goes may be

_POSITION = "TRY_CAST(string_split(position, '.') AS INTEGER[])"
SORTS: Mapping[str, tuple[str, ...]] = {
    "task": (_POSITION,),
    "status": ("status", _POSITION),
    "duration": (
        "CASE WHEN status IN ('cached', 'equal') THEN NULL ELSE realtime END",
        "CASE WHEN status = 'equal' THEN NULL ELSE realtime END",  # then what hits saved
    ),
    "memory": ("peak_rss",),
    "why": ("reason", _POSITION),
}


class TaskLine(TypedDict):
    """One task in the table. duration in seconds, memory in bytes; None: not known."""

    position: str
    label: str
    status: str
    duration: float | None
    saved: float | None  # of a hit on another run's result: how long that took
    memory: int | None
    attempt: int | None
    why: str
    hash: str


class RunningLine(TypedDict):
    """One task that is running now, for `seconds`."""

    position: str
    label: str
    attempt: int
    seconds: float


class TaskPage(TypedDict):
    """What of a process's tasks is looked at: `matched` fit the filter, `total` there are."""

    rows: list[TaskLine]
    running: list[RunningLine]
    matched: int
    total: int
    offset: int
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Which tasks somebody looks at: those whose tag, position, inputs (as a label has them),
    error or reason contain `text`, whatever its case, or whose hash begins so (any number is in
    the middle of some), with an outcome `status` or any."""

    process: str
    sort: str = "task"
    descending: bool = False
    text: str = ""
    status: str = ""
    offset: int = 0
    limit: int = 25

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Return the query that a page sent.

        Raises:
            UsageError: there is no such column to sort by.
        """
        sort = str(message.get("sort", "task"))
        if sort not in SORTS:
            raise UsageError(f"tasks are sorted by {', '.join(SORTS)}, not {sort!r}")
        return cls(
            process=str(message.get("process", "")),
            sort=sort,
            descending=bool(message.get("descending")),
            text=_in_brackets(str(message.get("text", "")), str(message.get("process", ""))),
            status=str(message.get("status", "")),
            offset=max(0, int(message.get("offset", 0))),
            limit=max(1, min(int(message.get("limit", 25)), MOST_ROWS)),
        )


def _in_brackets(label: str, process: str) -> str:
    """Return what of a label tells tasks of one process apart; any other text as it is."""
    return label.removeprefix(process) if label.startswith(f"{process}[") else label


_WHOLE = re.compile(r"\[([^\W\d]\w*=.*)\]", re.DOTALL)
_INPUT = re.compile(r"(?= [^\W\d]\w*=)")


def _parts(text: str) -> list[str]:
    """Return what of a text is looked for among a task's inputs, each part by itself.

    Typed as a label has it, a text leaves out inputs that no label can hold, and cuts long ones.
    Spaces stand around each input, so that `n=1 ` is not the begin of n=10.
    """
    if whole := _WHOLE.fullmatch(text):
        text = f" {whole[1]} "
    *before, last = [part for part in _INPUT.split(text) if part] or [text]
    parts = [*(f"{part} " for part in before), last]
    return [
        part.removesuffix(" ").removesuffix("…") if "…" in part[-2:] else part for part in parts
    ]


def task_page(cache: Cache, run_id: str, run: Run | None, query: TaskQuery) -> TaskPage:
    """Return a page of a process's tasks in a run; `run` itself, where it is of this kernel."""
    if run is not None and not run.is_recorded:
        return _from_memory(run, query)
    # While a run goes, its views take the longer to make the more tasks it has: somebody who
    # turns pages shall not wait for that each time.
    going = run is not None and not run.done
    with reading(cache, within_s=FRESH_S if going else 0.0) as cursor:
        page = _from_log(cursor, run_id, query)
        if run is not None:
            page["running"] = _running(run, query, cursor)
    return page


def _running(run: Run, query: TaskQuery, cursor: Any) -> list[RunningLine]:
    """Return what runs now, above a first page; `cursor` is None where no rows are kept."""
    if query.offset or query.status not in ("", "running"):
        return []
    index, now, text = run.graph.places.get(query.process), time.time(), query.text
    working = sorted(
        ((position, each) for (place, position), each in [*run.at_work.items()] if place == index),
        key=lambda each: each[0],
    )
    if text and cursor is None:
        working = [each for each in working if text.lower() in each[1].label.lower()]
    elif text and working:
        rows = {position: each.row for position, each in working if each.row is not None}
        cursor.register("_working", table_of([row.record() for row in rows.values()]))
        condition, values = _fits(text)
        found = f"SELECT id FROM (SELECT *, {_CALLED} AS called FROM _working) WHERE {condition}"
        ids = set(cursor.execute(found, values).fetchall())
        working = [each for each in working if (rows[each[0]].id,) in ids]
    return [
        {
            "position": format_position(position),
            "label": each.label,
            "attempt": each.attempt,
            "seconds": round(max(0.0, now - each.since), 1),
        }
        for position, each in working[:MOST_RUNNING]
    ]


# A process's tasks, by outcome as people are told it: what equals one that ran came from no cache.
_TASKS = """(SELECT * REPLACE (
        lower(CASE WHEN cached_from_run = run THEN 'equal' ELSE status END) AS status)
    FROM tasks WHERE run = ? AND process = ?)"""


def _from_log(cursor: Any, run_id: str, query: TaskQuery) -> TaskPage:
    mine = [run_id, query.process]
    counted = f"SELECT status, count(*) FROM {_TASKS} GROUP BY 1 ORDER BY 1"
    counts = dict(cursor.execute(counted, mine).fetchall())
    among, where, values = _TASKS, "true", [*mine]
    if query.text:
        among += f""" LEFT JOIN (SELECT id, {_CALLED} AS called FROM _rows WHERE kind = 'attempt'
            AND id IN (SELECT id FROM {_TASKS})) USING (id)"""
        where, asked = _fits(query.text)
        values += [*mine, *asked]
    if query.status:
        where += " AND status = ?"
        values.append(query.status)
    order = "DESC" if query.descending else "ASC"
    ordering = ", ".join(f"{part} {order} NULLS LAST" for part in SORTS[query.sort])
    found = cursor.execute(
        "SELECT id, position, coalesce(tag, ''), status, hash, realtime, peak_rss, attempt, "
        "reason, count(*) OVER () "
        f"FROM {among} WHERE {where} "
        f"ORDER BY {ordering}, {_POSITION} LIMIT {query.limit} OFFSET {query.offset}",
        values,
    ).fetchall()
    inputs = inputs_of(cursor, {row[0] for row in found})
    return {
        "rows": [_line(row, query.process, inputs.get(row[0], {})) for row in found],
        "running": [],
        "matched": found[0][-1] if found else 0,
        "total": sum(counts.values()),
        "offset": query.offset,
        "statuses": counts,
    }


_CALLED = r"""lower(' ' || array_to_string([i.name || '=' || CASE
            WHEN i.scalar IS NULL
                THEN regexp_replace(i.summary, ' \(([\d,?]+ B|\?|folder)[^)]*\)$', '')
            WHEN i.scalar = 'null' THEN 'None'
            WHEN starts_with(i.scalar, '"') THEN json_extract_string(i.scalar, '$')
            ELSE replace(i.scalar, 'Infinity', 'inf') END for i in inputs]
        || [i.name || '=' || coalesce(i.scalar, i.summary) for i in inputs], ' ') || ' ')"""


def _fits(text: str) -> tuple[str, list[str]]:
    """Return the condition that a task fits a text, with its values; `called` is `_CALLED`."""
    parts = _parts(text)
    said = "lower(concat_ws(' ', '[' || tag || ']', '[' || position || ']', error, reason))"
    begins = "starts_with(substr(hash, 6), lower(?))"
    inside = " AND ".join(["contains(called, lower(?))"] * len(parts))
    return f"(contains({said}, lower(?)) OR {begins} OR {inside})", [text, text, *parts]


def _line(row: Sequence[Any], process: str, inputs: Mapping[str, object]) -> TaskLine:
    _, position, tag, status, hash_, realtime, peak, attempt, reason, _ = row
    return {
        "position": position,
        "label": task_label(process, dict(inputs), parse_position(position), tag),
        "status": status,
        "duration": realtime if status not in ("cached", "equal") else None,
        "saved": realtime if status == "cached" else None,
        "memory": peak,
        "attempt": attempt,
        "why": reason,
        "hash": hash_.rpartition(":")[2][:8],
    }


def _from_memory(run: Run, query: TaskQuery) -> TaskPage:
    index = run.graph.places.get(query.process)
    tasks = [task for key, task in list(run.tasks.items()) if key[0] == index]
    fitting = [
        task
        for task in tasks
        if (not query.status or task.outcome.value == query.status)
        and query.text.lower() in f"{task.label} {task.error or ''}".lower()
    ]
    by_status = query.sort == "status"
    fitting.sort(
        key=lambda task: (task.outcome.value if by_status else "", task.position),
        reverse=query.descending,
    )
    rows: list[TaskLine] = [
        {
            "position": format_position(task.position),
            "label": task.label,
            "status": task.outcome.value,
            "duration": None,
            "saved": None,
            "memory": None,
            "attempt": None,
            "why": "",
            "hash": task.hash.rpartition(":")[2][:8],
        }
        for task in fitting[query.offset : query.offset + query.limit]
    ]
    return {
        "rows": rows,
        "running": _running(run, query, None),
        "matched": len(fitting),
        "total": len(tasks),
        "offset": query.offset,
        "statuses": dict(Counter(task.outcome.value for task in tasks)),
    }
