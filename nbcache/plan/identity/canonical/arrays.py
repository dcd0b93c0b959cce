"""Canonical forms of array values: numpy, scipy's matrices and splines, torch and PIL.

An array counts by dtype, shape and elements in C order, never by strides or layout. Every NaN
counts as the same NaN. Bytes that no element owns (padding of aligned records, of long doubles)
do not count. Libraries are imported here only when a value of theirs is at hand, so they are
loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from nbcache.plan.identity.canonical.encoder import Encoder, Foreign, Handler
from nbcache.plan.identity.canonical.names import shared_generator

_CHUNK = 1 << 15  # elements: small enough to stay in the processor's cache between two passes


def write_array(encoder: Encoder, value: Foreign) -> None:
    """Write a numpy array, whatever its class."""
    import numpy as np

    if encoder.met_before(value):
        return
    cls = type(value)
    if value is np.ma.masked:
        encoder.tagged("global", "numpy.ma", "masked")
    elif cls is np.ndarray:
        encoder.tag("numpy.ndarray")
        write_elements(encoder, value)
    elif isinstance(value, np.ma.MaskedArray):
        encoder.tag("numpy.ma")
        encoder.write_class(cls)
        write_elements(encoder, np.asarray(value.data))
        write_elements(encoder, np.ma.getmaskarray(value))
        encoder.write(value.fill_value)
        encoder.write(value.hardmask)
    else:
        encoder.tag("numpy subclass")
        encoder.write_class(cls)
        write_elements(encoder, np.asarray(value))
        attributes = {} if cls is np.memmap else getattr(value, "__dict__", {})
        encoder.write_pairs(attributes.items(), len(attributes), attributes=True)


def write_elements(encoder: Encoder, array: Foreign) -> None:
    """Write dtype, shape and elements of a plain ndarray."""
    _write_dtype(encoder, array.dtype)
    encoder.write(array.shape)
    _write_data(encoder, array)


def _write_data(encoder: Encoder, array: Foreign) -> None:
    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _write_data(encoder, array[name])
    elif dtype.hasobject or dtype.kind == "T":
        encoder.write_sequence(array.flat, array.size)
    elif array.nbytes == 0:
        return
    elif dtype.kind in "fc":
        for chunk in _chunks(array):
            encoder.raw(_one_nan(chunk))
    elif array.flags.c_contiguous:
        encoder.raw(_bytes_of(array))
    else:
        for chunk in _chunks(array):
            encoder.raw(_bytes_of(chunk))


def _bytes_of(array: Foreign) -> Foreign:
    import numpy as np

    return array.reshape(-1).view(np.uint8)


def _chunks(array: Foreign) -> Iterator[Foreign]:
    """Yield the elements in C order, some at a time, without copying the whole."""
    import numpy as np

    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            yield flat[start : start + _CHUNK]
        return
    for chunk in np.nditer(
        array, flags=["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=_CHUNK
    ):
        yield np.ascontiguousarray(chunk)


def _one_nan(chunk: Foreign) -> Foreign:
    """Return the bytes of some floats with each NaN replaced by the one quiet NaN."""
    import numpy as np

    floats = chunk.view(chunk.real.dtype) if chunk.dtype.kind == "c" else chunk
    least = floats.min()
    if least != least:  # min passes NaN on, at a tenth of the cost of isnan
        floats = floats.copy()
        floats[np.isnan(floats)] = np.nan
    if floats.dtype.itemsize in (12, 16) and np.finfo(floats.dtype).nmant == 63:
        octets = floats.copy().view(np.uint8).reshape(-1, floats.dtype.itemsize)
        octets[:, 10:] = 0  # x87 numbers fill ten bytes, what follows is whatever was there
        return octets.reshape(-1)
    return floats.view(np.uint8)


def _write_dtype(encoder: Encoder, dtype: Foreign) -> None:
    if dtype.metadata:
        encoder.out += b"M"
        encoder.write(dict(dtype.metadata))
    if dtype.names is not None:
        encoder.out += b"V"
        encoder.write_class(dtype.type)
        encoder.write((dtype.itemsize, dtype.isalignedstruct, len(dtype.names)))
        for name in dtype.names:
            member, offset, *title = dtype.fields[name]
            encoder.write((name, offset, *title))
            _write_dtype(encoder, member)
    elif dtype.subdtype is not None:
        encoder.out += b"W"
        encoder.write(dtype.subdtype[1])
        _write_dtype(encoder, dtype.subdtype[0])
    elif dtype.kind == "T":
        encoder.out += b"T"
        encoder.write((dtype.coerce, hasattr(dtype, "na_object")))
        encoder.write(getattr(dtype, "na_object", None))
    else:
        encoder.out += b"D"
        encoder.write(dtype.str)


def write_dtype_value(encoder: Encoder, value: Foreign) -> None:
    """Write a numpy dtype that is itself the value."""
    encoder.tag("numpy.dtype")
    _write_dtype(encoder, value)


def write_numpy_scalar(encoder: Encoder, value: Foreign) -> None:
    """Write a numpy scalar as the array of no dimensions that it is."""
    import numpy as np

    encoder.tag("numpy scalar")
    write_elements(encoder, np.asarray(value))


def _write_ufunc(encoder: Encoder, value: Foreign) -> None:
    name = value.__name__
    for owner in ("numpy", "scipy.special"):
        if getattr(sys.modules.get(owner), name, None) is value:
            encoder.tagged("ufunc", owner, name)
            return
    encoder.refuse(value, "a ufunc made on the fly, which is not found under its name")


def _write_bit_generator(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("numpy.random")
    encoder.write_class(type(value))
    encoder.write(value.state)
    seed: Foreign = getattr(value, "seed_seq", None)  # what spawn() draws from
    if hasattr(seed, "spawn_key"):
        encoder.write((seed.entropy, seed.spawn_key, seed.pool_size, seed.n_children_spawned))
    else:
        encoder.write(seed)


def _write_generator(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("numpy.random")
    encoder.write_class(type(value))
    encoder.write(value.bit_generator)


def _write_random_state(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    shared = shared_generator(value)
    if shared is not None:
        encoder.tagged("global", *shared)
        return
    encoder.tag("numpy.random")
    encoder.write_class(type(value))
    encoder.write(value.get_state(legacy=False))


def _write_business_days(encoder: Encoder, value: Foreign) -> None:
    encoder.tag("numpy.busdaycalendar")
    write_elements(encoder, value.weekmask)
    write_elements(encoder, value.holidays)


def numpy_handler(base: type) -> Handler | None:
    """Return the handler for a class of numpy and what derives from it, or None."""
    import numpy as np

    if base is np.ndarray:
        return write_array
    if base is np.generic:
        return write_numpy_scalar
    if base is np.dtype:
        return write_dtype_value
    if base is np.ufunc:
        return _write_ufunc
    if base is np.busdaycalendar:
        return _write_business_days
    return {
        "BitGenerator": _write_bit_generator,
        "Generator": _write_generator,
        "RandomState": _write_random_state,
    }.get(base.__name__ if base.__module__.startswith("numpy.random") else "")


_SPARSE_PARTS = {
    "csr": ("indptr", "indices", "data"),
    "csc": ("indptr", "indices", "data"),
    "bsr": ("indptr", "indices", "data"),
    "dia": ("offsets", "data"),
    "lil": ("rows", "data"),
}

# Attributes that say nothing else, or follow from the parts once somebody asked.
_SPARSE_OWN = frozenset(
    "_shape maxprint indptr indices data offsets rows coords row col _dict dtype "
    "_has_canonical_format _has_sorted_indices has_canonical_format has_sorted_indices".split()
)


def _write_sparse(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("scipy.sparse")
    encoder.write_class(type(value))
    encoder.write(value.shape)
    encoder.write(value.dtype)
    _write_sparse_parts(encoder, value)
    given = {name: part for name, part in vars(value).items() if name not in _SPARSE_OWN}
    if given:
        encoder.write_pairs(given.items(), len(given), attributes=True)


def _write_sparse_parts(encoder: Encoder, value: Foreign) -> None:
    if value.format == "dok":
        encoder.write(dict(value.items()))
        return
    if value.format == "coo":
        encoder.write_sequence([*value.coords, value.data], value.ndim + 1)
        return
    parts = [getattr(value, name) for name in _SPARSE_PARTS[value.format]]
    if "indptr" in _SPARSE_PARTS[value.format]:  # room at the end is not content
        used = int(parts[0][-1])
        parts = [parts[0], parts[1][:used], parts[2][:used]]
    encoder.write_sequence(parts, len(parts))


_WORK_SPACE = (11, 12)  # of FITPACK: where it is used it follows from the rest, else it is noise


def _write_spline(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("scipy spline")
    encoder.write_class(type(value))
    held = dict(vars(value))
    if len(held.get("_data") or ()) == 14:
        kept = [each for at, each in enumerate(held["_data"]) if at not in _WORK_SPACE]
        held["_data"] = kept
    encoder.write_pairs(held.items(), len(held), attributes=True)


def scipy_handler(base: type) -> Handler | None:
    """Return the handler for sparse arrays and matrices, or for splines, or None."""
    return {"_spbase": _write_sparse, "UnivariateSpline": _write_spline}.get(base.__name__)


def _write_tensor(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    if value.device.type != "cpu":
        encoder.refuse(value, f"a tensor on {value.device}; call .cpu() first")
    import torch

    if value.layout is not torch.strided or value.is_quantized:
        encoder.refuse(value, "a sparse or quantised tensor")
    attributes = getattr(value, "__dict__", {})
    encoder.tag("torch.Tensor with attributes" if attributes else "torch.Tensor")
    encoder.write_class(type(value))
    if attributes:
        encoder.write_pairs(attributes.items(), len(attributes), attributes=True)
    encoder.write((str(value.dtype), tuple(value.shape), value.requires_grad))
    plain = value.detach().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        plain = plain.contiguous().view(torch.int16)
    elif str(plain.dtype).startswith("torch.float8"):
        plain = plain.contiguous().view(torch.uint8)
    write_elements(encoder, plain.numpy())


def torch_handler(base: type) -> Handler | None:
    """Return the handler for tensors and parameters, or None."""
    return _write_tensor if base.__name__ in ("Tensor", "TensorBase") else None


def _write_image(encoder: Encoder, value: Foreign) -> None:
    if encoder.met_before(value):
        return
    encoder.tag("PIL.Image")
    encoder.write_class(type(value))
    pixels = value.tobytes()
    palette = value.getpalette(None) if value.mode in ("P", "PA") else None
    mode = value.im.getpalettemode() if palette is not None else "RGB"
    if mode != "RGB":
        palette = (mode, palette)
    info = dict(value.info)
    encoder.write((value.mode, value.size, palette, info, len(pixels)))
    encoder.raw(pixels)


def pillow_handler(base: type) -> Handler | None:
    """Return the handler for images, or None."""
    return _write_image if base.__name__ == "Image" else None
