"""Digests never change by accident: the canonical bytes of these values are part of the format.

To change them on purpose, raise ENCODER_VERSION and write the file anew with
`python -m tests.plan.test_canonical_golden`.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import pathlib
import re
import types
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from nbcache.model.digest import Digest
from nbcache.model.value import Gathered, Record, Stored
from nbcache.plan.identity.canonical import ENCODER_VERSION, canonical_digest

FILE = pathlib.Path(__file__).parents[1] / "golden" / "canonical.json"


def values() -> dict[str, object]:
    shared = [1]
    circle: list[object] = []
    circle.append(circle)
    stored = Stored(Digest("xxh3:00"), "value", "json", 3)
    return {
        "int": 3,
        "large int": -(10**40),
        "float": 0.1,
        "nan": float("nan"),
        "negative zero": -0.0,
        "bool": True,
        "None": None,
        "str": "é\ud800",
        "bytes": b"\x00a",
        "complex": 1j,
        "containers": [1, (2.5, "a"), {"k": [None]}, {3, "x"}, frozenset({1})],
        "shared": [shared, shared],
        "circle": circle,
        "decimal": decimal.Decimal("1.10"),
        "datetime": datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        "timedelta": datetime.timedelta(1, 2, 3),
        "uuid": uuid.UUID(int=7),
        "path": pathlib.PurePosixPath("a/b"),
        "pattern": re.compile("a+", re.I),
        "range and slice": (range(1, 9, 2), slice(None, 3)),
        "collections": [
            collections.deque([1], 3),
            collections.OrderedDict(a=1),
            collections.defaultdict(list, a=[1]),
            collections.Counter("aab"),
            types.SimpleNamespace(a=1),
        ],
        "function and class": (len, json.dumps, decimal.Decimal),
        "exception": ValueError("a"),
        "stored": stored,
        "gathered": Gathered([stored, 1]),
        "record": Record(("x", None), (1, 2)),
        "array": np.arange(6.0).reshape(2, 3),
        "array of records": np.array([(1, 2.0)], [("a", "<i4"), ("b", "<f8")]),
        "array of objects": np.array([1, "a"], dtype=object),
        "numpy scalar": np.float32(0.5),
        "frame": pd.DataFrame(
            {"a": [1, 2], "b": [0.5, np.nan], "n": pd.array([1, None], "Int8")},
            index=pd.DatetimeIndex(["2026-01-01", "2026-01-02"], dtype="datetime64[ns]", name="t"),
        ),
        "categorical": pd.Categorical([1, 2], [2, 1], ordered=True),
        "timestamp": pd.Timestamp("2026-01-01", tz="UTC").as_unit("ns"),
        "polars": pl.DataFrame({"a": [1, None], "s": ["x", "y"], "l": [[1], []]}),
        "arrow": pa.table({"a": [1, None], "s": ["x", None], "r": [{"k": 1}, None]}),
    }


def digests() -> dict[str, object]:
    return {
        "encoder_version": ENCODER_VERSION,
        "digests": {name: canonical_digest(value) for name, value in values().items()},
    }


def test_canonical_digests_are_those_of_the_golden_file() -> None:
    assert digests() == json.loads(FILE.read_text())


if __name__ == "__main__":
    FILE.write_text(json.dumps(digests(), indent=1) + "\n")
