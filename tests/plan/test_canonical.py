"""Canonical values: what has to differ differs, what a body cannot tell apart does not."""

from __future__ import annotations

import array
import collections
import copy
import copyreg
import datetime
import decimal
import enum
import fractions
import functools
import itertools
import os
import pathlib
import pickle
import random
import re
import subprocess
import sys
import threading
import types
import typing
import uuid
import zoneinfo
from dataclasses import dataclass, field

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import NoCanonicalFormError
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.value import FilePath, Gathered, Record, RemoteFile, Stored
from nbcache.plan.identity.canonical import canonical_bytes, canonical_digest, register, unregister


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 2


class Level(enum.IntFlag):
    LOW = 1
    HIGH = 2


@dataclass
class Plain:
    x: object = 0
    y: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    x: object


@attrs.define
class Attrs:
    x: object


@attrs.frozen
class FrozenAttrs:
    x: object


class Model(pydantic.BaseModel):
    x: int
    y: list[float] = []


Point = collections.namedtuple("Point", "x y")


class Slots:
    __slots__ = ("__weakref__", "x")

    def __init__(self, x: object) -> None:
        self.x = x


class MyList(list):  # type: ignore[type-arg]
    pass


class MyDict(dict):  # type: ignore[type-arg]
    pass


class MyInt(int):
    pass


class MySet(set):  # type: ignore[type-arg]
    pass


class MyPath(type(pathlib.Path())):  # type: ignore[misc]
    pass


class Node:
    def __init__(self, label: object) -> None:
        self.label = label
        self.next: object = None


def known_classes(value: object) -> Digest | None:
    """Answer for the classes and functions of this module, as the engine does for a notebook's."""
    if isinstance(value, type | types.FunctionType) and value.__module__ == __name__:
        return identity_digest(value.__qualname__.encode())
    return None


def digest(value: object) -> Digest:
    return canonical_digest(value, leaf=known_classes)


UTC = datetime.UTC
PARIS = zoneinfo.ZoneInfo("Europe/Paris")
INSTANT = datetime.datetime(2026, 10, 25, 2, 30)

# Every two of these can be told apart by a body.
ALL_DIFFERENT: list[object] = [
    0, 1, -1, 2**64, 2**20000, -(2**20000), True, False, None, ..., NotImplemented,
    0.0, -0.0, 1.0, float("nan"), float("inf"), 1j, complex(0.0, -0.0), complex(-0.0, 0.0),
    "", "0", "1", "a", "é", "e\u0301", "\ud800", b"", b"1", b"a", bytearray(b"a"), memoryview(b"a"),
    (), (1,), ((1,),), [], [1], [[1]], {}, {1: 2}, {1: 2, 2: 1}, {2: 1, 1: 2}, {"1": 2},
    set(), {1}, {1.5}, frozenset(), frozenset({1}), [1, 2], [2, 1], (1, 2), {1, 2}, [(1, 2)],
    ["a", "b"], ["ab"], ["a", ["b"]], [["a"], "b"], {"a": {"b": 1}}, {"a": 1, "b": {}},
    decimal.Decimal("1"), decimal.Decimal("1.0"), decimal.Decimal("-0"), decimal.Decimal("0"),
    decimal.Decimal("NaN"), decimal.Decimal("sNaN"),
    fractions.Fraction(1), fractions.Fraction(1, 3),
    datetime.date(2026, 10, 25), INSTANT, INSTANT.replace(fold=1), INSTANT.replace(tzinfo=UTC),
    INSTANT.replace(tzinfo=PARIS), INSTANT.replace(tzinfo=PARIS, fold=1),
    datetime.datetime(2026, 10, 25), datetime.time(1), datetime.time(1, fold=1),
    datetime.time(1, tzinfo=UTC), datetime.timedelta(1), datetime.timedelta(0, 1), UTC, PARIS,
    datetime.timezone(datetime.timedelta(0), "Z"), datetime.timezone(datetime.timedelta(hours=1)),
    uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
    Colour.RED, Colour.CRIMSON,
    Level.LOW, Level.LOW | Level.HIGH,
    pathlib.Path("a"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("b"),
    MyPath("a"), re.compile("a"), re.compile("a", re.I), re.compile(b"a"),
    range(0), range(1), range(1, 1), range(0, 1, 2), slice(1), slice(None, 1, 1), slice(1, 1),
    collections.deque([1]), collections.deque([1], 3), collections.OrderedDict({1: 2}),
    collections.defaultdict(int, {1: 2}), collections.defaultdict(list, {1: [2]}),
    collections.Counter({1: 2}), collections.ChainMap({1: 2}), collections.ChainMap({}, {1: 2}),
    types.MappingProxyType({1: 2}), types.SimpleNamespace(a=1), types.SimpleNamespace(b=1),
    array.array("i", [1]), array.array("h", [1]), array.array("d", [1]), array.array("f", [1]),
    Plain(), Plain(1), Plain(1, [2]), Frozen(0), Attrs(0), Attrs(1), FrozenAttrs(0), Slots(0),
    Slots(1), Model(x=1), Model(x=1, y=[]), Model(x=1, y=[1.0]), Point(1, 2), Point(2, 1),
    MyList(), MyList([1]), MyDict(), MyDict({1: 2}), MyInt(1), MySet(), MySet([1]),
    Node(1), Node(2),
    random.Random(1), random.Random(2), int, float, decimal.Decimal, len, abs,
    "a".upper, "b".upper,
    list[int], list[str], str.upper, functools.partial(int, base=2),
    functools.partial(int, base=3),
    ValueError("a"), ValueError("b"), KeyError("a"), Plain, Frozen, known_classes, os.path.join,
    Stored(Digest("xxh3:1"), "value", "json", 3), Stored(Digest("xxh3:2"), "value", "json", 3),
    Stored(Digest("xxh3:1"), "file", "file", 3, name="a"),
    Stored(Digest("xxh3:1"), "file", "file", 3, name="b"),
    Gathered(), Gathered([1]), Gathered([[1]]),
    Record(("x", "y"), (1, 2)), Record(("x", None), (1, 2)), Record(("x", "y"), (2, 1)),
]  # fmt: skip


def test_values_that_a_body_can_tell_apart_never_share_canonical_bytes() -> None:
    seen: dict[bytes, object] = {}
    for value in ALL_DIFFERENT:
        data = canonical_bytes(value, leaf=known_classes)
        assert data not in seen, f"{value!r} and {seen[data]!r} have the same bytes"
        seen[data] = value


@pytest.mark.parametrize("value", ALL_DIFFERENT, ids=lambda value: type(value).__name__)
def test_the_digest_is_that_of_the_bytes_and_survives_copies_and_pickling(value: object) -> None:
    expected = identity_digest(canonical_bytes(value, leaf=known_classes))

    assert digest(value) == expected
    if not isinstance(value, memoryview | types.MappingProxyType):  # neither can be pickled
        assert digest(pickle.loads(pickle.dumps(value))) == expected
        assert digest(copy.deepcopy(value)) == expected


def test_an_annotation_given_as_a_text_counts_by_it() -> None:
    one, same, other = map(typing.ForwardRef, ("int", "int", "str"))
    assert canonical_digest([one]) == canonical_digest([same]) != canonical_digest([other])


def test_no_canonical_form_is_the_beginning_of_another() -> None:
    forms = sorted(canonical_bytes(value, leaf=known_classes) for value in ALL_DIFFERENT)
    for shorter, longer in itertools.pairwise(forms):
        assert not longer.startswith(shorter)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.decimals() | st.fractions() | st.datetimes() | st.timedeltas() | st.uuids()
    | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=4)
    | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def same(one: object, other: object) -> bool:
    """Tell whether two plain values are alike in type and value, down to the last bit of sign."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return same(list(one.items()), list(other.items()))
    return repr(one) == repr(other) or (one != one and other != other and str(one) == str(other))


@given(plain, plain)
def test_two_plain_values_share_bytes_exactly_if_they_are_the_same(
    one: object, other: object
) -> None:
    # A deep copy of each on its own: Hypothesis shares equal parts, and sharing counts.
    one, other = pickle.loads(pickle.dumps(one)), pickle.loads(pickle.dumps(other))
    assert (canonical_bytes(one) == canonical_bytes(other)) == same(one, other)


@given(plain)
def test_a_pickled_copy_has_the_same_bytes(value: object) -> None:
    assert canonical_bytes(pickle.loads(pickle.dumps(value))) == canonical_bytes(value)


@given(st.lists(st.integers() | st.text() | st.frozensets(st.text()), max_size=8), st.randoms())
def test_the_order_of_a_set_does_not_count_and_that_of_a_dict_does(
    members: list[object], shuffler: random.Random
) -> None:
    shuffled = list(members)
    shuffler.shuffle(shuffled)

    assert canonical_bytes(set(members)) == canonical_bytes(set(shuffled))
    assert (
        canonical_bytes(dict.fromkeys(members)) == canonical_bytes(dict.fromkeys(shuffled))
    ) == (list(dict.fromkeys(members)) == list(dict.fromkeys(shuffled)))


def test_every_nan_is_the_same_nan() -> None:
    import struct

    negative, payload = struct.unpack("<dd", bytes.fromhex("010000000000f8ff020000000000f07f"))
    assert digest(negative) == digest(payload) == digest(float("nan"))


def test_a_list_twice_is_not_two_equal_lists() -> None:
    inner: list[int] = [0, 0]
    assert digest([inner, inner]) != digest([[0, 0], [0, 0]])
    shared = Plain()
    assert digest([shared, shared]) != digest([Plain(), Plain()])


def test_sharing_of_what_cannot_change_does_not_count() -> None:
    text, pair, frozen = "ab" * 500, (1, ("x", 2.0)), Frozen(1)
    assert digest([text, text]) == digest([text, "ab" * 500])
    assert digest([pair, pair]) == digest([pair, (1, ("x", 2.0))])
    assert digest([frozen, frozen]) == digest([frozen, Frozen(1)])


def test_recursive_values_have_a_form_that_depends_on_where_the_circle_closes() -> None:
    one: list[object] = []
    one.append(one)
    two: list[object] = []
    two.append([two])
    node = Node(1)
    node.next = {"me": node}
    pair: tuple[object, ...] = ([],)
    pair[0].append(pair)  # type: ignore[attr-defined]

    assert digest(one) != digest(two)
    for value in (one, two, node, pair):
        assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


def test_objects_shared_between_members_of_a_set_show_in_any_order() -> None:
    def build(order: list[int], *, shared: bool) -> set[Node]:
        common = [0]
        nodes = {each: Node((each, common if shared else [0])) for each in order}
        return {nodes[each] for each in order}

    assert digest(build([1, 2, 3], shared=True)) == digest(build([3, 1, 2], shared=True))
    assert digest(build([1, 2, 3], shared=True)) != digest(build([1, 2, 3], shared=False))


def test_the_same_digests_come_from_another_process_with_another_hash_seed() -> None:
    script = (
        "import datetime, decimal\n"
        "from nbcache.plan.identity.canonical import canonical_digest as d\n"
        "print(d({'a': {'x', 'yy', 'zzz', 3, None}, 'b': frozenset('qwertz')}),"
        " d([decimal.Decimal('1.0'), datetime.date(2026, 1, 1), {(1, 'a'), (2, 'b')}]))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "77")
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda: 0, "a function defined in the notebook"),
        (open(os.devnull), "an open file"),  # noqa: SIM115
        (threading.Lock(), "a lock"),
        (threading.current_thread(), "a thread"),
        ((each for each in "ab"), "a generator"),
        (os, "a module"),
        (FilePath("x"), "files"),
        (RemoteFile("s3://a/b"), "files"),
        (random.SystemRandom(), "operating system"),
        (Plain(), "a class defined in the notebook"),
        (functools.partial(lambda: 0), "a function defined in the notebook"),
        (functools.lru_cache(lambda: 0), "a name of the notebook"),
        (functools.lru_cache(len), "a name of the notebook"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_identified_is_refused_with_its_reason(value: object, reason: str) -> None:
    with pytest.raises(NoCanonicalFormError) as caught:
        canonical_digest(value)
    assert reason in caught.value.reason


def test_a_refusal_says_where_the_culprit_is() -> None:
    with pytest.raises(NoCanonicalFormError) as caught:
        digest({"a": [1, 2, 3, Plain(x=(threading.Lock(),))]})
    assert caught.value.type_name == "_thread.lock"
    assert (caught.value.reason, caught.value.inside) == ("a lock", "['a'][3].x[0]")


def test_a_value_nested_too_deeply_is_refused() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NoCanonicalFormError, match="nested too deeply"):
        digest(value)


def test_leaf_answers_for_functions_wherever_they_are() -> None:
    def answer(code: bytes) -> Digest:
        return canonical_digest(
            [{"f": known_classes}],
            leaf=lambda value: identity_digest(code) if callable(value) else None,
        )

    assert answer(b"one") == answer(b"one") != answer(b"two")


def test_an_instance_counts_with_the_digest_of_its_class() -> None:
    def answer(code: bytes) -> Digest:
        return canonical_digest(
            Plain(1), leaf=lambda value: identity_digest(code) if value is Plain else None
        )

    assert answer(b"one") == answer(b"one") != answer(b"two")


def test_a_registered_type_is_known_by_what_its_function_returns() -> None:
    class Handle:
        def __init__(self, key: str, lock: object) -> None:
            self.key, self.lock = key, lock

    class Special(Handle):
        pass

    register(Handle, lambda handle: handle.key)
    try:
        assert digest(Handle("a", threading.Lock())) == digest(Handle("a", threading.Lock()))
        assert digest(Handle("a", None)) != digest(Handle("b", None))
        assert digest(Handle("a", None)) != digest(Special("a", None)) != digest("a")

        register(Special, lambda special: len(special.key))
        assert digest(Special("a", None)) == digest(Special("b", None))
        assert digest(Handle("a", None)) != digest(Handle("b", None))
    finally:
        unregister(Handle)
        unregister(Special)
    with pytest.raises(NoCanonicalFormError):
        digest(Handle("a", threading.Lock()))


def test_the_form_of_builtins_cannot_be_taught_anew() -> None:
    with pytest.raises(TypeError, match="fixed"):
        register(int, str)


def test_a_subclass_of_a_builtin_counts_with_its_attributes() -> None:
    bare, dressed = MyList([1]), MyList([1])
    dressed.note = "x"  # type: ignore[attr-defined]
    assert digest(bare) != digest(dressed)
    one, other = MySet([1]), MySet([1])
    other.note = "x"  # type: ignore[attr-defined]
    assert digest(one) != digest(other)


def test_attribute_names_and_values_both_count() -> None:
    one, other = Node(1), Node(1)
    other.extra = 1  # type: ignore[attr-defined]
    assert digest(one) != digest(other)
    assert digest(Node(1)) == digest(Node(1))


def test_a_mapping_from_addresses_to_what_lies_there_counts_by_its_members() -> None:
    def linked(*members: list[int]) -> dict[int, list[int]]:
        return {id(each): each for each in members}

    assert canonical_bytes(linked([1], [2])) == canonical_bytes(linked([1], [2]))
    assert canonical_bytes(linked([1], [2])) != canonical_bytes(linked([2], [1]))


def test_an_exception_counts_the_same_whatever_was_registered_for_exceptions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = canonical_digest(ValueError("a"))

    monkeypatch.setitem(
        copyreg.dispatch_table, ValueError, lambda each: (ValueError, each.args, {"traceback": "t"})
    )

    assert canonical_digest(ValueError("a")) == before


def test_an_exception_at_whose_attributes_somebody_looked_is_the_same() -> None:
    seen = ValueError("a")
    assert vars(seen) == {}

    assert canonical_digest(seen) == canonical_digest(ValueError("a"))
