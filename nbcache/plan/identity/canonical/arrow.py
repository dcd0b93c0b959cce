"""Canonical forms of Arrow and polars values.

An Arrow array counts by type and elements: not by its chunks, its offset in a larger buffer, the
width of its offsets' buffer, or what lies under a null. Tables count by schema (with metadata)
and columns; polars tables by their own dtypes and the Arrow form of each column.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from nbcache.plan.identity.canonical.arrays import write_elements
from nbcache.plan.identity.canonical.encoder import Encoder, Foreign, Handler, Refused


def write_chunks(encoder: Encoder, chunked: Foreign) -> None:
    """Write a ChunkedArray as the one array that its chunks make up."""
    import pyarrow as pa

    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.unify_dictionaries()
    encoder.write((str(chunked.type), len(chunked)))
    if _holds_metadata(chunked.type):  # which the text of a type leaves out
        encoder.write(chunked.type)
    chunks = chunked.chunks
    if len(chunks) > 1:
        whole = chunked.combine_chunks()
        chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    elif not chunks:
        chunks = [pa.array([], chunked.type)]
    for chunk in chunks:  # more than one only where the whole exceeds what one array can hold
        _write_elements(encoder, chunk)


def _write_elements(encoder: Encoder, array: Foreign) -> None:
    import pyarrow as pa

    types, kind = pa.types, cast("Foreign", array.type)
    if isinstance(array, pa.ExtensionArray):
        encoder.write(_parameters(kind))
        _write_elements(encoder, array.storage)
        return
    if types.is_run_end_encoded(kind):
        _write_elements(encoder, import_module("pyarrow.compute").run_end_decode(array))
        return
    if types.is_null(kind):
        return
    valid = None
    if array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        write_elements(encoder, valid)
    else:
        encoder.out += b"N"
    if types.is_dictionary(kind):
        _write_elements(encoder, array.indices)
        encoder.write(len(array.dictionary))
        _write_elements(encoder, array.dictionary)
    elif types.is_struct(kind):
        for child in array.flatten():  # carries the struct's own nulls into its children
            _write_elements(encoder, child)
    elif types.is_map(kind):
        entry = [kind.key_field, kind.item_field]
        _write_elements(encoder, array.cast(pa.list_(pa.struct(entry))))
    elif _is_list(kind):
        lengths = import_module("pyarrow.compute").list_value_length(array).fill_null(0)
        write_elements(encoder, lengths.to_numpy(zero_copy_only=False).astype("int64"))
        _write_elements(encoder, array.flatten())  # leaves out what lies under nulls
    elif _is_text(kind):
        _write_text(encoder, array)
    elif types.is_boolean(kind):
        filled = array.fill_null(False) if valid is not None else array
        write_elements(encoder, filled.to_numpy(zero_copy_only=False))
    elif _has_fixed_width(kind):
        _write_fixed_width(encoder, array, valid)
    elif types.is_union(kind):
        _write_union(encoder, array)
    else:
        encoder.write_sequence(array.to_pylist(), len(array))


def _write_union(encoder: Encoder, array: Foreign) -> None:
    """Write which child each element is of, and of each child what elements are of it."""
    import numpy as np
    import pyarrow as pa

    kind, place = array.type, slice(array.offset, array.offset + len(array))
    _, codes, *more = array.buffers()
    types = np.frombuffer(codes, "i1")[place] if len(array) else np.zeros(0, "i1")
    write_elements(encoder, types)
    for index, code in enumerate(kind.type_codes):
        places = np.flatnonzero(types == code)
        if kind.mode == "dense":  # `field` knows of the array's offset only in the other mode
            places = np.frombuffer(more[0], "<i4")[place][places] if len(places) else places
        child = array.field(index)
        try:
            chosen = child.take(pa.array(places, pa.int64()))
        except pa.ArrowNotImplementedError:  # take does not know of every type
            encoder.write_sequence([child[each.item()] for each in places], len(places))
        else:
            _write_elements(encoder, chosen)


def _is_list(kind: Foreign) -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (
            pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list,
            pa.types.is_list_view, pa.types.is_large_list_view,
        )
    )  # fmt: skip


def _holds_metadata(kind: Foreign) -> bool:
    """Whether a field in a type bears metadata."""
    fields = (kind.field(index) for index in range(kind.num_fields))
    return any(each.metadata or _holds_metadata(each.type) for each in fields)


def _parameters(kind: Foreign) -> tuple[str, str | bytes]:
    """Return what tells an extension type from others: its text need not say its parameters."""
    serialize = getattr(kind, "__arrow_ext_serialize__", None)  # not of those Arrow defines
    return kind.extension_name, str(kind) if serialize is None else bytes(serialize())


def _is_text(kind: Foreign) -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
            pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
        )
    )  # fmt: skip


def _write_text(encoder: Encoder, array: Foreign) -> None:
    import numpy as np
    import pyarrow as pa

    array = array.cast(pa.large_binary()) if not pa.types.is_large_binary(array.type) else array
    if array.null_count:
        array = array.fill_null(b"")
    count = len(array)
    _, offsets, data = array.buffers()
    if count == 0 or offsets is None:
        write_elements(encoder, np.zeros(0, "<i8"))
        return
    ends = np.frombuffer(offsets, "<i8")[array.offset : array.offset + count + 1]
    write_elements(encoder, ends - ends[0])
    if ends[-1] > ends[0]:
        encoder.raw(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]])


def _has_fixed_width(kind: Foreign) -> bool:
    try:
        return bool(kind.bit_width % 8 == 0 and kind.num_fields == 0)
    except ValueError:
        return False


def _write_fixed_width(encoder: Encoder, array: Foreign, valid: Foreign) -> None:
    import numpy as np
    import pyarrow as pa

    width = array.type.bit_width // 8
    if pa.types.is_floating(array.type):
        dtype = np.dtype(f"<f{width}")
    elif width in (1, 2, 4, 8):
        dtype = np.dtype(f"<u{width}")
    else:
        dtype = np.dtype(f"V{width}")
    data = array.buffers()[1]
    if data is None or width == 0 or len(array) == 0:
        values = np.zeros(0 if width else len(array), dtype)
    else:
        start = array.offset * width
        values = np.frombuffer(data, dtype, count=len(array), offset=start)
    if valid is not None and len(values):
        values = values.copy()
        values[~valid] = np.zeros((), dtype)
    write_elements(encoder, values)


def _write_array(encoder: Encoder, value: Foreign) -> None:
    import pyarrow as pa

    encoder.tag("pyarrow.Array")
    write_chunks(encoder, pa.chunked_array([value]))


def _write_chunked_array(encoder: Encoder, value: Foreign) -> None:
    encoder.tag("pyarrow.ChunkedArray")
    write_chunks(encoder, value)


def _write_table(encoder: Encoder, value: Foreign) -> None:
    import pyarrow as pa

    encoder.tag("pyarrow." + ("Table" if isinstance(value, pa.Table) else "RecordBatch"))
    _write_schema(encoder, value.schema)
    encoder.write(value.num_rows)
    for column in value.columns:
        write_chunks(
            encoder, column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
        )


def _write_scalar(encoder: Encoder, value: Foreign) -> None:
    import pyarrow as pa

    encoder.tag("pyarrow.Scalar")
    try:
        held = pa.repeat(value, 1)  # of a dictionary with all its members, which a body can ask for
    except pa.ArrowNotImplementedError:
        held = pa.array([value.as_py()], value.type)
    write_chunks(encoder, pa.chunked_array([held]))


def _write_schema(encoder: Encoder, value: Foreign) -> None:
    encoder.tag("pyarrow.Schema")
    encoder.write_sequence(list(value), len(value))
    encoder.write(dict(value.metadata) if value.metadata else None)


def _write_field(encoder: Encoder, value: Foreign) -> None:
    encoder.tagged("pyarrow.Field", value.name, value.type, value.nullable)
    encoder.write(dict(value.metadata) if value.metadata else None)


def _write_type(encoder: Encoder, value: Foreign) -> None:
    import pyarrow as pa

    encoder.tagged("pyarrow.DataType", str(value))
    if isinstance(value, pa.BaseExtensionType):
        encoder.write(_parameters(value))
        encoder.write(value.storage_type)
    children = [value.field(index) for index in range(value.num_fields)]
    encoder.write_sequence(children, len(children))


_PYARROW: dict[str, Handler] = {
    "Array": _write_array,
    "ChunkedArray": _write_chunked_array,
    "Table": _write_table,
    "RecordBatch": _write_table,
    "Scalar": _write_scalar,
    "Schema": _write_schema,
    "Field": _write_field,
    "DataType": _write_type,
}


def pyarrow_handler(base: type) -> Handler | None:
    """Return the handler for a class of pyarrow and what derives from it, or None."""
    return _PYARROW.get(base.__name__) if base.__module__ == "pyarrow.lib" else None


def _write_polars_frame(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("polars.DataFrame")
    encoder.write_class(type(value))
    encoder.write((value.width, value.height))
    for column in value.get_columns():
        try:
            _write_polars_values(encoder, column)
        except Refused as refused:
            refused.trail.insert(0, f"[{column.name!r}]")
            raise


def _write_polars_series(encoder: Encoder, value: Foreign) -> None:
    if not encoder.met_before(value):
        encoder.tag("polars.Series")
        encoder.write_class(type(value))
        _write_polars_values(encoder, value)


def _write_polars_values(encoder: Encoder, series: Foreign) -> None:
    import polars as pl
    import pyarrow as pa

    encoder.write((series.name, repr(series.dtype), len(series)))
    if series.dtype == pl.Object:
        encoder.write_sequence(series.to_list(), len(series))
        return
    plain = _without_categoricals(series.dtype)
    if plain != series.dtype:
        series = series.cast(plain)
    try:
        array = series.to_arrow()
    except pa.ArrowInvalid:  # a dtype that Arrow does not have, such as Int128
        encoder.write_sequence(series.to_list(), len(series))
        return
    write_chunks(encoder, pa.chunked_array([array]))


def _without_categoricals(dtype: Foreign) -> Foreign:
    """Return the dtype with text for categories, whose codes depend on what came before."""
    import polars as pl

    if dtype == pl.Categorical:
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(_without_categoricals(dtype.inner))
    if isinstance(dtype, pl.Array):
        return pl.Array(_without_categoricals(dtype.inner), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct({each.name: _without_categoricals(each.dtype) for each in dtype.fields})
    return dtype


def _write_polars_dtype(encoder: Encoder, value: Foreign) -> None:
    encoder.tagged("polars.DataType", repr(value))


_POLARS: dict[str, Handler] = {
    "DataFrame": _write_polars_frame,
    "Series": _write_polars_series,
    "DataType": _write_polars_dtype,
}


def polars_handler(base: type) -> Handler | None:
    """Return the handler for a class of polars and what derives from it, or None."""
    return _POLARS.get(base.__name__)
