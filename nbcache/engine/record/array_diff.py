"""How two arrays differ: shape, dtype, how many elements, by how much at most, and where first.

Takes numpy arrays (or what stands for one in memory already); imports numpy only when it is there.
"""

from __future__ import annotations

import sys
from typing import Any

_FIRST = 5

Parts = tuple[str, tuple[str, ...], dict[str, object]]


def as_array(value: object) -> Any | None:
    """Return the numpy array that a value is (or a torch tensor holds), None for all else."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray):
        return value
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        try:
            return value.detach().cpu().numpy()  # type: ignore[attr-defined]
        except (TypeError, RuntimeError):  # sparse, bfloat16, on another device
            return None
    return None


def compare_arrays(old: Any, new: Any) -> Parts:
    """Return (head, lines, data) of two arrays; NaN equals NaN."""
    data: dict[str, object] = {
        "shape": [list(old.shape), list(new.shape)],
        "dtype": [str(old.dtype), str(new.dtype)],
    }
    parts: list[str] = []
    if old.shape != new.shape:
        parts.append(f"shape {_shape(old)} → {_shape(new)}")
    if old.dtype != new.dtype:
        parts.append(f"dtype {old.dtype} → {new.dtype}")
    if old.shape != new.shape:
        return f"array: {', '.join(parts)}", (), data
    different = _different(old, new)
    count = int(different.sum())
    data["different"] = count
    if count:
        parts.append(f"{count:,} of {new.size:,} elements differ")
        most = _largest(old[different], new[different])
        if most is not None:
            data["max_abs_difference"] = most
            parts.append(f"by at most {most:.6g}")
    lines = tuple(
        f"[{', '.join(map(str, place))}]: {old[place]} → {new[place]}"
        for place in _places(different, _FIRST)
    )
    return f"array {_shape(new)} {new.dtype}: {', '.join(parts) or 'equal elements'}", lines, data


def _shape(array: Any) -> str:
    return " x ".join(map(str, array.shape)) or "scalar"


def _different(old: Any, new: Any) -> Any:
    import numpy as np

    try:
        different = np.asarray(old != new)
        both_nan = np.asarray((old != old) & (new != new))
    except (TypeError, ValueError):  # dtypes that do not compare
        return np.ones(old.shape, bool)
    if different.shape != old.shape:
        return np.ones(old.shape, bool)
    return np.asarray(different & ~both_nan, bool)


def _largest(old: Any, new: Any) -> float | None:
    """The largest difference of numbers; None where there is none, or it is not finite."""
    import numpy as np

    if not all(np.issubdtype(each.dtype, np.number) for each in (old, new)):
        return None
    wide = np.complex128 if np.iscomplexobj(old) or np.iscomplexobj(new) else np.float64
    apart = np.abs(new.astype(wide) - old.astype(wide))  # unsigned numbers would wrap
    most = float(apart.max())
    return most if np.isfinite(most) else None


def _places(different: Any, most: int) -> list[tuple[int, ...]]:
    import numpy as np

    flat = np.flatnonzero(different)[:most]
    return [tuple(int(k) for k in np.unravel_index(each, different.shape)) for each in flat]
