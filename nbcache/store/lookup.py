"""Finding a hash among many segments: one bisection tells which of them hold it.

What a mirror has of a team's log may be hundreds of segments. Once they are many, their hashes are
gathered in `index/gathered`: derived, and laid out like the index of a segment, but that each
payload is a place in the list of segments that meta gives. It says nothing of segments that came
since, which are looked at one by one until they are many, too; those that are gone are passed over.
What is found is read from the segments, so that damage of it makes no wrong hit.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from nbcache.store import fold
from nbcache.store.index import Found, SegmentIndex, StaleIndexError, packed

MANY = 16  # more than a log that is condensed has
NAME = "gathered"


class Lookup:
    """Finds the rows of a hash in live segments. Never changed, so that it takes no lock."""

    def __init__(
        self, segments: Mapping[str, SegmentIndex], gathered: SegmentIndex | None = None
    ) -> None:
        apart = {name: each for name, each in segments.items() if each.hashes}
        self.gathered = gathered
        self._told: dict[Any, SegmentIndex] = {}  # by their places
        for place, (name, hashes) in enumerate(gathered.meta["segments"] if gathered else ()):
            if name in apart and apart[name].hashes == hashes:
                self._told[place] = apart.pop(name)
        self.apart = list(apart.values())

    def find(self, key: bytes) -> list[Found]:
        """Return the completed rows of a hash, in no order. Asked several times for each task."""
        found: list[Found] = []
        for segment in self.apart:
            found += segment.find(key)
        if self.gathered is not None:
            for place in self.gathered.find(key):
                if place in self._told:
                    found += self._told[place].find(key)
        return found


def lookup_in(
    root: Path, segments: Mapping[str, SegmentIndex], before: Lookup, *, write: bool
) -> Lookup:
    """Return what finds hashes in the live segments of a log; gathers them where too many are not.

    before: what did so until now, where the file cannot be written.
    """
    if len(segments) <= MANY:
        return Lookup(segments)
    try:
        lookup = Lookup(segments, SegmentIndex.open(root / "index" / NAME))
    except (StaleIndexError, ValueError, KeyError):
        lookup = Lookup(segments, before.gathered)
    if len(lookup.apart) > MANY and write:
        data = _gathered(segments)
        with contextlib.suppress(OSError):  # derived: the next reader makes it again
            fold.write_index(root, NAME, data)
        lookup = Lookup(segments, SegmentIndex(data, check=False))
    return lookup


def _gathered(segments: Mapping[str, SegmentIndex]) -> bytes:
    live = [(name, each) for name, each in segments.items() if each.hashes]
    lines: list[bytes] = []
    for place, (_, segment) in enumerate(live):
        end = place.to_bytes(4, "big")
        lines += [key + end for key in dict.fromkeys(segment.keys())]
    lines.sort()
    texts = [str(place).encode() for place in range(len(live))]
    payloads = [texts[int.from_bytes(line[16:], "big")] for line in lines]
    offsets = [0, *accumulate(map(len, payloads))]
    return packed(
        b"".join([line[:16] for line in lines]),
        struct.pack(f"<{len(offsets)}Q", *offsets),
        b"",
        b"",
        b"".join(payloads),
        {"segments": [(name, each.hashes) for name, each in live]},
    )
