"""Blobs of a shared cache, fetched into the local one when somebody needs them.

Nothing that was fetched counts before its digest was checked. What cannot be had is told of once
and offered no more, for a while or for good, so that whoever needs it makes it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from nbcache.errors import (
    BlobDamagedError,
    FetchStoppedError,
    ObjectMissingError,
    StoreError,
    StoreUnavailableError,
)
from nbcache.model.digest import Digest
from nbcache.model.row import Record
from nbcache.store.blobs import Blobs
from nbcache.store.entry import Entry
from nbcache.store.files import make_folder, new_ulid, remove
from nbcache.store.remote.contact import Contact
from nbcache.store.remote.layout import folders_to_list, keys_to_try
from nbcache.store.remote.patience import patiently

Showing = Callable[[Callable[[], str]], AbstractContextManager[None]]
"""Shows again and again, until it ends, what it is given says."""
AGAIN_S = 60.0  # until a blob that could not be had is offered again
DAMAGED_S = 86_400.0  # until a later process is offered one that was damaged
_MANIFESTS = 256  # are fetched to see what else is gone: seconds of requests


class Fetching:
    """What comes from one shared cache. Thread-safe.

    since_us: when that cache was made, no blob of it is older; None: it has no weeks.
    damaged: folder of notes for later processes, which would else be offered again what cannot be
    read. One that is not there may be late, or be sent anew: it is noted if somebody was told so.
    """

    def __init__(
        self, contact: Contact, blobs: Blobs, pool: Executor, since_us: int | None, damaged: Path
    ) -> None:
        self._contact, self._blobs, self._pool = contact, blobs, pool
        self._since_us, self._damaged = since_us, damaged
        self._lost = _noted(damaged)  # blobs that are not there, or not what their name says
        self._told: set[str] = set()  # of those, for which somebody has looked what else is gone
        self._failed: dict[str, float] = {}  # blobs that could not be had, and (monotonic) when
        self._made: dict[str, int] = {}  # blob -> when the row that names it was made
        self._promised: dict[str, int] = {}  # the same, of rows that no segment holds yet
        self._sizes: dict[str, int] = {}  # of blobs, as their rows say
        self._trees: set[str] = set()  # blobs that are manifests, which have no size there
        self._coming: dict[str, Future[bool | None]] = {}  # None: given up
        self._dropped: set[str] = set()  # of those that are coming: not wanted any more
        self._is_closed = False
        self._lock = threading.Lock()
        self.came = 0  # bytes, since it was opened
        self.showing: Showing = lambda said: nullcontext()  # what a reader sees who waits

    def close(self) -> None:
        """End what is being fetched."""
        self._is_closed = True

    # ------------------------------------------------------------------ what is offered

    def offers(self, wanted: Collection[str], entries: Iterable[Entry]) -> bool:
        """Whether all these blobs can be fetched, as these rows name them; sends no request."""
        if not wanted:
            return True
        if not self._contact.is_reachable or not self._lost.isdisjoint(wanted):
            return False
        if any(time.monotonic() - self._failed.get(blob, -AGAIN_S) < AGAIN_S for blob in wanted):
            return False
        offered = {blob: self._promised[blob] for blob in wanted if blob in self._promised}
        for entry in entries:
            for blob, size in blobs_of(entry).items():
                offered[blob] = entry.at
                if size is None:
                    self._trees.add(blob)
                else:
                    self._sizes[blob] = max(size, self._sizes.get(blob, 0))
        if not offered.keys() >= set(wanted):
            return False
        self._made.update({blob: offered[blob] for blob in wanted})
        return True

    def note_promised(self, record: Record) -> None:
        """Note a row whose blobs are there before it is itself: whoever computed it has said so."""
        for port in record.get("outputs") or ():
            if port.get("blob"):
                self._promised[port["blob"]] = record["at"]

    def note_lost(self, digest: Digest, error: StoreError | None = None) -> None:
        """Note that a blob is of no use, and tell why: it is offered no more."""
        self._lost.add(digest)
        with suppress(OSError):  # then the next process finds that out by itself
            with suppress(FileExistsError):
                make_folder(self._damaged)
            self._note(digest).touch()
        if error is not None:
            self._contact.tell(error)

    def note_gone(self, digest: Digest, members: Iterable[str]) -> bool:
        """Whether a blob that could not be read, or a member of it, is lost; then it is offered no
        more, also to later processes: whoever reads it is told to have it made again."""
        is_gone = not self._lost.isdisjoint((digest, *members))
        if is_gone and digest not in self._told:
            self.note_lost(digest)
            with suppress(StoreError), self.showing(lambda: "looking for what else is gone"):
                self._note_what_else_is_gone()  # else each is found when it is read
            self._told.update(self._lost)
        return is_gone

    def _note_what_else_is_gone(self) -> None:
        """Note which other blobs that were offered are gone, so that one run makes all again: what
        deletes objects by their age deletes many. Lists the folders in which they may lie; what
        manifests name is asked of the oldest ones, since each that is not here is a request."""
        offered = {Digest(blob): at for blob, at in dict(self._made).items()}
        trees = [blob for blob in offered if blob in self._trees and blob not in self._lost]
        away = [blob for blob in trees if not self._blobs.has(blob)]
        self.bring_all(sorted(away, key=offered.__getitem__)[:_MANIFESTS])
        needed = {blob: {blob} for blob in offered}
        for tree in filter(self._blobs.has, trees):
            with suppress(StoreError):  # damaged
                members = self._blobs.open_tree(tree)
                needed[tree].update(each.blob for each in members if each.blob is not None)
        asked = [
            (part, offered[blob])
            for blob, parts in needed.items()
            for part in parts.difference(self._lost)
            if not self._blobs.has(part)
        ]
        now, wanted = time.time_ns() // 1000, {part for part, _ in asked}
        keys = (key for part, at in asked for key in keys_to_try(part, at, now, self._since_us))

        def listed(folder: str) -> set[Digest]:
            names = (each.key.rpartition("/")[2] for each in self._contact.store.list(folder))
            return wanted.intersection(Digest("b3:" + name) for name in names)

        self._lost.update(wanted.difference(*self._pool.map(listed, folders_to_list(keys))))
        for blob, parts in needed.items():
            if not self._lost.isdisjoint(parts):
                self.note_lost(blob)

    def note_whole(self, digest: Digest) -> None:
        """Note that a blob came well, or was sent anew: it is offered again."""
        self._lost.discard(digest)
        self._told.discard(digest)
        with suppress(OSError):
            remove(self._note(digest))

    def _note(self, digest: Digest) -> Path:
        return self._damaged / digest[3:].replace("/", "_")  # a forged manifest names anything

    def is_away(self, digests: Iterable[str]) -> bool:
        """Whether one of them could not be had when it was last asked for, and may be later."""
        return not self._failed.keys().isdisjoint(digests) or not self._contact.is_reachable

    # ------------------------------------------------------------------ what comes

    def bring(self, digest: Digest) -> bool:
        """Fetch a blob into the local cache; False: it cannot be had (and `trouble` was told).

        Many may ask for one blob at once: it is fetched once.
        """
        while True:
            with self._lock:
                coming = self._coming.get(digest)
                mine = coming is None
                if coming is None:
                    coming = self._coming[digest] = Future()
            if mine:
                return self._bring_for_all(digest, coming)
            there = coming.result()
            if there is not None:  # else whoever fetched it wants it no more
                return there

    def bring_for_reader(self, digest: Digest) -> bool:
        """As `bring`, for whoever reads a value and is shown meanwhile how far that is."""
        with self.shown(self._sizes.get(digest)):
            return self.bring(digest)

    def shown(self, size: int | None) -> AbstractContextManager[None]:
        """Show how far a fetch of so many bytes (None: unknown) is, as long as it goes on."""
        before = self.came

        def said() -> str:
            came = f"{(self.came - before) / 1e6:,.0f}"
            of = "" if size is None else f" of {size / 1e6:,.0f}"
            return f"fetching from the shared cache: {came}{of} MB"

        return self.showing(said)

    def _bring_for_all(self, digest: Digest, coming: Future[bool | None]) -> bool:
        there: bool | None = None  # an interrupt says nothing of the blob
        try:
            there = self._bring(digest)
        except FetchStoppedError:
            pass
        finally:
            with self._lock:
                del self._coming[digest]
                self._dropped.discard(digest)
            coming.set_result(there)
        return bool(there)

    def bring_all(
        self, digests: Iterable[Digest], is_wanted: Callable[[], bool] = lambda: True
    ) -> list[Digest]:
        """Fetch blobs side by side, as long as they are wanted; return those that are not here."""
        wanted = list(dict.fromkeys(digests))
        there = self._pool.map(lambda digest: is_wanted() and self.bring(digest), wanted)
        return [digest for digest, found in zip(wanted, there, strict=True) if not found]

    def drop(self, digests: Iterable[str]) -> None:
        """End the fetching of blobs that are coming; who else waits for one fetches it anew."""
        with self._lock:
            self._dropped.update(self._coming.keys() & set(digests))

    def _note_came(self, digest: Digest, count: int) -> None:
        with self._lock:
            self.came += count
            if digest in self._dropped or self._is_closed:
                raise FetchStoppedError(f"{digest} is not wanted any more")

    def _bring(self, digest: Digest) -> bool:
        if digest in self._lost or not self._contact.is_reachable:
            return False
        now, damaged = time.time_ns() // 1000, ""
        for key in keys_to_try(digest, self._made.get(digest), now, self._since_us):
            new = self._blobs.root / "tmp" / new_ulid()
            try:
                self._get_blob(key, new, digest)
                self._contact.note_answer()
                self._blobs.keep_as(new, digest)
                self.note_whole(digest)
                return True
            except ObjectMissingError:
                continue
            except BlobDamagedError:
                damaged = key  # who noticed may have sent it anew in a later week
            except FetchStoppedError:
                raise
            except (StoreError, OSError) as error:
                # Whoever needs it now makes it again: offered again at once, it would be fetched
                # over and over where the fault is here, such as a full disk.
                self._failed[digest] = time.monotonic()
                if isinstance(error, StoreUnavailableError):
                    self._contact.note_silence()
                self._contact.tell(error)
                return False
            finally:
                remove(new)
        self._lost.add(digest)
        if damaged:
            said = "holds other bytes than its name says; what needs it is made again"
            text = f"{self._contact.store.url}: {damaged} {said}"
            self.note_lost(digest, BlobDamagedError(text))
        return False

    def _get_blob(self, key: str, path: Path, digest: Digest) -> None:
        """Fetch a blob's bytes; patiently, since what needs it would else be computed again."""
        most = self._sizes.get(digest)

        def get() -> None:
            came = 0

            def note(count: int) -> None:
                nonlocal came
                came += count
                if most is not None and came > most:  # it might fill the disk
                    raise BlobDamagedError(f"{digest} has more than {most} bytes")
                self._note_came(digest, count)

            self._contact.store.get_file(key, path, on_bytes=note)

        patiently(get, lambda: not self._is_closed)


def _noted(damaged: Path) -> set[str]:
    """Return the blobs that were noted as damaged; after a day one may have been sent anew."""
    found = set()
    with suppress(OSError):  # none
        for note in damaged.iterdir():
            with suppress(OSError):  # another process has just taken it away
                if time.time() - note.stat().st_mtime < DAMAGED_S:
                    found.add("b3:" + note.name)
                else:
                    remove(note)
    return found


def blobs_of(entry: Entry) -> dict[str, int | None]:
    """Return the blobs that a row names, and how many bytes each has (None: that of a manifest)."""
    named = [port.stored for port in entry.outputs]
    return {
        each.blob: None if each.kind == "tree" else each.size
        for each in named
        if each.blob is not None
    }
