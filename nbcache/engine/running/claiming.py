"""Claims on the shared cache for the tasks of one run that are worth it.

A claim costs two or three requests, so only tasks that take long, or of which nobody knows, are
claimed. Who does not get one waits, says for whom, and takes the row that the other leaves. Nothing
here makes a task fail: without an answer of the store it runs.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nbcache.errors import RemoteStoreError
from nbcache.model.digest import Digest
from nbcache.store.claims import Claim
from nbcache.store.log import Log
from nbcache.store.remote import leases
from nbcache.store.remote.beating import BeatingProcess
from nbcache.store.remote.leases import Done, Heartbeat, Held, Lease, Leases
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
        self._policy, self._run, self._user = policy, run, user
        self._leases: Leases | None = None
        self._beating: BeatingProcess | None = None
        self._lock = threading.Lock()
        # One after the other: the end of the last claim comes before that of the heartbeat.
        self._ends = ThreadPoolExecutor(1, thread_name_prefix="nbcache-claims")

    def wants(self, mean_s: float | None) -> bool:
        """Whether a task is claimed, of which the like took so many seconds (None: not known)."""
        if self._policy == "never" or not self._shared.is_reachable or self._shared.read_only:
            return False
        return self._policy == "always" or mean_s is None or mean_s > WORTH_S

    async def take(
        self,
        hash: Digest,
        process: str,
        *,
        found: Callable[[], bool],
        ended: Callable[[], bool],
        note: Callable[[str], None],
    ) -> Lease | None:
        """Claim a hash, or wait until its result is there (`found`) or nobody wants it (`ended`).

        None: the result is there, nobody wants it, or the store gives no claims.
        """
        after = 0
        while not ended():
            try:
                answer: Lease | Held | Done | None
                answer = await asyncio.to_thread(self._claim, hash, process, after)
                if isinstance(answer, Held):
                    note(
                        f"{process}: {answer.owner.user} on {answer.owner.host} computes the same "
                        f"(run {answer.owner.run}); waiting"
                    )
                    answer = await self._wait(answer, ended)
                if isinstance(answer, Done):
                    after = answer.epoch
                    self._adopt(answer.row)
                    if found():
                        return None
                elif isinstance(answer, Lease):
                    await asyncio.to_thread(self._shared.refresh)
                    if found():
                        self.end(answer)
                        return None
                    return answer
            except RemoteStoreError as error:
                self._policy = "never"  # for the rest of this run: each try takes its time
                self._shared.tell(error)
                return None
        return None

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
                self._beating = BeatingProcess(store.url, heartbeat.name, beat_s=leases.BEAT_S)
                self._beating.start()
                self._leases = Leases(
                    store,
                    heartbeat,
                    run=self._run,
                    host=socket.gethostname(),
                    user=self._user,
                    stale_s=leases.STALE_S,
                )
            return self._leases

    async def _wait(self, held: Held, ended: Callable[[], bool]) -> Done | None:
        """Wait until another's claim has ended (its row) or may be taken over (None)."""
        while not ended():
            await asyncio.sleep(POLL_S)
            try:
                answer = await asyncio.to_thread(self._opened().look, held)
            except RemoteStoreError as error:
                self._shared.tell(error)
                continue
            if not isinstance(answer, Held):
                return answer
        return None

    def _adopt(self, data: bytes) -> None:
        """Take the row that another has left, if its word is taken."""
        try:
            record = json.loads(data)
            known = self._shared.judged(record)
        except (ValueError, KeyError, TypeError):
            return  # not written by nbcache
        if known is not None:
            self._shared.note_promised(known)
            self._log.adopt([known])

    def _end(self, lease: Lease, row: str | None) -> None:
        try:
            self._opened().end(lease, b"" if row is None else self._publish(row))
        except Exception as error:  # whoever waits sees that the heartbeat has stopped
            self._shared.tell(error)

    def _stop(self) -> None:
        if self._beating is not None:
            self._beating.stop()
