"""Notices which processes have attempts that take next to no time, and when that ends.

The scheduler starts more of these at once, so that the way to a worker and back is not waited for
after each. A process that turns out to be slow again loses it at its first slow attempt.
"""

from __future__ import annotations

ENOUGH = 20  # attempts before anything is said
LIGHT_S = 0.002  # on average
SLOW_S = 0.05  # one attempt


class Pace:
    """The mean time of the attempts of each process, the last ones counting most."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._light: set[str] = set()

    def note(self, place: str, took_s: float) -> bool | None:
        """Take the time of an attempt; returns whether the process is light, None: as before."""
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
