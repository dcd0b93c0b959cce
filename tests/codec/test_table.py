"""Tables: Arrow where the round trip is exact, pickle where it is not, and exact either way."""

from __future__ import annotations

import datetime
import decimal
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.codec.registry import decode, decode_file, encode
from nbcache.codec.table import encode_table
from nbcache.errors import CodecError
from nbcache.plan.identity.canonical import canonical_digest
from tests.exploring import examples


def assert_exact(value: object, codec: str) -> None:
    encoded = encode(value)
    assert encoded.codec == codec
    back = decode(encoded.codec, encoded.data, vouched=True)
    assert type(back) is type(value)
    assert canonical_digest(back) == canonical_digest(value)


def dates(count: int, **options: Any) -> pd.DatetimeIndex:
    return pd.date_range("2026-03-28", periods=count, **options)


EXACT_IN_ARROW = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": [True, False]}),
    "small numbers": pd.DataFrame({"a": np.array([1, 2], "i1"), "b": np.array([1, 2], "f4")}),
    "text": pd.DataFrame({"s": ["a", "é"], "t": ["x", None]}),
    "nullable": pd.DataFrame({"i": pd.array([1, None], "Int8"), "b": pd.array([True, None])}),
    "nullable float": pd.DataFrame({"f": pd.array([1.5, None], "Float64")}),
    "string[pyarrow]": pd.DataFrame({"s": pd.array(["a", None], "string[pyarrow]")}),
    "times": pd.DataFrame({"t": dates(2), "z": dates(2, tz="Europe/Paris"), "d": [pd.NaT] * 2}),
    "seconds": pd.DataFrame({"t": np.array(["2026-01-01"], "M8[s]")}),
    "durations": pd.DataFrame({"d": pd.to_timedelta([1, None], unit="h")}),
    "category": pd.DataFrame({"c": pd.Categorical(["b", "a", None], ["b", "a", "unused"])}),
    "ordered": pd.DataFrame({"c": pd.Categorical([2, 1], [2, 1, 3], ordered=True)}),
    "arrow dtype": pd.DataFrame({"a": pd.array([1, None], "int64[pyarrow]")}),
    "named index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")),
    "unnamed text index": pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "range index": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 1, -2, name="r")),
    "gaps in the index": pd.DataFrame({"a": [1, 2]}, index=[7, 3]),
    "datetime index": pd.DataFrame({"a": [1, 2]}, index=pd.DatetimeIndex(list(dates(2)))),
    "datetime index with freq": pd.DataFrame({"a": [1, 2, 3]}, index=dates(3, freq="D")),
    "one row with freq": pd.DataFrame({"a": [1]}, index=dates(1, freq="2h")),
    "zoned index across a change of clocks": pd.DataFrame(
        {"a": range(5)}, index=dates(5, freq="D", tz="Europe/Paris")
    ),
    "multi-index": pd.DataFrame(
        {"a": range(4)}, index=pd.MultiIndex.from_product([["x", "y"], [1, 2]], names=["k", None])
    ),
    "no rows in the middle of a range": pd.DataFrame({"a": [1]}).iloc[1:],
    "categories without rows": pd.DataFrame({"c": pd.Categorical([], ["b", "a"])}),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="i8"), "s": pd.Series([], dtype="str")}),
    "series": pd.Series([1.5, 2], name="s"),
    "series without a name": pd.Series(["a", "b"], index=[3, 4]),
    "series with a number for a name": pd.Series([1], name=3),
    "numbered columns": pd.DataFrame(np.eye(2)),
    "columns of numbers": pd.DataFrame(np.eye(2), columns=[3, 1]),
}


@pytest.mark.parametrize("frame", EXACT_IN_ARROW.values(), ids=EXACT_IN_ARROW)
def test_pandas_tables_come_back_exactly_from_arrow(frame: object) -> None:
    assert_exact(frame, "arrow")


def with_attrs() -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = ("m", 1)
    return frame


DAYS = pd.date_range("2026-01-01", periods=2)
UNDEFINED = pd.arrays.FloatingArray(np.array([np.nan, 1.0]), np.array([False, True]))

NOT_EXACT_IN_ARROW = {
    "string[python]": pd.DataFrame({"s": pd.array(["a", None], "string[python]")}),
    "mixed objects": pd.DataFrame({"o": pd.Series([1, "a", None], dtype=object)}),
    "lists": pd.DataFrame({"o": [[1], [2, 3]]}),
    "tuples": pd.DataFrame({"o": [(1,), (2, 3)]}),
    "decimals": pd.DataFrame({"o": [decimal.Decimal("1.10")]}),
    "dates": pd.DataFrame({"o": [datetime.date(2026, 1, 1)]}),
    "periods": pd.DataFrame({"p": pd.period_range("2026", periods=2, freq="M")}),
    "intervals": pd.DataFrame({"i": pd.interval_range(0, 2)}),
    "sparse": pd.DataFrame({"s": pd.arrays.SparseArray([0, 0, 1])}),
    "complex": pd.DataFrame({"c": [1j]}),
    "duplicate columns": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "two levels of columns": pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    "named columns": pd.DataFrame([[1]], columns=pd.Index(["a"], name=("t", 1))),
    "attrs": with_attrs(),
    "no columns": pd.DataFrame(index=range(3)),
    "nothing": pd.DataFrame(),
    "unused levels": pd.DataFrame(
        {"a": range(4)}, index=pd.MultiIndex.from_product([["x", "y"], [1, 2]])
    ).iloc[:2],
    "NaN beside what is missing": pd.DataFrame({"f": UNDEFINED}),
    "levels with a frequency": pd.DataFrame(
        {"a": range(2)}, index=pd.MultiIndex.from_arrays([DAYS, [1, 2]])
    ),
    "lone surrogates": pd.DataFrame({"s": pd.Series(["\ud800"], dtype=object)}),
    "no duplicate labels": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
    "series named by a tuple": pd.Series([1], name=("a", 1)),
}


@pytest.mark.parametrize("frame", NOT_EXACT_IN_ARROW.values(), ids=NOT_EXACT_IN_ARROW)
def test_pandas_tables_that_arrow_would_change_are_pickled(frame: object) -> None:
    assert_exact(frame, "pickle")


columns = st.sampled_from(
    [
        st.integers(-(2**63), 2**63 - 1).map(np.int64),
        st.floats(),
        st.booleans(),
        st.text(max_size=3),
        st.none() | st.text(max_size=3),
        st.none() | st.booleans(),
        st.none() | st.integers(0, 9),
        st.datetimes(),
        st.datetimes(timezones=st.just(datetime.UTC)),
        st.timedeltas(),
        st.dates(),
        st.binary(max_size=2),
        st.floats(width=32).map(np.float32),
        st.one_of(st.text(max_size=1), st.integers(0, 3), st.floats()),
    ]
)
DTYPES = st.sampled_from([None, object, "category", "convert"])


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(0, 6))
    parts: dict[object, pd.Series[Any]] = {}
    for label in draw(st.lists(st.text(max_size=2) | st.integers(0, 3), unique=True, max_size=4)):
        values = draw(st.lists(draw(columns), min_size=rows, max_size=rows))
        dtype = draw(DTYPES)
        series = pd.Series(values, dtype=dtype if dtype != "convert" else None)
        parts[label] = series.convert_dtypes() if dtype == "convert" else series
    frame = pd.DataFrame(parts, index=range(rows))
    if draw(st.booleans()) and frame.shape[1]:
        keys = list(frame.columns[: draw(st.integers(1, 2))])
        frame = frame.set_index(keys)
    if draw(st.booleans()):
        frame = frame.iloc[draw(st.integers(0, 2)) :: draw(st.integers(1, 2))]
    return frame


@given(frames())
@examples(150)
def test_any_pandas_table_comes_back_exactly_by_whatever_codec(frame: pd.DataFrame) -> None:
    encoded = encode(frame)
    back = decode(encoded.codec, encoded.data, vouched=True)
    assert canonical_digest(back) == canonical_digest(frame)


@pytest.mark.parametrize("name", ["category", "numbers", "nullable", "times", "durations"])
def test_every_column_of_a_decoded_table_can_be_written_to(
    name: str, tmp_path: pathlib.Path
) -> None:
    frame = EXACT_IN_ARROW[name]
    assert isinstance(frame, pd.DataFrame)
    data = encode(frame).data
    (tmp_path / "x").write_bytes(data)
    for back in (
        decode("arrow", data, vouched=True),
        decode_file("arrow", tmp_path / "x", vouched=True),
    ):
        assert isinstance(back, pd.DataFrame)
        for label in back.columns:
            back.loc[back.index[0], label] = back[label].iloc[-1]
            assert (
                back[label].iloc[0] is pd.NaT
                or pd.isna(back[label].iloc[0])
                or (back[label].iloc[0] == back[label].iloc[-1])
            )


POLARS = {
    "numbers": pl.DataFrame({"a": [1, None], "b": [0.5, float("nan")]}),
    "text": pl.DataFrame({"s": ["a", None], "b": [b"x", None]}),
    "category": pl.DataFrame({"c": pl.Series(["a", "b", "a"], dtype=pl.Categorical)}),
    "enum": pl.DataFrame({"e": pl.Series(["a"], dtype=pl.Enum(["z", "a"]))}),
    "list and struct": pl.DataFrame({"l": [[1], None, []], "s": [{"x": 1, "y": "a"}, None, None]}),
    "fixed list": pl.DataFrame({"f": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int8, 2))}),
    "times": pl.DataFrame(
        {"t": [datetime.datetime(2026, 1, 1), None], "d": [datetime.date(2026, 1, 1), None],
         "u": [datetime.timedelta(1), None], "c": [datetime.time(1), None]}
    ),
    "zoned": pl.DataFrame(
        {"t": pl.Series([datetime.datetime(2026, 1, 1)]).dt.replace_time_zone("Europe/Paris")}
    ),
    "decimal": pl.DataFrame({"d": [decimal.Decimal("1.10"), None]}),
    "nulls": pl.DataFrame({"n": [None, None]}),
    "no rows": pl.DataFrame(schema={"a": pl.Int8, "c": pl.Categorical, "e": pl.Enum(["b", "a"])}),
    "series": pl.Series("s", [1, 2, None]),
    "nested category": pl.Series([["a"], ["b"]], dtype=pl.List(pl.Categorical)),
}  # fmt: skip


@pytest.mark.parametrize("frame", POLARS.values(), ids=POLARS)
def test_polars_tables_come_back_exactly_from_arrow(frame: object) -> None:
    assert_exact(frame, "arrow")


def test_polars_tables_that_arrow_cannot_hold_are_pickled() -> None:
    assert_exact(pl.DataFrame(), "pickle")
    assert_exact(pl.Series([1, 2], dtype=pl.Int128).to_frame(), "pickle")


ARROW = {
    "table": pa.table({"a": [1, None], "s": ["x", "y"]}),
    "metadata": pa.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
    "no rows": pa.table({"a": pa.array([], pa.int8())}),
    "sliced": pa.table({"a": list(range(100)), "s": list("ab" * 50)}).slice(7, 9),
    "batch": pa.record_batch({"a": [1, 2]}),
    "empty batch": pa.record_batch({"a": pa.array([], pa.string())}),
    "batch with metadata": pa.record_batch({"a": [1]}).replace_schema_metadata({"k": "v"}),
    "dictionaries": pa.chunked_array(
        [pa.array(["a", "b"]).dictionary_encode(), pa.array(["c"]).dictionary_encode()]
    ).unify_dictionaries().combine_chunks(),
}  # fmt: skip


@pytest.mark.parametrize("name", ARROW)
def test_arrow_tables_come_back_exactly(name: str) -> None:
    table = ARROW[name]
    assert_exact(table if not isinstance(table, pa.Array) else pa.table({"d": table}), "arrow")


def test_the_bytes_are_an_arrow_stream_that_says_what_it_stands_for() -> None:
    data = encode(pd.DataFrame({"a": [1]})).data
    with pa.ipc.open_stream(data) as reader:
        assert b"pandas.DataFrame" in reader.schema.metadata[b"nbcache"]


def test_a_table_of_more_rows_than_its_bytes_can_hold_is_not_read() -> None:
    table = pa.table({"nothing": pa.nulls(2_000_000_000)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)

    with pytest.raises(CodecError, match="2,000,000,000 rows"):
        decode("arrow", sink.getvalue().to_pybytes(), vouched=False)

    assert encode_table(table) is None


def test_a_large_table_is_compressed_only_where_that_makes_it_smaller() -> None:
    noise = np.random.default_rng(1).random(100_000)
    names = [f"sample {n}" for n in range(100_000)]

    tables = [pd.DataFrame({"a": noise}), pd.DataFrame({"a": noise * 0, "name": names})]
    sizes = [len(encode(each).data) / sum(map(nbytes_of, each.items())) for each in tables]

    assert sizes[0] > 1
    assert sizes[1] < 0.5
    for each in tables:
        assert_exact(each, "arrow")


def nbytes_of(column: tuple[object, Any]) -> int:
    return int(pa.array(column[1]).nbytes)
