"""The log: append rows, find the best result of a hash, read rows back.

One view over segments (through the derived index) and journals (read in place). Readers take no
lock and write nothing; writers wait for nobody. Whether a row's blobs are there and its watched
reads unchanged is for the caller to check. docs/format.md says how state follows from rows.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from nbcache.model.digest import Digest
from nbcache.model.row import EvictRow, Record, Row
from nbcache.model.signature import Standing
from nbcache.store import compact, fold
from nbcache.store.entry import Entry, entry_of, keys_of
from nbcache.store.files import close_in_children, new_ulid, read_only_error
from nbcache.store.index import ORIGIN_PLACE, Found, SegmentIndex, hash_key
from nbcache.store.journal import Durability, JournalWriter, encode_record, encode_row
from nbcache.store.journal_view import JournalView
from nbcache.store.log_rows import LogRows
from nbcache.store.lookup import Lookup
from nbcache.store.signing import FOREIGN, Vouching
from nbcache.store.soundness import is_sound


class Log(LogRows):
    """The log of one cache folder. Thread-safe; any number of processes may use it at once."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        read_only: str | None = None,
        durability: Durability = "process",
        vouching: Vouching = FOREIGN,
        sign: Callable[[Record], None] | None = None,
    ) -> None:
        """`vouching` says whose word a row is; `sign` adds a signature to a new one."""
        super().__init__(root, read_only, vouching)
        self._sign = sign
        self._writer = JournalWriter(self.root, durability=durability, on_open=self._add_own)
        close_in_children(self)

    # ------------------------------------------------------------------ writing

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows to this process's journal with one write; they are durable on return.

        Raises:
            StoreError: the cache is read-only or the disk full; nothing was kept.
        """
        if not rows:
            return
        self._must_write()
        lines = [encode_row(row, self._sign) for row in rows]
        self._append_lines(lines)

    def _append_lines(self, lines: Sequence[bytes]) -> None:
        with self._lock:
            path = self._writer.path
            if path is not None and path.name not in self._journals:
                self._writer.rotate()  # somebody deleted it: what is written there is lost
            self._writer.append_lines(b"".join(lines), len(lines))
            path = self._writer.path
            assert path is not None
            self._tombstones.note(self._journals[path.name].add(lines))

    def adopt(self, records: Sequence[Record]) -> None:
        """Append rows that another cache made, as they are.

        Raises:
            StoreError: the cache is read-only or the disk full; nothing was kept.
        """
        if not records:
            return
        self._must_write()
        self._append_lines([encode_record(record) for record in records])

    def evict(
        self,
        *,
        hash: Digest | None = None,
        row: str | None = None,
        reason: str = "",
    ) -> EvictRow:
        """Append a tombstone: for all rows of a hash that are known now, or for one row."""
        generation = None
        if hash is not None:
            self.refresh()
            generation = self.next_generation(hash) - 1
        tombstone = EvictRow(
            id=new_ulid(),
            at=time.time_ns() // 1000,
            hash=hash,
            row=row,
            generation=generation,
            reason=reason,
        )
        self.append([tombstone])
        return tombstone

    def rotate(self) -> None:
        """Let go of this process's journal, so that anybody may fold it."""
        self._writer.rotate()

    def fold(self) -> int:
        """Turn all journals that nobody writes any more into a segment; return its rows.

        Call `rotate` first to include this process's own. Safe beside any other process and
        against being killed at any step; a cache that is read-only is left alone.
        """
        if self._read_only is not None:
            return 0

        def folded() -> dict[str, int]:
            self.refresh(relist=True)
            return self.folded()

        count = fold.fold_journals(self.root, folded)
        self.refresh()
        return count

    def compact(
        self,
        *,
        max_rows: int = compact.MAX_ROWS,
        factor: float = math.inf,
        grace_s: float = 86_400.0,
    ) -> int:
        """Merge the segments below `max_rows` into one; return how many.

        factor: leave those alone that have so many times the rows of all smaller ones.
        Also deletes segments that were replaced more than `grace_s` seconds ago.
        """
        if self._read_only is not None:
            return 0

        def live() -> dict[str, SegmentIndex]:
            self.refresh(relist=True)
            return self.own_segments()

        merged = compact.merge_segments(self.root, live, max_rows=max_rows, factor=factor)
        self.refresh()
        compact.delete_replaced(self.root, self._segments, grace_s=grace_s)
        return merged

    def close(self) -> None:
        """Let go of the journal and of the mapped indexes; whoever reads on opens them again."""
        self._writer.close()
        with self._lock:
            self._segments, self._journals, self._is_loaded = {}, {}, False
            self._lookup = Lookup({})

    def close_in_child(self) -> None:
        """Go on in a forked child, where no other thread holds the lock any more."""
        self._lock = threading.RLock()

    # ------------------------------------------------------------------ finding

    def find(self, hash: Digest, *, run: str | None = None) -> Entry | None:
        """Return the best completed, not evicted row of a hash; None where there is none.

        With `run` only the rows of that run count. Best is the highest generation, ties by the
        smallest row id. Sees what the last `refresh` saw and what this process appended.
        """
        return self.answer(hash, run=run)[0]

    def answer(self, hash: Digest, *, run: str | None = None) -> tuple[Entry | None, str]:
        """Return what `find` does and, where rows are here but none counts, why the best does not.

        A result of a foreign cache that runs code when it is decoded counts only with a signature
        that the user trusts.
        """
        refused = ""
        for entry, standing in self._judged(hash, self._candidates_of(hash, run)):
            if _counts(entry, standing):
                return entry, ""
            what = "is not used, since" if standing is Standing.FORGED else "is a pickle, and"
            said = f"its result of {entry.user or 'somebody'} {what} {standing.value}"
            refused = refused or said
        return None, refused

    def find_all(self, hash: Digest, *, run: str | None = None) -> list[Entry]:
        """Return all rows of a hash that `find` chooses from, the best first."""
        found = self._judged(hash, self._candidates_of(hash, run))
        return [entry for entry, standing in found if _counts(entry, standing)]

    def _candidates_of(self, hash: Digest, run: str | None) -> list[Found]:
        found = self._tombstones.left(hash, self._known(hash))
        return found if run is None else [each for each in found if each[2] == run]

    def _judged(self, hash: Digest, found: list[Found]) -> Iterator[tuple[Entry, Standing]]:
        """Yield found rows of a hash, and whose word each is; the best first."""
        for each in sorted(found, key=_best_first) if len(found) > 1 else found:
            judged = self._judge(hash, each)
            if judged is not None:
                yield judged

    def _judge(self, hash: Digest, found: Found) -> tuple[Entry, Standing] | None:
        """Return the entry of a found row, and whose word it is; None: it is no row.

        Asked for each hit, and nearly all rows are own. Of a copy of what can be used whoever says
        it the signature is not looked at again: that costs more than all else in a look-up.
        """
        if self._vouching.takes(found[ORIGIN_PLACE]):
            return entry_of(hash, found, vouched=True), Standing.OWN
        keys = keys_of(hash, found)
        if self._vouching.own and is_sound(keys):
            entry = entry_of(hash, found, vouched=False)
            if entry.is_safe and entry.shown is None:
                return entry, Standing.UNSIGNED
        standing = self._vouching(keys, whole=False)
        if not standing.vouches and not is_sound(keys):
            return None
        return entry_of(hash, found, vouched=standing.vouches), standing

    def evicted(self, hash: Digest) -> list[Entry]:
        """Return the completed rows of a hash that have a tombstone of their own, the best first;
        else as `find`."""
        if not self._tombstones.has_rows:  # asked for each miss
            return []
        found = self._tombstones.singled_out(hash, self._known(hash))
        return [entry for entry, standing in self._judged(hash, found) if _counts(entry, standing)]

    def is_evicted(self, hash: Digest) -> bool:
        """Say whether a hash has results, and a tombstone holds for each of them."""
        known = self._known(hash)
        return bool(known) and not self._tombstones.left(hash, known)

    def next_generation(self, hash: Digest) -> int:
        """Return 1 + the highest generation of the hash's results and tombstones."""
        highest = max((each[1] for each in self._known(hash)), default=0)
        evicted = self._tombstones.generation(hash)
        return 1 + max(highest, 0 if math.isinf(evicted) else int(evicted))

    # ------------------------------------------------------------------ inside

    def _known(self, hash: str) -> list[Found]:
        """Return the completed rows of a hash, also those that a tombstone holds for.

        Asked twice and more for each task that runs: what is not there has to cost next to nothing.
        """
        if not self._is_loaded:
            self.refresh()
        key = hash_key(hash)
        known: list[Found] = []
        for view in self._journals.values():
            if key in view.by_hash:
                known += view.completed(key)
        known += self._lookup.find(key)
        return known

    def _add_own(self, name: str) -> None:
        self._journals = {
            **self._journals,
            name: JournalView(self.root / "journal" / name, own=True),
        }

    def _must_write(self) -> None:
        if self._read_only is not None:
            raise read_only_error(self.root, self._read_only)


def _counts(entry: Entry, standing: Standing) -> bool:
    """Whether a row is used: of others, what is safe to decode, unless a signature does not fit."""
    return standing.vouches or (entry.is_safe and standing is not Standing.FORGED)


def _best_first(found: Found) -> tuple[int, str]:
    return (-found[1], found[0])
