"""What a look-up gives: the part of an attempt row that a hit needs."""

from __future__ import annotations

from dataclasses import dataclass

from nbcache.model.digest import Digest
from nbcache.model.row import Port, WatchedRead
from nbcache.model.value import Stored
from nbcache.store.index import Found


@dataclass(slots=True)
class Entry:
    """What a hit needs to know of the row that it uses."""

    row_id: str
    hash: Digest
    run: str
    generation: int
    status: str
    outputs: tuple[Port, ...]
    watched: bool
    reads: tuple[WatchedRead, ...]  # to be checked before the entry is used
    realtime: float | None
    at: int
    shown: Stored | None = None
    process: str = ""
    tag: str = ""
    host: str | None = None
    user: str | None = None


def entry_of(hash: Digest, values: Found) -> Entry:
    """Return the entry that a found row makes."""
    row_id, generation, run, at, realtime, host, user, process, tag, reads, outputs, shown = values
    return Entry(
        row_id,
        hash,
        run or "",
        generation,
        "completed",
        tuple([Port.from_record(each) for each in outputs or ()]),
        bool(reads),
        tuple(
            [WatchedRead(each["kind"], each["name"], each.get("digest")) for each in reads or ()]
        ),
        realtime,
        at,
        None if shown is None else Port.from_record(shown).stored,
        process or "",
        tag or "",
        host,
        user,
    )
