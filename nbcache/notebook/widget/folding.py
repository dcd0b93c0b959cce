"""What of a pipeline is drawn as one box, since nobody reads a picture of 500. Pure.

Up to `MOST` processes each has its box. Of more, those of one layer that are called alike
(trim_001, trim_002, ...) are one, then whole layers, the fullest first, then layers that follow one
another. Nothing in a layer reads from its own layer, so a box never stands before and behind
another, whichever groups are unfolded: lines still lead to the right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from nbcache.notebook.widget.layout import layers_of
from nbcache.plan.dataflow.outline import Outline

MOST = 48  # boxes that a person still takes in


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that may be drawn as one: their places in the outline, and what they are called."""

    name: str
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a picture: a process, or a group that is folded."""

    name: str
    members: tuple[int, ...]
    group: int | None  # the group that it is or is unfolded from

    @property
    def is_folded(self) -> bool:
        return len(self.members) > 1


@dataclass(frozen=True, slots=True)
class Pill:
    """Where channels begin: several are one where the same folded box reads them all."""

    name: str
    count: int
    is_value: bool


@dataclass(frozen=True, slots=True)
class Line:
    """Between two of the boxes and, after them, pills: the edges of the outline that it is for."""

    tail: int
    head: int
    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """All that a picture shows of an outline."""

    groups: tuple[Group, ...]
    unfolded: frozenset[int]
    boxes: tuple[Box, ...]
    pills: tuple[Pill, ...]
    lines: tuple[Line, ...]


def drawn(outline: Outline, unfolded: Iterable[int] = (), most: int = MOST) -> Drawn:
    """Return what a picture of an outline shows, with these of its groups unfolded."""
    groups = groups_of(outline, most)
    open_ = frozenset(each for each in unfolded if 0 <= each < len(groups))
    boxes = _boxes(outline, groups, open_)
    at = {outline.processes[k]: place for place, box in enumerate(boxes) for k in box.members}
    origins: dict[object, list[int]] = {}
    for k, origin in enumerate(outline.origins):
        heads = {at[edge.head] for edge in outline.edges if edge.tail == origin.key}
        only = heads.pop() if len(heads) == 1 else None
        is_bundled = only is not None and boxes[only].is_folded
        origins.setdefault((only, origin.is_value) if is_bundled else k, []).append(k)
    pills = []
    for place, members in enumerate(origins.values(), len(boxes)):
        names = [outline.origins[k].name for k in members]
        at.update((outline.origins[k].key, place) for k in members)
        pills.append(Pill(common_name(names), len(names), outline.origins[members[0]].is_value))
    return Drawn(groups, open_, boxes, tuple(pills), _lines(outline, at, boxes, pills))


def _lines(
    outline: Outline, at: Mapping[str, int], boxes: Sequence[Box], pills: Sequence[Pill]
) -> tuple[Line, ...]:
    """One line for each channel between processes; with a group, one for all channels, and none
    where other lines lead there, too: what is behind a group is what its processes say."""
    lines: dict[tuple[int, int, object], list[int]] = {}
    bundles: set[tuple[int, int]] = set()
    for k, edge in enumerate(outline.edges):
        tail, head = at[edge.tail], at[edge.head]
        is_bundle = tail < len(boxes) and (boxes[tail].is_folded or boxes[head].is_folded)
        is_many = is_bundle or (tail >= len(boxes) and pills[tail - len(boxes)].count > 1)
        if tail != head:
            lines.setdefault((tail, head, None if is_many else edge.node), []).append(k)
        if is_bundle:
            bundles.add((tail, head))
    implied = bundles & _detours((tail, head) for tail, head, _ in lines) if bundles else set()
    return tuple(
        Line(tail, head, tuple(edges))
        for (tail, head, _), edges in lines.items()
        if (tail, head) not in implied
    )


def _detours(pairs: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those pairs whose head is reached from their tail through others, too."""
    heads: dict[int, set[int]] = {}
    for tail, head in pairs:
        heads.setdefault(tail, set()).add(head)
    behind: dict[int, set[int]] = {}
    for start in heads:  # depth first, without recursion: a pipeline may be long
        stack = [start]
        while stack:
            node = stack[-1]
            waiting = [each for each in heads.get(node, ()) if each not in behind]
            if waiting and node not in behind:
                stack.extend(waiting)
                continue
            stack.pop()
            if node not in behind:
                below = heads.get(node, set())
                behind[node] = below.union(*(behind[each] for each in below))
    return {
        (tail, head)
        for tail, below in heads.items()
        for head in below
        if any(head in behind[each] for each in below)
    }


def _boxes(outline: Outline, groups: Sequence[Group], open_: frozenset[int]) -> tuple[Box, ...]:
    """Boxes in the order of the outline, a group where its first process is."""
    group_of = {k: place for place, group in enumerate(groups) for k in group.members}
    boxes = []
    for k, name in enumerate(outline.processes):
        place = group_of.get(k)
        if place is None or place in open_:
            boxes.append(Box(name, (k,), place))
        elif groups[place].members[0] == k:
            boxes.append(Box(groups[place].name, groups[place].members, place))
    return tuple(boxes)


# ---------------------------------------------------------------- groups


def groups_of(outline: Outline, most: int = MOST) -> tuple[Group, ...]:
    """Return the groups of an outline, none where it has few processes."""
    if len(outline.processes) <= most:
        return ()
    layers = _by_kind(outline)
    count = sum(map(len, layers))
    for layer in sorted(layers, key=len, reverse=True):
        if count <= most:
            break
        count -= len(layer) - 1
        layer[:] = [sorted(k for members in layer for k in members)]
    if count > most:
        layers = _in_bands(layers, most)
    found = sorted(tuple(each) for layer in layers for each in layer if len(each) > 1)
    return _named(outline.processes, found)


def _by_kind(outline: Outline) -> list[list[list[int]]]:
    """Per layer from the left, what is in it: processes of one kind together."""
    place = {name: k for k, name in enumerate(outline.processes)}
    edges = [(place[each.tail], place[each.head]) for each in outline.edges if each.tail in place]
    layer = layers_of(len(place), edges)
    kinds: dict[tuple[int, str], list[int]] = {}
    for k, name in enumerate(outline.processes):
        kinds.setdefault((layer[k], stem(name)), []).append(k)
    ordered = sorted(kinds.items(), key=lambda each: each[0])
    return [[members for _, members in kind] for _, kind in groupby(ordered, lambda it: it[0][0])]


def _in_bands(layers: Sequence[Sequence[Sequence[int]]], most: int) -> list[list[list[int]]]:
    """Put layers that follow one another together, as many as must be."""
    width = -(-len(layers) // most)
    bands = (layers[k : k + width] for k in range(0, len(layers), width))
    return [[sorted(k for layer in band for each in layer for k in each)] for band in bands]


def _named(names: Sequence[str], groups: Sequence[tuple[int, ...]]) -> tuple[Group, ...]:
    called = [common_name([names[k] for k in members]) for members in groups]
    return tuple(
        Group(name if called.count(name) == 1 else _ends([names[k] for k in members]), members)
        for name, members in zip(called, groups, strict=True)
    )


def stem(name: str) -> str:
    """Return what a name has in common with its like: "trim_*" of "trim_017"."""
    return re.sub(r"\d+", "*", name)


def common_name(names: Sequence[str]) -> str:
    """Return one name for several: what they have in common, else the first and the last."""
    if len(names) == 1:
        return names[0]
    stems = {stem(name) for name in names}
    return stems.pop() if len(stems) == 1 else _ends(names)


def _ends(names: Sequence[str]) -> str:
    return f"{names[0]} … {names[-1]}"
