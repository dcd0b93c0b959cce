"""The cache that one kernel uses: opened at the first need, with the shared one behind it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nbcache.engine.joining import NOT_NOW, check_place, share, tier_behind
from nbcache.engine.sharing import Sharing, sharing_of, unshare
from nbcache.engine.tier import AGAIN_S, EXIT_S, Tier
from nbcache.engine.upkeep.cleaning import clean_after_run
from nbcache.engine.upkeep.condensing import condense
from nbcache.errors import CacheFormatError, NoCacheYetError, RemoteStoreError, StoreError
from nbcache.store.cache import Cache
from nbcache.store.remote.fetching import Showing
from nbcache.store.remote.opening import check_outside


class CacheInUse:
    """Holds a cache and its tier. `tell` says a line about the shared one to the user, `show` what
    comes from there while somebody waits for a value."""

    def __init__(self, place: Path, tell: Callable[[str], None], show: Showing) -> None:
        self.place = place  # where results are kept
        self._tell, self._show = tell, show
        self._cache: Cache | None = None
        self._tier: Tier | None = None
        self._known: Sharing | None = None  # what the cache's folder said of it
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

    def share(self, url: str, *, read_only: bool, claim: str) -> Tier | None:
        """Put a shared cache behind this one; see `joining.share`."""
        if not self.place.exists():  # a URL with a mistake in it leaves no folder behind
            with contextlib.suppress(*NOT_NOW):
                check_place(url, read_only=read_only, claim=claim)
        # What is on its way goes to where it was made for; that is waited for once.
        is_sent = self._tier is None or self._tier.finish()
        tier = share(self.cache, url, read_only=read_only, claim=claim, tell=self._tell)
        if tier is None:
            noted, self._tier_due = self._noted(), time.monotonic() + AGAIN_S
            if noted != self._known:  # another one from now on
                self._leave_tier()
            self._known = noted
            return self._tier
        if self._tier is not None:
            self._tier.close(EXIT_S if is_sent else 0.0)
        tier.shared.fetching.showing = self._show
        self._tier, self._known = tier, tier.sharing
        return tier

    def look_at(self, url: str, *, read_only: bool) -> Tier | None:
        """Let a plan count with a shared cache: nothing is noted, made or sent. None: there is
        none, or it does not answer, which is told."""
        try:
            try:
                tier = Tier.open(self.cache, Sharing(url, read_only=True), self._tell)
            except NoCacheYetError:
                if read_only:
                    raise
                check_outside(url)
                self._tell(f"shared cache: none is at {url} yet; the run makes it")
                return None
        except (RemoteStoreError, CacheFormatError) as error:
            self._tell(f"shared cache: {error}")
            return None
        self._leave_tier()
        self._tier, self._known = tier, self._noted()
        return tier

    def unshare(self) -> None:
        """Share no more; what came from there stays."""
        self._leave_tier()
        unshare(self.cache)
        self._known = None

    def tier(self) -> Tier | None:
        """Return the shared cache behind this one, opened at first need; None: there is none.

        It is the one that another process (a shell, say) has put there meanwhile, if no run is at
        work with the one before.
        """
        noted = self._noted()
        if noted != self._known and not (self._tier is not None and self._tier.is_at_work):
            was_known = self._tier is not None or self._tier_due > 0
            self._leave_tier()
            self._known = noted
            self._connect()
            if was_known and (noted is None or self._tier is not None):
                self._tell(f"{self.cache.root} is {_described(noted)}, as another process has said")
        elif self._tier is None and time.monotonic() > self._tier_due:
            self._connect()
        return self._tier

    def _connect(self) -> None:
        self._tier = tier_behind(self.cache, self._tell)
        if self._tier is not None:
            self._tier.shared.fetching.showing = self._show
            self._known = self._tier.sharing  # which says more once it has answered
        self._tier_due = time.monotonic() + AGAIN_S

    def _leave_tier(self) -> None:
        tier, self._tier = self._tier, None
        if tier is not None:
            tier.close()

    def _noted(self) -> Sharing | None:
        """Return what the cache's folder says that it is shared with; as before if that is
        damaged, of which whoever opens it tells."""
        try:
            return sharing_of(self.cache.root)
        except StoreError:
            return self._known

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
        cache, self._cache, self._known = self._cache, None, None
        if tier is not None:
            tier.close()
        if cache is not None:
            cache.close()


def _described(sharing: Sharing | None) -> str:
    if sharing is None:
        return "shared no more"
    return f"shared with {sharing.url}" + (", read-only" if sharing.read_only else "")
