"""Operators that see items in position order, however they arrived.

Each walks its parent with a cursor and stops where nothing is known yet. A hole that a failed task
left makes what is gathered over it a hole (a partial result is never computed in silence); holes
of ignored and skipped tasks are passed over. `first` and `take` pass over all holes.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

from nbcache.model.channel import CompiledNode, Fields, Item
from nbcache.model.ids import Position
from nbcache.model.value import Gathered, HoleCause
from nbcache.plan.dataflow.calls import whole
from nbcache.plan.dataflow.operators import Operator, Outbox
from nbcache.plan.dataflow.streams import LEAF, OPEN, Branch, Cursor, Leaf, Slot, Stream

_UNSET = object()


def poisons(hole: HoleCause) -> bool:
    """Whether a gather over this hole would be a partial result."""
    return hole.outcome not in ("ignored", "skipped")


class GatherOperator(Operator):
    """Takes the elements of parent `side` in order; `take` says False to be asked again later.

    `chooses`: what it gives of later elements depends on each before, so a plan ends at one that a
    task would make.
    """

    side, chooses = 0, False

    def __init__(self, node: CompiledNode, parents: Sequence[Stream], outbox: Outbox) -> None:
        super().__init__(node, parents, outbox)
        self.reset()

    def reset(self) -> None:
        """Begin again from the first element."""
        self.cursor = Cursor(self.parents[self.side])
        self.closed = False

    def on(self, parent: int, address: Position, slot: Slot) -> None:
        self.advance()

    def again(self, parent: int, address: Position, slot: Slot) -> None:
        self.reset()
        self.start()
        self.advance()

    def advance(self) -> None:
        """Take what the cursor reaches."""
        cursor = self.cursor
        while not self.closed:
            element = cursor.look()
            if element is None:
                if cursor.done:
                    self.closed = True
                    self.close()
                return
            if self.chooses and type(element) is HoleCause and element.foreseen:
                return
            if isinstance(element, Leaf) or not self.take(cursor.address, element):
                return
            cursor.step()

    @abstractmethod
    def take(self, address: Position, element: Item | HoleCause) -> bool:
        """Take the next element; False: not yet."""

    @abstractmethod
    def close(self) -> None:
        """There are no more elements."""


class _Columns:
    """Items gathered field by field."""

    def __init__(self, fields: Fields) -> None:
        self._lists = [Gathered() for _ in fields or (None,)] if fields != () else []

    def append(self, item: Item) -> None:
        for gathered, value in zip(self._lists, item, strict=True):
            gathered.append(value)

    def item(self) -> Item:
        return tuple(self._lists)

    def __len__(self) -> int:
        return len(self._lists[0]) if self._lists else 0


class ValueGather(GatherOperator):
    """A gather whose result is one value."""

    def start(self) -> None:
        self.emit((), LEAF)

    def finish(self, slot: Item | HoleCause) -> None:
        """Give the result."""
        self.closed = True
        self.emit((), slot)


class CollectOperator(ValueGather):
    """One item of lists, in position order."""

    def reset(self) -> None:
        super().reset()
        self._columns = _Columns(self.node.fields)

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if type(element) is tuple:
            self._columns.append(element)
        elif poisons(cast(HoleCause, element)):
            self.finish(element)
        return True

    def close(self) -> None:
        self.finish(self._columns.item())


class FirstOperator(ValueGather):
    """The first item that is no hole."""

    chooses = True

    def reset(self) -> None:
        super().reset()
        self._cause: HoleCause | None = None

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if type(element) is tuple:
            self.finish(element)
        elif self._cause is None and poisons(cast(HoleCause, element)):
            self._cause = cast(HoleCause, element)
        return True

    def close(self) -> None:
        self.finish(self._cause or HoleCause("skipped", f"{self.node.label} (empty)"))


class ReduceOperator(ValueGather):
    """A fold; one question at a time."""

    def reset(self) -> None:
        super().reset()
        self._value = _own(self.node.options.get("initial", _UNSET))
        self._asked: object = None

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if self._asked is not None:
            return False
        if type(element) is HoleCause:
            if poisons(element):
                self.finish(element)
            return True
        item = cast(Item, element)
        if self._value is _UNSET:
            self._value = _own(whole(item, cast(Fields, self.node.options["fields"])))
            return True
        self._asked = object()
        self.out.ask(self, "fold", (self._value, item), self._asked)
        return False

    def answer(self, tag: object, result: object) -> None:
        if tag is self._asked:
            self._asked, self._value = None, result
            self.cursor.step()
            self.advance()

    def close(self) -> None:
        empty = self._value is _UNSET
        cause = HoleCause("skipped", f"{self.node.label} (empty)")
        self.finish(cause if empty else (self._value,))


def _own(value: object) -> object:
    """Return a copy that a fold may change; the notebook's own value stays what it was."""
    if value is _UNSET:
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # what cannot be copied is shared, as in any cell
        return value


class QueueGather(GatherOperator):
    """A gather whose results are numbered from 0 as they come."""

    def reset(self) -> None:
        super().reset()
        self.count = 0

    def start(self) -> None:
        self.emit((), OPEN)

    def give(self, slot: Item | HoleCause) -> None:
        """Emit the next element."""
        self.emit((self.count,), slot)
        self.count += 1

    def close(self) -> None:
        self.closed = True
        self.emit((), Branch(self.count))


class TakeOperator(QueueGather):
    """The first items that are no holes."""

    chooses = True

    def start(self) -> None:
        super().start()
        if not self.node.size:
            self.close()

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if type(element) is tuple:
            self.give(element)
            if self.count == self.node.size:
                self.close()
        return True


class UntilOperator(QueueGather):
    """The items before the first that the function says yes to; one question at a time."""

    chooses = True

    def reset(self) -> None:
        super().reset()
        self._asked: object = None

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if self._asked is not None:
            return False
        if type(element) is HoleCause:
            self.give(element)
            return True
        self._asked = object()
        self.out.ask(self, "keep", (element,), self._asked)
        return False

    def answer(self, tag: object, result: object) -> None:
        if tag is not self._asked:
            return
        self._asked = None
        if result:
            self.close()
            return
        self.give(cast(Item, self.cursor.look()))
        self.cursor.step()
        self.advance()


class BufferOperator(QueueGather):
    """Every `size` items as one. A failed item keeps its place, so that later ones do not move."""

    def reset(self) -> None:
        super().reset()
        self._clear()

    def _clear(self) -> None:
        self._columns, self._size = _Columns(self.node.fields), 0
        self._cause: HoleCause | None = None

    def take(self, address: Position, element: Item | HoleCause) -> bool:
        if type(element) is tuple:
            self._columns.append(element)
        elif not poisons(cast(HoleCause, element)):
            return True
        else:
            self._cause = self._cause or cast(HoleCause, element)
        self._size += 1
        if self._size == self.node.size:
            self._flush()
        return True

    def _flush(self) -> None:
        self.give(self._cause or self._columns.item())
        self._clear()

    def close(self) -> None:
        if self._size and self.node.options["remainder"]:
            self._flush()
        super().close()
