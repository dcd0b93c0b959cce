"""`nbcache.connect()`: the history as a DuckDB connection, for Python and for other tools."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcache.engine.session import current_session
from nbcache.store import history
from nbcache.store.cache import Cache

if TYPE_CHECKING:
    import duckdb


def connect(
    place: str | os.PathLike[str] | None = None, *, live: bool = True
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the views of docs/history.md over a cache.

    `place` is the cache's folder; without it the cache of this notebook. With `live`, rows that any
    process appends show up within about a second. The database is in memory and one's own: it can
    do all that DuckDB can, and nothing that is done to it reaches the cache.

        connection = nbcache.connect()
        connection.sql("SELECT name, realtime FROM tasks ORDER BY realtime DESC LIMIT 5")

    Raises:
        CacheFormatError: there is no cache in that folder.
    """
    folder = current_session().place if place is None else place
    return history.connect(Cache.open(folder, create=False), live=live)
