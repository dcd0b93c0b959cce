"""How a user's function on a channel is called, and what its result becomes.

The rule looks at signatures only, never at values: (1) parameters that are all names of fields are
given by name; (2) as many required positional parameters as the item has fields (more than one):
the item is unpacked; (3) one parameter: the whole item. The prepared callables take items whose
values are decoded and give normal forms (an item, a bool, a list of items, a key, a label), so that
whoever runs them needs to know nothing. Nothing here calls a function. A change to the rules
changes what the user's functions receive.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from inspect import Parameter
from types import CodeType
from typing import cast

from nbcache.errors import ChannelError, WiringError, kind_of
from nbcache.model.channel import Fields, Item
from nbcache.model.value import Record, Stored
from nbcache.plan.identity.code import find_function

Bound = Callable[[Item], object]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def whole(item: Item, fields: Fields) -> object:
    """Return an item as one object: a one-field item's value, else a `Record`."""
    if fields is None or len(fields) == 1:
        return item[0]
    return Record(fields, item)


def bind_call(function: Callable[..., object], fields: Fields) -> Bound:
    """Return a callable of one item that calls `function` the way its signature asks for.

    Raises:
        WiringError: the function can be called in none of the ways.
    """
    return _way(function, fields, skip=0)(function, fields)


def bind_fold(function: Callable[..., object], fields: Fields) -> Callable[[object, Item], object]:
    """Return a callable of (accumulator, item); the rules apply to what follows the first
    parameter."""

    how = _way(function, fields, skip=1)
    if how is _whole_way:
        return lambda accumulator, item: function(accumulator, whole(item, fields))
    return lambda accumulator, item: how(partial(function, accumulator), fields)(item)


def _way(
    function: Callable[..., object], fields: Fields, skip: int
) -> Callable[[Callable[..., object], Fields], Bound]:
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (ValueError, TypeError):  # a builtin that says nothing of its parameters
        return _whole_way
    named = [p for p in parameters if p.kind in (*_POSITIONAL, Parameter.KEYWORD_ONLY)]
    required = [p for p in named if p.default is Parameter.empty]
    if _by_name(required, named, fields):
        return _named_way
    if any(p.kind is Parameter.KEYWORD_ONLY for p in required):
        raise _no_way(function, parameters, fields)
    spread = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    count = len(required)
    if fields is None:
        return _whole_way if count < 2 and not spread else partial(_unpacked_unknown_way, count)
    if len(fields) > 1 and (count == len(fields) or (spread and count <= len(fields))):
        return _unpacked_way
    if count == 1 or (count == 0 and any(p.kind in _POSITIONAL for p in parameters)):
        return _whole_way
    if spread and count == 0:
        return _whole_way
    raise _no_way(function, parameters, fields)


def _by_name(required: Sequence[Parameter], named: Sequence[Parameter], fields: Fields) -> bool:
    names = set(fields or ()) - {None}
    if not required or any(p.kind is Parameter.POSITIONAL_ONLY for p in required):
        return False
    return all(p.name in names for p in required) and bool(named)


def _whole_way(function: Callable[..., object], fields: Fields) -> Bound:
    if fields is None or len(fields) == 1:
        return lambda item: function(item[0])
    return lambda item: function(Record(fields, item))


def _named_way(function: Callable[..., object], fields: Fields) -> Bound:
    assert fields is not None
    wanted = [
        (p.name, fields.index(p.name))
        for p in inspect.signature(function).parameters.values()
        if p.name in fields and p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    return lambda item: function(**{name: item[index] for name, index in wanted})


def _unpacked_way(function: Callable[..., object], fields: Fields) -> Bound:
    return lambda item: function(*item)


def _unpacked_unknown_way(count: int, function: Callable[..., object], fields: Fields) -> Bound:
    def call(item: Item) -> object:
        value = item[0]
        if not isinstance(value, tuple | list):
            if count < 2:  # it takes any number
                return function(value)
            raise ChannelError(
                f"{describe(function)} takes {count} values, but the item is one "
                f"{type(value).__name__}"
            )
        return function(*value)

    return call


def _no_way(
    function: Callable[..., object], parameters: Sequence[Parameter], fields: Fields
) -> WiringError:
    takes = ", ".join(str(p).partition(":")[0] for p in parameters) or "nothing"
    return WiringError(
        f"{describe(function)} takes {takes}; the channel's fields are {show_fields(fields)}.\n"
        "  Name the parameters like fields, take one for each field, or take one whole item."
    )


def describe(function: object) -> str:
    """Return how to call a function in an error: its name, or "the lambda"."""
    name = getattr(function, "__name__", type(function).__name__)
    return "the lambda" if name == "<lambda>" else f"{name}()"


def show_fields(fields: Fields) -> str:
    """Return fields as people read them: "sample, _, path"."""
    if fields is None:
        return "not known before the run (name them with .fields(...))"
    return ", ".join(name or "_" for name in fields) or "none"


# What results become ------------------------------------------------------------------------------


def as_map(bound: Bound, names: tuple[str, ...] | None) -> Callable[[Item], Item]:
    """Return a callable that gives a new item: the result, or its fields if they are known."""
    if names is None:
        return lambda item: (bound(item),)

    def call(item: Item) -> Item:
        result = bound(item)
        if not isinstance(result, Mapping) or set(result) != set(names):
            got = sorted(map(str, result)) if isinstance(result, Mapping) else type(result).__name__
            raise ChannelError(f"map was to give the fields {', '.join(names)}, but gave {got}")
        return tuple(result[name] for name in names)

    return call


def as_keep(bound: Bound) -> Callable[[Item], bool]:
    """Return a callable that says whether an item is meant."""
    return lambda item: bool(bound(item))


def as_many(bound: Bound) -> Callable[[Item], list[Item]]:
    """Return a callable that gives a list of one-field items."""

    def call(item: Item) -> list[Item]:
        result = bound(item)
        if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
            raise ChannelError(
                f"flat_map wants a list of items for each item; got {kind_of(result)}"
            )
        return [(value,) for value in result]

    return call


def as_key(bound: Bound) -> Callable[[Item], Hashable]:
    """Return a callable that gives a key for grouping."""
    return lambda item: checked_key(bound(item))


def field_key(values: Item) -> Hashable:
    """Return the decoded values of key fields as a key."""
    return checked_key(tuple(values))


_NAN = float("nan")  # one object: NaN equals itself as a key, as it does in a hash


def settled(key: object) -> object:
    """Return a key in which every NaN is the same one."""
    if type(key) is tuple:
        return tuple(map(settled, key))
    return _NAN if isinstance(key, float) and key != key else key


def checked_key(key: object) -> Hashable:
    """Return a key after seeing that it can be one."""
    key = settled(key)
    try:
        hash(key)
    except TypeError:
        part = key[0] if isinstance(key, tuple) and len(key) == 1 else key
        raise ChannelError(
            f"a key must be hashable (a string, a number, a tuple of them); got {kind_of(part)}: "
            f"{_shortened(part)}"
        ) from None
    return key


_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


def plain_key(values: Item) -> Hashable | None:
    """Return the key at once if its values need no decoding and are sure to be hashable."""
    if not all(type(value) in _PLAIN for value in values):
        return None
    return settled(values)


def as_label(function: Callable[..., object] | Mapping[str, Bound]) -> Callable[[Item], object]:
    """Return a callable that gives the branch of an item: a name, or None for nowhere."""
    if isinstance(function, Mapping):
        choices = list(function.items())

        def choose(item: Item) -> str | None:
            return next((name for name, holds in choices if holds(item)), None)

        return choose
    return cast(Callable[[Item], object], function)


def as_view(template: object, fields: Fields) -> Callable[[Item], None]:
    """Return a callable that shows an item: a function, a template with {field}, or just prints."""
    if template is None:
        return lambda item: print(whole(item, fields))
    if isinstance(template, str):
        text = template

        def show(item: Item) -> None:
            named = {name: value for name, value in zip(fields or (), item, strict=False) if name}
            print(text.format(*item, **named, it=whole(item, fields)))

        return show
    bound = bind_call(cast(Callable[..., object], template), fields)

    def call(item: Item) -> None:
        bound(item)

    return call


def unpacked(names: Sequence[str]) -> Callable[[Item], Item]:
    """Return a callable that turns a one-value item into one of named fields."""

    def call(item: Item) -> Item:
        value = item[0]
        if isinstance(value, Mapping) and set(value) == set(names):
            return tuple(value[name] for name in names)
        if isinstance(value, tuple | list) and len(value) == len(names):
            return tuple(value)
        what = f"{len(value)} values" if isinstance(value, tuple | list) else "one value"
        raise ChannelError(
            f".fields({', '.join(map(repr, names))}) names {len(names)}, but an item has {what}: "
            f"{_shortened(value)}"
        )

    return call


def _shortened(value: object) -> str:
    if isinstance(value, Stored):
        return "a stored result"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# What a function's source says -----------------------------------------------------------------


def result_fields(function: Callable[..., object]) -> tuple[str, ...] | None:
    """Return the keys of the dict that a function is seen to return, None where one cannot tell.

    Reads the source: every return (or the lambda's body) must be a dict display with constant
    string keys, or `dict(a=...)`, and all with the same keys in the same order.
    """
    code = getattr(function, "__code__", None)
    # Not exact: where a channel's expression calls a factory, its own name for it was compiled.
    written = isinstance(code, CodeType) and find_function(code, _text_of, exact=False)
    if not written or isinstance(written[0], ast.AsyncFunctionDef):
        return None
    node = written[0]
    found = set(map(_dict_keys, [node.body] if isinstance(node, ast.Lambda) else _returns(node)))
    return found.pop() if len(found) == 1 else None


def _text_of(code: CodeType) -> str:
    return "".join(linecache.getlines(code.co_filename))


def _returns(function: ast.FunctionDef) -> list[ast.expr | None]:
    found: list[ast.expr | None] = []
    queue: list[ast.AST] = list(function.body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Return):
            found.append(node.value)
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            return [None]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            queue.extend(ast.iter_child_nodes(node))
    return found or [None]


def _dict_keys(node: ast.expr | None) -> tuple[str, ...] | None:
    if isinstance(node, ast.Dict):
        keys = [k.value for k in node.keys if isinstance(k, ast.Constant)]
        names = tuple(k for k in keys if isinstance(k, str))
        return names if names and len(names) == len(node.keys) == len(set(names)) else None
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "dict"
        and not node.args
        and node.keywords
    ):
        names = tuple(k.arg for k in node.keywords if k.arg is not None)
        return names if len(names) == len(node.keywords) else None
    return None
