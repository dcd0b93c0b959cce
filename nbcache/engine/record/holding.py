"""Who drives a run, and how that one is asked to end it.

A claim on its id, held from its first row to its last, freed by death.

The same lock as a task's claim, so a run whose rows say RUNNING and that nobody holds was
interrupted, whatever became of the process id in its row.
"""

from __future__ import annotations

from pathlib import Path

from nbcache.model.digest import Digest, identity_digest
from nbcache.store.cache import Cache
from nbcache.store.claims import Claim


def cancel_request(cache: Cache, run: str) -> Path:
    """Return the file whose presence asks for the end of a run; clean-up takes it with tmp/."""
    return cache.tmp / f"cancel-{run}"


def hold_run(cache: Cache, run: str) -> Claim | None:
    """Return the right to drive a run, or None while somebody else (or this kernel) does."""
    if is_held_below(cache, run):
        return None
    return cache.claims.try_claim(_name(run))


def is_held(cache: Cache, run: str) -> bool:
    """Whether anybody drives the run now."""
    return cache.claims.is_claimed(_name(run)) or is_held_below(cache, run)


def is_held_below(cache: Cache, run: str) -> bool:
    """Whether the run is driven in the cache below, that may only be read."""
    return cache.below is not None and cache.below.is_claimed(_name(run))


def _name(run: str) -> Digest:
    return identity_digest(f"run {run}".encode())
