"""Clean a shared cache beside whoever uses it, with nobody's leave.

In steps that anyone may take, and take again:

    mark     what is chosen is written down, with its last use
    evict    a grace time later: tombstones for what was not used since
    sweep    blobs that no row needs, merged segments and ended claims go, when they are old

Killed anywhere, the next one goes on. A run that has hit a result says so within minutes; one that
is slower than the grace time misses the bytes, and makes the result again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from nbcache.engine.garbage import collected_rarely
from nbcache.errors import AccessDeniedError
from nbcache.model.digest import Digest
from nbcache.model.holding import Pins, RunFacts
from nbcache.plan.cleaning import Selection, choose
from nbcache.plan.shared_cleaning import GRACE_US, SETTLE_US, deletable, due, still_unused
from nbcache.store.remote.collect import SharedKeeping, SharedStock
from nbcache.store.remote.layout import blob_key, young_weeks
from nbcache.store.remote.shared import Shared

NO_PINS = Pins()
UPLOAD_GRACES = 7
"""Grace times that an upload may take: a week, as clouds give it that end them by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCleaning:
    """What a clean-up did, or would do. `deleted` are objects by kind; sizes are bytes; `cost` is
    seconds of computing that the loss of what is marked costs, where all is needed again."""

    done: bool
    marked: int = 0
    marked_bytes: int = 0
    cost: float = 0.0
    waiting: int = 0  # marked before, and still within the grace time
    evicted: int = 0
    pinned: int = 0
    live: int = 0
    deleted: Mapping[str, int] = field(default_factory=dict)
    deleted_bytes: int = 0


@collected_rarely()
def clean_shared(
    shared: Shared,
    selection: Selection,
    *,
    force: bool = False,
    pins: Pins = NO_PINS,
    reason: str = "",
    grace: int = GRACE_US,
    settle: int = SETTLE_US,
) -> SharedCleaning:
    """Take each of the steps as far as it is due; without `force` only say what would go.

    pins: those of this user, beside those that stand in the shared cache.
    grace, settle: microseconds, to be shortened only where nobody else uses the cache.

    Raises:
        AccessDeniedError: it is shared read-only.
        RemoteStoreError, StoreError: something cannot be read, so nothing was deleted.
    """
    if force and shared.contact.read_only is not None:
        raise AccessDeniedError(shared.store.url, "clean", "", shared.contact.read_only)
    keeping = SharedKeeping(shared)
    seen = keeping.look()
    ready = due(seen.marks, seen.at, grace)
    free = [each for each in seen.stock.holdings if not pins.hold(each)]
    gone = still_unused(ready, free, seen.stock.pins, seen.live)
    if force and ready:
        keeping.evict({row: said or "cleaned up" for row, said in gone.items()}, seen.at)
        keeping.delete([mark.key for mark in ready])
        seen = keeping.look()
    marked = {row for mark in seen.marks for row in mark.rows} | gone.keys()
    choice = choose(
        selection,
        [each for each in seen.stock.holdings if each.row not in marked and not pins.hold(each)],
        {run: _going(run) for run in seen.live},
        seen.stock.pins,
        now=seen.at,
        sizes={blob: each.size for blob, each in seen.stock.blobs.items()},
        always=seen.stock.always,
        total=sum(each.size for each in seen.copies),
    )
    if force and choice.holdings:
        keeping.mark(choice.holdings, reason)
    doomed = _doomed(keeping, seen, grace, settle)
    uploads = keeping.old_uploads(seen.at, UPLOAD_GRACES * grace)
    if force:
        for keys in doomed.values():
            keeping.delete(keys)
        uploads = keeping.give_up(uploads)
    needs = Counter(blob for each in choice.holdings for blob in each.blobs)
    return SharedCleaning(
        done=force,
        marked=len(choice.holdings),
        marked_bytes=seen.stock.bytes_of(needs),
        cost=sum(each.cost for each in choice.holdings),
        waiting=len(marked - gone.keys()),
        evicted=len(gone),
        pinned=choice.pinned,
        live=choice.live,
        deleted={kind: len(keys) for kind, keys in doomed.items()} | {"uploads": len(uploads)},
        deleted_bytes=sum(size for keys in doomed.values() for size in keys.values()),
    )


def _going(run: str) -> RunFacts:
    """Return what of a run that goes on matters here: that it does."""
    return RunFacts(id=run, name="", notebook=None, ended=None, succeeded=False, live=True)


def _doomed(
    keeping: SharedKeeping, seen: SharedStock, grace: int, settle: int
) -> dict[str, dict[str, int]]:
    """Return the keys to delete, in this order, by what they are, with their bytes."""
    needed = seen.stock.needs().keys() | seen.stock.always
    blobs = deletable(
        seen.copies, needed, seen.stock.evicted, young_weeks(seen.at), seen.at, settle
    )
    return {
        "segments": {each.key: each.size for each in keeping.old_segments(seen.at, grace)},
        "claims": {each.key: each.size for each in keeping.old_claims(seen.at, grace)},
        "moments": {each.key: each.size for each in keeping.old_moments(seen.at, grace)},
        "blobs": {blob_key(each.week, Digest(each.digest)): each.size for each in blobs},
    }
