"""Which task people mean: by a hash's start, or by a process with a tag, a position or fields.

Reads only. What is found is a task of one run with the attempt that made its result.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbcache.engine.record import history, task_ends
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.results import task_label
from nbcache.errors import UsageError
from nbcache.model.digest import Digest, short
from nbcache.model.ids import parse_position
from nbcache.model.row import AttemptRow, UseRow
from nbcache.plan.identity.explain import FILE
from nbcache.store.cache import Cache
from nbcache.store.history import reading

_HASH = re.compile(r"(?:xxh3:)?[0-9a-f]{4,32}")
_LABEL = re.compile(r"(\w+)\[(.*)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """One task of one run. `made` is the attempt that made its result (or failed); `use` is there
    for a hit, whose result an earlier attempt made."""

    run: RunSummary | None
    made: AttemptRow
    use: UseRow | None = None

    @property
    def label(self) -> str:
        """How people call the task."""
        return label_of(self.made, self.use)

    @property
    def hash(self) -> Digest:
        """What the task's own components amount to; of a trusted hit not that of its result."""
        return (self.use or self.made).hash

    @property
    def is_trusted(self) -> bool:
        """Whether its result is that of other code, which somebody took for equal."""
        return self.hash != self.made.hash

    @property
    def position(self) -> str:
        """Where it stands among the tasks of its process."""
        return (self.use or self.made).position


def label_of(row: AttemptRow, use: UseRow | None = None) -> str:
    """Return how people call a task: "fit[depth=8 trees=50]"."""
    where = use if use is not None else row
    inputs = called_by((each.name, each.summary, each.scalar) for each in row.inputs)
    return task_label(where.process, inputs, parse_position(where.position), where.tag)


def called_by(inputs: Iterable[tuple[str, str, str | None]]) -> dict[str, object]:
    """Return those of a task's inputs (name, summary, scalar) that its label can hold."""
    found: dict[str, object] = {}
    for name, summary, scalar in inputs:
        if scalar is not None:
            found[name] = json.loads(scalar)
        elif (file := FILE.fullmatch(summary)) is not None:
            found[name] = file[1]  # as in its label while the run went on
        elif summary and " " not in summary:
            found[name] = summary
    return found


def inputs_of(cursor: Any, ids: Collection[str]) -> Mapping[str, dict[str, object]]:
    """Return what tasks are called by, by the ids of the attempts that made them.

    Asked for these rows only: the view `inputs` would unfold those of all tasks.
    """
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    for row_id, name, summary, scalar in cursor.execute(
        "SELECT id, i.name, i.summary, i.scalar FROM (SELECT id, unnest(inputs) AS i FROM _rows "
        "WHERE kind = 'attempt' AND id IN (SELECT unnest(?)))",
        [sorted(ids)],
    ).fetchall():
        found.setdefault(row_id, []).append((name, summary or "", scalar))
    return {row_id: called_by(inputs) for row_id, inputs in found.items()}


def find_task(
    cache: Cache,
    words: Sequence[str],
    *,
    run: str | None = None,
    known: Sequence[RunSummary] | None = None,
) -> Found:
    """Return the task that the words mean.

    words: the start of a hash; or a process and then nothing (its only task), a tag, a position,
    a value of one of its inputs, `field=value` pairs, or `failed`; or what the task is called
    wherever it is shown, `quant[gut]`. Of equal tasks the one that ran is meant. known: all runs,
    where the caller has read them already.

    Raises:
        UsageError: nothing or too much fits; lists the nearest. RunError: no such run.
    """
    label = " ".join(words)
    named = _LABEL.fullmatch(label)
    name, *selectors = (named[1], named[2]) if named else words
    known = history.runs(cache) if known is None else known
    chosen = run_with(cache, name, run, known)
    if chosen is None:
        if not selectors and is_hash(name):
            return _by_hash(cache, name)
        raise UsageError(_no_process(cache, name, known))
    tasks = tasks_of(cache, chosen, name)
    fitting = [task for task in tasks if named and task.label == label]
    fitting = fitting or _fitting(tasks, selectors)
    if named and not fitting:
        fitting = _fitting(tasks, named[2].split())
    if fitting and (selectors == ["failed"] or len({task.made.hash for task in fitting}) == 1):
        return next((task for task in fitting if task.use is None), fitting[0])
    cut = f"\n  {chosen.cut_words}" if chosen.cut_words else ""
    if not tasks:
        none = "no task that has ended" if chosen.status in history.LIVE else "no tasks"
        raise UsageError(f"{name} has {none} in run {chosen.name}{cut}")
    if list(selectors) == ["failed"]:
        raise UsageError(f"no task of {name} failed in run {chosen.name}{cut}")
    count = f"{len(fitting)} tasks of" if fitting else "no task of"
    what = f" for {' '.join(selectors)!r}" if selectors else ""
    raise UsageError(
        f"{count} {name} in run {chosen.name}{what}; there are {_listed(name, fitting or tasks)}"
        f"{'' if fitting else cut}"
    )


def is_hash(word: str) -> bool:
    """Whether a word may be the start of a task's hash."""
    return _HASH.fullmatch(word) is not None


def _listed(process: str, tasks: Sequence[Found]) -> str:
    """Return what each of some tasks is called: by its position too where others are called so."""
    called = Counter(task.label for task in tasks)
    names = [
        label if called[label] == 1 else f"{label} (say {process} {task.position})"
        for task in tasks[:5]
        for label in [task.label]
    ]
    return ", ".join(names) + (", ..." if len(tasks) > 5 else "")


def run_with(
    cache: Cache, process: str, run: str | None, known: Sequence[RunSummary]
) -> RunSummary | None:
    """Return the run that was named; else the newest in which there is such a process."""
    if run is not None:
        return history.find_run(cache, run, known=known)
    for each in known:
        if any(record.name == process for record in each.processes):
            return each
    return None


def _no_process(cache: Cache, name: str, known: Sequence[RunSummary]) -> str:
    names = {record.name for run in known[:20] for record in run.processes}
    if not names:
        return f"the cache {cache.root} has no runs yet"
    return history.unknown("process or hash", name, sorted(names))


def tasks_of(cache: Cache, run: RunSummary, process: str) -> list[Found]:
    """Return the tasks of a process in a run, by position."""
    return found_tasks(cache, run, process).get(process, [])


def found_tasks(
    cache: Cache, run: RunSummary, process: str | None = None
) -> dict[str, list[Found]]:
    """Return the tasks of a run that have a row, per process in order of position."""
    last = task_ends.last_rows(cache, run.id, process)
    wanted: dict[str, set[str]] = {}
    for row in last.values():
        if isinstance(row, UseRow):
            wanted.setdefault(row.process, set()).add(row.cached_from)
    made = {name: attempts_by_id(cache, ids) for name, ids in wanted.items()}
    found: dict[str, list[Found]] = {}
    for (name, _), row in sorted(last.items(), key=lambda each: parse_position(each[0][1])):
        if isinstance(row, AttemptRow):
            found.setdefault(name, []).append(Found(run, row))
        elif row.cached_from in made[name]:
            found.setdefault(name, []).append(Found(run, made[name][row.cached_from], row))
    return found


def attempts_by_id(cache: Cache, wanted: Collection[str]) -> dict[str, AttemptRow]:
    """Return attempts by their ids, also those that another process made; without those that the
    cache has no row of any more."""
    rows = map(cache.log.row_of, cache.log.records_of(wanted))
    return {row.id: row for row in rows if isinstance(row, AttemptRow)}


def _fitting(tasks: Sequence[Found], selectors: Sequence[str]) -> list[Found]:
    """The tasks that words mean: a tag or position first, then values of inputs."""
    if not selectors:
        return list(tasks)
    if list(selectors) == ["failed"]:
        return [
            task
            for status in ("failed", "ignored", "aborted")
            for task in tasks
            if task.use is None and task.made.status == status
            if status != "aborted" or task_ends.is_left(task.made)
        ]
    if len(selectors) == 1:
        for name in ("tag", "position"):
            placed = [
                task for task in tasks if getattr(task.use or task.made, name) == selectors[0]
            ]
            if placed:
                return placed
    return [task for task in tasks if all(_has(task, selector) for selector in selectors)]


def _has(task: Found, selector: str) -> bool:
    """Whether a task has an input that is what somebody typed: `depth=8` or just `8`."""
    name, equals, text = selector.partition("=")
    if not equals:
        return any(_says(each, selector) for each in task.made.inputs)
    return any(each.name == name and _says(each, text) for each in task.made.inputs)


def _says(summary: object, text: str) -> bool:
    """Whether an input is what somebody typed for it."""
    scalar, shown = getattr(summary, "scalar", None), getattr(summary, "summary", "")
    if scalar is None:
        file = FILE.fullmatch(shown)
        return text in (shown, file[1] if file else shown)
    value = json.loads(scalar)
    return text in (str(value), repr(value), scalar, shown)


def _by_hash(cache: Cache, prefix: str) -> Found:
    start = prefix if prefix.startswith("xxh3:") else f"xxh3:{prefix}"
    with reading(cache, "_rows") as cursor:  # very many rows have a hash: few are unfolded here
        rows = cursor.execute(_OF_HASH, {"start": start}).fetchall()
    hashes = sorted({hash for _, _, _, hash in rows})
    if not hashes:
        raise UsageError(f"no task has a hash that starts with {prefix!r}")
    if len(hashes) > 1:
        listed = ", ".join(short(each) for each in hashes[:6])
        raise UsageError(f"{len(hashes)} tasks have a hash that starts with {prefix!r}: {listed}")
    known = {run.id: run for run in history.runs(cache)}
    kind, row_id, run, _ = rows[0]
    uses = cache.log.rows((UseRow.kind,), run=run) if kind == UseRow.kind else ()
    use = next((row for row in uses if isinstance(row, UseRow) and row.id == row_id), None)
    made = cache.log.find_attempt(row_id if use is None else use.cached_from)
    if made is None:
        attempts = [row_id for kind, row_id, _, _ in rows if kind == AttemptRow.kind]
        made, use = cache.log.find_attempt(attempts[0]) if attempts else None, None
    if made is None:
        raise UsageError(
            f"the task {short(hashes[0])} used the result of an attempt of which the cache "
            "keeps no row any more"
        )
    return Found(known.get(made.run if use is None else use.run), made, use)


_OF_HASH = """SELECT kind, id, run, hash FROM _rows
WHERE kind IN ('attempt', 'use') AND starts_with(hash, $start) ORDER BY "at" DESC, id DESC"""
