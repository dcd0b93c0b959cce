"""What a clean-up decides about: one attempt with all that is kept for it.

Times are microseconds since 1970, sizes bytes, durations seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nbcache.model.digest import Digest


class Holding(NamedTuple):  # of which there are as many as tasks: a dataclass takes longer
    """An attempt's row and what lies in the cache because of it.

    `users` are the runs that made or used it, `used_at` the last time that one did. `current`: a
    look-up of its hash gives this row. `work` are the bytes of its kept work directory.
    """

    row: str
    hash: Digest
    process: str
    label: str
    status: str
    run: str
    used_at: int
    users: frozenset[str]
    realtime: float = 0.0
    current: bool = False
    blobs: Collection[str] = ()
    work: int | None = None

    @property
    def cost(self) -> float:
        """Seconds of computing that it takes to have it again."""
        return self.realtime if self.current else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a clean-up knows of a run. `ended`: when, None while it goes on."""

    id: str
    name: str
    notebook: str | None
    ended: int | None
    succeeded: bool
    live: bool
    retention: str = ""
    handed_on: frozenset[str] = field(default=frozenset())  # processes whose results tasks took


@dataclass(frozen=True, slots=True)
class Pins:
    """What is kept whatever a clean-up is told: runs, processes and hashes, with the reasons."""

    runs: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)

    def hold(self, holding: Holding) -> bool:
        """Say whether a holding is pinned."""
        return (
            holding.hash in self.hashes
            or holding.process in self.processes
            or not self.runs.keys().isdisjoint(holding.users)
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """Results of a shared cache that somebody chose, each with the last use known then.

    `users` says how many runs had made or used a row: of one whose clock is behind, the time of a
    use may be before the last that was known.
    """

    key: str
    at: int  # by the server's clock
    rows: Mapping[str, int]  # attempt row -> used_at
    reason: str = ""
    users: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlobCopy:
    """One copy of a blob in a shared cache: the week in which it was sent, and its bytes."""

    digest: str
    week: str
    size: int
