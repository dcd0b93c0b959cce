"""Read a process or a channel through its name: what is there at once, then what a run makes.

A read is a dry run first. If that knows all that is asked for, nothing runs. Else a run of this
kernel that is going may be making it: it is waited for, since two runs take turns anyhow. What is
missing then runs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from nbcache.engine.declared.process import Readable
from nbcache.engine.host import Host
from nbcache.engine.record.results import Elements, Results, TaskResult, channel_items
from nbcache.engine.running.dry import DryRun, dry_run
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.run import Run
from nbcache.errors import NotRunError
from nbcache.model.channel import Graph, Item
from nbcache.model.digest import Digest
from nbcache.model.task import Outcome, RunStatus
from nbcache.model.value import HoleCause

GOING = (RunStatus.CREATED, RunStatus.RUNNING, RunStatus.RESUMING)
PAUSE_S = 0.1
SAY_AFTER_S = 1.0  # a shorter wait needs no word
_ITEMWISE = frozenset(
    "source named process fields map view subscribe filter flat_map branch mix pair combine "
    "collect".split()
)
SHARE = 10  # of the time that a look takes, before the next one


class ReadingHost(Host, Protocol):
    """What a read asks of the session that holds it."""

    teller: Callable[[str], None]


def read(host: ReadingHost, held: Readable, first: int | None = None) -> Results:
    """Return a process's results, or a channel's items; runs what is missing, in the front's view.

    first: how many from the start are wanted; None: all. A task that was ignored in the last run is
    not tried again; nor, for a process that looks into failures, is one of which only those matter
    and that failed, or that was left when the run gave up.

    Raises:
        RunFailed: a task that had to run failed.
        RunError: the run that was making it was cancelled.
        NotRunError: it is no longer bound to a name.
    """
    name = _name_of(host, held)
    results = _look(host, name, first)
    going = host.last_run
    if results is None and going is not None and going.status in GOING:
        results = _wait_for(going, host, name, first)
    if results is not None:
        return results
    run = host.start([name])
    host.waiter(run)
    run.raise_for_status()
    return run[name]


def _name_of(host: ReadingHost, held: Readable) -> str:
    for name, bound in host.namespace.items():
        if bound is held and not name.startswith("_"):
            return name
    raise NotRunError(f"{held.name!r} is no longer bound to a name, so it is not in the pipeline")


def _wait_for(run: Run, host: ReadingHost, name: str, first: int | None) -> Results | None:
    """Wait for a run that is going until it has made what is asked for; None: it has not.

    Its status tells whether it goes, not `done`: a hook that reads is a part of the run's end.
    """
    began = looked = time.monotonic()
    pause, ended, is_said = PAUSE_S, len(run.tasks), False
    while run.status in GOING:
        run.wait(PAUSE_S)
        now = time.monotonic()
        if not is_said and now - began > SAY_AFTER_S:
            is_said = True
            host.teller(f"{name} waits for run {run.name}, which is going")
        if len(run.tasks) == ended or now - looked < pause:
            continue
        ended = len(run.tasks)
        results = _look(host, name, first)
        if results is not None:
            return results
        looked = time.monotonic()
        pause = max(PAUSE_S, SHARE * (looked - now))
    results = _look(host, name, first)
    was_making = name in run.graph.places or name in run.graph.channels
    if results is None and was_making and run.status is RunStatus.CANCELLED:
        run.raise_for_status()
    return results


def _look(host: ReadingHost, name: str, first: int | None) -> Results | None:
    """Return what is asked for if nothing has to run for it."""
    prepared = host.prepare([name])
    place = prepared.graph.places.get(name)
    index = prepared.graph.channels[name] if place is None else place
    ignored, failed = _ended(host.last_run, _looked_into(prepared.graph, index))
    found = dry_run(prepared, ignored=ignored, failed=failed)
    elements: Elements = found.elements(index)
    if not found.is_complete():
        if first is None or found.channel_error or not _is_itemwise(prepared):
            return None
        elements = _known(elements)
        if sum(not isinstance(slot, HoleCause) for _, slot in elements) < first:
            return None
    if place is None:
        fields = prepared.graph.nodes[index].fields
        return channel_items(name, fields, elements, prepared.decoder)
    return _results(prepared, found, name, elements)


def _is_itemwise(prepared: Prepared) -> bool:
    """Whether an item stays where it is, whatever becomes of the others.

    What `take`, `first` or `unique` gives is not known while one before it may still be made.
    """
    return all(node.op in _ITEMWISE and not node.by for node in prepared.graph.nodes)


def _ended(run: Run | None, looked_into: set[str]) -> tuple[set[Digest], dict[str, Item]]:
    """Return what became of tasks in a run that has ended, as `dry_run` takes it: which are left
    out, and what is known of those that failed.

    looked_into: the processes whose failures, and what was left when the run gave up, count.
    """
    ignored: set[Digest] = set()
    failed: dict[str, Item] = {}
    if run is None or not run.done:
        return ignored, failed
    places = {run.graph.places[name] for name in looked_into if name in run.graph.places}
    for task, each in run.tasks.items():
        is_left = each.outcome is Outcome.ABORTED and run.status is RunStatus.FAILED
        if each.hash and (each.outcome is Outcome.IGNORED or (is_left and task[0] in places)):
            ignored.add(Digest(each.hash))
        elif task in run.looked_into and task[0] in places:
            failed[each.hash or each.label] = run.looked_into[task]
    return ignored, failed


def _looked_into(graph: Graph, index: int) -> set[str]:
    """Return the processes of which a node needs nothing but what failed."""
    needed: set[int] = set()
    above = [index]
    while above:
        node = graph.nodes[above.pop()]
        if node.index not in needed:
            needed.add(node.index)
            above.extend(() if node.op == "failures" else node.parents)
    return {name for name, place in graph.places.items() if place not in needed}


def _known(elements: Elements) -> Elements:
    """Return the elements before the first for which something would have to run."""
    unknown = (Outcome.FAILED.value, Outcome.ABORTED.value)

    def is_known(element: tuple[object, object]) -> bool:
        slot = element[1]
        return not isinstance(slot, HoleCause) or slot.outcome not in unknown

    return list(itertools.takewhile(is_known, elements))


def _results(prepared: Prepared, found: DryRun, name: str, elements: Elements) -> Results:
    index = prepared.graph.places[name]
    positions = {position for position, _ in elements}
    tasks: Sequence[TaskResult] = [
        TaskResult(
            task[1],
            decision.label,
            found.outcomes.get(task, Outcome.CACHED),
            decision.values(),
            decision.outputs,
            None,
            decision.hash or "",
        )
        for task, decision in found.decisions.items()
        if task[0] == index and task[1] in positions
    ]
    fields = [output.name for output in prepared.places[index].outputs]
    return Results(name, fields, tasks, prepared.decoder)
