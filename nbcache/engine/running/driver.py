"""Drive one run: obey the scheduler's commands, feed back what happened.

Runs on the engine's loop. It decides nothing about order or states (the scheduler does) and shows
nothing (the front does); it performs: applies operator functions on one thread, decides tasks
against the cache, hands attempts to an executor, appends rows before anything is announced.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
import time
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from nbcache.engine.declared.operating import call_operator
from nbcache.engine.executors.protocol import Executor
from nbcache.engine.record.results import Decoder, TaskResult
from nbcache.engine.running.claiming import Right, SharedClaims
from nbcache.engine.running.decide import Decider, Decision, Place, outcome_of_hit
from nbcache.engine.running.devices import Devices
from nbcache.engine.running.pace import Pace
from nbcache.engine.running.publish import Publisher
from nbcache.engine.running.reasons import AGAIN, Reasons
from nbcache.engine.running.rows import RowMaker
from nbcache.engine.running.run import AtWork, Run
from nbcache.engine.running.specs import Packer, attempt_spec
from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.engine.work.script_body import script_argv
from nbcache.engine.work.shown import Shown
from nbcache.errors import CannotKeepError, NbcacheError
from nbcache.model.channel import Graph, Item, upstream_of
from nbcache.model.command import Apply, Command, Decide, End, Kill, Load, Report, Start, Wait
from nbcache.model.digest import Digest
from nbcache.model.event import (
    Applied,
    AttemptAborted,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    ChannelFailed,
    Event,
    Hit,
    InputRecalled,
    Missed,
    Refused,
    Resources,
    RetryDue,
    Skipped,
    SourceLoaded,
    TaskKey,
)
from nbcache.model.ids import format_position
from nbcache.model.row import AttemptRow, Row, WatchedRead
from nbcache.model.task import Outcome, RunStatus
from nbcache.model.value import FilePath, Gathered, KeptFolder, RemoteFile, Stored
from nbcache.model.view import FailureView, PlaceProgress, ShownChunk
from nbcache.plan.dataflow.retry import BACKOFF_S, NOT_FAILED, FailedAttempt, retry_delays
from nbcache.plan.dataflow.scheduler import Scheduler
from nbcache.store.cache import Cache
from nbcache.store.files import full_disk_error, is_full, read_only_error

SLICE_S = 0.01  # how long the loop may be held before others on it get their turn
SNAPSHOT_S = 0.08
CLAIM_POLL_S = 0.05
LOG_CHARACTERS = 100_000  # of what a failed task printed, for a process that looks into it
VARIABLES_TOLD = 8  # that a process reads: more of them are a loop over all
STARTS = 64  # at most, between two looks at what other processes did


@dataclass(slots=True)
class Attempt:
    """A running attempt: what has to be let go of when it ends."""

    id: str
    number: int
    right: Right | None
    gpus: tuple[str, ...] = ()


class Driver:
    """Drives one run to its end; `drive` returns when the scheduler says so."""

    def __init__(
        self,
        run: Run,
        graph: Graph,
        scheduler: Scheduler,
        decider: Decider,
        executor: Executor,
        cache: Cache,
        decoder: Decoder,
        rows: RowMaker | None,
        make_spec: Callable[[Place], ProcessSpec],
        sources: Mapping[int, Sequence[Item]],
        reasons: Reasons | None,
        packer: Packer,
        publisher: Publisher,
        devices: Devices,
        claims: SharedClaims | None,
    ) -> None:
        self._run, self._graph, self._scheduler = run, graph, scheduler
        self._decider, self._executor, self._cache = decider, executor, cache
        self._decoder, self._rows = decoder, rows
        self._make_spec, self._sources, self._reasons = make_spec, sources, reasons
        self._packer, self._publisher, self._devices = packer, publisher, devices
        self._claims = claims
        self._specs: dict[str, ProcessSpec] = {}
        self._decisions: dict[TaskKey, Decision] = {}
        self._attempts: dict[TaskKey, Attempt] = {}
        self._failures: dict[TaskKey, tuple[FailureView, FailedAttempt, int]] = {}
        self._killed: set[TaskKey] = set()
        self._is_ready, self._broken, self._keeps_nothing = False, "", False
        self._waiting: list[tuple[Decision, AttemptSpec]] = []
        self._not_counting: set[str] = set()  # processes of which a result was found in vain
        self._producers: dict[str, TaskKey] = {}  # blob -> the task whose output it is
        self._row_ids: dict[TaskKey, str] = {}
        self._inbox: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._operators = ThreadPoolExecutor(1, thread_name_prefix="nbcache-operators")
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="nbcache-hashing")
        self._snapshot_at = 0.0
        self._show_due: asyncio.TimerHandle | None = None
        self._realtime: dict[str, list[float]] = {}
        self._pace = Pace()
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ the loop

    async def drive(self) -> RunStatus:
        """Perform commands until the run ends; returns how it ended."""
        self._run.steered_by(self)
        commands: deque[Command] = deque(self._scheduler.start())
        status: RunStatus | None = None
        try:
            while status is None:
                status = self._perform_some(commands)
                if status is not None:
                    break
                if self._inbox:
                    events = list(self._inbox)
                    self._inbox.clear()
                    commands.extend(self._scheduler.handle_many(events))
                    await asyncio.sleep(0)
                elif not commands:
                    self._wake.clear()
                    self._show()
                    if not self._inbox:
                        await self._wake.wait()
                self._show()
            status = await self._publish(status)
        finally:
            if self._scheduler.gave_up:
                self._note(self._scheduler.gave_up)
            for node, error in self._scheduler.channel_errors[:1]:
                self._run.error = self._channel_error(node, error)
            self._run.keep_channels(self._scheduler.elements)
            self._operators.shutdown(wait=False, cancel_futures=True)
            self._hashing.shutdown(wait=False, cancel_futures=True)
            for task in self._tasks:
                task.cancel()
            for key, attempt in list(self._attempts.items()):  # only where the run broke off
                self._executor.kill(attempt.id, "the run broke off")
                self._let_go(key)
            if self._claims is not None:
                self._claims.close()
            self._show(final=True)
        return status

    def _perform_some(self, commands: deque[Command]) -> RunStatus | None:
        """Perform commands for one time slice; rows of hits are appended before they count."""
        until = time.monotonic() + SLICE_S
        applies: list[Apply] = []
        reports: list[Report] = []
        starts: list[Start] = []
        status = None
        while commands:
            command = commands.popleft()
            kind = type(command)
            if kind is Decide:
                self._decide(command)  # type: ignore[arg-type]
            elif kind is Report:
                reports.append(command)  # type: ignore[arg-type]
            elif kind is Start:
                starts.append(command)  # type: ignore[arg-type]
            elif kind is Apply:
                applies.append(command)  # type: ignore[arg-type]
            elif kind is End:
                assert isinstance(command, End)
                status = command.status
            else:
                self._perform_rare(command)
            if time.monotonic() > until or len(starts) >= STARTS:
                break
        if starts:
            self._start(starts)
        if applies:
            self._operators.submit(self._apply, applies)
        if reports:
            self._report(reports)
        return status

    def _perform_rare(self, command: Command) -> None:
        if isinstance(command, Load):
            self._inbox.append(SourceLoaded(command.node, self._sources[command.node]))
        elif isinstance(command, Wait):
            event = RetryDue(command.task)
            self._loop.call_later(command.after_s, self.tell, event)
        elif isinstance(command, Kill):
            self._killed.add(command.task)
            attempt = self._attempts.get(command.task)
            if attempt is not None:
                self._executor.kill(attempt.id, "the run is ending")

    def tell(self, event: Event) -> None:
        """Take an event; on the loop's thread only."""
        self._inbox.append(event)
        self._wake.set()

    def cancel(self) -> None:
        """Ask for an orderly end; from any thread."""
        self._loop.call_soon_threadsafe(self.tell, CancelRequested())

    def _channel_error(self, node: int, error: BaseException) -> str:
        label = self._graph.nodes[node].name or self._graph.nodes[node].label
        if isinstance(error, NbcacheError):
            text = str(error)
            return text if label in text else f"channel {label}: {text}"
        return f"channel {label}: {type(error).__name__}: {error}"

    # ------------------------------------------------------------------ operator functions

    def _apply(self, commands: Sequence[Apply]) -> None:
        """Call operator functions, on the operator thread, one at a time and in order."""
        events: list[Event] = []
        for command in commands:
            try:
                events.append(Applied(command.call, self._call(command)))
            except BaseException as error:
                events.append(ChannelFailed(command.node, error))
        self._loop.call_soon_threadsafe(self._tell_all, events)

    def _call(self, command: Apply) -> object:
        if command.role == "failure":
            return self._failure_item(cast(TaskKey, command.args[0]))
        return call_operator(self._graph.nodes[command.node], command.args, self._decoder.value)

    def _failure_item(self, task: TaskKey) -> Item:
        """Return what a forensic process takes of a failed task (`dataflow.failures.FIELDS`)."""
        failure, failed, attempt = self._failures.get(task, (None, NOT_FAILED, 0))
        decision = self._decisions.get(task)
        error = failed.error or self._scheduler.task(task).error or ""
        label = decision.label if decision is not None else self._graph.nodes[task[0]].name
        log = "".join(each.text for each in self._run.chunks(task) if each.stream != "display")
        folder = failure.workdir if failure is not None else None
        return (
            label,
            error,
            failure.traceback if failure is not None else error,
            log[-LOG_CHARACTERS:],
            None if folder is None else KeptFolder(folder),
            failed.exit,
            failed.signal,
            attempt,
        )

    def _tell_all(self, events: Sequence[Event]) -> None:
        self._inbox.extend(events)
        self._wake.set()

    # ------------------------------------------------------------------ deciding

    def _decide(self, command: Decide) -> None:
        """Decide at once, unless a file may have to be read: then on the hashing thread."""
        if self._decider.may_read(command.task[0]) or any(map(_may_read, command.inputs.values())):
            self._hashing.submit(self._decide_elsewhere, command)
        else:
            self._inbox.append(self._decision_event(command))

    def _decide_elsewhere(self, command: Decide) -> None:
        event = self._decision_event(command)
        self._loop.call_soon_threadsafe(self.tell, event)

    def _decision_event(self, command: Decide) -> Event:
        try:
            decision = self._decider.decide(command.task, command.inputs)
            self._decisions[command.task] = decision
            if not self._decider.is_wanted(decision):
                return Skipped(command.task)
            if decision.is_hit:
                assert decision.outputs is not None
                if decision.stored:
                    self._note(f"{decision.place.name}: {decision.reason}")
                outcome = outcome_of_hit(decision)
                return Hit(command.task, decision.hash, decision.outputs, outcome)
            self._decider.fetch(decision)
            resources = self._decider.resources(decision, 1)
            self._note_reason(decision)
            if decision.refused:
                self._run.note_refused(decision.task)
        except NbcacheError as error:
            return Refused(command.task, str(error))
        except Exception as error:  # a value's own code failed while it was identified
            return Refused(command.task, f"{type(error).__name__}: {error}")
        return Missed(command.task, decision.hash, resources)

    def _note_reason(self, decision: Decision) -> None:
        """Find out why a task runs. Its process has one reason, as a plan has it: that of a task
        whose result was found and does not count goes before what holds for the process; that
        tasks did not succeed before is said where it holds for all."""
        if self._reasons is None:
            return
        name, own = decision.place.name, decision.reason if decision.place.is_kept else ""
        found = self._reasons.of(decision.place, [decision.hash])
        decision.reason = decision.reason or found
        said = self._run.reasons.setdefault(name, own or found)
        if own and name not in self._not_counting:
            self._not_counting.add(name)
            self._run.reasons[name] = own
        elif said == AGAIN != found:
            self._run.reasons[name] = found

    # ------------------------------------------------------------------ attempts

    def _start(self, commands: Sequence[Start]) -> None:
        """Start attempts: claim their hashes, then look once at what others have done meanwhile."""
        claimed: list[tuple[Decision, int, Right]] = []
        for command in commands:
            decision = self._decisions[command.task]
            blobs = self._decider.to_bring(decision)
            if blobs:
                self._later(self._bring_then_start(command, blobs))
                continue
            if decision.hash is None or self._rows is None:
                self._attempt(decision, command.attempt, None)
                continue
            claim = self._cache.claims.try_claim(decision.hash)
            if claim is None:
                self._later(self._wait_for_claim(command))
            else:
                claimed.append((decision, command.attempt, Right(claim)))
        if claimed:
            self._cache.log.refresh()
        for decision, number, right in claimed:
            if self._decider_found_meanwhile(decision, number):
                right.release()
            elif self._claims is not None and self._claims.wants(self._mean_s(decision)):
                self._later(self._claim_there(self._claims, decision, number, right))
            else:
                self._attempt(decision, number, right)

    def _mean_s(self, decision: Decision) -> float | None:
        """Return how long the tasks of a process took in this run, None where none has ended."""
        times = self._realtime.get(decision.place.name)
        return sum(times) / len(times) if times else None

    async def _claim_there(
        self, claims: SharedClaims, decision: Decision, number: int, right: Right
    ) -> None:
        """Claim a hash on the shared cache too, then start; it may be running elsewhere."""
        task, hash = decision.task, decision.hash
        assert hash is not None
        lease = await claims.take(
            hash,
            decision.place.name,
            found=lambda: number == 1 and self._decider.look_up(decision),
            ended=lambda: task in self._killed,
            note=self._note,
        )
        if lease is not None:
            right.extend(claims, lease)
        if decision.outputs is not None:
            right.release()
            self.tell(Hit(task, hash, decision.outputs))
        elif task in self._killed:
            right.release()
            self.tell(AttemptAborted(task))
        else:
            self._attempt(decision, number, right)

    async def _bring_then_start(self, command: Start, wanted: Sequence[Stored]) -> None:
        """Fetch inputs from the shared cache; one that cannot be had is made again."""
        gone = await asyncio.to_thread(self._bring, wanted)
        task = command.task
        if task in self._killed:
            self.tell(AttemptAborted(task))
        elif gone is None:
            self._start([command])
        elif gone in self._producers:
            self._decider.forget(gone)
            self.tell(AttemptStarted(task))
            self.tell(InputRecalled(task, self._producers[gone]))
        else:
            self.tell(AttemptStarted(task))
            error = f"its input {gone} is neither in the cache nor in the shared one"
            self._fail(self._decisions[task], command.attempt, None, error)

    def _bring(self, wanted: Sequence[Stored]) -> Digest | None:
        """Fetch results, folders with all files in them; return the first that cannot be had."""
        shared, blobs = self._cache.shared, self._cache.blobs
        if shared is None:
            return wanted[0].blob
        of = {each.blob: each.blob for each in wanted if each.blob is not None}
        gone = shared.bring_all(of)
        for each in wanted:
            if each.kind == "tree" and each.blob is not None and each.blob not in gone:
                for entry in blobs.open_tree(each.blob):
                    if entry.blob is not None and not blobs.has(entry.blob, entry.size):
                        of[entry.blob] = each.blob
        gone += shared.bring_all([blob for blob in of if not blobs.has(blob)])
        return of[gone[0]] if gone else None

    def _decider_found_meanwhile(self, decision: Decision, attempt: int) -> bool:
        """Whether another process made the result since the task was decided."""
        if attempt > 1 or not self._decider.look_up(decision):
            return False
        assert decision.outputs is not None
        assert decision.hash is not None
        self.tell(Hit(decision.task, decision.hash, decision.outputs))
        return True

    async def _wait_for_claim(self, command: Start) -> None:
        """Somebody else on this machine computes the same hash: wait for it or take over."""
        decision = self._decisions[command.task]
        assert decision.hash is not None
        note = f"{decision.place.name}: another kernel is running the same tasks; waiting"
        if note not in self._run.notes:
            self._run.notes.append(note)
        while command.task not in self._killed:
            claim = self._cache.claims.try_claim(decision.hash)
            if claim is not None:
                self._cache.log.refresh()
                if self._decider_found_meanwhile(decision, command.attempt):
                    claim.release()
                else:
                    self._attempt(decision, command.attempt, Right(claim))
                return
            await asyncio.sleep(CLAIM_POLL_S)
        self.tell(AttemptAborted(command.task))

    def _attempt(self, decision: Decision, number: int, right: Right | None) -> None:
        task = decision.task
        gpus: tuple[str, ...] = ()
        try:
            resources = self._decider.resources(decision, number)
            process = self._spec(decision.place)
            failed_as = self._decider.failed_as(decision, number)
            gpus = self._devices.take(resources.gpus)
            spec = attempt_spec(
                decision, process, number, resources, self._rows, self._packer, failed_as, gpus
            )
            if self._rows is not None:
                self._rows.append(self._rows.lists(decision))
        except Exception as error:
            if right is not None:
                right.release()
            self._devices.give(gpus)
            self.tell(AttemptStarted(task))
            self._fail(decision, number, None, f"{type(error).__name__}: {error}")
            return
        self._attempts[task] = Attempt(spec.id, number, right, gpus)
        self._submit(decision, spec)

    def _spec(self, place: Place) -> ProcessSpec:
        """Return what the attempts of a process share; told to the executor at the first need."""
        if place.key not in self._specs:
            self._specs[place.key] = self._make_spec(place)
            self._executor.prepare(self._specs[place.key])
        return self._specs[place.key]

    def _submit(self, decision: Decision, spec: AttemptSpec) -> None:
        """Hand an attempt over; the executor is started at the first one, so that a run of hits
        starts no process at all."""
        if not self._is_ready:
            self._waiting.append((decision, spec))
            if len(self._waiting) == 1:
                self._later(self._get_ready())
            return
        task = decision.task
        if task in self._killed:
            self._let_go(task)
            self.tell(AttemptAborted(task))
            return
        if self._broken:
            number = self._attempts[task].number
            self._let_go(task)
            self._fail(decision, number, None, self._broken)
            return
        live = Shown()
        self._run.live_shown[task] = live

        def show(chunks: Sequence[ShownChunk]) -> None:
            for chunk in chunks:
                live.add(chunk)
            if decision.place.talks:
                self._run.talk.hear(task, decision.label, chunks)

        def started() -> None:
            self._run.at_work[task] = AtWork(decision.label, spec.attempt, time.time(), spec.row)
            self.tell(AttemptStarted(task))

        future = self._executor.submit(spec, started=started, shown=show)
        future.add_done_callback(lambda done: self._ended(decision, done))

    async def _get_ready(self) -> None:
        root, reason = self._cache.root, self._cache.read_only
        try:
            if reason is not None:
                raise read_only_error(root, reason)
            await self._executor.start()
        except CannotKeepError as error:
            self._broken, self._keeps_nothing = str(error), True
        except Exception as error:
            if isinstance(error, OSError) and is_full(error):
                error, self._keeps_nothing = full_disk_error(root, "a result"), True
            self._broken = f"no worker can be started: {type(error).__name__}: {error}"
        self._is_ready = True
        for decision, spec in self._waiting:
            self._submit(decision, spec)
        self._waiting.clear()

    def _ended(self, decision: Decision, done: asyncio.Future[AttemptReport]) -> None:
        task = decision.task
        self._run.talk.end(task, decision.label)
        number = self._attempts[task].number
        if done.cancelled():  # the kernel is ending: nothing has failed
            self._let_go(task)
            self.tell(CancelRequested())
            self.tell(AttemptAborted(task))
            return
        if done.exception() is not None:
            self._let_go(task)
            self._fail(decision, number, None, repr(done.exception()))
            return
        report = done.result()
        counts = report.outcome == "completed" and report.row is not None and not report.changed
        self._let_go(task, report.row.id if counts and report.row is not None else None)
        if report.missing is not None and report.missing in self._producers:
            self._decider.forget(report.missing)
            self.tell(InputRecalled(task, self._producers[report.missing]))
        elif report.outcome == "completed":
            self._succeed(decision, report)
        elif task in self._killed or report.outcome == "aborted":
            self._note_row(task, report)
            self.tell(AttemptAborted(task))
        else:
            self._fail(decision, number, report, report.error or "failed")

    def _let_go(self, task: TaskKey, row: str | None = None) -> None:
        """Free what an attempt held; `row` is its result."""
        self._run.at_work.pop(task, None)
        attempt = self._attempts.pop(task, None)
        if attempt is not None:
            self._devices.give(attempt.gpus)
        if attempt is not None and attempt.right is not None:
            attempt.right.release(row)

    def _note_row(self, task: TaskKey, report: AttemptReport) -> None:
        if report.row is None:
            return
        self._row_ids[task] = report.row.id
        if report.row.shown is not None:
            self._run.shown_stored[task] = report.row.shown
            self._run.live_shown.pop(task, None)

    def _succeed(self, decision: Decision, report: AttemptReport) -> None:
        task = decision.task
        self._note_row(task, report)
        item = self._decider.item(decision, report.outputs)
        if item is None:
            self._fail(decision, 1, report, decision.reason)
            return
        if report.row is not None and report.row.realtime is not None:
            self._realtime.setdefault(decision.place.name, []).append(report.row.realtime)
            is_light = self._pace.note(decision.place.name, report.row.realtime)
            if is_light is not None:
                self._scheduler.light(decision.place.name, is_light)
        self._note_reads(decision, report.watched)
        for name in report.changed:
            self._note(changed_text(decision, name))
        decision.outputs = item
        self.tell(AttemptSucceeded(task, item))

    def _note_reads(self, decision: Decision, reads: Sequence[WatchedRead]) -> None:
        """Say what a task read unasked; of a loop over the environment in one line."""
        process, variables = decision.place.name, [each for each in reads if each.kind == "env"]
        if any(each.kind == "variables" for each in reads):
            self._note(
                f"{process} goes through the environment variables: it runs again when one is new "
                f"or gone, and when one of the {len(variables)} that it read has another value"
            )
        for read in reads:
            if read not in variables or len(variables) <= VARIABLES_TOLD:
                self._note_read(process, read.kind, read.name)

    def _note_read(self, process: str, kind: str, name: str) -> None:
        if kind in ("tool", "variables"):
            return  # there is no way to declare it, and no need
        if kind == "exists":
            self._note(f"{process} asks whether {name} is there; it is checked from now on")
            return
        if kind in ("file", "folder"):
            short = name.rpartition("/")[2].partition(".")[0] or "data"
            way_out = f'declare it: %%process {process}({short}: path = "{name}")'
        elif kind == "env":
            way_out = f"declare it: #| env: {name}"
        else:
            way_out = "it is checked from now on"
        self._note(f"{process} reads {kind} {name}, which it does not declare; {way_out}")

    def _note(self, text: str) -> None:
        if text not in self._run.notes:
            self._run.notes.append(text)

    def _fail(
        self, decision: Decision, number: int, report: AttemptReport | None, error: str
    ) -> None:
        task = decision.task
        if report is not None:
            self._note_row(task, report)
            decision.failed = FailedAttempt(report.exit, report.signal, error)
        else:
            decision.failed = FailedAttempt(error=error)
        try:
            action = self._decider.action(decision, number)
            resources = self._decider.resources(decision, number + 1)
        except NbcacheError as problem:  # a directive that is Python
            action, resources, error = "finish", Resources(), f"{error}; and {problem}"
        if self._keeps_nothing or (report is not None and report.unkept):
            action = "finish"  # the next ones would fare no better
        if report is not None and report.row is not None:
            try:
                self._keep_failure(decision, number, report.row, ignored=action == "ignore")
            except (NbcacheError, OSError) as problem:
                action, self._keeps_nothing = "finish", True
                error = error if report.unkept else f"{error}; and {problem}"
        wait = 0.0
        if action == "retry":
            wait = _wait_before_retry(decision, number)
        else:
            failure = self._failure(decision, report, error, ignored=action == "ignore")
            self._run.failures.append(failure)
            self._failures[task] = (failure, decision.failed, number)
        self.tell(AttemptFailed(task, error, action, resources, wait))

    def _keep_failure(
        self, decision: Decision, number: int, row: AttemptRow, *, ignored: bool
    ) -> None:
        """Append the row of a failed attempt where only the failure told what it means."""
        if self._rows is None or self._decider.failed_as(decision, number) is not None:
            return
        status = Outcome.IGNORED if ignored else Outcome.FAILED
        self._rows.append([dataclasses.replace(row, status=status.value)])

    def _failure(
        self,
        decision: Decision,
        report: AttemptReport | None,
        error: str,
        *,
        ignored: bool = False,
    ) -> FailureView:
        where = ""
        decl = decision.place.node.decl
        if report is not None and report.where is not None and decl is not None:
            line, text = report.where
            where = f"{decl.cell or decl.name} line {line}: {text.strip()}"
        log = "".join(
            chunk.text for chunk in self._run.chunks(decision.task) if chunk.stream != "display"
        )
        return FailureView(
            task=decision.label,
            process=decision.place.name,
            error=error,
            traceback=(report.traceback or "") if report is not None else "",
            where=where,
            workdir=report.workdir if report is not None else None,
            command=shlex.join(script_argv(decl))
            if decl is not None and report is not None
            else "",
            log="\n".join(log.strip().split("\n")[-20:]),
            position=format_position(decision.task[1]),
            ignored=ignored,
        )

    # ------------------------------------------------------------------ reporting

    def _report(self, reports: Sequence[Report]) -> None:
        """Write the rows of tasks that were not attempted in one go, then announce."""
        rows: list[Row] = []
        for report in reports:
            decision = self._decisions.get(report.task)
            if self._rows is None:
                continue
            if report.outcome in (Outcome.FAILED, Outcome.IGNORED):
                if report.task not in self._row_ids:
                    rows.append(self._row_of_failure(report, decision))
            elif decision is None:
                continue
            elif report.outcome is Outcome.CACHED or report.twin is not None:
                source = decision.entry.row_id if decision.entry is not None else ""
                if report.twin is not None:
                    source = self._row_ids.get(report.twin, source)
                if source and report.outcome.succeeded:
                    rows.append(self._rows.use(decision, source))
                    if decision.is_shared and self._cache.shared is not None:
                        self._cache.shared.note_used(source)
                    self._row_ids[report.task] = source
            elif report.outcome is Outcome.STORED and decision.hash is not None:
                rows.append(self._rows.stored(decision))
                self._row_ids[report.task] = rows[-1].id
            elif report.outcome is Outcome.SKIPPED and decision.hash is not None:
                rows.append(self._rows.skipped(decision))
        if rows and self._rows is not None:
            self._rows.append(rows)
        for report in reports:
            self._announce(report)

    def _row_of_failure(self, report: Report, decision: Decision | None) -> Row:
        """Return the row of a task that failed without an attempt of its own."""
        assert self._rows is not None
        error = report.error or ""
        if decision is None or decision.hash is None:
            name = self._graph.nodes[report.task[0]].name
            return self._rows.unidentified(report.task, name, report.outcome, error)
        return self._rows.refused(decision, report.outcome, error)

    def _announce(self, report: Report) -> None:
        task = report.task
        decision = self._decisions.get(task)
        place = self._graph.nodes[task[0]].name
        if decision is None:
            label = f"{place}[{'.'.join(map(str, task[1]))}]"
            self._run.tasks[task] = TaskResult(
                task[1], label, report.outcome, {}, None, report.error
            )
            if report.error:
                self._run.failures.append(
                    FailureView(task=label, process=place, error=report.error)
                )
            return
        outputs = decision.outputs
        if outputs is None and report.twin is not None:
            outputs = self._decisions[report.twin].outputs
        if not report.outcome.succeeded:
            outputs = None
        if decision.entry is not None and report.outcome is Outcome.CACHED:
            kept = self._rows is not None and self._rows.is_own(decision, decision.entry.row_id)
            trusted = decision.is_trusted
            self._run.note_hit(task, decision.entry, kept=kept, trusted=trusted)
            if decision.entry.shown is not None:
                self._run.shown_stored[task] = decision.entry.shown
            if decision.place.talks:
                self._run.talk.hear(task, decision.label, self._run.chunks(task))
                self._run.talk.end(task, decision.label)
        self._run.tasks[task] = TaskResult(
            task[1],
            decision.label,
            report.outcome,
            decision.values(),
            outputs,
            report.error,
            decision.hash or "",
            self._row_ids.get(task, ""),
        )
        if outputs is not None:
            self._publisher.publish(decision, outputs)
        for value in outputs or ():
            self._note_producer(value, task)
        if report.outcome is Outcome.FAILED and not self._known_failure(decision.label):
            self._run.failures.append(self._failure(decision, None, report.error or "failed"))

    def _known_failure(self, label: str) -> bool:
        return any(failure.task == label for failure in self._run.failures)

    def _note_producer(self, value: object, task: TaskKey) -> None:
        if isinstance(value, Stored):
            if value.blob is not None:
                self._producers.setdefault(value.blob, task)
        elif isinstance(value, Gathered):
            for member in value:
                self._note_producer(member, task)

    async def _publish(self, status: RunStatus) -> RunStatus:
        """Wait until all results are published; one that could not be makes the run fail."""
        cancelled = status is RunStatus.CANCELLED
        failed = await asyncio.to_thread(self._publisher.finish, cancelled=cancelled)
        for text in self._publisher.said():
            self._note(text)
        for decision, error in failed:
            self._run.failures.append(
                FailureView(
                    task=decision.label,
                    process=decision.place.name,
                    error=f"its result is kept, but {error}",
                    way_out="then run again: only publishing is left to do",
                )
            )
        return RunStatus.FAILED if failed and status is RunStatus.SUCCEEDED else status

    # ------------------------------------------------------------------ progress

    def snapshot(self) -> tuple[PlaceProgress, ...]:
        """Return the counts of all processes; on the loop's thread."""
        return tuple(
            PlaceProgress(
                name=name,
                upstream=upstream_of(self._graph, index),
                counts=dict(self._scheduler.counts(name)),
                expected=self._scheduler.expected(name),
                reason=self._run.reasons.get(name, ""),
            )
            for name, index in self._graph.places.items()
        )

    def _items(self) -> dict[int, int]:
        drawn = {edge.node for edge in self._run.outline.edges}
        return {node: self._scheduler.items(node) for node in drawn}

    def _show(self, *, final: bool = False) -> None:
        now = time.monotonic()
        if not final and now - self._snapshot_at <= SNAPSHOT_S:
            if self._show_due is None:  # what is skipped now is shown a little later
                self._show_due = self._loop.call_later(SNAPSHOT_S, self._show_late)
        else:
            self._snapshot_at = now
            if self._show_due is not None:
                self._show_due.cancel()
                self._show_due = None
            places = self.snapshot()
            self._run.left_s = self._time_left(places)
            self._run.update(places, self._items())

    def _show_late(self) -> None:
        self._show_due = None
        self._show(final=True)

    def _time_left(self, places: Sequence[PlaceProgress]) -> float | None:
        """Estimate from the mean time of this run's tasks and how many run side by side."""
        left = 0.0
        for place in places:
            active = sum(place.counts.get(name, 0) for name in ("pending", "ready", "running"))
            times = self._realtime.get(place.name)
            if not active:
                continue
            if not times:
                return None
            left += active * sum(times) / len(times)
        running = sum(place.counts.get("running", 0) for place in places)
        return left / max(1, running) if left else None

    def _later(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def changed_text(decision: Decision, name: str) -> str:
    """Return what to say of an input that is not what it was when its task began."""
    found = decision.inputs.get(name)
    place = f" ({found.place})" if found is not None and found.place else ""
    return (
        f"{decision.label}: input {name}{place} changed while the task ran, by the task itself "
        "unless somebody else wrote to it; its result is not kept"
    )


def _wait_before_retry(decision: Decision, attempt: int) -> float:
    """Return seconds, other ones for each task: those that failed together come back apart."""
    assert decision.place.node.decl is not None
    backoff = decision.place.node.decl.directives.backoff or BACKOFF_S
    seed = zlib.crc32(f"{decision.label} {decision.hash}".encode())
    return retry_delays(attempt + 1, base_s=backoff, seed=seed)[-1]


def _may_read(value: object) -> bool:
    """Whether finding a value's identity may take long: it is a file, or holds some."""
    if isinstance(value, (FilePath, RemoteFile)):
        return True
    return type(value) in (list, tuple, Gathered) and any(map(_may_read, value))  # type: ignore[call-overload]
