"""The tasks of runs, one after the other: `nbcache log`, its fields, filters and templates.

Fields are the columns of the view `tasks`, Nextflow's other names for some of them, and what lies
elsewhere: what a task printed, its source, its inputs and outputs. Reads only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nbcache.engine.record import history
from nbcache.engine.record.query import asking, fetch
from nbcache.engine.work.shown import decode_chunks
from nbcache.errors import BlobDamagedError, BlobMissingError, UsageError
from nbcache.model.task import Outcome
from nbcache.store.cache import Cache

DEFAULT_FIELDS = ("process", "tag", "position", "status", "hash", "duration", "reason", "error")

ALIASES: Mapping[str, str] = {
    "%cpu": "cpu_percent",
    "pcpu": "cpu_percent",
    "hostname": "host",
    "run_id": "run",
}

_PRINTED = ("stdout", "stderr", "log")
_ELSEWHERE: Mapping[str, str] = {  # field -> its value, of a task t
    **dict.fromkeys(_PRINTED, "(SELECT any_value(shown) FROM _rows r WHERE r.id = t.id)"),
    "traceback": "(SELECT any_value(traceback) FROM _rows r WHERE r.id = t.id)",
    "script": "(SELECT any_value(process_.source) FROM _processes p"
    " WHERE p.run = t.run AND process_.name = t.process)",
    "inputs": "(SELECT string_agg(i.name || '=' || coalesce(i.scalar, i.summary), ' ')"
    " FROM inputs i WHERE i.run = t.run AND i.task_id = t.task_id)",
    "outputs": "(SELECT string_agg(o.name || coalesce('=' || o.\"file\", ''), ' ')"
    " FROM outputs o WHERE o.run = t.run AND o.task_id = t.task_id)",
}
IN_ORDER = "TRY_CAST(string_split(t.position, '.') AS INTEGER[])"
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}\s]+)\}")


def known_fields(cache: Cache) -> list[str]:
    """Return the names of all fields."""
    columns = [str(row[0]) for row in fetch(cache, "DESCRIBE tasks", runs=())]
    return [*columns, *_ELSEWHERE, *ALIASES]


def log_rows(
    cache: Cache,
    runs: Sequence[str] | None = None,
    *,
    fields: Sequence[str] = DEFAULT_FIELDS,
    where: str | None = None,
    process: str | None = None,
    status: str | None = None,
) -> list[tuple[Any, ...]]:
    """Return the fields of tasks, in order of run, process and position.

    runs: their ids, None for all; where: a SQL condition over the columns of `tasks`.

    Raises:
        UsageError: a field, process or status does not exist (names the nearest), or the condition
            is wrong.
    """
    known = known_fields(cache)
    if not fields:
        raise UsageError(f"no field is named; there are {', '.join(known)}")
    for name in fields:
        if name not in known:
            raise UsageError(history.unknown("field", name, known))
    statuses = [each.value for each in Outcome]
    if status is not None and status.lower() not in statuses:
        raise UsageError(history.unknown("status", status, statuses))
    conditions, values = ["true"], list[object]()
    if runs is not None:
        conditions.append("list_contains(?, t.run)")
        values.append(list(runs))
    for name, wanted in (("process", process), ("status", status)):
        if wanted is not None:
            conditions.append(f"lower(t.{name}) = ?")
            values.append(wanted.lower())
    if where:
        with asking(cache, f"EXPLAIN FROM tasks t WHERE\n{where}", runs=()):
            pass  # what is wrong with it is shown at its own place, not at what follows it below
        conditions.append(f"(\n{where}\n)")
    query = (
        f"SELECT {', '.join(map(_expression, fields))} FROM tasks t"
        f" WHERE {' AND '.join(conditions)} ORDER BY t.run, t.process, {IN_ORDER}, t.position"
    )
    with asking(cache, query, values, runs=runs) as cursor:
        rows = cursor.fetchall()
    if process is not None and not rows:
        history.check_process(process, history.runs(cache))
    read: dict[int, Callable[[Any], str]] = {
        place: _printed(cache, name) for place, name in enumerate(fields) if name in _PRINTED
    }
    if not read:
        return rows
    return [
        tuple(read[place](value) if place in read else value for place, value in enumerate(row))
        for row in rows
    ]


def _expression(name: str) -> str:
    return _ELSEWHERE.get(name) or f't."{ALIASES.get(name, name)}"'


def _printed(cache: Cache, name: str) -> Callable[[Any], str]:
    """Return a function that reads what a task printed from where its row says that it is kept."""
    streams = {"log": ("stdout", "stderr", "display")}.get(name, (name,))

    def read(port: Mapping[str, Any] | None) -> str:
        if port is None:
            return ""
        data = port["inline"]
        try:
            if data is None:
                data = cache.blobs.read(port["blob"])
        except (BlobMissingError, BlobDamagedError):
            return "[no longer in the cache]"
        return "".join(
            chunk.text or str(chunk.bundle.get("text/plain", ""))
            for chunk in decode_chunks(data)
            if chunk.stream in streams
        )

    return read


def fields_in(template: str) -> list[str]:
    """Return the fields that a template names, each once."""
    found = (match[1] for match in _FIELD.finditer(template))
    return list(dict.fromkeys(name for name in found if name is not None))


def fill(template: str, values: Mapping[str, object]) -> str:
    """Return a template with its fields filled in; `{{` and `}}` stand for braces."""

    def put(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        return raw_text(values[match[1]])

    return _FIELD.sub(put, template)


def raw_text(value: object) -> str:
    """Return what JSON can hold as programs read it: texts and numbers as they are, None empty."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def chosen_runs(
    cache: Cache, words: Iterable[str], *, before: str | None, after: str | None, but: str | None
) -> list[str] | None:
    """Return the ids of the runs that are meant; None for all.

    Words are runs as in `find_run`, or `all`; without any the last run is meant. `before` and
    `after` mean the runs that began earlier or later than one, `but` all others.

    Raises:
        RunError: there is no such run. UsageError: more than one way to choose.
    """
    chosen = [word for word in words if word != "all"]
    ways = [each for each in (before, after, but) if each is not None]
    if len(ways) + bool(chosen) > 1:
        raise UsageError("name runs, or choose them by one of --before, --after, --but")
    if ways:
        named = history.find_run(cache, ways[0])
        others = (run for run in history.runs(cache) if run.id != named.id)
        if but is not None:
            return [run.id for run in others]
        return [run.id for run in others if (run.id < named.id) == (before is not None)]
    if not chosen:
        return None if "all" in words else [history.find_run(cache, None).id]
    return [history.find_run(cache, word).id for word in chosen]
