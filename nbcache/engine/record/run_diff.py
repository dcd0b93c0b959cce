"""Two runs compared, as it is told: by a page, by text, and by `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nbcache.engine.record.data_diff import DataDiff
from nbcache.engine.record.explanations import difference_record
from nbcache.engine.record.finding import Found
from nbcache.engine.record.history import RunSummary
from nbcache.model.row import InputSummary
from nbcache.model.value import Stored
from nbcache.plan.identity.explain import Difference

ResultState = Literal["equal", "different", "missing"]
Given = Stored | InputSummary


@dataclass(frozen=True, slots=True)
class OutputDiff:
    """One output of a task in both runs: a result, or the input that is passed on as it came.

    `missing`: one side has none.
    """

    name: str
    state: ResultState
    before: Given | None
    after: Given | None
    data: DataDiff | None = None

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        found: dict[str, object] = {
            "name": self.name,
            "state": self.state,
            "before": _given_record(self.before),
            "after": _given_record(self.after),
        }
        if self.data is not None:
            found["data"] = self.data.record()
        return found


@dataclass(frozen=True, slots=True)
class TaskDiff:
    """One task as the two runs saw it."""

    before: Found
    after: Found
    differences: tuple[Difference, ...]
    outputs: tuple[OutputDiff, ...]

    @property
    def ran(self) -> bool:
        """Whether the later run attempted it."""
        return self.after.use is None

    @property
    def result(self) -> ResultState:
        """How the results compare: the worst of the outputs, so `equal` where there are none."""
        states = {each.state for each in self.outputs}
        if "missing" in states or not (succeeded(self.before) and succeeded(self.after)):
            return "missing"
        return "different" if "different" in states else "equal"

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "task": self.after.label,
            "ran": self.ran,
            "result": self.result,
            "before": _task_record(self.before),
            "after": _task_record(self.after),
            "differences": [difference_record(each) for each in self.differences],
            "outputs": [each.record() for each in self.outputs],
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks of one process that differ by the same components: `text` says which."""

    text: str
    tasks: tuple[TaskDiff, ...]
    differences: tuple[Difference, ...]  # of the first of those told; others' inputs may differ
    sources: tuple[tuple[str, str], ...] = ()  # (title, unified diff)

    @property
    def ran(self) -> int:
        """How many of the tasks the later run attempted."""
        return sum(task.ran for task in self.tasks)

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "text": self.text,
            "tasks": [task.after.label for task in self.tasks],
            "ran": self.ran,
            "differences": [difference_record(each) for each in self.differences],
            "sources": [{"title": title, "diff": text} for title, text in self.sources],
        }


def those_told(tasks: Sequence[TaskDiff]) -> Sequence[TaskDiff]:
    """Return the tasks of a group of which its line tells: those that ran; else trusted ones."""
    ran = [task for task in tasks if task.ran]
    return ran or [task for task in tasks if task.after.is_trusted] or tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessDiff:
    """One process of two runs. `was` is its earlier name, "" where it is new."""

    name: str
    was: str
    gone: bool
    groups: tuple[Group, ...]
    tasks: tuple[TaskDiff, ...]
    only_before: tuple[Found, ...]
    only_after: tuple[Found, ...]
    data_left: int = 0  # tasks with different results that were not read, being too many

    def results(self, state: ResultState) -> list[TaskDiff]:
        """Return the tasks of both runs whose results compare so."""
        return [task for task in self.tasks if task.result == state]

    @property
    def total(self) -> int:
        """How many tasks the later run has."""
        return len(self.tasks) + len(self.only_after)

    @property
    def ran(self) -> int:
        """How many of them it attempted."""
        return sum(t.ran for t in self.tasks) + sum(t.use is None for t in self.only_after)

    def head(self, before: str, after: str) -> str:
        """Return what became of it in one phrase; `before` and `after` are the runs' names."""
        if self.gone:
            return f"only in {before}"
        if not self.was:
            return f"only in {after}, {self.ran:,} of {self.total:,} ran"
        if not self.tasks:
            return "no task that both runs have" if self.total else f"no task in {after}"
        return f"{sum(t.ran for t in self.tasks):,} of {len(self.tasks):,} ran again"

    def turns(self) -> dict[str, list[TaskDiff]]:
        """Return the tasks that did not succeed in both runs, by how they ended in each."""
        found: dict[str, list[TaskDiff]] = {}
        for task in self.tasks:
            old, new = outcome_of(task.before), outcome_of(task.after)
            if {"failed", "aborted"} & {old, new}:
                found.setdefault(f"{_ended(old)} before, {_ended(new)} now", []).append(task)
        return found

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to tell: the same tasks, equal, and none ran."""
        quiet = not (self.only_before or self.only_after or self.groups or self.gone)
        return quiet and self.was == self.name and len(self.results("equal")) == len(self.tasks)

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        states: tuple[ResultState, ...] = ("equal", "different", "missing")
        return {
            "name": self.name,
            "was": self.was or None,
            "gone": self.gone,
            "in_both": len(self.tasks),
            "ran": self.ran,
            "total": self.total,
            "results": {state: len(self.results(state)) for state in states},
            "reasons": [group.record() for group in self.groups],
            "tasks": [task.record() for task in self.tasks],
            "only_before": [_task_record(each) for each in self.only_before],
            "only_after": [_task_record(each) for each in self.only_after],
            "data_left": self.data_left,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """Two runs compared: what the notebook, its parameters and packages, and each process did."""

    before: RunSummary
    after: RunSummary
    parameters: tuple[tuple[str, str | None, str | None], ...]  # (name, before, after)
    packages: tuple[Difference, ...]
    processes: tuple[ProcessDiff, ...] = field(default=())

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "before": _run_record(self.before),
            "after": _run_record(self.after),
            "parameters": [
                {"name": name, "before": old, "after": new} for name, old, new in self.parameters
            ],
            "packages": [difference_record(each) for each in self.packages],
            "processes": [each.record() for each in self.processes],
        }


def outcome_of(task: Found) -> str:
    """Return how a task ended in its run: "completed", "cached", "failed", ..."""
    return task.made.status if task.use is None else "cached"


def _ended(outcome: str) -> str:
    if outcome in ("failed", "ignored", "skipped"):
        return outcome
    return "ended early" if outcome == "aborted" else "succeeded"


def succeeded(task: Found) -> bool:
    """Whether a task has a result in its run."""
    return outcome_of(task) in ("completed", "cached", "stored")


def _task_record(task: Found) -> dict[str, object]:
    where = task.use if task.use is not None else task.made
    return {
        "task": task.label,
        "outcome": outcome_of(task),
        "hash": task.hash,
        "trusted": task.is_trusted,
        "position": where.position,
        "tag": where.tag,
        "realtime": task.made.realtime,
        "error": task.made.error,
    }


def _given_record(stored: Given | None) -> dict[str, object] | None:
    if stored is None:
        return None
    if isinstance(stored, InputSummary):
        return {"digest": stored.digest, "passed_on": stored.summary}
    return {
        "digest": stored.digest,
        "kind": stored.kind,
        "codec": stored.codec,
        "size": stored.size,
        "file": stored.name,
        "opaque": stored.opaque,
    }


def _run_record(run: RunSummary) -> dict[str, object]:
    record = run.record()
    kept = ("run", "name", "status", "started", "notebook", "user", "host", "counts")
    return {name: record[name] for name in kept}
