"""What is in a file, by the end of its name: a picture, an array, a table, the values of JSON.

For comparisons only. What could run code when it is read (pickles, in arrays too) is never read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any

LARGEST = 100_000_000  # bytes of a file that is read to be compared

Reader = Callable[[bytes], object]


def reader_of(name: str) -> Reader | None:
    """Return what reads a file of this name from its bytes; it returns None where it cannot."""
    reader = _READERS.get(PurePath(name).suffix.lower())

    def read(data: bytes) -> object | None:
        try:
            return reader(data) if reader is not None else None
        except Exception:  # whatever a library says of a file that is not what its name says
            return None

    return read if reader is not None else None


def _picture(data: bytes) -> object:
    from PIL import Image

    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def _array(data: bytes) -> object:
    import numpy as np

    found: Any = np.load(io.BytesIO(data), allow_pickle=False)
    return dict(found) if hasattr(found, "files") else found


def _parquet(data: bytes) -> object:
    import pyarrow.parquet as pq

    return pq.ParquetFile(io.BytesIO(data)).read()


def _feather(data: bytes) -> object:
    from pyarrow import feather

    return feather.read_table(io.BytesIO(data))


def _csv(data: bytes, delimiter: str = ",") -> object:
    from pyarrow import csv

    options = csv.ParseOptions(delimiter=delimiter)
    return csv.read_csv(io.BytesIO(data), parse_options=options)


_READERS: dict[str, Reader] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"), _picture),
    **dict.fromkeys((".npy", ".npz"), _array),
    **dict.fromkeys((".parquet", ".pq"), _parquet),
    **dict.fromkeys((".feather", ".arrow"), _feather),
    ".json": json.loads,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
}
