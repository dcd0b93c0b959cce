"""What must hold for every pipeline, every schedule and every fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from nbcache.model.channel import Graph
from nbcache.model.digest import identity_digest
from nbcache.model.event import Resources, TaskKey
from nbcache.model.task import Outcome, RunStatus
from tests.exploring import examples
from tests.sim.random_pipelines import build, chance, fault_of, recipes
from tests.sim.world import World, tuple_of_inputs

SEEDS = st.integers(0, 2**32)
MANY, FEWER = examples(250), examples(120)


def skips(place: str, inputs: Mapping[str, object]) -> bool:
    return chance("skip", place, sorted(inputs.items())) % 9 == 0


def asks(place: str, inputs: Mapping[str, object]) -> Resources:
    draw = chance("asks", place, sorted(inputs.items()))
    return Resources(cpus=1 + draw % 3, memory=[None, 10, 70][draw // 3 % 3])


def ended_once(world: World) -> None:
    assert not world.running
    tasks = set(world.inputs) | set(world.reports)
    assert {key: len(world.reports.get(key, ())) for key in tasks} == dict.fromkeys(tasks, 1)


def expected_tasks_were_right(world: World) -> None:
    for place in world.graph.places:
        assert world.scheduler.expected(place) == len(world.tasks(place))
        assert sum(world.scheduler.counts(place).values()) == len(world.tasks(place))


@MANY
@given(recipes(), SEEDS, SEEDS)
def test_a_run_does_not_depend_on_its_schedule(recipe: object, one: int, other: int) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]

    straight = World(graph, uniform=True, cpus=2).run()
    worlds = [
        World(graph, seed=seed, cpus=1 + seed % 5, others=seed % 3 / 3).run()
        for seed in (one, other)
    ]

    assert straight.status is RunStatus.SUCCEEDED
    for world in worlds:
        assert world.everything() == straight.everything()
        ended_once(world)
        expected_tasks_were_right(world)


@MANY
@given(recipes(), SEEDS, SEEDS, SEEDS)
def test_a_run_with_failures_does_not_depend_on_its_schedule(
    recipe: object, one: int, other: int, faults: int
) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]
    fault = fault_of(faults, ("continue", "ignore", "retry"), every=2 + faults % 6)

    first = World(graph, seed=one, fault=fault, skip=skips, resources=asks).run()
    second = World(graph, seed=other, fault=fault, skip=skips, resources=asks, cpus=9).run()

    assert first.everything() == second.everything()
    ended_once(first)
    ended_once(second)
    expected_tasks_were_right(first)


@FEWER
@given(recipes(), SEEDS, SEEDS)
def test_a_warm_run_equals_the_cold_one_and_starts_no_attempt(
    recipe: object, one: int, other: int
) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]
    cold = World(graph, seed=one).run()

    warm = World(graph, seed=other, cache=dict(cold.cache)).run()

    assert not warm.started
    assert warm.everything() == cold.everything()


@FEWER
@given(recipes(), SEEDS, SEEDS)
def test_a_run_after_a_failed_one_makes_only_what_is_missing(
    recipe: object, one: int, other: int
) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]
    whole = World(graph, seed=one).run()
    cut = World(graph, seed=one, fault=fault_of(other, ("continue", "stop", "finish"), 3)).run()

    mended = World(graph, seed=other, cache=dict(cut.cache)).run()

    assert mended.everything() == whole.everything()
    assert not {mended.hashes[key] for key in mended.started} & set(cut.cache)


@FEWER
@given(recipes(), SEEDS, st.integers(1, 40), st.sampled_from(["cancel", "stop", "finish"]))
@example(((2,), (("process", 0, 0), ("beside", 1, 1))), 916981, 1, "stop")  # two at once
def test_a_run_that_is_cut_short_ends_every_task_once(
    recipe: object, seed: int, when: int, how: str
) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]
    fault = fault_of(seed, (how, "ignore", "retry"), 4)
    cancel = when if how == "cancel" else None
    if how == "cancel":
        fault = fault_of(seed, ("continue", "retry"), 4)

    world = World(
        graph, seed=seed, fault=fault, cancel_after=cancel, skip=skips, others=seed % 2 / 3
    ).run()

    ended_once(world)
    if how != "cancel":
        stopped = any(r[0].outcome.value == "failed" for r in world.reports.values())
        assert (world.status is RunStatus.FAILED) == stopped


@FEWER
@given(
    recipes(), SEEDS, st.integers(3, 8), st.sampled_from([None, 100]), st.sampled_from([None, 2])
)
def test_resources_are_never_exceeded(
    recipe: object, seed: int, cpus: int, memory: int | None, parallel: int | None
) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]

    world = World(
        graph,
        seed=seed,
        cpus=cpus,
        memory=memory,
        max_parallel=parallel,
        resources=asks,
        others=0.2,
    ).run()

    assert world.status is RunStatus.SUCCEEDED
    assert world.peak_cpus <= cpus
    assert memory is None or world.peak_memory <= memory
    assert parallel is None or world.peak_running <= parallel
    for node in graph.nodes:
        if node.decl is not None and node.decl.directives.max_forks is not None:
            assert world.peak_forks[node.index] <= node.decl.directives.max_forks


@FEWER
@given(recipes(), SEEDS, st.sampled_from([None, 1, 2]), st.booleans())
def test_level_by_level_gives_the_same_and_starts_nothing_early(
    recipe: object, seed: int, parallel: int | None, alike: bool
) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]
    same: dict[str, Any] = {"hash_of": same_hash, "body": same_result} if alike else {}
    flowing = World(graph, seed=seed + 1, **same).run()

    world = World(
        graph, seed=seed, levels=True, max_parallel=parallel, others=seed % 2 / 3, **same
    ).run()

    assert world.everything() == flowing.everything()
    assert parallel is None or world.peak_running <= parallel
    ended_once(world)


@FEWER
@given(recipes(), SEEDS, SEEDS, st.integers(1, 4))
def test_a_run_ends_when_so_many_tasks_have_failed(
    recipe: object, seed: int, faults: int, most: int
) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]
    fault = fault_of(faults, ("continue", "ignore"), every=2 + faults % 3)
    whole = World(graph, seed=seed, cpus=1, fault=fault).run()

    world = World(graph, seed=seed, cpus=1, fault=fault, max_errors=most).run()

    def failed(ended: World) -> int:
        return sum(r[0].outcome is Outcome.FAILED for r in ended.reports.values())

    ended_once(world)
    if failed(whole) < most:
        assert world.everything() == whole.everything()
        assert not world.scheduler.gave_up
    else:
        assert world.status is RunStatus.FAILED
        assert failed(world) >= most
        assert "--max-errors" in world.scheduler.gave_up


@FEWER
@given(recipes(), SEEDS, st.integers(1, 30))
def test_cancelling_fails_nothing(recipe: object, seed: int, when: int) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]

    world = World(
        graph, seed=seed, cpus=1, cancel_after=when, hash_of=same_hash, body=same_result, others=0.2
    ).run()

    outcomes = {reports[0].outcome.value for reports in world.reports.values()}
    assert outcomes <= {"completed", "cached", "aborted"}
    ended_once(world)


def same_hash(place: str, inputs: Mapping[str, object]) -> str:
    return repr([chance(v) % 3 for v in inputs.values()])


def same_result(place: str, inputs: Mapping[str, object]) -> tuple[object, ...]:
    return (f"same {same_hash(place, inputs)}",)


@FEWER
@given(recipes(), SEEDS, SEEDS, st.booleans())
def test_tasks_of_one_hash_run_once(recipe: object, one: int, other: int, faulty: bool) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]

    def fault(place: str, inputs: Mapping[str, object], attempt: int) -> str | None:
        return "continue" if faulty and chance(same_hash(place, inputs)) % 4 == 0 else None

    worlds = [
        World(graph, seed=seed, hash_of=same_hash, body=same_result, fault=fault).run()
        for seed in (one, other)
    ]

    assert worlds[0].everything() == worlds[1].everything()
    for world in worlds:
        hashes = [world.hashes[key] for key in world.started]
        assert len(hashes) == len(set(hashes))
        ended_once(world)


def forgetful(graph: Graph, one: int, other: int) -> World:
    """A run in which some results turn out to be lost although their rows are there."""
    cold = World(graph, seed=one).run()
    kept = {d: cold.cache[d] for key, d in cold.hashes.items() if chance(other, key) % 2}
    levels, others = bool(chance(other, "levels") % 2), chance(other, "others") % 2 / 3
    world = World(graph, seed=other, cache=kept, levels=levels, others=others)

    def lost(reader: TaskKey) -> TaskKey | None:
        values = {str(value) for value in world.inputs[reader].values()}
        for producer, digest in world.hashes.items():
            gone = chance("lost", other, digest) % 4 and digest not in world.remade
            if gone and digest in kept and str(kept[digest][0]) in values:
                del kept[digest]
                world.remade.add(digest)
                return producer
        return None

    world.lost = lost
    return world


@FEWER
@given(recipes(), SEEDS, SEEDS)
def test_results_that_are_gone_are_made_again(recipe: object, one: int, other: int) -> None:
    graph: Graph = build(recipe)  # type: ignore[arg-type]

    world = forgetful(graph, one, other).run()

    assert world.status is RunStatus.SUCCEEDED
    cold = World(graph, seed=one).run()
    for name in graph.channels:
        assert world.items(name) == cold.items(name)


@FEWER
@given(recipes(), SEEDS, SEEDS)
def test_what_is_made_again_with_another_result_reaches_all_below_it(
    recipe: object, one: int, other: int
) -> None:
    """A warm run over what is left finds every task done, from the inputs that it has now."""
    graph: Graph = build(recipe)  # type: ignore[arg-type]
    world = forgetful(graph, one, other)

    def body(place: str, inputs: Mapping[str, object]) -> tuple[object, ...]:
        (text,) = tuple_of_inputs(place, inputs)
        again = identity_digest(same_inputs(place, inputs).encode()) in world.remade
        return (f"{text} again" if again else text,)

    world.body, world.hash_of = body, same_inputs
    world.run()

    if world.status is RunStatus.FAILED:
        assert world.remade  # an operator cannot take other items back: the run says "run again"
        assert world.scheduler.channel_errors
        return
    warm = World(graph, seed=one, cache=dict(world.cache), hash_of=same_inputs).run()
    assert not warm.started
    for name in graph.channels:
        assert warm.items(name) == world.items(name)


def same_inputs(place: str, inputs: Mapping[str, object]) -> str:
    return repr((place, sorted(inputs.items())))
