"""Trees that fill, and cursors over them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.model.digest import Digest
from nbcache.model.ids import Position
from nbcache.model.value import Gathered, HoleCause, Stored
from nbcache.plan.dataflow.streams import (
    EMPTY,
    LEAF,
    OPEN,
    Branch,
    Change,
    Cursor,
    Slot,
    Stream,
    StreamFault,
    elements,
    same_content,
)

HOLE = HoleCause("failed", "p[1]")


def filled(*slots: tuple[Position, Slot]) -> Stream:
    stream = Stream()
    for address, slot in slots:
        stream.put(address, slot)
    return stream


def test_a_queue_tells_its_length_before_any_item() -> None:
    stream = filled(((), Branch(3, leaves=True)))

    assert stream.shape_known
    assert stream.elements == 3
    assert not stream.complete


def test_items_are_read_in_position_order_however_they_came() -> None:
    stream = filled(((), Branch(3, leaves=True)), ((2,), ("c",)), ((0,), ("a",)))

    assert elements(stream) == [((0,), ("a",))]
    stream.put((1,), ("b",))
    assert [item for _, item in elements(stream)] == [("a",), ("b",), ("c",)]
    assert stream.complete


def test_a_cursor_stands_before_what_is_not_known() -> None:
    stream = filled(((), Branch(2)))
    cursor = Cursor(stream)

    assert cursor.look() is None
    assert not cursor.done
    stream.put((0,), EMPTY)
    assert cursor.look() is None
    stream.put((1,), LEAF)
    assert cursor.look() is LEAF
    stream.put((1,), ("b",))
    assert cursor.look() == ("b",)
    cursor.step()
    assert cursor.look() is None
    assert cursor.done


def test_an_open_branch_ends_when_it_is_closed() -> None:
    stream = filled(((), OPEN), ((0,), ("a",)))
    cursor = Cursor(stream)
    assert cursor.look() == ("a",)
    cursor.step()

    assert cursor.look() is None
    assert not stream.shape_known
    stream.put((), Branch(1))
    assert cursor.look() is None
    assert cursor.done
    assert stream.complete


def test_children_may_come_after_their_open_branch_was_closed() -> None:
    stream = filled(((), OPEN), ((0,), ("a",)), ((), Branch(2)))

    assert not stream.shape_known
    stream.put((1,), ("b",))
    assert stream.complete
    assert len(elements(stream)) == 2


def test_a_value_channel_is_its_root() -> None:
    stream = filled(((), LEAF))
    assert stream.shape_known
    assert stream.put((), (1,)) is Change.NEW
    assert elements(stream) == [((), (1,))]


def test_an_empty_queue_is_complete_at_once() -> None:
    stream = filled(((), EMPTY))
    assert stream.complete
    assert elements(stream) == []


def test_an_equal_slot_is_no_news_and_another_item_replaces() -> None:
    stream = filled(((), Branch(1, leaves=True)), ((0,), (1,)))

    assert stream.put((0,), (1,)) is Change.SAME
    assert stream.put((0,), LEAF) is Change.SAME
    assert stream.put((0,), (2,)) is Change.REPLACED
    assert stream.items == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [((1,), HOLE), (HOLE, (1,)), ((1,), EMPTY), (EMPTY, (1,)), (Branch(1), Branch(2))],
)
def test_a_channel_cannot_change_its_shape(before: Slot, after: Slot) -> None:
    stream = filled(((), before))
    with pytest.raises(StreamFault):
        stream.put((), after)


def test_an_element_that_was_promised_cannot_become_a_branch() -> None:
    with pytest.raises(StreamFault):
        filled(((), Branch(1, leaves=True)), ((0,), Branch(2)))


def stored(content: str, blob: str) -> Stored:
    return Stored(Digest(content), "value", "json", 3, blob=Digest(blob))


def test_stored_results_are_the_same_when_their_content_is() -> None:
    assert same_content(stored("a", "x"), stored("a", "y"))
    assert not same_content(stored("a", "x"), stored("b", "x"))
    assert same_content(Gathered([stored("a", "x")]), Gathered([stored("a", "y")]))
    assert not same_content(Gathered([stored("a", "x")]), Gathered([]))
    assert not same_content(1, 1.0)


Tree = int | list["Tree"]
TREES = st.recursive(st.integers(0, 3), lambda children: st.lists(children, max_size=4))


def slots_of(tree: Tree, address: Position = ()) -> Iterator[tuple[Position, Slot]]:
    """A tree as slots: 0 an item, 1 a leaf and then an item, 2 a hole, 3 an empty branch."""
    if isinstance(tree, list):
        yield address, Branch(len(tree))
        for number, child in enumerate(tree):
            yield from slots_of(child, (*address, number))
    elif tree == 2:
        yield address, HOLE
    elif tree == 3:
        yield address, EMPTY
    else:
        if tree == 1:
            yield address, LEAF
        yield address, (address,)


@given(TREES, st.randoms(use_true_random=False))
def test_any_tree_is_read_in_order_whatever_came_first(tree: Tree, rng: random.Random) -> None:
    slots = list(slots_of(tree))
    wanted = [a for a, s in slots if isinstance(s, tuple | HoleCause)]
    stream, seen = Stream(), []
    cursor = Cursor(stream)
    waiting = list(slots)
    while waiting:
        able = [n for n, (a, _) in enumerate(waiting) if not a or a[:-1] in stream.slots]
        first = {a: n for n, (a, _) in reversed(list(enumerate(waiting)))}
        address, slot = waiting.pop(first[waiting[rng.choice(able)][0]])
        assert not stream.complete
        stream.put(address, slot)
        while (element := cursor.look()) is not None and element is not LEAF:
            seen.append(cursor.address)
            cursor.step()

    assert seen == wanted
    assert cursor.done
    assert stream.complete
    assert stream.elements == len(wanted)
