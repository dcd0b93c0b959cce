"""Level by level: a process starts when all above it have ended. Decides order, never results."""

from __future__ import annotations

from collections.abc import Callable

from nbcache.model.channel import Graph


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
