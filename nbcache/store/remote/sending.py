"""Send what a local cache made to the shared one: blobs before rows, each once.

Rows go in segments, since a request costs more than a row: whoever calls says when one is due. A
process that dies in between loses nothing, since what was sent is noted after it was sent: the
next one sends the rest, and what went twice readers count once, by its id.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from nbcache.errors import BlobDamagedError, BlobMissingError
from nbcache.model.digest import Digest
from nbcache.model.ids import ulid_ms
from nbcache.model.row import Record
from nbcache.store.blobs import Blobs
from nbcache.store.columns import table_of
from nbcache.store.files import new_ulid, open_lock, remove, write_whole
from nbcache.store.filestate import RemoteNote
from nbcache.store.fold import segment_name
from nbcache.store.index import build
from nbcache.store.log import Log
from nbcache.store.references import references
from nbcache.store.remote.file_notes import note_id, share_note
from nbcache.store.remote.layout import LOG, blob_key, week_before, week_of
from nbcache.store.remote.patience import patiently
from nbcache.store.remote.shared import AT_ONCE, Shared
from nbcache.store.segment import (
    FORMAT,
    KEYS,
    ROWS,
    in_order,
    keys_table,
    metadata_for,
    owners_in,
    read_records,
    write_table,
)

SENT_KINDS = ("attempt", "use", "run", "list", "pin")
"""What others can use. Tombstones and words of trust are about this cache alone."""
_BATCH = 5_000  # rows in a segment
_SLOW_S = 3600.0
"""After so long (a laptop slept) a clean-up may have taken the rows, which had no keys yet."""


@dataclass(slots=True)
class Sent:
    """What a call has sent. `left` are rows that cannot go: a blob of theirs is not here."""

    rows: int = 0
    blobs: int = 0
    bytes: int = 0
    left: int = 0


class Sender:
    """Sends rows of one local cache to one shared one. One thread at a time, but for `send_blobs`:
    whoever waits for one result does not wait until all others are sent."""

    def __init__(self, shared: Shared, log: Log, blobs: Blobs) -> None:
        self._shared, self._log, self._blobs = shared, log, blobs
        self._sent_file = shared.root / "sent"
        self._before_file = shared.root / "before"
        self._weeks: dict[str, str] = {}  # blob -> the week in which it was sent
        self._going: dict[str, Future[None]] = {}  # blobs that are being sent
        self._lock = threading.Lock()  # of these
        self._read = 0  # bytes of the file of what was sent
        self._sent: set[str] = set()
        self._done: set[tuple[str, int]] = set()  # segments of which all rows since then were sent
        self._evicted: set[str] = set()  # rows with tombstones, as far as they were read
        self._clock_us: int | None = None  # of the server, less that of this machine

    def note_before(self, until_us: int | None = None) -> None:
        """Note what is here already, and is not sent by itself: segments, runs, rows of none.

        until_us: no more than what is older; None: all. By names and not by the clock alone, so
        that a clock that is set back holds up nothing; a run is as old as its first row, since its
        id is later than those of all runs before it, whatever the clock says.
        """
        for attempt in range(3):
            self._log.refresh(relist=True)
            before = set(self._log.segments())
            if until_us is not None:
                before = {each for each in before if ulid_ms(each) < until_us // 1000}
            for view in list(self._log.journals().values()):
                records = (each for each in view.records() if not until_us or each["at"] < until_us)
                before.update(map(_owner, records))
            try:
                for name in self._log.segments():
                    before |= owners_in(self._log.root / "log" / (name + ROWS), until_us)
                break
            except FileNotFoundError:  # merged away between listing and reading
                if attempt == 2:
                    raise
        new = self._shared.root / "tmp" / new_ulid()
        write_whole(new, "".join(f"{each}\n" for each in sorted(before)).encode(), sync=True)
        os.replace(new, self._before_file)

    def waiting(self, since_us: int = 0) -> list[Record]:
        """Return the rows that were made since then and not sent: results that count, and what
        tells of runs. Rows of results that were used since then go, too.

        Since then is what is at `since_us` or later, or not among what `note_before` noted; all
        there is where `since_us` is 0.
        """
        self._read_sent()
        self._log.refresh()
        rows: dict[str, Record] = {}
        used: set[str] = set()
        for record in self._unsent(since_us):
            if record["kind"] == "evict":
                self._evicted.add(record.get("row") or "")
            elif _is_for_others(record):
                rows[record["id"]] = record
                if record["kind"] == "use":
                    used.add(record["cached_from"])
        for record in self._log.records_of(used - rows.keys() - self._sent):
            rows[record["id"]] = record
        return [record for row_id, record in rows.items() if row_id not in self._evicted]

    def _unsent(self, since_us: int) -> Iterator[Record]:
        """Yield the rows since then that were not sent; a segment without any is read once."""
        before = self._before()
        for view in list(self._log.journals().values()):
            yield from self._left_of(view.records(), since_us, before)
        for name in self._log.segments():
            if before is None:
                is_old = ulid_ms(name) < since_us // 1000
            else:
                is_old = since_us > 0 and name in before
            if not is_old and (name, since_us) not in self._done:
                records = read_records(self._log.root / "log" / (name + ROWS))
                left = list(self._left_of(records, since_us, before))
                if not any(map(_is_for_others, left)):
                    self._done.add((name, since_us))
                yield from left

    def _left_of(
        self, records: Iterable[Record], since_us: int, before: frozenset[str] | None
    ) -> Iterator[Record]:
        for record in records:
            is_new = record["at"] >= since_us or not (before is None or _owner(record) in before)
            if is_new and record["id"] not in self._sent:
                yield record

    def _before(self) -> frozenset[str] | None:
        """Return what was noted when sharing began; None: nothing was, so the clock decides."""
        try:
            return frozenset(self._before_file.read_text("ascii").split())
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def send(
        self, rows: Sequence[Record], progress: Callable[[Sent, int], None] | None = None
    ) -> Sent:
        """Send rows and all blobs that they name; returns what went.

        Raises:
            RemoteStoreError: the store refuses or does not answer; what was sent counts.
        """
        done = Sent()
        for first in range(0, len(rows), _BATCH):
            batch = rows[first : first + _BATCH]
            whole = [record for record in batch if self._is_whole(record)]
            done.left += len(batch) - len(whole)
            if whole:
                self._send_blobs(whole, done)
                send_segment(self._shared, whole)
                self.note_known([record["id"] for record in whole])
                done.rows += len(whole)
            if progress is not None:
                progress(done, len(rows))
        return done

    def send_blobs(self, records: Sequence[Record]) -> None:
        """Send the blobs of rows that are sent later. Thread-safe.

        Raises:
            RemoteStoreError.
        """
        self._send_blobs(records, Sent())

    def send_files(self) -> bool:
        """Tell the team what some remote files hold that the user has read, in the time of one
        request; say whether there are more, and the store takes them."""
        self._read_sent()
        to_tell, notes = self._shared.to_tell, list[RemoteNote]()
        while to_tell and len(notes) < AT_ONCE:
            _, note = to_tell.popitem()
            if note_id(*note[:3]) not in self._sent:
                notes.append(note)
        if not notes:
            return False
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nbcache-sending") as pool:
            told = list(pool.map(partial(share_note, self._shared), notes))
        for note, is_told in zip(notes, told, strict=True):
            if not is_told:
                to_tell.setdefault(note.name, note)
        return bool(to_tell) and all(told)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold the right to send from this cache; gives False where another process has it."""
        lock = open_lock(self._shared.root / "sending")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(lock)

    # ------------------------------------------------------------------ blobs

    def _is_whole(self, record: Record) -> bool:
        """Whether all results that a row promises are here to be sent."""
        if record["kind"] != "attempt" or record.get("status") != "completed":
            return True
        return all(
            self._blobs.has_tree(Digest(port["blob"]))
            if port["kind"] == "tree"
            else self._blobs.has(Digest(port["blob"]), port["size"])
            for port in record.get("outputs") or ()
            if port.get("blob")
        )

    def _send_blobs(self, rows: Sequence[Record], done: Sent) -> None:
        now = self._server_now()
        week, before = week_of(now), week_before(now)
        wanted: dict[str, str] = {}
        for record in rows:
            for blob, kind, _ in references(record):
                wanted.setdefault(blob, kind)
        for blob in [blob for blob, kind in wanted.items() if kind == "tree"]:
            with contextlib.suppress(BlobMissingError, BlobDamagedError):
                for entry in self._blobs.open_tree(Digest(blob)):
                    if entry.blob is not None:
                        wanted.setdefault(entry.blob, "file")
        missing = [blob for blob in wanted if self._weeks.get(blob) not in (week, before)]

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nbcache-sending") as pool:
            for size in pool.map(lambda blob: self._send_blob(Digest(blob), week), missing):
                if size is not None:
                    done.blobs, done.bytes = done.blobs + 1, done.bytes + size

    def _send_blob(self, digest: Digest, week: str) -> int | None:
        """Send a blob, and return its bytes; None: it is not here, or another thread has sent it.

        One that is not here is text for people, or what a task showed: the result is.
        """
        if not self._blobs.has(digest):
            return None
        with self._lock:
            going = self._going.get(digest)
            mine = self._going[digest] = going or Future()
        if going is not None:
            going.result()
            return None
        try:
            path = self._blobs.path(digest)
            size = path.stat().st_size
            patiently(lambda: self._shared.store.put_file(blob_key(week, digest), path))
            self._weeks[digest] = week
            self._shared.fetching.note_whole(digest)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(None)
            return size
        finally:
            with self._lock:
                del self._going[digest]

    def _server_now(self) -> int:
        """Return the server's time, asked for once: weeks are those of its clock."""
        if self._clock_us is None:
            self._clock_us = self._shared.store.server_time() - time.time_ns() // 1000
        return time.time_ns() // 1000 + self._clock_us

    # ------------------------------------------------------------------ what was sent

    def _read_sent(self) -> None:
        try:
            with open(self._sent_file, "rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return
        data = data[: data.rfind(b"\n") + 1]  # a killed process may have cut its last line
        self._read += len(data)
        self._sent.update(data.decode("ascii", "replace").split())

    def note_known(self, row_ids: Sequence[str]) -> None:
        """Note what the shared cache has: it was sent, or came from there."""
        self._sent.update(row_ids)
        self._shared.note_sent(row_ids)


def _owner(record: Record) -> str:
    """Return the run of a row, or its own id where it is of none."""
    return str(record.get("run") or record["id"])


def _is_for_others(record: Record) -> bool:
    """Whether a row is sent. A pinned process is a name, which others use for something else."""
    if record["kind"] == "pin":
        return not str(record.get("target")).startswith("process:")
    return record["kind"] in SENT_KINDS


def send_segment(shared: Shared, rows: Sequence[Record]) -> None:
    """Write a segment pair, send it, and mirror it. The keys go last: they make it exist."""
    name = segment_name(
        max(record["at"] for record in rows) // 1000, sorted(record["id"] for record in rows)
    )
    rows = in_order(rows)
    table = table_of(rows)
    meta = {**metadata_for(table), "sent": True}
    keys = keys_table(table)
    index = build(zip(rows, range(len(rows)), strict=True), meta)
    marker = shared.root / "tmp" / new_ulid()
    started = time.time()
    try:
        for each, suffix, said in (
            (table, ROWS, {"format": FORMAT, "rows": len(rows)}),
            (keys, KEYS, meta),
        ):
            path = marker.with_name(marker.name + suffix)
            write_table(path, each, said)
            patiently(
                lambda path=path, suffix=suffix: shared.store.put_file(  # type: ignore[misc]
                    LOG + name + suffix, path
                )
            )
        if time.time() - started > _SLOW_S:
            rows_file = marker.with_name(marker.name + ROWS)
            patiently(lambda: shared.store.put_file(LOG + name + ROWS, rows_file))
    finally:
        for suffix in (ROWS, KEYS):
            remove(marker.with_name(marker.name + suffix))
    shared.mirror.add_segment(name, table, keys, meta, index)
