"""Where the boxes and lines of a picture go: layers from left to right. Pure and deterministic.

Longest-path layers, barycentre sweeps against crossings, and per layer the placement nearest to
the neighbours' that keeps boxes apart (pool adjacent violators, so the optimum, in linear time).
Computed in Python, so that the live picture and the static one share every coordinate.

Source: K. Sugiyama et al., "Methods for visual understanding of hierarchical system structures",
IEEE Transactions on Systems, Man and Cybernetics, 1981.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

COLUMN_GAP = 72.0  # room between two layers, for the lines and their numbers
ROW_GAP = 22.0
LINE_GAP = 14.0  # between lines that pass a layer
MARGIN = 12.0
_SWEEPS = 8
_ROUNDS = 6

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Placed:
    """A layout in pixels: the left upper corner of each box, and each edge's points.

    An edge goes from the right side of its tail through the layers that it passes (one point where
    it enters and one where it leaves each) to the left side of its head.
    """

    corners: tuple[Point, ...]
    routes: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def place(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Placed:
    """Place boxes of these (width, height) so that every edge (tail, head) leads to the right.

    Raises:
        ValueError: the edges make a circle.
    """
    layers = layers_of(len(sizes), edges)
    grid = _Grid(sizes, edges, layers)
    grid.untangle()
    grid.settle()
    return grid.placed()


def layers_of(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the layer of each box: the longest path from the left; what has nothing before it
    moves next to its first reader.

    Raises:
        ValueError: the edges make a circle.
    """
    heads: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for tail, head in edges:
        heads[tail].append(head)
        waiting[head] += 1
    has_tail = [number > 0 for number in waiting]
    layer = [0] * count
    ready = [node for node in range(count) if not waiting[node]]
    done = 0
    while ready:
        node = ready.pop()
        done += 1
        for head in heads[node]:
            layer[head] = max(layer[head], layer[node] + 1)
            waiting[head] -= 1
            if not waiting[head]:
                ready.append(head)
    if done < count:
        raise ValueError("the edges make a circle")
    for node in range(count):
        if not has_tail[node] and heads[node]:
            layer[node] = min(layer[head] for head in heads[node]) - 1
    return layer


class _Grid:
    """Boxes and bends (where an edge passes a layer) in their layers."""

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        edges: Sequence[tuple[int, int]],
        layers: Sequence[int],
    ) -> None:
        self._sizes = sizes
        self._layer = list(layers)
        self._height = [height for _, height in sizes]
        self._chains: list[list[int]] = []  # per edge: its tail, its bends, its head
        for tail, head in edges:
            chain = [tail]
            for between in range(layers[tail] + 1, layers[head]):
                chain.append(len(self._layer))
                self._layer.append(between)
                self._height.append(0.0)
            self._chains.append([*chain, head])
        count = len(self._layer)
        self._left: list[list[int]] = [[] for _ in range(count)]
        self._right: list[list[int]] = [[] for _ in range(count)]
        for chain in self._chains:
            for a, b in pairwise(chain):
                self._right[a].append(b)
                self._left[b].append(a)
        self._rows: list[list[int]] = [[] for _ in range(max(self._layer, default=-1) + 1)]
        for item in self._depth_first(len(sizes)):
            self._rows[self._layer[item]].append(item)
        self._middle = [0.0] * count

    def _depth_first(self, boxes: int) -> list[int]:
        """All items, what hangs together next to each other: a good first order."""
        seen: set[int] = set()
        order: list[int] = []
        for start in range(boxes):
            stack = [start]
            while stack:
                item = stack.pop()
                if item in seen:
                    continue
                seen.add(item)
                order.append(item)
                stack.extend(reversed([*self._left[item], *self._right[item]]))
        return order

    # ------------------------------------------------------------------ order

    def untangle(self) -> None:
        """Order each layer by the middle of its neighbours; keeps the order of least crossings."""
        best, fewest = [list(row) for row in self._rows], self._crossings()
        for sweep in range(_SWEEPS):
            if not fewest:
                break
            rightward = sweep % 2 == 0
            neighbours = self._left if rightward else self._right
            rows = self._rows[1:] if rightward else self._rows[-2::-1]
            rank = self._ranks()
            for row in rows:
                middle = {
                    item: sum(rank[each] for each in neighbours[item]) / len(neighbours[item])
                    if neighbours[item]
                    else float(rank[item])
                    for item in row
                }
                row.sort(key=lambda item: (middle[item], rank[item]))
                rank.update({item: k for k, item in enumerate(row)})
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self._rows], crossings
        self._rows = best

    def _ranks(self) -> dict[int, int]:
        return {item: k for row in self._rows for k, item in enumerate(row)}

    def _crossings(self) -> int:
        rank = self._ranks()
        total = 0
        for row in self._rows[:-1]:
            ends = [rank[b] for a in row for b in sorted(self._right[a], key=rank.__getitem__)]
            seen: list[int] = []
            for end in ends:
                total += len(seen) - bisect_left(seen, end + 1)
                insort(seen, end)
        return total

    # ------------------------------------------------------------------ places

    def settle(self) -> None:
        """Give every item the middle of its neighbours, as near as its layer lets it."""
        for row in self._rows:
            self._spread(row, dict.fromkeys(row, 0.0))
        for round_ in range(_ROUNDS):
            rightward = round_ % 2 == 0
            for row in self._rows if rightward else reversed(self._rows):
                first, second = (
                    (self._left, self._right) if rightward else (self._right, self._left)
                )
                wanted = {item: self._wanted(first[item] or second[item], item) for item in row}
                self._spread(row, wanted)

    def _wanted(self, neighbours: Sequence[int], item: int) -> float:
        if not neighbours:
            return self._middle[item]
        return sum(self._middle[each] for each in neighbours) / len(neighbours)

    def _spread(self, row: Sequence[int], wanted: Mapping[int, float]) -> None:
        """Set the middles of a layer: least squares to what is wanted, in order, gaps kept."""
        offsets, at = [], 0.0
        for k, item in enumerate(row):
            if k:
                before = row[k - 1]
                bends = not self._height[before] and not self._height[item]
                gap = LINE_GAP if bends else ROW_GAP
                at += (self._height[before] + self._height[item]) / 2 + gap
            offsets.append(at)
        blocks: list[tuple[float, int]] = []  # (mean of what is wanted less the offset, members)
        for item, offset in zip(row, offsets, strict=True):
            mean, members = wanted[item] - offset, 1
            while blocks and blocks[-1][0] > mean:
                other, more = blocks.pop()
                mean = (mean * members + other * more) / (members + more)
                members += more
            blocks.append((mean, members))
        means = [mean for mean, members in blocks for _ in range(members)]
        for item, offset, mean in zip(row, offsets, means, strict=True):
            self._middle[item] = mean + offset

    def placed(self) -> Placed:
        """Return the layout in pixels, from the upper left corner on."""
        if not self._sizes:
            return Placed((), (), 2 * MARGIN, 2 * MARGIN)
        tops = [self._middle[k] - self._height[k] / 2 for k in range(len(self._middle))]
        lift = MARGIN - min(tops)
        boxes = range(len(self._sizes))
        widths = [0.0] * len(self._rows)
        for box in boxes:
            widths[self._layer[box]] = max(widths[self._layer[box]], self._sizes[box][0])
        lefts, at = [], MARGIN
        for width in widths:
            lefts.append(at)
            at += width + COLUMN_GAP
        corners = []
        for box in boxes:
            slack = widths[self._layer[box]] - self._sizes[box][0]
            shift = slack if not self._left[box] else 0.0  # what begins stands next to its reader
            corners.append((round(lefts[self._layer[box]] + shift, 1), round(tops[box] + lift, 1)))
        routes = [self._route(chain, corners, lefts, widths, lift) for chain in self._chains]
        bottom = max(top + height for top, height in zip(tops, self._height, strict=True))
        return Placed(
            tuple(corners),
            tuple(routes),
            round(at - COLUMN_GAP + MARGIN, 1),
            round(bottom + lift + MARGIN, 1),
        )

    def _route(
        self,
        chain: Sequence[int],
        corners: Sequence[Point],
        lefts: Sequence[float],
        widths: Sequence[float],
        lift: float,
    ) -> tuple[Point, ...]:
        tail, *bends, head = chain
        points = [(corners[tail][0] + self._sizes[tail][0], self._middle[tail] + lift)]
        for bend in bends:
            left = lefts[self._layer[bend]]
            height = self._middle[bend] + lift
            points += [(left, height), (left + widths[self._layer[bend]], height)]
        points.append((corners[head][0], self._middle[head] + lift))
        return tuple((round(x, 1), round(y, 1)) for x, y in points)
