"""How many failures a run puts up with before it starts no more tasks."""

from __future__ import annotations

from nbcache.model.task import Outcome

GIVE_UP_AFTER = 5


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
        return f"{self._failed} tasks have failed (--max-errors {self._failed})"

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
