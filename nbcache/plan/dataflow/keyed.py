"""Operators that match or group items by a key: unique, group_by, join, combine(by=).

Keys of plain values are read at once; others (stored results, a function of the item) are asked
for. Two items have one key if Python says that their keys are equal.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import cast

from nbcache.model.channel import CompiledNode, Item
from nbcache.model.ids import Position
from nbcache.model.value import Gathered, HoleCause
from nbcache.plan.dataflow.calls import plain_key
from nbcache.plan.dataflow.gathers import GatherOperator, poisons
from nbcache.plan.dataflow.operators import CHANGED, Operator, Outbox
from nbcache.plan.dataflow.shapes import Keys
from nbcache.plan.dataflow.streams import EMPTY, LEAF, OPEN, Branch, Slot, Stream, elements

_Tag = tuple[int, Position, Item]


class KeyRing:
    """The keys of the items of an operator's parents, as far as they are known."""

    def __init__(self, operator: Operator, places: Sequence[tuple[int, ...] | None]) -> None:
        self._operator, self._places = operator, places
        self.known: list[dict[Position, Hashable]] = [{} for _ in places]

    def ask(self, parent: int, address: Position, item: Item) -> bool:
        """Find an item's key; False: it is asked for, and `take_answer` will say it."""
        places = self._places[parent]
        values = item if places is None else tuple([item[i] for i in places])
        if places is not None:
            key = plain_key(values)
            if key is not None:
                self.known[parent][address] = key
                return True
        tag: _Tag = (parent, address, item)
        self._operator.out.ask(self._operator, "key", (values,), tag)
        return False

    def take_answer(self, tag: object, key: Hashable) -> tuple[int, Position] | None:
        """Keep an answer; None if the item was replaced since."""
        parent, address, item = cast(_Tag, tag)
        if self._operator.parents[parent].slots[address] is not item:
            return None
        self.known[parent][address] = key
        return parent, address


class KeyedGather(GatherOperator):
    """A gather that takes an item when its key is known."""

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        keys = cast(Keys | None, node.options.get("keys"))
        self.ring = KeyRing(self, (keys.key if keys is not None and keys.key else None,))
        super().__init__(node, parents, outbox)

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is not tuple or self.ring.ask(0, address, slot):
            self.advance()

    def again(self, parent: int, address: Position, slot: Slot) -> None:
        self.ring.known[0].pop(address, None)
        self.ring.ask(0, address, cast(Item, slot))
        super().again(parent, address, slot)

    def answer(self, tag: object, result: object) -> None:
        if self.ring.take_answer(tag, result) is not None:
            self.advance()


class UniqueOperator(KeyedGather):
    """The first item of each key, at its own address."""

    chooses = True

    def reset(self) -> None:
        super().reset()
        self._seen: set[Hashable] = set()

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is Branch:
            self.emit(address, Branch(slot.count))
        elif type(slot) is HoleCause:
            self.emit(address, slot)
        super().on(parent, address, slot)

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if type(element) is HoleCause:
            return True
        if address not in self.ring.known[0]:
            return False
        key = self.ring.known[0][address]
        self.emit(address, EMPTY if key in self._seen else cast(Item, element))
        self._seen.add(key)
        return True

    def close(self) -> None:
        return


class _Group:
    def __init__(self, number: int, head: Item, width: int) -> None:
        self.number, self.head = number, head
        self.size = 0
        self.lists = [Gathered() for _ in range(width)]

    def item(self) -> Item:
        return (*self.head, *self.lists)


class GroupByOperator(KeyedGather):
    """Items of one key as one item; groups in the order in which their keys appear.

    A failed task's key is not known: without `size` no group can be known to be whole, with it
    those that are not.
    """

    def reset(self) -> None:
        super().reset()
        self._groups: dict[Hashable, _Group] = {}
        self._cause: HoleCause | None = None
        self._passed_over = False
        self._places = cast(Keys, self.node.options["keys"])

    def start(self) -> None:
        if self.node.size is not None:
            self.emit((), OPEN)

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if type(element) is HoleCause:
            self._passed_over = True
            if poisons(element):
                self._cause = self._cause or element
            return True
        if address not in self.ring.known[0]:
            return False
        self._add(self.ring.known[0][address], cast(Item, element))
        return True

    def _add(self, key: Hashable, item: Item) -> None:
        group = self._groups.get(key)
        if group is None:
            head = tuple([item[i] for i in self._places.key]) or (key,)
            group = _Group(len(self._groups), head, len(self._places.rest))
            self._groups[key] = group
            if self.node.size is not None:
                self.emit((group.number,), LEAF)
        group.size += 1
        for gathered, place in zip(group.lists, self._places.rest, strict=True):
            gathered.append(item[place])
        if self.node.size is None or group.size < self.node.size:
            return
        if group.size > self.node.size:
            self.closed = True
            self.fail(f"the group of {_shown(key)} has more than size={self.node.size} items")
        else:
            self.emit((group.number,), group.item())

    def close(self) -> None:
        groups = list(self._groups.values())
        if self.node.size is None:
            if self._cause is not None:
                self.emit((), self._cause)
                return
            self.emit((), Branch(len(groups), leaves=True))
            for group in groups:
                self.emit((group.number,), group.item())
            return
        for key, group in self._groups.items():
            if group.size < self.node.size:
                if not self._passed_over:
                    self.fail(
                        f"the group of {_shown(key)} has {group.size} items, but size="
                        f"{self.node.size} was said"
                    )
                    return
                self.emit((group.number,), self._cause or group.item())
        if self._cause is not None:  # what failed may have been a group of its own
            self.emit((len(groups),), self._cause)
        self.emit((), Branch(len(groups) + (self._cause is not None)))


class JoinOperator(Operator):
    """Matches two sides by key, at the left one's address, as soon as both are there.

    With `remainder` the left side is (0, ...) and what is left of the right side (1, ...).
    """

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        super().__init__(node, parents, outbox)
        self._keys = (cast(Keys, node.options["left"]), cast(Keys, node.options["right"]))
        self._ring = KeyRing(self, [keys.key for keys in self._keys])
        self._by_key: tuple[dict[Hashable, Position], dict[Hashable, Position]] = ({}, {})
        self._remainder = bool(node.options.get("remainder"))
        self._former: dict[tuple[int, Position], Hashable] = {}  # keys of items made again
        self._over = [False, False]
        self._causes: list[HoleCause | None] = [None, None]

    def start(self) -> None:
        if self._remainder:
            self.emit((), Branch(2))

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is tuple:
            if self._ring.ask(parent, address, slot):
                self._keyed(parent, address)
        elif slot is not LEAF and (parent == 0 or self._remainder):
            shape = Branch(slot.count) if type(slot) is Branch else slot
            self.emit(self._place(parent, address), shape)
        self._check_over()

    def again(self, parent: int, address: Position, slot: Slot) -> None:
        former = self._ring.known[parent].pop(address, None)
        if former is not None:
            self._former[parent, address] = former
        self.on(parent, address, slot)

    def answer(self, tag: object, result: object) -> None:
        found = self._ring.take_answer(tag, result)
        if found is not None:
            self._keyed(*found)
            self._check_over()

    def _place(self, parent: int, address: Position) -> Position:
        return (parent, *address) if self._remainder else address

    def _keyed(self, parent: int, address: Position) -> None:
        key = self._ring.known[parent][address]
        former = self._former.pop((parent, address), None)
        if former is not None and former != key:
            self.fail(CHANGED)
            return
        if former is None and key in self._by_key[parent]:
            side = ("left", "right")[parent]
            self.fail(
                f"key {_shown(key)} occurs twice on the {side} side; join matches one to one.\n"
                "  For all pairs of equal key use combine(..., by=...), or group_by first."
            )
            return
        self._by_key[parent][key] = address
        if key in self._by_key[1 - parent]:
            other = self._by_key[1 - parent][key]
            self._match(address, other) if parent == 0 else self._match(other, address)
        elif self._over[1 - parent]:
            self._unmatched(parent, address)

    def _match(self, left: Position, right: Position) -> None:
        item, other = self._item(0, left), self._item(1, right)
        keys, others = self._keys
        joined = [item[i] for i in (*keys.key, *keys.rest)] + [other[i] for i in others.rest]
        self.emit(self._place(0, left), tuple(joined))
        if self._remainder:
            self.emit(self._place(1, right), EMPTY)

    def _item(self, parent: int, address: Position) -> Item:
        return cast(Item, self.parents[parent].slots[address])

    def _unmatched(self, parent: int, address: Position) -> None:
        """The other side is over: no partner will come (or a failed task would have made it)."""
        if parent == 1 and not self._remainder:
            return
        cause = self._causes[1 - parent]
        slot: Slot = EMPTY
        if cause is not None:
            slot = cause
        elif self._remainder:
            item, keys = self._item(parent, address), self._keys[parent]
            key = [item[i] for i in keys.key]
            rest: list[object] = [item[i] for i in keys.rest]
            missing: list[object] = [None] * len(self._keys[1 - parent].rest)
            slot = tuple(key + rest + missing if parent == 0 else key + missing + rest)
        self.emit(self._place(parent, address), slot)

    def _check_over(self) -> None:
        for parent in (0, 1):
            stream = self.parents[parent]
            if self._over[parent] or not stream.complete:
                continue
            if len(self._ring.known[parent]) < stream.items:
                continue
            self._over[parent] = True
            if stream.holes:
                found = [slot for _, slot in elements(stream) if type(slot) is HoleCause]
                self._causes[parent] = next(filter(poisons, found), None)
            for key, address in self._by_key[1 - parent].items():
                if key not in self._by_key[parent]:
                    self._unmatched(1 - parent, address)


class CombineByOperator(GatherOperator):
    """Hangs under each left item the right items of its key, in the right side's order.

    The right side is read in order, the left side as it comes. What failed on the right may have
    had any key: it is a hole below every left item.
    """

    side = 1

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        self._keys = (cast(Keys, node.options["left"]), cast(Keys, node.options["right"]))
        self._ring = KeyRing(self, [keys.key for keys in self._keys])
        self._right: dict[Hashable, list[Item | HoleCause]] = {}
        self._failed: list[Item | HoleCause] = []
        self._left: dict[Position, int] = {}  # children so far
        self._left_of: dict[Hashable, list[Position]] = {}
        super().__init__(node, parents, outbox)

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        if type(slot) is tuple:
            if self._ring.ask(parent, address, slot):
                self._keyed(parent, address)
        elif parent == 0 and slot is not LEAF:
            self.emit(address, Branch(slot.count) if type(slot) is Branch else slot)
        self.advance()

    def again(self, parent: int, address: Position, slot: Slot) -> None:
        self.fail(CHANGED)

    def answer(self, tag: object, result: object) -> None:
        found = self._ring.take_answer(tag, result)
        if found is not None:
            self._keyed(*found)
            self.advance()

    def _keyed(self, parent: int, address: Position) -> None:
        if parent == 1:
            return
        key = self._ring.known[0][address]
        self._left[address] = 0
        self._left_of.setdefault(key, []).append(address)
        self.emit(address, OPEN)
        for element in self._right.get(key, self._failed):
            self._hang(address, element)
        if self.closed:
            self.emit(address, Branch(self._left[address]))

    def _hang(self, address: Position, element: Item | HoleCause) -> None:
        slot: Slot = element
        if type(element) is tuple:
            item, (keys, others) = cast(Item, self.parents[0].slots[address]), self._keys
            left = [item[i] for i in (*keys.key, *keys.rest)]
            slot = (*left, *[element[i] for i in others.rest])
        self.emit((*address, self._left[address]), slot)
        self._left[address] += 1

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        below: Iterable[Position]
        if type(element) is HoleCause:
            if not poisons(element):
                return True
            for found in self._right.values():
                found.append(element)
            self._failed.append(element)
            below = self._left
        elif address not in self._ring.known[1]:
            return False
        else:
            key = self._ring.known[1][address]
            self._right.setdefault(key, list(self._failed)).append(element)
            below = self._left_of.get(key, ())
        for left in below:
            self._hang(left, element)
        return True

    def close(self) -> None:
        for address, count in self._left.items():
            self.emit(address, Branch(count))


def _shown(key: Hashable) -> str:
    part = key[0] if isinstance(key, tuple) and len(key) == 1 else key
    return repr(part)
