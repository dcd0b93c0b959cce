"""Where a result comes from and what was made of it: `nbcache lineage`.

Walks the view `lineage`, which joins results to the tasks that took them by content, back to what
came from outside and forward to the last consumer. What is meant may be a task, one output of it,
a file anywhere (known by its content, whatever it is called now), or a digest. Reads only.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcache.engine.record import history
from nbcache.engine.record.finding import find_task, is_hash
from nbcache.engine.record.query import fetch
from nbcache.engine.record.results import label_at
from nbcache.errors import UsageError
from nbcache.model.digest import Digest
from nbcache.plan.language.header_text import meant
from nbcache.store.cache import Cache
from nbcache.store.history import excerpt, reading

if TYPE_CHECKING:
    import duckdb

TaskKey = tuple[str, str]  # (run id, task_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNode:
    """A task of a run. Times are in UTC, durations in seconds."""

    run: str
    run_name: str
    process: str
    position: str
    task_id: str
    tag: str | None
    status: str
    hash: str
    start: datetime | None
    complete: datetime | None
    realtime: float | None
    host: str | None
    user: str | None
    trusted: bool = False  # its result is that of other code, which somebody took for equal

    @property
    def key(self) -> TaskKey:
        """What tells it from all others."""
        return self.run, self.task_id

    @property
    def label(self) -> str:
        """How people call it."""
        return label_at(self.process, self.tag or self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One result that one task made and another took."""

    maker: TaskKey
    output: str
    taker: TaskKey
    input: str
    digest: str
    kind: str
    size: int
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input of a task that no known task made; `place` is where a file lay."""

    taker: TaskKey
    input: str
    digest: str
    summary: str
    scalar: str | None
    place: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """An output of a task."""

    maker: TaskKey
    output: str
    digest: str
    kind: str
    size: int
    file: str | None
    blob: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The tasks around what was asked for, as a graph.

    `roots` are the outputs that were meant; `title` says what was. Of a file that no task made
    there are no roots, and `takers` are those that took it. `above` and `below` are what a root was
    made from and what was made of it; the makers of the roots are in neither. `equal` names other
    tasks that made the content of a file, the newest first.
    """

    title: str
    roots: tuple[Product, ...]
    takers: tuple[Source, ...]
    tasks: Mapping[TaskKey, TaskNode]
    links: tuple[Link, ...]
    sources: tuple[Source, ...]
    products: tuple[Product, ...]
    above: frozenset[TaskKey] = field(default=frozenset())
    below: frozenset[TaskKey] = field(default=frozenset())
    equal: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "title": self.title,
            "roots": [_record(each) for each in self.roots],
            "tasks": [
                {**_record(task), "role": self._role(task.key)} for task in self.tasks.values()
            ],
            "links": [_record(each) for each in self.links],
            "sources": [_record(each) for each in (*self.sources, *self.takers)],
            "equal": list(self.equal),
        }

    def _role(self, task: TaskKey) -> str:
        if any(root.maker == task for root in self.roots):
            return "root"
        return "above" if task in self.above else "below"


def _record(each: Any) -> dict[str, object]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(each).items()
        if value is not None
    }


def lineage_of(cache: Cache, words: Sequence[str], *, run: str | None = None) -> Lineage:
    """Return the lineage of what the words mean.

    words: a task as for `why`, with `.OUTPUT` behind its process or as a word of its own; or one
    file or folder; or one content digest. A process goes before a file of the same name.

    Raises:
        UsageError: nothing or too much fits. RunError: there is no such run.
    """
    if len(words) == 1:
        content = _content_of(cache, words[0])
        if content is not None:
            return _of_content(cache, words[0], content)
    task_words, output = _without_output(words)
    found = find_task(cache, task_words, run=run)
    place = found.use or found.made
    key = (place.run, f"{place.process}[{place.position}]")
    graph = _Graph(cache)
    graph.load([key[0]])
    if key not in graph.tasks:
        raise UsageError(f"{found.label} is no longer in the log")
    made = [each for each in graph.products if each.maker == key and each.kind != "none"]
    roots = [each for each in made if output in (None, each.output)]
    if output is not None and not roots:
        known = [each.output for each in made]
        if not known:
            raise UsageError(f"{found.label} has no output that is kept")
        hint = meant(output, known, f"it has {', '.join(known)}")
        raise UsageError(f"{found.label} has no output {output!r}; {hint}")
    title = f"{found.label}.{output}" if output else found.label
    return graph.around(title, roots, [], [key])


_WITH_OUTPUT = re.compile(r"(\w+)(\[.*\])?\.(\w+)(\[.*\])?", re.DOTALL)  # fit[v=0.5].out


def _without_output(words: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """Cut `.OUTPUT` off the first word, or off the end."""
    if len(words) > 1 and words[-1].startswith(".") and len(words[-1]) > 1:
        return words[:-1], words[-1][1:]
    named = _WITH_OUTPUT.fullmatch(words[0])
    if named is None:
        return words, None
    return [named[1] + (named[2] or named[4] or ""), *words[1:]], named[3]


def _content_of(cache: Cache, word: str) -> Digest | None:
    """The digest of the content that a word names; None where it means a task."""
    if word.startswith("xxh3:") and _is_content(cache, word):
        return Digest(word)
    path = Path(os.path.expanduser(word))
    if os.sep not in word:
        runs = history.runs(cache)
        known = {each.name for run in runs for of in run.recorded.values() for each in of}
        if not path.exists() and known and not _may_be_task(word, known):
            raise UsageError(history.unknown("process, hash or file", word, sorted(known)))
        if not path.exists() or word in known:
            return None
    elif not path.exists():
        raise UsageError(f"there is no file {word!r}")
    if not path.is_file() and not path.is_dir():
        raise UsageError(f"{word!r} is neither a file nor a folder")
    return cache.files.digest(path)


def _may_be_task(word: str, processes: Collection[str]) -> bool:
    """Whether a word begins as a task does: with a process, or with digits of a hash."""
    return re.split(r"[.\[]", word)[0] in processes or is_hash(word)


def _is_content(cache: Cache, digest: str) -> bool:
    query = (
        "SELECT 1 FROM outputs WHERE digest = $1 UNION ALL"
        " SELECT 1 FROM inputs WHERE coalesce(content, digest) = $1 LIMIT 1"
    )
    return bool(fetch(cache, query, [digest]))


def _of_content(cache: Cache, name: str, content: Digest) -> Lineage:
    """The lineage of a content: of the newest task that made it, or of the tasks that took it."""
    made = fetch(
        cache,
        "SELECT o.run, o.task_id, o.name, t.process, coalesce(t.tag, t.position),"
        " t.run_name FROM outputs o JOIN tasks t USING (run, task_id)"
        " WHERE o.digest = ? QUALIFY row_number() OVER (PARTITION BY t.hash"
        " ORDER BY t.cached_from_run IS NOT NULL, t.recorded DESC) = 1"
        " ORDER BY t.cached_from_run IS NOT NULL, t.recorded DESC",
        [content],
    )
    graph = _Graph(cache)
    if made:
        run, task_id, output, *_ = made[0]
        makers = [f"{label_at(process, at)} of run {name}" for *_, process, at, name in made]
        graph.load([run])
        roots = [
            each
            for each in graph.products
            if each.maker == (run, task_id) and each.output == output
        ]
        found = graph.around(name, roots, [], [(run, task_id)])
        return dataclasses.replace(found, equal=tuple(makers[1:]))
    taken = fetch(
        cache,
        "SELECT i.run FROM _taken i JOIN runs r USING (run) WHERE digest = ?"
        " ORDER BY r.start DESC LIMIT 1",
        [content],
    )
    if not taken:
        raise UsageError(_unknown_content(cache, name, content))
    graph.load([taken[0][0]])
    takers = [
        each for each in graph.sources if each.digest == content and each.taker[0] == taken[0][0]
    ]
    return graph.around(name, [], takers, [])


def _unknown_content(cache: Cache, name: str, content: str) -> str:
    text = f"no task of this cache made or took what {name} holds ({content})"
    query = (
        'SELECT task_id, run_name FROM outputs o JOIN tasks USING (run, task_id) WHERE "file" = ?'
        " ORDER BY recorded DESC LIMIT 1"
    )
    called = fetch(cache, query, [Path(name).name])
    if called:
        task, run = called[0]
        text += f"\n  {task} of run {run} made a file of that name with other content."
    return text


_VIEWS = "tasks outputs inputs lineage"  # that are asked about a few runs
_SOURCES = "SELECT DISTINCT digest FROM _taken WHERE is_source AND list_contains($1, run)"
_MADE = """SELECT DISTINCT each.digest FROM (
    SELECT unnest(outputs) AS each FROM _rows
    WHERE kind = 'attempt' AND status = 'completed' AND list_contains($1, run)
) WHERE each.kind IN ('file', 'tree')"""
_TAKERS = """WITH contents AS (SELECT unnest($1) AS content),
lists AS (
    SELECT hash, each.content AS content FROM (
        SELECT hash, unnest(inputs) AS each FROM _rows WHERE kind = 'list')
    WHERE each.content IN (FROM contents) AND each.place IS NOT NULL
), taken AS (
    SELECT id, run, unnest(inputs) AS each FROM _rows WHERE kind = 'attempt'
), takers AS (
    SELECT id, run, each.content AS content FROM taken
    WHERE each.content IN (FROM contents) AND each.place IS NOT NULL
    UNION SELECT id, run, lists.content FROM taken JOIN lists ON lists.hash = each.digest
)
FROM (SELECT run, content FROM takers UNION
    SELECT used.run, content FROM takers JOIN _rows used ON used.cached_from = takers.id
    WHERE used.kind = 'use')"""
_MAKERS = """SELECT DISTINCT run FROM (
    SELECT run, unnest(outputs) AS each FROM _rows WHERE kind = 'attempt' AND status = 'completed'
) WHERE each.kind IN ('file', 'tree') AND each.digest IN (SELECT unnest($1))"""


def _near(cache: Cache, cursor: duckdb.DuckDBPyConnection, runs: list[str]) -> set[str]:
    """Return the other runs that the view `lineage` looks at for what it says of these: who made
    files that they took from elsewhere, who took files that they made, and who else made these."""
    sources, made = (
        {digest for (digest,) in cursor.execute(query, [runs]).fetchall()}
        for query in (_SOURCES, _MADE)
    )
    near: set[str] = set()
    with reading(cache, "_rows") as history_:
        if made:
            for run, content in history_.execute(_TAKERS, [sorted(made)]).fetchall():
                if run not in runs:
                    near.add(run)
                    sources.add(content)
        if sources:
            near.update(run for (run,) in history_.execute(_MAKERS, [sorted(sources)]).fetchall())
    return near - set(runs)


class _Graph:
    """The tasks, links and sources of some runs; grows by the runs that a walk reaches."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._runs: set[str] = set()
        self.tasks: dict[TaskKey, TaskNode] = {}
        self.links: dict[tuple[TaskKey, str, TaskKey, str], Link] = {}
        self.sources: list[Source] = []
        self.products: list[Product] = []

    def load(self, runs: Iterable[str]) -> None:
        """Read some runs, once each."""
        new = sorted(set(runs) - self._runs)
        if not new:
            return
        self._runs.update(new)
        with excerpt(self._cache, _VIEWS, new) as cursor:
            near = _near(self._cache, cursor, new)
            if not near:
                self._read(cursor, new)
        if near:
            with excerpt(self._cache, _VIEWS, {*new, *near}) as cursor:
                self._read(cursor, new)

    def _read(self, cursor: duckdb.DuckDBPyConnection, runs: list[str]) -> None:
        names = [each.name for each in dataclasses.fields(TaskNode)]
        columns = ", ".join(f'"{name}"' for name in names)
        query = f"SELECT {columns} FROM tasks WHERE list_contains($1, run) ORDER BY task_id"
        for row in cursor.execute(query, [runs]).fetchall():
            task = TaskNode(**dict(zip(names, row, strict=True)))
            self.tasks[task.key] = task
        query = """SELECT run, task_id, name, digest, kind, size, "file", blob FROM outputs
            WHERE list_contains($1, run) ORDER BY ALL"""
        names = [each.name for each in dataclasses.fields(Product)][1:]
        for row in cursor.execute(query, [runs]).fetchall():
            values = dict(zip(names, row[2:], strict=True))
            self.products.append(Product(maker=(row[0], row[1]), **values))
        query = """SELECT from_run, from_task_id, output, run, task_id, input, digest, kind,
            coalesce(size, 0), "file" FROM lineage
            WHERE list_contains($1, run) OR list_contains($1, from_run) ORDER BY ALL"""
        names = [each.name for each in dataclasses.fields(Link)]
        for row in cursor.execute(query, [runs]).fetchall():
            link = Link(**dict(zip(names, (row[:2], row[2], row[3:5], *row[5:]), strict=True)))
            self.links[link.maker, f"{link.output} {link.digest}", link.taker, link.input] = link
        self._read_sources(cursor, runs)

    def _read_sources(self, cursor: duckdb.DuckDBPyConnection, runs: list[str]) -> None:
        """Read what came from outside: all inputs, and files inside of lists, but for links."""
        linked = {(link.taker, link.input) for link in self.links.values()}
        names = [each.name for each in dataclasses.fields(Source)][1:]
        inputs = "SELECT run, task_id, name, coalesce(content, digest), summary, scalar, place"
        for query, is_member in (
            (f"{inputs} FROM inputs WHERE list_contains($1, run) ORDER BY ALL", False),
            (
                "SELECT DISTINCT i.run, i.task_id, i.name, coalesce(m.content, m.digest),"
                " m.summary, m.scalar, m.place FROM inputs i JOIN"
                " (SELECT hash, unnest(inputs) AS m FROM _rows WHERE kind = 'list') l"
                " ON l.hash = i.digest"
                " WHERE list_contains($1, i.run) AND m.place IS NOT NULL ORDER BY ALL",
                True,
            ),
        ):
            for row in cursor.execute(query, [runs]).fetchall():
                source = Source(taker=(row[0], row[1]), **dict(zip(names, row[2:], strict=True)))
                if is_member or (source.taker, source.input) not in linked:
                    self.sources.append(source)

    def around(
        self,
        title: str,
        roots: Sequence[Product],
        takers: Sequence[Source],
        start: Sequence[TaskKey],
    ) -> Lineage:
        """Walk back from the roots and forward from them, through other runs too."""
        above = self._walk(start, back=True)
        wanted = {(root.maker, root.digest) for root in roots}
        first = [link.taker for link in self.links.values() if (link.maker, link.digest) in wanted]
        below = self._walk([*first, *(each.taker for each in takers)], back=False)
        kept = above | below
        links = [
            link
            for link in self.links.values()
            if (link.taker in above and link.maker in above)
            or (link.taker in below and link.maker in below)
            or (link.taker in below and (link.maker, link.digest) in wanted)
        ]
        return Lineage(
            title=title,
            roots=tuple(roots),
            takers=tuple(takers),
            tasks={key: task for key, task in self.tasks.items() if key in kept},
            links=tuple(links),
            sources=tuple(each for each in self.sources if each.taker in above),
            products=tuple(each for each in self.products if each.maker in kept),
            above=frozenset(above - {root.maker for root in roots}),
            below=frozenset(below),
        )

    def _walk(self, start: Iterable[TaskKey], *, back: bool) -> set[TaskKey]:
        seen: set[TaskKey] = set()
        queue = list(start)
        self.load(run for run, _ in queue)
        neighbours = self._neighbours(back)
        while queue:
            task = queue.pop()
            if task in seen:
                continue
            seen.add(task)
            if task[0] not in self._runs:
                self.load([task[0]])
                neighbours = self._neighbours(back)
            queue += neighbours.get(task, ())
        return seen

    def _neighbours(self, back: bool) -> dict[TaskKey, list[TaskKey]]:
        found: dict[TaskKey, list[TaskKey]] = {}
        for link in self.links.values():
            here, there = (link.taker, link.maker) if back else (link.maker, link.taker)
            found.setdefault(here, []).append(there)
        return found
