"""Decide what a clean-up takes from a shared cache. Pure; times are microseconds of the server.

Nobody can be asked to hold still there, so what goes was marked a grace time before, and has not
been used since; and bytes go only out of weeks in which nobody relies on an earlier upload any
more. A result that is taken too early is made again: that costs time, and is never an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from nbcache.model.holding import BlobCopy, Holding, Mark, Pins

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
GRACE_US = DAY_US  # from a mark to its tombstones: whoever used a result has said so by then
SETTLE_US = HOUR_US  # from a tombstone to the bytes: whoever hit a result has fetched it by then


def due(marks: Iterable[Mark], now: int, grace: int = GRACE_US) -> list[Mark]:
    """Return the marks whose grace time is over."""
    return [mark for mark in marks if now - mark.at >= grace]


def still_unused(
    marks: Iterable[Mark], holdings: Iterable[Holding], pins: Pins, live: Collection[str]
) -> dict[str, str]:
    """Return the marked rows that may go now, with the reason; `holdings` were read after the
    grace time. What was used or pinned since, or is used by a run that goes on, stays."""
    known = {each.row: each for each in holdings}
    gone: dict[str, str] = {}
    for mark in marks:
        for row, used_at in mark.rows.items():
            each = known.get(row)
            if each is None or each.used_at > used_at or pins.hold(each):
                continue
            if len(each.users) > mark.users.get(row, len(each.users)):
                continue
            if each.users.isdisjoint(live):
                gone[row] = mark.reason
    return gone


def deletable(
    blobs: Iterable[BlobCopy],
    needed: Collection[str],
    evicted: Mapping[str, float],
    young: Collection[str],
    now: int,
    settle: int = SETTLE_US,
) -> list[BlobCopy]:
    """Return the copies that may be deleted: needed by no row, of an older week, and not of a
    result that had its tombstone (`evicted`: blob -> seconds) within the last hour.

    young: the weeks in which an upload may be skipped since the blob lies there.
    """
    return [
        each
        for each in blobs
        if each.week not in young
        and each.digest not in needed
        and now - evicted.get(each.digest, 0.0) * 1e6 >= settle
    ]
