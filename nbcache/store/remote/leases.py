"""Claims on a shared store: the right to compute a hash, held for as long as a heartbeat is seen.

    claims/<ab>/<hash>/<epoch>         who may compute it; created, never changed
    claims/<ab>/<hash>/<epoch>.done    how that ended: with a row, or without
    runs/<name>                        a heartbeat: written again and again while its holder lives

Needs of a store only that a create has one winner. Nobody is asked to give a claim back: whoever
waits, and sees that the owner's heartbeat has stopped, creates the next epoch. Times are those of
the server, of objects in one listing; no clock of a client counts. A claim is advice: a hash that
is computed twice all the same, since a network was cut, gives one more row and never a wrong one.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from nbcache.errors import ObjectMissingError, RemoteStoreError, StoreUnavailableError
from nbcache.model.digest import Digest
from nbcache.store.files import new_ulid
from nbcache.store.remote.layout import CLAIMS, RUNS
from nbcache.store.remote.protocol import Store, check_key, create_owned, parsed

BEAT_S = 15.0
STALE_S = 60.0
"""Seconds without a heartbeat after which a claim may be taken over."""
_WIDTH = 6  # digits of an epoch, so that they sort


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who holds a claim, for people and for whoever waits."""

    heartbeat: str  # names the object below runs/
    run: str
    process: str
    host: str
    user: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The claim is ours. Look at the log once more, compute, and end it with `Leases.end`."""

    hash: Digest
    epoch: int


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else is computing this, and lives: ask again later."""

    hash: Digest
    epoch: int
    owner: Owner


@dataclass(frozen=True, slots=True)
class Done:
    """Somebody else has computed this: the row, as it was written by `Leases.end`.

    Where it is of no use (evicted, its blobs are gone), claim again with `after=epoch`.
    """

    hash: Digest
    epoch: int
    row: bytes


class Heartbeat:
    """Says that its process lives, on a thread of its own. Belongs where the work is done.

    says: what others may show while they wait (progress). goes_on: whether the work does; no beat
    while it does not. Both are called on that thread.
    """

    def __init__(
        self,
        store: Store,
        name: str | None = None,
        *,
        beat_s: float = BEAT_S,
        says: Callable[[], dict[str, Any]] = dict,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name or new_ulid()
        self.beat_s = beat_s
        self._store, self._says, self._goes_on = store, says, goes_on
        self._key = check_key(RUNS + self.name)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write the first beat, then go on until `stop`.

        Raises:
            RemoteStoreError: the first beat could not be written; nothing goes on.
        """
        self.beat()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nbcache-beat", daemon=True)
            self._thread.start()

    def beat(self) -> None:
        """Write a beat now."""
        self._store.put(self._key, json.dumps(self._says()).encode("utf-8"))

    def stop(self) -> None:
        """End: whatever is still claimed may be taken over at once."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(RemoteStoreError):  # it grows stale by itself
            self._store.delete([self._key])

    def _run(self) -> None:
        while not self._stop.wait(self.beat_s):
            if self._goes_on():
                with contextlib.suppress(RemoteStoreError):  # the next one may come through
                    self.beat()


class Leases:
    """The claims of one process on one store. Thread-safe. `heartbeat` has to be started."""

    def __init__(
        self,
        store: Store,
        heartbeat: Heartbeat,
        *,
        run: str = "",
        host: str = "",
        user: str = "",
        stale_s: float = STALE_S,
    ) -> None:
        self._store, self._heartbeat, self._stale_s = store, heartbeat, stale_s
        self._run, self._host, self._user = run, host, user
        self._lock = threading.Lock()
        self._ages: dict[str, float] = {}
        self._looked = float("-inf")

    def claim(self, hash: Digest, process: str = "", *, after: int = 0) -> Lease | Held | Done:
        """Claim a hash: one request where it is free, three to five where it is not.

        Where the store does not answer that is a lease, too: the work goes on all the same.

        after: the last epoch whose end is of no use.

        Raises:
            AccessDeniedError, StoreGoneError: claims are not possible here.
        """
        owner = Owner(
            heartbeat=self._heartbeat.name,
            run=self._run,
            process=process,
            host=self._host,
            user=self._user,
        )
        epoch = after + 1
        while True:
            body = json.dumps({"nonce": new_ulid(), **asdict(owner)}).encode("utf-8")
            try:
                theirs = create_owned(self._store, _key(hash, epoch), body)
            except StoreUnavailableError:
                return Lease(hash, epoch)
            if theirs is None:
                return Lease(hash, epoch)
            held = Held(hash, epoch, _owner(theirs))
            try:
                found = self.look(held)
            except StoreUnavailableError:
                return held
            if found is not None:
                return found
            epoch += 1  # it ended without a row, or its owner is dead

    def look(self, held: Held) -> Held | Done | None:
        """Ask again what became of another's claim; None: it is worth claiming again.

        One request, and two more for all that is waited for, every half a beat.

        Raises:
            StoreUnavailableError: nothing is known; it may be asked again.
        """
        end = self._end_of(held.hash, held.epoch)
        if end is None and self._is_stale(held.owner.heartbeat):
            # An owner that had come to its end between these two looks has no heartbeat either.
            end = self._end_of(held.hash, held.epoch) or b""
        if end:
            return Done(held.hash, held.epoch, end)
        return None if end == b"" else held

    def progress(self, held: Held) -> dict[str, Any]:
        """Return what the owner says about itself; {} where it says nothing."""
        try:
            said = parsed(self._store.get(RUNS + held.owner.heartbeat))
        except (RemoteStoreError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def end(self, lease: Lease, row: bytes = b"") -> None:
        """Say that a claim has come to its end: with a row for whoever waits, or without.

        Raises:
            RemoteStoreError: it cannot be told; whoever waits sees our heartbeat end.
        """
        self._store.put(_key(lease.hash, lease.epoch) + ".done", row)

    # ------------------------------------------------------------------ inside

    def _end_of(self, hash: Digest, epoch: int) -> bytes | None:
        """Return how an epoch ended: a row, b"" (without one), or None (it has not)."""
        try:
            return self._store.get(_key(hash, epoch) + ".done")
        except ObjectMissingError:
            return None

    def _is_stale(self, heartbeat: str) -> bool:
        """Whether a holder has not been heard of for too long, by the server's clock."""
        if heartbeat == self._heartbeat.name:
            return False
        with self._lock:
            old = time.monotonic() - self._looked > self._heartbeat.beat_s / 2
            # Whoever claims has written a beat before: one that is not known may be a new one.
            if old or heartbeat not in self._ages:
                self._heartbeat.beat()  # whose time is the server's time now
                self._ages = _ages(self._store, self._heartbeat.name)
                self._looked = time.monotonic()
            return self._ages.get(heartbeat, float("inf")) > self._stale_s


def _ages(store: Store, own: str) -> dict[str, float]:
    """Return how many seconds before our own beat each heartbeat was written."""
    found = {each.key.removeprefix(RUNS): each.modified_us for each in store.list(RUNS)}
    now = found.get(own)
    if now is None:
        raise StoreUnavailableError(store.url, "list", RUNS, "our own heartbeat is not there")
    return {name: (now - modified) / 1e6 for name, modified in found.items()}


def _key(hash: Digest, epoch: int) -> str:
    name = hash.rpartition(":")[2]
    return f"{CLAIMS}{name[:2]}/{name}/{epoch:0{_WIDTH}}"


def _owner(body: bytes) -> Owner:
    """Read whose a claim is; what cannot be read belongs to nobody who lives."""
    try:
        said = parsed(body)
        names = ("heartbeat", "run", "process", "host", "user")
        return Owner(**{name: str(said[name]) for name in names})
    except (ValueError, KeyError, TypeError):
        return Owner(heartbeat="", run="", process="", host="", user="")
