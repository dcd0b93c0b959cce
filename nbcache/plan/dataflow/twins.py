"""Tasks with one hash: one of them runs, the others wait for it as its twins.

Who has the result of a hash, or is to make it, owns the hash. What becomes of twins when their
owner is done is the scheduler's to say; when it is not done after all, the next of them runs.
"""

from __future__ import annotations

from collections.abc import Callable

from nbcache.model.digest import Digest
from nbcache.plan.dataflow.lives import DONE, READY, Task


class Twins:
    """The owners of hashes. `queue` lets a task run, `is_over_for` says that a node starts none."""

    def __init__(self, queue: Callable[[Task], None], is_over_for: Callable[[int], bool]) -> None:
        self._queue, self._is_over_for = queue, is_over_for
        self._owners: dict[Digest, Task] = {}

    def add(self, task: Task) -> Task | None:
        """Let a task with a new hash run, or wait for the owner; return an owner that is done."""
        owner = self._owners.get(task.hash) if task.hash is not None else None
        if owner is None:
            if task.hash is not None:
                self._owners[task.hash] = task
            self._queue(task)
        elif owner.life is DONE:
            return owner
        elif task.node < owner.node and owner.queued:
            # Level by level the lower of two tasks waits for the upper: so that one runs.
            twins = [owner, *self.disown(owner)]
            owner.queued = False
            self.adopt([task, *twins])
        else:
            task.owner = owner
            owner.twins = [*(owner.twins or ()), task]
        return None

    def disown(self, task: Task) -> list[Task]:
        """Free a task's hash; return the twins that waited for it."""
        if task.hash is not None and self._owners.get(task.hash) is task:
            del self._owners[task.hash]
        return self.let_go(task)

    def disown_result(self, task: Task) -> None:
        """Free a task's hash, whoever owns it, if what the owner has is this task's result."""
        self.disown(task)
        owner = self._owners.get(task.hash) if task.hash is not None else None
        if owner is not None and owner.life is DONE and owner.outputs is task.outputs:
            self.disown(owner)

    def let_go(self, owner: Task) -> list[Task]:
        """Return the twins that waited for a task; they wait for it no more."""
        twins, owner.twins = owner.twins or [], None
        return twins

    def leave(self, task: Task) -> None:
        """Let a twin wait no more: what its owner makes is not its result."""
        owner, task.owner = task.owner, None
        if owner is not None and owner.twins is not None:
            owner.twins = [twin for twin in owner.twins if twin is not task] or None

    def adopt(self, twins: list[Task]) -> None:
        """Let the first of some twins run, and the others wait for it."""
        waiting = [twin for twin in twins if twin.life is READY]
        if not waiting or self._is_over_for(waiting[0].node):
            return
        heir = min(waiting, key=lambda twin: twin.key)
        others = [twin for twin in waiting if twin is not heir]
        heir.owner, heir.twins = None, others or None
        if heir.hash is not None:
            self._owners[heir.hash] = heir
        for other in others:
            other.owner = heir
        self._queue(heir)
