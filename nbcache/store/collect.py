"""Deleting blobs that no row needs, beside running processes.

In a moment when nobody works on the cache, all of them go. Else one goes only if it was not wanted
for the grace time, nor evicted within it, and it lies in the trash for the grace time first: a run
looks at the log each minute, and a row follows what was kept for it within the hour.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from nbcache.model.digest import Digest
from nbcache.store.cache import Cache
from nbcache.store.files import is_full
from nbcache.store.fold import RUBBISH_S, server_time
from nbcache.store.stock import Stock, take_stock
from nbcache.store.trash import Trashed

GRACE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Collected:
    """Bytes and files that are deleted, and bytes that wait for their time."""

    freed: int = 0
    files: int = 0
    waiting: int = 0


def collect(
    cache: Cache,
    live: Collection[str] = (),
    *,
    stock: Stock | None = None,
    grace_s: float = GRACE_S,
    clock: Callable[[Path], float] = server_time,
) -> Collected:
    """Delete the blobs that no row needs, as far as it is safe now; the rest waits.

    live: runs that go on, whose results stay whatever became of their rows; stock: of this cache,
    to save reading the log again where nothing came since. clock: gives the seconds since 1970 by
    which files of this folder are dated.
    """
    if cache.read_only is not None:
        return Collected()
    if stock is None:
        stock = take_stock(cache, live)
    with cache.activity.quiet() as is_quiet:
        if is_quiet:
            cache.log.refresh()
            if cache.log.version != stock.version:
                stock = take_stock(cache, live)
            doomed = stock.unneeded()
            try:
                _put_aside(cache, doomed)
            except OSError as error:
                if not is_full(error):
                    raise
                return _delete(cache, stock, doomed)
            trashed = list(cache.blobs.trash.entries())
    if is_quiet:
        done = _empty(cache, stock, trashed)
        cache.blobs.trash.forget_empty()
        return done
    return _collect_beside_others(cache, live, grace_s, clock(cache.root))


def _collect_beside_others(
    cache: Cache, live: Collection[str], grace_s: float, now: float
) -> Collected:
    trashed = list(cache.blobs.trash.entries())
    old = [each for each in trashed if now - each.since > grace_s]
    stock = take_stock(
        cache, live
    )  # after the trash was listed: a row that needs one of it is seen
    done = _empty(cache, stock, old)
    doomed = stock.unneeded()
    with cache.activity.quiet(rows_suffice=True) as may_take:
        if may_take:
            due = [each for each in doomed if is_due(stock, each, now, grace_s)]
            _put_aside(cache, due, stock=stock)
    waiting = stock.bytes_of(doomed) + sum(each.size for each in trashed if each not in old)
    if not waiting:  # else a batch, empty or not, says that something is left to be done
        cache.blobs.trash.forget_empty()
    return Collected(done.freed, done.files, waiting)


def is_due(stock: Stock, blob: str, now: float, grace_s: float) -> bool:
    """Say whether an unneeded blob may be put aside while others work.

    One that no row ever named may belong to a task that is about to end: it stays for a day.
    """
    if now - stock.blobs[blob].touched <= grace_s:
        return False
    if blob in stock.evicted:
        return now - stock.evicted[blob] > grace_s
    return now - stock.blobs[blob].touched > RUBBISH_S


def _put_aside(cache: Cache, blobs: Iterable[str], *, stock: Stock | None = None) -> None:
    """Rename blobs into the trash; with `stock`, but for those that were touched since."""
    batch: Path | None = None
    for blob in blobs:
        if batch is None:
            batch = cache.blobs.trash.new_batch()
        source = cache.blobs.folder / blob[3:5] / blob[3:]
        aside = batch / blob[3:]
        with contextlib.suppress(OSError):
            before = os.stat(source)
            if stock is not None and before.st_mtime > stock.blobs[blob].touched:
                continue
            os.rename(source, aside)
            if os.stat(aside).st_mtime != before.st_mtime:  # wanted in this very instant
                cache.blobs.trash.rescue(blob[3:], str(source))


def _delete(cache: Cache, stock: Stock, blobs: Iterable[str]) -> Collected:
    """Delete blobs at once, where a full disk has no room for a folder to put them aside in.

    Only while nobody works on the cache, which has to wait for it.
    """
    freed = files = 0
    for blob in blobs:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(cache.blobs.folder / blob[3:5] / blob[3:])
            freed, files = freed + stock.blobs[blob].size, files + 1
    return Collected(freed, files)


def _empty(cache: Cache, stock: Stock, trashed: Collection[Trashed]) -> Collected:
    """Delete what lies in the trash, but for what a row needs after all."""
    needed = stock.needs().keys() | stock.always
    freed = files = 0
    for each in trashed:
        if f"b3:{each.hexadecimal}" in needed:
            cache.blobs.has(Digest(f"b3:{each.hexadecimal}"))  # brings it back
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(each.path)
            freed, files = freed + each.size, files + 1
    return Collected(freed, files)
