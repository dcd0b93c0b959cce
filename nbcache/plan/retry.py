"""What follows a failed attempt: which action, and how long to wait before the next one.

Pure: the seed comes as an argument. Never decides whether a task failed.
"""

from __future__ import annotations

import random

ACTIONS = ("continue", "stop", "finish", "ignore", "retry")

_DYNAMIC_RETRIES = 10


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
    attempts: int, *, base_s: float = 0.5, cap_s: float = 30.0, seed: int = 0
) -> tuple[float, ...]:
    """Return the waits before attempts 2, 3, ... of a task: (attempts - 1,) seconds.

    Full jitter: wait k (from 0) is uniform in [0, min(cap_s, base_s * 2**k)], so tasks
    that failed together do not come back together. Equal seeds give equal waits.

    Raises:
        ValueError: attempts is below 1, or base_s or cap_s is not above 0.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if attempts < 1 or base_s <= 0 or cap_s <= 0:
        raise ValueError("attempts is at least 1; base_s and cap_s are above 0")
    jitter = random.Random(seed)
    return tuple(jitter.uniform(0, min(cap_s, base_s * 2.0**k)) for k in range(attempts - 1))
