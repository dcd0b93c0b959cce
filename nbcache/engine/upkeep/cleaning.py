"""Clean-up: what is chosen goes, what nothing needs any more goes with it.

First tombstones (`evict` rows), then bytes: killed in between, the next clean-up goes on. What a
run uses that is going on stays to its end, and so does what is pinned. The history stays.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from nbcache.engine.garbage import collected_rarely
from nbcache.engine.record import history
from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.upkeep.leftovers import Leftover, find_leftovers, remove_leftovers
from nbcache.errors import CannotKeepError, UsageError
from nbcache.model.holding import Holding, RunFacts
from nbcache.model.row import EvictRow, RunRow
from nbcache.model.task import RunStatus
from nbcache.plan.cleaning import Choice, Selection, choose, freed_by
from nbcache.plan.retention import KEEP, RETENTION_OVER, parse_retention
from nbcache.store.cache import Cache
from nbcache.store.collect import Collected, collect
from nbcache.store.files import new_ulid, read_only_error
from nbcache.store.fold import RUBBISH_S, sweep
from nbcache.store.stock import Stock, bytes_below, take_stock

FAR_AWAY_S = 30 * 86_400.0  # a run of another host that began so long ago is over
_BATCH = 5_000  # rows appended with one write


@dataclass(frozen=True, slots=True)
class Share:
    """What of one process goes: results, bytes, seconds to compute them again."""

    process: str
    holdings: int
    size: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What a clean-up would do, or did. Sizes are bytes, `cost` seconds of computing."""

    done: bool
    shares: tuple[Share, ...] = ()
    pinned: int = 0
    live: int = 0
    leftovers: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # kind -> number, bytes
    orphans: tuple[int, int] = (0, 0)
    total: int = 0
    freed: int = 0
    waiting: int = 0

    @property
    def holdings(self) -> int:
        """How many results and failed attempts go."""
        return sum(each.holdings for each in self.shares)

    @property
    def size(self) -> int:
        """Bytes that go, left-overs included."""
        other = sum(size for _, size in self.leftovers.values())
        return sum(each.size for each in self.shares) + other + self.orphans[1]

    @property
    def cost(self) -> float:
        """Seconds of computing that the loss costs where all is needed again."""
        return sum(each.cost for each in self.shares)

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "done": self.done,
            "results": self.holdings,
            "bytes": self.size,
            "recompute_s": round(self.cost, 3),
            "processes": [
                {
                    "process": each.process,
                    "results": each.holdings,
                    "bytes": each.size,
                    "recompute_s": round(each.cost, 3),
                }
                for each in self.shares
            ],
            "pinned": self.pinned,
            "in_use": self.live,
            "leftovers": {
                kind: {"number": number, "bytes": size}
                for kind, (number, size) in self.leftovers.items()
            },
            "orphans": {"number": self.orphans[0], "bytes": self.orphans[1]},
            "total_bytes": self.total,
            "freed_bytes": self.freed,
            "waiting_bytes": self.waiting,
        }


@collected_rarely()
def clean(cache: Cache, selection: Selection, *, force: bool = False, reason: str = "") -> Cleaning:
    """Take away what is selected and what nothing needs; without `force` only say what would go.

    Raises:
        StoreError: the cache is read-only.
    """
    if force and cache.read_only is not None:
        raise read_only_error(cache.root, cache.read_only)
    if force:
        sweep(cache.root)  # as folding does: what is measured here has to be there afterwards
    total = size_of(cache)  # before the log is folded, which makes it larger at first
    if force:
        with suppress(CannotKeepError):  # on a full disk: what goes makes room for it
            cache.log.fold()
    chosen = _chosen(cache, selection, total)
    if not force:
        return _told(chosen)
    cache.log.refresh()
    if (
        cache.log.version != chosen.stock.version
    ):  # somebody has used something since the log was read
        chosen = _chosen(cache, selection, total)
    told = _told(chosen)
    said = RETENTION_OVER if selection.expired else reason or "cleaned up"
    done, freed = _take_away(cache, chosen.choice.holdings, said)
    return replace(told, done=True, freed=done.freed + freed, waiting=done.waiting)


def _take_away(cache: Cache, holdings: Sequence[Holding], reason: str) -> tuple[Collected, int]:
    """First tombstones, then bytes; on a full disk bytes first, which make room for tombstones.

    Killed between the two, a row is left whose bytes are gone: a miss, as after any such loss.
    """
    rows, before = {each.row for each in holdings}, 0
    if holdings:
        _say_that_bytes_follow(cache)
    try:
        _evict(cache, holdings, reason)
    except CannotKeepError:
        done, freed = finish(cache, gone=rows, evicted=False)
        before = done.freed + freed
        _evict(cache, holdings, reason)
    done, freed = finish(cache, gone=rows)
    return done, freed + before


def finish(
    cache: Cache, *, gone: Collection[str] = (), evicted: bool = True
) -> tuple[Collected, int]:
    """Delete what nothing needs: blobs, and left-overs (whose bytes are returned beside).

    gone: attempts that were taken away; evicted: that have their tombstones.
    """
    live = live_runs(run_facts(cache))
    stock = take_stock(cache, live)
    if not evicted:
        stock.holdings = [each for each in stock.holdings if each.row not in gone]
    found = _leftovers(cache, stock, live, gone)
    return collect(cache, live, stock=stock), remove_leftovers(cache, found)


def clean_after_run(cache: Cache) -> None:
    """What the end of a run does: retention, and what an earlier clean-up had to leave."""
    if evict_expired(cache) or cache.blobs.trash.is_due():
        finish(cache)


def check_retention(text: str) -> None:
    """Say what is wrong with a policy, if anything.

    Raises:
        UsageError: it is none.
    """
    try:
        parse_retention(text or KEEP)
    except ValueError as error:
        raise UsageError(
            f"retention {text!r}: {error}.\n  Write `keep`, a time such as `30d`, or `success=7d`, "
            "`failure=24h`, `intermediate`, joined by commas."
        ) from None


def evict_expired(cache: Cache) -> int:
    """Do what the runs' retention says; return how many results went. Quick where none says
    anything."""
    if cache.read_only is not None or not any(
        row.retention for row in rare_rows(cache.log, RunRow)
    ):
        return 0
    over = _chosen(cache, Selection(expired=True), 0).choice.holdings
    if over:
        _say_that_bytes_follow(cache)
    _evict(cache, over, RETENTION_OVER)
    return len(over)


def run_facts(cache: Cache) -> dict[str, RunFacts]:
    """Return what a clean-up knows of each run."""
    facts = {}
    for run in history.runs(cache):
        live = run.ended is None and run.status != RunStatus.INTERRUPTED.value
        if live and run.host != socket.gethostname():
            live = time.time() - run.started / 1e6 < FAR_AWAY_S
        ended = run.ended
        if not live and ended is None:  # killed: when its last task ended
            ended = history.as_it_stands(cache, run).last_word
        handed_on = run.handed_on
        if handed_on is None:  # an older version's run does not tell who else read them
            handed_on = tuple(name for each in run.processes for name in each.upstream)
        facts[run.id] = RunFacts(
            id=run.id,
            name=run.name,
            notebook=run.notebook,
            ended=None if live else ended,
            succeeded=run.status == RunStatus.SUCCEEDED.value,
            live=live,
            retention=run.retention,
            handed_on=frozenset(handed_on),
        )
    return facts


def live_runs(runs: Mapping[str, RunFacts]) -> frozenset[str]:
    """Return those that go on."""
    return frozenset(run for run, facts in runs.items() if facts.live)


def size_of(cache: Cache) -> int:
    """Return the bytes of everything below the cache's folder."""
    return bytes_below(cache.root)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice with what it was made from, and what goes beside it; `total` are the bytes of the
    whole cache."""

    stock: Stock
    choice: Choice
    total: int
    leftovers: Mapping[str, tuple[int, int]]  # kind -> number, bytes
    orphans: tuple[int, int]


def _chosen(cache: Cache, selection: Selection, total: int) -> Chosen:
    now = time.time_ns() // 1000  # before the log is read: what is used meanwhile is young
    runs = run_facts(cache)
    stock = take_stock(cache, live_runs(runs))
    leftovers: dict[str, tuple[int, int]] = {}
    for left in _leftovers(cache, stock, live_runs(runs)):
        number, size = leftovers.get(left.kind, (0, 0))
        leftovers[left.kind] = (number + 1, size + left.size)
    orphans = [blob for blob in stock.unneeded() if _is_settled(cache, stock, blob)]
    going = stock.bytes_of(orphans) + sum(size for _, size in leftovers.values())
    going += sum(each.size for each in cache.blobs.trash.entries())
    choice = choose(
        selection,
        stock.holdings,
        runs,
        stock.pins,
        now=now,
        sizes={blob: each.size for blob, each in stock.blobs.items()},
        always=stock.always,
        total=total - going,
    )
    return Chosen(stock, choice, total, leftovers, (len(orphans), stock.bytes_of(orphans)))


def _told(chosen: Chosen) -> Cleaning:
    """Say what goes, before it does."""
    stock, choice = chosen.stock, chosen.choice
    needs = stock.needs()
    needs.update(stock.always)
    sizes = {blob: each.size for blob, each in stock.blobs.items()}
    by_process: dict[str, list[Holding]] = {}
    for each in choice.holdings:
        by_process.setdefault(each.process, []).append(each)
    shares = [
        Share(name, len(found), freed_by(found, needs, sizes), sum(each.cost for each in found))
        for name, found in by_process.items()
    ]
    return Cleaning(
        done=False,
        shares=tuple(sorted(shares, key=lambda each: (-each.size, each.process))),
        pinned=choice.pinned,
        live=choice.live,
        leftovers=chosen.leftovers,
        orphans=chosen.orphans,
        total=chosen.total,
    )


def _is_settled(cache: Cache, stock: Stock, blob: str) -> bool:
    """Whether an unneeded blob will go: evicted ones sooner or later, others when they are old."""
    return (
        blob in stock.evicted
        or time.time() - stock.blobs[blob].touched > RUBBISH_S
        or _is_quiet(cache)
    )


def _is_quiet(cache: Cache) -> bool:
    with cache.activity.quiet() as is_quiet:
        return is_quiet


def _leftovers(
    cache: Cache, stock: Stock, live: frozenset[str], gone: Collection[str] = ()
) -> list[Leftover]:
    return list(find_leftovers(cache, stock, quiet=_is_quiet(cache), live=live, gone=gone))


def _say_that_bytes_follow(cache: Cache) -> None:
    """Leave a batch in the trash: killed before they are deleted, or where somebody works on the
    cache, the end of a later run deletes them."""
    with suppress(OSError):  # a full disk
        cache.blobs.trash.new_batch()


def _evict(cache: Cache, holdings: Sequence[Holding], reason: str) -> None:
    """Append a tombstone for each row, so that no look-up finds it any more."""
    for start in range(0, len(holdings), _BATCH):
        now = time.time_ns() // 1000
        cache.log.append(
            [
                EvictRow(id=new_ulid(), at=now, row=each.row, reason=reason)
                for each in holdings[start : start + _BATCH]
            ]
        )
