"""Compile what the public names hold into a graph: fields, fillings, topological order.

Names and processes are looked up once per compile, so every reader of a channel reads the same
stream. The order of nodes follows the names, not the order of declaration, and nothing in it
enters a hash. Here every mistake of wiring is found before anything runs: cycles, unknown fields,
functions that cannot be called. No user code runs here, except where a resolver evaluates the
expression of a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nbcache.errors import WiringError
from nbcache.model.channel import CompiledNode, Fields, Graph, Node
from nbcache.model.process import DefaultPick, FieldPick, Filling, Input, ProcessDecl
from nbcache.plan.dataflow.shapes import kept_back, shape_of
from nbcache.plan.dataflow.wiring import SourceFields, fill, infer_inputs
from nbcache.plan.language.places import place_of_header, said_place


@dataclass(frozen=True, slots=True)
class PlaceSpec:
    """A process at one place of the pipeline.

    `inputs` None: inferred from the fields of the sources. `by_channel`: input i takes the whole
    item of source i (a call, or inputs that are named like channels). `output_fields` names the
    outputs where the declaration leaves them out; without it the output is named like the process.
    """

    name: str
    decl: ProcessDecl
    inputs: tuple[Input, ...] | None
    sources: tuple[Node, ...]
    source_names: tuple[str, ...]
    by_channel: bool
    output_fields: Fields = None


class Resolver(Protocol):
    """What late names mean now; asked once per target and compile."""

    def channel(self, target: object) -> Node:
        """Return the expression of a named channel."""

    def process(self, target: object, parents: tuple[Node, ...] | None) -> PlaceSpec:
        """Return the process of a node; `parents` are the channels it was called with."""


def compile_graph(targets: Mapping[str, Node], resolver: Resolver) -> Graph:
    """Compile the named nodes and all that they depend on, and nothing else.

    Raises:
        WiringError: a cycle, an unknown field or channel, inputs that cannot be filled.
    """
    compiler = _Compiler(resolver)
    for name in sorted(targets):
        compiler.channels[name] = compiler.compile(targets[name])
    return compiler.graph()


Key = tuple[str, int]

_SAME_FIELDS = (  # operators whose items have the fields of their parent's
    "filter", "collect", "buffer", "group_by", "first", "take", "until", "unique", "view",
    "subscribe", "branch",
)  # fmt: skip


@dataclass(slots=True)
class _Visit:
    """A node on the way down; `name` is what a cycle's path calls it, "" for plain operators."""

    node: Node
    key: Key
    name: str
    spec: PlaceSpec | None
    parents: tuple[Node, ...]
    left: Iterator[Node]


class _Compiler:
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._nodes: list[CompiledNode] = []
        self._index: dict[Key, int] = {}
        self._alive: list[object] = []  # ids stay unique while their objects live
        self._pairs: dict[tuple[int, ...], int] = {}
        self._places: dict[str, int] = {}
        self.channels: dict[str, int] = {}

    def graph(self) -> Graph:
        """Return what was compiled; operators that a name stands for get that name."""
        for name, index in sorted(self.channels.items()):
            node = self._nodes[index]
            if not node.name:
                self._nodes[index] = replace(node, name=name)
        return Graph(tuple(self._nodes), dict(self._places), dict(self.channels))

    def compile(self, target: Node) -> int:
        """Compile a node after its parents; depth first without recursion (chains are long)."""
        path = [] if self._key(target) in self._index else [self._visit(target)]
        on_path = {visit.key: depth for depth, visit in enumerate(path)}
        while path:
            visit = path[-1]
            parent = next(visit.left, None)
            if parent is None:
                self._index[visit.key] = self._finish(visit)
                del on_path[visit.key]
                path.pop()
                continue
            key = self._key(parent)
            if key in on_path:
                raise _cycle(path[on_path[key] :])
            if key not in self._index:
                on_path[key] = len(path)
                path.append(self._visit(parent))
        return self._index[self._key(target)]

    def _key(self, node: Node) -> Key:
        if node.op == "named":
            return ("named", id(node.target))
        if node.op == "process" and node.parents is None:
            return ("process", id(node.target))
        return ("node", id(node))

    def _visit(self, node: Node) -> _Visit:
        self._alive += [node, node.target]
        spec, name = None, ""
        if node.op == "named":
            name = node.label
            parents: tuple[Node, ...] = (self._resolver.channel(node.target),)
        elif node.op == "process":
            spec = self._resolver.process(node.target, node.parents)
            name, parents = spec.name, spec.sources
        else:
            parents = node.parents or ()
        return _Visit(node, self._key(node), name, spec, parents, iter(parents))

    def _finish(self, visit: _Visit) -> int:
        parents = tuple(self._index[self._key(parent)] for parent in visit.parents)
        if visit.node.op == "named":
            if visit.name:
                self.channels.setdefault(visit.name, parents[0])
            return parents[0]
        if visit.spec is not None:
            return self._finish_place(visit.spec, parents)
        shape = shape_of(visit.node, tuple(self._nodes[index] for index in parents))
        return self._add(
            CompiledNode(
                index=len(self._nodes),
                op=visit.node.op,
                parents=parents,
                fields=shape.fields,
                is_value=shape.is_value,
                load=visit.node.load,
                function=shape.function,
                by=visit.node.by,
                size=visit.node.size,
                options=shape.options,
                label=visit.node.label,
            )
        )

    def _add(self, node: CompiledNode) -> int:
        self._nodes.append(node)
        return node.index

    def _finish_place(self, spec: PlaceSpec, sources: tuple[int, ...]) -> int:
        infos = [
            SourceFields(
                name,
                self._nodes[index].fields,
                self._nodes[index].is_value,
                self._kept_back(index),
            )
            for name, index in zip(spec.source_names, sources, strict=True)
        ]
        inputs = spec.inputs if spec.inputs is not None else infer_inputs(infos)
        try:
            filling = (
                _by_channel(spec, inputs) if spec.by_channel else fill(spec.name, inputs, infos)
            )
        except WiringError as error:
            raise WiringError(f"{error}\n  {_said_header(spec)}") from None
        parents, routes = self._routes(spec, sources)
        outputs = spec.decl.outputs
        fields: Fields = spec.output_fields or (spec.decl.name,)
        if outputs is not None:
            fields = tuple(output.name for output in outputs)
        name = self._unused_name(spec.name)
        self._places[name] = len(self._nodes)
        return self._add(
            CompiledNode(
                index=len(self._nodes),
                op="process",
                parents=parents,
                fields=fields,
                is_value=all(self._nodes[index].is_value for index in sources),
                label=name,
                name=name,
                decl=spec.decl if spec.inputs is not None else replace(spec.decl, inputs=inputs),
                filling=filling,
                options={
                    "routes": routes,
                    "source_fields": tuple(info.fields for info in infos),
                    "source_names": spec.source_names,
                },
            )
        )

    def _kept_back(self, index: int) -> dict[str, str]:
        """Return what the process behind a channel does not pass on; see `kept_back`."""
        node = self._nodes[index]
        while node.op in _SAME_FIELDS:
            node = self._nodes[node.parents[0]]
        return kept_back(node)

    def _routes(
        self, spec: PlaceSpec, sources: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int | None], ...]]:
        """Return a process's parents and, for each source, (which parent, which half of a pair).

        At most one parent is a queue: two or more queues are paired first.
        """
        queues = [index for index in sources if not self._nodes[index].is_value]
        parents: list[int] = []
        if len(queues) > 1:
            parents.append(self._pair(spec, sources, tuple(queues)))
        routes: list[tuple[int, int | None]] = []
        halves = iter(range(len(queues)))
        for index in sources:
            if len(queues) > 1 and not self._nodes[index].is_value:
                routes.append((0, next(halves)))
                continue
            if index not in parents:
                parents.append(index)
            routes.append((parents.index(index), None))
        return tuple(parents), tuple(routes)

    def _pair(self, spec: PlaceSpec, sources: tuple[int, ...], queues: tuple[int, ...]) -> int:
        if queues not in self._pairs:
            names = [
                name
                for name, index in zip(spec.source_names, sources, strict=True)
                if not self._nodes[index].is_value
            ]
            self._pairs[queues] = self._add(
                CompiledNode(
                    index=len(self._nodes),
                    op="pair",
                    parents=queues,
                    fields=None,
                    is_value=False,
                    label=" with ".join(names),
                    options={"names": tuple(names), "said_place": _said_header(spec)},
                )
            )
        return self._pairs[queues]

    def _unused_name(self, name: str) -> str:
        number, found = 2, name
        while found in self._places:
            found, number = f"{name}-{number}", number + 1
        return found


def _said_header(spec: PlaceSpec) -> str:
    return said_place(spec.decl, place_of_header(spec.decl))


def _cycle(visits: Sequence[_Visit]) -> WiringError:
    names = [visit.name for visit in visits if visit.name]
    headers = "".join(f"\n  {_said_header(each.spec)}" for each in visits if each.spec is not None)
    if not headers and len(names) == 1:
        return WiringError(
            f"channel {names[0]} is made of itself: a cycle\n"
            "  its expression is kept, and evaluated anew at each run: give what is made of it a "
            "name of its own"
        )
    return WiringError(
        f"a cycle: {' -> '.join([*names, *names[:1]])}\n"
        f"  a process cannot wait for itself: feed one of them from another channel{headers}"
    )


def _by_channel(spec: PlaceSpec, inputs: tuple[Input, ...]) -> Filling:
    """Fill input i with the whole item of source i; the rest by the defaults."""
    free = inputs[len(spec.sources) :]
    missing = [item.name for item in free if item.default is None]
    if len(spec.sources) > len(inputs) or missing:
        raise WiringError(
            f"process {spec.name!r} takes {len(inputs)} inputs "
            f"({', '.join(item.name for item in inputs)}), but was given {len(spec.sources)} "
            f"channels ({', '.join(spec.source_names)})"
        )
    filling: dict[str, FieldPick | DefaultPick] = {
        item.name: FieldPick(source=number, field=None)
        for number, item in enumerate(inputs[: len(spec.sources)])
    }
    for item in free:
        if item.default is not None:
            filling[item.name] = DefaultPick(item.default)
    return filling
