"""The streams of a run and the operators between them: what becomes known travels down.

`Flow` is the outbox of all operators. Slots wait in one queue instead of on the call stack, so a
chain of any length is walked without recursion. Tasks, limits and the run's end are the
scheduler's; it hears of them through `Host`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from nbcache.errors import ChannelError
from nbcache.model.channel import CompiledNode, Graph, Item
from nbcache.model.command import Apply, Command
from nbcache.model.ids import Position
from nbcache.plan.dataflow import gathers, keyed, operators
from nbcache.plan.dataflow.failures import FailuresOperator
from nbcache.plan.dataflow.lives import SchedulerFault
from nbcache.plan.dataflow.operators import CHANGED, Operator
from nbcache.plan.dataflow.places import Inputs, ProcessOperator, TaskOutbox
from nbcache.plan.dataflow.streams import Branch, Change, Slot, Stream, StreamFault

Make = Callable[[CompiledNode, Sequence[Stream], TaskOutbox], Operator]

_OPERATORS: dict[str, Make] = {
    "map": operators.MapOperator,
    "view": operators.ViewOperator,
    "subscribe": operators.ViewOperator,
    "filter": operators.FilterOperator,
    "flat_map": operators.FlatMapOperator,
    "mix": operators.MixOperator,
    "select": operators.ChoiceOperator,
    "pair": operators.PairOperator,
    "collect": gathers.CollectOperator,
    "first": gathers.FirstOperator,
    "reduce": gathers.ReduceOperator,
    "take": gathers.TakeOperator,
    "until": gathers.UntilOperator,
    "buffer": gathers.BufferOperator,
    "unique": keyed.UniqueOperator,
    "group_by": keyed.GroupByOperator,
    "join": keyed.JoinOperator,
    "failures": FailuresOperator,
}


def operator_for(
    node: CompiledNode, parents: Sequence[Stream], outbox: TaskOutbox, is_value: Sequence[bool]
) -> Operator:
    """Return the operator of a compiled node; `is_value` tells which parents are values."""
    if node.op == "process":
        return ProcessOperator(node, parents, outbox, is_value)
    if node.op == "combine":
        make: Make = keyed.CombineByOperator if node.by else operators.CombineOperator
        return make(node, parents, outbox)
    if node.op == "fields":
        make = operators.MapOperator if node.function else operators.PassOperator
        return make(node, parents, outbox)
    if node.op == "branch":
        make = operators.SelectOperator if "select" in node.options else operators.BranchOperator
        return make(node, parents, outbox)
    return _OPERATORS[node.op](node, parents, outbox)


class Host(Protocol):
    """What a flow tells its scheduler."""

    def want(self, node: int, address: Position, inputs: Inputs, error: str | None) -> None:
        """There is to be a task, or it has other inputs now."""

    def fail(self, node: int, error: BaseException) -> None:
        """A channel cannot give its items; the scheduler stops the flow."""


class Flow:
    """All streams and operators of one graph."""

    def __init__(self, graph: Graph, host: Host) -> None:
        self._graph, self._host = graph, host
        self.streams = [Stream() for _ in graph.nodes]
        self.commands: list[Command] = []
        self.stopped = False
        self._live: frozenset[int] = frozenset()  # nodes that go on after the stop
        self._readers: list[list[tuple[Operator, int]]] = [[] for _ in graph.nodes]
        self._operators: dict[int, Operator] = {}
        self._slots: deque[tuple[int, Position, Slot]] = deque()
        self._calls: dict[int, tuple[Operator, object]] = {}
        self._next_call = 0
        for node in graph.nodes:
            if node.op != "source":
                self._wire(node)

    def _wire(self, node: CompiledNode) -> None:
        parents = [self.streams[index] for index in node.parents]
        is_value = [self._graph.nodes[index].is_value for index in node.parents]
        operator = operator_for(node, parents, self, is_value)
        self._operators[node.index] = operator
        for number, index in enumerate(node.parents):
            self._readers[index].append((operator, number))

    def start(self) -> None:
        """Let every operator say what it knows before anything came."""
        for operator in self._operators.values():
            operator.start()

    def stop(self, live: frozenset[int] = frozenset()) -> None:
        """Nothing travels any more, except to the `live` nodes."""
        self.stopped, self._live = True, live
        left = [each for each in self._slots if self._is_read(each[0])]
        self._slots.clear()  # in place: a slot that is travelling may be what stops the flow
        self._slots.extend(left)

    def _is_read(self, node: int) -> bool:
        """Whether anybody still reads a node's stream."""
        return not self.stopped or any(
            operator.index in self._live for operator, _ in self._readers[node]
        )

    def _goes_on(self, operator: Operator) -> bool:
        return not self.stopped or operator.index in self._live

    @property
    def asking(self) -> bool:
        """Whether a function's answer is waited for by somebody who goes on."""
        return any(self._goes_on(operator) for operator, _ in self._calls.values())

    def unfinished(self) -> CompiledNode | None:
        """Return a node whose stream is not complete."""
        pairs = zip(self._graph.nodes, self.streams, strict=True)
        return next((node for node, stream in pairs if not stream.complete), None)

    def expected(self, node: int) -> int | None:
        """Return how many tasks a process will have, None while that is not known."""
        stream, operator = self.streams[node], self._operators[node]
        assert isinstance(operator, ProcessOperator)
        return stream.elements - operator.holes if stream.shape_known else None

    # The outbox of operators

    def emit(self, node: int, address: Position, slot: Slot) -> None:
        """Take a slot of a node's stream."""
        if not self.stopped or self._is_read(node):
            self._slots.append((node, address, slot))

    def ask(self, operator: Operator, role: str, args: tuple[object, ...], tag: object) -> None:
        """Have a node's function called."""
        self._next_call += 1
        self._calls[self._next_call] = (operator, tag)
        self.commands.append(Apply(self._next_call, operator.index, role, args))

    def want(self, node: int, address: Position, inputs: Inputs, error: str | None) -> None:
        """Have a task."""
        self._host.want(node, address, inputs, error)

    def fail(self, node: int, error: BaseException) -> None:
        """Give up a channel."""
        self._host.fail(node, error)

    # What comes in

    def load(self, node: CompiledNode, items: Sequence[Item]) -> None:
        """Take all items of a source."""
        width = len(node.fields) if node.fields is not None else 1
        wrong = next((item for item in items if len(item) != width), None)
        if wrong is not None or (node.is_value and len(items) != 1):
            what = (
                f"an item has {len(wrong)} fields, not {width}"
                if wrong is not None
                else f"a value has one item, not {len(items)}"
            )
            self.fail(node.index, ChannelError(f"{node.label or 'a source'}: {what}"))
        elif node.is_value:
            self.emit(node.index, (), tuple(items[0]))
        else:
            self.emit(node.index, (), Branch(len(items), leaves=True))
            for number, item in enumerate(items):
                self.emit(node.index, (number,), item if type(item) is tuple else tuple(item))

    def answer(self, call: int, result: object) -> None:
        """Take what a function returned."""
        found = self._calls.pop(call, None)
        if found is None:
            raise SchedulerFault(f"call {call} was not asked for, or was answered before")
        operator, tag = found
        if self._goes_on(operator):
            operator.answer(tag, result)

    def drain(self) -> None:
        """Let what became known travel as far as it goes."""
        slots = self._slots
        while slots:
            index, address, slot = slots.popleft()
            try:
                change = self.streams[index].put(address, slot)
            except StreamFault as fault:
                self._host.fail(index, ChannelError(self._said_fault(index, fault)))
                continue
            for operator, number in self._readers[index]:
                if self.stopped and not self._goes_on(operator):
                    continue
                if change is Change.NEW:
                    operator.on(number, address, slot)
                elif change is Change.REPLACED:
                    operator.again(number, address, slot)

    def _said_fault(self, index: int, fault: StreamFault) -> str:
        node = self._graph.nodes[index]
        return f"{node.name or node.label}: {CHANGED} ({fault})"
