"""Results that are gone: which tasks wait until which others have made them again.

What becomes of a task that waits is the scheduler's to say, once its producers are done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nbcache.plan.dataflow.lives import DONE, PENDING, Task


class Recalls:
    """The waits of one run. A task waits for all producers that it was told of, at any time."""

    def __init__(self) -> None:
        self._ended: list[Task] = []  # producers that are done again, in this round

    def wait(self, task: Task, producers: Iterable[Task]) -> None:
        """Let a task wait until producers have made its inputs again."""
        for producer in producers:
            task.waiting_for = {*(task.waiting_for or ()), producer.key}
            producer.waiters = [*(producer.waiters or ()), task]

    def ended(self, task: Task) -> None:
        """A task is done that others wait for: they go on once what it made has travelled."""
        self._ended.append(task)

    def released(self) -> Iterator[tuple[Task, Task]]:
        """Yield each task that goes on now, with the producer that decides how: the first that
        could not make the input again, or the last that all are there with."""
        while self._ended:
            producer = self._ended.pop(0)
            if producer.life is not DONE:  # it was taken back: its own input is another now
                continue
            waiters, producer.waiters = producer.waiters or [], None
            assert producer.outcome is not None
            for task in waiters:
                if task.waiting_for is None or task.life is not PENDING:
                    continue
                task.waiting_for.discard(producer.key)
                if not task.waiting_for or not producer.outcome.succeeded:
                    task.waiting_for = None
                    yield task, producer
