"""How long the attempts of each process take: for estimates, and to notice those that take no time.

The scheduler starts more of the latter at once, so that the way to a worker and back is not waited
for after each. A process that turns out to be slow again loses it at its first slow attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nbcache.model.view import PlaceProgress

ENOUGH = 20  # attempts before anything is said
LIGHT_S = 0.002  # on average
SLOW_S = 0.05  # one attempt
_TO_END = ("ready", "running", "committing")
_RAN = (*_TO_END, "completed", "failed", "ignored", "aborted")


class Pace:
    """The mean times of the attempts of each process in this run."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[int, float]] = {}  # how many, and seconds together
        self._seen: dict[str, tuple[int, float]] = {}  # of the last ones: how many, and their mean
        self._light: set[str] = set()

    def mean_s(self, place: str) -> float | None:
        """Return how long its attempts took on average, None where none has ended."""
        count, sum_s = self._all.get(place, (0, 0.0))
        return sum_s / count if count else None

    def left_s(
        self, left: Mapping[str, float], begun: Iterable[tuple[str, float]], elapsed_s: float
    ) -> float | None:
        """Estimate how long the tasks that have not ended take; None where nothing tells, as where
        all that is left has gone on for longer than its like.

        Those of a process of which none has ended take as long as all others on average. The run
        goes on as fast as it went so far: in that are how many run side by side, and what a task
        costs beside its body.

        left: how many are to run yet, by process. begun: for each of them that runs, its process
        and for how many seconds. elapsed_s: since the first attempt began.
        """
        count = sum(count for count, _ in self._all.values())
        worked = sum(sum_s for _, sum_s in self._all.values())
        if not count or not any(left.values()):
            return None

        def cost(place: str) -> float:
            mean = self.mean_s(place)
            return worked / count if mean is None else mean

        under_way = sum(min(seconds, cost(place)) for place, seconds in begun)
        to_do = sum(tasks * cost(place) for place, tasks in left.items()) - under_way
        speed = (worked + under_way) / elapsed_s if elapsed_s > 0 else 0.0
        return to_do / speed if speed and to_do > 0 else None

    def note(self, place: str, took_s: float) -> bool | None:
        """Take the time of an attempt; returns whether the process is light, None: as before."""
        count, sum_s = self._all.get(place, (0, 0.0))
        self._all[place] = count + 1, sum_s + took_s
        count, mean = self._seen.get(place, (0, 0.0))
        count += 1
        mean += (took_s - mean) / min(count, ENOUGH)
        if took_s > SLOW_S or mean > 2 * LIGHT_S:
            count = 0
        self._seen[place] = (count, mean)
        is_light = count >= ENOUGH and mean < LIGHT_S
        if is_light and place not in self._light:
            self._light.add(place)
            return True
        if not count and place in self._light:
            self._light.discard(place)
            return False
        return None


def left_to_run(place: PlaceProgress) -> float:
    """Return how many of its tasks have an attempt before them, as far as it is known: of those
    that are not decided yet as large a share as of the others."""
    counts = place.counts
    decided = sum(counts.values()) - counts.get("pending", 0)
    undecided = max(max(place.expected or 0, sum(counts.values())) - decided, 0)
    ran = sum(counts.get(name, 0) for name in _RAN)
    share = ran / decided if decided else 1.0
    return sum(counts.get(name, 0) for name in _TO_END) + undecided * share
