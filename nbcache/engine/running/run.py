"""A run as its user holds it: status, progress, results, cancel, await.

The driver (on its own thread) writes here; everybody else reads. What readers get are snapshots
and finished records, so no lock is held while somebody looks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol

from nbcache.engine.record.history import LIVE
from nbcache.engine.record.results import Decoder, Elements, Results, TaskResult, channel_items
from nbcache.engine.running.talk import Talk
from nbcache.engine.work.shown import Shown
from nbcache.errors import NbcacheError, NotRunError, RunError, RunFailed, command
from nbcache.model.channel import Graph, Item
from nbcache.model.event import TaskKey
from nbcache.model.ids import Position, RunId, format_position
from nbcache.model.row import AttemptRow
from nbcache.model.signature import Standing
from nbcache.model.task import Outcome, RunStatus
from nbcache.model.value import Stored
from nbcache.model.view import FailureView, PlaceProgress, RunProgress, ShownChunk, WaitView
from nbcache.plan.dataflow.outline import Outline, outline_of
from nbcache.store.entry import Entry

_ERROR_LINES = 8  # of an error that ends a cell


class Steering(Protocol):
    """What a run asks of whoever drives it."""

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class AtWork:
    """A task whose attempt is running, `since` when (seconds since 1970); with its row to be,
    where one is kept."""

    label: str
    attempt: int
    since: float
    row: AttemptRow | None


class Run:
    """One execution of a pipeline. `await run` waits for it; `run["quant"]` gives results."""

    __nbcache_results__: ClassVar[bool] = True

    def __init__(
        self,
        run: RunId,
        name: str,
        graph: Graph,
        decoder: Decoder,
        read_shown: Callable[[Stored], Sequence[ShownChunk]],
        *,
        user: str | None = None,
    ) -> None:
        self.id, self.name, self.graph = run, name, graph
        self.status = RunStatus.CREATED
        self.targets: tuple[str, ...] = ()  # what was asked for; empty: everything
        self.cache_place = ""  # where it looks up and keeps results
        self.is_recorded = True  # whether the log has rows of it
        self.fault = ""  # of the run as a whole, beside its tasks: a channel, the cache, ours
        self.handed_on: tuple[str, ...] = ()  # processes whose results only its tasks took
        self.is_lost = False  # its cache was deleted while it went on, and with it what it kept
        self.tasks: dict[TaskKey, TaskResult] = {}
        self.unsuccessful: set[TaskKey] = set()  # tasks that ended without a result
        self.failures: list[FailureView] = []
        self.looked_into: dict[TaskKey, Item] = {}  # failed tasks, as forensic processes see them
        self.notes: list[str] = []
        self.waits: dict[str, WaitView] = {}  # replaced as a whole
        self._waiting = threading.Lock()
        self.reasons: dict[str, str] = {}
        self.kept: set[TaskKey] = set()  # made by an earlier session of this run
        self.own: set[TaskKey] = set()  # hits on what this very run made, in any session
        self.saved_s = 0.0  # of computing that other runs had done
        self.ends_at: float | None = None  # as estimated, on the clock of `time.monotonic`
        self.live_shown: dict[TaskKey, Shown] = {}  # bounded, as what is kept
        self.shown_stored: dict[TaskKey, Stored] = {}
        self.talk = Talk()
        self.at_work: dict[TaskKey, AtWork] = {}
        self._decoder, self._read_shown = decoder, read_shown
        self._started = time.monotonic()
        self._elapsed: float | None = None
        self._ended = threading.Event()
        self._cached_at: int | None = None
        self._cached_by: set[str] = set()
        self._trusted = 0
        self._refused: dict[TaskKey, str] = {}
        self._user = user
        self._seen: tuple[tuple[PlaceProgress, ...], Mapping[int, int], int] = ((), {}, 0)
        self._steering: Steering | None = None
        self._elements: Callable[[int], Elements] = lambda _: ()
        self.lacks: Callable[[str, Position], bool] = lambda place, position: False
        self.cancelled = False  # whether somebody asked that it ends

    # For the driver.

    def steered_by(self, steering: Steering) -> None:
        """Say who drives this run; a request to cancel it that came before is passed on."""
        self._steering = steering
        if self.cancelled:
            steering.cancel()

    def update(self, places: tuple[PlaceProgress, ...], items: Mapping[int, int]) -> None:
        """Replace the snapshot of the processes, and of how many items each drawn channel gave;
        with how many of the hits in it are on what this run made, as both are read together."""
        self._seen = (places, items, len(self.own))

    def note(self, text: str) -> None:
        """Say a line in its report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def wait_for_another(self, key: str, wait: WaitView | None) -> None:
        """Show for whom or what it waits, under a key; None: no longer. From any thread."""
        with self._waiting:
            waits = {each: known for each, known in self.waits.items() if each != key}
            self.waits = waits if wait is None else {**waits, key: wait}

    def note_refused(self, task: TaskKey, why: str) -> None:
        """A result was there, and did not count since nobody vouches for it."""
        self._refused[task] = why

    def note_hit(self, task: TaskKey, entry: Entry, *, kept: bool, trusted: bool) -> None:
        """The result of an earlier attempt was used; `kept`: of the same task in an earlier session
        of this run; `trusted`: of another hash, which somebody took for equal.

        What this very run made, for this task or an equal one, comes from no cache: it saves
        nothing.
        """
        self._trusted += trusted
        if kept:
            self.kept.add(task)
        if entry.run == self.id:
            self.own.add(task)
        else:
            self.saved_s += entry.realtime or 0.0
        at, user = entry.at, entry.user
        self._cached_at = max(at, self._cached_at or 0)
        if user:
            self._cached_by.add("you" if user == self._user else user)

    def note_end(self, task: TaskKey, result: TaskResult) -> None:
        """A task ended; perhaps again, since its result had to be made once more."""
        self.tasks[task] = result
        (self.unsuccessful.discard if result.outcome.succeeded else self.unsuccessful.add)(task)

    def note_equal(self, task: TaskKey, owner: TaskKey) -> None:
        """A task of the same hash ran for it: what that showed is what this one shows."""
        ran = self.tasks.get(owner)
        if ran is not None and (ran.outcome is Outcome.COMPLETED or owner in self.own):
            self.own.add(task)
        if owner in self.shown_stored:
            self.shown_stored[task] = self.shown_stored[owner]
        elif owner in self.live_shown:
            self.live_shown[task] = self.live_shown[owner]

    def forget_hit(self, task: TaskKey) -> None:
        """What a task took from earlier is gone: it will be made again."""
        self.kept.discard(task)
        self.own.discard(task)

    def equal_tasks(self) -> Counter[int]:
        """Return, by process, how many tasks got the result of an equal one of this run."""
        return Counter(place for place, _ in self.own - self.kept)

    def keep_channels(
        self, elements: Callable[[int], Elements], lacks: Callable[[str, Position], bool]
    ) -> None:
        """Remember how a channel's items are found, for readers after the run's end, and how it is
        told that a process has no task at a position."""
        self._elements, self.lacks = elements, lacks

    def close(self, status: RunStatus) -> None:
        """It is over, and this is how it ended; its hooks are still to be told. Failures stand in
        the order of the items."""
        places = {task.label: key for key, task in self.tasks.items()}
        self.failures.sort(key=lambda failure: places.get(failure.task, ()))
        self.status = status
        self.stop_clock()

    def stop_clock(self) -> float:
        """Return the seconds that it took, as its last row and everybody says from now on."""
        self._elapsed = self.elapsed_s
        return self._elapsed

    def end(self) -> None:
        """The last word: nothing changes after it, and who waits goes on."""
        self._ended.set()

    # For everybody.

    @property
    def done(self) -> bool:
        """Whether the run has ended, however it ended."""
        return self._ended.is_set()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run was started, or that it took."""
        return self._elapsed if self._elapsed is not None else time.monotonic() - self._started

    @property
    def error(self) -> str:
        """Why it failed, in a line: its own fault, or the first failed task and what that raised;
        empty where nothing failed, or not yet."""
        failed = next((each for each in self.failures if not each.ignored), None)
        return self.fault or (f"{failed.task} {failed.headline}" if failed is not None else "")

    @property
    def message(self) -> str:
        """What a failed run says at the end of its cell; empty where it did not fail."""
        return self._report() if self.status is RunStatus.FAILED else ""

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the run's processes."""
        return tuple(self.graph.places)

    @cached_property
    def outline(self) -> Outline:
        """What a picture of the run shows."""
        return outline_of(self.graph)

    def progress(self) -> RunProgress:
        """Return a snapshot; cheap, and safe from any thread."""
        status = self.status.value  # first: nothing of what follows changes once it has ended
        places, items, own = self._seen
        if status not in LIVE:
            places = tuple(map(_as_ended, places))
        return RunProgress(
            run=self.id,
            name=self.name,
            status=status,
            elapsed_s=self.elapsed_s,
            left_s=self._left_s(),
            saved_s=self.saved_s,
            places=places,
            items=items,
            failures=tuple(self.failures),
            notes=(*self.notes, *self._refusal_note()),
            waits=tuple(self.waits.values()),
            error=self.fault,
            cached_at=self._cached_at,
            trusted=self._trusted,
            own=own,
            cached_by=tuple(sorted(self._cached_by, key=lambda name: (name != "you", name))),
        )

    def _left_s(self) -> float | None:
        """Return how long it still goes; None where nothing tells, as once it was to have ended."""
        left = 0.0 if self.done or self.ends_at is None else self.ends_at - time.monotonic()
        return left if left > 0 else None

    def _refusal_note(self) -> Sequence[str]:
        """Say how many results do not count because nobody vouches for them, and what to do."""
        pickles = [why for why in self._refused.values() if not why.endswith(Standing.FORGED.value)]
        count, forged = len(pickles), len(self._refused) - len(pickles)
        changed = f"{self.cache_place}: results changed after signing, so made again: {forged}"
        notes = [changed] if forged else []
        if not pickles:
            return notes
        what = "1 result in it is a pickle" if count == 1 else f"{count} results in it are pickles"
        said = (
            f"{self.cache_place} is not your cache, and {what} that nobody you trust has signed: "
            f"{'its task runs' if count == 1 else 'their tasks run'} again."
        )
        if not all(why.endswith(Standing.REVOKED.value) for why in pickles):
            said += (
                " If you trust who made it, say so in a shell: nbcache keys trust KEY (or the "
                "folder, if all of it is yours)"
            )
        return [*notes, said]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended or `timeout` seconds are over; says whether it ended."""
        return self._ended.wait(timeout)

    def cancel(self) -> None:
        """End the run in order: running tasks are stopped, finished ones kept."""
        self.cancelled = True
        if self._steering is not None and not self.done:
            self._steering.cancel()

    def __await__(self) -> Generator[object, None, Run]:
        return self._wait().__await__()

    async def _wait(self) -> Run:
        await asyncio.get_running_loop().run_in_executor(None, self._ended.wait)
        self.raise_for_status()
        return self

    def raise_for_status(self) -> None:
        """Raise RunFailed with a short report where the run failed; RunError if cancelled."""
        if self.status is RunStatus.FAILED:
            raise RunFailed(self._report())
        if self.status is RunStatus.CANCELLED:
            kept = sum(task.outcome.succeeded for task in self.tasks.values())
            raise RunError(
                f"run {self.name} was cancelled: {kept} finished tasks are kept; "
                f"{command('run')} goes on"
            )

    def _report(self) -> str:
        """Return what ends the cell: the first failure, how many more, what is kept, the way on."""
        failures = [failure for failure in self.failures if not failure.ignored]
        if self.is_lost or not failures:
            return self.fault or f"run {self.name} failed"
        kept = sum(task.outcome.succeeded for task in self.tasks.values())
        wanted = sum(task.outcome is not Outcome.SKIPPED for task in self.tasks.values())
        counts = f"{kept} of {wanted} done and kept"
        if self.fault:  # a channel, which ended the run whatever tasks failed
            return f"{self.fault}\nfailed as well: {_listed(failures)}\n{counts}"
        first, *others = failures
        error = first.error.split("\n")
        if len(error) > _ERROR_LINES:  # of a script what it said last, of an exception its begin
            cut = slice(1, 2 - _ERROR_LINES) if first.command else slice(_ERROR_LINES - 1, None)
            error[cut] = ["…"]
        lines = ["\n".join([f"{first.task} {error[0]}", *error[1:]])]
        if first.where:
            lines.append(f"  {first.where}")
        if first.log and "\n" not in first.error:  # a script's error has its last lines already
            printed = first.log.strip().split("\n")
            lines += [f"  | {line}" for line in printed[-2 if first.where else -6 :]]
        if first.command:
            lines.append(f"  $ {first.command}")
        if others:
            lines.append(f"and {len(others)} more: {_listed(others)}")
        lines.append(counts)
        again = command(f"try {first.process} --item failed")
        mend = f"fix the cell and run again, or {again}"
        lines.append(first.way_out or mend)
        if first.workdir:
            lines.append(f"look inside: {command(f'debug {first.process}')} · {first.workdir}")
        return "\n".join(lines)

    def __getitem__(self, name: str) -> Results:
        """Return the results of a process in this run, or the items of a channel.

        Raises:
            KeyError: the run has neither. NotRunError: the items are not known before its end.
        """
        if name in self.graph.places:
            return self._results_of(name, self.graph.places[name])
        if name not in self.graph.channels:
            listed = ", ".join(self._ipython_key_completions_())
            raise KeyError(f"run {self.name} has no process or channel {name!r}; it has {listed}")
        if not self.done:
            raise NotRunError(f"run {self.name} is still going: {name} is not known yet")
        index = self.graph.channels[name]
        fields = self.graph.nodes[index].fields
        return channel_items(name, fields, self._elements(index), self._decoder)

    def _ipython_key_completions_(self) -> list[str]:
        return list(dict.fromkeys([*self.graph.places, *self.graph.channels]))

    def _results_of(self, name: str, index: int) -> Results:
        node = self.graph.nodes[index]
        assert node.decl is not None
        fields = [output.name for output in node.decl.outputs or ()]
        tasks = [task for key, task in list(self.tasks.items()) if key[0] == index]
        return Results(name, fields, tasks, self._decoder)

    def showing(self, place: str) -> list[tuple[str, str, str]]:
        """Return (label, outcome, position) of each task of a process that showed something.

        Reads nothing: what they showed is what takes long where they are many.
        """
        return [
            (task.label, task.outcome.value, format_position(key[1]))
            for key, task in self._told(place)
            if key in self.shown_stored or self.chunks(key)
        ]

    def shown(
        self, place: str, only: Collection[str] | None = None
    ) -> list[tuple[str, str, list[ShownChunk]]]:
        """Return (label, outcome, chunks) of each task of a process that showed something.

        only: of the tasks at these positions.
        """
        found = [
            (task.label, task.outcome, self.chunks(key))
            for key, task in self._told(place)
            if only is None or format_position(key[1]) in only
        ]
        return [
            (label, outcome.value, chunks)
            for label, outcome, chunks in found
            if chunks or not outcome.succeeded
        ]

    def _told(self, place: str) -> list[tuple[TaskKey, TaskResult]]:
        """Return those tasks of a process of which there is something to show: few of many."""
        index = self.graph.places[place]
        live = [key for key, shown in list(self.live_shown.items()) if shown]
        found = {*list(self.shown_stored), *live, *list(self.unsuccessful)}
        keys = sorted(key for key in found if key[0] == index and key in self.tasks)
        return [(key, self.tasks[key]) for key in keys]

    def chunks(self, key: TaskKey) -> list[ShownChunk]:
        """Return what a task showed: from the store when it is done, else as it came so far."""
        if key in self.shown_stored:
            try:
                return list(self._read_shown(self.shown_stored[key]))
            except NbcacheError as error:
                return [ShownChunk("stderr", f"what this task printed is no longer kept: {error}")]
        live = self.live_shown.get(key)
        return live.chunks() if live is not None else []

    def printed(self) -> list[str]:
        """Return what `debug` processes printed since this was last asked."""
        return self.talk.take()

    def counts(self) -> dict[str, int]:
        """Return how many tasks ended with each outcome."""
        outcomes = [task.outcome for task in list(self.tasks.values())]
        return {each.value: number for each in Outcome if (number := outcomes.count(each))}

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {name}" for name, number in sorted(self.counts().items()))
        return f"run {self.name} ({self.status.value}{': ' + counts if counts else ''})"


def _listed(failures: Sequence[FailureView]) -> str:
    """Name the first three of the failed tasks."""
    named = ", ".join(failure.task for failure in failures[:3])
    return f"{named}, ..." if len(failures) > 3 else named


def _as_ended(place: PlaceProgress) -> PlaceProgress:
    """Return how far a process of a run that is over is: no more tasks come, though nobody may
    have known how many there would have been."""
    if place.expected is not None:
        return place
    return replace(place, expected=sum(place.counts.values()))
