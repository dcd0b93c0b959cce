"""What operators of a channel build and refuse, and how functions are called."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import pytest

from nbcache.errors import ChannelError, WiringError
from nbcache.model.channel import Fields
from nbcache.model.value import Record
from nbcache.plan.dataflow.calls import (
    as_many,
    as_map,
    bind_call,
    bind_fold,
    result_fields,
    unpacked,
)
from nbcache.plan.dataflow.channel import Channel
from tests.sim.pipelines import Process, queue


def never(*args: object) -> object:
    raise AssertionError("user code ran while a channel was built")


def test_building_runs_nothing() -> None:
    grid = queue([(1, "a")], "n", "s")
    built = [
        grid.map(never),
        grid.filter(never),
        grid.flat_map(never),
        grid.reduce(never),
        grid.until(never),
        grid.unique(never),
        grid.group_by(never),
        grid.view(never),
        grid.subscribe(never),
        grid.branch(small=never).small,
        grid.branch(never).anything,
    ]
    assert all(isinstance(channel, Channel) for channel in built)


def test_each_operator_makes_a_node_above_its_parents() -> None:
    left, right = queue([1], "a"), queue([2], "b")
    assert left.join(right, by="a").node.parents == (left.node, right.node)
    assert left.mix(right, left).node.parents == (left.node, right.node, left.node)
    assert left.take(2).node.op == "take"
    combined = left.combine(right, right)
    assert combined.node.op == "combine"
    assert combined.node.parents is not None
    assert combined.node.parents[0].op == "combine"


def test_a_process_is_a_channel_wherever_one_is_expected() -> None:
    process = Process("p", [queue([1], "a")], outputs=["x"])
    assert process.collect().node.parents == (process.node,)
    assert queue([1]).mix(process).node.parents is not None


GRID: Any = queue([(1, "a")], "n", "s")  # Any: it is given wrong arguments below


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: GRID.map(GRID), WiringError, "wants a function, but got a channel"),
        (lambda: GRID.filter("n > 1"), TypeError, "filter wants a function"),
        (lambda: GRID.mix([1, 2]), WiringError, "mix wants channels, but got a list"),
        (lambda: GRID.mix(), WiringError, "at least one other"),
        (lambda: GRID.join(GRID, by=None), WiringError, 'say by="NAME"'),
        (lambda: GRID.combine(GRID, by=GRID), WiringError, "by wants names of fields"),
        (lambda: GRID.group_by([]), WiringError, "wants a key"),
        (lambda: GRID.group_by("n", size=0), WiringError, "whole number from 1"),
        (lambda: GRID.take(-1), WiringError, "whole number from 0"),
        (lambda: GRID.buffer(2.5), WiringError, "whole number"),
        (lambda: GRID.fields(), WiringError, "different names"),
        (lambda: GRID.fields("a", "a"), WiringError, "different names"),
        (lambda: GRID.fields("not a name"), WiringError, "identifier"),
        (lambda: GRID.branch(), WiringError, "named predicates"),
        (lambda: GRID.branch(small=3), TypeError, "branch small wants a function"),
        (lambda: GRID.branch(small=never).large, AttributeError, "there are small"),
    ],
)
def test_wrong_arguments_are_refused_with_a_way_out(
    build: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        build()


def test_branches_are_listed_and_stay_the_same_channel() -> None:
    parts = GRID.branch(small=never, large=never)
    assert dir(parts) == ["large", "small"]
    assert parts.small is parts.small


# How functions are called -------------------------------------------------------------------------

THREE: Fields = ("sample", "r1", "r2")


def call(function: Callable[..., object], item: tuple[object, ...], fields: Fields) -> object:
    return bind_call(function, fields)(item)


def test_parameters_named_like_fields_are_given_by_name() -> None:
    assert call(lambda r2, sample: (r2, sample), ("s", 1, 2), THREE) == (2, "s")
    assert call(lambda r1: r1, ("s", 1, 2), THREE) == 1


def test_a_default_that_is_no_field_keeps_its_value() -> None:
    assert call(lambda r1, factor=10: r1 * factor, ("s", 3, 2), THREE) == 30
    assert call(lambda r1, r2=0: r1 + r2, ("s", 3, 4), THREE) == 7


def test_as_many_parameters_as_fields_get_the_item_unpacked() -> None:
    assert call(lambda a, b, c: (c, b, a), ("s", 1, 2), THREE) == (2, 1, "s")
    assert call(lambda *all: all, ("s", 1, 2), THREE) == ("s", 1, 2)


def test_one_parameter_gets_the_whole_item() -> None:
    item = call(lambda it: it, ("s", 1, 2), THREE)
    assert isinstance(item, Record)
    assert (item.sample, item.r2, item[1]) == ("s", 2, 1)
    assert call(lambda it: it, (5,), ("n",)) == 5
    assert call(lambda it: it, ((1, 2),), ("pair",)) == (1, 2)
    assert call(str, (5,), ("n",)) == "5"
    assert call(int, ("7",), ("n",)) == 7


def test_the_way_depends_on_the_signature_and_not_on_the_value() -> None:
    for value in ((1, 2, 3), {"sample": 1}, "abc"):
        assert call(lambda it: it, (value,), ("n",)) == value


def test_items_of_unknown_fields_are_unpacked_for_several_parameters() -> None:
    assert call(lambda a, b: (b, a), (("x", "y"),), None) == ("y", "x")
    assert call(lambda it: it, (("x", "y"),), None) == ("x", "y")
    with pytest.raises(ChannelError, match="takes 2 values, but the item is one int"):
        call(lambda a, b: a, (5,), None)
    assert call(lambda *all: all, (("x", "y"),), None) == ("x", "y")
    assert call(lambda *all: all, (5,), None) == (5,)


def test_a_function_that_fits_in_no_way_is_refused_before_the_run() -> None:
    with pytest.raises(WiringError, match=r"takes a, b; the channel's fields are sample, r1, r2"):
        bind_call(lambda a, b: a, THREE)
    with pytest.raises(WiringError, match="takes nothing"):
        bind_call(lambda: 1, THREE)


def test_a_fold_gets_the_accumulator_first() -> None:
    assert bind_fold(lambda so_far, n: so_far + n, ("n",))(1, (2,)) == 3
    assert bind_fold(lambda so_far, r2: so_far + r2, THREE)(1, ("s", 5, 9)) == 10
    assert bind_fold(lambda acc, a, b, c: acc + b + c, THREE)(1, ("s", 5, 9)) == 15


def test_a_dict_that_a_function_is_seen_to_return_names_the_fields() -> None:
    one, two = (lambda n, s: {"a": n, "b": s}), (lambda n, s: {"c": s})
    assert result_fields(one) == ("a", "b")
    assert result_fields(two) == ("c",)
    assert result_fields(lambda n: dict(x=n, y=n)) == ("x", "y")  # noqa: C408 - the other form
    assert result_fields(lambda n: (n, n)) is None
    assert result_fields(lambda n: {n: 1}) is None
    assert result_fields(lambda n: {**n}) is None
    assert result_fields(len) is None


def test_a_dict_is_seen_amid_a_chain_of_calls() -> None:
    chain = (
        GRID
        .filter(lambda n: n > 1)
        .map(lambda n, s: {
            "n": n,
            "text": s,
        })
        .take(3)
    )  # fmt: skip
    assert chain.node.parents is not None
    function = chain.node.parents[0].function
    assert function is not None
    assert result_fields(function) == ("n", "text")


def test_a_dict_over_several_lines_of_a_channel_s_expression_is_seen() -> None:
    text = "(GRID\n  .map(lambda n, s: {'n': n,\n  'text': s}).filter(lambda n: n))"
    linecache.cache["<several lines>"] = (len(text), None, text.splitlines(True), "<several lines>")
    chain = eval(compile(text, "<several lines>", "eval"), {"GRID": GRID})

    assert result_fields(chain.node.parents[0].function) == ("n", "text")


def test_every_return_has_to_give_the_same_fields() -> None:
    def same(n: int) -> dict[str, int]:
        if n:
            return {"a": 1, "b": 2}
        return {"a": 3, "b": 4}

    def different(n: int) -> dict[str, int]:
        if n:
            return {"a": 1}
        return {"b": 2}

    def inner(n: int) -> Callable[[], dict[str, int]]:
        def made() -> dict[str, int]:
            return {"a": n}

        return made

    assert result_fields(same) == ("a", "b")
    assert result_fields(different) is None
    assert result_fields(inner) is None


def test_functions_without_source_have_unknown_fields() -> None:
    assert result_fields(eval("lambda n: {'a': n}")) is None


def test_a_result_that_breaks_its_promise_is_an_error() -> None:
    function = as_map(bind_call(lambda n: {"a": 1} if n else {"b": 2}, ("n",)), ("a",))
    assert function((1,)) == (1,)
    with pytest.raises(ChannelError, match=r"was to give the fields a, but gave \['b'\]"):
        function((0,))


def test_flat_map_wants_a_list() -> None:
    assert as_many(lambda item: range(2))((1,)) == [(0,), (1,)]
    for wrong in ("text", 3, {"a": 1}):
        with pytest.raises(ChannelError, match="wants a list"):
            as_many(_always(wrong))((1,))


def _always(result: object) -> Callable[[tuple[object, ...]], object]:
    return lambda item: result


def test_fields_unpack_tuples_and_dicts_of_their_names() -> None:
    assert unpacked(("a", "b"))(((1, 2),)) == (1, 2)
    assert unpacked(("a", "b"))(({"b": 2, "a": 1},)) == (1, 2)
    with pytest.raises(ChannelError, match="names 2, but an item has 3 values"):
        unpacked(("a", "b"))(((1, 2, 3),))
