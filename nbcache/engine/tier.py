"""The shared cache of a session: opened when first needed, and given what runs here make.

Which store is shared stands in the cache's folder (`shared.json`), so that the shell and a fresh
kernel know it, too. A thread of its own copies the rows of results that came from there into the
local log, and sends what was made here; a run never waits for it and never fails by it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

from nbcache.engine.running.claiming import SharedClaims
from nbcache.errors import (
    AccessDeniedError,
    CacheFormatError,
    RemoteStoreError,
    RunError,
    StoreError,
    StoreGoneError,
    StoreUnavailableError,
    UsageError,
    command,
)
from nbcache.model.digest import Digest
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid, write_whole
from nbcache.store.journal import encode_record
from nbcache.store.references import references
from nbcache.store.remote.header import read_header
from nbcache.store.remote.layout import HEADER, RUNS
from nbcache.store.remote.opening import cache_around, check_outside, open_store
from nbcache.store.remote.probing import creates_once
from nbcache.store.remote.protocol import Store
from nbcache.store.remote.sending import Sender, Sent
from nbcache.store.remote.shared import Shared
from nbcache.store.signing import make_key

PERIOD_S = 120.0  # between two sendings while a run is going
AGAIN_S = 60.0  # after which a store that did not answer is asked again
EXIT_S = 20.0  # that the end of a process waits for; what is left goes next time
CLAIMS = ("auto", "always", "never")
NOT_NOW = (StoreUnavailableError, AccessDeniedError)
"""What a store may say today and not tomorrow: it is out of reach, or credentials are to come."""
_FILE = "shared.json"


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which store is behind a cache. `since` (microseconds): when it was put there; what was made
    before is not sent by itself, see `Sender.waiting`.

    claim: which tasks are claimed there before they start: auto (those that take long, or of which
    nobody knows), always, never. is_new: it has not answered since it was put there, so whoever
    opens it first may make the cache.
    """

    url: str
    read_only: bool = False
    since: int = 0
    claim: str = "auto"
    is_new: bool = False


def sharing_of(root: Path) -> Sharing | None:
    """Return what a cache is shared with; None where it is not.

    Raises:
        StoreError: the note is damaged.
    """
    try:
        known = json.loads((root / _FILE).read_bytes())
        return Sharing(
            str(known["url"]),
            bool(known["read_only"]),
            int(known["since"]),
            str(known.get("claim", "auto")),
            bool(known.get("is_new", False)),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root / _FILE} cannot be read: {error}.\n  Share again: `{command('share URL')}`, "
            f"or no more: `{command('share --off')}`."
        ) from error


def share(
    cache: Cache,
    url: str,
    *,
    read_only: bool,
    claim: str = "auto",
    tell: Callable[[str], None],
) -> Tier | None:
    """Put a shared cache behind this one from now on, also for others who open it.

    None: it does not answer now, lets nobody in or is damaged, which is told, and is behind it
    already, as is asked for, or, but for the last, from its first answer on. So a notebook that
    begins with this runs without the network and with old credentials, too.

    Raises:
        RemoteStoreError, CacheFormatError: it cannot be opened; nothing is changed.
        UsageError: there is no such way to claim.
    """
    _check_claim(claim)
    if "://" not in url:  # who opens the cache next may stand in another folder
        url = os.path.abspath(os.path.expanduser(url))
    before = sharing_of(cache.root)
    is_other = before is None or before.url != url
    since = time.time_ns() // 1000 if before is None or is_other else before.since
    is_new = is_other or (before is not None and before.is_new)
    asked = Sharing(url, read_only, since, claim, is_new)
    try:
        tier = Tier.open(cache, asked, tell)
    except (RemoteStoreError, CacheFormatError) as error:
        # "never" stands there also where "auto", which need not be said, found no claims.
        same = [asked, replace(asked, claim="never")] if claim == "auto" else [asked]
        if is_new and isinstance(error, NOT_NOW):
            _note(cache, asked)
        elif before not in same or not cache.is_trusted_to_share:
            raise
        tell(f"shared cache: {error}")
        return None
    try:
        may_claim = not read_only and claim != "never"
        if may_claim and not _has_claimed(before, url) and not _takes_claims(tier.shared.store):
            tier.sharing = replace(tier.sharing, claim="never")
            tell(_no_claims(url))
        if is_new:
            # What was made since then, while the store did not answer, was made for it.
            tier.sender.note_before(None if is_other else since)
        tier.sharing = replace(tier.sharing, is_new=False)
        _note(cache, tier.sharing)
    except BaseException:  # a full disk
        tier.close()
        raise
    if not read_only:
        _sign_from_now_on(tell)
    if is_new:
        _tell_nested(url, tell)
    return tier


def _note(cache: Cache, sharing: Sharing) -> None:
    """Have the cache's folder say what it is shared with."""
    new = cache.tmp / new_ulid()
    write_whole(new, json.dumps(asdict(sharing)).encode() + b"\n", sync=True)
    os.replace(new, cache.root / _FILE)


def _has_claimed(before: Sharing | None, url: str) -> bool:
    """Whether claims on this store were made before, so that it need not be tried again."""
    return (
        before is not None
        and before.url == url
        and not before.is_new
        and not before.read_only
        and before.claim != "never"
    )


def _takes_claims(store: Store) -> bool:
    try:
        return creates_once(store)
    except (AccessDeniedError, StoreGoneError, StoreUnavailableError):  # runs will see
        return True
    except RemoteStoreError:  # it does not know of such creates
        return False


def _no_claims(url: str) -> str:
    return f"{url} has no claims: two may compute the same at once"


def _tell_nested(url: str, tell: Callable[[str], None]) -> None:
    """Say what it means that a cache lies in another: whoever made it could not read that one."""
    with contextlib.suppress(RemoteStoreError):
        above = cache_around(url)
        if above is not None:
            tell(
                f"{url} lies inside the cache at {above}: who cleans or deletes that one may take "
                f"what lies here, and what is gone runs again. Better use that one "
                f"(`{command(f'share {above}')}`), or a place beside it."
            )


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


def check_place(url: str, *, read_only: bool, claim: str) -> None:
    """See that there is a shared cache at a URL, or make it.

    Raises:
        RemoteStoreError, CacheFormatError: there is none, and none can be made.
        UsageError: there is no such way to claim.
    """
    _check_claim(claim)
    with contextlib.closing(open_store(url)) as store:
        reason = "it is shared read-only" if read_only else None
        read_header(store, reason, lambda: check_outside(url))


def _check_claim(claim: str) -> None:
    if claim not in CLAIMS:
        raise UsageError(f"--claim is {', '.join(CLAIMS)}, not {claim!r}")


def _sign_from_now_on(tell: Callable[[str], None]) -> None:
    """Make this user a key: what goes unsigned nobody else may decode, if it runs code."""
    try:
        make_key()
    except StoreError as error:
        tell(f"what is sent goes unsigned, so nobody else uses the pickles in it: {error}")


def unshare(cache: Cache) -> None:
    """Share no more; what came from there stays, and so does what was sent."""
    cache.share(None)
    (cache.root / _FILE).unlink(missing_ok=True)


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
            _at_exit(self.finish)

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
            self._tell(_no_claims(self.shared.store.url))
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


def _at_exit(call: Callable[[], object]) -> None:
    """Call something before `concurrent.futures` lets no more work begin; atexit comes after."""
    getattr(threading, "_register_atexit", atexit.register)(call)


def connect(cache: Cache, tell: Callable[[str], None]) -> Tier | None:
    """Return the shared cache that stands behind a cache, opened, if there is one that answers."""
    known = _open.get(cache)
    if known is not None and known.shared is cache.shared:
        return known
    with contextlib.suppress(FileNotFoundError):
        try:
            sharing = sharing_of(cache.root)
            if sharing is not None and not cache.is_trusted_to_share:
                _tell_foreign(cache, sharing, tell)
            elif sharing is not None and sharing.is_new:
                return share(
                    cache, sharing.url, read_only=sharing.read_only, claim=sharing.claim, tell=tell
                )
            elif sharing is not None:
                return Tier.open(cache, sharing, tell)
        except (RemoteStoreError, CacheFormatError, StoreError) as error:
            tell(f"shared cache: {error}")
    return None


_open: WeakKeyDictionary[Cache, Tier] = WeakKeyDictionary()
_told: WeakSet[Cache] = WeakSet()


def _tell_foreign(cache: Cache, sharing: Sharing, tell: Callable[[str], None]) -> None:
    """Say once that whoever made a cache does not decide where this user's results are sent."""
    if cache not in _told:
        _told.add(cache)
        tell(
            f"{cache.root} is not your cache, so nothing is shared with {sharing.url}, which it "
            f"names. If you want that: {command(f'share {sharing.url}')}"
        )
