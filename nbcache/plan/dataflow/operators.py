"""Operators as small state machines: slots of the parents come in, slots and questions go out.

Per-item operators answer at the address at which they were asked and never wait for an earlier
item; those that must see items in order are in `dataflow.gathers`. User functions are never called
here: an operator asks (`Outbox.ask`) and goes on when it is answered. What an operator emits
depends on the tree it was given and never on the order in which that became known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, cast

from nbcache.errors import ChannelError
from nbcache.model.channel import CompiledNode, Fields, Item
from nbcache.model.ids import Position
from nbcache.model.value import HoleCause
from nbcache.plan.dataflow.calls import whole
from nbcache.plan.dataflow.streams import EMPTY, LEAF, Branch, Cursor, Slot, Stream

CHANGED = "a task above had to run again, and now the channel has other items; run again"


class Outbox(Protocol):
    """Where operators put what they find."""

    def emit(self, node: int, address: Position, slot: Slot) -> None:
        """Something is known of an address of the node's own stream."""

    def ask(self, operator: Operator, role: str, args: tuple[object, ...], tag: object) -> None:
        """The node's function has to be called; `operator.answer(tag, result)` follows."""

    def fail(self, node: int, error: ChannelError) -> None:
        """The channel cannot give its items."""


class Operator(ABC):
    """One node of the graph at work. `parents` are the streams it reads, in order."""

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        self.node, self.parents, self.out = node, parents, outbox
        self.index = node.index

    def start(self) -> None:  # noqa: B027  # most have nothing to say then
        """Say what is known before anything came."""

    @abstractmethod
    def on(self, parent: int, address: Position, slot: Slot) -> None:
        """Take what became known of an address of parent number `parent`."""

    def again(self, parent: int, address: Position, slot: Slot) -> None:
        """Take an item that replaces an earlier one, since a task had to run again."""
        self.on(parent, address, slot)

    def answer(self, tag: object, result: object) -> None:
        """Take what the node's function returned. Who asks nothing is never answered."""
        raise AssertionError(f"{self.node.label} asked nothing")

    def emit(self, address: Position, slot: Slot) -> None:
        self.out.emit(self.index, address, slot)

    def fail(self, message: str) -> None:
        self.out.fail(self.index, ChannelError(f"{self.node.label}: {message}"))


class AskingOperator(Operator):
    """Has its function called for each item, and passes on what is no item."""

    role = "value"

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is tuple:
            self.out.ask(self, self.role, (slot,), (address, slot))
        else:
            self.emit(address, slot)

    def answer(self, tag: object, result: object) -> None:
        address, item = cast(tuple[Position, Item], tag)
        if self.parents[0].slots[address] is item:  # else it was replaced while it was asked for
            self.give(address, item, result)

    @abstractmethod
    def give(self, address: Position, item: Item, result: object) -> None:
        """Take what the function returned for an item."""


class MapOperator(AskingOperator):
    """map, and fields where an item has to be unpacked: one item for each."""

    def give(self, address: Position, item: Item, result: object) -> None:
        self.emit(address, cast(Item, result))


class ViewOperator(AskingOperator):
    """view and subscribe: the item itself goes on, after the function has seen it."""

    def give(self, address: Position, item: Item, result: object) -> None:
        self.emit(address, item)


class PassOperator(Operator):
    """fields where only names change."""

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        self.emit(address, slot)


class ChoiceOperator(Operator):
    """select: some fields of each item."""

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is tuple:
            order = cast(Sequence[int], self.node.options["order"])
            slot = tuple([slot[i] for i in order])
        self.emit(address, slot)


class SievingOperator(AskingOperator):
    """An element of the parent may become any number of elements here."""

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is Branch:
            self.emit(address, Branch(slot.count))
        elif slot is not LEAF:
            super().on(parent, address, slot)


class FilterOperator(SievingOperator):
    """An item where the function says yes, no children where it says no."""

    role = "keep"

    def give(self, address: Position, item: Item, result: object) -> None:
        self.emit(address, item if result else EMPTY)


class FlatMapOperator(SievingOperator):
    """k items below the address of each."""

    role = "many"

    def give(self, address: Position, item: Item, result: object) -> None:
        items = cast(Sequence[Item], result)
        self.emit(address, Branch(len(items), leaves=True))
        for number, each in enumerate(items):
            self.emit((*address, number), each)


class BranchOperator(AskingOperator):
    """Adds the label of each item as a last field."""

    role = "label"

    def give(self, address: Position, item: Item, result: object) -> None:
        self.emit(address, (*item, result))


class SelectOperator(Operator):
    """The items of one label, without it."""

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is tuple:
            meant = slot[-1] == self.node.options["select"]
            self.emit(address, slot[:-1] if meant else EMPTY)
        elif type(slot) is Branch:
            self.emit(address, Branch(slot.count))
        elif slot is not LEAF:
            self.emit(address, slot)


class MixOperator(Operator):
    """The sources' trees side by side: address (k, ...) for source k."""

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        super().__init__(node, parents, outbox)
        self._orders = cast(Sequence[tuple[int, ...] | None], node.options.get("orders", ()))
        self._whole = cast(Sequence[Fields], node.options.get("whole", ()))

    def start(self) -> None:
        self.emit((), Branch(len(self.parents)))

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is tuple:
            if self._whole:
                slot = (whole(slot, self._whole[parent]),)
            elif (order := self._orders[parent]) is not None:
                slot = tuple([slot[i] for i in order])
        self.emit((parent, *address), slot)


class CombineOperator(Operator):
    """Hangs the right side's tree under each element of the left side's.

    A value on the right changes no address. A hole on the left is one hole.
    """

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        super().__init__(node, parents, outbox)
        self._left: dict[Position, Item] = {}
        self._right: dict[Position, Slot] = {}  # in order of arrival, a Branch before its children
        self._one_each = bool(node.options["one_each"])  # the right side is a value

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if parent == 1:
            if slot is LEAF:
                return
            self._right[address] = slot
            for left, item in self._left.items():
                self._hang(left, item, address, slot)
        elif type(slot) is tuple:
            self._left[address] = slot
            for right, below in self._right.items():
                self._hang(address, slot, right, below)
        elif type(slot) is Branch:
            self.emit(address, slot if self._one_each else Branch(slot.count))
        elif type(slot) is HoleCause or self._one_each:
            self.emit(address, slot)

    def _hang(self, left: Position, item: Item, right: Position, slot: Slot) -> None:
        self.emit(left + right, (*item, *slot) if type(slot) is tuple else slot)


class PairOperator(Operator):
    """Brings the n-th elements of several queues together, at the first one's address.

    Elements are counted as soon as the trees say that they will come. An item is a tuple of items,
    one for each queue. Where one of them is a hole, so is the pair.
    """

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        super().__init__(node, parents, outbox)
        self._cursors = [Cursor(parent) for parent in parents]
        self._ordinal: list[dict[Position, int]] = [{} for _ in parents]
        self._address: list[list[Position]] = [[] for _ in parents]
        self._failed = False

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if parent == 0 and type(slot) is not tuple and type(slot) is not HoleCause:
            self.emit(address, slot)
        if self._failed or self._dead(parent, address, slot):
            return
        before = min(map(len, self._address))
        self._count(parent)
        if address in self._ordinal[parent]:
            ordinal = self._ordinal[parent][address]
            if ordinal < before:
                self._match(ordinal)
        for ordinal in range(before, min(map(len, self._address))):
            self._match(ordinal)
        self._check_lengths()

    def _count(self, parent: int) -> None:
        cursor, addresses = self._cursors[parent], self._address[parent]
        while cursor.look() is not None:
            self._ordinal[parent][cursor.address] = len(addresses)
            addresses.append(cursor.address)
            cursor.step()

    def _match(self, ordinal: int) -> None:
        items = []
        for stream, addresses in zip(self.parents, self._address, strict=True):
            slot = stream.slots.get(addresses[ordinal], LEAF)
            if slot is LEAF:
                return
            items.append(slot)
        holes = [slot for slot in items if type(slot) is HoleCause]
        self.emit(self._address[0][ordinal], holes[0] if holes else cast(Item, tuple(items)))

    def _check_lengths(self) -> None:
        done = [number for number, cursor in enumerate(self._cursors) if cursor.done]
        if not done:
            return
        shortest = min(len(self._address[number]) for number in done)
        longer = [n for n, found in enumerate(self._address) if len(found) > shortest]
        if not longer:
            return
        names = cast(Sequence[str], self.node.options["names"])
        short = next(n for n in done if len(self._address[n]) == shortest)
        long = longer[0]
        size = len(self._address[long])
        at_least = "" if self._cursors[long].done else "at least "
        self._failed = True
        self.fail(
            f"queues pair item by item, but {names[short]} has {shortest} and {names[long]} has "
            f"{at_least}{size}.\n  For every pair say {names[short]}.combine({names[long]}) or "
            f"product(...); to match by a field, {names[short]}.join({names[long]}, by=...)."
            f"\n  {self.node.options.get('said_place', '')}".rstrip()
        )

    def _dead(self, parent: int, address: Position, slot: Slot) -> bool:
        """Whether another queue is one hole as a whole; then so is every element of the first."""
        roots = [stream.slots.get(()) for stream in self.parents]
        causes = [root for root in roots if type(root) is HoleCause]
        if not causes:
            return False
        if parent:
            for place, found in list(self.parents[0].slots.items()):
                if type(found) is tuple:
                    self.emit(place, causes[0])
        elif type(slot) is tuple or type(slot) is HoleCause:
            self.emit(address, slot if type(slot) is HoleCause else causes[0])
        return True
