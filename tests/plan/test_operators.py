"""What each operator makes of its items, in which order, and what holes do to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nbcache.errors import WiringError
from nbcache.model.digest import Digest
from nbcache.model.task import RunStatus
from nbcache.model.value import Record, Stored
from nbcache.plan.dataflow.channel import Channel
from tests.sim.pipelines import Process, compile_all, queue, value
from tests.sim.world import World

NUMBERS = queue([3, 1, 2, 3, 1], "n")
EMPTY = queue([], "n")


def run(channel: Channel, seed: int = 1, **options: Any) -> World:
    return World(compile_all(None, it=channel), seed=seed, **options).run()


def items(channel: Channel, **options: Any) -> list[object]:
    found = [run(channel, seed, **options).items("it") for seed in range(4)]
    assert all(other == found[0] for other in found), "the result depends on timing"
    return found[0]


def error(channel: Channel) -> str:
    world = run(channel)
    assert world.status is RunStatus.FAILED
    (_, raised), *_ = world.scheduler.channel_errors
    return str(raised)


def test_map_filter_and_flat_map_keep_the_order() -> None:
    assert items(NUMBERS.map(lambda n: n * 2)) == [6, 2, 4, 6, 2]
    assert items(NUMBERS.filter(lambda n: n > 1)) == [3, 2, 3]
    assert items(NUMBERS.flat_map(lambda n: range(n - 1))) == [0, 1, 0, 0, 1]


def test_collect_gathers_each_field_in_order() -> None:
    table = queue([("a", 1), ("b", 2)], "s", "n")
    assert items(NUMBERS.collect()) == [[3, 1, 2, 3, 1]]
    assert items(table.collect()) == [(["a", "b"], [1, 2])]
    assert items(EMPTY.collect()) == [[]]


def test_first_take_and_until() -> None:
    assert items(NUMBERS.first()) == [3]
    assert items(NUMBERS.take(2)) == [3, 1]
    assert items(NUMBERS.take(0)) == []
    assert items(NUMBERS.take(9)) == [3, 1, 2, 3, 1]
    assert items(NUMBERS.until(lambda n: n == 2)) == [3, 1]
    assert items(NUMBERS.until(lambda n: n == 7)) == [3, 1, 2, 3, 1]
    assert items(EMPTY.first()) == ["<skipped>"]


def test_until_asks_no_further_than_it_must() -> None:
    asked: list[int] = []
    items(NUMBERS.until(lambda n: asked.append(n) or n == 1))  # type: ignore[func-returns-value]
    assert asked == [3, 1] * 4


def test_buffer_groups_in_order_with_or_without_what_is_left() -> None:
    assert items(NUMBERS.buffer(2)) == [[3, 1], [2, 3], [1]]
    assert items(NUMBERS.buffer(2, remainder=False)) == [[3, 1], [2, 3]]
    assert items(EMPTY.buffer(2)) == []


def test_unique_keeps_the_first_of_each_key() -> None:
    assert items(NUMBERS.unique()) == [3, 1, 2]
    assert items(NUMBERS.unique(lambda n: n % 2)) == [3, 2]
    table = queue([("a", 1), ("b", 1), ("a", 2)], "s", "n")
    assert items(table.unique("n")) == [("a", 1), ("a", 2)]


def test_reduce_folds_in_order() -> None:
    assert items(NUMBERS.reduce(lambda text, n: text + str(n), "")) == ["31231"]
    assert items(NUMBERS.reduce(lambda a, n: a - n)) == [3 - 1 - 2 - 3 - 1]
    assert items(EMPTY.reduce(lambda a, n: a + n, 0)) == [0]
    assert items(EMPTY.reduce(lambda a, n: a + n)) == ["<skipped>"]


def test_groups_come_in_the_order_of_their_first_member() -> None:
    table = queue([("b", 1), ("a", 2), ("b", 3), ("c", 4)], "s", "n")
    assert items(table.group_by("s")) == [("b", [1, 3]), ("a", [2]), ("c", [4])]
    assert items(NUMBERS.group_by(lambda n: n % 2)) == [(1, [3, 1, 3, 1]), (0, [2])]


def test_groups_of_a_known_size_are_checked() -> None:
    pairs = queue([("a", 1), ("b", 2), ("b", 3), ("a", 4)], "s", "n")
    assert items(pairs.group_by("s", size=2)) == [("a", [1, 4]), ("b", [2, 3])]
    assert "group of 'a' has 1 items, but size=2" in error(pairs.take(3).group_by("s", size=2))
    assert "more than size=1" in error(pairs.group_by("s", size=1))


def test_a_group_that_is_full_goes_on_before_the_channel_ends() -> None:
    work = Process("work", [queue([("a", 1), ("a", 2), ("b", 3), ("b", 4)], "s", "n")],
                   outputs=["s", "n"])  # fmt: skip
    merge = Process("merge", [work.group_by("s", size=2)], outputs=["m"])
    world = World(compile_all(None, it=merge), cpus=1, uniform=True,
                  body=lambda place, i: (i["s"], i["n"]) if place == "work" else (1,))  # fmt: skip
    world.run()

    started = [world.graph.nodes[key[0]].name for key in world.started]
    assert started == ["work", "work", "work", "merge", "work", "merge"]


def test_combine_gives_all_pairs_with_the_left_side_outside() -> None:
    left, right = queue([1, 2], "a"), queue(["x", "y"], "b")
    assert items(left.combine(right)) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert items(left.combine(value("v", "k"))) == [(1, "v"), (2, "v")]
    assert items(left.combine(queue([], "b"))) == []
    assert len(items(left.combine(right, queue([7, 8, 9], "c")))) == 12


def test_combine_by_a_key_gives_all_pairs_of_that_key() -> None:
    left = queue([("a", 1), ("b", 2), ("a", 3), ("z", 4)], "s", "n")
    right = queue([("b", "B"), ("a", "A"), ("a", "AA")], "s", "t")
    assert items(left.combine(right, by="s")) == [
        ("a", 1, "A"), ("a", 1, "AA"), ("b", 2, "B"), ("a", 3, "A"), ("a", 3, "AA"),
    ]  # fmt: skip


def test_join_matches_by_key_in_the_left_order() -> None:
    left = queue([(1, "a"), (2, "b"), (3, "c")], "n", "s")
    right = queue([("c", "C"), ("a", "A"), ("z", "Z")], "s", "t")
    assert items(left.join(right, by="s")) == [("a", 1, "A"), ("c", 3, "C")]
    assert items(left.join(right, by="s", remainder=True)) == [
        ("a", 1, "A"), ("b", 2, None), ("c", 3, "C"), ("z", None, "Z"),
    ]  # fmt: skip


def test_a_key_that_occurs_twice_is_an_error_that_says_what_to_do() -> None:
    left = queue([("a", 1), ("a", 2)], "s", "n")
    text = error(left.join(queue([("a", "A")], "s", "t"), by="s"))
    assert "key 'a' occurs twice on the left side" in text
    assert "combine(..., by=...)" in text


def test_mix_puts_one_channel_after_the_other() -> None:
    assert items(queue([1, 2], "n").mix(queue([3], "n"), value(4, "n"))) == [1, 2, 3, 4]
    crossed = queue([("b", 2)], "s", "n").mix(queue([(1, "a")], "n", "s"))
    assert items(crossed) == [("b", 2), ("a", 1)]
    whole = items(queue([("b", 2)], "s", "n").mix(queue([5], "x")))
    assert whole == [Record(("s", "n"), ("b", 2)), 5]


def test_branches_share_the_items_out() -> None:
    parts = NUMBERS.branch(small=lambda n: n < 2, odd=lambda n: n % 2 == 1)
    assert items(parts.small) == [1, 1]
    assert items(parts.odd) == [3, 3]
    named = NUMBERS.branch(lambda n: {1: "one", 2: "two"}.get(n))
    assert items(named.two) == [2]
    assert items(named.three) == []


def test_view_and_subscribe_pass_items_on(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []
    table = queue([("a", 1), ("b", 2)], "s", "n")
    world = run(table.view("{s}={n}").subscribe(lambda n: seen.append(n)))
    assert world.items("it") == [("a", 1), ("b", 2)]
    assert sorted(capsys.readouterr().out.split()) == ["a=1", "b=2"]
    assert sorted(seen) == [1, 2]


def test_select_keeps_some_fields_of_each_item() -> None:
    table = queue([("a", 1, True), ("b", 2, False)], "s", "n", "ok")
    assert items(table.select("n", "s")) == [(1, "a"), (2, "b")]
    assert items(table.select("n").collect()) == [[1, 2]]
    assert items(table.first().select("s").combine(NUMBERS.take(1))) == [("a", 3)]
    with pytest.raises(WiringError, match="has no field 'on'; its fields are s, n, ok"):
        items(table.select("on"))


def test_fields_rename_and_unpack() -> None:
    table = queue([("a", 1)], "s", "n").fields("x", "y")
    assert items(table.map(lambda y, x: (x, y))) == [("a", 1)]
    made = NUMBERS.take(1).map(lambda n: (n, n + 1)).fields("a", "b")
    assert items(made) == [(3, 4)]
    assert "names 3, but an item has 2 values" in error(
        NUMBERS.map(lambda n: (n, n)).fields("a", "b", "c")
    )


def test_queues_pair_item_by_item() -> None:
    letters = queue(["a", "b", "c"], "s")
    pair = Process("p", [letters.map(lambda s: {"t": s * 2}), letters], outputs=["x"])
    assert items(pair) == ["p(s='a', t='aa')", "p(s='b', t='bb')", "p(s='c', t='cc')"]


def test_queues_of_different_lengths_are_an_error_that_names_the_ways_out() -> None:
    pair = Process("p", [queue([1, 2, 3], "a"), queue([1, 2], "b")], outputs=["x"])
    world = run(pair)
    assert not world.started
    text = error(pair)
    assert "of(2) has 2 and of(3) has 3" in text
    for way in ("of(2).combine(of(3))", "product(", "of(2).join(of(3), by="):
        assert way in text


def test_an_operator_that_raises_ends_the_run() -> None:
    assert "division by zero" in error(NUMBERS.map(lambda n: 1 / (n - 1)))


def test_a_key_that_cannot_be_one_is_an_error() -> None:
    assert "must be hashable" in error(queue([([1], 2)], "k", "n").group_by("k"))


def test_stored_keys_are_asked_for_since_only_the_driver_can_decode_them() -> None:
    text = Stored(Digest("xxh3:0"), "value", "json", 1, inline=b"1")
    world = run(queue([(text, 1)], "k", "n").group_by("k"))
    assert world.calls == 1
    assert run(queue([("a", 1)], "k", "n").group_by("k")).calls == 0


# Holes --------------------------------------------------------------------------------------------


def faulty(action: str, *numbers: int) -> dict[str, Any]:
    def fault(place: str, inputs: Mapping[str, object], attempt: int) -> str | None:
        return action if inputs.get("n") in numbers else None

    return {"fault": fault, "body": lambda place, inputs: (inputs.get("n"),)}


WORK = Process("work", [queue([0, 1, 2, 3], "n")], outputs=["m"])


@pytest.mark.parametrize(
    ("channel", "after_failed", "after_ignored"),
    [
        (WORK, [0, "<HOLE>", 2, 3], [0, "<HOLE>", 2, 3]),
        (WORK.map(lambda m: m + 10), [10, "<HOLE>", 12, 13], [10, "<HOLE>", 12, 13]),
        (WORK.filter(lambda m: m != 2), [0, "<HOLE>", 3], [0, "<HOLE>", 3]),
        (WORK.collect(), ["<HOLE>"], [[0, 2, 3]]),
        (WORK.reduce(lambda a, m: a + m, 0), ["<HOLE>"], [5]),
        (WORK.take(2), [0, 2], [0, 2]),
        (WORK.first(), [0], [0]),
        (WORK.buffer(2), ["<HOLE>", [2, 3]], [[0, 2], [3]]),
        (WORK.group_by(lambda m: m % 2), ["<HOLE>"], [(0, [0, 2]), (1, [3])]),
        (WORK.unique(lambda m: m % 2), [0, "<HOLE>", 3], [0, "<HOLE>", 3]),
        (WORK.until(lambda m: m == 3), [0, "<HOLE>", 2], [0, "<HOLE>", 2]),
        (
            WORK.join(queue([(1, "b"), (2, "c")], "m", "s"), by="m"),
            ["<HOLE>", (2, "c")],
            ["<HOLE>", (2, "c")],
        ),
        (
            queue([(1, "b"), (2, "c")], "m", "s").join(WORK, by="m"),
            ["<HOLE>", (2, "c")],
            [(2, "c")],
        ),
        (
            queue(["x"], "k").combine(WORK),
            [("x", 0), "<HOLE>", ("x", 2), ("x", 3)],
            [("x", 0), "<HOLE>", ("x", 2), ("x", 3)],
        ),
        (
            queue([(2, "c")], "m", "s").combine(WORK.map(lambda m: {"m": m, "w": 1}), by="m"),
            ["<HOLE>", (2, "c", 1)],
            [(2, "c", 1)],
        ),
    ],
    ids=lambda p: p.node.label if isinstance(p, Channel) else None,
)
def test_what_one_failed_or_ignored_task_does_to_a_channel(
    channel: Channel, after_failed: list[object], after_ignored: list[object]
) -> None:
    for action, hole, wanted in (
        ("continue", "<failed>", after_failed),
        ("ignore", "<ignored>", after_ignored),
    ):
        expected = [hole if item == "<HOLE>" else item for item in wanted]
        assert items(channel, **faulty(action, 1)) == expected


def test_a_pair_with_a_hole_is_dropped_and_the_others_stay_together() -> None:
    pair = Process("pair", [WORK, queue(["a", "b", "c", "d"], "s")], outputs=["x"])
    world = run(pair, **faulty("ignore", 1), seed=3)
    assert world.tasks("pair") == {
        (0,): {"m": 0, "s": "a"}, (2,): {"m": 2, "s": "c"}, (3,): {"m": 3, "s": "d"},
    }  # fmt: skip


def test_first_of_what_all_failed_is_a_hole() -> None:
    assert items(WORK.first(), **faulty("ignore", 0, 1, 2, 3)) == ["<skipped>"]
    assert items(WORK.first(), **faulty("continue", 0, 1, 2, 3)) == ["<failed>"]


def test_nothing_runs_below_a_gather_over_a_failed_task() -> None:
    report = Process("report", [WORK.collect()], outputs=["r"])
    assert not run(report, **faulty("continue", 1)).tasks("report")
    assert list(run(report, **faulty("ignore", 1)).tasks("report").values()) == [{"m": [0, 2, 3]}]


def test_nan_is_one_key() -> None:
    numbers = queue([float("nan"), 1.0, float("nan")], "n")
    assert len(items(numbers.unique())) == 2
    assert len(items(numbers.group_by(by="n"))) == 2
