"""Asking a run to end from another process: a file in the cache, polled by whoever shows it."""

from __future__ import annotations

from pathlib import Path

from nbcache.store.cache import Cache


def cancel_request(cache: Cache, run: str) -> Path:
    """Return the file whose presence asks for the end of a run; clean-up takes it with tmp/."""
    return cache.tmp / f"cancel-{run}"
