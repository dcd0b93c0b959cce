"""Python's garbage collector, asked to look less often in what looks at very many tasks: a run, a
comparison of two, a clean-up.

Each makes some twenty objects per task that live as long as it does. Looking through them and
through all that the kernel holds, again and again, took a quarter of their time.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

NEW_OBJECTS = 20_000  # between two looks; Python's own number is 700

_lock = threading.Lock()
_found: list[tuple[int, int, int]] = []  # the thresholds that each who is inside found


@contextlib.contextmanager
def collected_rarely() -> Iterator[None]:
    """Raise the collector's first threshold; put back what it was when the last has left."""
    with _lock:
        _found.append(gc.get_threshold())
        first, *others = _found[-1]
        if 0 < first < NEW_OBJECTS:
            gc.set_threshold(NEW_OBJECTS, *others)
    try:
        yield
    finally:
        with _lock:
            before = _found[0]
            _found.pop()
            if not _found:
                gc.set_threshold(*before)
