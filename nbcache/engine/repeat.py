"""Run tasks again whose results are kept, and say which outputs do not come out the same.

The kept results stay what they are: the repeated attempts leave no rows, and what they kept is
deleted again. A difference means that the hash does not see something that counts: randomness
without a seed, the time, the order of threads, a source that nobody declared.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nbcache.engine.performing import machine
from nbcache.engine.record.data_diff import DataDiff, compare_stored
from nbcache.engine.record.results import Decoder
from nbcache.engine.running import loop
from nbcache.engine.running.decision import Decision
from nbcache.engine.running.dry import dry_run
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.specs import Packer, attempt_spec, process_spec
from nbcache.engine.session import Session
from nbcache.engine.spec import AttemptReport
from nbcache.engine.upkeep.cleaning import live_runs, run_facts
from nbcache.errors import NotRunError, UsageError, command
from nbcache.model.channel import Item
from nbcache.model.task import Outcome
from nbcache.model.value import Gathered, Stored
from nbcache.store.cache import Cache
from nbcache.store.collect import collect
from nbcache.store.files import new_ulid

SAMPLE = 3  # tasks of a process, unless more are asked for


@dataclass(slots=True)
class OutputRepeat:
    """One output of a process: in how many tasks it differed, and the first difference."""

    name: str
    different: int = 0
    task: str = ""
    data: DataDiff | None = None


@dataclass(slots=True)
class ProcessRepeat:
    """One process: how many of its kept tasks were run again, and what came of it.

    left: its tasks of which no result is kept, as far as they are known: a run would make them.
    """

    process: str
    tasks: int
    kept: int
    left: int = 0
    outputs: dict[str, OutputRepeat] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)  # task, error

    @property
    def good(self) -> bool:
        """Whether every output came out the same."""
        return not self.failed and not any(each.different for each in self.outputs.values())

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "process": self.process,
            "tasks": self.tasks,
            "kept": self.kept,
            "left": self.left,
            "reproducible": self.good if self.tasks else None,
            "outputs": [
                {
                    "name": each.name,
                    "different": each.different,
                    "task": each.task or None,
                    "data": each.data.record() if each.data is not None else None,
                }
                for each in self.outputs.values()
            ],
            "failed": [{"task": task, "error": error} for task, error in self.failed],
        }


def repeat(
    session: Session, targets: Sequence[str] = (), *, sample: int | None = SAMPLE
) -> list[ProcessRepeat]:
    """Run kept tasks again and compare; blocks until all have ended.

    targets: these processes (all where none is named); sample: at most so many tasks of each,
    spread over its items; None: all.

    Raises:
        UsageError: a run is going on. NotRunError: no result is kept.
    """
    for run in session.performer.going:
        raise UsageError(f"run {run.name} is still going: wait for it first")
    prepared = session.prepare(targets)
    prepared.decider.need_results()
    by_process: dict[str, list[Decision]] = {}
    dry = dry_run(prepared)
    asked = [each for each in prepared.graph.places if not targets or each in targets]
    left = Counter({name: dry.unknown[name] for name in asked})
    for task, decision in sorted(dry.decisions.items()):
        name = decision.place.name
        if name not in left or dry.outcomes.get(task) is Outcome.SKIPPED:
            continue
        if decision.entry is not None and decision.outputs is not None:
            by_process.setdefault(name, []).append(decision)
        else:
            left[name] += 1
    if not by_process:
        raise NotRunError(f"no result of these processes is kept: {command('run')} first")
    chosen = {name: _spread(found, sample) for name, found in by_process.items()}
    cache = session.cache
    with cache.activity.working(recorded=False):
        tasks = [each for found in chosen.values() for each in found]
        future = loop.submit(_attempt_all(session, prepared, tasks))
        try:
            reports = future.result()
        except BaseException:  # an interrupt: nobody waits for the attempts any more
            future.cancel()
            raise
        found = [
            _compare(cache, prepared, name, tasks, len(by_process[name]), reports)
            for name, tasks in chosen.items()
        ]
    found += [ProcessRepeat(name, 0, 0) for name in left if left[name] and name not in chosen]
    for each in found:
        each.left = left[each.process]
    collect(cache, live_runs(run_facts(cache)))
    return found


def _spread(found: Sequence[Decision], sample: int | None) -> list[Decision]:
    """Return `sample` of them, from the first to the last."""
    if sample is None or len(found) <= sample:
        return list(found)
    if sample == 1:
        return [found[0]]
    step = (len(found) - 1) / (sample - 1)
    return [found[round(number * step)] for number in range(sample)]


async def _attempt_all(
    session: Session, prepared: Prepared, decisions: Sequence[Decision]
) -> dict[int, AttemptReport]:
    """Run an attempt of each; returns the reports by the decision's id."""
    executor = session.performer.executor()
    key = f"repeat-{new_ulid()}"
    scratch = session.cache.tmp / f"run-{key}"
    packer = Packer(scratch)
    at_once = asyncio.Semaphore(machine()[0])
    going: set[str] = set()
    places = {decision.place.key: decision.place for decision in decisions}
    for decision in decisions:
        await asyncio.to_thread(prepared.decider.fetch, decision)
    await executor.start()
    specs = {
        name: process_spec(place, session.cache, session.folder, f"{key}/{name}", scratch)
        for name, place in places.items()
    }
    for spec in specs.values():
        executor.prepare(spec)

    async def attempt(decision: Decision) -> AttemptReport:
        async with at_once:
            resources = prepared.decider.evaluator.resources(decision, 1)
            process = specs[decision.place.key]
            spec = attempt_spec(decision, process, 1, resources, None, packer)
            going.add(spec.id)
            report = await executor.submit(spec)
            going.discard(spec.id)
            return report

    try:
        reports = await asyncio.gather(*map(attempt, decisions))
        return {id(each): report for each, report in zip(decisions, reports, strict=True)}
    finally:
        for each in going:
            executor.kill(each, "the check was interrupted")
        for name in places:
            executor.forget(f"{key}/{name}")
        shutil.rmtree(scratch, ignore_errors=True)


def _compare(
    cache: Cache,
    prepared: Prepared,
    name: str,
    tasks: Sequence[Decision],
    kept: int,
    reports: Mapping[int, AttemptReport],
) -> ProcessRepeat:
    place = tasks[0].place
    outputs = {each.name: OutputRepeat(each.name) for each in place.outputs}
    found = ProcessRepeat(name, len(tasks), kept, outputs=outputs)
    for decision in tasks:
        report = reports[id(decision)]
        again: Item | None = None
        if report.outcome == "completed":
            again = prepared.decider.item(decision, report.outputs)
        if again is None:
            error = report.error or decision.reason or report.outcome
            found.failed.append((decision.label, error.partition("\n")[0]))
            continue
        for output, old, new in zip(place.outputs, decision.outputs or (), again, strict=True):
            if _digests(old) != _digests(new):
                _note(cache, prepared.decoder, found.outputs[output.name], decision, old, new)
    return found


def _note(
    cache: Cache,
    decoder: Decoder,
    output: OutputRepeat,
    decision: Decision,
    old: object,
    new: object,
) -> None:
    output.different += 1
    if output.data is not None:
        return
    output.task = decision.label
    for before, after in zip(_leaves(old), _leaves(new), strict=False):
        if before.digest != after.digest:
            output.data = compare_stored(cache, decoder, before, after, of=decision.label)
            return
    counts = f"{len(_leaves(old))} → {len(_leaves(new))} files"
    output.data = DataDiff("members", counts)


def _leaves(value: object) -> list[Stored]:
    if isinstance(value, Stored):
        return [value]
    if isinstance(value, Gathered):
        return [each for member in value for each in _leaves(member)]
    return []


def _digests(value: object) -> list[tuple[str, str | None]]:
    return [(each.digest, each.name) for each in _leaves(value)]
