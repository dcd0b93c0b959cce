"""State of a process that a task may change and that is read and set by a call each.

What `isolation` compares after every attempt: each entry says how to read the state and how to put
it back. Where the system refuses that (a limit that was lowered for good), writing raises, and the
worker is not used again.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # 20 times as quick as signal: no enums
import gc
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

# Those that end or hinder a task; to read all 16 would take half the time that all this takes.
_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_STACK,
)
_TIMERS = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)


class ProcessState:
    """What this process was like when it was made."""

    def __init__(self) -> None:
        self._found = [(read(), read, write) for read, write in _STATE]

    def restore(self) -> None:
        """Put back what differs.

        Raises:
            OSError, ValueError: something cannot be put back.
        """
        for timer in _TIMERS:
            _signal.setitimer(timer, 0)
        for found, read, write in self._found:
            if read() != found:
                write(found)


def _limits() -> list[tuple[int, int]]:
    return list(map(resource.getrlimit, _LIMITS))


def _set_limits(wanted: list[tuple[int, int]]) -> None:
    for each, limits in zip(_LIMITS, wanted, strict=True):
        if resource.getrlimit(each) != limits:
            resource.setrlimit(each, limits)


def _standard_streams() -> list[tuple[int, int]]:
    """Say what is behind descriptors 0 to 2: of one that is closed, the next file to be opened."""
    found = map(os.fstat, range(3))
    return [(each.st_dev, each.st_ino) for each in found]


def _cannot_put_back(wanted: object) -> None:
    raise ValueError("a task closed or redirected a standard stream of its worker")


_STATE: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (gc.isenabled, lambda enabled: (gc.enable if enabled else gc.disable)()),
    (gc.get_threshold, lambda wanted: gc.set_threshold(*wanted)),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (
        lambda: frozenset(_signal.pthread_sigmask(_signal.SIG_BLOCK, ())),
        lambda blocked: _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked),
    ),
    (
        lambda: os.getpriority(os.PRIO_PROCESS, 0),
        lambda niceness: os.setpriority(os.PRIO_PROCESS, 0, niceness),
    ),
    (_limits, _set_limits),
    (_standard_streams, _cannot_put_back),
]
if sys.platform == "linux":
    _STATE.append((lambda: os.sched_getaffinity(0), lambda cpus: os.sched_setaffinity(0, cpus)))
