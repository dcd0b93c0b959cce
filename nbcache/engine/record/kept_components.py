"""The components of a task's hash as the log keeps them: with its run, in its row, in blobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from nbcache.engine.record.history import RunSummary
from nbcache.errors import StoreError
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.row import AttemptRow, UseRow
from nbcache.plan.identity.explain import Difference
from nbcache.plan.identity.fingerprint import component, of_tasks
from nbcache.store.cache import Cache

_BLOB = re.compile(r"b3:[0-9a-f]{64}")


def components_of(row: AttemptRow, runs: Mapping[str, RunSummary]) -> tuple[Component, ...]:
    """Return all components of an attempt's hash: those of its process in its run, and its own.

    The row of a task that was not begun has only its inputs.
    """
    own = row.components or [
        component("input", each.name, each.digest, each.summary) for each in row.inputs
    ]
    return (*shared_components(row, runs), *own)


def shared_components(
    row: AttemptRow | UseRow, runs: Mapping[str, RunSummary]
) -> tuple[Component, ...]:
    """Return the components that all tasks of a process in a run have; none if it is not known."""
    return of_tasks(recorded_components(row, runs))


def recorded_components(
    row: AttemptRow | UseRow, runs: Mapping[str, RunSummary]
) -> tuple[Component, ...]:
    """Return what is recorded of a process in a run: also what its several scripts are."""
    run = runs.get(row.run)
    for record in run.processes_of(row.session) if run is not None else ():
        if record.name == row.process:
            return record.components
    return ()


def with_texts(cache: Cache, each: Difference) -> Difference:
    """Return a difference with the evidence of both sides fetched."""
    return Difference(each.change, with_text(cache, each.old), with_text(cache, each.new))


def with_text(cache: Cache, component: Component | None) -> Component | None:
    """Return the component with its evidence fetched, where that lies in a blob."""
    if component is None or component.evidence is None:
        return component
    if not _BLOB.fullmatch(component.evidence):
        return component
    try:
        text = cache.blobs.read(Digest(component.evidence)).decode("utf-8", "replace")
    except StoreError:
        return replace(component, evidence=None)
    return replace(component, evidence=text)
