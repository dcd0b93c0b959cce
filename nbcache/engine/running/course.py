"""The course of one run: what is known of its tasks so far, and what all who drive it share.

`Driver` obeys the scheduler with the help of parts that each perform one kind of command. What one
of them finds out and another needs stands here, and nowhere twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nbcache.engine.record.results import Decoder
from nbcache.engine.running.decide import Decider
from nbcache.engine.running.decision import Decision, blobs_of
from nbcache.engine.running.inbox import Errands, Inbox
from nbcache.engine.running.pace import Pace
from nbcache.engine.running.rows import RowMaker
from nbcache.engine.running.run import Run
from nbcache.engine.spec import AttemptReport
from nbcache.model.channel import Graph, Item
from nbcache.model.digest import Digest
from nbcache.model.event import TaskKey
from nbcache.model.view import FailureView
from nbcache.plan.dataflow.retry import FailedAttempt
from nbcache.plan.dataflow.scheduler import Scheduler
from nbcache.store.cache import Cache


@dataclass(slots=True)
class Course:
    """A run under way. On the engine's loop, but for `decisions`, which the hashing thread adds to,
    and `failed`, which the operator thread reads."""

    run: Run
    graph: Graph
    sources: Mapping[int, Sequence[Item]]
    scheduler: Scheduler
    decider: Decider
    decoder: Decoder
    cache: Cache
    rows: RowMaker | None  # None: nothing of the run is kept
    inbox: Inbox = field(default_factory=Inbox)
    errands: Errands = field(init=False)
    pace: Pace = field(default_factory=Pace)
    decisions: dict[TaskKey, Decision] = field(default_factory=dict)
    row_ids: dict[TaskKey, str] = field(default_factory=dict)  # of the row that holds its result
    failed: dict[TaskKey, tuple[FailureView, FailedAttempt, int]] = field(default_factory=dict)
    retrying: dict[TaskKey, int] = field(default_factory=dict)  # -> the attempt that failed last
    killed: set[TaskKey] = field(default_factory=set)  # whether or not an attempt had begun
    begun: set[TaskKey] = field(default_factory=set)  # of which an attempt has
    overlooked: set[str] = field(default_factory=set)  # folders told of, also by earlier runs
    producers: dict[str, TaskKey] = field(default_factory=dict)  # blob -> whose output it is

    def __post_init__(self) -> None:
        self.errands = Errands(self.inbox.break_off)

    def note_row(self, task: TaskKey, report: AttemptReport) -> None:
        """An attempt has left its row, with what it showed."""
        if report.row is None:
            return
        self.row_ids[task] = report.row.id
        if report.row.shown is not None:
            self.run.shown_stored[task] = report.row.shown
        if report.row.shown is not None or not self.run.live_shown.get(task):
            self.run.live_shown.pop(task, None)  # of very many each card would look through them

    def note_outputs(self, task: TaskKey, outputs: Iterable[object]) -> None:
        """Remember whose outputs these are: one may be gone when it is needed."""
        for blob in blobs_of(outputs):
            self.producers.setdefault(blob, task)

    def recalled(self, blob: Digest) -> TaskKey | None:
        """Return who can make a blob again that is gone, None where nobody can."""
        producer = self.producers.get(blob)
        if producer is not None:
            self.decider.forget(blob)
            self.run.forget_hit(producer)
        return producer
