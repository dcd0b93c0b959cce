"""What the tasks of `debug` processes print, line by line, for whoever shows the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from nbcache.model.event import TaskKey
from nbcache.model.view import ShownChunk


class Talk:
    """Lines with the task's name in front; whole lines only, so that tasks do not mix.

    One thread hears, another takes.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._begun: dict[TaskKey, str] = {}  # what a task printed since its last line end

    def hear(self, task: TaskKey, label: str, chunks: Iterable[ShownChunk]) -> None:
        """A task printed something."""
        text = self._begun.pop(task, "") + "".join(each.text for each in chunks)
        *lines, rest = text.split("\n")
        self._lines.extend(f"{label} | {line}" for line in lines)
        if rest:
            self._begun[task] = rest

    def end(self, task: TaskKey, label: str) -> None:
        """A task prints no more."""
        rest = self._begun.pop(task, "")
        if rest:
            self._lines.append(f"{label} | {rest}")

    def take(self) -> list[str]:
        """Return the lines that came since they were last taken."""
        taken = []
        while self._lines:
            taken.append(self._lines.popleft())
        return taken
