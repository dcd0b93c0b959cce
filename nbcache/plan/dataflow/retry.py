"""What follows a failed attempt: which action, how long to wait before the next one, and how many
failures a run puts up with before it starts no more tasks.

Pure: the seed comes as an argument. Never decides whether a task failed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from nbcache.model.task import Outcome

GIVE_UP_AFTER = 5  # failures of one process

ACTIONS = ("continue", "stop", "finish", "ignore", "retry")
BACKOFF_S = 0.5  # where a process does not say its own
LONGEST = 60  # waits do not grow beyond this many times the backoff

_DYNAMIC_RETRIES = 10


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """How an attempt failed, as directives see it: `task.exit`, `task.signal`, `task.error`."""

    exit: int | None = None
    signal: str | None = None
    error: str | None = None


NOT_FAILED = FailedAttempt()  # what the directives of a first attempt see


def action_after_failure(
    on_error: str, *, attempt: int, retries: int, dynamic: bool = False
) -> str:
    """Return continue, stop, finish, ignore or retry, after attempt `attempt` (1-based) failed.

    `retries` n lets the first n failures be retried, whatever `on_error` says for the last one.
    `retry` without `retries` is one retry; given by a function of the attempt (`dynamic`) it is
    obeyed each time, at most ten times.

    Raises:
        ValueError: on_error is none of the five.
    """
    if on_error not in ACTIONS:
        raise ValueError(f"on_error is one of {', '.join(ACTIONS)}; got {on_error!r}")
    if on_error == "retry":
        limit = retries or (_DYNAMIC_RETRIES if dynamic else 1)
        return "retry" if attempt <= limit else "continue"
    if attempt <= retries and not dynamic:
        return "retry"
    return on_error


def retry_delays(
    attempts: int, *, base_s: float = BACKOFF_S, cap_s: float | None = None, seed: int = 0
) -> tuple[float, ...]:
    """Return the waits before attempts 2, 3, ... of a task: (attempts - 1,) seconds.

    Full jitter: wait k (from 0) is uniform in [0, min(cap_s, base_s * 2**k)], so tasks
    that failed together do not come back together. Equal seeds give equal waits.
    cap_s: `LONGEST` times base_s where it is left out.

    Raises:
        ValueError: attempts is below 1, or base_s or cap_s is not above 0.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    cap_s = LONGEST * base_s if cap_s is None else cap_s
    if attempts < 1 or base_s <= 0 or cap_s <= 0:
        raise ValueError("attempts is at least 1; base_s and cap_s are above 0")
    jitter = random.Random(seed)
    return tuple(jitter.uniform(0, min(cap_s, base_s * 2.0**k)) for k in range(attempts - 1))


class Patience:
    """Counts failures: those of a process that come before any success, up to `give_up_after` (0:
    never too many); with `max_errors` the failed tasks of the whole run instead."""

    def __init__(self, give_up_after: int, max_errors: int | None) -> None:
        self._give_up_after = 0 if max_errors else give_up_after
        self._max_errors, self._failed = max_errors, 0
        self._fates: dict[int, tuple[int, int]] = {}  # per process: ended, failed

    def is_over(self) -> str:
        """Count a failed task; return why there are too many now, or ""."""
        self._failed += 1
        if self._failed != self._max_errors:
            return ""
        have = "1 task has" if self._failed == 1 else f"{self._failed} tasks have"
        return f"{have} failed (--max-errors {self._failed})"

    def is_over_with(self, node: int, name: str, outcome: Outcome) -> str:
        """Count how a task of a process ended; return why it is hopeless now, or ""."""
        if not self._give_up_after:
            return ""
        ended, failed = self._fates.get(node, (0, 0))
        if ended >= self._give_up_after:
            return ""
        failed += outcome is Outcome.FAILED
        self._fates[node] = (ended + 1, failed)
        if failed < self._give_up_after:
            return ""
        return f"the first {failed} tasks of {name} have all failed"
