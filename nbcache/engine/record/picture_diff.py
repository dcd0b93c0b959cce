"""How two pictures differ: size, mode, how many pixels, by how much at most, and where.

Takes pictures of Pillow, which is there when they are; of several frames it sees the first.
"""

from __future__ import annotations

import sys
from functools import reduce
from typing import Any

from nbcache.engine.record.array_diff import Parts, compare_arrays


def as_picture(value: object) -> Any | None:
    """Return the value where it is a picture, None for all else."""
    images = sys.modules.get("PIL.Image")
    return value if images is not None and isinstance(value, images.Image) else None


def compare_pictures(old: Any, new: Any) -> Parts:
    """Return (head, lines, data) of two pictures."""
    data: dict[str, object] = {
        "size": [list(old.size), list(new.size)],
        "mode": [old.mode, new.mode],
    }
    sizes = [f"{each.width} x {each.height}" for each in (old, new)]
    parts = [f"size {' → '.join(sizes)}"] if old.size != new.size else []
    parts += [f"mode {old.mode} → {new.mode}"] if old.mode != new.mode else []
    if old.size != new.size:
        return f"picture: {', '.join(parts)}", (), data
    head = f"picture {sizes[1]} {new.mode}"
    if old.mode == new.mode and new.mode[0] in "IF":  # numbers of more than eight bits
        import numpy as np

        return compare_arrays(np.asarray(old), np.asarray(new))
    count, most, box = _different(old, new)
    data["different"] = count
    if count:
        parts.append(f"{count:,} of {new.width * new.height:,} pixels differ")
        parts.append(f"by at most {most} of 255, from {box[:2]} to {(box[2] - 1, box[3] - 1)}")
        data |= {"max_abs_difference": most, "box": list(box)}
    return f"{head}: {', '.join(parts) or 'equal pixels'}", (), data


def _different(old: Any, new: Any) -> tuple[int, int, tuple[int, ...]]:
    """Return how many pixels differ, by how much, and the box around them."""
    from PIL import ImageChops

    apart = ImageChops.difference(old.convert("RGBA"), new.convert("RGBA"))
    most = reduce(ImageChops.lighter, apart.split())
    counts = most.histogram()
    return sum(counts[1:]), most.getextrema()[1], most.getbbox() or ()
