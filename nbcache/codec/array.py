"""`.npy` for numpy arrays and scalars whose dtype it keeps exactly.

C and Fortran order are kept; other strides become C order. Object dtypes are never written, nor
dtypes whose description loses something (aligned records, metadata, platform-bound long doubles).
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_MAP_ABOVE = 1 << 20  # bytes


def encode_array(value: Any) -> tuple[str, bytes] | None:
    """Return ("npy" or "npy-scalar", bytes), or None where the value is no such array."""
    np = sys.modules.get("numpy")
    if np is None:
        return None
    if type(value) is np.ndarray and _is_exact(value.dtype):
        return "npy", _npy(value)
    if isinstance(value, np.generic) and type(value).__module__ == "numpy":
        array = np.asarray(value)
        if _is_exact(array.dtype) and type(array[()]) is type(value):
            return "npy-scalar", _npy(array)
    return None


def _is_exact(dtype: np.dtype[Any]) -> bool:
    import numpy as np

    if dtype.hasobject or dtype.metadata or dtype.kind not in "biufcmMSUV":
        return False
    if dtype.kind in "fc" and dtype.itemsize > 8 * (1 + (dtype.kind == "c")):
        return False
    if dtype.names is None:
        return dtype.subdtype is None and dtype.type is not np.record
    if len(dtype.fields or {}) > len(dtype.names) or not "".join(dtype.names).isascii():
        return False  # titles, and names that the header cannot spell
    described = np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
    return (
        not dtype.isalignedstruct
        and dtype.type is np.void
        and described == dtype
        and all(_is_exact(field[0].base) for field in (dtype.fields or {}).values())
    )


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    import numpy as np

    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    header = io.BytesIO()
    description = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": fortran,
        "shape": array.shape,
    }
    try:
        np.lib.format.write_array_header_1_0(header, description)
    except ValueError:  # a description of more than 64 kB
        np.lib.format.write_array_header_2_0(header, description)
    if array.nbytes == 0:
        return header.getvalue()
    flat = array.T if fortran else np.ascontiguousarray(array)
    elements: Any = flat.reshape(-1).view(np.uint8)  # a buffer, which numpy's types do not say
    return b"".join([header.getvalue(), memoryview(elements)])


def _layout(start: bytes | memoryview) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, Fortran order, dtype and where the elements begin."""
    import numpy as np

    stream = io.BytesIO(start)
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return shape, fortran, dtype, stream.tell()


def decode_npy(data: bytes | memoryview) -> np.ndarray[Any, Any]:
    """Return a writable array of its own."""
    import numpy as np

    shape, fortran, dtype, start = _layout(bytes(data[:65536]))
    count = int(np.prod(shape, dtype=np.int64))
    if count * dtype.itemsize != len(data) - start:
        raise ValueError(f"{len(data) - start} bytes of elements for {shape} of {dtype}")
    if count == 0 or dtype.itemsize == 0:
        return np.zeros(shape, dtype, order="F" if fortran else "C")
    flat = np.frombuffer(data, dtype, count, start).copy()
    return flat.reshape(shape, order="F" if fortran else "C")


def decode_scalar(data: bytes | memoryview) -> object:
    """Return a numpy scalar."""
    return decode_npy(data)[()]


def decode_npy_file(path: str) -> np.ndarray[Any, Any]:
    """Return a writable array; a large one is mapped copy-on-write."""
    import numpy as np

    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < _MAP_ABOVE:
            return decode_npy(file.read())
        shape, fortran, dtype, start = _layout(file.read(65536))
        order = "F" if fortran else "C"
        mapped = np.memmap(file, dtype, "c", start, shape, order)  # type: ignore[call-overload]
        return np.asarray(mapped)
