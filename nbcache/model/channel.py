"""Channels as a graph of nodes, before and after it is compiled. No items live here.

A `Node` is what an expression such as `pairs.filter(...).collect()` builds: late, since the names
in it are looked up again at every run. `dataflow.graph` compiles nodes into a `Graph` whose
nodes know their fields and their place in topological order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nbcache.model.process import Filling, ProcessDecl

Fields = tuple[str | None, ...] | None
"""Names of an item's fields in order (None: unnamed); None altogether: unknown until it comes."""

Item = tuple[object, ...]
"""One item: a value per field; of a channel with unknown fields, a 1-tuple of the whole value."""

Op = Literal[
    "source", "named", "process",
    "map", "filter", "flat_map", "collect", "combine", "join", "mix", "group_by", "reduce",
    "unique", "until", "first", "take", "buffer", "branch", "fields", "select", "view", "subscribe",
    "pair", "failures",
]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Node:
    """One step of a channel expression; compared by identity (a shared node is one stream).

    source: `load` gives the items (each a tuple of field values) at the start of a run; `names`
    their fields. named: a channel bound to a name, `target` is looked up late. process: `target`
    is the process object, `parents` the channels it was called with (None: wired by its header).
    """

    op: Op
    parents: tuple[Node, ...] | None = ()
    names: Fields = None
    is_value: bool = False
    load: Callable[[], Sequence[Item]] | None = None
    function: Callable[..., object] | None = None
    target: object = None
    by: tuple[str | int, ...] = ()
    size: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    label: str = ""  # as written, for errors


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledNode:
    """A node of the compiled graph; `parents` are indices of earlier nodes."""

    index: int
    op: Op
    parents: tuple[int, ...]
    fields: Fields
    is_value: bool
    load: Callable[[], Sequence[Item]] | None = None
    function: Callable[..., object] | None = None
    by: tuple[str | int, ...] = ()
    size: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    label: str = ""
    name: str = ""  # the public name of the channel or the place of the process
    decl: ProcessDecl | None = None  # op process
    filling: Filling = field(default_factory=dict)  # op process: input -> where it comes from


@dataclass(frozen=True, slots=True)
class Graph:
    """A compiled pipeline: nodes in topological order; `places` maps process places to indices."""

    nodes: tuple[CompiledNode, ...]
    places: Mapping[str, int]
    channels: Mapping[str, int]


def with_all_below(graph: Graph, indices: Collection[int]) -> frozenset[int]:
    """Return these nodes, and all that take what they give."""
    found = set(indices)
    for node in graph.nodes:  # in topological order
        if any(parent in found for parent in node.parents):
            found.add(node.index)
    return frozenset(found)


def upstream_of(graph: Graph, index: int) -> tuple[str, ...]:
    """Return the names of the processes that feed a node, through any operators."""
    found: dict[str, None] = {}
    queue = list(graph.nodes[index].parents)
    while queue:
        node = graph.nodes[queue.pop(0)]
        if node.op == "process":
            found[node.name] = None
        else:
            queue.extend(node.parents)
    return tuple(found)
