"""How many bytes of a cache are whose, and what they would cost elsewhere.

A blob that several processes (or runs) need counts for each of them in equal parts, so that the
parts add up to what lies on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from nbcache.engine.garbage import collected_rarely
from nbcache.engine.record import history
from nbcache.model.holding import Holding
from nbcache.store.cache import Cache
from nbcache.store.stock import Stock, bytes_below, take_stock

S3_PRICE = 0.023  # US dollars a month for 10^9 bytes: S3 Standard, us-east-1, first 50 TB, 2025
_BESIDE = {
    "log": ("log", "journal"),
    "work directories": ("work",),
    "temporary files": ("tmp",),
    "copies for reading": ("files",),
    "trash": ("trash",),
    "tables and indexes": ("index", "filestate", "claims"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What one process or run has in the cache: results, bytes (its share), seconds to compute."""

    name: str
    results: int
    size: int
    cost: float

    @property
    def dollars(self) -> float:
        """What these bytes cost a month on S3."""
        return self.size / 1e9 * S3_PRICE

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "name": self.name,
            "results": self.results,
            "bytes": self.size,
            "recompute_s": round(self.cost, 3),
            "usd_month": round(self.dollars, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The bytes of a cache. `unneeded` are blobs that no row needs; `beside` is what is no blob."""

    processes: tuple[Part, ...]
    runs: tuple[Part, ...]
    unneeded: int
    beside: dict[str, int]
    total: int

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "processes": [each.record() for each in self.processes],
            "runs": [each.record() for each in self.runs],
            "unneeded_bytes": self.unneeded,
            "beside": self.beside,
            "total_bytes": self.total,
            "usd_month": round(self.total / 1e9 * S3_PRICE, 4),
            "usd_per_gb_month": S3_PRICE,
        }


@collected_rarely()
def usage(cache: Cache) -> Usage:
    """Measure a cache."""
    stock = take_stock(cache)
    runs = {run.id: run for run in history.runs(cache)}
    beside = {
        name: sum(bytes_below(cache.root / each) for each in folders)
        for name, folders in _BESIDE.items()
    }
    return Usage(
        processes=_parts(stock, lambda each: [each.process]),
        runs=_parts(stock, lambda each: [history.name_in(runs, run) for run in each.users]),
        unneeded=stock.bytes_of(stock.unneeded()),
        beside={name: size for name, size in beside.items() if size},
        total=bytes_below(cache.root),
    )


def _parts(stock: Stock, owners: Callable[[Holding], Collection[str]]) -> tuple[Part, ...]:
    """Divide the blobs among owners, the largest part first."""
    needed: dict[str, set[str]] = {}  # blob -> who needs it
    results: dict[str, int] = {}
    costs: dict[str, float] = {}
    for holding in stock.holdings:
        if not (holding.current or holding.blobs):
            continue
        for owner in owners(holding):
            results[owner] = results.get(owner, 0) + 1
            costs[owner] = costs.get(owner, 0.0) + holding.cost
            for blob in holding.blobs:
                needed.setdefault(blob, set()).add(owner)
    shares = dict.fromkeys(results, 0.0)
    for blob, who in needed.items():
        for owner in who:
            shares[owner] += stock.bytes_of([blob]) / len(who)
    parts = [Part(name, results[name], round(shares[name]), costs[name]) for name in results]
    return tuple(sorted(parts, key=lambda each: (-each.size, each.name)))
