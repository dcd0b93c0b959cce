"""Two values compared, kind by kind."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nbcache.engine.record.data_diff import DataDiff, compare_stored, compare_values
from nbcache.engine.record.file_content import reader_of
from nbcache.engine.record.results import Decoder
from nbcache.model.digest import blob_digest
from nbcache.model.value import Stored
from nbcache.store.cache import Cache


class Odd:
    """Something whose own code fails when it is looked at."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("old", "new", "kind", "head"),
    [
        (1, 2, "scalar", "1 → 2"),
        (1, 1.0, "scalar", "1 (int) → 1.0 (float)"),
        ("a", "b", "scalar", "'a' → 'b'"),
        (None, 3, "scalar", "None (NoneType) → 3 (int)"),
        ([1, 2], [1, 2, 3], "members", "list: 1 added; 2 → 3 members"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "members", "dict: the same members in another order"),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, "members", "dict: 1 changed"),
        (
            Odd(),
            Odd(),
            "object",
            "Odd differs; both print as <Odd, whose repr raises RuntimeError>",
        ),
    ],
)
def test_plain_values_are_told_old_and_new(old: object, new: object, kind: str, head: str) -> None:
    found = compare_values(old, new)

    assert (found.kind, found.head) == (kind, head)


def test_members_are_told_down_to_the_first_that_differ() -> None:
    old = {"same": np.arange(3), "nan": math.nan, "deep": {"x": 1}, "gone": 1, "odd": Odd()}
    new = {"same": np.arange(3), "nan": math.nan, "deep": {"x": 2}, "new": 1, "odd": Odd()}

    found = compare_values(old, new)

    assert found.data == {"changed": 2, "added": 1, "removed": 1}
    assert found.lines[0] == "'deep': dict: 1 changed"
    assert found.lines[-2:] == ("+ 'new': 1", "- 'gone': 1")


def test_long_lists_are_cut() -> None:
    found = compare_values(list(range(100)), list(range(1, 101)))

    assert found.data["changed"] == 100
    assert len(found.lines) == 11
    assert found.lines[-1] == "… and 90 more"


@pytest.mark.parametrize(
    ("old", "new", "different", "most"),
    [
        ([1, 2, 3], [1, 2, 5], 1, 2.0),
        ([1.0, math.nan], [1.0, math.nan], 0, None),
        ([1.0, math.nan], [1.0, 2.0], 1, None),
        ([1.0, math.inf], [2.0, math.inf], 1, 1.0),
        ([True, False], [True, True], 1, None),
        (["a", "b"], ["a", "c"], 1, None),
        ([1 + 1j, 2], [1 - 1j, 2], 1, 2.0),
    ],
)
def test_arrays_are_compared_by_element(
    old: list[object], new: list[object], different: int, most: float | None
) -> None:
    found = compare_values(np.array(old), np.array(new))

    assert found.kind == "array"
    assert found.data["different"] == different
    assert found.data.get("max_abs_difference") == most
    assert len(found.lines) == different


def test_unsigned_numbers_do_not_wrap() -> None:
    found = compare_values(np.array([5], "uint8"), np.array([3], "uint8"))

    assert found.data["max_abs_difference"] == 2.0


def test_arrays_of_other_shape_or_type_say_so() -> None:
    assert compare_values(np.zeros(3), np.zeros((3, 2))).head == "array: shape 3 → 3 x 2"
    retyped = compare_values(np.zeros(3), np.zeros(3, "float32"))
    assert retyped.head == "array 3 float32: dtype float64 → float32"
    records = np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])
    changed = records.copy()
    changed["a"] = 5
    assert compare_values(records, changed).data["different"] == 1


def written(array: Any, **how: Any) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(array).save(out, "png", **how)
    return out.getvalue()


def test_pictures_in_files_are_compared_by_pixel() -> None:
    read = reader_of("plot.PNG")
    assert read is not None
    plain = np.zeros((4, 5, 3), "uint8")
    spotted = plain.copy()
    spotted[1, 2, 0], spotted[3, 4] = 37, 9
    before = read(written(plain))

    found = compare_values(before, read(written(spotted)))

    assert found.kind == "picture"
    assert found.head == (
        "picture 5 x 4 RGB: 2 of 20 pixels differ, by at most 37 of 255, from (2, 1) to (4, 3)"
    )
    assert (found.data["different"], found.data["box"]) == (2, [2, 1, 5, 4])
    larger = compare_values(before, read(written(plain[:2])))
    assert larger.head == "picture: size 5 x 4 → 5 x 2"
    grey = compare_values(before, read(written(plain[:, :, 0])))
    assert grey.head == "picture 5 x 4 L: mode RGB → L"
    packed = compare_values(before, read(written(plain, compress_level=0)))
    assert packed.head == "picture 5 x 4 RGB: equal pixels"
    deep = [read(written(np.full((2, 2), each, "uint16"))) for each in (0, 1)]
    assert "4 of 4 elements differ, by at most 1" in compare_values(*deep).head


def test_what_files_hold_is_known_by_their_names_and_never_unpickled() -> None:
    out = io.BytesIO()
    np.save(out, np.array([{}], object), allow_pickle=True)
    for name, data in (("a.npy", out.getvalue()), ("a.png", b"none"), ("a.parquet", b"PAR1")):
        read = reader_of(name)
        assert read is not None
        assert read(data) is None
    assert [reader_of(name) for name in ("a.pkl", "a", "png", ".json")] == [None] * 4
    tables = [reader_of(name) for name in ("a.csv", "a.tsv")]
    assert [read and compare_values(read(b"x\n1"), read(b"x\n2")).kind for read in tables] == [
        "table"
    ] * 2


def files_compared(cache: Cache, name: str, *sides: bytes) -> DataDiff:
    old, new = (
        Stored(blob_digest(data), "file", "file", len(data), inline=data, name=name)
        for data in sides
    )
    return compare_stored(cache, Decoder(cache), old, new)


def test_files_whose_values_cannot_be_compared_are_told_by_their_sizes_or_lines(
    tmp_path: Path,
) -> None:
    cache = Cache.open(tmp_path / "cache")

    def half(*values: float) -> bytes:
        out = io.BytesIO()
        pq.write_table(pa.table({"a": pa.array(np.array(values, "float16"))}), out)
        return out.getvalue()

    rows = b"1,2,3\n" * 20_000
    twice = files_compared(cache, "out.csv", b"a,a,b\n" + rows, b"a,a,b\n" + rows + b"1,2,4\n")
    assert (twice.kind, twice.head) == ("file", "out.csv: 120,006 → 120,012 bytes, other bytes")
    assert twice.data == {"before": 120_006, "after": 120_012}
    halves = files_compared(cache, "out.parquet", half(1), half(2))
    assert halves.head.endswith(" bytes, other bytes")
    deep = [b"[" * 500 + each + b"]" * 500 for each in (b"1", b"2")]
    nested = files_compared(cache, "out.json", *deep)
    assert nested.head == "out.json: 1,001 bytes"
    assert len(nested.lines) == 5


def test_json_of_one_line_is_told_by_its_values_whether_or_not_that_line_ends(
    tmp_path: Path,
) -> None:
    cache = Cache.open(tmp_path / "cache")
    for old, new in ((b'{"k": 1}\n', b'{"k": 2}\n'), (b'{"k": 1}\n', b'{"k": 2}')):
        found = files_compared(cache, "out.json", old, new)
        assert found.head.endswith("bytes; dict: 1 changed")
        assert found.lines == ("'k': 1 → 2",)


def frames(old: dict[str, Any], new: dict[str, Any]) -> list[DataDiff]:
    """The same comparison through each library of tables."""
    return [
        compare_values(pd.DataFrame(old), pd.DataFrame(new)),
        compare_values(pl.DataFrame(old), pl.DataFrame(new)),
        compare_values(pa.table(old), pa.table(new)),
    ]


def test_rows_that_only_one_table_has_are_counted_and_the_first_shown() -> None:
    old = {"k": list(range(20)), "v": [0.0] * 20}
    new = {"k": list(range(8, 30)), "v": [0.0] * 22}

    for found in frames(old, new):
        assert found.data["rows"] == [20, 22]
        assert (found.data["rows_added"], found.data["rows_removed"]) == (10, 8)
        assert found.data["first_removed"] == [[k, 0.0] for k in range(5)]
        assert "- … and 3 more" in found.lines
        assert found.head == "table: 20 → 22 rows; 10 rows added; 8 rows removed"


def test_equal_rows_count_as_often_as_they_stand_there() -> None:
    for found in frames({"k": [1, 1, 2]}, {"k": [1, 2, 2]}):
        assert found.data["first_added"] == [[2]]
        assert found.data["first_removed"] == [[1]]


def test_missing_values_are_equal_to_each_other_and_json_can_hold_them() -> None:
    old, new = {"k": [1, 2], "v": [math.nan, 1.0]}, {"k": [1, 2], "v": [math.nan, math.nan]}

    for found in frames(old, new):
        assert found.data["cells_changed"] == {"v": 1}
        assert found.data["rows_added"] == 1
        json.loads(json.dumps(found.record()), parse_constant=pytest.fail)


def test_rows_in_another_order_are_no_other_rows() -> None:
    for found in frames({"k": [1, 2]}, {"k": [2, 1]}):
        assert found.head == "table: 2 rows; the same rows in another order"


def test_columns_that_differ_only_in_case_are_two() -> None:
    for found in frames({"a": [1], "A": [2]}, {"a": [1], "A": [3]}):
        assert found.data["cells_changed"] == {"A": 1}


def test_columns_with_odd_names_are_compared() -> None:
    for found in frames({'x"; DROP': [1], "select": [2]}, {'x"; DROP': [1], "select": [4]}):
        assert found.data["cells_changed"] == {"select": 1}


def test_columns_of_another_type_are_named_and_compared_as_far_as_possible() -> None:
    for found in frames({"a": [1, 2], "b": [[1], [2]]}, {"a": ["1", "2"], "b": ["x", "y"]}):
        dtypes = found.data["dtypes"]
        assert isinstance(dtypes, list)
        assert [each["column"] for each in dtypes] == ["a", "b"]
        assert found.data["rows_added"] == 2


def test_an_index_counts_as_a_column() -> None:
    old = pd.DataFrame({"v": [1, 2]}, index=["a", "b"])
    new = pd.DataFrame({"v": [1, 2]}, index=["a", "c"])

    found = compare_values(old, new)

    assert found.lines == ("- v=2  index=b", "+ v=2  index=c")


def test_tables_that_differ_only_in_what_is_no_cell_say_so() -> None:
    old = pd.DataFrame({"v": [1, 2]})

    found = compare_values(old, old.set_index(pd.RangeIndex(5, 7)))

    assert "its index, or what else goes with it, differs" in found.head


def test_tables_without_a_common_column_and_without_rows_are_compared() -> None:
    for found in frames({"a": [1]}, {"b": [1]}):
        assert found.head == "table: 1 row; + column b; - column a"
    empty = compare_values(pd.DataFrame({"a": []}), pd.DataFrame({"a": [1.0]}))
    assert empty.data["rows_added"] == 1


def test_a_series_is_a_table_of_one_column() -> None:
    for old, new in (
        (pd.Series([1, 2]), pd.Series([1, 3])),
        (pl.Series([1, 2]), pl.Series([1, 3])),
    ):
        assert compare_values(old, new).data["cells_changed"] == {"values": 1}
