"""Who may start next: resources of the machine, limits of processes, and an order that drains.

Among ready tasks those of deeper processes come first (so that items leave the pipeline before
new ones enter, and intermediate results are used while they are warm), within one process the
lowest position. A task that does not fit may be passed by `PATIENCE` others; then everything
waits until it fits, so a large task is never starved. Decides order only: never what runs.

Tasks that take next to no time are light: sixteen of them count as one cpu, so that the next ones
are at the workers before the first are reported. No more run at once than there are workers; what
is light and what is not is told by who measures it.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable

from nbcache.model.channel import Graph
from nbcache.model.event import Resources
from nbcache.plan.dataflow.lives import Task
from nbcache.plan.language.quantities import size_text

PATIENCE = 16
SHARES = 16  # of a cpu; a light task takes one


class Room:
    """What attempts may use together: cpus, gpus, bytes of memory and of disk (None: not counted),
    a number.

    Disk is what was free in the cache when the run began; a scratch folder is elsewhere. An attempt
    that asks for more starts when no other holds any: how much is free where it runs is known
    there, and said there.
    """

    def __init__(
        self,
        *,
        cpus: int,
        memory: int | None,
        max_parallel: int | None,
        gpus: int = 0,
        disk: int | None = None,
    ) -> None:
        self.cpus, self.memory, self.max_parallel, self.gpus = cpus, memory, max_parallel, gpus
        self.disk = disk
        self.shares_used = self.memory_used = self.running = self.gpus_used = self.disk_used = 0
        self.light: set[int] = set()  # processes
        self.elsewhere: set[int] = set()  # processes that work on another disk

    def refusal(self, resources: Resources) -> str | None:
        """Return why an attempt can never start here, None if it can."""
        if resources.cpus > self.cpus:
            return (
                f"asks for {resources.cpus} cpus, but this run has {self.cpus}; "
                f"lower it (`--cpus {self.cpus}`) or use a larger machine"
            )
        if resources.gpus > self.gpus:
            has = f"has {self.gpus}" if self.gpus else "has none that nbcache can see"
            asked = f"{resources.gpus} gpu{'s' if resources.gpus > 1 else ''}"
            return (
                f"asks for {asked}, but this machine {has}; lower it (`--gpus`), or "
                "say which there are: NBCACHE_GPUS=0,1"
            )
        if self.memory is not None and (resources.memory or 0) > self.memory:
            return (
                f"asks for {size_text(resources.memory or 0)} of memory, but this run has "
                f"{size_text(self.memory)}; lower it (`--memory`) or use a larger machine"
            )
        return None

    @property
    def full(self) -> bool:
        """Whether nothing at all can start."""
        return self.shares_used >= self.cpus * SHARES or (
            self.max_parallel is not None and self.running >= self.max_parallel
        )

    def fits(self, task: Task) -> bool:
        """Whether an attempt can start now."""
        if self.full or self.shares_used + self._share(task) > self.cpus * SHARES:
            return False
        if self.gpus_used + task.resources.gpus > self.gpus:
            return False
        disk = self._disk(task)
        if disk and self.disk_used and self.disk is not None and self.disk_used + disk > self.disk:
            return False
        return self.memory is None or self.memory_used + (task.resources.memory or 0) <= self.memory

    def take(self, task: Task) -> None:
        """An attempt starts."""
        task.share = self._share(task)
        self.shares_used += task.share
        self.memory_used += task.resources.memory or 0
        self.gpus_used += task.resources.gpus
        self.disk_used += self._disk(task)
        self.running += 1

    def give(self, task: Task) -> None:
        """An attempt ended."""
        self.shares_used -= task.share
        self.memory_used -= task.resources.memory or 0
        self.gpus_used -= task.resources.gpus
        self.disk_used -= self._disk(task)
        self.running -= 1

    def _disk(self, task: Task) -> int:
        return 0 if task.node in self.elsewhere else task.resources.disk or 0

    def _share(self, task: Task) -> int:
        asked = task.resources
        is_light = task.node in self.light and asked.memory is None and asked.time is None
        return 1 if is_light and asked.cpus <= 1 else SHARES * max(1, asked.cpus)


class Ready:
    """The tasks that wait for room, by process and position."""

    def __init__(
        self,
        graph: Graph,
        room: Room,
        is_closed: Callable[[int], bool] | None = None,
    ) -> None:
        """`is_closed` says of which processes nothing may start yet."""
        self._room, self._is_closed = room, is_closed
        directives = {n.index: n.decl.directives for n in graph.nodes if n.decl is not None}
        room.elsewhere = {node for node, each in directives.items() if each.scratch is not None}
        self._limits = {node: each.max_forks for node, each in directives.items()}
        self._forks = dict.fromkeys(self._limits, 0)
        self._heaps: dict[int, list[tuple[tuple[int, ...], Task]]] = {}
        self._active: list[int] = []  # minus the index of processes with ready tasks, sorted

    def add(self, task: Task) -> None:
        """A task waits for room."""
        heap = self._heaps.setdefault(task.node, [])
        if not heap:
            insort(self._active, -task.node)
        heapq.heappush(heap, (task.position, task))

    def light(self, node: int, is_light: bool) -> None:
        """Say that attempts of a process take next to no time, or do; not where it has a limit."""
        if is_light and self._limits[node] is None:
            self._room.light.add(node)
        else:
            self._room.light.discard(node)

    def leave(self, task: Task) -> None:
        """An attempt ended."""
        self._room.give(task)
        self._forks[task.node] -= 1

    def clear(self) -> None:
        """Nothing is to start any more."""
        self._heaps, self._active = {}, []

    def start(self, begin: Callable[[Task], None]) -> None:
        """Let as many tasks begin as fit."""
        if not self._active or self._room.full:
            return
        passed: list[Task] = []
        for minus in list(self._active):
            if self._is_closed is not None and self._is_closed(-minus):
                continue
            heap, limit = self._heaps[-minus], self._limits[-minus]
            while heap:
                task = heap[0][1]
                if not task.queued:  # it was ended or taken back meanwhile
                    heapq.heappop(heap)
                    continue
                if limit is not None and self._forks[-minus] >= limit:
                    break
                if not self._room.fits(task):
                    if task.passed_by >= PATIENCE:
                        return
                    passed.append(task)
                    break
                heapq.heappop(heap)
                for waiting in passed:
                    waiting.passed_by += 1
                self._room.take(task)
                self._forks[-minus] += 1
                begin(task)
            if not heap:
                self._active.remove(minus)
            if self._room.full:
                return


class Levels:
    """Says which processes may start now. `is_over` tells whether a process has ended."""

    def __init__(self, graph: Graph, is_over: Callable[[int], bool]) -> None:
        self._is_over = is_over
        self._above: dict[int, frozenset[int]] = {}
        for node in graph.nodes:
            above: set[int] = set()
            for parent in node.parents:
                above |= self._above[parent]
                if graph.nodes[parent].op == "process":
                    above.add(parent)
            self._above[node.index] = frozenset(above)

    def is_closed(self, node: int) -> bool:
        """Whether a process above has not ended yet."""
        return not all(map(self._is_over, self._above[node]))
