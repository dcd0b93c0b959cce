"""Compiling: order, fields, values, cycles, pairs."""

from __future__ import annotations

import pytest

from nbcache.errors import WiringError
from nbcache.model.channel import CompiledNode
from nbcache.model.process import FieldPick
from nbcache.plan.dataflow.channel import Channel
from nbcache.plan.dataflow.graph import compile_graph
from tests.sim.pipelines import Names, Process, compile_all, queue, value

PAIRS = queue([("a", 1, 2)], "sample", "r1", "r2")
META = queue([("a", "m")], "sample", "sex")


def compiled(channel: Channel) -> CompiledNode:
    graph = compile_all(None, it=channel)
    return graph.nodes[graph.channels["it"]]


@pytest.mark.parametrize(
    ("channel", "fields", "is_value"),
    [
        (PAIRS, ("sample", "r1", "r2"), False),
        (value(3, "k"), ("k",), True),
        (PAIRS.filter(lambda r1: r1), ("sample", "r1", "r2"), False),
        (PAIRS.map(lambda r1: {"x": r1}), ("x",), False),
        (PAIRS.map(lambda r1: r1), None, False),
        (value(3).map(lambda v: {"w": v}), ("w",), True),
        (value(3).filter(lambda v: v), ("value",), False),
        (PAIRS.flat_map(lambda r1: [r1]), None, False),
        (PAIRS.collect(), ("sample", "r1", "r2"), True),
        (PAIRS.first(), ("sample", "r1", "r2"), True),
        (PAIRS.reduce(lambda a, r1: a), None, True),
        (PAIRS.join(META, by="sample"), ("sample", "r1", "r2", "sex"), False),
        (META.join(PAIRS, by="sample"), ("sample", "sex", "r1", "r2"), False),
        (PAIRS.join(META, by=0), ("sample", "r1", "r2", "sex"), False),
        (PAIRS.combine(value(1, "k")), ("sample", "r1", "r2", "k"), False),
        (value(1, "a").combine(value(2, "b")), ("a", "b"), True),
        (PAIRS.combine(META, by="sample"), ("sample", "r1", "r2", "sex"), False),
        (PAIRS.group_by("r2"), ("r2", "sample", "r1"), False),
        (PAIRS.group_by(["sample", "r2"]), ("sample", "r2", "r1"), False),
        (PAIRS.group_by(lambda r1: r1), (None, "sample", "r1", "r2"), False),
        (PAIRS.unique("r1"), ("sample", "r1", "r2"), False),
        (PAIRS.buffer(2), ("sample", "r1", "r2"), False),
        (PAIRS.fields("a", "b", "c"), ("a", "b", "c"), False),
        (queue([((1, 2),)], "t").fields("a", "b"), ("a", "b"), False),
        (PAIRS.map(lambda r1: (r1, 2)).fields("a", "b"), ("a", "b"), False),
        (PAIRS.branch(x=lambda r1: True).x, ("sample", "r1", "r2"), False),
        (PAIRS.mix(PAIRS), ("sample", "r1", "r2"), False),
        (META.mix(META.map(lambda sample: {"sex": 1, "sample": 2})), ("sample", "sex"), False),
        (PAIRS.mix(META), None, False),
        (PAIRS.view(), ("sample", "r1", "r2"), False),
    ],
    ids=lambda p: getattr(getattr(p, "node", None), "label", None),
)
def test_fields_and_values_are_known_before_the_run(
    channel: Channel, fields: object, is_value: bool
) -> None:
    node = compiled(channel)
    assert (node.fields, node.is_value) == (fields, is_value)


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (PAIRS.join(META, by="smaple"), r"by='smaple' is no field.*sample, r1, r2\n.*\"sample\"\?"),
        (
            META.join(queue([("a", 1)]), by="sample"),
            r"whose 2 fields have no names\n.*\.fields\('sample', 'a'\), or say by=0",
        ),
        (PAIRS.group_by("size"), "by='size' is no field"),
        (PAIRS.combine(META), "both have a field 'sample'"),
        (PAIRS.map(lambda r1: r1).join(META, by=0), r"not known before the run.*\.fields"),
        (PAIRS.fields("a", "b"), r"names 2 fields \(a, b\), but items have 3"),
        (PAIRS.map(lambda a, b: a), "takes a, b; the channel's fields are sample, r1, r2"),
    ],
    ids=str,
)
def test_mistakes_are_found_before_the_run(channel: Channel, words: str) -> None:
    with pytest.raises(WiringError, match=words):
        compiled(channel)


def test_nodes_come_after_their_parents() -> None:
    a = Process("a", [PAIRS], outputs=["x"])
    b = Process("b", [a.collect(), META], outputs=["y"])
    graph = compile_all(None, b=b, a=a)
    for number, node in enumerate(graph.nodes):
        assert node.index == number
        assert all(parent < number for parent in node.parents)
    assert graph.places["a"] < graph.places["b"]


def test_the_order_of_declaration_does_not_matter() -> None:
    a, b = Process("a", [PAIRS], outputs=["x"]), Process("b", [PAIRS], outputs=["y"])

    def shown(**channels: Channel) -> list[tuple[object, ...]]:
        return [(n.op, n.parents, n.name) for n in compile_all(None, **channels).nodes]

    assert shown(a=a, b=b) == shown(b=b, a=a)


def test_a_name_is_looked_up_once_and_late() -> None:
    names = Names()
    readers = [Process(f"p{n}", [names["pairs"]], outputs=["x"]) for n in range(3)]
    names.channels["pairs"] = PAIRS.filter(lambda r1: r1)

    graph = compile_all(names, p0=readers[0], p1=readers[1], p2=readers[2])

    assert len(names.asked) == 1
    assert [node.op for node in graph.nodes].count("filter") == 1
    assert graph.nodes[graph.channels["pairs"]].name == "pairs"


def test_only_what_is_asked_for_is_compiled() -> None:
    a = Process("a", [PAIRS], outputs=["x"])
    b = Process("b", [a], outputs=["y"])
    c = Process("c", [b], outputs=["z"])
    c.sources = [PAIRS.filter(lambda nothing_called_so: True)]  # would be an error

    assert set(compile_graph({"b": b.node}, Names()).places) == {"a", "b"}


def test_a_cycle_is_named() -> None:
    names = Names()
    a = Process("a", [names["c"]], outputs=["x"])
    b = Process("b", [a], outputs=["y"])
    names.channels["c"] = b.map(lambda y: y)

    with pytest.raises(WiringError, match="a cycle: a -> c -> b -> a"):
        compile_all(names, a=a)
    names.channels["c"] = names["c"]
    with pytest.raises(WiringError, match="c is made of itself: a cycle"):
        compile_all(names, c=names["c"])


def test_a_chain_of_a_thousand_processes_compiles() -> None:
    channel: Channel = queue([1], "x")
    for number in range(1000):
        channel = Process(f"p{number}", [channel], outputs=["x"])
    assert len(compile_all(None, last=channel).places) == 1000


def test_queues_are_paired_and_values_stand_beside() -> None:
    first, second, k = queue([1], "a"), queue([2], "b"), value(3, "k")
    graph = compile_all(None, p=Process("p", [first, k, second], outputs=["x"]))

    node = graph.nodes[graph.places["p"]]
    assert [graph.nodes[parent].op for parent in node.parents] == ["pair", "source"]
    assert not node.is_value
    assert node.filling["b"] == FieldPick(2, 0)


def test_a_process_of_values_is_a_value() -> None:
    one = Process("one", [value(1, "k"), PAIRS.collect()], outputs=["x"])
    alone = Process("alone", [], inputs=(), outputs=["x"])
    assert compiled(one).is_value
    assert compiled(alone).is_value
    assert not compiled(Process("many", [PAIRS, one], outputs=["y"])).is_value


def test_inputs_are_inferred_from_fields() -> None:
    node = compiled(Process("p", [PAIRS, value(1, "k")]))
    assert node.decl is not None
    assert node.decl.inputs is not None
    assert [each.name for each in node.decl.inputs] == ["sample", "r1", "r2", "k"]
    assert node.fields == ("p",)


def test_a_called_process_takes_whole_items_and_has_a_place_for_each_call() -> None:
    quant = Process("quant", [], inputs=["pair", "index"], outputs=["x"])
    graph = compile_all(
        None, one=quant(PAIRS, value(1, "i")), two=quant(PAIRS.take(1), value(2, "i"))
    )

    assert set(graph.places) == {"quant", "quant-2"}
    node = graph.nodes[graph.places["quant"]]
    assert node.filling["pair"] == FieldPick(0, None)
    with pytest.raises(WiringError, match=r"takes 2 inputs .* given 1 channels"):
        compiled(quant(PAIRS))
