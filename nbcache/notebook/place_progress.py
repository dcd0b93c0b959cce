"""How far the tasks of one process are: in words, as a bar, as a colour."""

from __future__ import annotations

from collections.abc import Mapping

from nbcache.model.task import hit_rate
from nbcache.model.view import PlaceProgress
from nbcache.notebook import render

_ENDED = {
    "completed": "ran",
    "cached": "cached",
    "stored": "stored",
    "failed": "failed",
    "ignored": "ignored",
    "aborted": "aborted",
    "skipped": "skipped",
}
_AT_WORK = ("running", "committing")


def ended(counts: Mapping[str, int]) -> int:
    """Return how many tasks are over, whatever their outcome."""
    return sum(counts.get(name, 0) for name in _ENDED)


def done(counts: Mapping[str, int]) -> int:
    """Return how many tasks are done: an end of the run came before the aborted ones."""
    return ended(counts) - counts.get("aborted", 0)


def hit_share(counts: Mapping[str, int], own: int) -> str:
    """Return "67%": which part of the tasks have results of other runs, as `hit_rate` counts
    them; "" where there is none yet. 100% are all, and 0% is none."""
    rate = hit_rate(counts, own)
    if rate is None or 0 < rate < 0.01:
        return "" if rate is None else "under 1%"
    return f"{rate if rate == 1 else min(rate, 0.99):.0%}"


def going_parts(counts: Mapping[str, int], total: int, *, is_known: bool) -> list[str]:
    """Return "11/18", "2 running", "1 failed": how far tasks are that are not all over."""
    parts = [f"{done(counts):,}/{total:,}" if is_known else f"{done(counts):,}/?"]
    if at_work := sum(counts.get(name, 0) for name in _AT_WORK):
        parts.append(f"{at_work:,} running")
    parts += [f"{counts[name]:,} {name}" for name in ("failed", "aborted") if counts.get(name)]
    return parts


def expected_total(progress: PlaceProgress) -> int:
    """Return how many tasks there are, as far as it is known."""
    return max(progress.expected or 0, sum(progress.counts.values()))


def outcome_phrase(counts: Mapping[str, int], equal: int = 0) -> str:
    """Return "17 ran, 0 cached, 1 failed": ran and cached always, the rest where it happened.

    equal: of those cached, how many got the result of an equal task of the same run: no hits.
    """
    parts = [f"{counts.get('completed', 0):,} ran", f"{counts.get('cached', 0) - equal:,} cached"]
    parts += [f"{equal:,} equal"] * bool(equal)
    parts += [
        f"{counts[name]:,} {word}"
        for name, word in _ENDED.items()
        if name not in ("completed", "cached") and counts.get(name)
    ]
    return ", ".join(parts)


def place_phrase(progress: PlaceProgress) -> str:
    """Return how far one process is: "11/18 · 2 running", then "18 ran, 0 cached"."""
    counts, total = progress.counts, expected_total(progress)
    is_over = ended(counts) == total
    if is_over and progress.expected is not None and not any(map(counts.get, _AT_WORK)):
        return outcome_phrase(counts, progress.equal) if total else "no tasks"
    is_known = progress.expected is not None or not is_over
    return " · ".join(going_parts(counts, total, is_known=is_known))


def place_shares(progress: PlaceProgress) -> list[tuple[str, int]]:
    """Return (colour name, tasks) of a bar, from left to right. Tasks that are equal to one that
    ran count as that: nothing of it comes from a cache."""
    counts, equal = progress.counts, progress.equal
    return [
        ("cached", counts.get("cached", 0) - equal + counts.get("stored", 0)),
        ("done", counts.get("completed", 0) + equal),
        ("failed", counts.get("failed", 0) + counts.get("ignored", 0)),
        ("running", sum(counts.get(name, 0) for name in _AT_WORK)),
        ("pending", counts.get("skipped", 0) + counts.get("aborted", 0)),
    ]


def place_bar(progress: PlaceProgress) -> str:
    """Return the HTML bar of one process."""
    return render.bar(place_shares(progress), expected_total(progress))


def place_colour(progress: PlaceProgress) -> str:
    """Return the colour name that stands for the whole process."""
    counts = progress.counts
    if counts.get("failed"):
        return "failed"
    if any(counts.get(name) for name in _AT_WORK):
        return "running"
    if ended(counts) < expected_total(progress) or counts.get("aborted"):
        return "pending"
    if progress.expected is None:  # more may come
        return "pending"
    if counts.get("completed") or progress.equal:
        return "done"
    return "cached" if counts.get("cached") or counts.get("stored") else "pending"
