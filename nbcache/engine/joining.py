"""Put a shared cache behind a local one, and open what stands there.

What can be wrong with a place is said here, before anything is changed; what then goes on behind
the cache is `tier`'s business.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakSet

from nbcache.engine.sharing import Sharing, check_claim, note_sharing, sharing_of
from nbcache.engine.tier import Tier, no_claims, open_behind
from nbcache.errors import (
    AccessDeniedError,
    CacheFormatError,
    RemoteStoreError,
    StoreError,
    StoreGoneError,
    StoreUnavailableError,
    command,
)
from nbcache.store.cache import Cache
from nbcache.store.remote.header import read_header
from nbcache.store.remote.opening import cache_around, check_outside, open_store
from nbcache.store.remote.probing import creates_once
from nbcache.store.remote.protocol import Store
from nbcache.store.signing import make_key

NOT_NOW = (StoreUnavailableError, AccessDeniedError)
"""What a store may say today and not tomorrow: it is out of reach, or credentials are to come."""


def share(
    cache: Cache,
    url: str,
    *,
    read_only: bool,
    claim: str = "auto",
    tell: Callable[[str], None],
) -> Tier | None:
    """Put a shared cache behind this one from now on, also for others who open it.

    None: it does not answer now, lets nobody in or is damaged, which is told, and is behind it
    already, as is asked for, or, but for the last, from its first answer on. So a notebook that
    begins with this runs without the network and with old credentials, too.

    Raises:
        RemoteStoreError, CacheFormatError: it cannot be opened; nothing is changed.
        UsageError: there is no such way to claim.
    """
    check_claim(claim)
    if "://" not in url:  # who opens the cache next may stand in another folder
        url = os.path.abspath(os.path.expanduser(url))
    before = sharing_of(cache.root)
    is_other = before is None or before.url != url
    since = time.time_ns() // 1000 if before is None or is_other else before.since
    is_new = is_other or (before is not None and before.is_new)
    asked = Sharing(url, read_only, since, claim, is_new)
    try:
        tier = Tier.open(cache, asked, tell)
    except (RemoteStoreError, CacheFormatError) as error:
        # "never" stands there also where "auto", which need not be said, found no claims.
        same = [asked, replace(asked, claim="never")] if claim == "auto" else [asked]
        if is_new and isinstance(error, NOT_NOW):
            note_sharing(cache, asked)
        elif before not in same or not cache.is_trusted_to_share:
            raise
        tell(f"shared cache: {error}")
        return None
    try:
        may_claim = not read_only and claim != "never"
        # Whether creates are exclusive there need not be tried again where claims were made before.
        knew = not (before is None or is_new or before.read_only or before.claim == "never")
        if may_claim and not knew and not _takes_claims(tier.shared.store):
            tier.sharing = replace(tier.sharing, claim="never")
            tell(no_claims(url))
        if is_new:
            # What was made since then, while the store did not answer, was made for it.
            tier.sender.note_before(None if is_other else since)
        tier.sharing = replace(tier.sharing, is_new=False)
        note_sharing(cache, tier.sharing)
    except BaseException:  # a full disk
        tier.close()
        raise
    if not read_only:
        try:
            make_key()  # what goes unsigned nobody else may decode, if it runs code
        except StoreError as error:
            tell(f"what is sent goes unsigned, so nobody else uses the pickles in it: {error}")
    if is_new:
        _tell_nested(url, tell)
    return tier


def _takes_claims(store: Store) -> bool:
    try:
        return creates_once(store)
    except (AccessDeniedError, StoreGoneError, StoreUnavailableError):  # runs will see
        return True
    except RemoteStoreError:  # it does not know of such creates
        return False


def _tell_nested(url: str, tell: Callable[[str], None]) -> None:
    """Say what it means that a cache lies in another: whoever made it could not read that one."""
    with contextlib.suppress(RemoteStoreError):
        above = cache_around(url)
        if above is not None:
            tell(
                f"{url} lies inside the cache at {above}: who cleans or deletes that one may take "
                f"what lies here, and what is gone runs again. Better use that one "
                f"(`{command(f'share {above}')}`), or a place beside it."
            )


def check_place(url: str, *, read_only: bool, claim: str) -> None:
    """See that there is a shared cache at a URL, or make it.

    Raises:
        RemoteStoreError, CacheFormatError: there is none, and none can be made.
        UsageError: there is no such way to claim.
    """
    check_claim(claim)
    with contextlib.closing(open_store(url)) as store:
        reason = "it is shared read-only" if read_only else None
        read_header(store, reason, lambda: check_outside(url))


def tier_behind(cache: Cache, tell: Callable[[str], None]) -> Tier | None:
    """Return the shared cache that stands behind a cache, opened, if there is one that answers."""
    known = open_behind(cache)
    if known is not None:
        return known
    with contextlib.suppress(FileNotFoundError):
        try:
            sharing = sharing_of(cache.root)
            if sharing is not None and not cache.is_trusted_to_share:
                _tell_foreign(cache, sharing, tell)
            elif sharing is not None and sharing.is_new:
                return share(
                    cache, sharing.url, read_only=sharing.read_only, claim=sharing.claim, tell=tell
                )
            elif sharing is not None:
                return Tier.open(cache, sharing, tell)
        except (RemoteStoreError, CacheFormatError, StoreError) as error:
            tell(f"shared cache: {error}")
    return None


def _tell_foreign(cache: Cache, sharing: Sharing, tell: Callable[[str], None]) -> None:
    """Say once that whoever made a cache does not decide where this user's results are sent."""
    if cache not in _told:
        _told.add(cache)
        tell(
            f"{cache.root} is not your cache, so nothing is shared with {sharing.url}, which it "
            f"names. If you want that: {command(f'share {sharing.url}')}"
        )


_told: WeakSet[Cache] = WeakSet()
