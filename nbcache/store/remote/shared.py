"""A shared cache as seen from one machine: its keys mirrored, the rest fetched when asked for.

Keeps three promises: a look-up sends no request, whether it hits or misses; nothing that was
fetched counts before its digest was checked; whatever goes wrong at the store is no error of the
run (`trouble` is told once for each kind, and the caller goes on without).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from nbcache.errors import (
    AccessDeniedError,
    BlobDamagedError,
    CacheFormatError,
    FetchStoppedError,
    NbcacheError,
    ObjectMissingError,
    RemoteStoreError,
    StoreError,
    StoreUnavailableError,
)
from nbcache.model.digest import Digest
from nbcache.model.row import Record
from nbcache.model.signature import ORIGIN, Standing
from nbcache.store import fold
from nbcache.store.blobs import Blobs
from nbcache.store.files import new_ulid, remove
from nbcache.store.header import FORMAT, encode_header, new_header
from nbcache.store.log import Entry, Log
from nbcache.store.remote.driver import PART_BYTES
from nbcache.store.remote.layout import HEADER, LOG, blob_key, weeks_to_try
from nbcache.store.remote.patience import patiently
from nbcache.store.remote.protocol import LOOKUP_S, Store, create_owned, parsed
from nbcache.store.remote.ranged import fetch_lines
from nbcache.store.segment import (
    GROUP_ROWS,
    KEYS,
    ROWS,
    read_records_at,
    segment_name,
)
from nbcache.store.signing import FOREIGN
from nbcache.store.soundness import sound_row
from nbcache.store.weighing import check_weight

Showing = Callable[[Callable[[], str]], AbstractContextManager[None]]
"""Shows again and again, until it ends, what it is given says."""
AT_ONCE = 16
DENIED = "it may only be read"
DENIED_S = 60.0  # until what was refused is tried again
AGAIN_S = 60.0  # until a blob that could not be had is offered again
"""Requests in flight: what a laptop's connection and one process's threads bear."""
_SILENT = 3  # blobs in a row without an answer: the next look at the store's log asks again


class Shared:
    """A shared cache behind a local one. Thread-safe. Use `Shared.open`."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        header: Record,
        blobs: Blobs,
        *,
        read_only: str | None = None,
        trouble: Callable[[str], None] | None = None,
    ) -> None:
        self.store, self.root = store, folder
        self.id: str = header["id"]
        self.created: int = header.get("created", 0)
        self.read_only = read_only  # why nothing may be sent; None: it may
        self.is_reachable = True
        self.log = Log(folder)
        self._blobs = blobs
        self._trouble = trouble or (lambda text: None)
        self._told: set[type[BaseException]] = set()
        self._lost: set[str] = set()  # blobs that are not there, or not what their name says
        self._failed: dict[str, float] = {}  # blobs that could not be had, and (monotonic) when
        self._damaged: set[str] = set()  # segments
        self._row_bytes: dict[str, int] = {}  # of the rows files that were listed, by segment
        self._made: dict[str, int] = {}  # blob -> when the row that names it was made
        self._promised: dict[str, int] = {}  # the same, of rows that no segment holds yet
        self._used: list[str] = []  # rows that hits used, to be adopted
        self._coming: dict[str, Future[bool | None]] = {}  # None: given up
        self._dropped: set[str] = set()  # of those that are coming: not wanted any more
        self._denied_at = float("-inf")
        self._unanswered = 0  # requests for blobs, since the last answer
        self._sizes: dict[str, int] = {}  # of blobs, as their rows say
        self.came = 0  # bytes of blobs, since it was opened
        self.showing: Showing = lambda said: nullcontext()  # what a reader sees who waits
        self._is_closed = False
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed_at = float("-inf")
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nbcache-shared")

    @classmethod
    def open(
        cls,
        store: Store,
        root: Path,
        blobs: Blobs,
        *,
        read_only: bool = False,
        trouble: Callable[[str], None] | None = None,
        before_making: Callable[[], None] = lambda: None,
    ) -> Shared:
        """Open the shared cache in a store, and make it first where there is none.

        root: of the local cache, which holds the mirror. before_making: raises where none may be.

        Raises:
            CacheFormatError: the store holds something else, a newer format, or nothing and
                `read_only` is set.
            RemoteStoreError: it does not answer.
        """
        reason = "it is shared read-only" if read_only else None
        header, reason = read_header(store, reason, before_making)
        folder = root / "shared" / header["id"]
        try:
            for name in ("log", "index", "journal", "tmp"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the shared cache cannot be mirrored in {folder}: {error.strerror} "
                f"({error.filename}).\n  What is in {root / 'shared'} can be fetched again: delete "
                "what is in the way."
            ) from error
        return cls(store, folder, header, blobs, read_only=reason, trouble=trouble)

    def close(self) -> None:
        """Let go of threads, maps and connections; what is being fetched is left."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.log.close()
        self.store.close()

    # ------------------------------------------------------------------ the mirror

    def refresh(self, *, older_than_s: float = 0.0) -> None:
        """Mirror the keys of segments that came since: one listing, one request for each.

        A store that does not answer is told of, and what is mirrored stands.
        """
        if time.monotonic() - self._refreshed_at < older_than_s:
            return
        with self._refreshing:
            self._refreshed_at = time.monotonic()
            try:
                self._mirror()
            except (RemoteStoreError, OSError) as error:
                self.is_reachable = False
                self.tell(error)
            else:
                self.is_reachable, self._unanswered = True, 0
            self.log.refresh(relist=True)

    def _mirror(self) -> None:
        found: dict[str, int] = {}
        for entry in self.store.list(LOG):
            name = segment_name(entry.key.removeprefix(LOG))
            if name is not None:
                found[name] = entry.size
            elif entry.key.endswith(ROWS):
                self._row_bytes[entry.key.removeprefix(LOG).removesuffix(ROWS)] = entry.size
        log = self.root / "log"
        held = {name for name in map(segment_name, os.listdir(log)) if name is not None}
        missing = [name for name in found if name not in held and name not in self._damaged]
        list(self._pool.map(lambda name: self._fetch_keys(name, found[name]), missing))
        for name in held - found.keys():  # merged into another, and long deleted
            remove(log / (name + KEYS))
            remove(log / (name + ROWS))

    def _fetch_keys(self, name: str, size: int) -> None:
        """Fetch the keys of a segment; damaged ones are told of and left out."""
        new = self._fetched(LOG + name + KEYS, size)
        if new is None:
            return  # merged away since it was listed
        target = self.root / "log" / (name + KEYS)
        try:
            check_weight(new)
            os.replace(new, target)
            fold.open_index(self.root, name, write=True)
        except Exception as error:  # whatever Parquet or JSON make of foreign bytes
            self._damaged.add(name)
            remove(target)
            self.tell(StoreError(f"{self.store.url}: segment {name} cannot be used: {error}"))
        finally:
            remove(new)

    def add_segment(self, name: str, rows: Any, keys: Any, meta: Record, index: bytes) -> None:
        """Mirror a segment that this process has sent."""
        fold.publish_segment(self.root, name, rows, keys, meta, index)

    # ------------------------------------------------------------------ finding

    def find(self, hash: Digest) -> Entry | None:
        """Return the best row of a hash that the mirror holds; sends no request."""
        entries = self.log.find_all(hash)
        return entries[0] if entries and self._offers(entries, _blobs_of(entries[0])) else None

    def offers(self, hash: Digest, wanted: Collection[str]) -> bool:
        """Whether all these blobs can be fetched, as results of a hash; sends no request."""
        return not wanted or self._offers(self.log.find_all(hash), wanted)

    def _offers(self, entries: Iterable[Entry], wanted: Collection[str]) -> bool:
        if not wanted:
            return True
        if not self.is_reachable or not self._lost.isdisjoint(wanted):
            return False
        if any(time.monotonic() - self._failed.get(blob, -AGAIN_S) < AGAIN_S for blob in wanted):
            return False
        offered = {blob: self._promised[blob] for blob in wanted if blob in self._promised}
        for entry in entries:
            for blob, size in _blobs_of(entry).items():
                offered[blob] = entry.at
                if size is not None:
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

    def note_used(self, row_id: str) -> None:
        """Note that a hit uses a row: the local log is to have it, too."""
        self._used.append(row_id)

    def adopt_into(self, log: Log) -> list[str]:
        """Copy the rows that hits used into the local log, which then tells of them by itself.

        Returns their ids. Raises RemoteStoreError or StoreError; then they are tried again.
        """
        used = list(dict.fromkeys(self._used))
        if used:
            held = {record["id"] for record in log.records_of(used)}
            log.adopt(self.records([row_id for row_id in used if row_id not in held]))
            done = set(used)
            self._used = [row_id for row_id in self._used if row_id not in done]
        return used

    def records(self, row_ids: Iterable[str]) -> list[Record]:
        """Return rows in full, by their ids.

        The rows of a segment are fetched once; of one that is large, only what is needed.

        Raises:
            RemoteStoreError, StoreError: they cannot be fetched or read.
        """
        wanted = set(row_ids)
        places = self.log.places_of(wanted)
        read = self._pool.map(self._rows_at, places, places.values())
        judged = [self.judged(row) for rows in read for row in rows if row.get("id") in wanted]
        return [record for record in judged if record is not None]

    def _rows_at(self, name: str, lines: Sequence[int]) -> list[Record]:
        """Return the rows at lines of a segment."""
        path = self.root / "log" / (name + ROWS)
        size = self._row_bytes.get(name, 0)
        groups = len({line // GROUP_ROWS for line in lines})
        segment = self.log.segments().get(name)
        rows = 0 if segment is None else int(segment.meta["rows"])
        if path.exists() or size <= PART_BYTES or groups * GROUP_ROWS > rows / 2:
            self._fetch_rows(name)
            return self._read(name, path, lines)
        part = self.root / "tmp" / new_ulid()
        try:
            check_weight(part, fetch_lines(self.store, LOG + name + ROWS, size, part, lines))
            return self._read(name, part, lines)
        finally:
            remove(part)

    def _read(self, name: str, path: Path, lines: Sequence[int]) -> list[Record]:
        """Return the rows at lines of a file that holds at least these; else it is deleted."""
        try:
            return list(read_records_at(path, lines))
        except Exception as error:  # whatever Parquet or JSON make of foreign bytes
            remove(path)  # it may have been damaged on its way
            said = f"the rows of segment {name} cannot be read: {error}"
            raise StoreError(f"{self.store.url}: {said}") from error

    def judged(self, record: object) -> Record | None:
        """Return a result's row with its origin, by which the local log judges it; None: it is
        forged, or none.

        It is judged anew at each look-up, so that it counts no longer when its key is revoked.
        Rows of other kinds (tombstones, words of trust) are never taken from others.
        """
        if not isinstance(record, dict) or record.get("kind") != "attempt":
            self._tell_odd()
            return None
        standing = FOREIGN(record)
        if standing is Standing.FORGED:
            self.tell(StoreError(f"{self.store.url}: row {record.get('id')}: {standing.value}"))
            return None
        if not standing.vouches and sound_row(record) is None:
            self._tell_odd()
            return None
        return {**record, ORIGIN: self.id}

    def _tell_odd(self) -> None:
        self.tell(StoreError(f"{self.store.url}: a row is damaged or forged, and not used"))

    def history(self) -> list[Record]:
        """Return the rows of all results and runs there are, in full.

        Raises:
            RemoteStoreError, StoreError: they cannot be fetched or read.
        """
        self.fetch_all_rows()
        return list(self.log.records(("attempt", "use", "run")))

    def fetch_all_rows(self) -> None:
        """Fetch the rows of every segment, for questions about the whole history.

        Raises:
            RemoteStoreError.
        """
        list(self._pool.map(self._fetch_rows, self.log.segments()))

    def read_whole_log(self) -> None:
        """Mirror all that there is now, rows and all, for whoever decides by what is not there.

        Raises:
            RemoteStoreError, StoreError: something could not be fetched or read.
        """
        self._damaged.clear()
        for attempt in range(3):
            with self._refreshing:
                self._mirror()
                self.log.refresh(relist=True)
            try:
                self.fetch_all_rows()
                break
            except ObjectMissingError:  # merged into another since it was listed
                if attempt == 2:
                    raise
        if self._damaged:
            raise StoreError(
                f"{self.store.url}: segment {min(self._damaged)} cannot be read, so nobody can "
                f"tell what is needed.\n  Delete log/{min(self._damaged)}.* there if it is lost."
            )

    def _fetch_rows(self, name: str) -> None:
        target = self.root / "log" / (name + ROWS)
        if not target.exists():
            new = self._fetched(LOG + name + ROWS, self._row_bytes.get(name))
            if new is None:
                raise ObjectMissingError(self.store.url, "read", LOG + name + ROWS, "it is gone")
            try:
                check_weight(new)
                os.replace(new, target)
            finally:
                remove(new)

    def _fetched(self, key: str, size: int | None = None) -> Path | None:
        """Fetch an object to a temporary file; None where there is none."""
        new = self.root / "tmp" / new_ulid()
        try:
            self.store.get_file(key, new, size)
        except ObjectMissingError:
            remove(new)
            return None
        except BaseException:
            remove(new)
            raise
        return new

    # ------------------------------------------------------------------ blobs

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

    def note_lost(self, digest: Digest, error: StoreError) -> None:
        """Note that a blob is of no use, and tell why: it is offered no more."""
        self._lost.add(digest)
        self.tell(error)

    def is_away(self, digest: Digest) -> bool:
        """Whether a blob could not be had when it was last asked for, and may be had later."""
        return digest in self._failed or not self.is_reachable

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
        if digest in self._lost or not self.is_reachable:
            return False
        now = time.time_ns() // 1000
        for week in weeks_to_try(self._made.get(digest), now, self.created):
            new = self._blobs.root / "tmp" / new_ulid()
            try:
                self._get_blob(blob_key(week, digest), new, digest)
                self._unanswered = 0
                self._blobs.keep_as(new, digest)
                return True
            except ObjectMissingError:
                continue
            except BlobDamagedError:
                said = "holds other bytes than its name says; what needs it is made again"
                text = f"{self.store.url}: {blob_key(week, digest)} {said}"
                self.note_lost(digest, BlobDamagedError(text))
                return False
            except FetchStoppedError:
                raise
            except (StoreError, OSError) as error:
                # Whoever needs it now makes it again: offered again at once, it would be fetched
                # over and over where the fault is here, such as a full disk.
                self._failed[digest] = time.monotonic()
                if isinstance(error, StoreUnavailableError):
                    self._unanswered += 1
                    if self._unanswered >= _SILENT:  # each would take seconds to learn the same
                        self.is_reachable = False
                self.tell(error)
                return False
            finally:
                remove(new)
        self._lost.add(digest)
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

            self.store.get_file(key, path, on_bytes=note)

        began = time.monotonic()
        # A store that refuses at once is busy; of one that is silent enough was heard.
        patiently(get, lambda: time.monotonic() - began < LOOKUP_S and not self._is_closed)

    # ------------------------------------------------------------------ trouble

    def note_denied(self, error: AccessDeniedError) -> None:
        """Send nothing for a while, and say so once: what waits goes when it may."""
        self.read_only, self._denied_at = DENIED, time.monotonic()
        if self._is_new(AccessDeniedError):
            self._trouble(f"shared cache: nothing more is sent to it: {error}")

    def try_again(self) -> None:
        """Send again what was refused a while ago: credentials that had expired may be new."""
        if self.read_only == DENIED and time.monotonic() - self._denied_at >= DENIED_S:
            self.read_only = None

    def note_taken(self) -> None:
        """Say that results are sent again, to whom it was said that they are not."""
        with self._lock:
            was_denied = AccessDeniedError in self._told
            self._told.discard(AccessDeniedError)
        if was_denied:
            self._trouble(f"shared cache: {self.store.url} takes results again")

    def tell(self, error: BaseException) -> None:
        """Say once what went wrong, for each kind of error; the run goes on without."""
        kinds = (AccessDeniedError, StoreUnavailableError, type(error))
        if self._is_new(next(kind for kind in kinds if isinstance(error, kind))):
            text = str(error) if isinstance(error, NbcacheError) else f"{self.store.url}: {error}"
            self._trouble(f"shared cache: {text}")

    def _is_new(self, kind: type[BaseException]) -> bool:
        """Whether nothing of this kind was told yet; from now on it was."""
        with self._lock:
            is_new = kind not in self._told
            self._told.add(kind)
        return is_new


def _blobs_of(entry: Entry) -> dict[str, int | None]:
    """Return the blobs that a row names, and how many bytes each has (None: that of a manifest)."""
    named = [port.stored for port in entry.outputs]
    return {
        each.blob: None if each.kind == "tree" else each.size
        for each in named
        if each.blob is not None
    }


def read_header(
    store: Store, read_only: str | None, before_making: Callable[[], None] = lambda: None
) -> tuple[Record, str | None]:
    """Return what nbcache.json says, which is made where nothing is, and why nothing may be sent.

    Raises:
        CacheFormatError, RemoteStoreError: as `Shared.open`.
    """
    for _ in range(2):  # what lies there after the first look may be what another has just made
        try:
            return _parse(store, store.get(HEADER)), read_only
        except ObjectMissingError:
            pass
        if next(iter(store.list()), None) is None:
            break
    else:
        raise CacheFormatError(
            f"{store.url} holds other things and no nbcache cache.\n"
            "  Name an empty place below it: `%nbcache share URL/cache`."
        )
    if read_only is not None:
        raise CacheFormatError(
            f"there is no nbcache cache at {store.url}.\n"
            "  Somebody who may write makes it: `%nbcache share URL`."
        )
    before_making()
    header = new_header("weekly-blobs")
    others = create_owned(store, HEADER, encode_header(header))
    return (header if others is None else _parse(store, others)), None


def _parse(store: Store, data: bytes) -> Record:
    try:
        header = parsed(data)
        number, name = header["format"], header["id"]
        known = isinstance(number, int) and isinstance(header.get("created", 0), int)
        if not known or not (len(name) == 26 and name.isalnum()):
            raise ValueError("format or id")
    except (ValueError, KeyError, TypeError) as error:
        raise CacheFormatError(
            f"{store.url}/{HEADER} is damaged ({error}).\n"
            "  Put back an earlier version of this object, or share another place."
        ) from error
    if number > FORMAT:
        raise CacheFormatError(
            f"{store.url} is of format {number}, newer than this nbcache, which knows {FORMAT}.\n"
            "  Upgrade nbcache."
        )
    checked: Record = header
    return checked
