"""Bring a run's results back from the log, in any kernel, without the notebook's cells.

Handles only: nothing is decoded until it is read, and nothing is ever started. A name that the
notebook holds already is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from nbcache.engine.identity.identify import gathered_digest, input_digest
from nbcache.engine.record import history
from nbcache.engine.record.finding import Found, found_tasks
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.record.results import Decoder, NotKept, Results, SourceFile, TaskResult
from nbcache.engine.record.run_diff import outcome_of
from nbcache.engine.work.harvest import from_ports
from nbcache.model.digest import Digest
from nbcache.model.ids import parse_position
from nbcache.model.row import InputSummary, ListRow, ProcessRecord
from nbcache.model.task import Outcome
from nbcache.model.value import Gathered
from nbcache.store.cache import Cache


@dataclass(frozen=True)
class RestoredRun:
    """A run as the log tells it: `r["fit"]` gives the results of a process.

    `bound` are the names that now hold results, `skipped` those that held something else, with
    the name of its type.
    """

    __nbcache_results__: ClassVar[bool] = True

    summary: RunSummary
    results: Mapping[str, Results]
    bound: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.summary.id

    @property
    def name(self) -> str:
        """The run's name."""
        return self.summary.name

    @property
    def status(self) -> str:
        """How the run stands: succeeded, failed, cancelled, interrupted, running."""
        return self.summary.status

    def __getitem__(self, name: str) -> Results:
        """Return the results of a process in this run."""
        if name not in self.results:
            listed = ", ".join(self.results)
            raise KeyError(f"run {self.name} has no process {name!r}; it has {listed}")
        return self.results[name]

    def __repr__(self) -> str:
        return f"run {self.name} ({self.status}), restored: {', '.join(self.results)}"


def restore(
    cache: Cache,
    namespace: dict[str, object],
    word: str | None = None,
    *,
    notebook: str | None = None,
) -> RestoredRun:
    """Bind the name of each process of a run to its results, where the name is free or holds what
    an earlier restore of this run has bound.

    Raises:
        RunError: there is no such run.
    """
    run = history.find_run(cache, word, notebook=notebook)
    results = results_of(cache, run)
    held = {name: namespace[name] for name in results if name in namespace}
    skipped = {
        name: type(each).__name__
        for name, each in held.items()
        if not (isinstance(each, Results) and each.restored == run.id)
    }
    bound = {name: each for name, each in results.items() if name not in skipped}
    namespace.update(bound)
    return RestoredRun(run, results, tuple(bound), skipped)


def results_of(cache: Cache, run: RunSummary) -> dict[str, Results]:
    """Return the results of each process of a run, as handles."""
    tasks = found_tasks(cache, run)
    values = _Inputs(cache, (task for found in tasks.values() for task in found))
    decoder = Decoder(cache)
    return {
        record.name: Results(
            record.name,
            record.outputs,
            [_task(each, record, values) for each in tasks.get(record.name, ())],
            decoder,
            restored=run.id,
        )
        for record in run.processes
    }


def _task(found: Found, record: ProcessRecord, values: _Inputs) -> TaskResult:
    outcome = Outcome(outcome_of(found))
    where = found.use if found.use is not None else found.made
    inputs = {each.name: values.value(each) for each in found.made.inputs}
    outputs = None
    if outcome.succeeded:
        outputs = _outputs(record.outputs, from_ports(found.made.outputs), inputs)
    return TaskResult(
        parse_position(where.position),
        found.label,
        outcome,
        inputs,
        outputs,
        found.made.error,
        where.hash,
        found.made.id,
    )


class _Inputs:
    """What the inputs of a run's tasks were, as far as the cache has it."""

    def __init__(self, cache: Cache, tasks: Iterable[Found]) -> None:
        self._cache = cache
        self._made = {
            input_digest(port.stored): port.stored for task in tasks for port in task.made.outputs
        }

    @cached_property
    def _lists(self) -> dict[Digest, tuple[InputSummary, ...]]:
        rows = rare_rows(self._cache.log, ListRow, readable=True)
        return {row.hash: row.inputs for row in rows}

    def value(self, each: InputSummary) -> object:
        """Return a scalar, another task's result, a file, or a list of these; else `NotKept`."""
        if each.scalar is not None:
            return json.loads(each.scalar)
        held: object = self._made.get(each.digest)
        if held is None and each.content is not None and Path(each.place or "").is_absolute():
            held = SourceFile(f"the input {each.name}", each.place or "", each.content)
        if held is None and each.content is None and each.place is None:
            held = self._gathered(each)
        return NotKept(f"the input {each.name}") if held is None else held

    def _gathered(self, each: InputSummary) -> Gathered | None:
        members = self._lists.get(each.digest, ())
        if gathered_digest([member.digest for member in members]) != each.digest:
            return None  # values that no task made, and lists in it, are not among its members
        held = Gathered(self.value(member) for member in members)
        return None if any(isinstance(value, NotKept) for value in held) else held


def _outputs(
    names: Sequence[str], kept: Mapping[str, object], inputs: Mapping[str, object]
) -> tuple[object, ...]:
    """Return a task's item: what it made, and the inputs that it passed on."""
    own = [name for name in names if name not in inputs]
    held = [name for name in kept if name not in inputs]
    if len(own) == len(held) == 1:  # made under the name of a process that was renamed since
        kept = {**kept, own[0]: kept[held[0]]}
    return tuple(
        kept[name] if name in kept else inputs.get(name, NotKept(f"the output {name}"))
        for name in names
    )
