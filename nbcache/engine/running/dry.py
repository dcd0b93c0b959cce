"""A run without attempts: what would hit, what would run and why, what cannot be known yet.

The scheduler and the decider are those of a run, so a plan cannot disagree with the run that
follows. What would have to run leaves a hole, whatever its `on_error` says; what depends on it is
counted as unknown.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from nbcache.engine.declared.operating import call_operator
from nbcache.engine.garbage import collected_rarely
from nbcache.engine.record.results import Elements, undecided_label
from nbcache.engine.running.decide import TAKEN_OUT
from nbcache.engine.running.decision import Decision, blobs_of, outcome_of_hit
from nbcache.engine.running.prepare import Prepared
from nbcache.errors import NbcacheError
from nbcache.model.channel import Graph, Item, with_all_below
from nbcache.model.command import Apply, Command, Decide, End, Load, Report
from nbcache.model.digest import Digest
from nbcache.model.event import (
    Applied,
    ChannelFailed,
    Event,
    Foreseen,
    Hit,
    Refused,
    Skipped,
    SourceLoaded,
    TaskKey,
)
from nbcache.model.task import Outcome
from nbcache.model.value import HoleCause
from nbcache.plan.dataflow.scheduler import Scheduler
from nbcache.store.filestate import TooLong


@dataclass(slots=True)
class DryRun:
    """What a dry run found: decisions of the tasks that could be decided, errors of the others."""

    decisions: dict[TaskKey, Decision] = field(default_factory=dict)
    errors: dict[TaskKey, str] = field(default_factory=dict)
    labels: dict[TaskKey, str] = field(default_factory=dict)  # of those that could not be decided
    outcomes: dict[TaskKey, Outcome] = field(default_factory=dict)
    expected: dict[str, int | None] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)  # tasks below something that would run
    channel_error: str = ""
    failed: Mapping[str, Item] = field(default_factory=dict)  # what failed already: as `dry_run`
    makers: dict[Digest, TaskKey] = field(default_factory=dict)  # of results known by the log alone
    broken: frozenset[int] = frozenset()  # the nodes that this leaves without items
    elements: Callable[[int], Elements] = lambda _: ()  # of a channel's node, in order

    def is_complete(self) -> bool:
        """Whether every task is a hit (or had its end before), so that nothing would run."""
        tasks = self.decisions.keys() | self.errors.keys()
        return not self.channel_error and all(map(self._is_settled, tasks))

    def _is_settled(self, task: TaskKey) -> bool:
        """Whether a task is a hit, is left out, or has failed before."""
        if self.outcomes.get(task) in (Outcome.SKIPPED, Outcome.IGNORED):
            return True
        decision = self.decisions.get(task)
        is_hit = decision is not None and decision.outputs is not None and task not in self.errors
        return is_hit or self.failure(task) is not None

    def note_known(self, decision: Decision) -> None:
        """Remember of whom results are that are known and gone: somebody may need them yet."""
        for blob in blobs_of(decision.outputs or ()):
            self.makers.setdefault(blob, decision.task)

    def want(self, blobs: Iterable[Digest]) -> None:
        """Somebody would run and needs these: who made them would run first, and so upwards."""
        for blob in blobs:
            maker = self.decisions.get(self.makers[blob]) if blob in self.makers else None
            if maker is not None and maker.outputs is not None:
                maker.outputs, maker.reason = None, TAKEN_OUT
                self.want(blobs_of(maker.values().values()))

    def failure(self, task: TaskKey) -> Item | None:
        """Return what is known of a task's failure, if it failed before."""
        decision = self.decisions.get(task)
        label = self.labels.get(task, "") if decision is None else decision.label
        return self.failed.get((decision and decision.hash) or label)


_SHOWING = ("view", "subscribe")  # functions that are called for what they show


@collected_rarely()
def dry_run(
    prepared: Prepared,
    *,
    within_s: float | None = None,
    ignored: Collection[Digest] = (),
    failed: Mapping[str, Item] | None = None,
) -> DryRun:
    """Decide every task that can be decided without running anything.

    ignored: hashes whose attempt failed and was ignored; these count as done.
    failed: what processes that look into failures take of tasks that failed, by their hashes (or
        labels, of those without); these count as done, too.

    Raises:
        TooLong: it took longer than `within_s` seconds.
    """
    found = DryRun(failed=failed or {})
    deadline = None if within_s is None else time.monotonic() + within_s
    scheduler = Scheduler(prepared.graph, cpus=1 << 30, gpus=1 << 30, memory=None, give_up_after=0)
    commands: deque[Command] = deque(scheduler.start())
    steps = 0
    with prepared.decider.downloads:
        while commands:
            steps += 1
            if deadline is not None and steps % 16 == 0 and time.monotonic() > deadline:
                raise TooLong
            command = commands.popleft()
            if isinstance(command, End):
                break
            event = _answer(command, prepared, found, ignored)
            if event is not None:
                more = scheduler.handle(event)
                for each in more if deadline is None else ():
                    if isinstance(each, Decide):  # several files are fetched at once for hashes
                        prepared.decider.expect(each.task, each.inputs)
                commands.extend(more)
    found.elements = scheduler.elements
    for node, error in scheduler.channel_errors[:1]:
        found.channel_error = str(error)
        found.broken = with_all_below(prepared.graph, {node})
    vague = _vague_queues(prepared.graph, scheduler)
    for name, index in prepared.graph.places.items():
        held = [
            (position, slot)
            for position, slot in scheduler.elements(index)
            if (index, position) not in found.decisions and (index, position) not in found.errors
        ]
        found.expected[name] = None if index in vague else scheduler.expected(name)
        unknown = sum(isinstance(slot, HoleCause) and slot.foreseen for _, slot in held)
        if not found.channel_error:  # which ends a run: what has no slot then gets none
            unknown += max((found.expected[name] or 0) - len(scheduler.elements(index)), 0)
        found.unknown[name] = unknown
    return found


def _vague_queues(graph: Graph, scheduler: Scheduler) -> set[int]:
    """Return the queues whose length nobody knows: one hole in them may become any number."""
    found: set[int] = set()
    for node in graph.nodes:  # parents first
        if node.is_value:
            continue
        multiplied = node.parents if node.by else node.parents[:1]
        if not found.isdisjoint(node.parents) or (
            node.op in ("flat_map", "group_by", "combine")
            and not node.options.get("one_each")
            and any(
                isinstance(slot, HoleCause) and slot.foreseen
                for parent in multiplied
                for _, slot in scheduler.elements(parent)
            )
        ):
            found.add(node.index)
    return found


def _answer(
    command: Command,
    prepared: Prepared,
    found: DryRun,
    ignored: Collection[Digest],
) -> Event | None:
    if isinstance(command, Load):
        return SourceLoaded(command.node, prepared.sources[command.node])
    if isinstance(command, Apply):
        return _apply(command, prepared, found)
    if isinstance(command, Decide):
        return _decide(command, prepared, found, ignored)
    if isinstance(command, Report):
        found.outcomes[command.task] = command.outcome
    return None


def _apply(command: Apply, prepared: Prepared, found: DryRun) -> Event | None:
    node = prepared.graph.nodes[command.node]
    if command.role == "failure":
        known = found.failure(cast(TaskKey, command.args[0]))
        return None if known is None else Applied(command.call, known)
    if node.op in _SHOWING:
        return Applied(command.call, None)
    try:
        return Applied(command.call, call_operator(node, command.args, prepared.decoder.value))
    except Exception as error:
        return ChannelFailed(command.node, error)


def _decide(
    command: Decide, prepared: Prepared, found: DryRun, ignored: Collection[Digest]
) -> Event:
    try:
        decision = prepared.decider.decide(command.task, command.inputs)
        found.decisions[command.task] = decision
        if not prepared.decider.evaluator.is_wanted(decision):
            return Skipped(command.task)
    except TooLong:
        raise
    except Exception as error:
        text = str(error) if isinstance(error, NbcacheError) else f"{type(error).__name__}: {error}"
        node, position = command.task
        found.errors[command.task] = text
        found.labels[command.task] = undecided_label(prepared.graph.nodes[node].name, position)
        return Refused(command.task, text)
    if decision.is_hit:
        assert decision.outputs is not None
        if decision.is_known_only:
            found.note_known(decision)
        return Hit(command.task, decision.hash, decision.outputs, outcome_of_hit(decision))
    if found.makers:  # else a gathered input would be walked for each task, for nothing
        found.want(blobs_of(decision.values().values()))
    return Foreseen(command.task, ignored=decision.hash in ignored)
