"""Where things lie in a shared cache: the keys of its objects. docs/format.md has the page.

Blobs lie under the ISO week in which they were sent. An upload is skipped only when the blob lies
in this week or the last one, and clean-up touches older weeks only: so nobody deletes what somebody
else has just found there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from nbcache.model.digest import Digest

HEADER = "nbcache.json"
LOG = "log/"
BLOBS = "blobs/"
CLAIMS = "claims/"
RUNS = "runs/"
MARKS = "marks/"
WEEKLY = "weekly-blobs"
"""The capability of caches that are laid out so; in one without it lies what one machine keeps."""
OF_A_MOMENT = ("clocks/", "probes/")
"""What was written to learn something, and is deleted at once by whoever may delete."""
_FEW = 32
"""So many folders of a week are listed one by one: most weeks take no more requests as a whole."""
_SLACK_US = 86_400 * 1_000_000
_WEEK_US = 7 * _SLACK_US
_FIRST_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""There are no caches older than that."""


def week_of(at_us: int) -> str:
    """Return the ISO week of a moment (microseconds since 1970, UTC): "2026-W48"."""
    year, week, _ = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).isocalendar()
    return f"{year}-W{week:02}"


def week_before(at_us: int) -> str:
    """Return the ISO week before that of a moment."""
    return week_of(at_us - _WEEK_US)


def young_weeks(now_us: int) -> frozenset[str]:
    """Return the weeks of which nothing is deleted: this one and the last, for a day more.

    Whoever skips an upload since the blob lies there has that day until a row of his names it.
    """
    moments = (now_us - _SLACK_US, now_us, now_us + _SLACK_US)  # clocks of servers differ, too
    return frozenset(week for at in moments for week in (week_of(at), week_before(at)))


def keys_to_try(
    digest: Digest, made_us: int | None, now_us: int, since_us: int | None
) -> Iterator[str]:
    """Yield the keys under which a blob may lie, the likeliest first.

    since_us: when the shared cache was made; None: it is the cache of one machine, without weeks.
    """
    if since_us is None:
        yield f"{BLOBS}{digest[3:5]}/{digest[3:]}"
    else:
        yield from (blob_key(week, digest) for week in weeks_to_try(made_us, now_us, since_us))


def weeks_to_try(made_us: int | None, now_us: int, since_us: int) -> Iterator[str]:
    """Yield the weeks in which a blob may lie, the likeliest first.

    Of a result that was made at `made_us` it is that week, the one before it (somebody had sent
    the same bytes) or a later one (it was sent late). Where that is not known, any since the cache
    was made. What others say of these times may be wrong: no cache is older than nbcache, and who
    made it may have had a clock that was ahead.
    """
    seen: set[str] = set()
    last = now_us + _WEEK_US  # clocks differ
    since_us = max(since_us, _FIRST_US) - _WEEK_US
    moments = [] if made_us is None else [made_us, made_us - _WEEK_US]
    later = range(since_us if made_us is None else max(made_us, since_us), last + 1, _WEEK_US)
    moments += reversed(later) if made_us is None else later
    for moment in (*moments, now_us, now_us - _WEEK_US, last):
        week = week_of(moment)
        if week not in seen:
            seen.add(week)
            yield week


def blob_key(week: str, digest: Digest) -> str:
    """Return the key of a blob that was sent in a week."""
    hexadecimal = digest[3:]
    return f"{BLOBS}{week}/{hexadecimal[:2]}/{hexadecimal}"


def folders_to_list(keys: Iterable[str]) -> Iterator[str]:
    """Yield the folders to list to see which of these blobs are there: whole weeks for many."""
    weeks = defaultdict[str, set[str]](set)
    for key in keys:
        folder = key[: key.rindex("/") + 1]
        weeks[folder[: folder.rindex("/", 0, -1) + 1]].add(folder)
    for week, folders in weeks.items():
        yield from folders if len(folders) <= _FEW else (week,)
