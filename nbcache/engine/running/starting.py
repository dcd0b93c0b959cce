"""Obey the scheduler's `Start`: get the right to compute a hash and the inputs, then begin.

The log is looked at again under the right: whoever had it before may have made the result. Who does
not get it waits, since another process is computing that very hash; what it would have used (cpus,
memory) is for other tasks meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from nbcache.engine.running.attempts import Attempts
from nbcache.engine.running.claiming import Right, SharedClaims
from nbcache.engine.running.course import Course
from nbcache.engine.running.decision import Decision
from nbcache.engine.running.failing import Failures
from nbcache.errors import BlobDamagedError, NbcacheError
from nbcache.model.command import Start
from nbcache.model.digest import Digest
from nbcache.model.event import (
    AttemptAborted,
    AttemptPostponed,
    AttemptStarted,
    Hit,
    InputRecalled,
    OtherEnded,
    TaskKey,
)
from nbcache.model.task import TaskState
from nbcache.model.value import Stored
from nbcache.model.view import WaitView
from nbcache.plan.dataflow.lives import DONE
from nbcache.store.remote.leases import Held, Lease

CLAIM_POLL_S = 0.05
_EASY = 16  # so many who wait look as often as they like; more of them share these looks
SHOWN_AFTER_S = 0.5  # a fetch that takes longer is shown
_FETCHING = "inputs"
_AT_IT = (TaskState.RUNNING, TaskState.COMMITTING)


class Starting:
    """Leads tasks to their attempts. `claims`: those on the shared cache, None without one."""

    def __init__(
        self, course: Course, attempts: Attempts, failures: Failures, claims: SharedClaims | None
    ) -> None:
        self._course, self._attempts, self._failures = course, attempts, failures
        self._claims = claims
        self._rights: set[Right] = set()  # of tasks that have not begun
        shared = course.cache.shared
        self._came_before = 0 if shared is None else shared.fetching.came
        self._to_come = 0  # bytes of inputs that were asked for
        self._waiting = 0  # tasks of which the same is computed elsewhere
        self._elsewhere: Counter[str] = Counter()  # by process, those that another kernel computes
        self._healers: dict[Digest, TaskKey] = {}  # of blobs that are gone: who makes them again

    def start(self, commands: Sequence[Start]) -> None:
        """Start attempts: claim their hashes, then look once at what others have done meanwhile."""
        course = self._course
        claimed: list[tuple[Decision, int, Right]] = []
        for command in commands:
            decision = course.decisions[command.task]
            blobs = course.decider.to_bring(decision)
            if blobs:
                course.errands.send(self._bring_then_start(command, blobs))
                continue
            if decision.hash is None or course.rows is None:
                self._attempts.begin(decision, command.attempt, None)
                continue
            healer = self._healer(decision)
            if healer != decision.task:
                course.errands.send(self._wait_for_healer(decision, healer))
                continue
            claim = course.cache.claims.try_claim(decision.hash)
            if claim is None:
                course.errands.send(self._wait_for_claim(command))
            else:
                right = Right(claim)
                self._rights.add(right)
                claimed.append((decision, command.attempt, right))
        if claimed:
            course.cache.log.refresh()
        for decision, number, right in claimed:
            if self._is_made_meanwhile(decision):
                self._give_up(right)
            elif self._claims is not None and self._claims.wants(
                course.pace.mean_s(decision.place.name)
            ):
                course.errands.send(self._claim_there(self._claims, decision, number, right))
            else:
                self._begin(decision, number, right)

    def close(self) -> None:
        """Claim nothing more; give up what was claimed for tasks that have not begun."""
        for right in tuple(self._rights):  # there are some only where the run broke off
            self._give_up(right)
        if self._claims is not None:
            self._claims.close()

    def _begin(self, decision: Decision, number: int, right: Right) -> None:
        self._rights.discard(right)  # the attempt has it now
        self._attempts.begin(decision, number, right)

    def _give_up(self, right: Right) -> None:
        self._rights.discard(right)
        right.release()

    def _is_made_meanwhile(self, decision: Decision) -> bool:
        """Whether another process made the result since the task was decided; tells of it."""
        if not self._course.decider.look_up(decision):
            return False
        assert decision.outputs is not None
        assert decision.hash is not None
        self._course.inbox.tell(Hit(decision.task, decision.hash, decision.outputs))
        return True

    def _healer(self, decision: Decision) -> TaskKey:
        """Return which task makes again what a task lacks: itself, unless another one is at it."""
        for blob in decision.gone:
            known = self._healers.get(blob)
            if known is not None and self._is_running(known):
                return known
        self._healers.update(dict.fromkeys(decision.gone, decision.task))
        return decision.task

    def _is_running(self, task: TaskKey) -> bool:
        return self._course.scheduler.task(task).life.state in _AT_IT

    async def _wait_for_healer(self, decision: Decision, healer: TaskKey) -> None:
        """Another task, with the very same result, is making that again: wait for it."""
        with self._postponed(decision):
            while self._is_running(healer) and not self._is_over(decision.task):
                await asyncio.sleep(CLAIM_POLL_S * self._crowd())

    async def _wait_for_claim(self, command: Start) -> None:
        """Somebody else on this machine computes the same hash: wait for it."""
        course = self._course
        decision = course.decisions[command.task]
        assert decision.hash is not None
        with self._shown_waiting(decision.place.name), self._postponed(decision):
            while not self._is_over(command.task):
                claim = course.cache.claims.try_claim(decision.hash)
                if claim is not None:
                    claim.release()
                    break
                await asyncio.sleep(CLAIM_POLL_S * self._crowd())
            course.cache.log.refresh()

    @contextlib.contextmanager
    def _shown_waiting(self, process: str) -> Iterator[None]:
        """Show that a process waits for another kernel, for as long as one of its tasks does."""
        run, text = (
            self._course.run,
            f"{process}: another kernel is running the same tasks; waiting",
        )
        if not self._elsewhere[process]:
            run.wait_for_another(text, WaitView(text))
        self._elsewhere[process] += 1
        try:
            yield
        finally:
            self._elsewhere[process] -= 1
            if not self._elsewhere[process]:
                run.wait_for_another(text, None)

    async def _claim_there(
        self, claims: SharedClaims, decision: Decision, number: int, right: Right
    ) -> None:
        """Claim a hash on the shared cache too, then start; it may be running elsewhere."""
        course, task, hash = self._course, decision.task, decision.hash
        name = decision.place.name
        assert hash is not None
        answer = await claims.take(hash, name, found=lambda: course.decider.look_up(decision))
        if isinstance(answer, Lease):
            right.extend(claims, answer)
        if isinstance(answer, Held):
            self._give_up(right)
            with self._postponed(decision):
                await claims.wait(
                    answer, name, lambda: self._is_over(task), course.run, self._crowd
                )
        elif decision.outputs is not None:
            self._give_up(right)
            course.inbox.tell(Hit(task, hash, decision.outputs))
        elif task in course.killed:
            self._give_up(right)
            course.inbox.tell(AttemptAborted(task))
        else:
            self._begin(decision, number, right)

    @contextlib.contextmanager
    def _postponed(self, decision: Decision) -> Iterator[None]:
        """Let others have the room of a task while it waits, then say what it has waited for."""
        inbox, hash = self._course.inbox, decision.hash
        assert hash is not None
        inbox.tell(AttemptPostponed(decision.task))
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
        is_there = self._course.decider.look_up(decision)
        inbox.tell(OtherEnded(decision.task, hash, decision.outputs if is_there else None))

    def _is_over(self, task: TaskKey) -> bool:
        """Whether nobody wants any more what a task waits for: a run that ends aborts those that
        have not begun, and kills the others."""
        return task in self._course.killed or self._course.scheduler.task(task).life is DONE

    def _crowd(self) -> float:
        """Return how much longer each waits until it looks again, so that looks stay few."""
        return max(1.0, self._waiting / _EASY)

    async def _bring_then_start(self, command: Start, wanted: Sequence[Stored]) -> None:
        """Fetch inputs from the shared cache; those that cannot be had are made again."""
        course, task = self._course, command.task
        gone: Sequence[Digest] = ()
        error = ""
        try:
            gone = await self._brought(task, wanted)
        except (NbcacheError, OSError) as failure:  # the disk is full; a folder's list is damaged
            error = f"its inputs could not be fetched: {failure}"
        if task in course.killed:
            course.inbox.tell(AttemptAborted(task))
            return
        if not gone and not error:
            self.start([command])
            return
        course.inbox.tell(AttemptStarted(task))
        producers = {blob: course.recalled(blob) for blob in gone}
        lost = [blob for blob, producer in producers.items() if producer is None]
        if lost or error:
            error = error or f"its input {lost[0]} is no longer in the cache, nor in a shared one"
            self._failures.fail(course.decisions[task], command.attempt, None, error)
        else:
            makers = dict.fromkeys(each for each in producers.values() if each is not None)
            course.inbox.tell(InputRecalled(task, tuple(makers)))

    async def _brought(self, task: TaskKey, wanted: Sequence[Stored]) -> Sequence[Digest]:
        """Fetch results, and say how far that is where it takes a while; ends when the task is
        killed. Returns those that cannot be had."""
        course, shared = self._course, self._course.cache.shared
        fetching = asyncio.ensure_future(asyncio.to_thread(self._bring, task, wanted))
        self._to_come += sum(each.size for each in wanted)
        try:
            while not (await asyncio.wait({fetching}, timeout=SHOWN_AFTER_S))[0]:
                if shared is not None and task in course.killed:
                    shared.fetching.drop(each.blob for each in wanted if each.blob is not None)
                elif shared is not None:
                    came = (shared.fetching.came - self._came_before) / 1e6
                    text = f"{came:,.0f} of {self._to_come / 1e6:,.0f} MB"
                    course.run.wait_for_another(
                        _FETCHING, WaitView("inputs come from the shared cache", text)
                    )
        finally:
            if shared is not None and not fetching.done():
                shared.fetching.drop(each.blob for each in wanted if each.blob is not None)
            course.run.wait_for_another(_FETCHING, None)
        return fetching.result()

    def _bring(self, task: TaskKey, wanted: Sequence[Stored]) -> Sequence[Digest]:
        """Fetch results, folders with all files in them; return those that cannot be had."""
        shared, blobs = self._course.cache.shared, self._course.cache.blobs
        if shared is None:
            return [each.blob for each in wanted if each.blob is not None]
        of = {each.blob: each.blob for each in wanted if each.blob is not None}
        is_wanted = lambda: task not in self._course.killed  # noqa: E731
        gone = shared.fetching.bring_all(of, is_wanted)
        for each in wanted:
            if each.kind == "tree" and each.blob is not None and each.blob not in gone:
                try:
                    entries = blobs.open_tree(each.blob)
                except BlobDamagedError as error:
                    blobs.set_aside(each.blob)
                    shared.fetching.note_lost(each.blob, error)
                    return [each.blob]
                for entry in entries:
                    if entry.blob is not None and not blobs.has(entry.blob, entry.size):
                        of[entry.blob] = each.blob
        gone += shared.fetching.bring_all([blob for blob in of if not blobs.has(blob)], is_wanted)
        return list(dict.fromkeys(of[blob] for blob in gone))
