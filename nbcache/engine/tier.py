"""A shared cache at work behind a local one: it is given what runs here make.

A thread of its own copies the rows of results that came from there into the local log, and sends
what was made here; a run never waits for it and never fails by it. Which store it is, `sharing`
says, and how it came there, `joining`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from nbcache.engine.running.claiming import SharedClaims
from nbcache.engine.running.loop import call_at_exit
from nbcache.engine.sharing import Sharing
from nbcache.errors import (
    AccessDeniedError,
    RemoteStoreError,
    RunError,
    StoreError,
    StoreGoneError,
    command,
)
from nbcache.model.digest import Digest
from nbcache.store.cache import Cache
from nbcache.store.journal import encode_record
from nbcache.store.references import references
from nbcache.store.remote.layout import HEADER, RUNS
from nbcache.store.remote.opening import check_outside, open_store
from nbcache.store.remote.sending import Sender, Sent
from nbcache.store.remote.shared import Shared

PERIOD_S = 120.0  # between two sendings while a run is going
AGAIN_S = 60.0  # after which a store that did not answer is asked again
EXIT_S = 20.0  # that the end of a process waits for; what is left goes next time


def no_claims(url: str) -> str:
    """Return what is told where a store cannot say who was first."""
    return f"{url} has no claims: two may compute the same at once"


def _check_may_make(url: str, is_new: bool) -> None:
    """See that a cache may be made at a place: not in another one, nor where one has vanished, as
    it has where nothing is mounted any more."""
    if not is_new:
        gone = StoreGoneError(url, "read", HEADER, "the cache that was there is gone")
        gone.way_out = (
            f"Mount or restore what it lies on; for a new one: `{command('share --off')}`, then "
            f"`{command(f'share {url}')}`."
        )
        raise gone
    check_outside(url)


class Tier:
    """A shared cache at work behind a local one."""

    def __init__(
        self, cache: Cache, shared: Shared, sharing: Sharing, tell: Callable[[str], None]
    ) -> None:
        self.cache, self.shared, self.sharing = cache, shared, sharing
        self.contact = shared.contact
        self.sender = Sender(shared, cache.log, cache.blobs)
        self._tell = tell
        self._turn = threading.Condition()
        self._asked = self._answered = 0  # how often to send was asked for, and has been done
        self._closed = False
        self._going: set[str] = set()  # runs
        self._beating: set[str] = set()  # those of them of which the others know that they go on
        self._lock = threading.Lock()  # of the sender, which one thread uses at a time
        self._thread: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        cache: Cache,
        sharing: Sharing,
        tell: Callable[[str], None],
    ) -> Tier:
        """Open the store and mirror its keys; a cache is made there only where sharing is new.

        Raises:
            RemoteStoreError, CacheFormatError.
        """
        store = open_store(sharing.url)
        try:
            shared = Shared.open(
                store,
                cache.root,
                cache.blobs,
                read_only=sharing.read_only,
                trouble=tell,
                before_making=lambda: _check_may_make(sharing.url, sharing.is_new),
            )
        except BaseException:
            store.close()
            raise
        cache.share(shared)
        shared.mirror.refresh()
        tier = _open[cache] = cls(cache, shared, sharing, tell)
        return tier

    @property
    def is_at_work(self) -> bool:
        """Whether a run is going that uses it."""
        return bool(self._going)

    def run_began(self, run: str) -> None:
        """A run begins: what others made since is seen, and what it makes is sent while it goes."""
        self.shared.mirror.refresh(older_than_s=AGAIN_S if not self.contact.is_reachable else 1.0)
        self.contact.try_again()
        self._going.add(run)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="nbcache-write-back", daemon=True
            )
            self._thread.start()
            call_at_exit(self.finish)

    def run_ended(self, run: str) -> None:
        """Send what a run made, at once; nobody waits."""
        self._going.discard(run)
        self.send_soon()

    def send_soon(self) -> None:
        """Send what was not sent yet: in the background, if somebody is at it there."""
        if self._thread is None:
            self.settle()
        else:
            with self._turn:
                self._asked += 1
                self._turn.notify_all()

    def finish(self, timeout_s: float = EXIT_S) -> bool:
        """Wait until all is sent; False: it takes longer, and the next process sends the rest."""
        with self._turn:
            return self._turn.wait_for(lambda: self._closed or not self._is_asked(), timeout_s)

    def close(self, timeout_s: float = EXIT_S) -> None:
        """End the thread after what it is doing, for which this waits so long; forget the store."""
        until = time.monotonic() + timeout_s
        self.finish(timeout_s)
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if self._thread is not None:
            self._thread.join(max(until - time.monotonic(), 0.0))
        if self.cache.shared is self.shared:
            self.cache.share(None)
            _open.pop(self.cache, None)

    def _is_asked(self) -> bool:
        return self._answered < self._asked

    def _work(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._closed or self._is_asked(), PERIOD_S)
                if self._closed:
                    return
                asked, is_due = self._asked, self._is_asked() or bool(self._going)
            if is_due:
                with self._bearing_trouble():
                    self.shared.mirror.refresh(older_than_s=AGAIN_S)
                self.settle()
            with self._turn:
                self._answered = asked
                self._turn.notify_all()
            if is_due:
                self._send_files(time.monotonic() + PERIOD_S)

    def settle(self) -> None:
        """Adopt what hits used and send what was made; trouble is told of, and tried again."""
        with self._lock, self._bearing_trouble():
            self.adopt()
            self.contact.try_again()
            if self.contact.read_only is None:
                with self.sender.alone() as mine:
                    if mine and self._send_waiting() and not self._going:
                        # Who came meanwhile was not let in: what he has goes with it, too. Not
                        # again and again: each time is a segment, while a run makes more.
                        self._send_waiting()
                self._beat()
                self.sender.send_files()

    def _send_files(self, until: float) -> None:
        """Tell what remote files hold, for which nobody waits, until there is other work."""
        has_more = True
        while has_more and not (self._closed or self._is_asked()) and time.monotonic() < until:
            has_more = False
            with self._lock, self._bearing_trouble(), contextlib.suppress(RuntimeError):
                has_more = self.sender.send_files()  # RuntimeError: the process ends

    def _send_waiting(self) -> bool:
        """Send what waits; say whether anything did."""
        if not self.sender.send(self.sender.waiting(self.sharing.since)).rows:
            return False
        self.contact.note_taken()
        return True

    def send_pins(self) -> None:
        """Let the others know what is pinned, now, whatever else waits to be sent."""
        with self._lock, self._bearing_trouble():
            waiting = self.sender.waiting(self.sharing.since)
            self.sender.send([row for row in waiting if row["kind"] == "pin"])

    @contextlib.contextmanager
    def _bearing_trouble(self) -> Iterator[None]:
        """Tell of what goes wrong at the store, and let nobody fail by it."""
        try:
            yield
        except AccessDeniedError as error:
            self.contact.note_denied(error)
        except Exception as error:  # whatever it is: what waits is sent later, so nothing is lost
            self.contact.tell(error)

    def _beat(self) -> None:
        """Say of runs that last longer than a moment that they go on: what they use then stays."""
        store, going = self.shared.store, set(self._going)
        with contextlib.suppress(RemoteStoreError):  # what runs use has a day all the same
            for run in going:
                store.put(f"{RUNS}{run}", b"{}")
                self._beating.add(run)
            ended, self._beating = self._beating - going, self._beating & going
            store.delete([f"{RUNS}{run}" for run in ended])

    def claims(self, run: str, user: str) -> SharedClaims | None:
        """Return who claims tasks for a run; None where claims are not possible."""
        if self.contact.read_only is not None or self.sharing.claim == "never":
            return None
        if not self.shared.store.atomic_create:
            self._tell(no_claims(self.shared.store.url))
            return None
        return SharedClaims(
            self.shared,
            self.cache.log,
            self._publish,
            policy=self.sharing.claim,
            run=run,
            user=user,
        )

    def _publish(self, row_id: str) -> bytes:
        """Send the blobs of a row, and return it: as another may take it.

        Beside what goes in the background: somebody waits for this one.
        """
        self.cache.log.refresh()
        (record,) = self.cache.log.records_of([row_id])
        self.sender.send_blobs([record])
        return encode_record(record)

    def adopt(self) -> None:
        """Copy the rows that hits used into the local log, and note that they need not be sent."""
        self.sender.note_known(self.shared.adopt_into(self.cache.log))

    def push(self, run: str | None, progress: Callable[[Sent, int], None] | None = None) -> Sent:
        """Send all that this cache holds and the shared one lacks, or what a run made and used.

        Raises:
            RemoteStoreError: the store refuses, or does not answer.
        """
        if self.contact.read_only is not None:
            raise AccessDeniedError(self.shared.store.url, "push", "", self.contact.read_only)
        with self._lock, self.sender.alone() as mine:
            if not mine:
                raise StoreError("another process is sending from this cache: try again later")
            rows = self.sender.waiting()
            if run is not None:
                used = {row["cached_from"] for row in rows if row["kind"] == "use"}
                rows = [row for row in rows if row["run"] == run or row["id"] in used]
            return self.sender.send(rows, progress)

    def pull(self, run: str | None) -> Pulled:
        """Fetch what a run made and used, or all there is, so that it is here without the network.

        run: its id, whole, or its name.

        Raises:
            RunError: the shared cache knows no such run. RemoteStoreError: it does not answer.
        """
        shared = self.shared
        shared.mirror.refresh()
        records = shared.history()
        if run is not None:
            ids = {row["run"] for row in records if run in (row["run"], row.get("name"))}
            if not ids:
                raise RunError(f"the shared cache {shared.store.url} has no run {run}")
            own = [row for row in records if row["run"] in ids]
            used = {row["cached_from"] for row in own if row["kind"] == "use"}
            records = [*own, *(row for row in records if row["id"] in used)]
        results = {
            row["id"]: row
            for row in records
            if row["kind"] == "attempt" and row.get("status") == "completed"
        }
        trees: set[Digest] = set()
        files: dict[Digest, int] = {}
        for row in results.values():
            if shared.find(row["hash"]) is not None:
                for blob, kind, size in references(row.get("outputs")):
                    if kind == "tree":
                        trees.add(Digest(blob))
                    else:
                        files[Digest(blob)] = size or 0
        blobs = self.cache.blobs
        manifests = [blob for blob in trees if not blobs.has(blob)]
        gone = shared.fetching.bring_all(manifests)
        for tree in trees.difference(gone):
            files.update({each.blob: each.size for each in blobs.open_tree(tree) if each.blob})
        missing = [blob for blob in files if not blobs.has(blob)]
        with shared.fetching.shown(sum(files[blob] for blob in missing)):
            gone += shared.fetching.bring_all(missing)
        missing += manifests
        for row_id in results:
            shared.note_used(row_id)
        with self._lock:
            self.adopt()
        return Pulled(len(results), len(missing) - len(gone), len(gone))


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was fetched. `gone` are blobs that the shared cache names and does not have."""

    results: int
    blobs: int
    gone: int


def open_behind(cache: Cache) -> Tier | None:
    """Return the tier that is at work behind a cache in this process, if there is one."""
    known = _open.get(cache)
    return known if known is not None and known.shared is cache.shared else None


_open: WeakKeyDictionary[Cache, Tier] = WeakKeyDictionary()
