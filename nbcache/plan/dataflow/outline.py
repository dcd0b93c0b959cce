"""What of a graph a picture shows: processes, the channels they begin from, and what runs between.

Operators are not drawn: an edge stands for all of them between two processes, and is named by the
last named channel on the way. Pure, and computed once per run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nbcache.model.channel import CompiledNode, Graph
from nbcache.model.row import Record


@dataclass(frozen=True, slots=True)
class Origin:
    """A channel that no process makes: a source, as its readers call it."""

    key: str  # unique in the picture
    name: str
    node: int  # its index in the graph
    is_value: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """What one process reads from one process or origin.

    `tail` is a process's name or an origin's key, `head` a process's name. `node` is the graph's
    node whose items arrive: the last operator on the way, or the tail itself.
    """

    tail: str
    head: str
    node: int
    label: str


@dataclass(frozen=True, slots=True)
class Outline:
    """A pipeline as it is drawn: processes in topological order, origins, edges."""

    processes: tuple[str, ...]
    origins: tuple[Origin, ...]
    edges: tuple[Edge, ...]


def outline_record(outline: Outline) -> Record:
    """Return what a run's first row keeps of an outline: all but the processes' names."""
    return {
        "origins": [
            {"key": each.key, "name": each.name, "node": each.node, "value": each.is_value}
            for each in outline.origins
        ],
        "edges": [
            {"tail": each.tail, "head": each.head, "node": each.node, "label": each.label}
            for each in outline.edges
        ],
    }


def outline_from(record: Record, processes: Sequence[str]) -> Outline:
    """Return the outline that `outline_record` wrote, of a run with these processes."""
    origins = tuple(
        Origin(each["key"], each["name"], each["node"], bool(each.get("value")))
        for each in record.get("origins") or ()
    )
    known = {*processes, *(each.key for each in origins)}
    edges = tuple(
        Edge(each["tail"], each["head"], each["node"], each.get("label") or "")
        for each in record.get("edges") or ()
        if each["tail"] in known and each["head"] in processes
    )
    return Outline(tuple(processes), origins, edges)


def outline_of(graph: Graph) -> Outline:
    """Return what a picture of the graph shows."""
    names = {index: name for name, index in graph.channels.items()}
    names.update({index: name for name, index in graph.places.items()})
    origins: dict[int, Origin] = {}
    edges: dict[tuple[str, str, int], Edge] = {}
    for index in sorted(graph.places.values()):
        node = graph.nodes[index]
        for parent in _arrivals(graph, node):
            for tail in _tails(graph, parent):
                if tail.op != "process" and tail.index not in origins:
                    own = tail.name or names.get(tail.index) or _named_after(graph, tail)
                    name = own or tail.label or "items"
                    origins[tail.index] = Origin(f"#{tail.index}", name, tail.index, tail.is_value)
                origin = origins.get(tail.index)
                key = tail.name if origin is None else origin.key
                label = "" if parent == tail.index else graph.nodes[parent].name
                label = "" if origin is not None and origin.name == label else label
                edges.setdefault((key, node.name, parent), Edge(key, node.name, parent, label))
    processes = tuple(sorted(graph.places, key=graph.places.__getitem__))
    return Outline(processes, tuple(origins.values()), tuple(edges.values()))


def _named_after(graph: Graph, node: CompiledNode) -> str:
    """Return the name of the channel that is made of a source alone, as in
    `%channel grid = of(1, 2).fields("x")`; empty where there is none."""
    while not node.name:
        readers = [each for each in graph.nodes if node.index in each.parents]
        if len(readers) != 1 or readers[0].op == "process" or len(readers[0].parents) != 1:
            return ""
        node = readers[0]
    return node.name


def _arrivals(graph: Graph, node: CompiledNode) -> Iterator[int]:
    """Yield the channels that a process names: a pair of them is no channel of its own."""
    for parent in node.parents:
        if graph.nodes[parent].op == "pair":
            yield from _arrivals(graph, graph.nodes[parent])
        else:
            yield parent


def _tails(graph: Graph, index: int) -> list[CompiledNode]:
    """Return the processes and sources that a channel's items come from, through operators."""
    found: dict[int, CompiledNode] = {}
    queue, seen = [index], {index}
    while queue:
        node = graph.nodes[queue.pop()]
        if node.op == "process" or not node.parents:
            found[node.index] = node
            continue
        new = [parent for parent in node.parents if parent not in seen]
        seen.update(new)
        queue.extend(new)
    return [found[key] for key in sorted(found)]
