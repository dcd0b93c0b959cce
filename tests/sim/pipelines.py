"""Pipelines written in a line or two, for tests of graphs, operators and the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from nbcache.model.channel import Graph, Item, Node
from nbcache.model.process import Directives, Input, Output, ProcessDecl
from nbcache.plan.dataflow.channel import Channel
from nbcache.plan.dataflow.graph import PlaceSpec, compile_graph


def queue(items: Sequence[object], *names: str) -> Channel:
    """A queue channel; items that are no tuples have one field."""
    return source([i if type(i) is tuple else (i,) for i in items], names or None, is_value=False)


def value(content: object, name: str = "value") -> Channel:
    return source([(content,)], (name,), is_value=True)


def source(items: Sequence[Item], names: Sequence[str] | None, *, is_value: bool) -> Channel:
    width = len(items[0]) if items else 1
    fields = tuple(names) if names is not None else (None,) * width
    label = "value" if is_value else f"of({len(items)})"
    return Channel(
        Node(op="source", load=lambda: items, names=fields, is_value=is_value, label=label)
    )


class Process(Channel):
    """A process whose body is a Python function of its inputs that returns a tuple of outputs."""

    def __init__(
        self,
        name: str,
        sources: Sequence[Channel],
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        body: Callable[..., object] | None = None,
        by_channel: bool = False,
        **directives: Any,
    ) -> None:
        super().__init__(Node(op="process", target=self, parents=None, label=name))
        self.sources, self.by_channel, self.body = sources, by_channel, body
        self.decl = ProcessDecl(
            name=name,
            inputs=None if inputs is None else tuple(map(Input, inputs)),
            outputs=None if outputs is None else tuple(map(Output, outputs)),
            sources=None,
            directives=Directives(**directives),
            language="python",
            body="",
        )

    def __call__(self, *sources: Channel) -> Channel:
        parents = tuple(channel.node for channel in sources)
        return Channel(Node(op="process", target=self, parents=parents, label=self.decl.name))


class Names:
    """A namespace as a resolver: named channels are strings that are looked up late."""

    def __init__(self, channels: Mapping[str, Channel] | None = None) -> None:
        self.channels = dict(channels or {})
        self.asked: list[object] = []

    def __getitem__(self, name: str) -> Channel:
        return Channel(Node(op="named", target=_Name.of(name), label=name))

    def channel(self, target: object) -> Node:
        self.asked.append(target)
        assert isinstance(target, _Name)
        return self.channels[target.text].node

    def process(self, target: object, parents: tuple[Node, ...] | None) -> PlaceSpec:
        assert isinstance(target, Process)
        nodes = tuple(c.node for c in target.sources) if parents is None else parents
        return PlaceSpec(
            name=target.decl.name,
            decl=target.decl,
            inputs=target.decl.inputs,
            sources=nodes,
            source_names=tuple(node.label for node in nodes),
            by_channel=target.by_channel or parents is not None,
        )


class _Name:
    known: ClassVar[dict[str, _Name]] = {}

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def of(cls, text: str) -> _Name:
        return cls.known.setdefault(text, cls(text))


def compile_all(names: Names | None = None, /, **channels: Channel) -> Graph:
    """Compile channels under their names."""
    return compile_graph({n: c.node for n, c in channels.items()}, names or Names())
