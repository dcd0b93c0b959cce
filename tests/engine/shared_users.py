"""What the processes do that use and clean one shared cache: `python -m tests.engine.shared_users`.

The clean-up works as if it came a month later, and waits seconds where it should wait a day: so it
takes blobs under the hands of those who use them, also such that nobody had time to name yet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nbcache.engine.upkeep.shared_cleaning import clean_shared
from nbcache.errors import ResultGone
from nbcache.plan.cleaning import Selection
from nbcache.store.cache import Cache
from nbcache.store.remote.compact import compact_shared
from nbcache.store.remote.folder import FolderStore
from nbcache.store.remote.protocol import Entry
from nbcache.store.remote.shared import Shared
from tests.engine.notebooks import Notebook

TASKS = 4
PIPELINE = (
    f"%channel numbers = of(*range({TASKS}))",
    "%%process big(n) -> table from numbers\nimport numpy\ntable = numpy.full(20_000, n)",
    "%%process total(table) -> value from big\nvalue = int(table.sum())",
)


AHEAD_US = 30 * 86_400_000_000
GRACE_US = 2_000_000


class LaterStore(FolderStore):
    """A folder whose server's clock is a month ahead: all weeks in which blobs lie are old."""

    def server_time(self) -> int:
        return super().server_time() + AHEAD_US

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        for entry in super().list(prefix, start_after):
            yield replace(entry, modified_us=entry.modified_us + AHEAD_US)


def use(root: Path, name: str, rounds: int) -> None:
    """Run a pipeline again and again, each time with a local cache that knows nothing."""
    cached = 0
    for number in range(rounds):
        folder = root / f"{name}-{number}"
        folder.mkdir()
        notebook = Notebook(folder)
        notebook.session.share(str(root / "team"))
        for text in PIPELINE:
            notebook.cell(text)
        cached += works(notebook)
        tier = notebook.session.tier()
        assert tier is not None
        assert tier.finish(60)
        notebook.close()
    print(cached)


def works(notebook: Notebook) -> int:
    """Run until all results could be read: a lazy one may be taken before somebody looks at it."""
    for _ in range(20):
        run = notebook.run(timeout=120)
        assert not run.failures, run.failures
        try:
            assert [int(each) for each in run["total"]] == [20_000 * n for n in range(TASKS)]
            assert [int(table[0]) for table in run["big"]] == [*range(TASKS)]
            return run.progress().total("cached")
        except ResultGone:
            continue
    raise AssertionError("results are gone again and again")


def clean(root: Path, name: str) -> None:
    """Mark, evict and delete everything, again and again."""
    cache = Cache.open(root / name)
    shared = Shared.open(LaterStore(root / "team"), cache.root, cache.blobs)
    evicted = blobs = 0
    while not (evicted and blobs and (root / "stop").exists()):
        done = clean_shared(shared, Selection(older_than=0.0), force=True, grace=GRACE_US, settle=0)
        compact_shared(shared, enough=4)
        evicted, blobs = evicted + done.evicted, blobs + done.deleted["blobs"]
    print(evicted, blobs)


if __name__ == "__main__":
    what, folder, own, *words = sys.argv[1:]
    if what == "use":
        use(Path(folder), own, int(words[0]))
    else:
        clean(Path(folder), own)
