"""What is known of a channel's items while a run goes on: a tree that fills, and a cursor over it.

Every element of a channel has an address (its position): a path in a tree whose root is `()`. What
is known of one address is a `Slot`: a `Branch` (children at address + (0,), (1,), ...), `LEAF`
(exactly one element will come), an item (a tuple), or a hole (`HoleCause`). The order of a channel
is the order of addresses, never that of arrival; that is why a run does not depend on how its tasks
were scheduled. A Branch is always put before its children, and children of an open branch in order.
Changing how operators choose addresses changes the ids of tasks, never their hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nbcache.model.channel import Item
from nbcache.model.ids import Position
from nbcache.model.value import Gathered, HoleCause, Stored


@dataclass(frozen=True, slots=True)
class Branch:
    """`count` children; None: they come in order, and a later Branch(n) says how many there were.

    `leaves` says in one word that every child is a LEAF, so that a queue of a million items tells
    its length to everything below it at once.
    """

    count: int | None
    leaves: bool = False


class Leaf(Enum):
    LEAF = "leaf"


LEAF = Leaf.LEAF
EMPTY = Branch(0)
OPEN = Branch(None)

Slot = Branch | Leaf | Item | HoleCause
Element = Leaf | Item | HoleCause


class Change(Enum):
    """What putting a slot into a stream came to."""

    NEW = "new"
    SAME = "same"  # known already: nobody has to hear of it again
    REPLACED = "replaced"  # a task was run again, and its item is another one now


class StreamFault(Exception):
    """A slot contradicts what was promised; a task that ran again changed a channel's shape."""


class Stream:
    """The tree of one channel, with counts that are kept as it fills.

    `elements` counts leaves, items and holes; `unknown` addresses that exist and could still be
    anything; `open` branches that are not closed.
    """

    __slots__ = ("_seen", "elements", "holes", "items", "open", "slots", "unknown")

    def __init__(self) -> None:
        self.slots: dict[Position, Slot] = {}
        self.unknown = 1
        self.open = self.elements = self.items = self.holes = 0
        self._seen: dict[Position, int] = {}  # children that open branches have so far

    @property
    def shape_known(self) -> bool:
        """Whether no further element can appear."""
        return not self.unknown and not self.open

    @property
    def complete(self) -> bool:
        """Whether every element is an item or a hole."""
        return not self.unknown and not self.open and self.elements == self.items + self.holes

    def lacks(self, address: Position) -> bool:
        """Whether it is known that there is no element at an address."""
        for length in range(len(address) + 1):
            slot = self.slots.get(address[:length])
            if type(slot) is not Branch:
                return length < len(address) and slot is not None and type(slot) is not HoleCause
            if length < len(address) and slot.count is not None and address[length] >= slot.count:
                return True
        return True  # others are below it

    def put(self, address: Position, slot: Slot) -> Change:
        """Add what became known of an address.

        Raises:
            StreamFault: it contradicts what was known.
        """
        old = self.slots.get(address)
        if old is not None and old is not LEAF:
            return self._put_again(address, old, slot)
        if old is LEAF:
            if slot is LEAF:
                return Change.SAME
            promised = True
        elif address:
            parent = self.slots[address[:-1]]
            assert type(parent) is Branch
            promised = parent.leaves
            if promised and slot is LEAF:
                return Change.SAME
            if parent.count is None:
                self._seen[address[:-1]] += 1
            elif address[-1] >= parent.count:
                raise StreamFault(f"{address[:-1]} has only {parent.count} children")
            elif not promised:
                self.unknown -= 1
        else:
            promised = False
            self.unknown -= 1
        self.slots[address] = slot
        if type(slot) is tuple:
            self.items += 1
        elif type(slot) is HoleCause:
            self.holes += 1
        elif type(slot) is Branch:
            if promised:
                raise StreamFault(f"{address} was to be one element")
            self._put_branch(address, slot)
            return Change.NEW
        if not promised:
            self.elements += 1
        return Change.NEW

    def _put_branch(self, address: Position, branch: Branch) -> None:
        if branch.count is None:
            self.open += 1
            self._seen[address] = 0
        elif branch.leaves:
            self.elements += branch.count
        else:
            self.unknown += branch.count

    def _put_again(self, address: Position, old: Slot, slot: Slot) -> Change:
        if type(old) is Branch and type(slot) is Branch:
            if old == slot:
                return Change.SAME
            if old.count is None and slot.count is not None:
                missing = slot.count - self._seen.pop(address)
                if missing < 0:
                    raise StreamFault(f"{address} has more than {slot.count} children")
                self.open -= 1
                self.unknown += missing
                self.slots[address] = slot
                return Change.NEW
            if slot.count is None:
                return Change.SAME  # a gather that begins again says "open" again
        elif type(old) is tuple and type(slot) is tuple:
            if _equal(old, slot):
                return Change.SAME
            self.slots[address] = slot
            return Change.REPLACED
        elif type(old) is not Branch and (slot is LEAF or type(slot) is type(old)):
            return Change.SAME
        raise StreamFault(f"{address} was {old!r} and would become {slot!r}")


def _equal(left: object, right: object) -> bool:
    if left is right:
        return True
    try:
        return bool(left == right)
    except Exception:  # a comparison of the user's own types; unequal is always safe
        return False


def same_content(left: object, right: object) -> bool:
    """Whether two values of a field are the same for a fingerprint, as far as one can cheaply tell.

    Stored outputs count by their content digest, so that a result that was made again with other
    bytes (a newer codec) changes nothing below it.
    """
    if type(left) is Stored and type(right) is Stored:
        return left.digest == right.digest and left.kind == right.kind and left.name == right.name
    if isinstance(left, Gathered | tuple) and type(left) is type(right):
        assert isinstance(right, Gathered | tuple)
        return len(left) == len(right) and all(map(same_content, left, right))
    return type(left) is type(right) and _equal(left, right)


class Cursor:
    """Walks the elements of a stream in position order, as far as the stream is known.

    `look` gives the element at `address`: an item, a hole, LEAF (its content is not there yet), or
    None: nothing is known, or (then `done` is True) the channel has no more elements.
    """

    __slots__ = ("_path", "_slots", "address", "done")

    def __init__(self, stream: Stream) -> None:
        self._slots = stream.slots
        self._path: list[tuple[Position, int]] = []
        self.address: Position = ()
        self.done = False

    def look(self) -> Element | None:
        """Return the element at the cursor, if it is known."""
        slots = self._slots
        while not self.done:
            slot = slots.get(self.address)
            if slot is None:
                if not self._path:
                    return None
                prefix, index = self._path[-1]
                branch = slots[prefix]
                assert type(branch) is Branch
                if branch.count is None or index < branch.count:
                    return LEAF if branch.leaves else None
                self._path.pop()
                self._go_after(prefix)
            elif isinstance(slot, Branch):
                self._path.append((self.address, 0))
                self.address = (*self.address, 0)
            else:
                return slot
        return None

    def step(self) -> None:
        """Go past the element that `look` gave."""
        self._go_after(self.address)

    def _go_after(self, address: Position) -> None:
        if not self._path:
            self.done = True
            return
        prefix, index = self._path[-1]
        self._path[-1] = (prefix, index + 1)
        self.address = (*prefix, index + 1)


def elements(stream: Stream) -> list[tuple[Position, Item | HoleCause]]:
    """Return the items and holes known without a gap from the start, in position order."""
    cursor = Cursor(stream)
    found: list[tuple[Position, Item | HoleCause]] = []
    while True:
        element = cursor.look()
        if element is None or element is LEAF:
            return found
        assert not isinstance(element, Leaf)
        found.append((cursor.address, element))
        cursor.step()
