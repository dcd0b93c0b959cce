"""Open a session of a run: say what it is, write its first row, note what is said with it once.

Whoever opens a run hands it to the performer, which always ends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nbcache.engine.running.beginning import Beginning
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.rows import RowMaker, user_name
from nbcache.engine.running.run import Run
from nbcache.engine.tier import Tier
from nbcache.model.value import Stored
from nbcache.model.view import ShownChunk
from nbcache.store.cache import DENIED, Cache


@dataclass(frozen=True, slots=True)
class Opened:
    """A run over its snapshot. `rows` is None where the log has none of it; `tier` is the shared
    cache that it uses, which was told of it."""

    run: Run
    prepared: Prepared
    beginning: Beginning
    rows: RowMaker | None
    tier: Tier | None


class Opener(Protocol):
    """The part of a session that this needs."""

    notebook: str | None

    @property
    def cache(self) -> Cache: ...
    @property
    def place(self) -> Path: ...
    def tier(self) -> Tier | None: ...
    def read_shown(self, stored: Stored) -> Sequence[ShownChunk]: ...


def open_run(session: Opener, prepared: Prepared, beginning: Beginning, said: set[str]) -> Opened:
    """Open a run; `said` are notes that earlier runs of the kernel held, and this one adds to.

    Raises:
        StoreError: its first row cannot be written; nothing was begun.
    """
    cache = session.cache
    run = Run(
        beginning.run,
        beginning.name,
        prepared.graph,
        prepared.decoder,
        session.read_shown,
        user=user_name(),
    )
    run.cache_place = str(session.place)
    run.targets, run.is_recorded = beginning.targets, beginning.hold is not None
    prepared.decider.for_run(run.id)
    for text in _once(cache, prepared):
        if text not in said:
            run.note(text)
    said.update(run.notes)
    if not cache.writable:
        run.notes.append(
            f"the cache {cache.root} is read-only ({cache.read_only}): its results are used, and "
            "nothing is kept in it"
        )
    if beginning.hold is None:
        return Opened(run, prepared, beginning, None, None)
    rows = RowMaker(cache, run, beginning)
    try:
        rows.append([rows.started(prepared, notebook=session.notebook)])
    except BaseException:  # a full disk
        beginning.hold.release()
        raise
    tier = session.tier()
    if tier is not None:
        tier.run_began(run.id)
        if cache.is_own:  # what nobody vouches for is in the other one then
            run.cache_place = tier.shared.store.url
    return Opened(run, prepared, beginning, rows, tier)


def _once(cache: Cache, prepared: Prepared) -> Iterator[str]:
    """Yield what is said with the first run that it holds for."""
    for place in prepared.places.values():
        yield from place.captured.notes
    if cache.below is not None:
        yield (
            f"the cache {cache.below.folder} may only be read ({DENIED}): its results are used, "
            f"and what is made is kept in {cache.root}"
        )
    if cache.writable and cache.unnoted is not None:
        yield (
            f"the next kernel will take the cache {cache.root} for somebody else's, and run again "
            f"what is kept as a pickle: {cache.unnoted}; name another folder for settings: "
            "NBCACHE_CONFIG_DIR=FOLDER"
        )
