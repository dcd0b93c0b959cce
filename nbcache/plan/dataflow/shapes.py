"""What each operator makes of its parents' fields, and its function made ready to be called.

Decided from the graph alone, before a run: fields, whether there is one item only, where keys are.
Never looks at items. A change here changes which input a field fills, so what tasks receive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from nbcache.errors import WiringError
from nbcache.model.channel import CompiledNode, Fields, Node
from nbcache.plan.dataflow import calls
from nbcache.plan.language.header_text import nearest

Prepared = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Shape:
    """Fields and function of a compiled node; `options` holds what its operator needs to know."""

    fields: Fields
    is_value: bool = False
    function: Prepared | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Keys:
    """Where keys and the other fields are in an item (indices)."""

    key: tuple[int, ...]
    rest: tuple[int, ...]


def shape_of(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    """Return what the node gives.

    Raises:
        WiringError: an unknown field, two fields of one name, a function that does not fit.
    """
    if node.op == "source":
        return Shape(node.names, node.is_value)
    try:
        return _SHAPES[node.op](node, parents)
    except WiringError as error:
        if node.label and node.label not in str(error):
            raise WiringError(f"{node.label}: {error}") from None
        raise


def _map(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    (parent,) = parents
    assert node.function is not None
    names = calls.result_fields(node.function)
    function = calls.as_map(calls.bind_call(node.function, parent.fields), names)
    return Shape(names, parent.is_value, function)


def _filter(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    (parent,) = parents
    assert node.function is not None
    return Shape(parent.fields, False, calls.as_keep(calls.bind_call(node.function, parent.fields)))


def _flat_map(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    assert node.function is not None
    return Shape(None, False, calls.as_many(calls.bind_call(node.function, parents[0].fields)))


def _gather(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    return Shape(parents[0].fields, node.is_value, None, node.options)


def _reduce(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    assert node.function is not None
    fields = parents[0].fields
    return Shape(
        None, True, calls.bind_fold(node.function, fields), {**node.options, "fields": fields}
    )


def _view(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    (parent,) = parents
    template = node.function if node.op == "subscribe" else node.options.get("template")
    return Shape(parent.fields, parent.is_value, calls.as_view(template, parent.fields))


def _combine(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    left, right = parents
    if not node.by:
        return Shape(
            _joined(("the left side", _known(left)), ("the right side", _known(right)), node.op),
            left.is_value and right.is_value,
            None,
            {"one_each": right.is_value},
        )
    return _matched(node, left, right)


def _matched(node: Node, left: CompiledNode, right: CompiledNode) -> Shape:
    """Return the key's fields, then the left side's others, then the right side's."""
    on_left, on_right = _keys(node, left), _keys(node, right)
    named_left, named_right = _known(left), _known(right)
    fields = _joined(
        ("the left side", tuple(named_left[i] for i in (*on_left.key, *on_left.rest))),
        ("the right side", tuple(named_right[i] for i in on_right.rest)),
        node.op,
    )
    options = {**node.options, "left": on_left, "right": on_right}
    return Shape(fields, False, calls.field_key, options)


def _mix(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    first = parents[0].fields
    if first and all(p.fields and set(p.fields) == {*first} - {None} for p in parents):
        orders = [tuple((p.fields or ()).index(name) for name in first) for p in parents]
        return Shape(first, False, None, {"orders": orders})
    if all(p.fields == first for p in parents):
        return Shape(first, False, None, {"orders": [None for _ in parents]})
    return Shape(None, False, None, {"whole": [p.fields for p in parents]})


def _group_by(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    (parent,) = parents
    fields = _known(parent)
    if node.function is not None:
        everything = Keys((), tuple(range(len(fields))))
        function = calls.as_key(calls.bind_call(node.function, parent.fields))
        return Shape((None, *fields), False, function, {"keys": everything})
    keys = _keys(node, parent)
    named = tuple(fields[i] for i in (*keys.key, *keys.rest))
    return Shape(named, False, calls.field_key, {"keys": keys})


def _unique(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    (parent,) = parents
    if node.function is not None:
        function = calls.as_key(calls.bind_call(node.function, parent.fields))
        return Shape(parent.fields, False, function, {})
    everything = Keys(tuple(range(len(_known(parent)))), ())
    keys = _keys(node, parent) if node.by else everything
    return Shape(parent.fields, False, calls.field_key, {"keys": keys})


def _fields(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    (parent,) = parents
    names = cast(tuple[str, ...], node.names)
    count = len(_known(parent))
    if parent.fields is None or (count == 1 and len(names) > 1):
        if len(names) == 1:
            return Shape(names, parent.is_value)
        return Shape(names, parent.is_value, calls.unpacked(names))
    if count != len(names):
        raise WiringError(
            f"names {len(names)} fields ({', '.join(names)}), but items have {count}: "
            f"{calls.show_fields(parent.fields)}"
        )
    return Shape(names, parent.is_value)


def _select(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    (parent,) = parents
    fields, names = _known(parent), cast(tuple[str, ...], node.names)
    for name in names:
        if name not in fields:
            channel = parent.name or parent.label or "the channel"
            raise WiringError(_unknown(f"{channel} has no field {name!r}", name, parent))
    order = tuple(map(fields.index, names))
    return Shape(names, parent.is_value, None, {"order": order})


def _branch(node: Node, parents: Sequence[CompiledNode]) -> Shape:
    """Label each item in an added last field; a branch selects by it and drops it."""
    (parent,) = parents
    if "select" in node.options:
        inner = cast(Fields, parent.options["fields"])
        return Shape(inner, False, None, node.options)
    if node.function is not None:
        function = calls.as_label(calls.bind_call(node.function, parent.fields))
    else:
        predicates = cast(Mapping[str, Callable[..., object]], node.options["predicates"])
        bound = {name: calls.bind_call(p, parent.fields) for name, p in predicates.items()}
        function = calls.as_label(bound)
    return Shape((*_known(parent), None), False, function, {"fields": parent.fields})


def _known(node: CompiledNode) -> tuple[str | None, ...]:
    """Return a node's fields; an item of unknown shape is one unnamed field."""
    return (None,) if node.fields is None else node.fields


def _keys(node: Node, parent: CompiledNode) -> Keys:
    fields = _known(parent)
    key: list[int] = []
    for by in node.by:
        if parent.fields is not None and isinstance(by, int) and -len(fields) <= by < len(fields):
            key.append(by % len(fields))
        elif isinstance(by, str) and by in fields:
            key.append(fields.index(by))
        else:
            raise WiringError(_no_key(by, parent))
    return Keys(tuple(key), tuple(i for i in range(len(fields)) if i not in key))


def _no_key(by: object, parent: CompiledNode) -> str:
    channel, fields = parent.name or parent.label or "the channel", _known(parent)
    said = f"by={by!r} is no field of {channel}"
    named = [name for name in fields if name is not None]
    if isinstance(by, str) and not named:
        count = "1 field has no name" if len(fields) == 1 else f"{len(fields)} fields have no names"
        words = ", ".join(repr(name) for name in (by, *"abcdefgh"[: len(fields) - 1]))
        return f"{said}, whose {count}\n  name them, {channel}.fields({words}), or say by=0"
    return _unknown(said, by, parent)


def _unknown(said: str, name: object, parent: CompiledNode) -> str:
    named = [each for each in _known(parent) if each is not None]
    hints = [kept_back(parent).get(name)] if isinstance(name, str) else []
    if isinstance(name, str) and (meant := nearest(name, named)):
        hints.append(f'did you mean "{meant}"?')
    hint = next((f"\n  {each}" for each in hints if each), "")
    return f"{said}; its fields are {calls.show_fields(parent.fields)}{hint}"


def kept_back(node: CompiledNode) -> dict[str, str]:
    """Return how to pass on each input of a process that is none of its outputs."""
    if node.decl is None:
        return {}
    outputs = [each for each in _known(node) if each is not None]
    return {
        each.name: f'"{each.name}" is an input of a process above that is no output of it; pass it '
        f"on: `%%process {node.name} ... -> {', '.join([each.name, *outputs])}`"
        for each in node.decl.inputs or ()
        if each.name not in outputs
    }


def _joined(
    left: tuple[str, tuple[str | None, ...]], right: tuple[str, tuple[str | None, ...]], op: str
) -> tuple[str | None, ...]:
    both = [name for name in left[1] if name is not None and name in right[1]]
    if both:
        raise WiringError(
            f"{left[0]} and {right[0]} of {op} both have a field {both[0]!r}; match by it "
            f"(by={both[0]!r}) or rename one with .fields(...)"
        )
    return (*left[1], *right[1])


_SHAPES: dict[str, Callable[[Node, Sequence[CompiledNode]], Shape]] = {
    "map": _map,
    "filter": _filter,
    "until": _filter,
    "flat_map": _flat_map,
    "collect": _gather,
    "first": _gather,
    "take": _gather,
    "buffer": _gather,
    "combine": _combine,
    "join": lambda node, parents: _matched(node, parents[0], parents[1]),
    "mix": _mix,
    "group_by": _group_by,
    "reduce": _reduce,
    "unique": _unique,
    "fields": _fields,
    "select": _select,
    "view": _view,
    "subscribe": _view,
    "branch": _branch,
    "failures": lambda node, _: Shape(node.names),
}
