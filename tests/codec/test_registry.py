"""Codecs: what comes back is exactly what went in, and the safe codecs run no code."""

from __future__ import annotations

import copyreg
import datetime
import gc
import math
import pathlib
import pickle
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nbcache.codec.registry import decode, decode_file, encode
from nbcache.engine.identity.payload import pickle_names, unpickle_names
from nbcache.errors import CodecError
from nbcache.model.value import SAFE_CODECS
from nbcache.plan.identity.canonical import canonical_digest
from tests.exploring import examples


def there_and_back(value: object) -> object:
    encoded = encode(value)
    assert type(encoded.data) is bytes
    return decode(encoded.codec, encoded.data, vouched=True)


def assert_exact(value: object, codec: str | None = None) -> None:
    encoded = encode(value)
    if codec is not None:
        assert encoded.codec == codec
    back = decode(encoded.codec, encoded.data, vouched=True)
    assert type(back) is type(value)
    assert canonical_digest(back) == canonical_digest(value)
    view = decode(encoded.codec, memoryview(encoded.data), vouched=True)
    assert canonical_digest(view) == canonical_digest(value)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.text(st.characters(categories=["Cs", "L"])) | st.binary()
)  # fmt: skip
plain = st.recursive(
    scalars | st.complex_numbers() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=5)
    ),
    max_leaves=15,
)


@given(plain)
def test_any_plain_value_comes_back_exactly(value: object) -> None:
    assert_exact(value)


@given(scalars.filter(lambda value: type(value) is not bytes))
def test_scalars_are_json_unless_json_would_change_them(value: object) -> None:
    encoded = encode(value)
    unsayable = isinstance(value, str) and any(0xD800 <= ord(each) < 0xE000 for each in value)
    assert encoded.codec == ("pickle" if unsayable else "json")


def test_a_list_that_occurs_twice_comes_back_as_one_list() -> None:
    inner = [1]
    back = there_and_back({"a": inner, "b": inner})
    assert isinstance(back, dict)
    assert back["a"] is back["b"]
    inner.append(inner)  # type: ignore[arg-type]
    circle = there_and_back(inner)
    assert isinstance(circle, list)
    assert circle[1] is circle


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: 2}, [(1,)], 10**5000, True, {"a": {1}}, float("-inf"), -0.0, math.nan],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_is_not_left_to_json(value: object) -> None:
    assert_exact(value)


def test_a_large_list_is_pickled_for_speed() -> None:
    assert_exact([float(each) for each in range(100_001)], "pickle")


def test_bytes_are_kept_as_they_are() -> None:
    assert encode(b"\x00abc").data == b"\x00abc"
    assert_exact(b"\x00abc", "bytes")


dtypes = (
    hnp.boolean_dtypes() | hnp.integer_dtypes(endianness="?") | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes() | hnp.datetime64_dtypes() | hnp.timedelta64_dtypes()
    | hnp.byte_string_dtypes() | hnp.unicode_string_dtypes() | hnp.array_dtypes(max_size=3)
)  # fmt: skip


@given(hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
def test_any_array_comes_back_exactly(array: np.ndarray) -> None:
    assert_exact(array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10)[::-2],
        np.array(3.5),
        np.zeros((0, 3), "f4"),
        np.array(["a", "bcd"]),
        np.array(["2026-01-01", "NaT"], "M8[D]"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    ],
    ids=str,
)
def test_plain_arrays_are_npy_and_writable(array: np.ndarray) -> None:
    assert_exact(array, "npy")
    back = there_and_back(array)
    assert isinstance(back, np.ndarray)
    assert back.flags.writeable
    assert back.dtype == array.dtype
    assert back.flags.f_contiguous == (array.flags.f_contiguous or array.ndim == 1)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, "x", None], dtype=object),
        np.ma.array([1, 2], mask=[False, True]),
        np.array([(1, 2.0)], np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.rec.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")]),
        np.longdouble("0.1").reshape(1),
        np.array(["a", "b" * 100], dtype=np.dtypes.StringDType()),
    ],
    ids=lambda array: f"{type(array).__name__} {array.dtype}",
)
def test_arrays_that_npy_would_change_are_pickled(array: np.ndarray) -> None:
    assert_exact(array, "pickle")


def indexed(*palette: int) -> PIL.Image.Image:
    made = PIL.Image.new("P", (2, 2), 1)
    made.putpalette(palette, "RGBA")
    return made


def used(function: np.vectorize) -> np.vectorize:
    function([1])
    return function


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array([1, 2], mask=[False, True], hard_mask=True),
        indexed(0, 0, 0, 255, 1, 2, 3, 4),
        used(np.vectorize(abs, otypes=[float])),
        pa.scalar(1, pa.time64("ns")),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8(), keys_sorted=True)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_objects_own_pickle_forgets_comes_back(value: object) -> None:
    assert_exact(value, "pickle")
    assert_exact([value], "pickle")
    payload = pickle_names({"value": value}, {})
    assert canonical_digest(unpickle_names(payload.data)) == canonical_digest({"value": value})


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array([1, 2], hard_mask=True),
        pa.scalar(1, pa.time64("ns")),
        pa.array(["a", "b"]).dictionary_encode()[1],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_libraries_can_make_themselves_is_read_without_our_code(value: object) -> None:
    assert b"nbcache" not in encode(value).data
    assert canonical_digest(pickle.loads(encode(value).data)) == canonical_digest(value)


def test_a_large_column_of_text_is_sent_without_a_copy() -> None:
    column = pd.Series(["a" * 100] * 20_000)
    held = vars(column.array)["_pa_array"].chunk(0).buffers()[2]

    payload = pickle_names({"column": column}, {})

    assert [np.frombuffer(each, "u1").ctypes.data for each in payload.buffers] == [held.address]
    back: Any = unpickle_names(payload.data, payload.buffers)["column"]
    assert column.equals(back)


class Measured(np.ndarray):
    unit: str
    turn: Callable[[], int]
    lock: object


def test_an_attribute_that_cannot_travel_keeps_no_array_from_its_readers() -> None:
    value = np.arange(3).view(Measured)
    value.unit, value.turn, value.lock = "mm", lambda: 3, threading.Lock()

    back = there_and_back([value])[0]  # type: ignore[index]
    given = unpickle_names(pickle_names({"value": value}, {}).data)["value"]

    for each in (back, given):
        assert isinstance(each, Measured)
        assert (each.unit, each.turn(), each.tolist()) == ("mm", 3, [0, 1, 2])
        assert "lock" not in vars(each)


def test_a_class_whose_instances_were_kept_goes_when_nobody_has_it() -> None:
    cls = type("Local", (), {"__reduce__": lambda self: (int, ())})
    assert there_and_back([cls()]) == [0]

    left = weakref.ref(cls)
    del cls
    gc.collect()

    assert left() is None


def test_what_an_objects_own_pickle_cannot_read_comes_back() -> None:
    assert repr(there_and_back(np.finfo("f4"))) == repr(np.finfo("f4"))


class Proxy:
    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class SlottedProxy(Proxy):
    __slots__ = ("more",)


def test_an_object_that_looks_up_its_attributes_in_what_it_holds_comes_back() -> None:
    plain: Any = Proxy([1])
    slotted: Any = SlottedProxy([2])
    slotted.more = "more"

    found: Any = there_and_back([plain, slotted])

    assert [each.copy() for each in found] == [[1], [2]]
    assert found[1].more == "more"


class Template:
    def __new__(cls, text: str) -> Template:
        made = super().__new__(cls)
        made.text = text
        return made

    text: str


class Length(float):
    def __new__(cls, value: float, *, unit: str) -> Length:
        made = super().__new__(cls, value)
        made.unit = unit
        return made

    unit: str


class Named:
    """A mixin, before the built-in class."""


class Station(Named, str):
    def __new__(cls, code: str, *, place: str) -> Station:
        made = super().__new__(cls, code)
        made.place = place
        return made

    place: str


class Square(NamedTuple("Square", [("side", int), ("area", int)])):
    def __new__(cls, side: int) -> Square:
        return super().__new__(cls, side, side * side)


class FitError(ValueError):
    def __init__(self, sample: str, loss: float) -> None:
        super().__init__(f"{sample}: loss {loss}")
        self.sample = sample


class Unreadable(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(5, "cannot be read", path)


class Misread(UnicodeDecodeError):
    def __init__(self, file: str) -> None:
        self.file = file


class Failures(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception], code: int) -> Failures:
        made = super().__new__(cls, f"exit code {code}", errors)
        made.code = code
        return made

    code: int


class Sloted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Folded(OrderedDict[str, int]):
    """Knows its keys in lower case, and what for."""

    def __init__(self, name: str, **items: int) -> None:
        self.name, self.lower = name, set[str]()
        super().__init__(**items)

    def __setitem__(self, key: str, value: int) -> None:
        self.lower.add(key.lower())
        super().__setitem__(key, value)


class Window(deque[int]):
    def __init__(self, size: int, items: Iterable[int] = ()) -> None:
        super().__init__(items, maxlen=size)


class Lists(defaultdict[str, list[int]]):
    def __init__(self, name: str) -> None:
        super().__init__(list)
        self.name = name


class Quarter(datetime.date):
    name: str

    def __new__(cls, year: int, number: int) -> Quarter:
        made = super().__new__(cls, year, 3 * number, 1)
        made.name = f"{year}-Q{number}"
        return made


class Share(Fraction):
    __slots__ = ("unit",)
    unit: str

    def __new__(cls, value: str, unit: str) -> Share:
        made = super().__new__(cls, value)
        made.unit = unit
        return made


class Told(OrderedDict[str, int]):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __getstate__(self) -> dict[str, str]:
        return {"told": self.name}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.name = state["told"]


class Locked(deque[int]):
    def __init__(self, size: int) -> None:
        super().__init__(maxlen=size)
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.lock = threading.Lock()


def test_a_state_that_is_empty_reaches_the_object_that_makes_the_rest_anew() -> None:
    made: Any = there_and_back(Locked(2))

    assert (type(made.lock), made.maxlen) == (type(threading.Lock()), 2)


def test_what_derives_from_a_class_of_python_is_not_called_with_what_that_one_is_called_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(copyreg.dispatch_table, Sloted, raising=False)  # by tblib
    lists, told = Lists("a"), Told("b")
    lists["x"].append(1)
    told["y"] = 2
    values = [
        Sloted(3), Folded("c", A=1), Window(2, [1, 2, 3]), lists, Quarter(2020, 2),
        Share("1/5", "eur"), told,
    ]  # fmt: skip

    made: Any = there_and_back(values)
    by_name = encode(values, by_reference=True)  # as `%%cached` keeps it

    assert repr(decode(by_name.codec, by_name.data, vouched=True)) == repr(made)
    sloted, folded, window, lists, quarter, share, told = made
    assert [type(each) for each in made] == [type(each) for each in values]
    assert (str(sloted), sloted.code, sloted.args) == ("exit code 3", 3, ("exit code 3",))
    assert (folded, folded.name, folded.lower) == ({"A": 1}, "c", {"a"})
    assert (list(window), window.maxlen) == ([2, 3], 2)
    assert (lists, lists.name, lists.default_factory) == ({"x": [1]}, "a", list)
    assert (quarter, quarter.name) == (datetime.date(2020, 6, 1), "2020-Q2")
    assert (share, share.unit) == (Fraction(1, 5), "eur")
    assert (told, told.name) == ({"y": 2}, "b")


class Nothing:
    def __new__(cls) -> Nothing:
        return _NOTHING


_NOTHING = object.__new__(Nothing)


def test_an_object_whose_class_is_called_with_what_nobody_keeps_comes_back() -> None:
    found: Any = there_and_back([Template("a"), Length(2.5, unit="m"), _NOTHING])

    template, length, nothing = found
    assert (template.text, length, length.unit) == ("a", 2.5, "m")
    assert nothing is _NOTHING


def test_an_object_is_not_called_with_other_arguments_than_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for each in (FitError, Unreadable, Misread, Failures):  # by tblib, if dask came first
        monkeypatch.delitem(copyreg.dispatch_table, each, raising=False)
    values = [Station("BER", place="Berlin"), Square(3), FitError("a", 0.5), Unreadable("a.csv")]

    found: Any = there_and_back(values)

    station, square, error, unreadable = found
    assert (station, station.place, type(station)) == ("BER", "Berlin", Station)
    assert (square, type(square)) == ((3, 9), Square)
    assert (str(error), error.sample, type(error)) == ("a: loss 0.5", "a", FitError)
    assert (unreadable.errno, unreadable.filename) == (5, "a.csv")
    assert str(unreadable) == str(values[3])
    more: Any = there_and_back([Misread("a.txt"), Failures([KeyError("a")], 3)])
    misread, failures = more
    assert (misread.args, misread.file) == (("a.txt",), "a.txt")
    assert (str(failures), failures.code) == ("exit code 3 (1 sub-exception)", 3)


@pytest.mark.parametrize(
    "scalar",
    [np.float64(0.1), np.float32(-0.0), np.int8(3), np.bool_(True), np.str_("ab"), np.bytes_(b"x"),
     np.datetime64("2026-01-01T00", "h"), np.timedelta64(3, "s"), np.complex128(1j),
     np.float64("nan")],
    ids=repr,
)  # fmt: skip
def test_numpy_scalars_come_back_as_numpy_scalars(scalar: np.generic) -> None:
    assert_exact(scalar)
    assert encode(scalar).codec in ("npy-scalar", "pickle")


def test_a_large_array_in_a_file_is_mapped_and_writing_to_it_changes_no_file(
    tmp_path: pathlib.Path,
) -> None:
    array = np.arange(300_000.0).reshape(300, 1000)
    for name, value in (("c", array), ("f", np.asfortranarray(array)), ("small", array[:2])):
        path = tmp_path / name
        path.write_bytes(encode(value).data)
        path.chmod(0o444)
        before = path.read_bytes()

        back = decode_file("npy", path, vouched=True)

        assert isinstance(back, np.ndarray)
        assert type(back) is np.ndarray
        assert canonical_digest(back) == canonical_digest(value)
        back[0, 0] = 99
        path.unlink()
        assert back[0, 0] == 99
        assert back[-1, -1] == value[-1, -1]
        assert decode("npy", before, vouched=True)[0, 0] == 0  # type: ignore[index]


def test_a_value_of_any_codec_can_be_read_from_a_file(tmp_path: pathlib.Path) -> None:
    for number, value in enumerate([{"a": 1}, (1, 2), b"x", np.arange(3), np.float64(1)]):
        encoded = encode(value)
        path = tmp_path / str(number)
        path.write_bytes(encoded.data)
        back = decode_file(encoded.codec, path, vouched=True)
        assert canonical_digest(back) == canonical_digest(value)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(CodecError, match="'zarr-9'"):
        decode("zarr-9", b"", vouched=True)
    with pytest.raises(CodecError, match="'zarr-9'"):
        decode_file("zarr-9", __file__, vouched=True)


@pytest.mark.parametrize("codec", ["json", "npy", "npy-scalar", "arrow", "pickle"])
def test_bytes_of_another_kind_are_refused_with_the_codec_named(
    codec: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "x").write_bytes(b"\x93NUMPY rubbish")
    with pytest.raises(CodecError, match=codec):
        decode(codec, b"\x93NUMPY rubbish", vouched=True)
    with pytest.raises(CodecError, match=codec):
        decode_file(codec, tmp_path / "x", vouched=True)


@given(st.sampled_from(["npy", "arrow", "json"]), st.integers(0), st.integers(0, 255))
@examples(200)
def test_damaged_bytes_give_a_codec_error_or_a_value_never_anything_else(
    codec: str, place: int, byte: int
) -> None:
    import pandas as pd

    values = {"npy": np.arange(4.0), "arrow": pd.DataFrame({"a": [1, 2]}), "json": {"a": [1]}}
    data = bytearray(encode(values[codec]).data)
    data[place % len(data)] = byte
    try:
        decode(codec, bytes(data), vouched=True)
    except CodecError:
        return


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('code ran')",))


def test_the_safe_codecs_never_run_code() -> None:
    assert "pickle" not in SAFE_CODECS
    bomb = np.array([Bomb()], dtype=object)
    import io

    stream = io.BytesIO()
    np.save(stream, bomb, allow_pickle=True)
    for codec in SAFE_CODECS - {"bytes"}:
        for data in (stream.getvalue(), pickle.dumps(Bomb())):
            with pytest.raises(CodecError):
                decode(codec, data, vouched=True)


def test_what_cannot_be_pickled_is_a_codec_error_with_its_type() -> None:
    with pytest.raises(CodecError, match="lock"):
        encode(threading.Lock())


def test_what_a_notebook_defines_is_pickled_by_value() -> None:
    script = (
        "from nbcache.codec.registry import encode\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Score:\n    x: int\n"
        "def double(x): return 2 * x\n"
        "import sys; sys.stdout.buffer.write(encode([Score(3), double, lambda x: x + 1]).data)"
    )
    data = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout

    score, double, plus_one = decode("pickle", data, vouched=True)  # type: ignore[misc]

    assert score.x == 3  # type: ignore[has-type]
    assert double(2) == 4  # type: ignore[has-type]
    assert plus_one(2) == 3  # type: ignore[has-type]


def test_local_functions_and_dates_are_pickled() -> None:
    offset = 3

    def add(x: int) -> int:
        return x + offset

    back = there_and_back(add)
    assert callable(back)
    assert back(1) == 4
    assert_exact(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "pickle")


def test_choosing_a_codec_imports_no_library() -> None:
    script = (
        "import sys; from nbcache.codec.registry import encode; encode((1, {2})); encode([1.5])\n"
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'polars', 'cloudpickle'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_large_pickle_is_read_where_it_lies_also_where_its_modules_are_noted() -> None:
    data, modules = pickle.dumps(bytearray(4_000_000), protocol=5), set[str]()
    tracemalloc.start()
    try:
        value = decode("pickle", data, vouched=True, modules=modules)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert value == bytearray(4_000_000)
    assert peak < 6_000_000
