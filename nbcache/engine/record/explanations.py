"""Why one task ran or was a hit, told from the log: `nbcache why TASK`.

Finds the task that people mean (a hash's start, or a process with a tag, a position or fields),
the nearest earlier row, and lets `identity.explain` compare the components of the two: the same
components that made the two hashes, so the reason told is the reason there was. Reads only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from nbcache.engine.record import history
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.results import task_label
from nbcache.engine.record.trusted import word_given
from nbcache.errors import StoreError, UsageError
from nbcache.model.digest import Digest, short
from nbcache.model.fingerprint import Component
from nbcache.model.ids import parse_position
from nbcache.model.row import AttemptRow, UseRow
from nbcache.plan.identity import explain
from nbcache.plan.identity.explain import Difference
from nbcache.plan.identity.fingerprint import of_tasks
from nbcache.store.cache import Cache
from nbcache.store.history import reading

_BLOB = re.compile(r"b3:[0-9a-f]{64}")
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
        elif summary and " " not in summary:
            found[name] = summary
    return found


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
    wherever it is shown, `quant[gut]`. known: all runs, where the caller has read them already.

    Raises:
        UsageError: nothing or too much fits; lists the nearest. RunError: no such run.
    """
    label = " ".join(words)
    named = _LABEL.fullmatch(label)
    name, *selectors = (named[1], named[2]) if named else words
    known = history.runs(cache) if known is None else known
    chosen = run_with(cache, name, run, known)
    if chosen is None:
        if not selectors and _HASH.fullmatch(name):
            return _by_hash(cache, name)
        raise UsageError(_no_process(cache, name, known))
    tasks = tasks_of(cache, chosen, name)
    fitting = [task for task in tasks if named and task.label == label]
    fitting = fitting or _fitting(tasks, selectors)
    if named and not fitting:
        fitting = _fitting(tasks, named[2].split())
    if len(fitting) == 1 or (fitting and selectors == ["failed"]):
        return fitting[0]
    listed = ", ".join(task.label for task in (fitting or tasks)[:5])
    more = ", ..." if len(fitting or tasks) > 5 else ""
    if not tasks:
        none = "no task that has ended" if chosen.status in history.LIVE else "no tasks"
        raise UsageError(f"{name} has {none} in run {chosen.name}")
    if list(selectors) == ["failed"]:
        raise UsageError(f"no task of {name} failed in run {chosen.name}")
    count = f"{len(fitting)} tasks of" if fitting else "no task of"
    what = f" fit {' '.join(selectors)!r}" if selectors else ""
    raise UsageError(f"{count} {name} in run {chosen.name}{what}; there are {listed}{more}")


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
    last = history.last_rows(cache, run.id, process)
    wanted: dict[str, set[str]] = {}
    for row in last.values():
        if isinstance(row, UseRow):
            wanted.setdefault(row.process, set()).add(row.cached_from)
    made = {name: attempts_by_id(cache, name, ids) for name, ids in wanted.items()}
    found: dict[str, list[Found]] = {}
    for (name, _), row in sorted(last.items(), key=lambda each: parse_position(each[0][1])):
        if isinstance(row, AttemptRow):
            found.setdefault(name, []).append(Found(run, row))
        elif row.cached_from in made[name]:
            found.setdefault(name, []).append(Found(run, made[name][row.cached_from], row))
    return found


def attempts_by_id(cache: Cache, process: str, wanted: set[str]) -> dict[str, AttemptRow]:
    """Return attempts by their ids. A few are looked up one by one; many are read in one go."""
    found: dict[str, AttemptRow] = {}
    if len(wanted) > 20:
        for row in cache.log.rows(("attempt",), process=process):
            if isinstance(row, AttemptRow) and row.id in wanted:
                found[row.id] = row
    for row_id in wanted - found.keys():  # also results that another process made
        attempt = cache.log.find_attempt(row_id)
        if attempt is not None:
            found[row_id] = attempt
    return found


def _fitting(tasks: Sequence[Found], selectors: Sequence[str]) -> list[Found]:
    """The tasks that words mean: a tag or position first, then values of inputs."""
    if not selectors:
        return list(tasks)
    if list(selectors) == ["failed"]:
        return [
            task
            for status in ("failed", "ignored")
            for task in tasks
            if task.use is None and task.made.status == status
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
        return bool(shown == text)
    value = json.loads(scalar)
    return text in (str(value), repr(value), scalar, shown)


def _by_hash(cache: Cache, prefix: str) -> Found:
    start = prefix if prefix.startswith("xxh3:") else f"xxh3:{prefix}"
    rows = [
        row
        for row in cache.log.rows(("attempt", "use"))
        if isinstance(row, (AttemptRow, UseRow)) and row.hash.startswith(start)
    ]
    hashes = sorted({row.hash for row in rows})
    if not hashes:
        raise UsageError(f"no task has a hash that starts with {prefix!r}")
    if len(hashes) > 1:
        listed = ", ".join(short(each) for each in hashes[:6])
        raise UsageError(f"{len(hashes)} tasks have a hash that starts with {prefix!r}: {listed}")
    newest = max(rows, key=lambda row: (row.at, row.id))
    known = {run.id: run for run in history.runs(cache)}
    if isinstance(newest, UseRow):
        made = cache.log.find_attempt(newest.cached_from)
        if made is not None:
            return Found(known.get(newest.run), made, newest)
        newest = next(row for row in rows if isinstance(row, AttemptRow))
    return Found(known.get(newest.run), newest)


def components_of(row: AttemptRow, runs: Mapping[str, RunSummary]) -> tuple[Component, ...]:
    """Return all components of an attempt's hash: those of its process in its run, and its own."""
    return (*_shared_components(row, runs), *row.components)


def _shared_components(
    row: AttemptRow | UseRow, runs: Mapping[str, RunSummary]
) -> tuple[Component, ...]:
    run = runs.get(row.run)
    for record in run.processes_of(row.session) if run is not None else ():
        if record.name == row.process:
            return of_tasks(record.components)
    return ()


def nearest_earlier(
    cache: Cache, row: AttemptRow, runs: Mapping[str, RunSummary]
) -> AttemptRow | None:
    """Return the attempt that a reader would compare this one with; None where there is none.

    Of the same process: first one with the same inputs (so that what remains is a change of the
    process), then with most equal components (so that what remains is a new input), then with the
    same tag or position, of the same notebook; of these the newest.
    """
    shared = _shared_components(row, runs)
    notebook = runs[row.run].notebook if row.run in runs else None
    with reading(cache) as cursor:  # a process may have very many attempts: none is unfolded here
        makers = cursor.execute(
            f"SELECT DISTINCT run, session, process FROM ({_ATTEMPTS})", {"process": row.process}
        ).fetchall()
        makers = [each for each in makers if each[:2] != (row.run, row.session)]
        theirs = [
            _shared_components(replace(row, run=run, session=session, process=process), runs)
            for run, session, process in makers
        ]
        found = cursor.execute(
            _NEAREST,
            {
                "process": row.process,
                "at": row.at,
                "id": row.id,
                "own": sorted({f"{each.name}={each.digest}" for each in row.inputs}),
                "tag": row.tag,
                "position": row.position,
                "runs": [run for run, _, _ in makers],
                "sessions": [session for _, session, _ in makers],
                "processes": [process for _, _, process in makers],
                "equal": [explain.equal_count(each, shared) for each in theirs],
                "of_notebook": [
                    run in runs and runs[run].notebook == notebook for run, _, _ in makers
                ],
            },
        ).fetchone()
    return None if found is None else cache.log.find_attempt(found[0])


_ATTEMPTS = """SELECT id, coalesce(run, '') AS run, session, process, "at", status, "start",
        coalesce(tag, '') AS tag, coalesce(position, '') AS position, coalesce(inputs, []) AS inputs
    FROM _rows WHERE kind = 'attempt' AND (process = $process OR id IN (
        SELECT cached_from FROM _rows WHERE kind = 'use' AND process = $process))"""
"""The attempts of a process, and those of others whose results it used: it may have been renamed,
or be equal to another one."""

_NEAREST = f"""WITH makers AS (
    SELECT unnest($runs) AS run, unnest($sessions) AS session, unnest($processes) AS process,
        unnest($equal) AS equal, unnest($of_notebook) AS of_notebook
), earlier AS (
    SELECT attempts.*, equal, of_notebook, list_distinct(
        [each.name || '=' || each.digest for each in inputs]) AS theirs
    FROM ({_ATTEMPTS}) attempts JOIN makers USING (run, session, process)
    WHERE ("at", id) < ($at, $id)
        AND (len(inputs) > 0 OR "start" IS NOT NULL OR status <> 'failed')  -- not refused
)
SELECT id FROM earlier ORDER BY
    list_sort(theirs) = $own DESC, equal + len(list_intersect(theirs, $own)) DESC,
    CASE WHEN $tag <> '' THEN tag = $tag ELSE position = $position END DESC,
    of_notebook DESC, "at" DESC, id DESC
LIMIT 1"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Why a task ran or was a hit: one line, then more lines, then (title, text) to unfold."""

    task: str
    hash: str
    run: str
    outcome: str
    head: str
    lines: tuple[str, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    differences: tuple[Difference, ...] = ()
    compared_with: str | None = None

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "task": self.task,
            "hash": self.hash,
            "run": self.run,
            "outcome": self.outcome,
            "reason": self.head,
            "lines": list(self.lines),
            "differences": [difference_record(each) for each in self.differences],
            "compared_with": self.compared_with,
        }


def why(
    cache: Cache,
    words: Sequence[str],
    *,
    run: str | None = None,
    full: bool = False,
    known: Sequence[RunSummary] | None = None,
) -> Told:
    """Say why a task ran or was a hit; `words`, `run` and `known` as in `find_task`.

    full: list all components that its hash is made of.
    """
    known = history.runs(cache) if known is None else known
    found = find_task(cache, words, run=run, known=known)
    return why_of(cache, found, full=full, known=known)


def why_of(
    cache: Cache,
    found: Found,
    *,
    full: bool = False,
    known: Sequence[RunSummary] | None = None,
) -> Told:
    """Say why a task that was found ran or was a hit."""
    runs = {each.id: each for each in (history.runs(cache) if known is None else known)}
    components = components_of(found.made, runs)
    if found.use is not None:
        return _why_cached(cache, found, runs, components if full else ())
    made, name = found.made, found.run.name if found.run else found.made.run
    earlier = nearest_earlier(cache, made, runs)
    different: tuple[Difference, ...] = ()
    lines = [f"error: {made.error}"] if made.error else []
    if earlier is None:
        reason = f"no earlier task of {made.process} is known"
    else:
        before = components_of(earlier, runs)
        different = explain.differences(before, components)
        reason = _reason(cache, made, earlier, different, before, components)
        lines.append(f"compared with {label_of(earlier)} of {_run_words(runs, earlier.run)}")
        lines += [f"  {line}" for line in explain.value_lines(different)]
    return Told(
        task=found.label,
        hash=made.hash,
        run=name,
        outcome=made.status,
        head=f"{found.label} {'ran' if made.status == 'completed' else made.status}: {reason}",
        lines=(*lines, *(_listed(components) if full else ())),
        details=tuple(_details(cache, different)),
        differences=different,
        compared_with=earlier.hash if earlier is not None else None,
    )


def _why_cached(
    cache: Cache, found: Found, runs: Mapping[str, RunSummary], components: Sequence[Component]
) -> Told:
    assert found.use is not None
    if found.use.hash != found.made.hash:
        return _why_trusted(cache, found, runs, components)
    took = f", {found.made.realtime:.1f} s" if found.made.realtime is not None else ""
    by = f" by {found.made.user}" if found.made.user else ""
    head = (
        f"{found.label} was cached: every component is equal to that of "
        f"{_run_words(runs, found.made.run)}{took}{by}"
    )
    return Told(
        task=found.label,
        hash=found.use.hash,
        run=found.run.name if found.run else found.use.run,
        outcome="cached",
        head=head,
        lines=tuple(_listed(components)),
        compared_with=found.made.hash,
    )


def _why_trusted(
    cache: Cache,
    found: Found,
    runs: Mapping[str, RunSummary],
    components: Sequence[Component],
) -> Told:
    """The result is of other code, which somebody took for equal."""
    assert found.use is not None
    word = word_given(cache.log, found.use.hash)
    who = "somebody"
    if word is not None:
        when = datetime.fromtimestamp(word.at / 1e6, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
        who = f"{word.user} on {when} ({word.reason})"
    own = {("input", each.name) for each in found.made.inputs}
    before = [each for each in components_of(found.made, runs) if each.key not in own]
    now = _shared_components(found.use, runs)
    different = explain.differences(before, now)
    said = ", ".join(explain.phrase(each, found.use.process) for each in different[:3])
    return Told(
        task=found.label,
        hash=found.use.hash,
        run=found.run.name if found.run else found.use.run,
        outcome="cached",
        head=f"{found.label} was cached: the result of {_run_words(runs, found.made.run)} was "
        f"trusted by {who}, though {said}",
        lines=(*explain.value_lines(different), *_listed(components)),
        details=tuple(_details(cache, different)),
        differences=different,
        compared_with=found.made.hash,
    )


def _run_words(runs: Mapping[str, RunSummary], run: str) -> str:
    known = runs.get(run)
    return f"run {known.name}" if known is not None else f"run {run}"


def _listed(components: Sequence[Component]) -> list[str]:
    return [
        f"  {each.kind} {each.name}  {short(each.digest)}  {each.summary}".rstrip()
        for each in components
    ]


def difference_record(each: Difference) -> dict[str, object]:
    """Return what `--json` prints of a component that differs."""
    return {
        "kind": each.component.kind,
        "name": each.component.name,
        "change": each.change,
        "before": each.old and each.old.summary,
        "after": each.new and each.new.summary,
    }


def _reason(
    cache: Cache,
    row: AttemptRow,
    earlier: AttemptRow,
    different: Sequence[Difference],
    before: Sequence[Component],
    components: Sequence[Component],
) -> str:
    if not different:
        return _same_components(row, earlier)
    inputs = [each.new for each in different if each.component.kind in ("input", "file")]
    if len(inputs) == len(different) and _seen_apart(cache, row, inputs):
        names = " and ".join(f"{each.name} {each.summary}" for each in inputs if each)
        return f"new combination: no earlier task has {names} together with its other inputs"
    total = len({each.key for each in (*before, *components)})
    line = explain.one_line(row.process, different, total - len(different), total)
    made = _maker(cache, row, different[0]) if len(inputs) == len(different) == 1 else None
    if made is None:
        return line
    because = made.reason.partition("; ")[0]
    by = f"{label_of(made)}{f', which ran: {because}' if because else ''}"
    return f"{line} ({different[0].component.name} is a new result of {by})"


def _maker(cache: Cache, row: AttemptRow, different: Difference) -> AttemptRow | None:
    """Return the attempt of the same run that made an input, where the input is a result.

    Not of numbers and texts, which are equal by chance.
    """
    now = next((each for each in row.inputs if each.name == different.component.name), None)
    if now is None or now.scalar is not None:
        return None
    for made in cache.log.rows(("attempt",), run=row.run):
        if (
            isinstance(made, AttemptRow)
            and made.process != row.process
            and any(each.stored.digest in (now.digest, now.content) for each in made.outputs)
        ):
            return made
    return None


def _same_components(row: AttemptRow, earlier: AttemptRow) -> str:
    """The hash was known, and the task ran all the same."""
    if earlier.status != "completed":
        return f"the earlier attempt with the same components {earlier.status}"
    return row.reason or (
        "nothing differs from the earlier row; it was asked to run afresh, or its result was gone"
    )


def _seen_apart(cache: Cache, row: AttemptRow, inputs: Sequence[Component | None]) -> bool:
    """Whether earlier tasks had each of these inputs, though none had them all as here."""
    wanted = {(each.name, each.digest) for each in inputs if each is not None}
    for other in cache.log.rows(("attempt",), process=row.process):
        if isinstance(other, AttemptRow) and (other.at, other.id) < (row.at, row.id):
            wanted -= {(each.name, each.digest) for each in other.inputs}
    return not wanted


def _details(cache: Cache, different: Sequence[Difference]) -> list[tuple[str, str]]:
    """A diff of the text of each component that has one: source, or a value as it was."""
    found: list[tuple[str, str]] = []
    for each in different:
        old, new = (with_text(cache, side) for side in (each.old, each.new))
        diff = explain.source_diff(old, new)
        if diff:
            found.append((f"{each.component.kind} {each.component.name}", diff))
    return found


def with_text(cache: Cache, component: Component | None) -> Component | None:
    """Return the component with its evidence fetched, where that lies in a blob."""
    if component is None or component.evidence is None:
        return component
    if not _BLOB.fullmatch(component.evidence):
        return component
    try:
        text = cache.blobs.read(Digest(component.evidence)).decode("utf-8", "replace")
    except StoreError:
        return replace(component, evidence=None)
    return replace(component, evidence=text)


__all__ = [
    "Found",
    "Told",
    "attempts_by_id",
    "components_of",
    "difference_record",
    "find_task",
    "label_of",
    "nearest_earlier",
    "run_with",
    "tasks_of",
    "why",
    "why_of",
    "with_text",
]
