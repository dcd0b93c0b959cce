"""Facts about a run, in the past tense: what the driver tells the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbcache.model.channel import Item
from nbcache.model.digest import Digest
from nbcache.model.ids import Position
from nbcache.model.task import Outcome

TaskKey = tuple[int, Position]
"""A task inside one run: the index of its process node and its position."""


@dataclass(slots=True)
class Resources:
    """What one attempt asks for: cpus, gpus, bytes of memory and of disk (None: not said), seconds
    (None: no limit)."""

    cpus: int = 1
    memory: int | None = None
    time: float | None = None
    gpus: int = 0
    disk: int | None = None


@dataclass(slots=True)
class Event:
    """Something that happened."""


@dataclass(slots=True)
class SourceLoaded(Event):
    """A source channel gave all its items (exactly one for a value channel)."""

    node: int
    items: Sequence[Item]


@dataclass(slots=True)
class Applied(Event):
    """An operator's function returned. `call` is that of the Apply command."""

    call: int
    result: object


@dataclass(slots=True)
class ChannelFailed(Event):
    """A source could not be loaded or an operator's function raised: the run cannot be complete."""

    node: int
    error: BaseException


@dataclass(slots=True)
class Hit(Event):
    """The cache, or a store folder, holds the task's result: the item that its channel gets."""

    task: TaskKey
    hash: Digest | None
    outputs: Item
    outcome: Outcome = Outcome.CACHED


@dataclass(slots=True)
class Missed(Event):
    """The task has to run, and this is what it asks for. hash None: not cached at all."""

    task: TaskKey
    hash: Digest | None
    resources: Resources


@dataclass(slots=True)
class Skipped(Event):
    """The `when` guard said no, or an optional input was not there."""

    task: TaskKey


@dataclass(slots=True)
class Refused(Event):
    """The task could not be fingerprinted or its inputs are wrong: it fails without an attempt."""

    task: TaskKey
    error: str


@dataclass(slots=True)
class Foreseen(Event):
    """In place of an attempt where nothing is run: what the task would make is not known.

    ignored: an attempt at this very hash failed and was ignored, so it would leave that hole.
    """

    task: TaskKey
    ignored: bool = False


@dataclass(slots=True)
class AttemptStarted(Event):
    task: TaskKey


@dataclass(slots=True)
class AttemptSucceeded(Event):
    """The attempt's outputs are in the store and its row is in the log."""

    task: TaskKey
    outputs: Item


@dataclass(slots=True)
class AttemptFailed(Event):
    """`action` is what on_error came to: continue, stop, finish, ignore or retry; `resources` and
    `after_s` are for the next attempt (used with retry only)."""

    task: TaskKey
    error: str
    action: str
    resources: Resources
    after_s: float = 0.0


@dataclass(slots=True)
class AttemptPostponed(Event):
    """The attempt could not begin, since somebody else computes the same: its room is free."""

    task: TaskKey


@dataclass(slots=True)
class OtherEnded(Event):
    """Whom a postponed task waited for has ended: with its result, or (None) without."""

    task: TaskKey
    hash: Digest
    outputs: Item | None


@dataclass(slots=True)
class RetryDue(Event):
    """The wait before a retry is over."""

    task: TaskKey


@dataclass(slots=True)
class CancelRequested(Event):
    """The user (or a fatal error) wants the run to end now."""


@dataclass(slots=True)
class AttemptAborted(Event):
    """An attempt was killed because the run is ending."""

    task: TaskKey


@dataclass(slots=True)
class InputRecalled(Event):
    """Blobs of a task's inputs are gone: who made them has to run again."""

    task: TaskKey
    producers: tuple[TaskKey, ...]
