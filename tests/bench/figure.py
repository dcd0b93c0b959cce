"""One measured figure, and how a bench module reports its own.

A bench module is `tests/bench/bench_NAME.py` with `measure(quick: bool) -> Iterable[Figure]` and
ends in `main(measure)`. It runs in a process of its own, so that what one imports or leaves in
memory is not in another's figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with its unit in its name ("import nbcache, s"); smaller is better unless `most`.

    `budget` is what it has to reach, None where there is none; `peers` are other measurements of
    the same work in the same run, since ratios travel between machines and seconds do not.
    """

    name: str
    value: float
    budget: float | None = None
    most: bool = False
    peers: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether it is within its budget (True where there is none)."""
        if self.budget is None:
            return True
        return self.value >= self.budget if self.most else self.value <= self.budget


Measure = Callable[[bool], Iterable[Figure]]


def best_of(times: int, action: Callable[[], object]) -> float:
    """Return the shortest of several durations of an action: seconds."""
    return min(durations(times, action))


def median_of(times: int, action: Callable[[], object]) -> float:
    """Return the median of several durations of an action: seconds."""
    return statistics.median(durations(times, action))


def durations(times: int, action: Callable[[], object]) -> list[float]:
    """Return how long an action took each time: seconds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return found


def main(measure: Measure) -> None:
    """Measure, and print a line of JSON for each figure: what `run_all` reads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="smaller sizes, less exact")
    quick = parser.parse_args().quick
    for figure in measure(quick):
        print(json.dumps(dataclasses.asdict(figure)), flush=True)
