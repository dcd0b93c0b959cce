"""Which results only tasks of other processes read, so that to know them is enough for a hit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbcache.model.process import Dynamic
from nbcache.plan.dataflow.channel import Channel
from nbcache.plan.dataflow.handed_on import handed_on
from tests.sim.pipelines import Process, compile_all, queue

Known = dict[str, frozenset[str]]


def known(*wanted: str, **channels: Channel) -> Known:
    """Return what is handed on of some named processes, with what is looked at; the process
    `through` passes on `m`."""
    graph = compile_all(None, **channels)
    passed = {index: frozenset({"m"}) for name, index in graph.places.items() if name == "through"}
    found = handed_on(graph, wanted, passed)
    return {graph.nodes[index].name: names for index, names in found.items()}


def make(**directives: Any) -> Process:
    return Process("make", [queue(range(2), "n")], outputs=["m", "k"], **directives)


def use(source: Channel, **directives: Any) -> Process:
    return Process("use", [source], outputs=["u"], **directives)


def test_a_result_that_tasks_alone_read_is_handed_on_and_a_last_one_is_not() -> None:
    made = make()
    assert known(make=made, use=use(made)) == {"make": frozenset()}
    assert known("make", make=made, use=use(made)) == {}
    assert known("use", make=made, use=use(made)) == {"make": frozenset()}
    other = Process("other", [made.filter(lambda m: m)], outputs=["o"])
    assert known(make=made, use=use(made), other=other) == {}


@pytest.mark.parametrize(
    ("through", "is_handed_on"),
    [
        (lambda made: made.collect(), True),
        (lambda made: made.first(), True),
        (lambda made: made.buffer(2), True),
        (lambda made: made.mix(queue([(1, 2)], "m", "k")), True),
        (lambda made: made.combine(queue(range(2), "x")), True),
        (lambda made: made.combine(queue([(1, 1)], "m", "x"), by="m"), False),
        (lambda made: made.map(lambda m: {"m": m}), False),
        (lambda made: made.unique("m"), False),
        (lambda made: made.group_by("m"), False),
        (lambda made: made.join(queue([(1, 1)], "m", "x"), by="m"), False),
        (lambda made: made.view(), False),
    ],
)
def test_operators_that_look_at_items_need_them(
    through: Callable[[Channel], Channel], is_handed_on: bool
) -> None:
    made = make()
    assert bool(known(make=made, use=use(through(made)))) is is_handed_on


def test_what_headers_below_look_at_has_to_be_there() -> None:
    made = make()
    header: dict[str, Any]
    for header in ({"tag": "{k}"}, {"when": Dynamic("k > 1")}, {"memory": Dynamic("k * 1GB")}):
        assert known(make=made, use=use(made, **header)) == {"make": frozenset({"k"})}
        below = use(made.collect(), **header)
        assert known(make=made, use=below) == {"make": frozenset({"k"})}
    two = use(made), Process("other", [made], outputs=["o"], tag="{m}")
    assert known(make=made, use=two[0], other=two[1]) == {"make": frozenset({"m"})}


def test_what_a_reader_passes_on_has_to_be_there_where_somebody_looks_at_it() -> None:
    made = make()
    through = Process("through", [made], outputs=["m", "u"])
    assert known(make=made, through=through) == {"make": frozenset({"m"})}
    changed = Process("changed", [made], outputs=["m", "u"])
    assert known(make=made, changed=changed) == {"make": frozenset()}
    plain = Process("plain", [through], outputs=["p"])
    nobody: Known = {"make": frozenset(), "through": frozenset()}
    assert known(make=made, through=through, plain=plain) == nobody
    tagged = Process("tagged", [through], outputs=["t"], tag="{m}")
    asked = dict.fromkeys(("make", "through"), frozenset({"m"}))
    assert known(make=made, through=through, tagged=tagged) == asked
    assert known("through", make=made, through=through, tagged=tagged) == {"make": frozenset({"m"})}


def test_what_is_published_or_stored_is_wanted_itself() -> None:
    header: dict[str, Any]
    for header in ({"store": "there"}, {"publish": ("there",)}):
        made = make(**header)
        assert known(make=made, use=use(made)) == {}
