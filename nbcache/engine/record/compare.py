"""What changed between two runs, told from the log: `nbcache diff RUN_A RUN_B`.

Does for two runs what `explanations` does for one task, with the same components: pairs their
tasks, says which ran again and what made them, and whether what came out is equal, by content
digest. Reads rows, and texts of code that lie in blobs; results are decoded only on request
(`data`). Starts nothing, and works while a run is going: then it tells of the tasks so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from nbcache.engine.record import history
from nbcache.engine.record.data_diff import DataDiff, compare_stored
from nbcache.engine.record.explanations import Found, difference_record, found_tasks, with_text
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.pairing import Paired, pair_runs
from nbcache.engine.record.results import Decoder
from nbcache.errors import RunError, UsageError
from nbcache.model.fingerprint import Component
from nbcache.model.row import Port, ProcessRecord
from nbcache.model.value import Stored
from nbcache.plan.identity import explain
from nbcache.plan.identity.explain import Difference
from nbcache.plan.identity.fingerprint import of_tasks
from nbcache.store.cache import Cache

ResultState = Literal["equal", "different", "missing"]

DATA_LIMIT = 20  # tasks of a process whose results are read, unless more are asked for

ENVIRONMENT = frozenset({"package", "python", "platform", "interpreter", "container", "lock"})


@dataclass(frozen=True, slots=True)
class OutputDiff:
    """One output of a task in both runs. `missing`: one side has none."""

    name: str
    state: ResultState
    before: Stored | None
    after: Stored | None
    data: DataDiff | None = None

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        found: dict[str, object] = {
            "name": self.name,
            "state": self.state,
            "before": _stored_record(self.before),
            "after": _stored_record(self.after),
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
        if "missing" in states or not (_succeeded(self.before) and _succeeded(self.after)):
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
    differences: tuple[Difference, ...]  # of the first task; the inputs of the others may differ
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


def diff_runs(
    cache: Cache,
    words: Sequence[str] = (),
    *,
    data: bool = False,
    process: str | None = None,
    limit: int = DATA_LIMIT,
) -> RunDiff:
    """Compare two runs.

    words: two runs as in `history.find_run`; of one (or none: the last) and the run before it of
    the same notebook. data: read and compare the results that differ, of at most `limit` tasks
    per process. process: only this one.

    Raises:
        RunError: there is no such run, or none before it. UsageError: there is no such process.
    """
    before, after = find_two(cache, words)
    old_tasks, new_tasks = found_tasks(cache, before), found_tasks(cache, after)
    pairs = pair_runs(before, old_tasks, after, new_tasks)
    if process is not None:
        pairs = _only(pairs, process)
    maker = _Maker(cache, data, limit)
    return RunDiff(
        before=before,
        after=after,
        parameters=_parameters(before, after),
        packages=_packages(pairs),
        processes=tuple(maker.process_diff(paired) for paired in pairs),
    )


def find_two(cache: Cache, words: Sequence[str]) -> tuple[RunSummary, RunSummary]:
    """Return the runs that the words mean, the one to compare with first.

    Raises:
        RunError: there is no such run; or of one alone, its notebook had none before.
    """
    if len(words) == 2:
        return history.find_run(cache, words[0]), history.find_run(cache, words[1])
    after = history.find_run(cache, words[0] if words else None)
    for run in history.runs(cache):  # the newest first
        is_alike = run.notebook == after.notebook and run.of_cells == after.of_cells
        if is_alike and (run.started, run.id) < (after.started, after.id):
            return run, after
    where = f" of {after.notebook}" if after.notebook else ""
    raise RunError(f"run {after.name} is the first{where} in this cache; name two runs")


def _only(pairs: Sequence[Paired], process: str) -> list[Paired]:
    chosen = [paired for paired in pairs if process in (paired.name, paired.was)]
    if not chosen:
        names = [paired.name for paired in pairs]
        raise UsageError(history.unknown("process in these runs", process, names))
    return chosen


def _parameters(
    before: RunSummary, after: RunSummary
) -> tuple[tuple[str, str | None, str | None], ...]:
    names = dict.fromkeys((*before.parameters, *after.parameters))
    sides = ((name, before.parameters.get(name), after.parameters.get(name)) for name in names)
    return tuple((name, old, new) for name, old, new in sides if old != new)


def _packages(pairs: Sequence[Paired]) -> tuple[Difference, ...]:
    """What changed in the environment, each once, of whichever process it counts for."""
    found: dict[object, Difference] = {}
    for paired in pairs:
        if paired.before is None or paired.after is None:
            continue
        for each in explain.differences(paired.before.components, paired.after.components):
            if each.component.kind in ENVIRONMENT and each.change == "changed":
                found.setdefault((each.component.key, each.component.digest), each)
    return tuple(found.values())


class _Maker:
    """Turns pairs of rows into what is told of them."""

    def __init__(self, cache: Cache, data: bool, limit: int) -> None:
        self._cache, self._data, self._limit = cache, data, limit
        self._decoder = Decoder(cache)

    def process_diff(self, paired: Paired) -> ProcessDiff:
        """Return what there is to tell of one process."""
        tasks = [self._task_diff(paired, old, new) for old, new in paired.pairs]
        left = 0
        if self._data:
            different = [k for k, task in enumerate(tasks) if task.result == "different"]
            for k in different[: self._limit]:
                tasks[k] = self._with_data(tasks[k])
            left = len(different) - len(different[: self._limit])
        return ProcessDiff(
            name=paired.name,
            was=paired.was,
            gone=paired.after is None,
            groups=self._groups(paired, tasks),
            tasks=tuple(tasks),
            only_before=tuple(paired.only_before),
            only_after=tuple(paired.only_after),
            data_left=left,
        )

    def _task_diff(self, paired: Paired, old: Found, new: Found) -> TaskDiff:
        different: tuple[Difference, ...] = ()
        if old.made.hash != new.made.hash:
            different = explain.differences(
                (*_shared(paired.before), *old.made.components),
                (*_shared(paired.after), *new.made.components),
            )
        return TaskDiff(old, new, different, _output_diffs(old, new))

    def _with_data(self, task: TaskDiff) -> TaskDiff:
        outputs = tuple(
            replace(
                each,
                data=compare_stored(
                    self._cache, self._decoder, each.before, each.after, of=task.after.label
                ),
            )
            if each.state == "different" and each.before is not None and each.after is not None
            else each
            for each in task.outputs
        )
        return replace(task, outputs=outputs)

    def _groups(self, paired: Paired, tasks: Sequence[TaskDiff]) -> tuple[Group, ...]:
        """Tasks with the same changes together, the largest group first."""
        alike: dict[object, list[TaskDiff]] = {}
        for task in tasks:
            if task.differences:
                key: object = tuple(_mark(each) for each in task.differences)
            elif task.ran:
                key = _without_difference(task)
            else:
                continue
            alike.setdefault(key, []).append(task)
        groups = [self._group(paired.name, members) for members in alike.values()]
        return tuple(sorted(groups, key=lambda group: -len(group.tasks)))

    def _group(self, process: str, tasks: Sequence[TaskDiff]) -> Group:
        first = tasks[0]
        if not first.differences:
            return Group(_without_difference(first), tuple(tasks), ())
        different = tuple(
            Difference(
                each.change, with_text(self._cache, each.old), with_text(self._cache, each.new)
            )
            for each in first.differences
        )
        phrases = [
            _phrase(each, process, len(tasks), all(_same(each, task) for task in tasks))
            for each in different
        ]
        sources = [
            (f"{each.component.kind} {each.component.name}".strip(), diff)
            for each in different
            if (diff := explain.source_diff(each.old, each.new))
        ]
        return Group(_listed(phrases), tuple(tasks), different, tuple(sources))


def _phrase(each: Difference, process: str, tasks: int, is_common: bool) -> str:
    text = explain.phrase(each, process)
    return text if is_common or "→" not in text else f"{text} (the first of {tasks})"


def _same(difference: Difference, task: TaskDiff) -> bool:
    """Whether a task differs by the very same values, not only by the same component."""
    return any(_exact(each) == _exact(difference) for each in task.differences)


def _exact(each: Difference) -> tuple[object, ...]:
    sides = ((side.digest if side is not None else None) for side in (each.old, each.new))
    return (each.component.key, *sides)


def _listed(phrases: Sequence[str], most: int = 3) -> str:
    if len(phrases) <= most:
        return ", ".join(phrases[:-1]) + (" and " if phrases[1:] else "") + phrases[-1]
    return f"{', '.join(phrases[:most])} and {len(phrases) - most} more"


def _mark(each: Difference) -> tuple[object, ...]:
    """What tasks of one group have in common: of an input which it is, of the rest also what."""
    if each.component.kind in ("input", "file"):
        return (each.change, each.component.key)
    return (each.change, *_exact(each))


def _without_difference(task: TaskDiff) -> str:
    """Why a task ran though it is the same."""
    if task.after.made.reason:
        return task.after.made.reason
    if not _succeeded(task.before):
        return f"nothing differs; it {outcome_of(task.before)} before"
    return "nothing differs; it was asked to run afresh, or its result was gone"


def _shared(record: ProcessRecord | None) -> tuple[Component, ...]:
    return of_tasks(record.components) if record is not None else ()


def _output_diffs(old: Found, new: Found) -> tuple[OutputDiff, ...]:
    before, after = _by_name(old.made.outputs), _by_name(new.made.outputs)
    return tuple(
        OutputDiff(
            name, _state(before.get(name), after.get(name)), before.get(name), after.get(name)
        )
        for name in dict.fromkeys((*after, *before))
    )


def _by_name(ports: Sequence[Port]) -> dict[str, Stored]:
    return {port.name: port.stored for port in ports}


def _state(old: Stored | None, new: Stored | None) -> ResultState:
    if old is None or new is None:
        return "missing"
    same = (old.digest, old.kind, old.name) == (new.digest, new.kind, new.name)
    return "equal" if same else "different"


def outcome_of(task: Found) -> str:
    """Return how a task ended in its run: "completed", "cached", "failed", ..."""
    return task.made.status if task.use is None else "cached"


def _succeeded(task: Found) -> bool:
    return outcome_of(task) in ("completed", "cached", "stored")


def _task_record(task: Found) -> dict[str, object]:
    where = task.use if task.use is not None else task.made
    return {
        "task": task.label,
        "outcome": outcome_of(task),
        "hash": where.hash,
        "position": where.position,
        "tag": where.tag,
        "realtime": task.made.realtime,
        "error": task.made.error,
    }


def _stored_record(stored: Stored | None) -> dict[str, object] | None:
    if stored is None:
        return None
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


__all__ = [
    "Group",
    "OutputDiff",
    "ProcessDiff",
    "RunDiff",
    "TaskDiff",
    "diff_runs",
    "find_two",
    "outcome_of",
]
