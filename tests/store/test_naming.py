"""What a clean-up reads of a segment is what its rows say, however they are written."""

from __future__ import annotations

from pathlib import Path

from nbcache.model.row import Record
from nbcache.store.cache import Cache
from nbcache.store.naming import Naming, naming_of
from nbcache.store.stock import STOCK_COLUMNS
from tests.store.rows import attempt, new_id, use


def blob(number: int) -> str:
    return f"b3:{number:064x}"


def rows() -> list[Record]:
    """Rows that name blobs in each place where one may stand, and some where none is meant."""
    plain = attempt("plain")
    port = {"name": "y", "digest": blob(1), "kind": "tree", "codec": "path", "size": 3}
    changes: list[Record] = [
        {},
        {"outputs": [port | {"blob": blob(2)}, port | {"kind": "none"}]},
        {"outputs": [], "shown": port | {"blob": "of another algorithm"}},
        {"components": [{"kind": "code", "name": "f", "digest": blob(3), "evidence": blob(4)}]},
        {"inputs": [{"name": "x", "digest": blob(5), "summary": blob(6), "place": f"{blob(7)}x"}]},
        {"inputs": [{"name": "x", "digest": "d", "summary": "b3:" + 64 * "ä", "scalar": "b3:\n"}]},
        {"outputs": [port | {"blob": blob(8), "later": {"deep": [blob(9)]}}]},
        {"outputs": [port | {"size": 0.5, "blob": 3}], "tag": "ends in \ud800"},
        {"tag": blob(10), "hash": blob(11), "sealed": blob(12), "unknown": [blob(13)]},
    ]
    made = [{**plain.record(), "id": new_id(), **each} for each in changes]
    others = [use(plain).record(), {"kind": "later", "id": new_id(), "at": 1, "of": blob(14)}]
    runs: Record = {"kind": "run", "id": new_id(), "at": 1, "run": "R1", "name": "n"}
    processes = [{"name": "p", "components": [{"kind": "code", "name": "p", "evidence": blob(15)}]}]
    return [*made, *others, {**runs, "processes": processes}]


def told(naming: Naming) -> tuple[str, list[tuple[str, str]], list[str]]:
    return naming.record["id"], sorted(naming.blobs), sorted(naming.contents)


def test_a_segment_names_the_blobs_and_contents_that_its_rows_name(tmp_path: Path) -> None:
    cache = Cache.open(tmp_path)
    records = rows()
    cache.log.adopt(records)
    live = list(map(told, cache.log.namings(STOCK_COLUMNS)))

    cache.log.rotate()
    cache.log.fold()
    folded = list(cache.log.namings(STOCK_COLUMNS))

    expected = [told(naming_of(each)) for each in records]
    assert sorted(live) == sorted(expected)
    assert sorted(map(told, folded)) == sorted(expected)
    assert {blob for *_, named, _ in expected for blob, _ in named} >= {blob(2), blob(9), blob(15)}
    flat = {"kind", "id", "run", "process", "status", "generation", "realtime", "complete"}
    by_id = {each["id"]: each for each in records}
    for each in folded:
        row = by_id[each.record["id"]]
        assert {k: v for k, v in each.record.items() if k in flat and v is not None} == {
            name: value for name, value in row.items() if name in flat and value is not None
        }
