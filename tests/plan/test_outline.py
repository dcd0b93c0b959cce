"""What a reason says of a value that is another than before: which part, from what to what."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest

from nbcache.model.digest import Digest
from nbcache.plan.identity.outline import (
    apart,
    beside,
    changed_parts,
    outline,
    outline_of_held,
)


@dataclass
class Model:
    rate: float
    table: object = None


@dataclass(slots=True)
class Slotted:
    rate: float


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    rate: float
    depth: int


@attrs.define
class Attrs:
    rate: float


class Checked(pydantic.BaseModel):
    rate: float


class Named(NamedTuple):
    rate: float
    name: str


class WithCache:
    """What its pickle leaves out does not count, and is no reason."""

    def __init__(self, rate: float, cached: float) -> None:
        self.rate, self.cached = rate, cached

    def __getstate__(self) -> dict[str, float]:
        return {"rate": self.rate}


LARGE = pd.DataFrame({"a": np.arange(1_100_000)})


def told(old: object, new: object) -> list[str]:
    before, after = outline(old, canonical_of_class), outline(new, canonical_of_class)
    assert before is not None
    assert after is not None
    return changed_parts(before, after)


def canonical_of_class(value: object) -> None:
    """Nobody knows more of a value than the encoder does."""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"rate": 0.1, "n": 2}, {"rate": 0.2, "n": 2}, ["['rate'] 0.1 → 0.2"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["['a']['b'][1] 2 → 3"]),
        ({"a": 1}, {"a": 1, "b\nc": None}, ["['b\\nc'] is new"]),
        ([1, "x"], [1], ["[1] is gone"]),
        ({"a": []}, {"a": [1]}, ["['a'] is gone", "['a'][0] is new"]),
        ({"a": "x\ty"}, {"a": "x\tz"}, None),
        (Model(0.1), Model(0.2), [".rate 0.1 → 0.2"]),
        (
            partial(max, (Model(1), 2), key={"k": [1]}),
            partial(max, (Model(2), 2), key={"k": [3]}),
            [".args[0][0].rate 1 → 2", ".keywords['key']['k'][0] 1 → 3"],
        ),
        (partial(max, key=abs), partial(max, 3, key=abs), [".args[0] is new"]),
        (partial(max, 3), partial(max, 3, key=abs), [".keywords['key'] is new"]),
        (
            Model(1, np.zeros(3)),
            Model(1, np.array([0.0, 1.0, 0.0])),
            [".table (ndarray float64 (3,)): 1 of 3 elements changed: [1] 0.0 → 1.0"],
        ),
        (
            pd.DataFrame({"a": [1], "b": [2.0]}),
            pd.DataFrame({"a": [1], "b": [3.0]}),
            ["column 'b' (float64) changed"],
        ),
        (
            pd.DataFrame({"a": [1]}, index=[1]),
            pd.DataFrame({"a": [1]}, index=[2]),
            ["index changed"],
        ),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": ["x"]}), ["column 'a' Int64 → String"]),
        (pa.table({"a": [1]}), pa.table({"a": [2]}), ["column 'a' (int64) changed"]),
        (
            pd.DataFrame({"a": [1], "b": [2]}),
            pd.DataFrame({"b": [2, 3], "c": [1, 1]}),
            ["rows 1 → 2", "column 'c' is new", "column 'a' is gone"],
        ),
        (
            pd.DataFrame({each: [1] for each in "abcd"}),
            pd.DataFrame({each: [2] for each in "abcd"}),
            ["4 of 4 columns changed: 'a', 'b', 'c', ..."],
        ),
        (
            pd.DataFrame({"a": [1], "b": [2]}),
            pd.DataFrame({"b": [2], "a": [1]}),
            ["order of columns changed"],
        ),
        ({"t": None}, {"t": pd.DataFrame({"a": [1]})}, ["['t'] None → DataFrame 1 x 1"]),
        ({"t": pd.DataFrame({"a": [1]})}, {"u": 1}, ["['t'] is gone", "['u'] is new"]),
        (
            {"t": pd.DataFrame({"a": [1]}), "n": 1},
            {"t": pd.DataFrame({"a": [3]}), "n": 2},
            ["['t'] column 'a' (int64) changed", "['n'] 1 → 2"],
        ),
        (LARGE, LARGE.astype({"a": "float64"}), ["column 'a' int64 → float64"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ["order changed"]),
        (defaultdict(int, a=1), defaultdict(int, a=2), ["['a'] 1 → 2"]),
        (Slotted(1), Slotted(2), [".rate 1 → 2"]),
        (FrozenSlots(1, 2), FrozenSlots(1, 3), [".depth 2 → 3"]),
        (Attrs(1), Attrs(2), [".rate 1 → 2"]),
        (Checked(rate=1), Checked(rate=2), [".rate 1.0 → 2.0"]),
        (Named(1, "x"), Named(2, "x"), [".rate 1 → 2"]),
        (WithCache(1, 10), WithCache(2, 20), [".rate 1 → 2"]),
    ],
)  # fmt: skip
def test_the_part_that_is_another_is_named(
    old: object, new: object, said: list[str] | None
) -> None:
    if said is None:
        assert told(old, new)
    else:
        assert told(old, new) == said
    assert told(old, old) == []


ZEROS, SPOTTED = np.zeros(5000), np.zeros(5000)
SPOTTED[700] = -1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (np.array([1, np.nan]), np.array([2, np.nan]), "1 of 2 elements changed: [0] 1.0 → 2.0"),
        (np.arange(6), np.arange(6)[::-1], "the same elements in another order"),
        ([np.zeros(4, int)], [np.arange(1, 5)], "[0] (ndarray int64 (4,)): 4 of 4 elements "
         "changed: [0] 0 → 1, [1] 0 → 2, [2] 0 → 3, ..."),
        (ZEROS, SPOTTED, "elements between [625] and [780] of 5,000 changed"),
        (SPOTTED, SPOTTED[::-1], "the same elements in another order"),
        (ZEROS, ZEROS + 1, "elements changed all over its 5,000"),
        ([{1, 2}], [{1, 3}], "[0] {1, 2} → {1, 3}"),
        ([{1, 2}], [set()], "[0] {1, 2} → set()"),
        ([{1, 2}], [frozenset({1, 2})], "[0] {1, 2} → frozenset({1, 2})"),
        ({"m": "x #y [1"}, {"m": "x #z [1"}, "['m'] 'x #y [1' → 'x #z [1'"),
    ],
)  # fmt: skip
def test_of_arrays_and_sets_it_is_told_what_is_another(old: object, new: object, said: str) -> None:
    assert ", ".join(told(old, new)) == said


def test_where_there_is_no_room_for_elements_the_array_is_named_alone() -> None:
    old = {f"k{number}": np.arange(90.0) + number / 7 for number in range(9)}

    assert told(old, {**old, "k3": old["k3"] + 1}) == ["['k3'] (ndarray float64 (90,)) changed"]


def test_an_array_is_no_reason_where_one_side_was_written_without_its_elements() -> None:
    new = outline({"w": np.arange(5), "n": 2}, None)
    assert new is not None
    old = new.partition(" [")[0] + "\n['n']\t1"

    assert changed_parts(old, new) == ["['n'] 1 → 2"]


def test_values_that_moved_to_other_labels_are_told_with_their_index() -> None:
    old = pd.DataFrame({"w": [1, 2]}, index=["a", "b"])

    assert told(old, old.assign(w=[2, 1])) == ["column 'w' (int64) changed"]
    assert told(old, pd.DataFrame({"w": [2, 1]}, index=["c", "d"])) == [
        "column 'w' (int64) changed",
        "index changed",
    ]


@pytest.mark.parametrize(
    "value",
    [
        pd.Series(["plain text", "b"], name="password"),
        pd.Series([1234], name="password"),
        pl.Series("password", ["plain text"]),
        np.array(["plain text"]),
        np.array(["plain text"], dtype=object),
        np.ma.array([1.0, 2.0], mask=[False, True]),
        np.arange(200).view(np.matrix),
        {"plain text"},
    ],
    ids=lambda each: type(each).__name__,
)
def test_elements_are_kept_of_plain_arrays_of_numbers_alone(value: object) -> None:
    assert outline(value, None) is None
    text = outline([value], None)
    assert text is not None
    assert " [" not in text


def test_what_has_no_parts_or_too_many_has_no_outline() -> None:
    for value in (np.array([[object()]]), list(range(1000)), "text", 3, object()):
        assert outline(value, None) is None


def test_a_part_whose_own_code_raises_is_told_by_its_type() -> None:
    class Broken:
        def __reduce_ex__(self, protocol: object) -> str:
            raise ValueError

    text = outline({"a": [{1, Broken()}], "b": 1}, None)
    assert text is not None
    assert text.split("\n")[-1] == "['b']\t1"


def test_a_table_is_compared_with_no_outline_that_does_not_tell_its_shape() -> None:
    new = outline(pd.DataFrame({"a": [1]}), None)
    assert new is not None
    assert changed_parts("['a']\tSeries int64 of 1 #12345678\n.index\tRangeIndex #1", new) == []


def test_an_outline_stands_behind_code_as_comments_and_is_taken_off_again() -> None:
    for text, parts in (("def f(): pass", "k\t2\nt\t3"), (None, "k\t2"), ("x = '# == '", None)):
        together = beside(text, parts)
        assert together is not None
        compile(together, "evidence", "exec")
        assert apart(together) == (text, parts)


def test_of_what_code_holds_only_data_is_told_and_no_secret() -> None:
    held = [("closure of f: k", 2), ("default of f: api_key", SECRET), ("C.method", outline)]
    text = outline_of_held(held, lambda value: Digest("code") if callable(value) else None)
    assert text == "closure of f: k\t2\ndefault of f: api_key\t(not shown)"


SECRET = "hunter2secret"


@dataclass
class Login:
    user: str
    api_key: object
    max_token: int = 512


class Password:
    def __init__(self, held: str) -> None:
        self.held = held


class Access(Enum):
    TOKEN = SECRET


@attrs.define(slots=False)
class Sealed:
    _secret: str


class Account(NamedTuple):
    user: str
    password: str


class Settings(dict):  # type: ignore[type-arg]
    """A dict whose members are attributes, too."""

    def __init__(self, **held: str) -> None:
        super().__init__(**held)
        self.__dict__ = self


@pytest.mark.parametrize(
    "value",
    [
        Login("me", SECRET),
        [Login("me", [{"a": SECRET}])],
        {"a": {"b": {"c": {"d": {"password": SECRET}}}}},
        {"a": {"b": {"c": {"d": {"e": {"password": SECRET}}}}}},
        {"a": [[{b"password": SECRET}], {("db", "password"): (SECRET,)}]},
        [Password(SECRET)],
        {"mode": Access.TOKEN},
        {"a": Sealed(SECRET)},
        {"a": Account("me", SECRET)},
        {"a": Settings(password=SECRET)},
        {"call": functools.partial(print, token=SECRET)},
        {"a": SimpleNamespace(password=SECRET)},
        [("user", "me"), ("password", SECRET)],
        ("password", SECRET),
    ],
)
def test_what_a_secret_looking_name_holds_stands_nowhere(value: object) -> None:
    text = outline(value, None)
    assert text is not None
    assert SECRET not in text


def test_the_other_parts_of_what_holds_a_secret_are_told() -> None:
    assert told(Login("me", SECRET), Login("you", "other", 3)) == [
        ".user 'me' → 'you'",
        ".max_token 512 → 3",
    ]


@pytest.mark.parametrize(
    "large",
    [
        np.zeros(2_000_000),
        pd.DataFrame({"a": np.zeros(2_000_000)}),
        pl.DataFrame({"a": np.zeros(2_000_000)}),
        "x" * 9_000_000,
        set(range(200_000)),
        SimpleNamespace(weights=np.zeros(2_000_000)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_large_value_has_no_outline_as_it_would_be_hashed_once_more(large: object) -> None:
    assert outline({"n": 1, "held": large}, None) is None
    assert outline({"n": 1, "held": np.zeros(1000)}, None) is not None
