"""Which store stands behind a cache: what its folder says of that (`shared.json`).

So the shell and a fresh kernel know it, too. Opens no store: see `joining`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from nbcache.errors import StoreError, UsageError, command
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid, write_whole

CLAIMS = ("auto", "always", "never")
_FILE = "shared.json"


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which store is behind a cache. `since` (microseconds): when it was put there; what was made
    before is not sent by itself, see `Sender.waiting`.

    claim: which tasks are claimed there before they start: auto (those that take long, or of which
    nobody knows), always, never. is_new: it has not answered since it was put there, so whoever
    opens it first may make the cache.
    """

    url: str
    read_only: bool = False
    since: int = 0
    claim: str = "auto"
    is_new: bool = False


def sharing_of(root: Path) -> Sharing | None:
    """Return what a cache is shared with; None where it is not.

    Raises:
        StoreError: the note is damaged.
    """
    try:
        known = json.loads((root / _FILE).read_bytes())
        return Sharing(
            str(known["url"]),
            bool(known["read_only"]),
            int(known["since"]),
            str(known.get("claim", "auto")),
            bool(known.get("is_new", False)),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root / _FILE} cannot be read: {error}.\n  Share again: `{command('share URL')}`, "
            f"or no more: `{command('share --off')}`."
        ) from error


def note_sharing(cache: Cache, sharing: Sharing) -> None:
    """Have the cache's folder say what it is shared with."""
    new = cache.tmp / new_ulid()
    write_whole(new, json.dumps(asdict(sharing)).encode() + b"\n", sync=True)
    os.replace(new, cache.root / _FILE)


def unshare(cache: Cache) -> None:
    """Share no more; what came from there stays, and so does what was sent."""
    cache.share(None)
    (cache.root / _FILE).unlink(missing_ok=True)


def check_claim(claim: str) -> None:
    """Raise UsageError where there is no such way to claim."""
    if claim not in CLAIMS:
        raise UsageError(f"--claim is {', '.join(CLAIMS)}, not {claim!r}")
