"""The words that stand: of which hash somebody said that it means the same as another.

Read from the trust rows of this cache's own log, when a look-up has missed. Words of a shared
cache never count: whoever takes a result for equal answers for it alone.
"""

from __future__ import annotations

from nbcache.engine.record.rare_rows import rare_rows
from nbcache.errors import StoreError
from nbcache.model.digest import Digest
from nbcache.model.row import TrustRow
from nbcache.store.log import Log


def standing_words(log: Log, *, readable: bool = False) -> dict[Digest, TrustRow]:
    """Return the word that stands for each hash: the last one, where it was not revoked.

    readable: none where a segment is damaged, since a word in it may have been revoked there.

    Raises:
        StoreError: a segment is damaged.
    """
    try:
        words = _last_words(log, True)
    except StoreError:
        if not readable:
            raise
        return {}
    return {hash: row for hash, row in words.items() if not row.revoked}


def word_given(log: Log, hash: Digest) -> TrustRow | None:
    """Return the last word that was given for a hash, also if it was revoked since."""
    return _last_words(log, False).get(hash)


def _last_words(log: Log, also_revoked: bool) -> dict[Digest, TrustRow]:
    rows = sorted(rare_rows(log, TrustRow), key=lambda row: (row.at, row.id))
    return {row.hash: row for row in rows if also_revoked or not row.revoked}
