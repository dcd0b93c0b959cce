"""Random pipelines for property tests: any mix of operators and processes that cannot fail to wire.

Every channel of the pool has one field with a name of its own, so that all can be brought
together. What functions do depends on their argument only (crc32 of its repr).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from zlib import crc32

from hypothesis import strategies as st

from nbcache.model.channel import Graph
from nbcache.plan.dataflow.channel import Channel
from tests.sim.pipelines import Process, compile_all, queue, value


def chance(*what: object) -> int:
    """A number that looks random and depends on the arguments only."""
    return crc32(repr(what).encode())


Step = tuple[str, int, int]

OPS: dict[str, Callable[[Channel, Channel, str], Channel]] = {
    "process": lambda a, b, name: Process(f"p_{name}", [a], outputs=[name]),
    "limited": lambda a, b, name: Process(f"p_{name}", [a], outputs=[name], max_forks=1),
    "beside": lambda a, b, name: Process(
        f"p_{name}", [a, b.collect().fields(f"b_{name}")], outputs=[name]
    ),
    "paired": lambda a, b, name: Process(
        f"p_{name}", [a, Process(f"q_{name}", [a], outputs=[f"q_{name}"])], outputs=[name]
    ),
    "paired_filtered": lambda a, b, name: Process(
        f"p_{name}",
        [
            a.filter(lambda x: chance(x) % 3).until(lambda x: False).fields(f"a_{name}"),
            a.filter(lambda x: chance(x) % 3).map(lambda x: x).fields(f"b_{name}"),
            Process(f"q_{name}", [a.filter(lambda x: chance(x) % 3)], outputs=[f"q_{name}"]),
        ],
        outputs=[name],
    ),
    "map": lambda a, b, name: a.map(lambda x: f"m{chance(x) % 50}"),
    "filter": lambda a, b, name: a.filter(lambda x: chance(x) % 3),
    "flat_map": lambda a, b, name: a.flat_map(
        lambda x: [f"f{chance(x, i) % 20}" for i in range(chance(x) % 3)]
    ),
    "collect": lambda a, b, name: a.collect().map(repr),
    "first": lambda a, b, name: a.first(),
    "take": lambda a, b, name: a.take(2),
    "until": lambda a, b, name: a.until(lambda x: chance("until", x) % 4 == 0),
    "buffer": lambda a, b, name: a.buffer(2).map(repr),
    "buffer_whole": lambda a, b, name: a.buffer(2, remainder=False).map(repr),
    "unique": lambda a, b, name: a.unique(lambda x: chance(x) % 3),
    "reduce": lambda a, b, name: a.reduce(lambda s, x: f"r{chance(s, x) % 1000}", "start"),
    "fold": lambda a, b, name: a.reduce(lambda s, x: f"r{chance(s, x) % 1000}"),
    "group_by": lambda a, b, name: a.group_by(lambda x: chance(x) % 3).map(repr),
    "sized": lambda a, b, name: (
        a.unique()
        .flat_map(lambda x: [(x, 1), (x, 2)])
        .fields("k", "n")
        .group_by("k", size=2)
        .map(repr)
    ),
    "mix": lambda a, b, name: a.mix(b.take(3)),
    "combine": lambda a, b, name: a.take(3).combine(b.take(3).fields("other")).map(repr),
    "combine_value": lambda a, b, name: a.combine(b.first().fields("other")).map(repr),
    "combine_by": lambda a, b, name: (
        _keyed(a.take(4)).combine(_keyed(b.take(5)).fields("key", "other"), by="key").map(repr)
    ),
    "join": lambda a, b, name: _once(a).join(_once(b).fields("key", "other"), by="key").map(repr),
    "join_all": lambda a, b, name: (
        _once(a).join(_once(b).fields("key", "other"), by="key", remainder=True).map(repr)
    ),
    "branch": lambda a, b, name: a.branch(left=lambda x: chance(x) % 2, right=lambda x: True).right,
    "branch_mixed": lambda a, b, name: _both(
        a.branch(lambda x: ["one", "two", None][chance(x) % 3])
    ),
}

CHOICES = [*sorted(OPS), *["process", "beside"] * 6]  # processes come more often


def _keyed(channel: Channel) -> Channel:
    return channel.map(lambda x: (chance(x) % 3, x)).fields("key", "item")


def _once(channel: Channel) -> Channel:
    return _keyed(channel).unique("key")


def _both(branches: object) -> Channel:
    return branches.two.mix(branches.one)  # type: ignore[attr-defined,no-any-return]


@st.composite
def recipes(draw: st.DrawFn, longest: int = 12) -> tuple[tuple[int, ...], tuple[Step, ...]]:
    """The sizes of source queues and the steps that build on what is there."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from(CHOICES), st.integers(0, 99), st.integers(0, 99)),
            min_size=1,
            max_size=longest,
        )
    )
    return tuple(sizes), tuple(steps)


def build(recipe: tuple[tuple[int, ...], tuple[Step, ...]]) -> Graph:
    """The graph of a recipe; every channel of it is a named target."""
    sizes, steps = recipe
    pool: list[Channel] = [value("v", "c_value")]
    pool += [queue(range(size), f"c_s{number}") for number, size in enumerate(sizes)]
    for number, (op, first, second) in enumerate(steps):
        made = OPS[op](pool[-1 - first % len(pool)], pool[second % len(pool)], f"c{number}")
        pool.append(made if isinstance(made, Process) else made.fields(f"c{number}"))
    return compile_all(None, **{f"t{number:02}": made for number, made in enumerate(pool)})


def fault_of(seed: int, actions: tuple[str, ...], every: int = 5) -> Callable[..., str | None]:
    """A fault that depends on the task only: about one in `every` fails."""

    def fault(place: str, inputs: Mapping[str, object], attempt: int) -> str | None:
        draw = chance(seed, place, sorted(inputs.items()))
        if draw % every:
            return None
        action = actions[draw // every % len(actions)]
        if action == "retry":
            return "retry" if attempt <= 2 else None
        return action

    return fault
