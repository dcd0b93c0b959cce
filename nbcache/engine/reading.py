"""Read the results of a process, or the items of a channel; run first what is missing."""

from __future__ import annotations

from nbcache.engine.declared.process import Readable
from nbcache.engine.host import Host
from nbcache.engine.record.results import Results, TaskResult, channel_items
from nbcache.engine.running.dry import DryRun, dry_run
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.run import Run
from nbcache.errors import NotRunError
from nbcache.model.digest import Digest
from nbcache.model.task import Outcome


def read(session: Host, held: Readable) -> Results:
    """Return what a process or channel of the notebook holds now.

    A dry run finds what is there; only where something is missing a run follows, with the front's
    live view. A task that was ignored in the last run is not tried again.

    Raises:
        NotRunError: no name is bound to it. RunFailed: a task that had to run failed.
    """
    name = _name_of(session, held)
    prepared = session.prepare([name])
    found = dry_run(prepared, ignored=_ignored(session.last_run))
    if found.is_complete():
        index = prepared.graph.places.get(name)
        if index is not None:
            return _results_of(prepared, found, name, index)
        index = prepared.graph.channels[name]
        fields = prepared.graph.nodes[index].fields
        return channel_items(name, fields, found.elements(index), prepared.decoder)
    run = session.start([name])
    session.waiter(run)
    run.raise_for_status()
    return run[name]


def _ignored(run: Run | None) -> set[Digest]:
    """Return the hashes of the tasks that a run ignored, once it has ended."""
    if run is None or not run.done:
        return set()
    ignored = [each for each in run.tasks.values() if each.outcome is Outcome.IGNORED]
    return {Digest(each.hash) for each in ignored if each.hash}


def _name_of(session: Host, held: Readable) -> str:
    for name, bound in session.namespace.items():
        if bound is held and not name.startswith("_"):
            return name
    raise NotRunError(f"{held.name!r} is no longer bound to a name, so it is not in the pipeline")


def _results_of(prepared: Prepared, found: DryRun, name: str, index: int) -> Results:
    tasks = [
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
        if task[0] == index
    ]
    fields = [output.name for output in prepared.places[index].outputs]
    return Results(name, fields, tasks, prepared.decoder)
