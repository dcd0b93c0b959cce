"""The words that stand: of which hash somebody said that it means the same as another.

Read from the trust rows of this cache's own log, when a look-up has missed. Words of a shared
cache never count: whoever takes a result for equal answers for it alone.
"""

from __future__ import annotations

import time

from nbcache.engine.record.rare_rows import rare_rows
from nbcache.errors import StoreError
from nbcache.model.digest import Digest
from nbcache.model.row import TrustRow
from nbcache.store.log import Log


def standing_words(log: Log) -> dict[Digest, TrustRow]:
    """Return the word that stands for each hash: the last one, where it was not revoked.

    Raises:
        StoreError: a segment is damaged.
    """
    return {hash: row for hash, row in last_words(log).items() if not row.revoked}


def last_words(log: Log, *, readable: bool = False) -> dict[Digest, TrustRow]:
    """Return the last word on each hash, also where it revokes.

    readable: none where a segment is damaged, since a word in it may have been revoked there.

    Raises:
        StoreError: a segment is damaged.
    """
    try:
        return {row.hash: row for row in _in_order(log)}
    except StoreError:
        if not readable:
            raise
        return {}


def words_on(log: Log, hash: Digest) -> list[TrustRow]:
    """Return what was said of a hash and what of that was revoked, the last word at the end."""
    return [row for row in _in_order(log) if row.hash == hash]


def next_moment(log: Log) -> int:
    """Return now in microseconds, but later than all words: a clock set back undoes none."""
    return max([time.time_ns() // 1000, *(row.at + 1 for row in _in_order(log))])


def _in_order(log: Log) -> list[TrustRow]:
    return sorted(rare_rows(log, TrustRow), key=lambda row: (row.at, row.id))
