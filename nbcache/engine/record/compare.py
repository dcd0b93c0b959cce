"""What changed between two runs, told from the log: `nbcache diff RUN_A RUN_B`.

Does for two runs what `explanations` does for one task, with the same components: pairs their
tasks, says which ran again and what made them, and whether what came out is equal, by content
digest. Reads rows, and texts of code that lie in blobs; results are decoded only on request
(`data`). Starts nothing, and works while a run is going: then it tells of the tasks so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbcache.engine.garbage import collected_rarely
from nbcache.engine.identity.identify import input_digest
from nbcache.engine.record import history
from nbcache.engine.record.data_diff import compare_stored
from nbcache.engine.record.finding import Found, found_tasks
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.kept_components import with_texts
from nbcache.engine.record.pairing import Paired, pair_runs
from nbcache.engine.record.results import Decoder
from nbcache.engine.record.run_diff import (
    Given,
    Group,
    OutputDiff,
    ProcessDiff,
    ResultState,
    RunDiff,
    TaskDiff,
    outcome_of,
    succeeded,
    those_told,
)
from nbcache.errors import RunError, UsageError
from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component
from nbcache.model.row import InputSummary, ProcessRecord
from nbcache.model.value import Stored
from nbcache.plan.identity import explain
from nbcache.plan.identity.explain import Difference
from nbcache.plan.identity.fingerprint import of_tasks
from nbcache.store.cache import Cache

DATA_LIMIT = 20  # tasks of a process whose results are read, unless more are asked for

ENVIRONMENT = frozenset({"package", "python", "platform", "interpreter", "container", "lock"})


@collected_rarely()
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
    the same notebook, the last that had some of its processes if there is one. data: read and
    compare the results that differ, of at most `limit` tasks per process. process: only this one.

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
    earlier = [
        run
        for run in history.runs(cache)  # the newest first
        if run.notebook == after.notebook and run.of_cells == after.of_cells and run.id < after.id
    ]
    if earlier:
        # A notebook may run its processes in several cells: the like is compared with the like.
        own = {each.name for each in after.processes}
        shares = (run for run in earlier if any(each.name in own for each in run.processes))
        return next(shares, earlier[0]), after
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
        if old.hash != new.hash:
            # The row of a trusted hit does not tell its script, if there are several: then of each.
            of_all = old.is_trusted or new.is_trusted
            sides = (_of_task(paired.before, old, of_all), _of_task(paired.after, new, of_all))
            different = explain.differences(*sides)
        return TaskDiff(old, new, different, _output_diffs(paired, old, new))

    def _with_data(self, task: TaskDiff) -> TaskDiff:
        outputs = tuple(
            replace(
                each,
                data=compare_stored(
                    self._cache, self._decoder, each.before, each.after, of=task.after.label
                ),
            )
            if each.state == "different"
            and isinstance(each.before, Stored)
            and isinstance(each.after, Stored)
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
        those = those_told(tasks)
        first = those[0]
        if not first.differences:
            return Group(_without_difference(first), tuple(tasks), ())
        different = tuple(with_texts(self._cache, each) for each in first.differences)
        phrases = [_phrase(each, process, those) for each in different]
        sources = [
            (f"{each.component.kind} {each.component.name}".strip(), diff)
            for each in different
            if (diff := explain.source_diff(each.old, each.new))
        ]
        return Group(_listed(phrases), tuple(tasks), different, tuple(sources))


def _phrase(each: Difference, process: str, tasks: Sequence[TaskDiff]) -> str:
    text = explain.phrase(each, process)
    # Tasks may differ by the same component, and not by the very same values.
    is_common = all(any(each.exact == own.exact for own in task.differences) for task in tasks)
    return text if is_common or "→" not in text else f"{text} (the first of {len(tasks)})"


def _listed(phrases: Sequence[str], most: int = 3) -> str:
    if len(phrases) <= most:
        return ", ".join(phrases[:-1]) + (" and " if phrases[1:] else "") + phrases[-1]
    return f"{', '.join(phrases[:most])} and {len(phrases) - most} more"


def _mark(each: Difference) -> tuple[object, ...]:
    """What tasks of one group have in common: of an input which it is, of the rest also what."""
    if each.component.kind in ("input", "file"):
        return (each.change, each.component.key)
    return (each.change, *each.exact)


def _without_difference(task: TaskDiff) -> str:
    """Why a task ran though it is the same."""
    if task.after.made.reason:
        return task.after.made.reason
    if not succeeded(task.before):
        return f"nothing differs; it {outcome_of(task.before)} before"
    return "nothing differs; it was asked to run afresh, or its result was gone"


def _of_task(record: ProcessRecord | None, task: Found, of_all: bool) -> tuple[Component, ...]:
    """Return what a task's hash is made of; of_all: of several scripts all, not the one it ran."""
    shared, own = record.components if record is not None else (), task.made.components
    if of_all:
        return (*shared, *(each for each in own if each.kind == "input"))
    return (*of_tasks(shared), *own)


def _output_diffs(paired: Paired, old: Found, new: Found) -> tuple[OutputDiff, ...]:
    before, after = _given(paired.before, old), _given(paired.after, new)
    return tuple(
        OutputDiff(
            name, _state(before.get(name), after.get(name)), before.get(name), after.get(name)
        )
        for name in dict.fromkeys((*after, *before))
    )


def _given(record: ProcessRecord | None, task: Found) -> dict[str, Given]:
    """Return what a task gave: what its row holds, and the inputs that it passed on untouched."""
    given: dict[str, Given] = {port.name: port.stored for port in task.made.outputs}
    if record is not None and succeeded(task):
        for each in task.made.inputs:
            if each.name in record.outputs:
                given.setdefault(each.name, each)
    return given


def _state(old: Given | None, new: Given | None) -> ResultState:
    if old is None or new is None:
        return "missing"
    if isinstance(old, Stored) and isinstance(new, Stored):
        same = (old.digest, old.kind, old.name) == (new.digest, new.kind, new.name)
    else:
        same = _as_input(old) == _as_input(new)
    return "equal" if same else "different"


def _as_input(given: Given) -> Digest:
    return given.digest if isinstance(given, InputSummary) else input_digest(given)
