"""The SQL views over the log: their names, columns and meaning. Documented in docs/history.md.

All are made of `_rows`: every row of the log, with the columns of docs/format.md; and of what
`TABLES` keeps of it. Column names follow
Nextflow's trace where they mean the same. Times are TIMESTAMPs in UTC, durations seconds, sizes
bytes. A rename here breaks people's queries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TIMES = """make_timestamp({0}.submit) AS submit, make_timestamp({0}.start) AS "start",
    make_timestamp({0}.complete) AS complete"""
_MEASURED = """{0}.duration, {0}.realtime,
    100 * {0}.cpu_time / nullif({0}.realtime, 0) AS cpu_percent, {0}.cpu_time, {0}.peak_rss,
    {0}.rchar, {0}.wchar, {0}.cpus, {0}.memory, {0}."time", {0}.gpus, {0}.disk,
    {0}.host, {0}."user", {0}.executor, {0}.workdir"""
_NAMED = (
    """{0}.process || coalesce(' (' || coalesce({0}.tag, nullif({0}.position, '')) || ')', '')"""
)
_TASK_ID = """{0}.process || '[' || coalesce({0}.position, '') || ']'"""
_ID = """{0}.run AS run, _names.run_name AS run_name, {0}.session AS session,
    {0}.process AS process, coalesce({0}.position, '') AS position, {0}.tag AS tag"""

# Whether a hit is on the task's own attempt of an earlier session of the run.
_OWN = """coalesce(last_.run = of_.run AND last_.process = of_.process
        AND coalesce(last_.position, '') = coalesce(of_.position, ''), false)"""

_ENDED = "('succeeded', 'failed', 'cancelled')"

# How near the position of a result is to that of the task that may have taken it.
_NEARNESS = """CASE WHEN c.position = o.position THEN 2
        WHEN starts_with(c.position || '.', o.position || '.')
            OR starts_with(o.position || '.', c.position || '.')
            OR ends_with('.' || c.position, '.' || o.position)
            OR ends_with('.' || o.position, '.' || c.position) THEN 1
        ELSE 0 END"""


def _either(columns: str, as_shown: str = "{0}") -> str:
    """Return columns of a task's last row, or else of the attempt that it used."""
    both = {name: f'coalesce(last_."{name}", of_."{name}")' for name in columns.split()}
    return ", ".join(f'{as_shown.format(value)} AS "{name}"' for name, value in both.items())


# One line per task: its last attempt, or its last hit with what the attempt it used measured.
# What a resumed run finds of its own earlier sessions is its own attempt, no hit. Only attempts
# that hits used are made ready to be found: for all it takes longer than to read the log.
_TASKS = f"""WITH last_ AS (
    FROM _rows r ANTI JOIN _earlier ON _earlier.id = r.id WHERE kind IN ('attempt', 'use')
), of_ AS (
    FROM _rows WHERE kind = 'attempt' AND id IN (SELECT cached_from FROM _rows WHERE kind = 'use')
) SELECT coalesce(last_.cached_from, last_.id) AS id, {_ID.format("last_")},
    {_TASK_ID.format("last_")} AS task_id, {_NAMED.format("last_")} AS name,
    last_.hash AS hash, substr(last_.hash, 6, 8) AS short,
    CASE WHEN last_.kind = 'use' AND NOT {_OWN} THEN 'CACHED'
        ELSE upper(coalesce(last_.status, of_.status)) END AS status,
    coalesce(of_.attempt, last_.attempt) AS attempt, {_either("exit signal error")},
    {_either("submit start complete", "make_timestamp({0})")}, {_either("duration realtime")},
    100 * coalesce(last_.cpu_time, of_.cpu_time)
        / nullif(coalesce(last_.realtime, of_.realtime), 0) AS cpu_percent,
    {_either("cpu_time peak_rss rchar wchar cpus memory time gpus disk")},
    {_either("host user executor workdir")},
    CASE WHEN {_OWN} THEN of_.reason ELSE coalesce(last_.reason, '') END AS reason,
    CASE WHEN NOT {_OWN} THEN of_.run END AS cached_from_run,
    coalesce(last_.hash <> of_.hash, false) AS trusted,
    make_timestamp(last_."at") AS recorded
FROM last_ LEFT JOIN of_ ON of_.id = last_.cached_from
LEFT JOIN _names ON _names.run = last_.run"""

# What would cost each question a look at all rows; made again for the runs ({0}) with new ones.
TABLES: dict[str, str] = {
    "_names": """SELECT run, any_value(name) AS run_name FROM _rows
WHERE kind = 'run' {0} GROUP BY run""",
    # The rows of tasks that have a later one; those of a session go by the number of the attempt,
    # since clocks may go back, and a hit comes after the attempts before it. Nearly all tasks have
    # one row: to sort only the others takes a third of the time. Of a process that a session has
    # settled, as a resume that succeeded does with all, what only earlier ones had is no task: it
    # was renamed, the item is gone.
    "_earlier": """WITH ends_ AS NOT MATERIALIZED (
    SELECT run, process, position, session, attempt, kind, "at", id,
        hash(run, process, position) AS task_
    FROM _rows WHERE kind IN ('attempt', 'use') {0}
), again_ AS (SELECT task_ FROM ends_ GROUP BY task_ HAVING count(*) > 1
), settled_ AS (
    SELECT run, process, max(session) AS last_ FROM (
        SELECT run, session, unnest(settled) AS process FROM _rows WHERE kind = 'run')
    GROUP BY run, process
), whole_ AS (
    SELECT run, max(session) AS last_ FROM _rows
    WHERE kind = 'run' AND status = 'succeeded' AND (run, session) IN (
        SELECT (run, session) FROM _rows WHERE kind = 'run' AND status = 'resuming') GROUP BY run
)
(SELECT run, id FROM ends_ WHERE task_ IN (FROM again_)
QUALIFY row_number() OVER (
    PARTITION BY run, process, position
    ORDER BY session DESC, coalesce(attempt, 0) DESC, kind = 'use' DESC, "at" DESC, id DESC) > 1)
UNION SELECT run, id FROM ends_ JOIN settled_ USING (run, process) WHERE session < last_
UNION SELECT run, id FROM ends_ JOIN whole_ USING (run) WHERE session < last_""",
    # What the view `tasks` shows: whoever asks often does not even wait for its plan.
    "_tasks": f"FROM ({_TASKS}) WHERE true {{0}}",
}

VIEWS: dict[str, str] = {
    "attempts": f"""SELECT attempts_.id AS id, {_ID.format("attempts_")},
    {_TASK_ID.format("attempts_")} AS task_id, {_NAMED.format("attempts_")} AS name,
    attempts_.hash AS hash, substr(attempts_.hash, 6, 8) AS short,
    upper(attempts_.status) AS status, attempts_.attempt AS attempt,
    attempts_.exit AS "exit", attempts_.signal AS signal,
    attempts_.error AS error, {_TIMES.format("attempts_")}, {_MEASURED.format("attempts_")},
    attempts_.generation AS generation, attempts_.reason AS reason,
    make_timestamp(attempts_."at") AS recorded
FROM (SELECT * FROM _rows WHERE kind = 'attempt') attempts_ LEFT JOIN _names USING (run)""",
    "tasks": _TASKS,
    # The rows of each run in their order, in which no clock has a say: it may go back.
    "_words": f"""SELECT *, row_number() OVER (
    PARTITION BY run ORDER BY session, status IN {_ENDED}, "at", id) AS place
FROM _rows WHERE kind = 'run'""",
    # The runs whose last session has not ended: they go on, or were killed.
    "_open": f"""SELECT run FROM _words
GROUP BY run HAVING arg_max(status, place) NOT IN {_ENDED}""",
    # How long each run took: sessions that were killed down to the last of their tasks.
    "_took": f"""WITH sessions_ AS (
    SELECT run, session, bool_or(status IN {_ENDED}) AS ended, min("at") AS first_,
        max("at") AS last_, max(duration) AS duration
    FROM _rows WHERE kind = 'run' GROUP BY run, session
), tasks_ AS (
    SELECT run, session, max(coalesce(complete, "at")) AS last_
    FROM _rows SEMI JOIN (FROM sessions_ WHERE NOT ended) USING (run, session)
    WHERE kind IN ('attempt', 'use') GROUP BY run, session
)
SELECT run, sum(coalesce(duration, (greatest(s.last_, t.last_) - s.first_) / 1e6)) AS duration
FROM sessions_ s LEFT JOIN tasks_ t USING (run, session) GROUP BY run""",
    # How the tasks of those runs have ended so far, as the view `tasks` tells it.
    "_so_far": """WITH all_ AS MATERIALIZED (
    SELECT id, run, process, coalesce(position, '') AS position, session, "at", status, cached_from
    FROM _rows SEMI JOIN _open USING (run) WHERE kind IN ('attempt', 'use')
), last_ AS (
    FROM all_ ANTI JOIN _earlier ON _earlier.id = all_.id
), ended_ AS (
    SELECT last_.run AS run, of_.id IS NOT NULL AS is_own,
        CASE WHEN last_.cached_from IS NULL THEN last_.status
            WHEN (of_.process, of_.position) = (last_.process, last_.position) THEN of_.status
            ELSE 'cached' END AS status
    FROM last_ LEFT JOIN all_ of_ ON of_.id = last_.cached_from AND of_.run = last_.run
)
SELECT run, map_from_entries(list((status, tasks))) AS counts, sum(own) AS own
FROM (SELECT run, status, count(*) AS tasks,
        count(*) FILTER (is_own AND status = 'cached') AS own FROM ended_ GROUP BY ALL)
GROUP BY run""",
    "runs": f"""SELECT run, name, status, notebook, parent, "start", complete, duration, sessions,
    coalesce(counts['completed'], 0) AS completed, coalesce(counts['cached'], 0) AS cached,
    coalesce(counts['failed'], 0) AS failed,
    (cached - own_) / nullif(cached + completed + failed + coalesce(counts['ignored'], 0), 0)
        AS hit_rate,
    counts, saved, error, parameters, options, targets, host, "user", pid
FROM (
    SELECT run, arg_max(name, place) AS name, upper(arg_max(status, place)) AS status,
        arg_min(notebook, place) AS notebook, arg_min(parent, place) AS parent,
        make_timestamp(arg_min("at", place)) AS "start",
        CASE WHEN arg_max(status, place) IN {_ENDED}
            THEN make_timestamp(arg_max("at", place)) END AS complete,
        max(session) AS sessions,
        coalesce(any_value(_so_far.counts),
            last(r.counts ORDER BY place) FILTER (status IN {_ENDED})) AS counts,
        coalesce(any_value(_so_far.own), arg_max(r.own, place), 0) AS own_,
        last(saved ORDER BY place) AS saved, last(error ORDER BY place) AS error,
        arg_max(parameters, place) FILTER (cardinality(parameters) > 0) AS parameters,
        arg_max(options, place) FILTER (cardinality(options) > 0) AS options,
        arg_min(targets, place) AS targets,
        arg_max(host, place) AS host, arg_max("user", place) AS "user", arg_max(pid, place) AS pid
    FROM _words r LEFT JOIN _so_far USING (run) GROUP BY run
) JOIN _took USING (run)""",
    "_processes": """SELECT run, session, unnest(processes) AS process_
FROM _rows WHERE kind = 'run'""",
    "processes": """SELECT p.run AS run, p.process AS process, p.language, p.source, p.cell,
    p.inputs, p.outputs, p.upstream, p.labels,
    count(t.status) AS tasks,
    count(*) FILTER (t.status = 'COMPLETED') AS completed,
    count(*) FILTER (t.status = 'CACHED') AS cached,
    count(*) FILTER (t.status = 'FAILED') AS failed,
    avg(t.realtime) AS realtime_mean, sum(t.realtime) AS realtime_total,
    max(t.peak_rss) AS peak_rss_max
FROM (SELECT run, process_.name AS process, arg_max(process_.language, session) AS language,
        arg_max(process_.source, session) AS source, arg_max(process_.cell, session) AS cell,
        arg_max(process_.inputs, session) AS inputs, arg_max(process_.outputs, session) AS outputs,
        arg_max(process_.upstream, session) AS upstream,
        arg_max(process_.labels, session) AS labels
    FROM _processes GROUP BY ALL) p
LEFT JOIN tasks t ON t.run = p.run AND t.process = p.process
GROUP BY ALL""",
    # What each task's hash was made of: those of its process (shared), and its own.
    "components": """SELECT tasks.run AS run, tasks.process AS process, tasks.position AS position,
    tasks.task_id AS task_id, tasks.hash AS hash, false AS shared,
    c.kind AS kind, c.name AS name, c.version AS version, c.digest AS digest,
    c.summary AS summary, c.evidence AS evidence
FROM tasks JOIN (SELECT id, unnest(components) AS c FROM _rows WHERE kind = 'attempt') own_
    ON own_.id = tasks.id
UNION ALL
SELECT tasks.run, tasks.process, tasks.position, tasks.task_id, tasks.hash, true,
    c.kind, c.name, c.version, c.digest, c.summary, c.evidence
FROM tasks JOIN (
    SELECT DISTINCT run, session, process_.name AS process, unnest(process_.components) AS c
    FROM _processes
) shared_ ON shared_.run = tasks.run AND shared_.session = tasks.session
    AND shared_.process = tasks.process AND c.kind <> 'script'""",
    "inputs": """SELECT tasks.run AS run, tasks.process AS process, tasks.position AS position,
    tasks.task_id AS task_id, tasks.tag AS tag, tasks.hash AS hash,
    i.name AS name, i.digest AS digest, i.content AS content, i.summary AS summary,
    i.scalar AS scalar, i.place AS place
FROM tasks JOIN (SELECT id, unnest(inputs) AS i FROM _rows WHERE kind = 'attempt') of_
    ON of_.id = tasks.id""",
    "outputs": """SELECT tasks.run AS run, tasks.process AS process, tasks.position AS position,
    tasks.task_id AS task_id, tasks.tag AS tag, tasks.hash AS hash,
    o.name AS name, o.digest AS digest, o.kind AS kind, o.codec AS codec, o.size AS size,
    o.blob AS blob, o."file" AS "file", coalesce(o.opaque, false) AS opaque
FROM tasks JOIN (SELECT id, unnest(outputs) AS o FROM _rows WHERE kind = 'attempt') of_
    ON of_.id = tasks.id""",
    # All contents that a task took: of an input that was gathered, those of its members.
    "_taken": """SELECT run, process, position, task_id, name AS input,
    coalesce(content, digest) AS digest, content IS NOT NULL AND place IS NOT NULL AS is_source,
    false AS gathered
FROM inputs
UNION ALL
SELECT i.run, i.process, i.position, i.task_id, i.name, l.digest, l.is_source, true
FROM inputs i JOIN (
    SELECT DISTINCT hash, coalesce(m.content, m.digest) AS digest,
        m.content IS NOT NULL AND m.place IS NOT NULL AS is_source
    FROM (SELECT hash, unnest(inputs) AS m FROM _rows WHERE kind = 'list')
) l ON l.hash = i.digest""",
    "_above": """WITH RECURSIVE above_ AS (
    SELECT DISTINCT run, process_.name AS process, unnest(process_.upstream) AS source
    FROM _processes
    UNION
    SELECT a.run, a.process, p.source FROM above_ a JOIN (
        SELECT run, process_.name AS process, unnest(process_.upstream) AS source FROM _processes
    ) p ON p.run = a.run AND p.process = a.source
) SELECT run, process, source FROM above_""",
    # Within a run only processes above count, since small values are equal by chance; of several
    # equal results that at the nearest position. A file of elsewhere is of who made it first.
    "lineage": f"""WITH within_ AS (
    SELECT c.*, o.run AS from_run, o.process AS from_process, o.position AS from_position,
        o.task_id AS from_task_id, o.name AS output, o.kind AS kind, o.size AS size,
        o."file" AS "file"
    FROM _taken c JOIN _above a ON a.run = c.run AND a.process = c.process
    JOIN outputs o ON o.run = c.run AND o.process = a.source AND o.digest = c.digest
        AND o.kind <> 'none'
    QUALIFY gathered OR {_NEARNESS} = max({_NEARNESS}) OVER (
        PARTITION BY c.run, c.process, c.position, c.input, c.digest, o.process, o.name)
), made_ AS (
    SELECT arg_min(run, id) AS run, arg_min(process, id) AS process,
        arg_min(position, id) AS position, arg_min(task_id, id) AS task_id,
        arg_min(o.name, id) AS name, arg_min(o.kind, id) AS kind, arg_min(o.size, id) AS size,
        arg_min(o."file", id) AS "file", o.digest AS digest
    FROM (SELECT id, run, process, coalesce(position, '') AS position,
            {_TASK_ID.format("r")} AS task_id, unnest(outputs) AS o
        FROM _rows r WHERE kind = 'attempt' AND status = 'completed')
    WHERE o.kind IN ('file', 'tree') AND o.size > 0
    GROUP BY o.digest
), across_ AS (
    SELECT c.*, o.run, o.process, o.position, o.task_id, o.name, o.kind, o.size, o."file"
    FROM _taken c JOIN made_ o ON o.digest = c.digest AND o.run <> c.run
    WHERE c.is_source
)
SELECT from_run, from_process, from_position, from_task_id, output, run, process, position, task_id,
    input, digest, kind, size, "file"
FROM (FROM within_ UNION ALL FROM across_)""",
}

_CATALOG = re.compile(
    r"\b(show|information_schema|(duckdb|pg|sqlite)_\w+|query_table|query)\b", re.I
)


def views_of(query: str) -> Iterator[str]:
    """Yield the views that a query names and those they are made of, in the order of `VIEWS`; all
    of them where it names none, nor the rows themselves, or looks into the catalogue."""
    words = set(re.findall(r"\w+", query.lower()))
    wanted = words & VIEWS.keys()
    if not (wanted or "_rows" in words) or _CATALOG.search(query):
        wanted = set(VIEWS)
    for name in reversed(VIEWS):
        if name in wanted:
            wanted.update(re.findall(r"\w+", VIEWS[name]))
    yield from filter(wanted.__contains__, VIEWS)
