"""Scheduler CPU per task: a chain of two processes over 5,000 items, all cached and all executed.

Budget: 12 us per cached task, 25 us per executed one. Events come in batches of 100, as a driver
gives them; their making is not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from nbcache.model import event as ev
from nbcache.model.channel import Graph
from nbcache.model.command import Command, Decide, End, Load, Start
from nbcache.model.digest import Digest
from nbcache.model.event import Event, Resources
from nbcache.model.task import RunStatus
from nbcache.plan.dataflow.scheduler import Scheduler
from tests.bench.figure import Figure, main
from tests.sim.pipelines import Process, compile_all, queue

ITEMS = 5_000
BATCH = 100
RESOURCES = Resources()


def chain() -> Graph:
    """A queue of items, a process, and a second process below it."""
    items = queue(range(ITEMS), "n")
    first = Process("first", [items], outputs=["x"])
    return compile_all(None, second=Process("second", [first], outputs=["y"]))


def cached(graph: Graph, command: Command) -> list[Event]:
    """A driver for which everything is a hit."""
    if type(command) is Decide:
        return [ev.Hit(command.task, Digest(repr(command.task)), (1,))]
    return loaded(graph, command)


def executed(graph: Graph, command: Command) -> list[Event]:
    """A driver for which everything runs."""
    if type(command) is Decide:
        return [ev.Missed(command.task, Digest(repr(command.task)), RESOURCES)]
    if type(command) is Start:
        return [ev.AttemptStarted(command.task), ev.AttemptSucceeded(command.task, (1,))]
    return loaded(graph, command)


def loaded(graph: Graph, command: Command) -> list[Event]:
    """Answer Load; nothing else needs an answer."""
    if type(command) is Load:
        load = graph.nodes[command.node].load
        assert load is not None
        return [ev.SourceLoaded(command.node, load())]
    return []


def seconds(answer: Callable[[Graph, Command], list[Event]], cpus: int = 4) -> float:
    """Return the CPU seconds inside the scheduler for one run."""
    graph = chain()
    spent = 0.0
    began = time.process_time()
    scheduler = Scheduler(graph, cpus=cpus, memory=None)
    commands = scheduler.start()
    spent += time.process_time() - began
    events: list[Event] = []
    while scheduler.status is RunStatus.RUNNING:
        for command in commands:
            events += answer(graph, command)
        batch, events = events[:BATCH], events[BATCH:]
        began = time.process_time()
        commands = scheduler.handle_many(batch)
        spent += time.process_time() - began
    assert any(type(command) is End for command in commands)
    assert scheduler.status is RunStatus.SUCCEEDED
    return spent


def measure(quick: bool) -> Iterable[Figure]:
    """Return microseconds per task, best of five (of two if `quick`)."""
    for name, answer, budget in (("cached", cached, 12.0), ("executed", executed, 25.0)):
        best = min(seconds(answer) for _ in range(2 if quick else 5))
        yield Figure(
            name=f"scheduler, per {name} task, us", value=best / (2 * ITEMS) * 1e6, budget=budget
        )


if __name__ == "__main__":
    main(measure)
