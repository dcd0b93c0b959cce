"""Imperatives: what the scheduler asks the driver to do. The driver answers with events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbcache.model.event import TaskKey
from nbcache.model.task import Outcome, RunStatus


@dataclass(slots=True)
class Command:
    """Something to do."""


@dataclass(slots=True)
class Load(Command):
    """Load the items of a source node; answered by SourceLoaded or ChannelFailed."""

    node: int


@dataclass(slots=True)
class Apply(Command):
    """Call `graph.nodes[node].function(*args)`; answered by Applied or ChannelFailed.

    Stored values in `args` (items: tuples of field values; of a fold first the accumulator) are
    decoded before. The result goes back as it is: the function gives the normal form. `role` says
    what is wanted: value (map: an item; view: nothing), keep (filter, until: a bool), many
    (flat_map: a list of items), key (join, group_by, unique: a hashable key), label (branch:
    which branch), failure (failures: args are the key of a failed task; its item, or None), fold
    (reduce: args are the accumulator and the item).
    """

    call: int
    node: int
    role: str
    args: tuple[object, ...]


@dataclass(slots=True)
class Decide(Command):
    """Fingerprint the task and look it up; answered by Hit, Missed, Skipped or Refused."""

    task: TaskKey
    inputs: Mapping[str, object]


@dataclass(slots=True)
class Start(Command):
    """Start an attempt (1-based); answered by AttemptStarted and one of the ends, or by
    AttemptPostponed and later OtherEnded."""

    task: TaskKey
    attempt: int


@dataclass(slots=True)
class Wait(Command):
    """Answer with RetryDue after `after_s` seconds."""

    task: TaskKey
    after_s: float


@dataclass(slots=True)
class Kill(Command):
    """Kill the running attempt; answered by AttemptAborted, or by the end that overtook it."""

    task: TaskKey


@dataclass(slots=True)
class Report(Command):
    """A task is done. `error` is set for failures; `twin` is the task that shares its result.

    The driver writes use rows and tells observers; nothing is to be answered.
    """

    task: TaskKey
    outcome: Outcome
    error: str | None = None
    twin: TaskKey | None = None


@dataclass(slots=True)
class End(Command):
    """The run is over: every task is done and every channel closed."""

    status: RunStatus
