"""What a view shows: a run of this kernel, or one that the log tells of. Both answer alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from nbcache.engine.record import history
from nbcache.engine.record.finding import label_of
from nbcache.engine.record.history import RunDetail
from nbcache.engine.running.run import Run
from nbcache.engine.session import Session
from nbcache.model.row import AttemptRow, ProcessRecord, Record
from nbcache.model.view import FailureView, PlaceProgress, RunProgress
from nbcache.notebook import progress as pictures
from nbcache.notebook.widget.scene import Scene, scene_of
from nbcache.plan.dataflow.outline import Edge, Outline, outline_from
from nbcache.store.cache import Cache


class Source(Protocol):
    """A run to look at."""

    @property
    def run(self) -> Run | None:
        """The run, where it is one of this kernel."""

    @property
    def id(self) -> str: ...
    @property
    def scene(self) -> Scene: ...
    def progress(self) -> RunProgress: ...


class LiveRun:
    """A run of this kernel, going or ended."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    @property
    def id(self) -> str:
        return self._run.id

    @cached_property
    def scene(self) -> Scene:
        return scene_of(self._run.outline)

    def progress(self) -> RunProgress:
        return self._run.progress()


class StoredRun:
    """A run of the log; one that goes on elsewhere is read again each time."""

    run = None

    def __init__(self, cache: Cache, run_id: str) -> None:
        self._cache, self.id = cache, run_id
        self._detail: RunDetail = history.show_run(cache, run_id)

    @cached_property
    def scene(self) -> Scene:
        run = self._detail.run
        return scene_of(outline_of_records(run.processes, run.outline))

    def progress(self) -> RunProgress:
        if self._detail.run.status not in pictures.ENDED:
            self._detail = history.show_run(self._cache, self.id)
        run = self._detail.run
        over = run.status in pictures.ENDED  # until then the log has only what has ended
        return RunProgress(
            run=run.id,
            name=run.name,
            status=run.status,
            elapsed_s=run.elapsed_s,
            left_s=None,
            saved_s=run.saved_s or 0.0,
            places=tuple(
                PlaceProgress(
                    name=each.name,
                    upstream=each.upstream,
                    counts=each.counts,
                    expected=sum(each.counts.values()) if over else None,
                    equal=each.equal,
                    reason=each.reason,
                )
                for each in self._detail.processes
            ),
            failures=tuple(map(_failure, self._detail.failures)),
            error=run.error or "",
            own=run.own,
            items={int(node): count for node, count in run.items.items()},
        )


def source_of(session: Session, run_id: str) -> Source:
    """Return a run to look at: the kernel's own, or what the log tells of it."""
    last = session.last_run
    if last is not None and last.id == run_id:
        return LiveRun(last)
    return StoredRun(session.cache, run_id)


def outline_of_records(processes: Sequence[ProcessRecord], kept: Record) -> Outline:
    """Return what a picture of a stored run shows; of a run from before the log kept `RunRow`'s
    outline, the processes and what they read from one another."""
    names = tuple(each.name for each in processes)
    if kept:
        return outline_from(kept, names)
    edges = [
        Edge(tail, each.name, -1, "") for each in processes for tail in each.upstream
        if tail in names
    ]  # fmt: skip
    return Outline(names, (), tuple(edges))


def _failure(row: AttemptRow) -> FailureView:
    return FailureView(
        task=label_of(row),
        process=row.process,
        error=row.error or "",
        traceback=row.traceback or "",
        workdir=row.workdir,
        position=row.position,
    )
