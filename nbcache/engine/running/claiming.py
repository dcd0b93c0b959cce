"""Claims on the shared cache for the tasks of one run that are worth it.

A claim costs two or three requests, so only tasks that take long, or of which nobody knows, are
claimed. Who does not get one waits, says for whom, and takes the row that the other leaves. Nothing
here makes a task fail: without an answer of the store it runs.
"""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from nbcache.errors import AccessDeniedError, StoreError, StoreUnavailableError
from nbcache.model.digest import Digest
from nbcache.model.view import PlaceProgress, WaitView
from nbcache.store.claims import Claim
from nbcache.store.log import Log
from nbcache.store.remote import leases
from nbcache.store.remote.beating import BeatingProcess
from nbcache.store.remote.leases import Done, Heartbeat, Held, Lease, Leases
from nbcache.store.remote.protocol import parsed
from nbcache.store.remote.shared import Shared

WORTH_S = 10.0  # a task that takes longer is claimed
POLL_S = 2.0


class Right:
    """The right to compute a hash: on this machine, and where a team shares, among all."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._shared: tuple[SharedClaims, Lease] | None = None

    def extend(self, claims: SharedClaims, lease: Lease) -> None:
        """Note that the hash is claimed on the shared cache, too."""
        self._shared = claims, lease

    def release(self, row: str | None = None) -> None:
        """Give it up; `row` is what came of it."""
        self._claim.release()
        if self._shared is not None:
            claims, lease = self._shared
            claims.end(lease, row)


class Waiting(Protocol):
    """A run that shows for whom it waits."""

    def note(self, text: str) -> None: ...
    def wait_for_another(self, key: str, wait: WaitView | None) -> None: ...


class SharedClaims:
    """The claims of one run. `publish` sends the blobs of a row, by its id, and returns the row."""

    def __init__(
        self,
        shared: Shared,
        log: Log,
        publish: Callable[[str], bytes],
        *,
        policy: str,
        run: str,
        user: str,
    ) -> None:
        self._shared, self._log, self._publish = shared, log, publish
        self._contact = shared.contact
        self._policy, self._run, self._user = policy, run, user
        self._leases: Leases | None = None
        self._beating: BeatingProcess | None = None
        self._said: dict[str, Any] = {}
        self._heard: dict[str, tuple[float, dict[str, Any]]] = {}  # by heartbeat: when, and what
        self._useless: dict[Digest, int] = {}  # the last epoch whose end was of no use
        self._kept: dict[Digest, Lease] = {}  # ours still: their end could not be told
        self._lock = threading.Lock()
        # One after the other: the end of the last claim comes before that of the heartbeat.
        self._ends = ThreadPoolExecutor(1, thread_name_prefix="nbcache-claims")

    def wants(self, mean_s: float | None) -> bool:
        """Whether a task is claimed, of which the like took so many seconds (None: not known)."""
        if self._policy == "never" or not self._contact.is_reachable or self._contact.read_only:
            return False
        return self._policy == "always" or mean_s is None or mean_s > WORTH_S

    async def take(
        self, hash: Digest, process: str, *, found: Callable[[], bool]
    ) -> Lease | Held | None:
        """Claim a hash; `Held`: somebody computes it, whom `wait` waits for.

        found: whether the result is there; asked again once more is known. None: it is, or the
        store gives no claims.
        """
        try:
            while True:
                after = self._useless.get(hash, 0)
                answer: Lease | Held | Done | None = self._kept.pop(hash, None)
                if answer is None:
                    answer = await asyncio.to_thread(self._claim, hash, process, after)
                if isinstance(answer, Held):
                    return answer
                if isinstance(answer, Done):
                    self._take_in(answer)
                else:
                    await asyncio.to_thread(self._shared.mirror.refresh)
                if found():
                    if isinstance(answer, Lease):
                        self.end(answer)
                    return None
                if isinstance(answer, Lease):
                    return answer
        except (StoreError, OSError) as error:  # OSError: there is no process to beat
            self._give_up(error)
            return None

    async def wait(
        self,
        held: Held,
        process: str,
        is_over: Callable[[], bool],
        run: Waiting,
        crowd: Callable[[], float],
    ) -> None:
        """Wait until another's claim has ended or may be taken over, or nobody waits any more.

        Nor does it wait where nothing can be heard: the store is gone, refuses, or has not answered
        for as long as an owner may be silent.

        run: shows for whom. crowd: how many times longer than usual it is until the next look.
        """
        owner = held.owner
        key, who = f"{process} {owner.heartbeat}", f"{owner.user} on {owner.host}"
        answered = time.monotonic()
        try:
            while not is_over() and held.hash not in self._kept:
                said = await asyncio.to_thread(self._heard_of, held)
                text = f"{process}: {who} computes the same, in run {owner.run}; waiting"
                run.wait_for_another(key, WaitView(text, progress_words(said, process)))
                await asyncio.sleep(POLL_S * crowd())
                try:
                    answer = await asyncio.to_thread(self._opened().look, held)
                except StoreUnavailableError as error:
                    self._contact.tell(error)
                    if time.monotonic() - answered < leases.STALE_S:
                        continue
                    return
                except StoreError as error:
                    self._give_up(error)
                    return
                answered = time.monotonic()
                if isinstance(answer, Held):
                    continue
                became = "gave it up, taken over" if answer is None else "it is there"
                run.note(f"{process}: {who} computed the same, in run {owner.run}: {became}")
                if answer is not None:
                    self._take_in(answer)
                return
        finally:
            run.wait_for_another(key, None)

    def say(self, places: Sequence[PlaceProgress], left_s: float | None) -> None:
        """Tell those who wait for this run how far it is; goes out with the next beat."""
        said = progress_of(places, left_s)
        if said != self._said:
            self._said = said
            if self._beating is not None:
                self._beating.say(said)

    def end(self, lease: Lease, row: str | None = None) -> None:
        """Tell how a claim ended, in the background: with a row, once what it names is sent."""
        self._ends.submit(self._end, lease, row)

    def close(self) -> None:
        """Stop the heartbeat when all ends are told; nobody waits."""
        self._ends.submit(self._stop)
        self._ends.shutdown(wait=False)

    # ------------------------------------------------------------------ on other threads

    def _claim(self, hash: Digest, process: str, after: int) -> Lease | Held | Done:
        return self._opened().claim(hash, process, after=after)

    def _opened(self) -> Leases:
        """Return the claims, with one heartbeat behind all of them."""
        with self._lock:
            if self._leases is None:
                store = self._shared.store
                heartbeat = Heartbeat(store, beat_s=leases.BEAT_S)
                heartbeat.beat()
                beating = BeatingProcess(store.url, heartbeat.name, beat_s=leases.BEAT_S)
                beating.start()
                self._beating = beating
                beating.say(self._said)  # what was said before anybody could hear it
                self._leases = Leases(
                    store,
                    heartbeat,
                    run=self._run,
                    host=socket.gethostname(),
                    user=self._user,
                    stale_s=leases.STALE_S,
                )
            return self._leases

    def _heard_of(self, held: Held) -> dict[str, Any]:
        """Return what an owner says of its progress, asked for at each of its beats."""
        name, now = held.owner.heartbeat, time.monotonic()
        asked, said = self._heard.get(name, (-math.inf, {}))
        if now - asked >= leases.BEAT_S:
            said = self._opened().progress(held)
            self._heard[name] = now, said
        return said

    def _take_in(self, done: Done) -> None:
        """Take the row that another has left, if its word is taken."""
        self._useless[done.hash] = done.epoch  # where it is: else nobody asks again
        try:
            record = parsed(done.row)
        except ValueError:
            return  # not written by nbcache
        known = self._shared.mirror.judged(record)
        if known is not None and known["hash"] == done.hash:
            self._shared.fetching.note_promised(known)
            try:
                self._log.refresh()
                if not self._log.records_of([known["id"]]):  # ours, or with the id of one
                    self._log.adopt([known])
            except StoreError as error:  # the disk is full: then it is as if it were not there
                self._contact.tell(error)

    def _end(self, lease: Lease, row: str | None) -> None:
        try:
            self._opened().end(lease, b"" if row is None else self._publish(row))
        except Exception as error:  # whoever waits sees that the heartbeat has stopped
            self._kept[lease.hash] = lease
            self._tell(error)

    def _give_up(self, error: BaseException) -> None:
        """Claim nothing more for the rest of this run: each try takes its time."""
        self._policy = "never"
        self._tell(error)

    def _tell(self, error: BaseException) -> None:
        if isinstance(error, AccessDeniedError):
            self._contact.note_denied(error)
        else:
            self._contact.tell(error)

    def _stop(self) -> None:
        if self._beating is not None:
            self._beating.stop()


_STATES = ("pending", "ready", "running", "committing")
_MOST_PLACES = 20  # what is said fits into one write to a pipe


def progress_of(places: Sequence[PlaceProgress], left_s: float | None) -> dict[str, Any]:
    """Return what is said of a run: per process that is at work, tasks that ended and all."""
    said = {}
    for place in places:
        going = sum(place.counts.get(state, 0) for state in _STATES)
        if going:
            done = sum(place.counts.values()) - going
            said[place.name[:80]] = [done, place.expected or done + going]
    return {
        "tasks": dict(list(said.items())[:_MOST_PLACES]),
        # To two figures, so that a moment more is nothing new.
        "left_s": None if left_s is None else float(f"{left_s:.2g}"),
    }


def progress_words(said: Mapping[str, Any], process: str) -> str:
    """Return what another says of its progress, as people read it; "" where it says nothing."""
    words = []
    try:
        done, count = said["tasks"][process]
        words.append(f"{int(done):,} of {int(count):,} tasks done")
    except (KeyError, TypeError, ValueError, OverflowError):  # 1e999 is a number in JSON
        pass
    left = said.get("left_s")
    if isinstance(left, int | float):
        words.append(
            f"about {left:,.0f} s left" if left < 120 else f"about {left / 60:,.0f} min left"
        )
    return ", ".join(words)
