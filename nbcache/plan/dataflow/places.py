"""A process at its place in the graph: which tasks it has, and what each takes as inputs.

A process keeps the addresses of its one queue (or pair of queues), so a task's position is known
before anything ran. Values are waited for. A hole on any side is a hole: no task. Filling follows
`CompiledNode.filling`; shapes that are known only when an item comes are checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from nbcache.model.channel import CompiledNode, Fields, Item
from nbcache.model.ids import Position
from nbcache.model.process import FieldPick
from nbcache.model.value import HoleCause
from nbcache.plan.dataflow.calls import whole
from nbcache.plan.dataflow.operators import Operator, Outbox
from nbcache.plan.dataflow.streams import LEAF, Slot, Stream

Inputs = Mapping[str, object]
Taker = Callable[[Item], object]


class TaskOutbox(Outbox, Protocol):
    """An outbox that also takes tasks."""

    def want(self, node: int, address: Position, inputs: Inputs, error: str | None) -> None:
        """There is to be a task (or it has other inputs now). `error`: it cannot even start."""


class ShapeMismatch(Exception):
    """An item has not the shape that the process's inputs ask for."""


class ProcessOperator(Operator):
    """Makes a task of each element of the queue, with the values beside it."""

    out: TaskOutbox

    def __init__(
        self,
        node: CompiledNode,
        parents: Sequence[Stream],
        outbox: TaskOutbox,
        is_value: Sequence[bool],
    ) -> None:
        super().__init__(node, parents, outbox)
        queues = [number for number, value in enumerate(is_value) if not value]
        self._queue = queues[0] if queues else None
        self._values = [number for number, value in enumerate(is_value) if value]
        self.holes = 0  # elements that will never be tasks
        self._missing = len(self._values)
        self._waiting: list[Position] = []
        self._cause: HoleCause | None = None
        self._takers = takers_of(node)
        self._plain = plain_picks(node) if len(parents) == 1 else None

    def start(self) -> None:
        if self._queue is None:
            self.emit((), LEAF)
            if not self._values:
                self.out.want(self.index, (), {}, None)

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if parent != self._queue:
            if type(slot) is tuple or type(slot) is HoleCause:
                self._on_value()
        elif type(slot) is tuple:
            if not self._missing:
                self._element(address)
            else:
                self._waiting.append(address)
        else:
            self.holes += type(slot) is HoleCause
            self.emit(address, slot)

    def again(self, parent: int, address: Position, slot: Slot) -> None:
        if self._missing or self._cause is not None:
            return  # no task has seen the item yet, or none ever will
        if parent == self._queue or self._queue is None:
            self._element(address if parent == self._queue else ())
            return
        for place, found in list(self.parents[self._queue].slots.items()):
            if type(found) is tuple:
                self._element(place)

    def _on_value(self) -> None:
        self._missing -= 1
        if self._missing:
            return
        slots = [self.parents[number].slots[()] for number in self._values]
        self._cause = next((slot for slot in slots if type(slot) is HoleCause), None)
        if self._queue is None:
            self._element(())
        for address in self._waiting:
            self._element(address)
        self._waiting = []

    def _element(self, address: Position) -> None:
        if self._cause is not None:
            self.holes += 1
            self.emit(address, self._cause)
            return
        if self._plain is not None:
            item = cast(Item, self.parents[0].slots[address])
            self.out.want(
                self.index, address, {name: item[field] for name, field in self._plain}, None
            )
            return
        items = tuple(
            cast(Item, stream.slots[address if number == self._queue else ()])
            for number, stream in enumerate(self.parents)
        )
        inputs: dict[str, object] = {}
        try:
            for name, taker in self._takers:
                inputs[name] = taker(items)
        except ShapeMismatch as error:
            self.out.want(self.index, address, inputs, f"input {name!r}: {error}")
            return
        self.out.want(self.index, address, inputs, None)


def plain_picks(node: CompiledNode) -> list[tuple[str, int]] | None:
    """Return (input, field) pairs if every input is a field of the only source."""
    picks: list[tuple[str, int]] = []
    for name, pick in node.filling.items():
        if isinstance(pick, FieldPick):
            if pick.field is None or pick.rest_from is not None or pick.source != 0:
                return None
            picks.append((name, pick.field))
    routes = cast(Sequence[tuple[int, int | None]], node.options["routes"])
    return picks if all(half is None for _, half in routes) else None


def takers_of(node: CompiledNode) -> list[tuple[str, Taker]]:
    """Return, for each input that a source fills, how to take it from the parents' items."""
    routes = cast(Sequence[tuple[int, int | None]], node.options["routes"])
    fields = cast(Sequence[Fields], node.options["source_fields"])
    return [
        (name, _taker(pick, routes[pick.source], fields[pick.source]))
        for name, pick in node.filling.items()
        if isinstance(pick, FieldPick)
    ]


def _taker(pick: FieldPick, route: tuple[int, int | None], fields: Fields) -> Taker:
    parent, half = route

    def take(items: Item) -> object:
        item = cast(Item, items[parent])
        return take_pick(pick, item if half is None else cast(Item, item[half]), fields)

    return take


def take_pick(pick: FieldPick, item: Item, fields: Fields) -> object:
    """Return what an input takes of an item of its source.

    Raises:
        ShapeMismatch: the item is not a tuple of as many members as the inputs want.
    """
    if pick.field is not None:
        return item[pick.field]
    if pick.rest_from is not None and fields is not None:
        return tuple(item[pick.rest_from :])
    value = whole(item, fields)
    if pick.member is None and pick.rest_from is None:
        return value
    if not isinstance(value, tuple | list):
        raise ShapeMismatch(
            f"the item is one {type(value).__name__}, but {pick.of or 'several'} inputs are to be "
            "filled from it; name its fields with .fields(...)"
        )
    least = pick.of if pick.of is not None else (pick.rest_from or 0)
    if pick.of is not None and pick.rest_from is None and len(value) != least:
        raise ShapeMismatch(
            f"the item has {len(value)} members, but {least} inputs are to be filled from it"
        )
    if pick.rest_from is not None:
        return tuple(value[pick.rest_from :])
    assert pick.member is not None
    if pick.member >= len(value):
        raise ShapeMismatch(f"the item has {len(value)} members only")
    return value[pick.member]
