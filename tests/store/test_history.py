from __future__ import annotations

import datetime
import gc
import re
import threading
from pathlib import Path

import duckdb
import pytest

import nbcache
from nbcache.model.fingerprint import Component
from nbcache.model.row import ProcessRecord, Row, RunRow
from nbcache.store import history
from nbcache.store.cache import Cache
from nbcache.store.journal_query import FEW, insert_lines
from nbcache.store.views import VIEWS
from tests.store.rows import attempt, hash_of, new_id, use
from tests.waiting import PATIENCE_S, wait_until

PUBLIC = [name for name in VIEWS if not name.startswith("_")]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache.open(tmp_path / "it's a cache")


def run_row(run: str = "R1", **changes: object) -> RunRow:
    values: dict[str, object] = {
        "id": new_id(),
        "at": 1_763_770_000_000_000,
        "run": run,
        "name": f"name of {run}",
        "status": "running",
        "parameters": {"alpha": "0.1"},
        "processes": (
            ProcessRecord(
                name="fit",
                components=(Component("code", "body", 1, hash_of("code"), "3 lines", "x = 1"),),
                source="x = 1",
                inputs=("x",),
                outputs=("y",),
            ),
        ),
    }
    return RunRow(**(values | changes))  # type: ignore[arg-type]


def test_an_empty_cache_has_all_views_with_their_columns(cache: Cache) -> None:
    connection = history.connect(cache, live=False)
    empty = {name: connection.sql(f"FROM {name}").columns for name in PUBLIC}

    assert all(connection.sql(f"FROM {name}").fetchall() == [] for name in PUBLIC)
    cache.log.append([run_row(), attempt("a")])
    history.refresh(connection)
    assert {name: connection.sql(f"FROM {name}").columns for name in PUBLIC} == empty


def count_of_attempts(cache: Cache) -> int:
    with history.reading(cache) as cursor:
        (line,) = cursor.execute("SELECT count(*) FROM attempts").fetchall()
    return int(line[0])


def test_a_second_question_sees_what_came_since_the_first(cache: Cache) -> None:
    cache.log.append([run_row(), attempt("a")])
    assert count_of_attempts(cache) == 1

    other = Cache.open(cache.root)
    other.log.append([attempt("b")])
    other.log.rotate()
    other.log.fold()
    assert count_of_attempts(cache) == 2


@pytest.mark.parametrize(
    "query",
    [
        "DROP VIEW attempts",
        "CREATE TABLE made AS SELECT 1",
        "DELETE FROM _live",
        "EXPLAIN ANALYZE DELETE FROM _live",
        "COPY (FROM attempts) TO '{outside}'",
        "ATTACH '{outside}'",
        "SET enable_external_access = true",
        "FROM read_text('{inside}')",
        "FROM glob('{inside}*')",
        "FROM read_csv('http://localhost:9/x.csv')",
        "FROM query",
    ],
)
def test_reading_reaches_nothing_but_the_history(cache: Cache, tmp_path: Path, query: str) -> None:
    cache.log.append([run_row(), attempt("a")])
    outside = tmp_path / "outside.csv"
    inside = cache.root / "nbcache.json"
    text = query.format(outside=outside, inside=str(inside).replace("'", "''"))

    with pytest.raises(duckdb.Error), history.reading(cache) as cursor:
        cursor.execute(text)

    assert not outside.exists()
    assert count_of_attempts(cache) == 1


def test_every_column_is_documented(cache: Cache) -> None:
    connection = history.connect(cache, live=False)
    columns = {name: connection.sql(f"FROM {name}").columns for name in PUBLIC}
    page = (Path(__file__).parents[2] / "docs" / "history.md").read_text()
    for section in page.split("\n## ")[1:]:
        for view in filter(PUBLIC.__contains__, section.splitlines()[0].split(", ")):
            if view == "attempts":  # "the columns of tasks without ..., with ..."
                extra = set(columns.pop(view)) ^ set(columns["tasks_"])
                assert extra == {"cached_from_run", "trusted", "generation"}
                continue
            missing = [name for name in columns[view] if not re.search(rf"\b{name}\b", section)]
            assert missing == [], view
            columns[view + "_"] = columns.pop(view)

    assert all(name.endswith("_") for name in columns)


@pytest.mark.parametrize("folded", [False, True])
def test_tasks_has_one_line_per_task_with_what_the_used_attempt_measured(
    cache: Cache, folded: bool
) -> None:
    failed = attempt("a", status="failed", attempt=1, exit=3, hash=hash_of("1"))
    done = attempt("a", attempt=2, hash=hash_of("1"), cpu_time=0.25, peak_rss=7)
    hit = use(done)
    cache.log.append([run_row(), failed, done, run_row("R2"), hit])
    if folded:
        cache.log.rotate()
        cache.log.fold()
    connection = history.connect(cache, live=False)

    lines = connection.execute(
        "SELECT run_name, task_id, name, status, attempt, exit, realtime, cpu_percent, peak_rss,"
        " id, short FROM tasks ORDER BY run"
    ).fetchall()

    common = (2, 0, 0.5, 50.0, 7, done.id, hash_of("1")[5:13])
    assert lines == [
        ("name of R1", "fit[a]", "fit (tag a)", "COMPLETED", *common),
        ("name of R2", "fit[a]", "fit (tag a)", "CACHED", *common),
    ]
    assert connection.execute(
        "SELECT status, exit, start FROM attempts ORDER BY attempt"
    ).fetchall() == [
        ("FAILED", 3, datetime.datetime(2025, 11, 22, 0, 6, 40, 100000)),
        ("COMPLETED", 0, datetime.datetime(2025, 11, 22, 0, 6, 40, 100000)),
    ]


@pytest.mark.parametrize("folded", [False, True])
def test_components_are_those_of_the_process_and_of_the_task(cache: Cache, folded: bool) -> None:
    cache.log.append([run_row(), attempt("a")])
    if folded:
        cache.log.rotate()
        cache.log.fold()
    connection = history.connect(cache, live=False)

    assert connection.execute(
        "SELECT task_id, shared, kind, name, summary, evidence FROM components ORDER BY kind"
    ).fetchall() == [
        ("fit[a]", True, "code", "body", "3 lines", "x = 1"),
        ("fit[a]", False, "input", "x", "x = 3", None),
    ]
    assert connection.execute("SELECT name, summary, scalar FROM inputs").fetchall() == [
        ("x", "3", "3")
    ]
    assert connection.execute("SELECT name, kind, size, opaque FROM outputs").fetchall() == [
        ("y", "value", 2, False)
    ]


def test_a_run_shows_its_last_status_and_what_it_began_with(cache: Cache) -> None:
    cache.log.append(
        [
            run_row(notebook="a.ipynb"),
            run_row(
                status="failed",
                at=1_763_770_002_500_000,
                parameters={},
                processes=(),
                counts={"completed": 3, "failed": 1},
            ),
        ]
    )
    connection = history.connect(cache, live=False)

    assert connection.execute(
        "SELECT name, status, notebook, duration, completed, cached, failed, parameters FROM runs"
    ).fetchall() == [("name of R1", "FAILED", "a.ipynb", 2.5, 3, 0, 1, {"alpha": "0.1"})]


@pytest.mark.parametrize("folded", [False, True])
def test_a_run_shows_what_its_last_session_counted_also_where_that_is_nothing(
    cache: Cache, folded: bool
) -> None:
    counts = {"completed": 3, "failed": 1}
    failed = run_row(status="failed", counts=counts, error="no disk", saved=9.0)
    begun = run_row(session=2)
    cache.log.append([run_row(), failed, begun, run_row(session=2, status="cancelled")])
    if folded:
        cache.log.rotate()
        cache.log.fold()

    with history.reading(cache) as cursor:
        found = cursor.execute("SELECT status, completed, failed, counts, error, saved FROM runs")
        assert found.fetchall() == [("CANCELLED", 0, 0, {}, None, None)]


def test_processes_counts_its_tasks(cache: Cache) -> None:
    cache.log.append([run_row(), attempt("a"), attempt("b", status="failed"), use(attempt("c"))])
    connection = history.connect(cache, live=False)

    assert connection.execute(
        "SELECT run, process, source, inputs, tasks, completed, failed, cached FROM processes"
    ).fetchall() == [("R1", "fit", "x = 1", ["x"], 2, 1, 1, 0)]


def test_a_refresh_follows_rows_from_journal_to_segment_without_doubling(cache: Cache) -> None:
    connection = history.connect(cache, live=False)

    def count() -> list[tuple[int, int]]:
        history.refresh(connection)
        return connection.execute(
            "SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM _rows)"
        ).fetchall()

    cache.log.append([attempt(str(i)) for i in range(10)])
    assert count() == [(10, 10)]
    cache.log.append([attempt("0", attempt=2), attempt("x", run="R9")])
    assert count() == [(11, 12)]
    cache.log.rotate()
    cache.log.fold()
    assert count() == [(11, 12)]
    cache.log.append([attempt("y")])
    assert count() == [(12, 13)]
    cache.log.rotate()
    cache.log.fold()
    cache.log.compact(grace_s=-1.0)
    assert count() == [(12, 13)]


@pytest.mark.parametrize("silent", ["", "runs", "again"])
def test_the_last_row_of_a_task_counts_wherever_its_rows_lie(cache: Cache, silent: str) -> None:
    rows: list[list[Row]] = [
        [attempt("once", run="R1"), attempt("a", run="R2"), attempt("a", run="R2", attempt=2)],
        [attempt("once", run="R3"), attempt("over segments", run="R4")],
        [
            attempt("gone", run="R0"),
            attempt("new", run="R0", session=2, attempt=3),
            run_row("R0", session=2, status="resuming"),
            run_row("R0", session=2, status="succeeded", settled=("fit",)),
        ],
        [attempt("over segments", run="R4", attempt=2), attempt("in a journal", run="R5")],
        [attempt("in a journal", run="R5", attempt=2)],
    ]
    for each in rows[:-1]:
        cache.log.append(each)
        cache.log.rotate()
        cache.log.fold()
    cache.log.append(rows[-1])
    notes = [each.meta for each in cache.log.segments().values()]
    assert sorted((each["runs"], each["again"]) for each in notes) == [
        (["R0"], ["R0"]), (["R1", "R2"], ["R2"]), (["R3", "R4"], []), (["R4", "R5"], [])
    ]  # fmt: skip
    if silent == "runs":  # as an older version wrote it
        del notes[0]["runs"]
    elif silent:  # as others may write it
        notes[0]["again"] = None

    with history.reading(cache) as cursor:
        found = cursor.execute("SELECT run, attempt FROM tasks ORDER BY run").fetchall()
        assert found == [("R0", 3), ("R1", 1), ("R2", 2), ("R3", 1), ("R4", 2), ("R5", 2)]


def test_segments_with_other_columns_are_read_together(cache: Cache) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cache.log.append([attempt("a")])
    cache.log.rotate()
    cache.log.fold()
    (path,) = (cache.root / "log").glob("*.rows.parquet")
    table = pq.read_table(path).drop_columns(["rchar"]).append_column("new", pa.array([1]))
    pq.write_table(table, path)
    cache.log.append([attempt("b")])
    connection = history.connect(cache, live=False)

    assert connection.execute("SELECT position, rchar FROM tasks ORDER BY 1").fetchall() == [
        ("a", None),
        ("b", None),
    ]


def test_what_another_process_appends_shows_up_by_itself(cache: Cache) -> None:
    connection = nbcache.connect(cache.root)
    Cache.open(cache.root).log.append([attempt("a")])

    wait_until(lambda: connection.execute("SELECT count(*) FROM tasks").fetchall() == [(1,)])


def test_the_watch_ends_when_the_connection_is_dropped(cache: Cache) -> None:
    before = set(threading.enumerate())
    connection = history.connect(cache)
    begun = set(threading.enumerate()) - before  # others may be about to end, or to begin
    (watch,) = (each for each in begun if each.name == "nbcache-history")

    del connection
    gc.collect()

    watch.join(PATIENCE_S)
    assert not watch.is_alive()


def test_nothing_is_written_to_the_cache(cache: Cache) -> None:
    cache.log.append([attempt("a")])
    before = {path: path.stat().st_mtime_ns for path in cache.root.rglob("*")}

    history.connect(cache, live=False).execute("FROM tasks").fetchall()

    assert {path: path.stat().st_mtime_ns for path in cache.root.rglob("*")} == before


def test_a_resumed_run_shows_what_it_finds_of_itself_as_its_own_attempt(cache: Cache) -> None:
    done = attempt("a", reason="first run")
    failed = attempt("b", status="failed", attempt=1)
    again = attempt("b", attempt=2, session=2)
    own, elsewhere = use(done, run="R1", session=2), use(done)
    cache.log.append([run_row(), done, failed, own, again, run_row("R2"), elsewhere])
    connection = history.connect(cache, live=False)

    assert connection.execute(
        "SELECT run, position, session, status, attempt, reason, cached_from_run FROM tasks"
        " ORDER BY ALL"
    ).fetchall() == [
        ("R1", "a", 2, "COMPLETED", 1, "first run", None),
        ("R1", "b", 2, "COMPLETED", 2, "", None),
        ("R2", "a", 1, "CACHED", 1, "", "R1"),
    ]
    assert connection.execute("SELECT count(*) FROM attempts").fetchall() == [(3,)]


@pytest.mark.parametrize("outcome", ["stored", "ignored", "skipped", "aborted"])
def test_a_task_that_did_not_complete_says_how_it_ended(cache: Cache, outcome: str) -> None:
    cache.log.append([run_row(), attempt("a", status=outcome)])
    connection = history.connect(cache, live=False)

    assert connection.execute("SELECT status FROM tasks").fetchall() == [(outcome.upper(),)]
    assert connection.execute("SELECT tasks, completed, cached FROM processes").fetchall() == [
        (1, 0, 0)
    ]


def test_a_question_about_some_runs_of_a_long_log_is_answered_as_from_the_whole(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever rows lie; hits show what an attempt of another run measured."""
    made = attempt("a", run="R1")
    rows: list[Row] = [run_row(run) for run in ("R1", "R2", "R3")]
    rows += [made, use(made), attempt("b", run="R2"), attempt("c", run="R3"), use(made, run="R3")]
    for half in (rows[:5], rows[5:]):
        cache.log.append(half)
        cache.log.rotate()
        cache.log.fold()
    of_them = "WHERE run IN ('R2', 'R3') ORDER BY ALL"
    queries = [f"FROM {name} {of_them}" for name in ("tasks", "runs", "inputs")]

    def answers(runs: list[str] | None) -> list[object]:
        found: list[object] = []
        for query in queries:
            with history.reading(Cache.open(cache.root), query, runs=runs) as cursor:
                found.append(cursor.execute(query).fetchall())
        return found

    whole = answers(None)
    monkeypatch.setattr(history, "_FEW_ROWS", 0)
    assert answers(["R2", "R3"]) == whole
    assert cache.log.compact() == 2
    cache.log.append([attempt("d", run="R2"), use(made, run="R3", position="9")])
    monkeypatch.setattr(history, "_FEW_ROWS", 100)
    whole = answers(None)
    monkeypatch.setattr(history, "_FEW_ROWS", 0)
    assert answers(["R2", "R3"]) == whole
    assert answers([]) == [[]] * len(queries)


def test_who_is_content_with_older_views_does_not_wait_for_new_ones(cache: Cache) -> None:
    def tasks(within_s: float) -> int:
        with history.reading(cache, within_s=within_s) as cursor:
            return int(cursor.execute("SELECT count(*) FROM tasks").fetchall()[0][0])

    cache.log.append([attempt("0")])
    assert tasks(3600) == 1
    cache.log.append([attempt("1")])

    assert tasks(3600) == 1
    assert tasks(0) == 2
    assert tasks(3600) == 2


def test_a_question_has_the_views_that_it_names_and_the_catalogue_has_all(cache: Cache) -> None:
    def ask(query: str) -> list[tuple[object, ...]]:
        with history.reading(cache, query) as cursor:
            return list(cursor.execute(query).fetchall())

    cache.log.append([run_row(), attempt("a")])

    assert ask('SELECT count(*) FROM Lineage, "outputs"') == [(0,)]
    listed = ask("SELECT view_name FROM duckdb_views() WHERE view_name <> 'runs'")
    assert {name for name in PUBLIC if name != "runs"} <= {name for (name,) in listed}
    assert {name for (name,) in ask("SHOW TABLES")} >= set(PUBLIC)


def test_tasks_of_a_long_log_are_kept_for_the_third_question(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(query: str) -> list[tuple[object, ...]]:
        with history.reading(cache, query) as cursor:
            return list(cursor.execute(query).fetchall())

    monkeypatch.setattr(history, "_FEW_ROWS", 1)
    tasks = "SELECT position, status FROM tasks ORDER BY 1"
    kept = "SELECT table_name FROM duckdb_tables() WHERE table_name = '_tasks'"
    cache.log.append([run_row(), attempt("a"), attempt("b", status="failed")])

    assert ask(tasks) == [("a", "COMPLETED"), ("b", "FAILED")]
    assert ask(kept) == []
    wait_until(lambda: ask(kept))
    cache.log.append([attempt("b", attempt=2), attempt("c", run="R2")])

    assert ask(tasks) == [("a", "COMPLETED"), ("b", "COMPLETED"), ("c", "COMPLETED")]


@pytest.mark.parametrize("odd", [False, True])
def test_many_new_rows_are_shown_as_few_are(cache: Cache, odd: bool) -> None:
    made = [attempt(str(number), error="'é\0 line\n") for number in range(FEW)]
    rows = [run_row(), *made, *map(use, made)]
    piecewise = history.connect(cache, live=False)
    for start in range(0, len(rows), FEW - 1):
        cache.log.append(rows[start : start + FEW - 1])
        history.refresh(piecewise)
    if odd:
        cache.log.adopt([{**made[0].record(), "id": new_id(), "of a later version": 1}])
        history.refresh(piecewise)

    with history.reading(cache, "SELECT * FROM _rows") as cursor:
        together = cursor.execute("FROM _rows ORDER BY id").fetchall()

    assert together == piecewise.execute("FROM _rows ORDER BY id").fetchall()
    assert len(together) == len(rows) + odd


def test_rows_that_columns_cannot_hold_are_not_for_duckdb_to_read() -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE rows_ (of VARCHAR)")

    said = [
        insert_lines(connection, "rows_", "J", [line])
        for line in (b'{"id":"1","newer":2}', b'{"id":"\\ud800"}', b'{"id":"\xff"}')
    ]

    assert said == [None, None, None]
