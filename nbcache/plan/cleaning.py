"""Choose what a clean-up takes away. Pure: facts in, choices out; nothing is deleted here.

All conditions of a selection have to hold. A pinned holding, and one that a run uses which is
going on, is never chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from nbcache.model.holding import Holding, Pins, RunFacts
from nbcache.plan.retention import expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to take away. `runs` are ids; `hashes` the beginnings of digests without their
    algorithm; `keep_last` runs of each notebook stay; with `max_size` (bytes) only so much goes,
    the cheapest to have again per byte first; `incomplete`: nothing but what failed left behind.
    """

    older_than: float | None = None  # seconds since the last use
    runs: frozenset[str] = frozenset()
    processes: frozenset[str] = frozenset()
    hashes: tuple[str, ...] = ()
    statuses: frozenset[str] = frozenset()
    incomplete: bool = False
    expired: bool = False
    keep_last: int | None = None
    max_size: int | None = None

    def __bool__(self) -> bool:
        values = [getattr(self, each.name) for each in fields(self)]
        return any(
            not (each is None or each is False or each in ((), frozenset())) for each in values
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen, and what would be but for a pin or a run that is going on."""

    holdings: tuple[Holding, ...]
    pinned: int = 0
    live: int = 0


def choose(
    selection: Selection,
    holdings: Sequence[Holding],
    runs: Mapping[str, RunFacts],
    pins: Pins,
    *,
    now: int,
    sizes: Mapping[str, int],
    always: Collection[str] = (),
    total: int = 0,
) -> Choice:
    """Return what a selection means; an empty one means nothing.

    sizes: bytes of the blobs that are there; always: those that stay in any case; total: bytes of
    the cache without what goes in any case, for `max_size`; now: microseconds since 1970.
    """
    if not selection:
        return Choice(())
    wanted = list(holdings)
    for condition in _conditions(selection, runs, now):
        wanted = [each for each in wanted if condition(each)]
    if selection.expired:
        wanted = expired(wanted, runs, now)
    live = {run for run, facts in runs.items() if facts.live}
    free = [each for each in wanted if live.isdisjoint(each.users)]
    chosen = [each for each in free if not pins.hold(each)]
    pinned, going = len(free) - len(chosen), len(wanted) - len(free)
    if selection.max_size is not None:
        chosen = _cheapest(chosen, holdings, sizes, always, total - selection.max_size)
    return Choice(tuple(chosen), pinned, going)


def _conditions(
    selection: Selection, runs: Mapping[str, RunFacts], now: int
) -> Iterable[Callable[[Holding], bool]]:
    if selection.older_than is not None:
        before = now - selection.older_than * 1e6
        yield lambda each: each.used_at <= before
    if selection.runs:
        yield lambda each: each.users <= selection.runs
    if selection.processes:
        yield lambda each: each.process in selection.processes
    if selection.hashes:
        yield lambda each: each.hash.rpartition(":")[2].startswith(selection.hashes)
    if selection.statuses:
        yield lambda each: each.status in selection.statuses
    if selection.incomplete:
        yield lambda each: each.status not in ("completed", "stored")
    if selection.keep_last is not None:
        latest = _latest(runs, selection.keep_last)
        yield lambda each: latest.isdisjoint(each.users)


def _latest(runs: Mapping[str, RunFacts], count: int) -> set[str]:
    """Return the last `count` runs of each notebook."""
    seen: Counter[str | None] = Counter()
    found = set()
    for facts in sorted(runs.values(), key=lambda each: each.id, reverse=True):
        if seen[facts.notebook] < count:
            seen[facts.notebook] += 1
            found.add(facts.id)
    return found


def _cheapest(
    chosen: Sequence[Holding],
    holdings: Iterable[Holding],
    sizes: Mapping[str, int],
    always: Collection[str],
    excess: int,
) -> list[Holding]:
    """Return those whose loss frees `excess` bytes and costs the least computing per byte.

    A blob that several need is freed with the last of them; its bytes count for each in parts.
    """
    needs = Counter(blob for each in holdings for blob in each.blobs)
    needs.update(always)

    def price(each: Holding) -> tuple[float, int]:
        share = sum(sizes.get(blob, 0) / needs[blob] for blob in each.blobs) + (each.work or 0)
        return (each.cost / share if share else float("inf"), each.used_at)

    taken: list[Holding] = []
    for each in sorted(chosen, key=price):
        if excess <= 0:
            break
        if not (each.blobs or each.work):
            continue
        taken.append(each)
        excess -= freed_by([each], needs, sizes)
    return taken


def freed_by(holdings: Iterable[Holding], needs: Counter[str], sizes: Mapping[str, int]) -> int:
    """Return the bytes that go with these holdings; lowers `needs`: how many need each blob."""
    freed = 0
    for each in holdings:
        freed += each.work or 0
        for blob in each.blobs:
            needs[blob] -= 1
            if needs[blob] == 0:
                freed += sizes.get(blob, 0)
    return freed
