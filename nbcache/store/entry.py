"""What a look-up gives: the part of an attempt row that a hit needs."""

from __future__ import annotations

from dataclasses import dataclass

from nbcache.model.digest import Digest
from nbcache.model.row import Port, Record, WatchedRead
from nbcache.model.value import SAFE_CODECS, Stored
from nbcache.store.index import ENTRY_FIELDS, Found


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

    @property
    def is_safe(self) -> bool:
        """Whether its results can be decoded without running code, whoever made them."""
        return all(
            port.stored.kind != "value" or port.stored.codec in SAFE_CODECS for port in self.outputs
        )


def keys_of(hash: Digest, values: Found) -> Record:
    """Return the stored row that a found row is of, as far as its keys go."""
    found = dict(zip(ENTRY_FIELDS, values, strict=True))
    return {"kind": "attempt", "status": "completed", "hash": hash, **found}


def entry_of(hash: Digest, values: Found, *, vouched: bool) -> Entry:
    """Return the entry that a found row makes; `vouched`: its word is taken, see `Stored`."""
    row_id, generation, run, at, realtime, host, user, process, tag, reads, outputs, shown, *_ = (
        values
    )
    return Entry(
        row_id,
        hash,
        run or "",
        generation,
        "completed",
        tuple([Port.from_record(each, vouched) for each in outputs or ()]),
        bool(reads),
        tuple(
            [WatchedRead(each["kind"], each["name"], each.get("digest")) for each in reads or ()]
        ),
        realtime,
        at,
        None if shown is None else Port.from_record(shown, vouched).stored,
        process or "",
        tag or "",
        host,
        user,
    )
