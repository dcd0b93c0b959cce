"""Which results of a log are gone: what its `evict` rows say of hashes and of single rows.

A tombstone holds for ever, so what was noted once stays: it does not matter in which order, how
often or from where (a journal, the index of a segment) the rows come. No I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from nbcache.model.row import Record
from nbcache.store.index import Found


class Tombstones:
    """The evict rows that a reader of a log has seen."""

    def __init__(self) -> None:
        self._generations: dict[str, float] = {}  # of a hash: up to which one its results are gone
        self._rows: set[str] = set()  # results that are gone one by one, by id

    def note(self, evicts: Iterable[Record]) -> None:
        """Heed evict rows; some may be known."""
        for record in evicts:
            if record.get("row"):
                self._rows.add(record["row"])
            elif record.get("hash"):
                generation = record.get("generation")
                limit = math.inf if generation is None else generation
                self._generations[record["hash"]] = max(limit, self.generation(record["hash"]))

    def generation(self, hash: str) -> float:
        """Return up to which generation the results of a hash are gone; 0: none is by its hash."""
        return self._generations.get(hash, 0)

    def left(self, hash: str, found: list[Found]) -> list[Found]:
        """Return those of a hash's results that are not gone. Asked for each task: nearly always
        there is no tombstone at all."""
        limit = self._generations.get(hash, 0) if self._generations else 0
        if not (limit or self._rows):
            return found
        return [each for each in found if each[1] > limit and each[0] not in self._rows]

    def singled_out(self, hash: str, found: list[Found]) -> list[Found]:
        """Return those of a hash's results that are gone by a tombstone of their own alone."""
        limit = self.generation(hash)
        return [each for each in found if each[1] > limit and each[0] in self._rows]

    @property
    def has_rows(self) -> bool:
        """Whether there are tombstones of single rows."""
        return bool(self._rows)
