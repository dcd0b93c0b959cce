"""Which other attempts tell why a task ran: the one it is compared with, who made its inputs.

Asked of the history, which unfolds no row for it: a process may have very many attempts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.kept_components import shared_components
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.row import AttemptRow
from nbcache.plan.identity import explain
from nbcache.store.cache import Cache
from nbcache.store.history import reading

_FROM = "_rows"  # all that is asked of: columns are called like views, which need not be made
_JUST_NOW_S = 5.0  # who asks on about what `nearest_earlier` found sees what that saw


def nearest_earlier(
    cache: Cache, row: AttemptRow, runs: Mapping[str, RunSummary]
) -> AttemptRow | None:
    """Return the attempt that a reader would compare this one with; None where there is none.

    Of the same process: first one with the same inputs (so that what remains is a change of the
    process), then with most equal components (so that what remains is a new input), then with the
    same tag or position, of the same notebook; of these the newest.
    """
    shared = shared_components(row, runs)
    notebook = runs[row.run].notebook if row.run in runs else None
    with reading(cache, _FROM) as cursor:
        found = cursor.execute(
            _NEAREST,
            {
                "process": row.process,
                "run": row.run,
                "session": row.session,
                "at": row.at,
                "id": row.id,
                "own": sorted({f"{each.name}={each.digest}" for each in row.inputs}),
                "tag": row.tag,
                "position": row.position,
            },
        ).fetchall()
    ranked = []
    for run, session, process, (has_same, common, is_near, at, id) in found:
        theirs = shared_components(replace(row, run=run, session=session, process=process), runs)
        equal = explain.equal_count(theirs, shared) + common
        of_notebook = run in runs and runs[run].notebook == notebook
        ranked.append((has_same, equal, is_near, of_notebook, at, id))
    return cache.log.find_attempt(max(ranked)[-1]) if ranked else None


def maker_of(
    cache: Cache, row: AttemptRow, digests: Sequence[Digest], above: Collection[str]
) -> AttemptRow | None:
    """Return the first attempt of the same run, by a process of those `above`, that made a result
    of one of these digests."""
    with reading(cache, _FROM, within_s=_JUST_NOW_S) as cursor:
        known = {"run": row.run, "above": list(above), "digests": list(digests)}
        found = cursor.execute(_MAKER, known).fetchone()
    return None if found is None else cache.log.find_attempt(found[0])


def members_of(cache: Cache, gathered: Digest) -> list[Digest]:
    """Return what an input was gathered of, as results are named; empty where it was not."""
    with reading(cache, _FROM, within_s=_JUST_NOW_S) as cursor:
        found = cursor.execute(_MEMBERS, {"hash": gathered}).fetchone()
    return [Digest(each) for each in found[0]] if found is not None else []


def seen_apart(cache: Cache, row: AttemptRow, inputs: Sequence[Component]) -> bool:
    """Whether earlier tasks had each of these inputs, though none had them all as here."""
    wanted = sorted({f"{each.name}={each.digest}" for each in inputs})
    with reading(cache, _FROM, within_s=_JUST_NOW_S) as cursor:
        known = {"process": row.process, "at": row.at, "id": row.id, "wanted": wanted}
        (seen,) = cursor.execute(_SEEN, known).fetchall()[0]
    return bool(seen == len(wanted))


_MAKER = """SELECT id FROM (
    SELECT id, "at", unnest(outputs) AS made FROM _rows
    WHERE kind = 'attempt' AND run = $run AND list_contains($above, process)
) WHERE made.digest IN (SELECT unnest($digests)) ORDER BY "at", id LIMIT 1"""

_MEMBERS = """SELECT [coalesce(each.content, each.digest) FOR each IN inputs]
    FROM _rows WHERE kind = 'list' AND hash = $hash LIMIT 1"""

_SEEN = """SELECT count(DISTINCT name_ || '=' || digest_) FROM (
    SELECT each.name AS name_, each.digest AS digest_ FROM (
        SELECT unnest(inputs) AS each FROM _rows
        WHERE kind = 'attempt' AND process = $process AND ("at", id) < ($at, $id)
    )
) WHERE name_ || '=' || digest_ IN (SELECT unnest($wanted))"""

_NEAREST = """WITH earlier AS (
    SELECT id, coalesce(run, '') AS run, session, process, "at", coalesce(tag, '') AS tag,
        coalesce(position, '') AS position,
        list_distinct([each.name || '=' || each.digest FOR each IN coalesce(inputs, [])]) AS theirs
    FROM _rows WHERE kind = 'attempt' AND (process = $process OR id IN (
            SELECT cached_from FROM _rows WHERE kind = 'use' AND process = $process))
        AND (len(inputs) > 0 OR "start" IS NOT NULL OR status <> 'failed')  -- not refused
)
SELECT run, session, process, max(row(
    list_sort(theirs) = $own, len(list_intersect(theirs, $own)),
    CASE WHEN $tag <> '' THEN tag = $tag ELSE position = $position END, "at", id))
FROM earlier WHERE (run, session) <> ($run, $session)
    AND (run = $run AND session < $session OR ("at", id) < ($at, $id))
GROUP BY run, session, process"""
"""The nearest attempt of each session of a run, of the process and of others whose results it used:
it may have been renamed, or be equal to another one."""
