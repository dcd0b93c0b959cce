"""A simulated driver: it obeys the scheduler's commands with delays and faults of its choosing.

Time is a number in a heap, so a run of hours takes milliseconds. What a task computes depends on
its process and inputs only; when it is done, and in which order events arrive, on the seed.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nbcache.model import event as ev
from nbcache.model.channel import Graph, Item
from nbcache.model.command import Apply, Command, Decide, End, Kill, Load, Report, Start, Wait
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.event import Event, Resources, TaskKey
from nbcache.model.task import Outcome, RunStatus
from nbcache.plan.dataflow.scheduler import Scheduler

_ENDS = ev.AttemptSucceeded | ev.AttemptFailed | ev.InputRecalled | ev.AttemptPostponed
Fault = Callable[[str, Mapping[str, object], int], str | None]


def no_fault(place: str, inputs: Mapping[str, object], attempt: int) -> str | None:
    return None


def tuple_of_inputs(place: str, inputs: Mapping[str, object]) -> Item:
    """The default body: a value that shows everything the task received, in order."""
    return (f"{place}({', '.join(f'{k}={v!r}' for k, v in sorted(inputs.items()))})",)


@dataclass
class World:
    """One run of a graph. `cache` (hash to outputs) may be shared by several runs."""

    graph: Graph
    seed: int = 0
    cpus: int = 4
    memory: int | None = None
    max_parallel: int | None = None
    levels: bool = False
    max_errors: int | None = None
    fault: Fault = no_fault
    body: Callable[[str, Mapping[str, object]], Item] = tuple_of_inputs
    resources: Callable[[str, Mapping[str, object]], Resources] = lambda place, inputs: Resources()
    cache: dict[Digest, Item] = field(default_factory=dict)
    skip: Callable[[str, Mapping[str, object]], bool] = lambda place, inputs: False
    hash_of: Callable[[str, Mapping[str, object]], str] = lambda p, i: repr((p, sorted(i.items())))
    cancel_after: int | None = None  # events
    uniform: bool = False  # every delay is equal: first in, first out
    give_up_after: int = 0
    lost: Callable[[TaskKey], TaskKey | None] = lambda key: None  # whose result its attempt lacks
    others: float = 0.0  # how likely it is that somebody else computes a task that is to start

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            self.graph,
            cpus=self.cpus,
            memory=self.memory,
            max_parallel=self.max_parallel,
            levels=self.levels,
            max_errors=self.max_errors,
            give_up_after=self.give_up_after,
        )
        self.random = random.Random(self.seed)
        self.inputs: dict[TaskKey, Mapping[str, object]] = {}
        self.hashes: dict[TaskKey, Digest] = {}
        self.reports: dict[TaskKey, list[Report]] = {}
        self.attempts: Counter[TaskKey] = Counter()
        self.running: dict[TaskKey, Resources] = {}
        self.started: list[TaskKey] = []
        self.calls = 0
        self.peak_cpus = self.peak_memory = self.peak_running = 0
        self.peak_forks: Counter[int] = Counter()
        self.status: RunStatus | None = None
        self._heap: list[tuple[float, int, Event]] = []
        self._now, self._sequence = 0.0, 0
        self._dead: set[TaskKey] = set()
        self.remade: set[Digest] = set()

    # What happened

    def outcome(self, place: str, *position: int) -> Outcome:
        return self.reports[(self.graph.places[place], position)][-1].outcome

    def tasks(self, place: str) -> dict[tuple[int, ...], Mapping[str, object]]:
        index = self.graph.places[place]
        return {key[1]: inputs for key, inputs in self.inputs.items() if key[0] == index}

    def items(self, name: str) -> list[object]:
        """The items of a named channel in order; holes are their cause's outcome in brackets."""
        index = self.graph.channels[name]
        found = self.scheduler.elements(index)
        return [
            (slot[0] if len(slot) == 1 else slot)
            if isinstance(slot, tuple)
            else f"<{slot.outcome}>"
            for _, slot in found
        ]

    def everything(self) -> dict[object, object]:
        """All that must not depend on the schedule: tasks with inputs, hashes, ends, channels."""
        found: dict[object, object] = {}
        for key, inputs in self.inputs.items():
            outcomes = [report.outcome for report in self.reports.get(key, [])]
            ends = ["good" if outcome.succeeded else outcome.value for outcome in outcomes]
            found[key] = (repr(dict(inputs)), self.hashes[key], ends)
        for node in self.graph.nodes:
            slots = [(p, repr(slot)) for p, slot in self.scheduler.elements(node.index)]
            found[node.index] = slots
        found["status"] = self.status
        return found

    # Doing

    def run(self, limit: int = 1_000_000) -> World:
        """Run to the end."""
        self._obey(self.scheduler.start())
        count = 0
        while self.status is None:
            assert self._heap, "the run hangs: nothing will happen any more"
            count += 1
            assert count < limit
            if count == self.cancel_after:
                self._obey(self.scheduler.handle(ev.CancelRequested()))
                continue
            self._now, _, event = heapq.heappop(self._heap)
            batch = [event]
            while self._heap and self.random.random() < 0.3:
                self._now, _, event = heapq.heappop(self._heap)
                batch.append(event)
            ready = [e for event in batch for e in self._happen(event)]
            self._obey(self.scheduler.handle_many(ready))
        return self

    def _happen(self, event: Event) -> list[Event]:
        """Let an event come true; ends of killed attempts have become aborts."""
        if isinstance(event, _ENDS):
            if event.task in self._dead:
                return []
            del self.running[event.task]
            if isinstance(event, ev.AttemptPostponed):
                self._later(self._end_of_another(event.task))
            if isinstance(event, ev.AttemptSucceeded):
                self.cache[self.hashes[event.task]] = event.outputs
        elif isinstance(event, ev.AttemptAborted):
            del self.running[event.task]
        return [event]

    def _later(self, event: Event, delay: float | None = None) -> None:
        if delay is None:
            delay = 1.0 if self.uniform else self.random.choice([0.0, 0.1, 1.0, 5.0])
            delay *= 1.0 if self.uniform else self.random.random()
        self._sequence += 1
        heapq.heappush(self._heap, (self._now + delay, self._sequence, event))

    def _obey(self, commands: list[Command]) -> None:
        for command in commands:
            assert self.status is None, "a command after End"
            if isinstance(command, Load):
                self._load(command)
            elif isinstance(command, Apply):
                self._apply(command)
            elif isinstance(command, Decide):
                self._decide(command)
            elif isinstance(command, Start):
                self._start(command)
            elif isinstance(command, Wait):
                self._later(ev.RetryDue(command.task), command.after_s)
            elif isinstance(command, Kill):
                if command.task in self.running:  # else its end has overtaken the command
                    self._dead.add(command.task)
                    self._later(ev.AttemptAborted(command.task))
            elif isinstance(command, Report):
                self.reports.setdefault(command.task, []).append(command)
            elif isinstance(command, End):
                self.status = command.status

    def _load(self, command: Load) -> None:
        load = self.graph.nodes[command.node].load
        assert load is not None
        try:
            self._later(ev.SourceLoaded(command.node, load()))
        except Exception as error:
            self._later(ev.ChannelFailed(command.node, error))

    def _apply(self, command: Apply) -> None:
        function = self.graph.nodes[command.node].function
        assert function is not None
        self.calls += 1
        try:
            self._later(ev.Applied(command.call, function(*command.args)))
        except Exception as error:
            self._later(ev.ChannelFailed(command.node, error))

    def _place(self, key: TaskKey) -> str:
        return self.graph.nodes[key[0]].name

    def _decide(self, command: Decide) -> None:
        key, place = command.task, self._place(command.task)
        self.inputs[key] = command.inputs
        text = self.hash_of(place, command.inputs)
        digest = self.hashes[key] = identity_digest(text.encode())
        if self.skip(place, command.inputs):
            self._later(ev.Skipped(key))
        elif digest in self.cache:
            self._later(ev.Hit(key, digest, self.cache[digest]))
        else:
            self._later(ev.Missed(key, digest, self.resources(place, command.inputs)))

    def _start(self, command: Start) -> None:
        key, place = command.task, self._place(command.task)
        assert key not in self.running, "a task has two attempts at once"
        asked = self.resources(place, self.inputs[key])
        self.running[key] = asked
        if self.others and self.random.random() < self.others:
            self._later(ev.AttemptPostponed(key))
            return
        self.attempts[key] += 1
        self.started.append(key)
        self._measure(key[0])
        if self.levels:
            self._check_level(key[0])
        self._later(ev.AttemptStarted(key), 0.0)
        producer = self.lost(key)
        if producer is not None:
            self._later(ev.InputRecalled(key, (producer,)))
            return
        action = self.fault(place, self.inputs[key], command.attempt)
        if action is not None:
            after = self.random.choice([0.0, 2.0]) if action == "retry" else 0.0
            error = f"{place} failed at attempt {command.attempt}"
            self._later(ev.AttemptFailed(key, error, action, asked, after))
            return
        self._later(ev.AttemptSucceeded(key, self.body(place, self.inputs[key])))

    def _end_of_another(self, key: TaskKey) -> ev.OtherEnded:
        """Let somebody else make the result of a task, or give it up."""
        hash, outputs = self.hashes[key], None
        if self.random.random() < 0.5:
            outputs = self.cache[hash] = self.body(self._place(key), self.inputs[key])
        return ev.OtherEnded(key, hash, outputs)

    def _check_level(self, node: int) -> None:
        """Nothing above may be left to do when a process starts."""
        above, queue = set[int](), [node]
        while queue:
            parents = self.graph.nodes[queue.pop()].parents
            above |= set(parents)
            queue += parents
        for place, index in self.graph.places.items():
            if index in above:
                counts = self.scheduler.counts(place)
                assert not counts.keys() & {"pending", "ready", "running"}, (place, counts)
                assert sum(counts.values()) == self.scheduler.expected(place)

    def _measure(self, node: int) -> None:
        running = self.running.values()
        self.peak_running = max(self.peak_running, len(running))
        self.peak_cpus = max(self.peak_cpus, sum(r.cpus for r in running))
        self.peak_memory = max(self.peak_memory, sum(r.memory or 0 for r in running))
        forks = sum(key[0] == node for key in self.running)
        self.peak_forks[node] = max(self.peak_forks[node], forks)
