"""Values of every kind that people capture, made from plain recipes, in this or another process.

A recipe is (kind, parameters): small domains, so that two of them are often equal. `key` is what
a body can see of the value, said without the canonical form.
"""

# ruff: noqa: E501 - a kind is easiest to read on one line

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import operator
import pathlib
import random
import re
import struct
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
import matplotlib.colors
import networkx as nx
import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pydantic
import scipy.sparse
import sklearn.linear_model
import sklearn.preprocessing
import sklearn.tree
import sklearn.utils
from hypothesis import strategies as st

from nbcache.model.digest import Digest, identity_digest

Recipe = tuple[str, Any]


class Access(enum.Flag):
    READ, WRITE, RUN = 1, 2, 4


class Level(enum.IntFlag):
    LOW, HIGH = 1, 2


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    x: int


@attrs.define
class Mutable:
    x: int
    y: Any = None


@attrs.frozen
class Immutable:
    x: int


class Model(pydantic.BaseModel):
    x: int
    y: str | None = None


class Signal(np.ndarray):
    """An array with a unit, as numpy's documentation makes one."""


Item = TypeVar("Item")


class Box(pydantic.BaseModel, Generic[Item]):
    item: Item


BOXES: dict[str, type[pydantic.BaseModel]] = {"float": Box[float], "int": Box[int], "T": Box}
Pair = collections.namedtuple("Pair", "one two")


class Labelled(pa.ExtensionType):
    """An Arrow type of one's own, with a parameter."""

    def __init__(self, label: str) -> None:
        self.label = label
        super().__init__(pa.int64(), "tests.labelled")

    def __arrow_ext_serialize__(self) -> bytes:
        return self.label.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: object, data: bytes) -> Labelled:
        return cls(data.decode())


pa.register_extension_type(Labelled("any"))


def leaf(value: object) -> Digest | None:
    """Answer for the classes of this module, as a capture would by their code."""
    if isinstance(value, type) and value.__module__ == __name__:
        return identity_digest(value.__qualname__.encode())
    return None


@dataclasses.dataclass(frozen=True)
class Kind:
    params: st.SearchStrategy[Any]
    build: Callable[[Any], Any]
    key: Callable[[Any, Any], Any]  # of parameters and value


def _as_told(params: Any, value: Any) -> Any:
    return repr(params)


def _zoned(params: Any) -> datetime.datetime:
    hour, zone, fold = params
    zones = {
        "none": None, "utc": datetime.UTC, "hour": datetime.timezone(datetime.timedelta(hours=1)),
        "named": datetime.timezone(datetime.timedelta(hours=1), "X"),
    }  # fmt: skip
    held = zones[zone] if zone in zones else zoneinfo.ZoneInfo(zone)
    return datetime.datetime(2026, 10, 25, hour, 30, tzinfo=held, fold=fold)


def _generator(params: Any) -> np.random.Generator:
    name, seed, draws = params
    made = np.random.Generator(getattr(np.random, name)(seed))
    made.integers(0, 10, draws)
    return made


def _drawn(made: Any, draws: int) -> Any:
    for _ in range(draws):
        made.random()
    return made


def _masked(params: Any) -> Any:
    data, fill = params
    return np.ma.array([each or 0 for each in data], mask=[each is None for each in data],
                       fill_value=fill)  # fmt: skip


def _frame(params: Any) -> pd.DataFrame:
    columns, index, kind = params
    return pd.DataFrame({name: pd.Series(each, dtype=kind) for name, each in columns}).set_axis(
        pd.Index(range(2), name=index)
    )


def _sparse(params: Any) -> Any:
    layout, style, rows = params
    return getattr(scipy.sparse, f"{layout}_{style}")(np.array(rows))


def _named_sparse(params: Any) -> Any:
    layout, name, rows = params
    made = getattr(scipy.sparse, f"{layout}_array")(np.array(rows))
    if name is not None:
        made.name = name
    return made


def _graph(params: Any) -> Any:
    kind, edges = params
    made = getattr(nx, kind)()
    made.add_edges_from(edges)
    return made


def _palette(params: Any) -> PIL.Image.Image:
    mode, colours = params
    made = PIL.Image.new("P", (1, 2), 1)
    made.putpalette(colours, mode)
    return made


def _signal(params: Any) -> Any:
    unit, data = params
    made: Any = np.array(data).view(Signal)
    made.unit = unit
    return made


def _colours(params: Any) -> Any:
    names, is_used = params
    made = matplotlib.colors.ListedColormap(names)
    if is_used:
        made(0.5)
    return made


def _model(params: Any) -> Model:
    x, y = params
    return Model(x=x) if y == "unset" else Model(x=x, y=y)


small = st.integers(-1, 1)
letters = st.sampled_from("ab")
scalars = st.sampled_from([0, 0.0, -0.0, False, None, "0", b"0", float("nan")])
pairs = st.lists(st.tuples(letters, small), max_size=2)
FACTORIES: dict[str, Any] = {"int": int, "list": list, "none": None}

KINDS: dict[str, Kind] = {
    "scalar": Kind(scalars, lambda p: p, _as_told),
    "complex": Kind(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0])] * 2), lambda p: complex(*p), _as_told),
    "decimal": Kind(st.sampled_from(["1", "1.0", "-0", "0", "NaN", "sNaN", "1E+1", "10"]), decimal.Decimal, _as_told),
    "fraction": Kind(st.tuples(small, st.sampled_from([1, 2])), lambda p: fractions.Fraction(*p), lambda p, v: repr(v)),
    "range": Kind(st.tuples(small, small, st.sampled_from([1, 2])), lambda p: range(*p), _as_told),
    "slice": Kind(st.tuples(scalars, scalars), lambda p: slice(*p), _as_told),
    "tuple": Kind(st.lists(scalars, max_size=2), tuple, _as_told),
    "list": Kind(st.lists(scalars, max_size=2), list, _as_told),
    "set": Kind(st.lists(small, max_size=3), set, lambda p, v: sorted(v)),
    "frozenset": Kind(st.lists(letters, max_size=3), frozenset, lambda p, v: sorted(v)),
    "dict": Kind(pairs, dict, lambda p, v: list(v.items())),
    "OrderedDict": Kind(pairs, collections.OrderedDict, lambda p, v: list(v.items())),
    "Counter": Kind(st.lists(letters, max_size=3), collections.Counter, lambda p, v: list(v.items())),
    "defaultdict": Kind(st.tuples(st.sampled_from(sorted(FACTORIES)), pairs), lambda p: collections.defaultdict(FACTORIES[p[0]], p[1]), lambda p, v: (p[0], list(v.items()))),
    "deque": Kind(st.tuples(st.lists(small, max_size=3), st.sampled_from([None, 1, 2])), lambda p: collections.deque(*p), lambda p, v: (list(v), v.maxlen)),
    "partial": Kind(st.tuples(st.sampled_from(["add", "mul"]), st.lists(small, max_size=1), pairs), lambda p: functools.partial(getattr(operator, p[0]), *p[1], **dict(p[2])), lambda p, v: (p[0], v.args, list(v.keywords.items()))),
    "Flag": Kind(st.integers(0, 7), Access, _as_told),
    "IntFlag": Kind(st.integers(0, 3), Level, _as_told),
    "dataclass": Kind(st.tuples(small, st.lists(small, max_size=1)), lambda p: Point(*p), _as_told),
    "frozen dataclass": Kind(small, Fixed, _as_told),
    "attrs": Kind(st.tuples(small, scalars), lambda p: Mutable(*p), _as_told),
    "frozen attrs": Kind(small, Immutable, _as_told),
    "pydantic": Kind(st.tuples(small, st.sampled_from([None, "", "unset"])), _model, _as_told),
    "generic pydantic": Kind(st.tuples(st.sampled_from(sorted(BOXES)), small), lambda p: BOXES[p[0]](item=p[1]), _as_told),
    "namedtuple": Kind(st.tuples(small, scalars), lambda p: Pair(*p), _as_told),
    "datetime": Kind(st.tuples(st.sampled_from([1, 2]), st.sampled_from(["none", "utc", "hour", "named", "UTC", "Europe/Berlin", "Europe/Paris"]), st.integers(0, 1)), _zoned, _as_told),
    "date": Kind(st.integers(1, 3), lambda p: datetime.date(2026, 1, p), _as_told),
    "timedelta": Kind(small, lambda p: datetime.timedelta(microseconds=p), _as_told),
    "uuid": Kind(st.integers(0, 2), lambda p: uuid.UUID(int=p), _as_told),
    "path": Kind(st.sampled_from(["a", "a/b", "/a", "."]), pathlib.Path, _as_told),
    "Struct": Kind(st.sampled_from(["i", "<i", "4s"]), struct.Struct, _as_told),
    "memoryview": Kind(st.tuples(st.sampled_from([bytes, bytearray]), st.sampled_from("bBc"), st.sampled_from([b"", b"a"])), lambda p: memoryview(p[0](p[2])).cast(p[1]), _as_told),
    "pattern": Kind(st.tuples(letters, st.sampled_from([0, re.IGNORECASE])), lambda p: re.compile(*p), _as_told),
    "bytearray": Kind(st.sampled_from([b"", b"a"]), bytearray, _as_told),
    "Random": Kind(st.tuples(st.integers(0, 2), st.integers(0, 2)), lambda p: _drawn(random.Random(p[0]), p[1]), _as_told),
    "RandomState": Kind(st.tuples(st.integers(0, 2), st.integers(0, 2)), lambda p: _drawn(np.random.RandomState(p[0]), p[1]), _as_told),
    "Generator": Kind(st.tuples(st.sampled_from(["PCG64", "MT19937", "Philox", "SFC64"]), st.integers(0, 1), st.integers(0, 2)), _generator, lambda p, v: (p[0], repr(v.bit_generator.state))),
    "dtype": Kind(st.sampled_from(["i4", "i8", "f8", ">f8", "U3", "S3", "M8[s]", "M8[ms]", "i4,f8"]), np.dtype, _as_told),
    "numpy scalar": Kind(st.tuples(st.sampled_from(["i4", "i8", "f4", "f8", "U3"]), small), lambda p: np.dtype(p[0]).type(p[1]), _as_told),
    "array": Kind(st.tuples(st.sampled_from(["i4", "i8", "f8", ">f8", "?"]), st.lists(small, min_size=2, max_size=2), st.sampled_from([(2,), (1, 2), (2, 1)])), lambda p: np.array(p[1], p[0]).reshape(p[2]), lambda p, v: (p[0], p[2], v.tolist())),
    "masked": Kind(st.tuples(st.lists(st.none() | small, min_size=2, max_size=2), st.sampled_from([7, 8])), _masked, _as_told),
    "signal": Kind(st.tuples(letters, st.lists(small, min_size=1, max_size=2)), _signal, _as_told),
    "hard mask": Kind(st.tuples(small, st.booleans()), lambda p: np.ma.array([p[0]], mask=[True], hard_mask=p[1]), _as_told),
    "structured": Kind(st.tuples(st.sampled_from(["i4,f8", "i8,f8", "f8,i4"]), st.lists(st.tuples(small, small), min_size=1, max_size=2)), lambda p: np.array(p[1], p[0]), _as_told),
    "busdaycalendar": Kind(st.tuples(st.sampled_from(["1111100", "1111110"]), st.lists(st.integers(1, 5), max_size=2)), lambda p: np.busdaycalendar(p[0], [np.datetime64(f"2026-01-0{day}") for day in p[1]]), lambda p, v: (v.weekmask.tolist(), v.holidays.tolist())),
    "DataFrame": Kind(st.tuples(st.lists(st.tuples(letters, st.lists(small, min_size=2, max_size=2)), max_size=2), st.sampled_from([None, "i"]), st.sampled_from(["i8", "f8", "Int64"])), _frame, lambda p, v: (v.columns.tolist(), v.values.tolist(), p[1], p[2] if len(v.columns) else "")),
    "Categorical": Kind(st.tuples(st.lists(letters, max_size=2), st.sampled_from(["ab", "ba", "abc"]), st.booleans()), lambda p: pd.Categorical(p[0], list(p[1]), ordered=p[2]), _as_told),
    "polars": Kind(st.tuples(st.sampled_from(["Int64", "Float64", "String"]), letters, st.lists(st.none() | small, max_size=2)), lambda p: pl.DataFrame({p[1]: pl.Series([None if each is None else {"String": str}.get(p[0], int)(each) for each in p[2]], dtype=getattr(pl, p[0]))}), _as_told),
    "arrow": Kind(st.tuples(st.sampled_from(["int32", "int64", "float64"]), st.lists(st.none() | small, max_size=2)), lambda p: pa.array(p[1], getattr(pa, p[0])()), _as_told),
    "arrow map": Kind(st.tuples(st.sampled_from(["int64", "duration"]), st.lists(st.none() | pairs, max_size=2)), lambda p: pa.array(p[1], pa.map_(pa.string(), pa.duration("ns") if p[0] == "duration" else pa.int64())), _as_told),
    "arrow extension": Kind(st.tuples(letters, st.lists(st.none() | small, max_size=2)), lambda p: pa.ExtensionArray.from_storage(Labelled(p[0]), pa.array(p[1], pa.int64())), _as_told),
    "arrow schema": Kind(st.tuples(letters, letters), lambda p: pa.schema([(p[0], Labelled(p[1]))]), _as_told),
    "arrow extension type": Kind(letters, Labelled, _as_told),
    "sparse": Kind(st.tuples(st.sampled_from(["csr", "csc", "coo"]), st.sampled_from(["matrix", "array"]), st.lists(st.lists(small, min_size=2, max_size=2), min_size=1, max_size=2)), _sparse, _as_told),
    "named sparse": Kind(st.tuples(st.sampled_from(["bsr", "dia", "dok", "lil"]), st.sampled_from([None, "a"]), st.lists(st.lists(small, min_size=2, max_size=2), min_size=2, max_size=2)), _named_sparse, _as_told),
    "image with a palette": Kind(st.tuples(st.sampled_from(["RGB", "RGBA"]), st.lists(st.integers(0, 1), min_size=12, max_size=12)), _palette, _as_told),
    "image": Kind(st.tuples(st.sampled_from(["L", "P"]), st.sampled_from([(1, 2), (2, 1)]), st.integers(0, 2)), lambda p: PIL.Image.new(*p), _as_told),
    "estimator": Kind(st.tuples(st.sampled_from([0.5, 1.0]), st.booleans()), lambda p: sklearn.linear_model.Ridge(alpha=p[0], fit_intercept=p[1]), _as_told),
    "tree": Kind(st.tuples(st.integers(1, 2), st.lists(small, min_size=3, max_size=3)), lambda p: sklearn.tree.DecisionTreeRegressor(max_depth=p[0], random_state=0).fit([[0], [1], [2]], p[1]), _as_told),
    "Bunch": Kind(pairs, lambda p: sklearn.utils.Bunch(**dict(p)), lambda p, v: list(v.items())),
    "graph": Kind(st.tuples(st.sampled_from(["Graph", "DiGraph"]), st.lists(st.tuples(small, small), max_size=2)), _graph, lambda p, v: (p[0], list(v.nodes), list(v.adjacency()))),
    "colours": Kind(st.tuples(st.lists(st.sampled_from(["red", "blue"]), min_size=1, max_size=2), st.booleans()), _colours, lambda p, v: p[0]),
    "fitted estimator": Kind(st.lists(small, min_size=2, max_size=2), lambda p: sklearn.preprocessing.StandardScaler().fit([[each] for each in p]), lambda p, v: sorted(p)),
}  # fmt: skip

NEVER_SENT = frozenset({"busdaycalendar"})  # it cannot be pickled
# `copy` refuses these, or forgets a part of them.
NEVER_COPIED = NEVER_SENT | {"Struct", "memoryview", "image with a palette", "signal"}

recipes: st.SearchStrategy[Recipe] = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.tuples(st.just(kind), KINDS[kind].params)
)
two_recipes = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.tuples(
        st.tuples(st.just(kind), KINDS[kind].params),
        st.tuples(st.just(kind), KINDS[kind].params) | recipes,
    )
)


def build(recipe: Recipe) -> Any:
    return KINDS[recipe[0]].build(recipe[1])


def key(recipe: Recipe) -> str:
    return repr((recipe[0], KINDS[recipe[0]].key(recipe[1], build(recipe))))
