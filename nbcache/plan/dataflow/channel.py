"""The channel that a user holds: a lazy expression with operators. It never runs user code.

A `Channel` wraps a `Node`; every operator checks its arguments and returns a new channel around a
new node. Items exist only while a run goes on (`dataflow.operators`). The names and meanings of the
operators are what notebooks are written in: they may be added to, not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar

from nbcache.errors import WiringError, kind_of
from nbcache.model.channel import Node, Op

Function = Callable[..., object]
By = str | int | Iterable[str | int]

_UNSET = object()


class Channel:
    """A stream of items that a run will see, and the expression that makes it.

    Items come in a fixed order that never depends on timing. The function given to an operator is
    called by its signature: parameters named like fields are given by name, as many parameters as
    fields get the item unpacked, and a single parameter gets the whole item.
    """

    __slots__ = ("__weakref__", "node")
    __nbcache_results__: ClassVar[bool] = True

    def __init__(self, node: Node) -> None:
        self.node = node

    def __repr__(self) -> str:
        return f"<channel {self.node.label or self.node.op}>"

    def __iter__(self) -> Iterator[object]:
        raise TypeError(
            f"{self!r} has items only under a name: `%channel NAME = ...`, then list(NAME)"
        )

    def map(self, function: Function) -> Channel:
        """Turn each item into another one, `function`'s result.

        A function seen to return a dict with fixed keys gives those fields:
        `pairs.map(lambda sample, r1, r2: {"sample": sample, "reads": [r1, r2]})`.
        Otherwise the result is one value; name its parts with `.fields(...)`.
        """
        return self._new("map", function=_function("map", function))

    def filter(self, function: Function) -> Channel:
        """Keep the items for which `function` is true; the others do not count as positions.

        `grid.filter(lambda depth: depth > 2)`
        """
        return self._new("filter", function=_function("filter", function))

    def flat_map(self, function: Function) -> Channel:
        """Turn each item into any number of items: those of the list that `function` returns.

        `files.flat_map(lambda file: file.read_text().split())`
        """
        return self._new("flat_map", function=_function("flat_map", function))

    def collect(self) -> Channel:
        """Gather all items into one, a value channel: each field becomes a list in order.

        `quant.collect()` of items (sample, quant) is one item of two lists, `sample` and `quant`.
        An empty channel gives empty lists.
        """
        return self._new("collect", is_value=True)

    def combine(self, *others: object, by: By | None = None) -> Channel:
        """Pair every item with every item of the others; with `by`, only those of equal key.

        `reads.combine(genomes)`; `reads.combine(references, by="species")`
        """
        parents = _channels("combine", others)
        channel = self
        for parent in parents:
            channel = channel._new("combine", parent, by=_by("combine", by))
        return channel

    def join(self, other: object, by: By | None = None, remainder: bool = False) -> Channel:
        """Match items of two channels by the value of a field; a key occurs once on each side.

        The result has the key, then the left side's other fields, then the right side's, in the
        order of the left side. Items without a partner are left out; with `remainder=True` they
        come with None for what is missing, those of the right side last.

        `pairs.join(metadata, by="sample")`
        """
        if by is None or callable(by):
            raise WiringError('join matches by fields: say by="NAME"')
        return self._new(
            "join",
            *_channels("join", (other,)),
            by=_by("join", by),
            options={"remainder": bool(remainder)},
        )

    def mix(self, *others: object) -> Channel:
        """Put several channels behind one another: all items of this one, then of the next.

        Items are worked on as they come, whichever channel they are from.

        `control.mix(treated)`
        """
        return self._new("mix", *_channels("mix", others))

    def group_by(self, by: By | Function, size: int | None = None) -> Channel:
        """Gather items of equal key: the key, then each other field as a list.

        Groups come in the order in which their keys first appear, members in channel order. With
        `size`, a group goes on as soon as it has that many; a group that ends with another number
        is an error.

        `lanes.group_by("sample")`; `lanes.group_by(lambda path: path.stem.split("_")[0])`
        """
        if size is not None:
            size = _count("group_by size", size, least=1)
        if callable(by) and not _node_of(by):
            return self._new("group_by", function=by, size=size)
        keys = _by("group_by", by)
        if not keys:
            raise WiringError('group_by wants a key: group_by("NAME")')
        return self._new("group_by", by=keys, size=size)

    def reduce(self, function: Function, initial: object = _UNSET) -> Channel:
        """Fold all items, in order, into one value: `function(so_far, item)`.

        Without `initial` the first item is what it starts from.

        `counts.reduce(lambda total, n: total + n, 0)`
        """
        options = {} if initial is _UNSET else {"initial": initial}
        return self._new(
            "reduce", function=_function("reduce", function), is_value=True, options=options
        )

    def unique(self, by: By | Function | None = None) -> Channel:
        """Keep the first item of each key: of the whole item, of some fields or of a function.

        `samples.unique("patient")`
        """
        if callable(by) and not _node_of(by):
            return self._new("unique", function=by)
        return self._new("unique", by=_by("unique", by))

    def until(self, function: Function) -> Channel:
        """End before the first item, in order, for which `function` is true.

        `losses.until(lambda loss: loss < 0.01)`
        """
        return self._new("until", function=_function("until", function))

    def first(self) -> Channel:
        """The first item, as a value channel. What failed or was skipped is passed over.

        `genomes.first()`
        """
        return self._new("first", is_value=True)

    def take(self, count: int) -> Channel:
        """The first `count` items. What failed or was skipped is passed over.

        `pairs.take(3)` to try a pipeline out
        """
        return self._new("take", size=_count("take", count, least=0))

    def buffer(self, size: int, remainder: bool = True) -> Channel:
        """Gather every `size` items, in order, into one whose fields are lists.

        The last one may be smaller; `remainder=False` leaves it out.

        `images.buffer(50)`
        """
        return self._new(
            "buffer",
            size=_count("buffer", size, least=1),
            options={"remainder": bool(remainder)},
        )

    def branch(self, function: Function | None = None, /, **predicates: Function) -> Branches:
        """Send each item to the first branch whose predicate is true; else nowhere.

        `parts = files.branch(small=lambda f: f.size < 1000, large=lambda f: True)`, then
        `parts.small` and `parts.large`. Or one function that returns the name of the branch.
        """
        if (function is None) == (not predicates):
            raise WiringError("branch wants named predicates, or one function that returns a name")
        if function is not None:
            return Branches(self._new("branch", function=_function("branch", function)), None)
        for name, predicate in predicates.items():
            _function(f"branch {name}", predicate)
        return Branches(self._new("branch", options={"predicates": predicates}), tuple(predicates))

    def fields(self, *names: str) -> Channel:
        """Name the fields of the items, all of them in order; a one-value item is unpacked.

        `files.map(lambda f: (f.stem, f)).fields("sample", "reads")`
        """
        for name in names:
            if not isinstance(name, str) or not name.isidentifier():
                raise WiringError(f"a field's name is an identifier in quotes, not {name!r}")
        if not names or len(set(names)) != len(names):
            raise WiringError(f"fields wants different names, got {names!r}")
        return self._new("fields", names=names)

    def select(self, *names: str) -> Channel:
        """Keep these fields of each item, in this order; values are not looked at.

        `fit.select("score").collect()` where `fit` has several outputs
        """
        if not names or not all(isinstance(name, str) for name in names):
            raise WiringError(f'select wants names of fields, .select("NAME"), got {names!r}')
        return self._new("select", names=names, is_value=self.node.is_value)

    def view(self, template: str | Function | None = None) -> Channel:
        """Print each item during a run and pass it on.

        `pairs.view("{sample}: {r1.name}")`
        """
        if template is not None and not isinstance(template, str):
            _function("view", template)
        return self._new("view", options={"template": template}, is_value=self.node.is_value)

    def subscribe(self, function: Function) -> Channel:
        """Call `function` for each item during a run, in no particular order; pass items on.

        `quant.subscribe(lambda sample: seen.append(sample))`
        """
        return self._new("subscribe", function=_function("subscribe", function))

    def _new(
        self,
        op: Op,
        *others: Node,
        function: Function | None = None,
        names: tuple[str, ...] | None = None,
        is_value: bool = False,
        by: tuple[str | int, ...] = (),
        size: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Channel:
        """Return a channel whose parents are this one and `others`."""
        return Channel(
            Node(
                op=op,
                parents=(self.node, *others),
                function=function,
                names=names,
                is_value=is_value,
                by=by,
                size=size,
                options=options or {},
                label=f"{self.node.label or self.node.op}.{op}(...)",
            )
        )


class Branches:
    """The branches of a channel as attributes, each a channel."""

    def __init__(self, labelled: Channel, names: tuple[str, ...] | None) -> None:
        self._labelled, self._names = labelled, names
        self._channels: dict[str, Channel] = {}

    def __getattr__(self, name: str) -> Channel:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Channel:
        """Return the branch of that name; any name will do where one function tells them."""
        if self._names is not None and name not in self._names:
            raise AttributeError(f"no branch {name!r}; there are {', '.join(self._names)}")
        if name not in self._channels:
            node = self._labelled.node
            self._channels[name] = Channel(
                Node(
                    op="branch", parents=(node,), options={"select": name}, label=f"branch {name!r}"
                )
            )
        return self._channels[name]

    def __dir__(self) -> list[str]:
        return list(self._names or ())

    def __repr__(self) -> str:
        return f"<branches {', '.join(self._names or ('by function',))}>"


def _node_of(obj: object) -> Node | None:
    if isinstance(obj, type):
        return None
    node = getattr(obj, "node", None)
    return node if isinstance(node, Node) else None


def _function(where: str, function: object) -> Function:
    if _node_of(function) is not None:
        raise WiringError(
            f"{where} wants a function, but got a channel; to bring channels together use "
            "combine, join or mix, or name both in `from`"
        )
    if not callable(function):
        raise TypeError(f"{where} wants a function, but got {function!r}")
    return function


def _channels(where: str, others: tuple[object, ...]) -> list[Node]:
    nodes = []
    for other in others:
        node = _node_of(other)
        if node is None:
            raise WiringError(
                f"{where} wants channels, but got {kind_of(other)}; make one with "
                "of(...), value(...) or from_iterable(...)"
            )
        nodes.append(node)
    if not nodes:
        raise WiringError(f"{where} wants at least one other channel")
    return nodes


def _by(where: str, by: object) -> tuple[str | int, ...]:
    if by is None:
        return ()
    keys = (by,) if isinstance(by, str | int) else by
    if _node_of(by) is not None or not isinstance(keys, Iterable):
        raise WiringError(f"{where}: by wants names of fields (or numbers from 0), got {by!r}")
    found = tuple(keys)
    for key in found:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise WiringError(f"{where}: by wants names of fields (or numbers from 0), got {key!r}")
    return found


def _count(where: str, number: object, *, least: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise WiringError(f"{where} wants a whole number from {least}, got {number!r}")
    return number
