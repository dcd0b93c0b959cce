"""Which results only other processes take: where these are all hits, nobody misses the bytes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from nbcache.model.channel import CompiledNode, Fields, Graph
from nbcache.model.process import FieldPick, ProcessDecl

_LOOKS_INTO_NONE = frozenset(("collect", "combine", "mix", "pair", "first", "take", "buffer"))


def handed_on(
    graph: Graph, wanted: Collection[str] = (), passed: Mapping[int, frozenset[str]] | None = None
) -> Mapping[int, frozenset[str]]:
    """Return the processes whose results are read by other processes' tasks alone: by no operator's
    function, no rule of publishing, nobody who asked for them; with each the names of those of its
    outputs that these processes' headers look at, or that they pass on to somebody who looks.

    wanted: the names that were asked for.
    passed: the outputs of processes that are an input of theirs, untouched.
    """
    passed = passed or {}
    readers: dict[int, list[CompiledNode]] = {node.index: [] for node in graph.nodes}
    for node in graph.nodes:
        for parent in set(node.parents):
            readers[parent].append(node)
    asked = {graph.places.get(name, graph.channels.get(name)) for name in wanted}
    found: dict[int, frozenset[str]] = {}
    for node in reversed(graph.nodes):  # readers first
        takers = [each for each in readers[node.index] if each.op != "failures"]
        if not takers or node.index in asked or not _gives_only(node):
            continue
        looks = [
            _looked_at(each, node.index, found, passed.get(each.index, frozenset()))
            for each in takers
        ]
        if all(each is not None for each in looks):
            found[node.index] = frozenset().union(*filter(None, looks))
    return {index: names for index, names in found.items() if graph.nodes[index].op == "process"}


def _gives_only(node: CompiledNode) -> bool:
    """Whether a node does nothing with its items but give them to its readers."""
    if node.decl is not None:
        return not (node.decl.directives.publish or node.decl.directives.store)
    return node.op in _LOOKS_INTO_NONE and node.function is None and not node.by


def _looked_at(
    reader: CompiledNode,
    index: int,
    found: Mapping[int, frozenset[str]],
    passed: frozenset[str],
) -> frozenset[str] | None:
    """Return which fields of a node are looked at where one of its readers leads; None: more than
    tasks read them, or nobody knows which."""
    if reader.decl is None:
        return found.get(reader.index)
    said = _said_in_header(reader.decl)
    routes = cast(Sequence[tuple[int, int | None]], reader.options["routes"])
    fields = cast(Sequence[Fields], reader.options["source_fields"])
    looked: set[str] = set()
    gives = passed & found.get(reader.index, passed)  # to somebody who looks
    for name, pick in reader.filling.items():
        if not isinstance(pick, FieldPick):
            continue
        if name not in gives and not re.search(rf"\b{re.escape(name)}\b", said):
            continue
        if reader.parents[routes[pick.source][0]] != index:
            continue
        known = fields[pick.source]
        field = None if known is None or pick.field is None else known[pick.field]
        if field is None:
            return None
        looked.add(field)
    return frozenset(looked)


def _said_in_header(decl: ProcessDecl) -> str:
    """Return the texts of a header that are evaluated over its inputs before a task starts, or
    where it is a hit."""
    says = decl.directives
    asks = (says.cpus, says.gpus, says.memory, says.disk, says.time, says.on_error, says.when)
    return repr((asks, says.tag, says.publish, says.store, says.stage_as, decl.scripts))
