"""Canonical values of libraries: arrays, tables, models; what counts and what does not."""

from __future__ import annotations

import copy
import datetime
import decimal
import pickle
import random
import threading
from typing import Any

import matplotlib.colors
import networkx as nx
import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pytest
import rpds
import scipy.interpolate
import scipy.sparse
import scipy.spatial
import sklearn.datasets
import sklearn.ensemble
import sklearn.feature_extraction.text
import sklearn.linear_model
import sklearn.neighbors
import sklearn.pipeline
import sklearn.preprocessing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pandas.tests.extension.decimal.array import DecimalArray, DecimalDtype
from sklearn.model_selection import GridSearchCV

from nbcache.codec.registry import decode, encode
from nbcache.errors import NoCanonicalFormError
from nbcache.model.digest import identity_digest
from nbcache.plan.identity.canonical import canonical_bytes, canonical_digest

X, Y = sklearn.datasets.make_classification(n_samples=40, random_state=0)
FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, 1.5], "s": ["x", None, "y"]})
DAYS = pd.date_range("2026-01-01", periods=3)
PIPELINE = sklearn.pipeline.make_pipeline(
    sklearn.preprocessing.StandardScaler(), sklearn.linear_model.Ridge()
)
IMAGE = PIL.Image.new("RGB", (2, 3), (1, 2, 3))


def changed(frame: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    return frame.assign(**columns)


def with_attrs(frame: pd.DataFrame, attrs: dict[Any, Any]) -> pd.DataFrame:
    frame = frame.copy()
    frame.attrs.update(attrs)
    return frame


def generator(draws: int = 0, seed: int = 1) -> np.random.Generator:
    made = np.random.default_rng(seed)
    made.random(draws)
    return made


def spawned() -> np.random.Generator:
    made = generator()
    made.spawn(1)
    return made


def with_name(matrix: Any, name: str) -> Any:
    matrix.name = name
    return matrix


def either(*codes: int) -> pa.Array[Any]:
    """Return a union of two numbers of one type, each in either child."""
    children = [pa.array([1, 2])] * 2
    return pa.UnionArray.from_sparse(pa.array(codes, pa.int8()), children)


NOTED = pa.struct([pa.field("a", pa.int64(), metadata={"unit": "m"})])
NANOSECONDS = pa.time64("ns")

ALL_DIFFERENT: list[object] = [
    # numpy
    np.array([1, 2]), np.array([2, 1]), np.array([1, 2], "i4"), np.array([1, 2], ">i8"),
    np.array([[1, 2]]), np.array([[1], [2]]), np.array([1.0, 2.0]), np.array([]), np.array(1),
    np.array([True, False]), np.array([0.0]), np.array([-0.0]), np.array([np.nan]),
    np.array([1j]), np.array([complex(0, -0.0)]), np.array(["a"]), np.array([b"a"]),
    np.array(["a"], "U2"), np.array(["a"], dtype=np.dtypes.StringDType()),
    np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None)),
    np.array(["2026-01-01"], "M8[D]"), np.array(["2026-01-01"], "M8[s]"), np.array([1], "m8[s]"),
    np.array([1, "a", None], dtype=object), np.array([1, "b", None], dtype=object),
    np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    np.array([(1, 2.0)], [("a", "i4"), ("c", "f8")]),
    np.array([(1, 2.0)], np.dtype([("a", "i4"), ("b", "f8")], align=True)),
    np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 2], mask=[False, False]),
    np.ma.array([1, 3], mask=[False, True]), np.ma.masked,
    np.ma.array([1, 2], mask=[False, True], fill_value=7), np.matrix([[1, 2]]),
    np.float64(1), np.float32(1), np.int64(1), np.int32(1), np.bool_(True), np.str_("a"),
    np.datetime64("2026-01-01", "D"), np.datetime64("2026-01-01", "s"), np.datetime64("NaT"),
    np.dtype("f8"), np.dtype("f4"), np.dtype([("a", "f4")]), np.dtype("f8", metadata={"unit": "m"}),
    np.zeros(1, np.dtype("f8", metadata={"unit": "m"})), np.float64, np.log, np.log1p, np.mean,
    generator(), generator(draws=1), generator(seed=2), spawned(), np.random.RandomState(1),
    np.random.RandomState(2), np.random.PCG64(1), np.random.MT19937(1), np.random.SeedSequence(1),
    # pandas
    FRAME, FRAME[["b", "a", "s"]], FRAME.iloc[:2], FRAME.iloc[::-1], FRAME.set_index("a"),
    FRAME.set_index(["a", "s"]), FRAME.rename_axis("i"), FRAME.rename(columns={"a": "A"}),
    FRAME.astype({"a": "i4"}), FRAME.astype({"a": "Int64"}), FRAME.astype({"s": object}),
    FRAME.astype({"s": "category"}), FRAME.astype({"s": "string[python]"}),
    FRAME.astype({"s": pd.CategoricalDtype(["y", "x"])}), FRAME.convert_dtypes(),
    FRAME.astype({"s": pd.CategoricalDtype(["x", "y"], ordered=True)}), FRAME.iloc[:0], FRAME[[]],
    changed(FRAME, b=[0.5, 2.0, 1.5]), changed(FRAME, s=["x", "", "y"]),
    with_attrs(FRAME, {"u": 1}), with_attrs(FRAME, {"u": 2}), FRAME.set_axis([1, 2, 3]),
    FRAME.set_axis(pd.Index([0, 1, 2])), FRAME.set_flags(allows_duplicate_labels=False),
    FRAME.a, FRAME.a.rename("z"), FRAME.a.rename(None), FRAME.b, FRAME.s, FRAME.a.array,
    FRAME.s.array,
    FRAME.index, FRAME.columns, pd.Index([1, 2]), pd.Index([1, 2], name="n"), pd.Index([1.0, 2.0]),
    pd.RangeIndex(2), pd.RangeIndex(1), DAYS, pd.DatetimeIndex(list(DAYS)), DAYS.tz_localize("UTC"),
    DAYS.tz_localize("Europe/Paris"), DAYS.as_unit("s"), DAYS - DAYS[0], DAYS.to_period("D"),
    pd.MultiIndex.from_product([[1, 2], ["a", "b"]]), pd.MultiIndex.from_product([[1], ["a", "b"]]),
    pd.Categorical(["a", "b"]), pd.Categorical(["a", "b"], ["b", "a"]), pd.Categorical(["b", "a"]),
    pd.interval_range(0, 2), pd.interval_range(0, 2, closed="left"), pd.arrays.SparseArray([0, 1]),
    pd.arrays.SparseArray([0, 2]), pd.arrays.SparseArray([0, 1, 0]), pd.array([1, None]),
    pd.array([0, 1]), pd.array([True, None]), pd.array([1, None], "int64[pyarrow]"),
    pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-02"),
    pd.Timestamp("2026-01-01").as_unit("ns"), pd.Timedelta(1, "s"), pd.Timedelta(2, "s"), pd.NaT,
    pd.NA, pd.Period("2026-01", "M"), pd.Period("2026-01-01", "D"), pd.Interval(0, 1),
    pd.Interval(0, 1, "left"), pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["b"]),
    pd.Int8Dtype(),
    pd.DatetimeTZDtype("ns", "UTC"), pd.offsets.Day(1), pd.offsets.Day(2), pd.offsets.BDay(1),
    # polars
    pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [2, 1]}), pl.DataFrame({"b": [1, 2]}),
    pl.DataFrame({"a": [1, None]}), pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Int8}),
    pl.DataFrame({"a": ["x"]}), pl.DataFrame({"a": pl.Series(["x"], dtype=pl.Categorical)}),
    pl.DataFrame({"a": pl.Series(["x"], dtype=pl.Enum(["x", "y"]))}), pl.DataFrame(),
    pl.DataFrame({"a": pl.Series(["x"], dtype=pl.Enum(["y", "x"]))}), pl.Series("a", [1, 2]),
    pl.Series("b", [1, 2]), pl.Series([{"x": 1}]), pl.Series([{"x": None}]), pl.Series([None]),
    pl.Series([[1], []]), pl.Series([[1], None]), pl.Series([[], [1]]), pl.Int64, pl.Int64(),
    pl.Series([1, 2], dtype=pl.Int128), pl.Datetime("us"), pl.Datetime("ms"),
    # pyarrow
    pa.table({"a": [1, 2]}), pa.table({"a": [1, None]}), pa.table({"b": [1, 2]}),
    pa.table({"a": [1, 2]}).replace_schema_metadata({"k": "v"}), pa.record_batch({"a": [1, 2]}),
    pa.array([1, 2]), pa.array([1, None]), pa.array([0, None]), pa.array([None, 1]),
    pa.array([None, None]),
    pa.array([1, 2], pa.int8()), pa.array(["a", ""]), pa.array(["a", None]), pa.array(["", "a"]),
    pa.array(["a", ""], pa.large_string()), pa.array([b"a"]), pa.array([[1], []]),
    pa.array([[1], None]),
    pa.array([[], [1]]), pa.array([{"a": 1}, None]), pa.array([{"a": 1}, {"a": None}]),
    pa.array([True, None]), pa.array([True, False]), pa.array([1.0, float("nan")]),
    pa.array([1.0, None]),
    pa.array([decimal.Decimal("1.1")]), pa.array([datetime.date(2026, 1, 1)]),
    pa.array(["a", "b"]).dictionary_encode(), pa.chunked_array([[1, 2]]), pa.scalar(1),
    pa.scalar(2),
    pa.scalar("1"), pa.schema([("a", "i4")]), pa.schema([("a", "i8")]), pa.int8(),
    pa.list_(pa.int8()),
    pa.field("a", pa.int8()), pa.field("a", pa.int8(), nullable=False),
    pa.array([(1, 2)], pa.list_(pa.int8(), 2)),
    pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.array([[("k", 1)]], pa.map_(pa.string(), NANOSECONDS)),
    pa.array([[("k", 2)]], pa.map_(pa.string(), NANOSECONDS)),
    pa.array([[1], [2]], pa.list_view(NANOSECONDS)), either(0, 1), either(1, 0),
    pa.array([[2], [1]], pa.list_view(NANOSECONDS)), pa.array([{"a": 1}], NOTED),
    pa.array([{"a": 1}]),
    # scipy.sparse, PIL, scikit-learn
    scipy.sparse.csr_array(np.eye(2)), scipy.sparse.csr_matrix(np.eye(2)),
    scipy.sparse.csc_array(np.eye(2)),
    scipy.sparse.coo_array(np.eye(2)), scipy.sparse.lil_array(np.eye(2)),
    scipy.sparse.dok_array(np.eye(2)),
    scipy.sparse.dia_array(np.eye(2)), scipy.sparse.bsr_array(np.eye(2)),
    scipy.sparse.csr_array((2, 2)),
    with_name(scipy.sparse.csr_array(np.eye(2)), "a"),
    with_name(scipy.sparse.csr_array(np.eye(2)), "b"),
    scipy.sparse.csr_array(2 * np.eye(2)), scipy.sparse.csr_array(np.eye(2, dtype="f4")),
    IMAGE, IMAGE.resize((3, 2)), IMAGE.convert("L"), IMAGE.convert("P"),
    PIL.Image.new("RGB", (2, 3)),
    sklearn.linear_model.LogisticRegression(), sklearn.linear_model.LogisticRegression(C=2),
    sklearn.linear_model.LogisticRegression().fit(X, Y),
    sklearn.linear_model.LogisticRegression().fit(-X, Y),
    sklearn.ensemble.RandomForestClassifier(3, random_state=0).fit(X, Y),
    sklearn.ensemble.RandomForestClassifier(3, random_state=1).fit(X, Y),
    PIPELINE.fit(X, Y),
]  # fmt: skip


def label(value: object) -> str:
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"


def test_values_of_libraries_that_a_body_can_tell_apart_never_share_canonical_bytes() -> None:
    seen: dict[bytes, object] = {}
    for value in ALL_DIFFERENT:
        data = canonical_bytes(value)
        assert data not in seen, f"{value!r} and {seen[data]!r} have the same bytes"
        seen[data] = value


@pytest.mark.parametrize("value", ALL_DIFFERENT, ids=label)
def test_the_digest_is_that_of_the_bytes_and_survives_copies_and_codecs(value: object) -> None:
    expected = identity_digest(canonical_bytes(value))
    kept = encode(value)

    assert canonical_digest(value) == expected
    assert canonical_digest(decode(kept.codec, kept.data, vouched=True)) == expected
    assert canonical_digest(copy.deepcopy(value)) == expected


def test_zones_of_pytz_count_by_what_they_tell_as_pandas_before_3_has_them() -> None:
    pytz = pytest.importorskip("pytz")
    paris = pytz.timezone("Europe/Paris")
    zones = [pytz.utc, paris, pytz.timezone("Europe/Berlin"), pytz.FixedOffset(60)]
    zones.append(paris.localize(datetime.datetime(2026, 7, 1)).tzinfo)  # of a summer

    found = [canonical_bytes(zone) for zone in zones]

    assert found == [canonical_bytes(pickle.loads(pickle.dumps(zone))) for zone in zones]
    assert len(set(found)) == len(zones)


arrays = hnp.arrays(
    hnp.scalar_dtypes() | hnp.array_dtypes(max_size=2),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
)


@given(arrays)
def test_an_arrays_strides_and_order_do_not_count(array: np.ndarray[Any, Any]) -> None:
    expected = canonical_digest(array)
    wide = np.repeat(array, 2, axis=0)[::2]
    backwards = array[::-1].copy()[::-1]

    for same in (np.asfortranarray(array), wide, backwards):
        assert same.shape == array.shape
        assert canonical_digest(same) == expected


@given(arrays, st.data())
def test_a_changed_element_counts(array: np.ndarray[Any, Any], data: st.DataObject) -> None:
    if array.size == 0 or array.dtype.names is not None:
        return
    other = array.copy()
    place = data.draw(st.integers(0, array.size - 1))
    with np.errstate(invalid="ignore"):
        other.flat[place] = data.draw(hnp.from_dtype(array.dtype))
    same = all(
        one == two and np.signbit(one.real) == np.signbit(two.real)
        if array.dtype.kind in "fc" and one == one
        else one == two or (one != one and two != two)
        for one, two in [(array.flat[place], other.flat[place])]
    )
    if array.dtype.kind != "c":
        assert (canonical_digest(array) == canonical_digest(other)) == bool(same)


def test_large_arrays_are_streamed_to_the_digest_of_their_bytes() -> None:
    floats = np.arange(300_000.0)
    floats[::1000] = np.nan
    for array in (floats, floats.reshape(500, -1).T, floats.astype("i4"), floats + 1j):
        assert canonical_digest([array, array[:3]]) == identity_digest(
            canonical_bytes([array, array[:3]])
        )


def test_every_nan_in_an_array_is_the_same_nan_and_the_array_is_left_alone() -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF8000000000000], "u8")
    array = bits.view("f8")
    assert canonical_digest(array) == canonical_digest(np.array([np.nan, np.nan]))
    assert (array.view("u8") == bits).all()


def test_padding_of_records_and_long_doubles_does_not_count() -> None:
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    one, other = np.zeros(2, dtype), np.frombuffer(bytearray(b"\xff" * 32), dtype)
    other["a"], other["b"] = 0, 0
    assert one.tobytes() != other.tobytes()
    assert canonical_digest(one) == canonical_digest(other)
    clean = np.zeros(2, np.longdouble)
    dirty = np.frombuffer(bytearray(b"\xff" * 32), np.longdouble)
    dirty[:] = 0
    assert canonical_digest(clean) == canonical_digest(dirty)


def test_an_array_twice_is_not_two_equal_arrays() -> None:
    array = np.arange(3)
    assert canonical_digest([array, array]) != canonical_digest([array, array.copy()])


def test_what_lies_under_a_missing_value_does_not_count() -> None:
    one = pd.arrays.IntegerArray(np.array([1, 7]), np.array([False, True]))
    other = pd.arrays.IntegerArray(np.array([1, 8]), np.array([False, True]))
    assert canonical_digest(pd.Series(one)) == canonical_digest(pd.Series(other))
    mask = pa.array([False, True])
    valid = pa.py_buffer(b"\x01")
    arrays = [
        pa.Array.from_buffers(pa.int64(), 2, [valid, pa.py_buffer(np.array([1, under]))])
        for under in (7, 8)
    ]
    assert canonical_digest(arrays[0]) == canonical_digest(arrays[1])
    assert len(mask) == 2


def test_how_pandas_keeps_its_blocks_does_not_count() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    split = pd.DataFrame({"a": [1, 2]})
    split["b"] = [3, 4]
    assert canonical_digest(frame) == canonical_digest(split)
    assert canonical_digest(frame.iloc[::-1].iloc[::-1].reset_index(drop=True)) == (
        canonical_digest(frame)
    )


elements = st.recursive(
    st.sampled_from([st.integers(0, 9), st.text(max_size=2), st.booleans(), st.floats(width=32)]),
    lambda inner: st.one_of(
        inner.map(lambda each: st.lists(st.none() | each, max_size=3)),
        inner.map(lambda each: st.fixed_dictionaries({"k": st.none() | each})),
    ),
    max_leaves=3,
)


@given(st.data())
def test_chunks_and_offsets_of_an_arrow_array_do_not_count(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | data.draw(elements), max_size=9))
    whole = pa.array(values)
    cut = data.draw(st.integers(0, len(values)))
    padded = pa.array([*values, *values], whole.type)
    slices = [padded.slice(len(values), cut), padded.slice(cut, len(values) - cut)]

    chunked = pa.chunked_array(slices, whole.type)
    assert canonical_digest(chunked) == canonical_digest(pa.chunked_array([whole]))
    assert canonical_digest(padded.slice(len(values))) == canonical_digest(whole)
    assert canonical_digest(pa.table({"a": chunked})) == canonical_digest(pa.table({"a": whole}))
    if values:
        changed = pa.array([*values[:-1], None], whole.type)
        same = canonical_digest(changed) == canonical_digest(whole)
        assert same == (values[-1] is None)


def test_what_pythons_types_do_not_hold_of_an_arrow_scalar_counts() -> None:
    one, other = (canonical_digest(pa.scalar(each, NANOSECONDS)) for each in (1, 2))
    assert one != other


def test_of_an_arrow_scalar_of_categories_the_other_categories_count() -> None:
    one, other, equal = (
        pa.array(each).dictionary_encode() for each in (["a", "b"], ["b"], ["a", "b"])
    )
    assert canonical_digest(one[1]) == canonical_digest(equal[1])
    assert canonical_digest(one[1]) != canonical_digest(other[0])  # `.dictionary` tells
    assert canonical_digest(pa.scalar(None, one.type)) != canonical_digest(one[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda table: table.groupby("a"),
        lambda table: table.groupby(table.b > 1)["b"],
        lambda table: table.b.rolling(2),
        lambda table: table.set_index("t").resample("2D"),
    ],
    ids=["groups", "groups of a column", "windows", "intervals"],
)
def test_what_groups_and_windows_have_computed_neither_counts_nor_travels(make: Any) -> None:
    table = pd.DataFrame({"a": [1, 1], "b": [1.0, 2.0], "t": pd.date_range("2020", periods=2)})
    used, digest = make(table), canonical_digest(make(table))
    used.max()
    kept = encode(used)
    copy: Any = decode(kept.codec, kept.data, vouched=True)

    assert canonical_digest(used) == canonical_digest(copy) == digest
    assert "_cache" in vars(used)
    assert not vars(copy).get("_cache")
    assert canonical_digest(make(table.assign(b=0.0))) != digest


def test_what_another_librarys_columns_hold_beside_their_elements_counts() -> None:
    contexts = [decimal.Context(prec=digits) for digits in (5, 5, 9)]
    for make in (
        DecimalDtype,
        lambda context: DecimalArray([decimal.Decimal(1)], context=context),
    ):
        one, equal, other = (canonical_digest(make(each)) for each in contexts)
        assert one == equal != other


def test_a_map_that_is_ordered_by_hashes_counts_without_its_order() -> None:
    pairs = [(str(number), [number]) for number in range(40)]
    one, other = rpds.HashTrieMap(pairs), rpds.HashTrieMap(pairs[::-1])

    assert canonical_digest(one) == canonical_digest(other)
    assert canonical_digest(one) != canonical_digest(one.insert("0", [1]))
    assert canonical_digest(rpds.HashTrieSet("ab")) == canonical_digest(rpds.HashTrieSet("ba"))


@pytest.mark.parametrize("text", [pa.string(), pa.string_view()], ids=str)
def test_of_a_union_only_what_its_elements_are_counts(text: Any) -> None:
    def union(codes: list[int], *places: int) -> Any:
        numbers, letters = pa.array([1, 2, 3]), pa.array(["a", None, "c"], text)
        made, children = pa.array(codes, pa.int8()), [numbers, letters]
        if not places:
            return pa.UnionArray.from_sparse(made, children)
        return pa.UnionArray.from_dense(made, pa.array(places, pa.int32()), children)

    sparse, dense = union([0, 1, 0]), union([1, 0, 1, 0], 0, 0, 1, 2)

    hidden = [pa.array([1, 9, 3]), pa.array(["x", None, "y"], text)]
    rest = pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), hidden)
    assert canonical_digest(sparse) == canonical_digest(rest)
    assert canonical_digest(sparse[1:]) == canonical_digest(rest[1:])
    assert canonical_digest(dense[1:]) == canonical_digest(union([0, 1, 0], 0, 1, 2))
    assert canonical_digest(dense[1:]) != canonical_digest(union([0, 1, 0], 0, 2, 2))
    assert canonical_digest(sparse) != canonical_digest(union([0, 1, 1]))
    assert canonical_digest(dense[:0]) == canonical_digest(dense[4:])


def test_polars_categories_count_as_text_whatever_the_process_saw_before() -> None:
    first = pl.Series(["b", "a"], dtype=pl.Categorical)
    expected = canonical_digest(first)
    pl.Series(["z", "y", "x"], dtype=pl.Categorical)
    later = pl.concat([pl.Series(["q"], dtype=pl.Categorical), first])[1:]
    assert canonical_digest(later) == expected


def test_reading_a_sparse_matrix_does_not_change_it() -> None:
    matrix = scipy.sparse.random(20, 20, 0.2, "csr", random_state=0)
    before = canonical_digest(matrix)
    assert matrix.has_sorted_indices
    assert matrix.has_canonical_format
    assert canonical_digest(matrix) == before


def test_a_model_fitted_twice_alike_is_one_model_whatever_version_wrote_it() -> None:
    one, other = (sklearn.linear_model.LogisticRegression().fit(X, Y) for _ in range(2))
    assert canonical_digest(one) == canonical_digest(other)
    assert b"_sklearn_version" not in canonical_bytes(one)


def test_how_long_a_search_took_does_not_count_and_what_it_found_does() -> None:
    def searched(upto: float) -> Any:
        grid = {"alpha": [0.1, upto]}
        return GridSearchCV(sklearn.linear_model.Ridge(), grid, cv=2).fit(X, Y)

    first, again = searched(1.0), searched(1.0)
    again.refit_time_ = first.refit_time_ + 1
    again.cv_results_["std_fit_time"] = first.cv_results_["std_fit_time"] + 1

    assert canonical_digest(first) == canonical_digest(again)
    assert canonical_digest(first) != canonical_digest(searched(2.0))
    again.cv_results_["mean_test_score"] = first.cv_results_["mean_test_score"] + 1
    assert canonical_digest(first) != canonical_digest(again)


def test_addresses_in_an_object_and_a_glance_at_it_do_not_count() -> None:
    texts = ["one two", "two three"]
    neighbours = sklearn.neighbors.KNeighborsClassifier().fit(X, Y)
    graph = nx.path_graph(3)
    tree = scipy.spatial.cKDTree(X)
    before = list(map(canonical_digest, (neighbours, graph)))

    neighbours.predict(X)
    assert nx.shortest_path(graph, 0, 2) == [0, 1, 2]
    vectors = sklearn.feature_extraction.text.TfidfVectorizer(stop_words=["one"]).fit(texts)

    assert list(map(canonical_digest, (neighbours, graph))) == before
    assert canonical_digest(tree) == canonical_digest(scipy.spatial.cKDTree(X.copy()))
    assert canonical_digest(tree) != canonical_digest(scipy.spatial.cKDTree(X, leafsize=2))
    assert b"_stop_words_id" not in canonical_bytes(vectors)
    graph.add_edge(0, 2)
    assert canonical_digest(graph) != before[1]


def test_a_value_that_fails_when_it_is_looked_into_is_refused() -> None:
    with pytest.raises(NoCanonicalFormError, match="raised AttributeError"):
        canonical_digest(scipy.sparse.csr_array.__new__(scipy.sparse.csr_array))


def test_what_a_first_use_leaves_in_an_object_does_not_count() -> None:
    colours = matplotlib.colors.ListedColormap(["red", "blue"])
    scale, root = matplotlib.colors.LogNorm(1, 10), np.vectorize(abs, otypes=[float])
    before = list(map(canonical_digest, (colours, scale, root)))

    colours(0.5), scale(5), root([1])

    assert list(map(canonical_digest, (colours, scale, root))) == before
    vars(colours)["_lut"][0] = 0  # a table that somebody changed is another one
    assert canonical_digest(colours) != before[0]


def test_the_work_space_of_a_spline_does_not_count() -> None:
    one, same, other = (
        scipy.interpolate.UnivariateSpline(range(5), [*range(4), last]) for last in (6, 6, 7)
    )
    if same._data[11] is not None:  # some versions of scipy make none before it is needed
        same._data[11][:] = 5.0  # never set where all points lie on one curve
    assert canonical_digest(one) == canonical_digest(same) != canonical_digest(other)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pl.LazyFrame({"a": [1]}), "collect"),
        (pd.DataFrame({"o": [1, threading.Lock()]}), "a lock at ['o'][1]"),
        (np.array([threading.Lock()], dtype=object), "a lock at [0]"),
        (np.frompyfunc(abs, 1, 1), "on the fly"),
    ],
    ids=label,
)
def test_values_of_libraries_without_a_form_are_refused_with_the_place(
    value: object, reason: str
) -> None:
    with pytest.raises(NoCanonicalFormError) as caught:
        canonical_digest(value)
    assert reason in f"{caught.value.reason} at {caught.value.inside}"


def test_the_generator_that_a_process_shares_is_known_by_its_name_and_not_by_its_state() -> None:
    def digests() -> list[str]:
        found = (random.random, random.gauss, np.random.normal, np.random.mtrand._rand)
        return [canonical_digest(each) for each in found]

    before = digests()
    random.random()
    np.random.normal()

    assert digests() == before
    assert canonical_digest(np.random.RandomState(1)) != canonical_digest(np.random.RandomState(2))
    assert canonical_digest(random.Random(1)) != canonical_digest(random.Random(2))
