"""The cache that one kernel uses: opened at the first need, with the shared one behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from nbcache.engine.tier import AGAIN_S, Tier, check_place, connect, share, unshare
from nbcache.engine.upkeep.cleaning import clean_after_run
from nbcache.engine.upkeep.condensing import condense
from nbcache.store.cache import Cache
from nbcache.store.remote.fetching import Showing


class CacheInUse:
    """Holds a cache and its tier. `tell` says a line about the shared one to the user, `show` what
    comes from there while somebody waits for a value."""

    def __init__(self, place: Path, tell: Callable[[str], None], show: Showing) -> None:
        self.place = place  # where results are kept
        self._tell, self._show = tell, show
        self._cache: Cache | None = None
        self._tier: Tier | None = None
        self._tier_due = 0.0  # by time.monotonic(): when the shared cache may be asked again
        self._lock = threading.RLock()

    @property
    def cache(self) -> Cache:
        """The cache, opened (and made) at first need; from any thread."""
        with self._lock:
            if self._cache is None:
                self._cache = Cache.open(self.place)
            return self._cache

    @property
    def is_deleted(self) -> bool:
        """Whether its folder was deleted, or moved, after it was opened."""
        return self._cache is not None and not self._cache.is_there()

    def share(self, url: str, *, read_only: bool, claim: str) -> Tier:
        """Put a shared cache behind this one; see `tier.share`."""
        if not self.place.exists():  # a URL with a mistake in it leaves no folder behind
            check_place(url, read_only=read_only, claim=claim)
        if self._tier is not None:
            self._tier.finish()  # what is on its way goes to where it was made for
        tier = share(self.cache, url, read_only=read_only, claim=claim, tell=self._tell)
        if self._tier is not None:
            self._tier.close()
            self.cache.share(tier.shared)
        tier.shared.fetching.showing = self._show
        self._tier = tier
        return tier

    def unshare(self) -> None:
        """Share no more; what came from there stays."""
        if self._tier is not None:
            self._tier.close()
            self._tier = None
        unshare(self.cache)

    def tier(self) -> Tier | None:
        """Return the shared cache behind this one, opened at first need; None: there is none."""
        if self._tier is None and time.monotonic() > self._tier_due:
            self._tier = connect(self.cache, self._tell)
            if self._tier is not None:
                self._tier.shared.fetching.showing = self._show
            self._tier_due = time.monotonic() + AGAIN_S
        return self._tier

    def tidy(self) -> None:
        """Fold what workers wrote, merge small segments, delete what is kept no longer."""
        cache = self._cache
        if cache is None:  # another is in use meanwhile
            return
        condense(cache)
        clean_after_run(cache)

    def close(self) -> None:
        """Let go of it, also where that raises; the next need opens what `place` then says."""
        tier, self._tier, self._tier_due = self._tier, None, 0.0
        cache, self._cache = self._cache, None
        if tier is not None:
            tier.close()
        if cache is not None:
            cache.close()
