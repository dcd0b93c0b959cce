"""Clean-up: what is chosen goes, what nothing needs any more goes with it.

First tombstones (`evict` rows), then bytes: killed in between, the next clean-up goes on. What a
run uses that is going on stays to its end, and so does what is pinned. The history stays.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nbcache.engine import history
from nbcache.engine.leftovers import Leftover, find_leftovers, remove_leftovers
from nbcache.errors import StoreError
from nbcache.model.holding import Holding, RunFacts
from nbcache.model.row import EvictRow
from nbcache.model.task import RunStatus
from nbcache.plan.cleaning import Choice, Selection, choose, freed_by
from nbcache.store.cache import Cache
from nbcache.store.collect import Collected, collect
from nbcache.store.files import new_ulid, read_only_error
from nbcache.store.fold import RUBBISH_S
from nbcache.store.stock import Stock, bytes_below, take_stock

FAR_AWAY_S = 7 * 86_400.0  # a run of another host that wrote nothing for so long is over
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


def clean(cache: Cache, selection: Selection, *, force: bool = False, reason: str = "") -> Cleaning:
    """Take away what is selected and what nothing needs; without `force` only say what would go.

    Raises:
        StoreError: the cache is read-only.
    """
    if force and cache.read_only is not None:
        raise read_only_error(cache.root, cache.read_only)
    if force:
        cache.log.fold()
    stock, choice, total = _chosen(cache, selection)
    if not force:
        return _told(cache, stock, choice, total)
    seen = cache.log.version
    cache.log.refresh()
    if cache.log.version != seen:  # somebody has used something since the log was read
        stock, choice, total = _chosen(cache, selection)
    told = _told(cache, stock, choice, total)
    _evict(cache, choice.holdings, reason or "cleaned up")
    done, freed = finish(cache, gone=[each.row for each in choice.holdings])
    return replace(told, done=True, freed=done.freed + freed, waiting=done.waiting)


def finish(cache: Cache, *, gone: Sequence[str] = ()) -> tuple[Collected, int]:
    """Delete what nothing needs: blobs, and left-overs (whose bytes are returned beside)."""
    found = _leftovers(cache, take_stock(cache), gone)
    return collect(cache), remove_leftovers(cache, found)


def evict_expired(cache: Cache) -> int:
    """Do what the runs' retention says; return how many results went. Quick where none says
    anything."""
    runs = run_facts(cache)
    if cache.read_only is not None or not any(each.retention for each in runs.values()):
        return 0
    _, choice, _ = _chosen(cache, Selection(expired=True))
    _evict(cache, choice.holdings, "its time was over (retention)")
    return len(choice.holdings)


def run_facts(cache: Cache, stock: Stock | None = None) -> dict[str, RunFacts]:
    """Return what a clean-up knows of each run."""
    latest: dict[str, int] = {}
    for each in stock.holdings if stock is not None else ():
        latest[each.run] = max(each.used_at, latest.get(each.run, 0))
    facts = {}
    for run in history.runs(cache):
        last = max(run.started, run.ended or 0, latest.get(run.id, 0))
        live = run.ended is None and run.status != RunStatus.INTERRUPTED.value
        if live and run.host != socket.gethostname():
            live = time.time() - last / 1e6 < FAR_AWAY_S
        facts[run.id] = RunFacts(
            id=run.id,
            name=run.name,
            notebook=run.notebook,
            started=run.started,
            ended=None if live else last,
            succeeded=run.status == RunStatus.SUCCEEDED.value,
            live=live,
            retention=run.retention or "",
            consumed=frozenset(name for each in run.processes for name in each.upstream),
        )
    return facts


def size_of(cache: Cache) -> int:
    """Return the bytes of everything below the cache's folder."""
    return bytes_below(cache.root)


def _chosen(cache: Cache, selection: Selection) -> tuple[Stock, Choice, int]:
    stock = take_stock(cache)
    total = size_of(cache)
    choice = choose(
        selection,
        stock.holdings,
        run_facts(cache, stock),
        stock.pins,
        now=time.time_ns() // 1000,
        sizes={blob: each.size for blob, each in stock.blobs.items()},
        always=stock.always,
        total=total,
    )
    return stock, choice, total


def _told(cache: Cache, stock: Stock, choice: Choice, total: int) -> Cleaning:
    """Say what goes, before it does."""
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
    gone = {each.row for each in choice.holdings}
    leftovers: dict[str, tuple[int, int]] = {}
    for left in _leftovers(cache, stock):
        number, size = leftovers.get(left.kind, (0, 0))
        leftovers[left.kind] = (number + 1, size + left.size)
    orphans = [blob for blob in stock.unneeded() if _is_settled(cache, stock, blob)]
    return Cleaning(
        done=False,
        shares=tuple(sorted(shares, key=lambda each: (-each.size, each.process))),
        pinned=choice.pinned,
        live=choice.live,
        leftovers=leftovers,
        orphans=(len(orphans), stock.bytes_of(orphans)),
        total=total,
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


def _leftovers(cache: Cache, stock: Stock, gone: Sequence[str] = ()) -> list[Leftover]:
    live = [run for run, facts in run_facts(cache, stock).items() if facts.live]
    return list(find_leftovers(cache, stock, quiet=_is_quiet(cache), live=live, gone=gone))


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


__all__ = ["Cleaning", "Share", "StoreError", "clean", "evict_expired", "finish", "run_facts"]
