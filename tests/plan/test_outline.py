"""What a reason says of a value that is another than before: which part, from what to what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbcache.plan.identity.outline import changed_parts, outline


@dataclass
class Model:
    rate: float
    table: object = None


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
            Model(1, np.zeros(3)),
            Model(1, np.ones(3)),
            [".table (ndarray float64 (3,)) changed"],
        ),
        (
            pd.DataFrame({"a": [1], "b": [2.0]}),
            pd.DataFrame({"a": [1], "b": [3.0]}),
            ["['b'] (Series float64 of 1) changed"],
        ),
        (
            pd.DataFrame({"a": [1]}, index=[1]),
            pd.DataFrame({"a": [1]}, index=[2]),
            None,
        ),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": ["x"]}), None),
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


def test_what_has_no_parts_or_too_many_has_no_outline() -> None:
    for value in (np.zeros(3), list(range(1000)), "text", 3, object()):
        assert outline(value, None) is None


def test_a_part_whose_own_code_raises_is_told_by_its_type() -> None:
    class Broken:
        def __reduce_ex__(self, protocol: object) -> str:
            raise ValueError

    text = outline({"a": [{1, Broken()}], "b": 1}, None)
    assert text is not None
    assert text.split("\n")[-1] == "['b']\t1"
