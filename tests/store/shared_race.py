"""What the processes of the race around a shared cache do: `python -m tests.store.shared_race`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from nbcache.engine.upkeep.shared_cleaning import clean_shared
from nbcache.errors import ObjectMissingError
from nbcache.model.digest import blob_digest
from nbcache.model.row import Port
from nbcache.model.value import Stored
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.remote.compact import compact_shared
from nbcache.store.remote.folder import FolderStore
from nbcache.store.remote.sending import Sender
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import KEYS
from tests.store.rows import attempt, hash_of

GRACE_US = 3_000_000  # for a day: as long as a reader here may need between two looks


def opened(root: Path, name: str) -> tuple[Cache, Shared]:
    cache = Cache.open(root / name)
    return cache, Shared.open(FolderStore(root / "team"), cache.root, cache.blobs)


def write(root: Path, name: str, rounds: int) -> None:
    """Send one result after the other, and note each when it was sent."""
    cache, shared = opened(root, name)
    sender = Sender(shared, cache.log, cache.blobs)
    with open(root / f"sent-{name}", "a", buffering=1) as sent:
        for number in range(rounds):
            data = f"{name} {number} ".encode() * 500
            stored = Stored(
                hash_of(f"{name}{number}"), "value", "bytes", len(data), cache.blobs.put_bytes(data)
            )
            row = attempt(f"{name}{number}", id=new_ulid(), outputs=(Port("y", stored),))
            cache.log.append([row])
            assert sender.send(sender.waiting()).rows == 1
            sent.write(f"{row.id} {stored.blob} {blob_digest(data)}\n")


def tidy(root: Path, name: str) -> None:
    """Merge, and delete what was merged, until somebody says stop and all is done."""
    _, shared = opened(root, name)
    rounds = merged = deleted = 0
    while not (rounds and (root / "stop").exists() and _is_tidy(root, shared)):
        try:
            merged += compact_shared(shared, factor=math.inf, enough=1)
            done = clean_shared(shared, Selection(), force=True, grace=GRACE_US, settle=0)
            deleted += done.deleted["segments"]
            rounds += 1
        except ObjectMissingError:
            continue  # another one was quicker, three times in a row
    print(rounds, merged, deleted)


def _is_tidy(root: Path, shared: Shared) -> bool:
    """Whether nothing is left to merge, and of what was merged nothing to delete."""
    files = sum(1 for _ in (root / "team/log").glob("*" + KEYS))
    return files <= 2 and len(shared.log.segments()) <= 2


if __name__ == "__main__":
    what, folder, own, *words = sys.argv[1:]
    if what == "write":
        write(Path(folder), own, int(words[0]))
    else:
        tidy(Path(folder), own)
