"""Summaries are short, quick and never fail; scalars have a JSON text."""

from __future__ import annotations

import datetime
import functools
import json
import math
import pathlib

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.model.digest import Digest
from nbcache.model.value import Gathered, RemoteFile, Stored
from nbcache.plan.identity.canonical import scalar_json, summarise


class Rude:
    def __repr__(self) -> str:
        raise AssertionError("a user's repr was called")

    __str__ = __repr__

    def __len__(self) -> int:
        raise AssertionError("a user's len was called")


class RudeList(list):  # type: ignore[type-arg]
    __repr__ = Rude.__repr__


class Liar:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("abc", "'abc'"),
        (None, "None"),
        (0.5, "0.5"),
        (10**5000, "int of 16610 bits"),
        ([1, 2], "[1, 2]"),
        ({"a": 1}, "{'a': 1}"),
        ({"max_token": 1}, "{'max_token': 1}"),
        ({"user": "me", "password": "hunter2secret"}, "dict of 2"),
        (functools.partial(len, 1, n=2, token="x"), "partial(len, 1, n=2, token=(not shown))"),  # type: ignore[call-arg, arg-type]
        (list(range(13)), "list of 13"),
        ([Rude()], "list of 1"),
        (RudeList([1, 2]), "RudeList of 2"),
        (pd.DataFrame({"a": range(200)}), "DataFrame 200 x 1"),
        (pl.DataFrame({"a": [1]}), "DataFrame 1 x 1"),
        (pa.table({"a": [1]}), "Table 1 x 1"),
        (np.zeros((1000, 3)), "ndarray float64 (1000, 3)"),
        (np.float64(0.5), "0.5"),
        (pd.Series([1, 2]), "Series int64 of 2"),
        (pathlib.Path("a/b"), "a/b"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Stored(Digest("xxh3:0123456789"), "value", "json", 3), "Stored value 01234567"),
        (Gathered([1, 2, 3]), "3 gathered"),
        (RemoteFile("s3://a/b"), "s3://a/b"),
        (len, "builtin_function_or_method len"),
        (int, "class int"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_said_in_a_few_words(value: object, text: str) -> None:
    assert summarise(value) == text


@pytest.mark.parametrize(
    "value", [Rude(), "x" * 10**6, ["y" * 10**6], {"z" * 100: 1}, {i: i for i in range(99)}]
)
def test_a_summary_never_fails_and_has_at_most_80_characters(value: object) -> None:
    assert 0 < len(summarise(value)) <= 80


def test_a_value_that_lies_about_its_class_has_a_summary_too() -> None:
    assert summarise(Liar()).endswith("Liar")


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_scalars_have_a_json_text_that_gives_them_back(value: object) -> None:
    text = scalar_json(value)
    assert text is not None
    back = json.loads(text)
    assert type(back) is type(value)
    assert back == value or (math.isnan(back) and math.isnan(value))  # type: ignore[arg-type]


def test_numpy_scalars_are_given_as_python_ones() -> None:
    assert scalar_json(np.float64(0.5)) == "0.5"
    assert scalar_json(np.int8(3)) == "3"
    assert scalar_json(np.bool_(True)) == "true"
    assert scalar_json(np.str_("a")) == '"a"'


@pytest.mark.parametrize("value", [[1], (1,), b"a", 1j, np.arange(2), np.complex64(1), {}])
def test_other_values_have_no_json_text(value: object) -> None:
    assert scalar_json(value) is None
