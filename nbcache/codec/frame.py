"""pandas tables to Arrow and back, only where nothing is lost on the way.

Judged in three cheap steps: dtypes whose elements Arrow keeps exactly; columns of objects only if
all are text; and a round trip of the first rows, which shows what becomes of index, labels and
dtypes (a MultiIndex makes the whole trip, since its levels depend on all of its rows). What does
not pass is refused here and pickled by the registry.
"""

from __future__ import annotations

from typing import Any

_ROWS = 3  # of the trial trip
_EXACT_CLASSES = frozenset(
    "StringDtype DatetimeTZDtype BooleanDtype Float32Dtype Float64Dtype Int8Dtype Int16Dtype "
    "Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype".split()
)


def from_pandas(value: Any) -> tuple[Any, dict[str, object]] | None:
    """Return an Arrow table and what it stands for, or None where something would be lost."""
    import pandas as pd

    meaning: dict[str, object] = {"kind": f"pandas.{type(value).__name__}"}
    if type(value) not in (pd.DataFrame, pd.Series) or value.attrs:
        return None
    if not value.flags.allows_duplicate_labels:
        return None
    if isinstance(value, pd.Series):
        if value.name is not None and type(value.name) not in (str, int):
            return None
        meaning["name"] = value.name
        value = value.to_frame("values")
    if not _is_exact(value):
        return None
    freq = getattr(value.index, "freqstr", None)
    if freq is not None:
        meaning["freq"] = freq
    if isinstance(value.columns, pd.RangeIndex) and value.columns.name is None:
        labels = value.columns
        meaning["columns"] = [labels.start, labels.stop, labels.step]
    try:
        if not _survives(value, meaning):
            return None
        import pyarrow as pa

        return pa.Table.from_pandas(value), meaning
    except (
        ValueError,
        TypeError,
        NotImplementedError,
        OverflowError,
    ):  # pyarrow's errors are these
        return None


def _is_exact(frame: Any) -> bool:
    import pandas as pd

    if frame.shape[1] == 0 or not frame.columns.is_unique or frame.columns.nlevels > 1:
        return False
    if {type(label) for label in frame.columns} not in ({str}, {int}):
        return False
    indexes = frame.index.levels if isinstance(frame.index, pd.MultiIndex) else [frame.index]
    if any(name is not None and type(name) is not str for name in frame.index.names):
        return False
    columns = [frame.iloc[:, position] for position in range(frame.shape[1])]
    return all(_keeps(each) for each in (*columns, *indexes))


def _keeps(column: Any) -> bool:
    """Tell whether Arrow keeps each element of a column or index exactly."""
    dtype = column.dtype
    kind = type(dtype).__name__
    if kind == "CategoricalDtype":
        return _keeps(dtype.categories)
    if kind in ("Float32Dtype", "Float64Dtype") and _has_nan(column):
        return False  # it would come back as missing
    if kind == "ArrowDtype":
        return "extension" not in str(dtype)
    if not type(dtype).__module__.startswith("numpy"):
        return kind in _EXACT_CLASSES
    if dtype.kind == "O":
        return all(type(each) is str for each in column)
    return dtype.kind in "biufMm" and dtype.itemsize <= 8 and dtype.isnative


def _has_nan(column: Any) -> bool:
    """Whether there are NaNs among nullable floats that are not missing."""
    import numpy as np

    return bool(np.isnan(column.array.to_numpy(column.dtype.numpy_dtype, na_value=0)).any())


def _survives(frame: Any, meaning: dict[str, object]) -> bool:
    """Make the trip with the first rows, and with a whole MultiIndex, and compare."""
    import pandas as pd
    import pyarrow as pa

    few = frame.iloc[:_ROWS]
    same_columns = {key: part for key, part in meaning.items() if key == "columns"}
    back = _back(pa.Table.from_pandas(few), same_columns)
    if not (_same_index(few.columns, back.columns) and _same_index(few.index, back.index)):
        return False
    pairs = zip(few.dtypes, back.dtypes, strict=True)
    if not all(_same_dtype(one, other) for one, other in pairs):
        return False
    if isinstance(frame.index, pd.MultiIndex):
        narrow = frame.iloc[:, :1]
        back = _back(pa.Table.from_pandas(narrow), {})
        return _same_index(narrow.index, back.index)
    if "freq" in meaning:
        index = frame.index.__class__(frame.index.array, freq=None)
        index.freq = meaning["freq"]
        return bool(index.freq == frame.index.freq)
    return True


def _same_dtype(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or str(one) != str(other) or one != other:
        return False
    if type(one).__name__ == "CategoricalDtype":
        return one.ordered == other.ordered and _same_level(one.categories, other.categories)
    return all(
        getattr(one, name, None) is getattr(other, name, None)
        or getattr(one, name, None) == getattr(other, name, None)
        for name in ("storage", "tz")
    ) and repr(getattr(one, "na_value", None)) == repr(getattr(other, "na_value", None))


def _same_level(one: Any, other: Any) -> bool:
    """Compare what bears no frequency of its own in `meaning`."""
    is_same_freq = getattr(one, "freqstr", None) == getattr(other, "freqstr", None)
    return is_same_freq and _same_index(one, other)


def _same_index(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or list(one.names) != list(other.names):
        return False
    if list(map(type, one.names)) != list(map(type, other.names)):
        return False
    if hasattr(one, "levels"):
        return len(one.levels) == len(other.levels) and all(
            _same_level(level, back) and (codes == codes_back).all()
            for level, back, codes, codes_back in zip(
                one.levels, other.levels, one.codes, other.codes, strict=True
            )
        )
    return (
        _same_dtype(one.dtype, other.dtype)
        and len(one) == len(other)
        and bool(one.equals(other))
        and [type(each) for each in one] == [type(each) for each in other]
        and (
            type(one).__name__ != "RangeIndex"
            or (one.start, one.stop, one.step) == (other.start, other.stop, other.step)
        )
    )


def to_pandas(table: Any, meaning: dict[str, Any]) -> object:
    """Return the pandas value that `from_pandas` was given; all of it may be written to."""
    frame = _back(table, meaning)
    if meaning["kind"] == "pandas.Series":
        return frame.iloc[:, 0].rename(meaning["name"])
    return frame


def _back(table: Any, meaning: dict[str, Any]) -> Any:
    frame = table.to_pandas()
    for position in range(frame.shape[1]):
        if _is_read_only(frame.iloc[:, position].array):  # what Arrow handed over uncopied
            frame.isetitem(position, frame.iloc[:, position].copy(deep=True))
    if "columns" in meaning:
        import pandas as pd

        frame.columns = pd.RangeIndex(*meaning["columns"])
    if "freq" in meaning:
        frame.index.freq = meaning["freq"]
    return frame


def _is_read_only(array: Any) -> bool:
    parts = (getattr(array, name, None) for name in ("_ndarray", "_data", "_mask"))
    found = (getattr(part, "flags", None) for part in parts)
    return any(flags is not None and not flags.writeable for flags in found)
