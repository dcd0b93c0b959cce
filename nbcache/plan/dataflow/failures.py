"""The failures of a process as a channel: what its forensic processes (`on_failure_of`) take.

One item for each task that failed for good, at its address; nothing for the others, and nothing for
a task that never came because another one above it failed. What is known of a failure is asked for
as an operator's function is (role "failure"), so that nothing here reads a log.
"""

from __future__ import annotations

from typing import cast

from nbcache.model.channel import Item, Node
from nbcache.model.ids import Position
from nbcache.model.value import HoleCause
from nbcache.plan.dataflow.operators import SievingOperator
from nbcache.plan.dataflow.streams import EMPTY, Slot

FIELDS = ("label", "error", "traceback", "log", "workdir", "exit", "signal", "attempt")


def failures_of(names: tuple[str, ...], processes: tuple[Node, ...]) -> Node:
    """Return the channel of the failures of some processes."""
    nodes = tuple(
        Node(op="failures", parents=(node,), names=FIELDS, label=f"failures of {name}")
        for name, node in zip(names, processes, strict=True)
    )
    if len(nodes) == 1:
        return nodes[0]
    label = f"failures of {' and '.join(dict.fromkeys(names))}"
    return Node(op="mix", parents=nodes, label=label)


class FailuresOperator(SievingOperator):
    """An item for each failed task of the parent."""

    role = "failure"

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if (
            type(slot) is HoleCause
            and slot.failed is not None
            and slot.node == self.node.parents[0]
        ):
            self.out.ask(self, self.role, (slot.failed,), (address, slot))
        elif type(slot) is HoleCause or type(slot) is tuple:
            self.emit(address, EMPTY)
        else:
            super().on(parent, address, slot)

    def give(self, address: Position, item: Item, result: object) -> None:
        self.emit(address, cast(Slot, result))
