from __future__ import annotations

from pathlib import Path

import pytest

from nbcache.engine.record.query import asking, fetch
from nbcache.errors import UsageError
from tests.engine.story import Story


def test_a_query_sees_all_views(two_runs: Story) -> None:
    assert fetch(two_runs.cache, "SELECT status, count(*) FROM tasks GROUP BY 1 ORDER BY 1") == [
        ("CACHED", 1),
        ("COMPLETED", 4),
        ("FAILED", 1),
    ]
    assert fetch(two_runs.cache, "PIVOT tasks ON status USING count(*)")


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELECT proces FROM tasks", "no column 'proces'; did you mean \"process\"?\nLINE 1"),
        ("SELECT t.statu FROM tasks t", "no column 'statu'; did you mean \"status\""),
        ('FROM tasks WHERE status = "X"', "no column 'X' (a text stands in single quotes); there"),
        (
            'SELECT "statuss" FROM tasks',
            "no column 'statuss' (a text stands in single quotes); did you mean \"status\"",
        ),
        ("SELECT * FROM task", "no view 'task'; did you mean \"tasks\""),
        ("SELECT * FROM nowhere", "no view 'nowhere'; there are attempts, tasks"),
        ("SELECT 1 +", "the query cannot be answered: Parser Error"),
        ("SELECT 'a'::INTEGER", "the query cannot be answered: Conversion Error"),
        ("  ", "no query given"),
    ],
)
def test_a_wrong_query_is_told_with_the_nearest_name(
    two_runs: Story, query: str, hint: str
) -> None:
    with pytest.raises(UsageError) as raised:
        fetch(two_runs.cache, query)

    assert str(raised.value).startswith(hint)
    assert "_rows" not in str(raised.value)


@pytest.mark.parametrize(
    "query",
    [
        "COPY (FROM tasks) TO '{file}'",
        "EXPLAIN ANALYZE COPY (FROM tasks) TO '{segments}/copy.parquet'",
        "WITH x AS (/* */copy (FROM tasks) TO '{segments}/copy.parquet') FROM x",
        "EXPLAIN ANALYZE COMMIT; EXPLAIN ANALYZE DROP VIEW tasks",
        "FROM '{file}'",
        "FROM read_text('{file}')",
        "DROP VIEW tasks",
        "CREATE TEMP TABLE x AS SELECT 1",
        "COMMIT; DROP VIEW tasks",
        "SET lock_configuration = false",
    ],
)
def test_a_query_only_reads_the_history_unless_files_are_meant(
    two_runs: Story, tmp_path: Path, query: str
) -> None:
    file = tmp_path / "table.csv"
    file.write_text("a\n1\n")
    segments = two_runs.cache.root / "log"

    with pytest.raises(UsageError, match=r"reads the history and nothing else\.\n.*--files"):
        fetch(two_runs.cache, query.format(file=file, segments=segments))

    assert file.read_text() == "a\n1\n"
    assert not (segments / "copy.parquet").exists()
    assert fetch(two_runs.cache, 'SELECT \'copy\', "copy" FROM (SELECT 1 AS "copy")')


def test_with_files_a_query_reads_and_writes_them_and_the_history_stays(
    two_runs: Story, tmp_path: Path
) -> None:
    file = tmp_path / "table.csv"
    with asking(two_runs.cache, f"COPY (SELECT 1 AS a) TO '{file}'", files=True):
        pass
    with asking(two_runs.cache, f"FROM '{file}'", files=True) as cursor:
        assert cursor.fetchall() == [(1,)]
    with asking(two_runs.cache, "DROP VIEW tasks", files=True):
        pass

    assert fetch(two_runs.cache, "SELECT count(*) FROM tasks") == [(6,)]
