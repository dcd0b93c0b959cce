"""The index of a segment, whichever way it is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbcache.model.row import EvictRow, Record, WatchedRead
from nbcache.model.value import Stored
from nbcache.store.columns import table_of
from nbcache.store.index import SegmentIndex, build, hash_key, row_key
from nbcache.store.index_query import index_of_file
from nbcache.store.journal import encode_row
from nbcache.store.segment import keys_table, metadata_for, write_table
from tests.store.rows import attempt, hash_of, new_id

TEXT = 'ü "x",\n\\ ,"file":null} \u0000'
ROWS: list[Record] = [
    json.loads(encode_row(row))
    for row in (
        *(attempt(str(number)) for number in range(100)),
        attempt("7", generation=2),
        attempt("failed", status="failed"),
        attempt("text", tag=TEXT, process=TEXT, host=None, user=None),
        attempt("small", realtime=1e-05),
        attempt("large", realtime=1e22),
        attempt("none", realtime=float("nan")),
        attempt(
            "reads", watched=(WatchedRead("file", "a", None), WatchedRead("env", "B", hash_of("b")))
        ),
        attempt("shown", outputs=(), shown=Stored(hash_of("s"), "value", "json", 2, inline=b"[]")),
        attempt("odd id", id="no-ulid"),
        EvictRow(id=new_id(), at=1, hash=hash_of("3"), generation=1),
    )
]
ROWS += [
    {**ROWS[0], "id": new_id(), "hash": "md5:0"},
    {**ROWS[0], "id": new_id(), "later": [1, {"a": None}]},
    {**ROWS[0], "id": new_id(), "signature": "c2ln", "signer": "ed25519:0", "sealed": "b3:0"},
]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    table = table_of(ROWS)
    write_table(tmp_path / "it's [1] *.parquet", keys_table(table), metadata_for(table))
    return tmp_path / "it's [1] *.parquet"


def test_a_query_makes_the_index_that_rows_make(keys: Path) -> None:
    meta = {"rows": len(ROWS)}
    made = build(zip(ROWS, range(len(ROWS)), strict=True), meta)

    index = SegmentIndex(index_of_file(keys, meta), check=True)

    assert index.says_the_same(SegmentIndex(made, check=True))
    for place, row in enumerate(ROWS[:-3]):
        if row["kind"] == "attempt":
            assert index.place_of(row_key(row["id"])) == place
            found = [each[0] for each in index.find(hash_key(row["hash"]))]
            assert (row["id"] in found) is (row["status"] == "completed")
    assert index.find(hash_key(hash_of("text")))[0][8] == TEXT
    assert [each[1] for each in index.find(hash_key(hash_of("7")))] == [2, 1]


def test_an_index_that_says_something_else_is_told_apart() -> None:
    one, other = (
        SegmentIndex(build([({**ROWS[0], "tag": tag}, 0)], {}), check=True) for tag in "ab"
    )

    assert one.says_the_same(one)
    assert not one.says_the_same(other)
