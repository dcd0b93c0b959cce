"""How a run comes to its end: what still starts then, and as what the run ends.

A run that is ending starts nothing new, except what looks into failures (`on_failure_of`, and all
below it): that is what it is for. Only a cancel, or an error of its own channel, ends that too.
Decides only; the scheduler ends the tasks.
"""

from __future__ import annotations

from nbcache.model.channel import Graph, with_all_below
from nbcache.model.task import Outcome, RunStatus
from nbcache.plan.dataflow.retry import Patience


class Ending:
    """The end of one run, from before there is a reason for it."""

    def __init__(self, graph: Graph, patience: Patience) -> None:
        self._graph, self._patience = graph, patience
        self.has_begun = False  # whether the run is ending before all was done
        self._status: RunStatus | None = None
        self._failed = False
        self.gave_up = ""  # why no more tasks were started, where failures were too many
        self.forensic = with_all_below(
            graph, {node.index for node in graph.nodes if node.op == "failures"}
        )

    @property
    def starts_nothing(self) -> bool:
        """Whether nothing at all is to start any more."""
        return self.has_begun and not self.forensic

    def is_over_for(self, node: int) -> bool:
        """Whether nothing of a node is to start any more."""
        return self.has_begun and node not in self.forensic

    def begin(self, status: RunStatus) -> bool:
        """Begin to end; False: it has begun before. A cancel counts after all else, too."""
        first, self.has_begun = not self.has_begun, True
        if first or status is RunStatus.CANCELLED:
            self._status = status
        return first

    def drop_forensic(self, node: int | None = None) -> bool:
        """Look no further into failures, or not below a node; return whether any would have."""
        lost = (
            self.forensic if node is None else self.forensic & with_all_below(self._graph, {node})
        )
        self.forensic -= lost
        return bool(lost)

    def failed(self) -> str:
        """A task failed; return why these are too many now, or ""."""
        self._failed = True
        return self._patience.is_over()

    def aborted(self) -> None:
        """An attempt was ended from outside."""
        self._failed = True

    def ended(self, node: int, outcome: Outcome) -> str:
        """A task ended that shares nobody's result; return why its process is hopeless, or ""."""
        if self.has_begun:
            return ""
        return self._patience.is_over_with(node, self._graph.nodes[node].name, outcome)

    def status(self) -> RunStatus:
        """Return as what the run ends when nothing is left to do."""
        return self._status or (RunStatus.FAILED if self._failed else RunStatus.SUCCEEDED)
