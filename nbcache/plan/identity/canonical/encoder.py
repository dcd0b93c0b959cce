"""Write values as canonical bytes: typed, length-delimited, the same in every process.

The encoder knows scalars, the builtin containers, and how to remember what it has met; handlers
for all other types come from `dispatch`. Two values get equal bytes exactly when a body that
receives a pickled copy of them cannot tell them apart: so objects that can be changed in place
count with their sharing (a back-reference), immutable ones do not. No I/O. Any change to the
bytes written changes every key: raise ENCODER_VERSION and see tests/golden/canonical.json.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

from xxhash import xxh3_128, xxh3_128_hexdigest

from nbcache.model.digest import Digest
from nbcache.plan.identity.canonical.names import installed_class, type_name

ENCODER_VERSION = 1

Foreign: TypeAlias = Any  # a value of a library that may not be installed: not ours to type
Leaf: TypeAlias = Callable[[object], Digest | None]
Handler: TypeAlias = Callable[["Encoder", Foreign], None]

_STREAM_ABOVE = 1 << 16  # bytes: from here on a buffer is hashed where it lies
_FLUSH_ABOVE = 1 << 20

_NAN = b"f\x7f\xf8\x00\x00\x00\x00\x00\x00"
_pack_double = struct.Struct(">cd").pack
_TOO_DEEP = "it is nested too deeply"


class Refused(Exception):
    """A value on the way has no canonical form; each container adds its step to `trail`."""

    def __init__(self, type_name: str, reason: str) -> None:
        super().__init__(type_name, reason)
        self.type_name, self.reason = type_name, reason
        self.trail: list[str] = []


def _float(value: float) -> bytes:
    return _pack_double(b"f", value) if value == value else _NAN


def _str(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s%x:%b" % (len(data), data)


SCALARS: dict[type, Callable[[Foreign], bytes]] = {
    int: lambda value: b"i%x;" % value,  # hexadecimal, since decimals are limited to 4300 digits
    float: _float,
    str: _str,
    bool: lambda value: b"T" if value else b"F",
    type(None): lambda _: b"N",
    bytes: lambda value: b"b%x:%b" % (len(value), value),
    complex: lambda value: b"j%b%b" % (_float(value.real), _float(value.imag)),
    type(...): lambda _: b"E",
    type(NotImplemented): lambda _: b"X",
}


class Encoder:
    """One walk over one value; `out` holds what is not hashed yet.

    `resolve` gives the handler of a type that is neither scalar nor builtin container; `leaf` is
    asked first about every value of such a type.
    """

    __slots__ = ("_classes", "_hasher", "_keep", "_memo", "_streaming", "leaf", "out", "resolve")

    def __init__(
        self, resolve: Callable[[type], Handler], leaf: Leaf | None, *, streaming: bool
    ) -> None:
        self.resolve, self.leaf = resolve, leaf
        self.out = bytearray()
        self._streaming = streaming
        self._hasher: xxh3_128 | None = None
        self._memo: dict[int, int] = {}
        self._keep: list[object] = []  # keeps what was met alive, so that no id is used twice
        self._classes: dict[type, bytes] = {}

    def digest(self) -> Digest:
        """Return the digest of all that was written."""
        if self._hasher is None:
            return Digest("xxh3:" + xxh3_128_hexdigest(self.out))
        self._flush()
        return Digest("xxh3:" + self._hasher.hexdigest())

    def write(self, value: object) -> None:
        """Append the canonical bytes of any value, or raise Refused."""
        cls = type(value)
        scalar = SCALARS.get(cls)
        if scalar is not None:
            self.out += scalar(value)
            return
        handler = _CONTAINERS.get(cls)
        if handler is None:
            if self.leaf is not None:
                known = self.leaf(value)
                if known is not None:
                    self.out += b"L" + _str(known)
                    return
            handler = self.resolve(cls)
        handler(self, value)

    def write_step(self, step: str, value: object) -> None:
        """Write a part of a value; `step` (".x", "[3]") tells people where a refusal was."""
        try:
            self.write(value)
        except Refused as refused:
            refused.trail.insert(0, step)
            raise

    def tag(self, name: str) -> None:
        """Begin a value of a type that nbcache knows by this name."""
        self.out += b"c" + _str(name)

    def tagged(self, name: str, *parts: object) -> None:
        """Write a known type's name and the parts that make up its value."""
        self.tag(name)
        self.out += b"%x:" % len(parts)
        for part in parts:
            self.write(part)

    def raw(self, data: Foreign) -> None:
        """Append a contiguous buffer of bytes; a large one is hashed without being copied."""
        if self._streaming and len(data) > _STREAM_ABOVE:
            self._flush()
            assert self._hasher is not None
            self._hasher.update(data)
        else:
            self.out += memoryview(data)

    def _flush(self) -> None:
        if self._hasher is None:
            self._hasher = xxh3_128()
        self._hasher.update(self.out)
        self.out = bytearray()

    def refuse(self, value: object, reason: str) -> NoReturn:
        raise Refused(type_name(value if isinstance(value, type) else type(value)), reason)

    def met_before(self, value: object) -> bool:
        """Note a value that can be changed in place; write a back-reference if it was met."""
        known = self._memo.get(id(value))
        if known is None:
            self._memo[id(value)] = len(self._keep)
            self._keep.append(value)
            return False
        self.out += b"r%x;" % known
        return True

    def write_class(self, cls: type) -> None:
        """Write a class: by the digest that `leaf` has for it, else by its qualified name."""
        known = self._classes.get(cls)
        if known is None:
            digest = self.leaf(cls) if self.leaf is not None else None
            if digest is not None:
                known = b"L" + _str(digest)
            elif (fault := installed_class(cls)) is None:
                known = b"C" + _str(cls.__module__) + _str(cls.__qualname__)
            else:
                raise Refused(type_name(cls), fault)
            self._classes[cls] = known
        self.out += known

    def write_known_class(self, cls: type) -> None:
        """Write a class as `write_class`, or nothing but a mark where it cannot be identified."""
        try:
            self.write_class(cls)
        except Refused:
            self.out += b"U"

    def write_sequence(self, items: Iterable[object], count: int) -> None:
        """Write items in order behind their number."""
        self.out += b"%x:" % count
        scalars = SCALARS.get
        index = 0
        try:
            for item in items:
                scalar = scalars(type(item))
                if scalar is not None:
                    self.out += scalar(item)
                else:
                    self.write(item)
                    if self._streaming and len(self.out) > _FLUSH_ABOVE:
                        self._flush()
                index += 1
        except Refused as refused:
            refused.trail.insert(0, f"[{index}]")
            raise

    def write_pairs(
        self, pairs: Iterable[tuple[object, object]], count: int, *, attributes: bool = False
    ) -> None:
        """Write keys and values in order behind their number."""
        self.out += b"%x:" % count
        scalars = SCALARS.get
        for key, value in pairs:
            scalar = scalars(type(key))
            if scalar is not None:
                self.out += scalar(key)
            else:
                self.write_step(" key", key)
            scalar = scalars(type(value))
            if scalar is not None:
                self.out += scalar(value)
            else:
                try:
                    self.write(value)
                except Refused as refused:
                    refused.trail.insert(0, _step(key, attributes))
                    raise

    def write_unordered(self, members: Iterable[object], count: int) -> None:
        """Write members sorted by their own bytes, whatever order they come in.

        Each is first written alone, as if the others did not exist; those that bring objects
        which can be shared are then written again in sorted order, so that sharing shows.
        """
        outer, streaming = self.out, self._streaming
        mark, shared, alone = len(self._keep), False, []
        try:
            self._streaming = False
            for member in members:
                self.out = bytearray()
                self.write_step(" member", member)
                shared = shared or len(self._keep) > mark
                self._forget(mark)
                alone.append((bytes(self.out), member))
        finally:
            self.out, self._streaming = outer, streaming
        alone.sort(key=lambda pair: pair[0])
        self.out += b"%x:" % count
        for data, member in alone:
            if shared:
                self.write(member)
            else:
                self.out += data

    def _forget(self, mark: int) -> None:
        for value in self._keep[mark:]:
            del self._memo[id(value)]
        del self._keep[mark:]


def _step(key: object, attributes: bool) -> str:
    if attributes and type(key) is str:
        return f".{key}"
    if type(key) in (str, int, float, bool, bytes):
        text = repr(key)
        return f"[{text if len(text) <= 40 else text[:37] + '...'}]"
    return f"[<{type(key).__name__}>]"


def _write_list(encoder: Encoder, value: list[object]) -> None:
    if not encoder.met_before(value):
        encoder.out += b"l"
        encoder.write_sequence(value, len(value))


def _write_tuple(encoder: Encoder, value: tuple[object, ...]) -> None:
    encoder.out += b"t"
    encoder.write_sequence(value, len(value))


def _write_dict(encoder: Encoder, value: dict[object, object]) -> None:
    if not encoder.met_before(value):
        if _is_keyed_by_address(value):
            encoder.out += b"k"
            encoder.write_sequence(value.values(), len(value))
            return
        encoder.out += b"d"
        encoder.write_pairs(value.items(), len(value))


def _is_keyed_by_address(value: dict[object, object]) -> bool:
    """Whether each key is the `id` of its value: it says nothing, and differs in each process.

    So matplotlib keeps which transforms are made of which.
    """
    return bool(value) and all(type(key) is int and key == id(held) for key, held in value.items())


def _write_set(encoder: Encoder, value: set[object]) -> None:
    if not encoder.met_before(value):
        encoder.out += b"S"
        encoder.write_unordered(value, len(value))


def _write_frozenset(encoder: Encoder, value: frozenset[object]) -> None:
    encoder.out += b"Z"
    encoder.write_unordered(value, len(value))


def _write_bytearray(encoder: Encoder, value: bytearray) -> None:
    if not encoder.met_before(value):
        encoder.out += b"B%x:" % len(value)
        encoder.raw(value)


_CONTAINERS: dict[type, Handler] = {
    list: _write_list,
    tuple: _write_tuple,
    dict: _write_dict,
    set: _write_set,
    frozenset: _write_frozenset,
    bytearray: _write_bytearray,
}


def write_too_deep(value: object) -> Refused:
    """The refusal for a value whose nesting exceeds Python's recursion limit."""
    return Refused(type_name(type(value)), _TOO_DEEP)
