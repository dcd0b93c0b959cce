"""Choose a codec for a value, and find the decoder by its stored name.

The order is: JSON for plain data, `.npy` for arrays, Arrow for tables, raw bytes, and pickle for
what is left. A codec is chosen only where its round trip is exact: types, order, sharing, dtypes,
index. The names are stored in rows: never rename or reuse one, and keep every decoder for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from nbcache.codec import array, python, table
from nbcache.errors import CodecError, UntrustedError
from nbcache.model.value import SAFE_CODECS


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value as bytes, and the name of the codec that turns them back."""

    codec: str
    data: bytes | memoryview


_DECODERS: dict[str, Callable[[bytes | memoryview], object]] = {
    "json": python.decode_json,
    "bytes": bytes,
    "npy": array.decode_npy,
    "npy-scalar": array.decode_scalar,
    "arrow": table.decode_arrow,
    "pickle": python.decode_pickle,
}

_FILE_DECODERS: dict[str, Callable[[str], object]] = {
    "npy": array.decode_npy_file,
    "arrow": table.decode_arrow_file,
}


def encode(value: object, *, by_reference: bool = False) -> Encoded:
    """Return the value as bytes, by the first codec whose round trip is exact.

    by_reference: classes and functions of the notebook go by their names, not by their code.

    Raises:
        CodecError: no codec takes the value; says what pickle could not.
    """
    data = python.encode_json(value)
    if data is not None:
        return Encoded("json", data)
    if type(value) is bytes:
        return Encoded("bytes", value)
    for encoder in (array.encode_array, table.encode_table):
        chosen = encoder(value)
        if chosen is not None:
            return Encoded(*chosen)
    pickled = python.encode_by_reference if by_reference else python.encode_pickle
    return Encoded("pickle", pickled(value))


def decode(
    codec: str, data: bytes | memoryview, *, vouched: bool, modules: set[str] | None = None
) -> object:
    """Return the value that `encode` was given. Arrays and tables are writable copies.

    vouched: whoever wrote the bytes is trusted. Every decoding passes here, so that what runs code
    is read only where it is. `modules`: to which those are added that a pickle names.

    Raises:
        UntrustedError: decoding would run code, and nobody vouches for it.
        CodecError: the codec is unknown to this version, or the bytes are not its own.
    """
    if not vouched and codec not in SAFE_CODECS:
        raise UntrustedError(codec)
    decoder = _DECODERS.get(codec)
    if decoder is None:
        raise _unknown(codec)
    try:
        if codec == "pickle":
            return python.decode_pickle(data, modules)
        return decoder(data)
    except CodecError:
        raise
    except Exception as error:
        raise _undecodable(codec, error) from error


def decode_file(codec: str, path: str | os.PathLike[str], *, vouched: bool) -> object:
    """Return the value kept in a file, without reading more than has to be read.

    An array of 1 MB or more is mapped copy-on-write: it behaves like any other array, writing to
    it changes no file, and workers that map the same blob share its pages. The file has to stay
    as long as it is, but may be unlinked.

    Raises:
        CodecError: as `decode`.
        OSError: the file cannot be read.
    """
    name = os.fspath(path)
    decoder = _FILE_DECODERS.get(codec)
    if decoder is None:
        with open(name, "rb") as file:
            return decode(codec, file.read(), vouched=vouched)
    try:
        return decoder(name)
    except OSError:
        raise
    except Exception as error:
        raise _undecodable(codec, error) from error


def _unknown(codec: str) -> CodecError:
    return CodecError(
        f"the value was written by the codec {codec!r}, which this version of nbcache does not "
        f"know (it knows {', '.join(sorted(_DECODERS))})"
    )


def _undecodable(codec: str, error: Exception) -> CodecError:
    return CodecError(f"the bytes are no {codec}: {type(error).__name__}: {error}")
