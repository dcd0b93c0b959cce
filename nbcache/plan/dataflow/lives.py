"""One task's life inside the scheduler, moved only along `model.task.TRANSITIONS`.

`Census.move` is the single place where a task's state changes; it keeps the counts that displays
show and the story that errors tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbcache.model.digest import Digest
from nbcache.model.event import Resources, TaskKey
from nbcache.model.ids import Position
from nbcache.model.task import TRANSITIONS, Outcome, TaskState

NO_RESOURCES = Resources()


class Life:
    """A state with the moves that lead out of it; `TRANSITIONS` in the form that is quickest."""

    __slots__ = ("moves", "name", "state")

    def __init__(self, state: TaskState) -> None:
        self.state, self.name = state, state.value
        self.moves: dict[str, Life] = {}


_LIVES = {state: Life(state) for state in TaskState}
for (_state, _action), _next in TRANSITIONS.items():
    _LIVES[_state].moves[_action] = _LIVES[_next]
PENDING = _LIVES[TaskState.PENDING]
READY = _LIVES[TaskState.READY]
RUNNING = _LIVES[TaskState.RUNNING]
DONE = _LIVES[TaskState.DONE]


class Task:
    """What the scheduler knows of one task."""

    __slots__ = (
        "attempt",
        "error",
        "hash",
        "inputs",
        "life",
        "node",
        "outcome",
        "outputs",
        "owner",
        "passed_by",
        "position",
        "postponed",
        "queued",
        "resources",
        "share",
        "stale",
        "story",
        "twins",
        "waiters",
        "waiting_for",
    )

    def __init__(self, node: int, position: Position, inputs: Mapping[str, object]) -> None:
        self.node, self.position, self.inputs = node, position, inputs
        self.life = PENDING
        self.outcome: Outcome | None = None
        self.hash: Digest | None = None
        self.resources = NO_RESOURCES
        self.share = 0  # of the room, while it runs
        self.attempt = 0
        self.story: list[str] = []
        self.queued = False  # waits in the ready queue
        self.postponed = False  # waits for a retry, or for whoever computes the same
        self.stale = False  # its inputs are others since it was fingerprinted
        self.passed_by = 0
        self.owner: Task | None = None  # the task whose result it will share
        self.twins: list[Task] | None = None
        self.outputs: tuple[object, ...] | None = None
        self.error: str | None = None
        self.waiting_for: set[TaskKey] | None = None  # producers that make lost inputs again
        self.waiters: list[Task] | None = None

    def __lt__(self, other: Task) -> bool:
        return self.position < other.position

    @property
    def key(self) -> TaskKey:
        return (self.node, self.position)

    @property
    def state(self) -> TaskState:
        return self.life.state


class SchedulerFault(AssertionError):
    """An event that cannot be: a bug of the driver or the scheduler. Tells the task's story."""


class Census:
    """Counts of tasks by state and outcome, per process."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[str, int]] = {}
        self.alive = 0  # tasks that are not done

    def born(self, task: Task) -> None:
        """A task appears, PENDING."""
        counts = self._counts.setdefault(task.node, {})
        counts["pending"] = counts.get("pending", 0) + 1
        self.alive += 1

    def move(self, task: Task, action: str, outcome: Outcome | None = None) -> None:
        """Change a task's state: the only place that does.

        Raises:
            SchedulerFault: TRANSITIONS has no such move.
        """
        before = task.life
        after = before.moves.get(action)
        if after is None:
            story = " ".join(task.story) or "nothing"
            raise SchedulerFault(
                f"task {task.key} is {before.name}, cannot be {action!r}; so far: {story}"
            )
        counts = self._counts[task.node]
        if before is DONE:
            assert task.outcome is not None
            counts[task.outcome.value] -= 1
            self.alive += 1
        else:
            counts[before.name] -= 1
        if after is DONE:
            assert outcome is not None
            name = outcome.value
            self.alive -= 1
        else:
            name = after.name
        counts[name] = counts.get(name, 0) + 1
        task.outcome, task.life = outcome, after
        task.story.append(action if outcome is None else outcome.value)

    def is_over(self, node: int, expected: int | None) -> bool:
        """Whether all `expected` tasks of a process are there and done; None: those there are."""
        counts = self._counts.get(node, {})
        alive = any(counts.get(state.value) for state in TaskState)
        return not alive and expected in (None, sum(counts.values()))

    def of(self, node: int) -> dict[str, int]:
        """Return the counts of a process, without zeros."""
        return {name: n for name, n in self._counts.get(node, {}).items() if n}
