"""Canonical forms of pandas values: tables, indexes, extension arrays, scalars, dtypes.

A table counts by its columns (labels, dtypes, elements), index, attrs and class; not by how
pandas keeps its blocks. What lies under a missing value does not count.
"""

from __future__ import annotations

from nbcache.plan.identity.canonical.arrays import write_elements
from nbcache.plan.identity.canonical.arrow import write_chunks
from nbcache.plan.identity.canonical.encoder import Encoder, Foreign, Handler, Refused
from nbcache.plan.identity.canonical.objects import write_object


def _write_frame(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("pandas.DataFrame")
    encoder.write_class(type(value))
    encoder.write_step(".columns", value.columns)
    encoder.write_step(".index", value.index)
    for position, label in enumerate(value.columns):
        try:
            _write_values(encoder, value.iloc[:, position].array)
        except Refused as refused:
            refused.trail.insert(0, f"[{label!r}]" if isinstance(label, str | int) else "[column]")
            raise
    _write_extras(encoder, value)


def _write_series(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("pandas.Series")
    encoder.write_class(type(value))
    encoder.write_step(".index", value.index)
    _write_values(encoder, value.array)
    _write_extras(encoder, value)


def _write_extras(encoder: Encoder, value: Foreign) -> None:
    encoder.write_step(".attrs", value.attrs)
    encoder.write(value.flags.allows_duplicate_labels)
    metadata = {name: getattr(value, name, None) for name in value._metadata}
    encoder.write_pairs(metadata.items(), len(metadata), attributes=True)


def _write_index(encoder: Encoder, value: Foreign) -> None:
    kind = type(value).__name__
    encoder.tag("pandas.Index")
    encoder.write_class(type(value))
    encoder.write_step(".names", list(value.names))
    if kind == "RangeIndex":
        encoder.write((value.start, value.stop, value.step))
    elif kind == "MultiIndex":
        encoder.write_sequence(value.levels, value.nlevels)
        for codes in value.codes:
            write_elements(encoder, codes.astype("int64"))
    else:
        _write_values(encoder, value.array)
        encoder.write(getattr(value, "freqstr", None))


def _write_extension_array(encoder: Encoder, value: Foreign) -> None:
    if not encoder.met_before(value):
        encoder.tag("pandas array")
        _write_values(encoder, value)


def _write_values(encoder: Encoder, array: Foreign) -> None:
    """Write the dtype and the elements of one column or index."""
    classes = {base.__name__ for base in type(array).__mro__}
    _write_dtype(encoder, array.dtype)
    encoder.write(len(array))
    if "Categorical" in classes:
        write_elements(encoder, array.codes.astype("int64"))
    elif classes & {"NumpyExtensionArray", "BaseStringArray"} and hasattr(array, "_ndarray"):
        write_elements(encoder, array._ndarray)
    elif hasattr(array, "asi8"):
        write_elements(encoder, array.asi8)
    elif "BaseMaskedArray" in classes:
        data, mask = array._data, array._mask
        if mask.any():
            data = data.copy()
            data[mask] = 0
        write_elements(encoder, data)
        write_elements(encoder, mask)
    elif "ArrowExtensionArray" in classes:
        write_chunks(encoder, array._pa_array)
    elif "IntervalArray" in classes:
        encoder.write(array.left)
        encoder.write(array.right)
    elif "SparseArray" in classes:
        write_elements(encoder, array.sp_values)
        write_elements(encoder, array.sp_index.to_int_index().indices)
    else:  # of another library: its elements do not say all, such as where points on a map lie
        write_object(encoder, array)


_OF_DTYPES = ("categories", "ordered", "tz", "storage", "na_value", "closed", "fill_value")


def _write_dtype(encoder: Encoder, dtype: Foreign) -> None:
    encoder.write((type(dtype).__name__, str(dtype)))
    module = type(dtype).__module__
    is_known = module == "pandas" or module.startswith(("pandas.core.", "numpy"))
    for name in (*_OF_DTYPES, *(() if is_known else getattr(dtype, "_metadata", ()))):
        if hasattr(type(dtype), name) or name in getattr(dtype, "__dict__", {}):
            encoder.write_step(f".{name}", getattr(dtype, name))


def _write_dtype_value(encoder: Encoder, value: Foreign) -> None:
    encoder.tag("pandas dtype")
    _write_dtype(encoder, value)


def _write_instant(encoder: Encoder, value: Foreign) -> None:
    encoder.tag("pandas instant")
    encoder.write_class(type(value))
    encoder.write(value.asm8)
    encoder.write((getattr(value, "fold", 0), getattr(value, "unit", None)))
    encoder.write_step(".tzinfo", getattr(value, "tzinfo", None))


def _write_period(encoder: Encoder, value: Foreign) -> None:
    encoder.tagged("pandas.Period", value.ordinal, value.freqstr)


def _write_interval(encoder: Encoder, value: Foreign) -> None:
    encoder.tagged("pandas.Interval", value.left, value.right, value.closed)


def _write_missing(encoder: Encoder, value: Foreign) -> None:
    encoder.tagged("pandas missing", type(value).__name__)


def _write_offset(encoder: Encoder, value: Foreign) -> None:
    encoder.tag("pandas offset")
    encoder.write_class(type(value))
    encoder.write((value.n, value.normalize, value.kwds))


_PANDAS: dict[str, Handler] = {
    "DataFrame": _write_frame,
    "Series": _write_series,
    "Index": _write_index,
    "ExtensionArray": _write_extension_array,
    "ExtensionDtype": _write_dtype_value,
    "Timestamp": _write_instant,
    "Timedelta": _write_instant,
    "Period": _write_period,
    "Interval": _write_interval,
    "NaTType": _write_missing,
    "NAType": _write_missing,
    "BaseOffset": _write_offset,
}


def pandas_handler(base: type) -> Handler | None:
    """Return the handler for a class of pandas and what derives from it, or None."""
    return _PANDAS.get(base.__name__)
