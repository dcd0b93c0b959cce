"""What the processes of the race around a shared cache do: `python -m tests.store.shared_race`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from nbcache.engine.upkeep.shared_cleaning import clean_shared
from nbcache.model.digest import blob_digest
from nbcache.model.row import Port
from nbcache.model.value import Stored
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.remote.compact import compact_shared
from nbcache.store.remote.layout import LOG
from nbcache.store.remote.sending import Sender
from nbcache.store.remote.shared import Shared
from nbcache.store.segment import KEYS
from tests.store.rows import attempt, hash_of
from tests.store.ticking import GRACE_US, Ticks, open_ticking


def opened(root: Path, name: str) -> tuple[Cache, Shared]:
    """Open the shared cache of a race, of which the folder `root` says where it is."""
    cache = Cache.open(root / name)
    store = open_ticking((root / "where").read_text(), Ticks(root))
    return cache, Shared.open(store, cache.root, cache.blobs)


def write(root: Path, name: str, rounds: int) -> None:
    """Send one result after the other, and note each when it was sent."""
    cache, shared = opened(root, name)
    sender, ticks = Sender(shared, cache.log, cache.blobs), Ticks(root)
    with open(root / f"sent-{name}", "a", buffering=1) as sent:
        for number in range(rounds):
            data = f"{name} {number} ".encode() * 500
            stored = Stored(
                hash_of(f"{name}{number}"), "value", "bytes", len(data), cache.blobs.put_bytes(data)
            )
            row = attempt(f"{name}{number}", id=new_ulid(), outputs=(Port("y", stored),))
            cache.log.append([row])
            with ticks.at_work(name):
                assert sender.send(sender.waiting()).rows == 1
            sent.write(f"{row.id} {stored.blob} {blob_digest(data)}\n")


def tidy(root: Path, name: str) -> None:
    """Merge, and delete what was merged, until somebody says stop and all is done."""
    _, shared = opened(root, name)
    ticks, stop = Ticks(root), root / "stop"
    rounds = merged = deleted = 0
    while not (rounds and stop.exists() and _is_tidy(shared)):
        with ticks.at_work(name):
            merged += compact_shared(shared, factor=math.inf, enough=1)
            done = clean_shared(shared, Selection(), force=True, grace=GRACE_US, settle=0)
        deleted += done.deleted["segments"]
        rounds += 1
        ticks.wait_for_tick(stop.exists)
    print(rounds, merged, deleted)


def _is_tidy(shared: Shared) -> bool:
    """Whether nothing is left to merge, and of what was merged nothing to delete."""
    files = sum(entry.key.endswith(KEYS) for entry in shared.store.list(LOG))
    return files <= 2 and len(shared.log.segments()) <= 2


def main(arguments: Sequence[str]) -> None:
    what, folder, own, *words = arguments
    if what == "write":
        write(Path(folder), own, int(words[0]))
    else:
        tidy(Path(folder), own)


if __name__ == "__main__":
    main(sys.argv[1:])
