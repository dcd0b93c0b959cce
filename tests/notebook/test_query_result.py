from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow as pa
import pytest

from nbcache.errors import UsageError
from nbcache.notebook import query_result, verbs
from nbcache.store.cache import Cache

QUERY = (
    "SELECT 'a,b' AS name, 2 AS n, TIMESTAMP '2026-01-02 03:04:05.5' AS at, 'NaN'::DOUBLE AS x,"
    " NULL AS nothing, [1, 2] AS list, true AS yes, 'z' AS name ORDER BY 1"
)
COLUMNS = ["name", "n", "at", "x", "nothing", "list", "yes", "name_1"]
RECORD = {
    "name": "a,b",
    "n": 2,
    "at": "2026-01-02T03:04:05.500000",
    "x": None,
    "nothing": None,
    "list": [1, 2],
    "yes": True,
    "name_1": "z",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache.open(tmp_path_factory.mktemp("query") / "cache")


def parsed(options: str, query: str = QUERY) -> verbs.Parsed:
    return verbs.parse_line(f"sql {options} {query}")


@pytest.mark.parametrize(
    ("options", "kind", "shape"),
    [
        ("", pandas.DataFrame, lambda found: found.shape),
        ("--format df", pandas.DataFrame, lambda found: found.shape),
        ("--format=arrow", pa.Table, lambda found: (found.num_rows, found.num_columns)),
        ("--format polars", polars.DataFrame, lambda found: found.shape),
    ],
)
def test_a_notebook_gets_a_frame_of_the_kind_asked_for(
    cache: Cache, options: str, kind: type, shape: Callable[[Any], tuple[int, int]]
) -> None:
    query = "SELECT range AS n, n * 2 AS twice FROM range(3)"

    found = query_result.for_notebook(cache, query, parsed(options))

    assert isinstance(found, kind)
    assert shape(found) == (3, 2)


def test_differences_of_times_and_columns_of_one_name_are_no_trouble_for_polars(
    cache: Cache,
) -> None:
    query = (
        "SELECT TIMESTAMP '2026-01-03' - TIMESTAMP '2026-01-02 23:59:58.5' AS took,"
        " NULL::INTERVAL AS none, 1 AS n, 2 AS n"
    )

    found = query_result.for_notebook(cache, query, parsed("--format polars"))

    assert isinstance(found, polars.DataFrame)
    took = datetime.timedelta(seconds=1.5)
    assert found.to_dicts() == [{"took": took, "none": None, "n": 1, "n_1": 2}]
    named = "SELECT [{'time_interval': map {'_union<': 0.9}}] AS v"
    assert isinstance(
        query_result.for_notebook(cache, named, parsed("--format polars")), polars.DataFrame
    )
    for value in ("[INTERVAL 1 DAY]", "{'a': [union_value(n := 2)]}", "map {1: INTERVAL 1 DAY}"):
        with pytest.raises(UsageError, match="polars has no type for the column 'v' "):
            query_result.for_notebook(cache, f"SELECT {value} AS v", parsed("--format polars"))


def test_without_pandas_a_notebook_gets_an_arrow_table_or_is_told(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)

    found = query_result.for_notebook(cache, "SELECT 1 AS n", parsed(""))

    assert isinstance(found, pa.Table)
    with pytest.raises(UsageError, match="--format df needs pandas, which is not installed"):
        query_result.for_notebook(cache, "SELECT 1 AS n", parsed("--format df"))


def test_json_and_csv_hold_times_lists_and_missing_values(cache: Cache) -> None:
    assert query_result.for_notebook(cache, QUERY, parsed("--format json")) == [RECORD]
    assert query_result.for_notebook(cache, QUERY, parsed("--json")) == [RECORD]
    assert query_result.for_notebook(cache, QUERY, parsed("--format csv")) == (
        ",".join(COLUMNS) + '\n"a,b",2,2026-01-02T03:04:05.500000,,,"[1, 2]",true,z\n'
    )


def test_a_shell_gets_a_table_json_csv_or_an_arrow_stream(cache: Cache) -> None:
    def shown(*options: str) -> tuple[str, bytes | None]:
        words = verbs.parse_argv(["sql", QUERY, *options])
        told = query_result.for_shell(cache, words.words[0], words)
        return told.rendered.text, told.raw

    assert shown()[0].split("\n")[0].split() == COLUMNS
    assert json.loads(shown("--format", "json")[0]) == [RECORD]
    assert shown("--format", "csv")[0].startswith("name,n,at")
    raw = shown("--format", "arrow")[1]
    assert raw is not None
    assert pa.ipc.open_stream(raw).read_all().column("at").to_pylist() == [
        datetime.datetime(2026, 1, 2, 3, 4, 5, 500_000)
    ]


def test_an_unknown_format_lists_those_that_there_are(cache: Cache) -> None:
    with pytest.raises(UsageError, match="no format 'xml'; there are df, arrow, polars, json, csv"):
        query_result.for_notebook(cache, QUERY, parsed("--format xml"))
    words = verbs.parse_argv(["sql", QUERY, "--format", "polars"])
    with pytest.raises(UsageError, match="there are table, json, csv, arrow"):
        query_result.for_shell(cache, QUERY, words)
    with pytest.raises(UsageError, match="give the format once"):
        query_result.for_notebook(cache, QUERY, parsed("--json --format csv"))


def test_a_statement_without_an_answer_gives_an_empty_one(cache: Cache, tmp_path: Path) -> None:
    query = "CREATE TABLE x AS SELECT 1"
    words = verbs.parse_argv(["sql", query, "--files"])

    told = query_result.for_shell(cache, query, words)

    assert isinstance(told.data, list)
    assert told.rendered.text
