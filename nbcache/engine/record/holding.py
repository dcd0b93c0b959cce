"""Who drives a run: a claim on its id, held from its first row to its last, freed by death.

The same lock as a task's claim, so a run whose rows say RUNNING and that nobody holds was
interrupted, whatever became of the process id in its row.
"""

from __future__ import annotations

from nbcache.model.digest import Digest, identity_digest
from nbcache.store.cache import Cache
from nbcache.store.claims import Claim


def hold_run(cache: Cache, run: str) -> Claim | None:
    """Return the right to drive a run, or None while somebody else (or this kernel) does."""
    return cache.claims.try_claim(_name(run))


def is_held(cache: Cache, run: str) -> bool:
    """Whether anybody drives the run now."""
    return cache.claims.is_claimed(_name(run))


def _name(run: str) -> Digest:
    return identity_digest(f"run {run}".encode())
