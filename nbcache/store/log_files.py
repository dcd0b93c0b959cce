"""What a log consists of now: its live segments and the journals beside them.

Noticed again with each `refresh`, in a few stats. Takes no lock of the cache and writes nothing
but derived indexes.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path

from nbcache.errors import DamagedSegmentError
from nbcache.store import fold
from nbcache.store.below import below_of
from nbcache.store.index import SegmentIndex
from nbcache.store.journal import GONE
from nbcache.store.journal_view import JournalView
from nbcache.store.listing import Listing
from nbcache.store.lookup import Lookup, lookup_in
from nbcache.store.segment import KEYS, ROWS, segment_name
from nbcache.store.tombstones import Tombstones


class LogFiles:
    """The segments and journals of one cache folder, as of the last refresh."""

    def __init__(self, root: str | os.PathLike[str], read_only: str | None) -> None:
        self.root = Path(root)
        self._read_only = read_only
        self._below = below_of(self.root)  # whose files are found here, too
        self._lock = threading.RLock()
        self._log_folder = Listing(self.root / "log")
        self._journal_folder = Listing(self.root / "journal")
        self._segments: dict[str, SegmentIndex] = {}  # replaced as a whole, never changed
        self._lookup = Lookup({})  # in these
        self._replaced: frozenset[str] = frozenset()
        self._damaged: dict[str, DamagedSegmentError] = {}  # segments that nothing can be read of
        self._journals: dict[str, JournalView] = {}  # replaced as a whole, never changed
        self._tombstones = Tombstones()
        self._is_loaded = False
        self._refreshed_at = -math.inf  # by time.monotonic()

    def segments(self) -> dict[str, SegmentIndex]:
        """Return the live segments by name, as of the last refresh."""
        return self._segments

    def own_segments(self) -> dict[str, SegmentIndex]:
        """Return those of them that do not lie in a cache below."""
        if self._below is None:
            return self._segments
        there = self._below.segments
        return {name: each for name, each in self._segments.items() if name + KEYS not in there}

    def folders(self) -> list[str]:
        """Return where segments lie: what is linked from a cache below lies there."""
        below = [] if self._below is None else [os.path.realpath(self._below.folder / "log")]
        return [str(self.root / "log"), *below]

    def journals(self) -> dict[str, JournalView]:
        """Return what was read of the journals, by file name, as of the last refresh."""
        return self._journals

    @property
    def version(self) -> tuple[object, ...]:
        """A value that changes when a refresh or an append found new rows."""
        journals = self._journals
        return (*self._segments, *((name, len(view.lines)) for name, view in journals.items()))

    def refresh(self, *, relist: bool = False, older_than_s: float = 0.0) -> None:
        """Notice what others wrote. A few stats when nothing changed.

        older_than_s: only if the last time is so long ago.
        """
        if older_than_s and time.monotonic() - self._refreshed_at < older_than_s:
            return
        with self._lock:
            self._refreshed_at = time.monotonic()
            for _ in range(5):
                if self._refresh_once(relist or not self._is_loaded):
                    break
                relist = True
            self._is_loaded = True

    def _refresh_once(self, relist: bool) -> bool:
        """Journals are listed before segments: rows move from the one to the other."""
        if self._below is not None:
            self._below.link()
        journal_names = self._journal_folder.names(relist)
        segment_files = self._log_folder.names(relist)
        if segment_files is not None:
            self._load_segments(set(filter(None, map(segment_name, segment_files))))
        if journal_names is not None or segment_files is not None:
            self._list_journals(self._journals if journal_names is None else journal_names)
        whole = True
        for view in self._journals.values():
            try:
                self._tombstones.note(view.read_on())
            except FileNotFoundError:
                whole = False  # folded since it was listed
            except OSError:  # a folder or a loop of links lies there, or it may not be read
                continue
        return whole

    def _list_journals(self, names: Collection[str]) -> None:
        folded = self.folded()
        views: dict[str, JournalView] = {}
        for name in sorted(names):
            path = self.root / "journal" / name
            size = folded.get(name.removesuffix(GONE))
            if size is None or _size(path) != size:  # else a segment has all of it
                views[name] = self._journals.get(name) or JournalView(path)
        self._journals = views

    def folded(self) -> dict[str, int]:
        """Return the journals that live segments hold, and how many bytes of each."""
        return {
            source: size
            for segment in self._segments.values()
            for source, size in segment.meta.get("sources", ())
        }

    def _load_segments(self, names: set[str]) -> None:
        known = {name: each for name, each in self._segments.items() if name in names}
        replaced = set(self._replaced)
        damaged_segments: dict[str, DamagedSegmentError] = {}
        # A merged segment is no older than those it replaces, which then need not be opened.
        for name in sorted(names - known.keys() - replaced, reverse=True):
            if name in replaced:
                continue
            try:
                known[name] = fold.open_index(self.root, name, write=self._read_only is None)
            except FileNotFoundError:
                continue
            except DamagedSegmentError as error:
                if not (self.root / "log" / (name + ROWS)).exists():
                    raise  # of a mirror, which fetches keys alone
                damaged_segments[name] = error  # look-ups do without it: what it held is made again
                continue
            replaced.update(known[name].meta.get("replaces", ()))
            self._tombstones.note(known[name].meta.get("evicts", ()))
        self._replaced, self._damaged = frozenset(replaced), damaged_segments
        self._segments = {name: known[name] for name in sorted(known.keys() - replaced)}
        write = self._read_only is None
        self._lookup = lookup_in(self.root, self._segments, self._lookup, write=write)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1
