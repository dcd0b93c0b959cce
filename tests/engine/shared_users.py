"""What the processes do that use and clean one shared cache: `python -m tests.engine.shared_users`.

The clean-up works as if it came a month later, and does not wait between a tombstone and the bytes:
so it takes blobs under the hands of those who use them, also such that nobody had time to name yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbcache.engine import tier as tiers
from nbcache.engine.sharing import Sharing
from nbcache.engine.tier import Tier
from nbcache.engine.upkeep.shared_cleaning import clean_shared
from nbcache.errors import ResultGone
from nbcache.model.digest import blob_digest
from nbcache.model.row import Port, UseRow
from nbcache.model.value import Stored
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.remote.compact import compact_shared
from nbcache.store.remote.shared import Shared
from tests.engine.notebooks import Notebook
from tests.store.rows import attempt, hash_of
from tests.store.ticking import GRACE_US, Ticks, open_ticking

TASKS = 4
PIPELINE = (
    f"%channel numbers = of(*range({TASKS}))",
    "%%process big(n) -> table from numbers\nimport numpy\ntable = numpy.full(20_000, n)",
    "%%process total(table) -> value from big\nvalue = int(table.sum())",
)
AHEAD_US = 30 * 86_400_000_000
TIMEOUT_S = 240.0


def use(root: Path, name: str, rounds: int) -> None:
    """Run a pipeline again and again, each time with a local cache that knows nothing."""
    cached = 0
    for number in range(rounds):
        folder = root / f"{name}-{number}"
        folder.mkdir()
        notebook = Notebook(folder)
        notebook.session.share(where(root))
        for text in PIPELINE:
            notebook.cell(text)
        cached += works(notebook)
        tier = notebook.session.tier()
        assert tier is not None
        assert tier.finish(TIMEOUT_S)
        notebook.close()
    print(cached)


def works(notebook: Notebook) -> int:
    """Run until all results could be read: a lazy one may be taken before somebody looks at it."""
    for _ in range(20):
        run = notebook.run()
        assert not run.failures, run.failures
        try:
            assert [int(each) for each in run["total"]] == [20_000 * n for n in range(TASKS)]
            assert [int(table[0]) for table in run["big"]] == [*range(TASKS)]
            return run.progress().total("cached")
        except ResultGone:
            continue
    raise AssertionError("results are gone again and again")


def borrow(root: Path, name: str, rounds: int) -> None:
    """Do what a run does with a shared cache, without workers: many rounds in little time."""
    hits = made = 0
    ticks = Ticks(root)
    with ticks.at_work(name):
        for number in range(rounds):
            cache = Cache.open(root / f"{name}-{number}")
            ticks.begin(name)
            tier = Tier.open(cache, Sharing(where(root), is_new=True), troubles.append)
            for key in KEYS:
                if is_there(tier, key):
                    hits += 1
                else:
                    made += 1
                    make(tier, key)
            tier.settle()
            tier.close()
            cache.close()
    assert not troubles, troubles
    print(hits, made)


KEYS = range(4)
BYTES = int(os.environ.get("NBCACHE_TEST_BYTES", "4000"))  # of each result that is borrowed
troubles: list[str] = []


def content(key: int) -> bytes:
    return f"{key} ".encode() * (BYTES // 2)


def is_there(tier: Tier, key: int) -> bool:
    """Use what the shared cache has, as a hit does whose value somebody reads."""
    entry = tier.shared.find(hash_of(f"borrowed {key}"))
    blob = blob_digest(content(key))
    if entry is None or not tier.shared.fetching.bring(blob):
        return False
    assert tier.cache.blobs.read(blob) == content(key)
    row = UseRow(
        id=new_ulid(), at=tier.shared.store.server_time(), run=name_of(tier), process="borrow",
        position=str(key), tag="", hash=entry.hash, cached_from=entry.row_id,
    )  # fmt: skip
    tier.cache.log.append([row])
    tier.shared.note_used(entry.row_id)
    return True


def make(tier: Tier, key: int) -> None:
    """Make a result, as a task does after a miss."""
    data, hash = content(key), hash_of(f"borrowed {key}")
    stored = Stored(
        hash_of(f"{key}"), "value", "bytes", len(data), tier.cache.blobs.put_bytes(data)
    )
    now = tier.shared.store.server_time()
    row = attempt(
        id=new_ulid(), at=now, complete=now, run=name_of(tier), hash=hash,
        generation=tier.shared.log.next_generation(hash), outputs=(Port("y", stored),),
    )  # fmt: skip
    tier.cache.log.append([row])


def name_of(tier: Tier) -> str:
    return tier.cache.root.name


def clean(root: Path, name: str, later: bool) -> None:
    """Mark, evict and delete everything, again and again; `later`: as if a month had passed.

    To be stopped when one of those who clean has evicted, and deleted, something.
    """
    cache = Cache.open(root / name)
    ticks, stop = Ticks(root), root / "stop"
    expected = [root / "evicted", root / "deleted"]
    store = open_ticking(where(root), ticks, AHEAD_US if later else 0)
    shared = Shared.open(store, cache.root, cache.blobs)
    evicted = blobs = 0
    while not all(each.exists() for each in (stop, *expected)):
        with ticks.at_work(name):
            done = clean_shared(
                shared, Selection(older_than=0.0), force=True, grace=GRACE_US, settle=0
            )
            compact_shared(shared, enough=4)
        evicted, blobs = evicted + done.evicted, blobs + done.deleted["blobs"]
        for count, what in ((evicted, "evicted"), (blobs, "deleted")):
            if count:
                (root / what).touch()
        ticks.wait_for_tick(stop.exists)
    print(evicted, blobs)


def where(root: Path) -> str:
    """Return the URL of the store that they share."""
    return (root / "where").read_text()


def main(arguments: Sequence[str]) -> None:
    what, folder, own, *words = arguments
    root = Path(folder)

    def opened(url: str, **options: Any) -> Any:
        return open_ticking(url, Ticks(root))

    vars(tiers)["open_store"] = opened
    if what == "clean":
        clean(root, own, words[0] == "later")
    else:
        {"use": use, "borrow": borrow}[what](root, own, int(words[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
