"""How long tests wait: until something holds, and never for a time that a loaded machine outlives.

A wait that succeeds ends at once, so patience costs nothing; it only bounds one that never will.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 240.0  # far below the time-out of a test, far above what a busy machine needs


def wait_until(holds: Callable[[], T], what: str = "what was waited for") -> T:
    """Wait for what nothing announces; return it."""
    until, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not (found := holds()):
        assert time.monotonic() < until, f"{what} never came"
        pause.wait(0.02)
    return found


def is_alive(pid: int) -> bool:
    return _state(pid) not in ("", "Z")


def is_asleep(pid: int) -> bool:
    """Whether a process waits for something that others do."""
    return _state(pid) == "S"


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # gone before, or while it was read
        return ""
