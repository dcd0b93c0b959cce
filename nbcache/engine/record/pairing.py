"""Which task of one run is which of another: the same work, wherever its item stands now.

Decides by what a task is (its hash, tag, inputs) before where it stands: an item put in front of
a channel moves all positions and changes no task. Reads rows only. A wrong pair is no wrong hit,
but makes `diff` tell a reason that is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from nbcache.engine.record.finding import Found
from nbcache.engine.record.history import RunSummary
from nbcache.model.ids import parse_position
from nbcache.model.row import InputSummary, ProcessRecord
from nbcache.plan.identity import explain
from nbcache.plan.identity.fingerprint import SCRIPT

Tasks = dict[str, list[Found]]
CODE = frozenset({"code", SCRIPT})  # kinds of components that hold a body, or one of several


@dataclass(slots=True)
class Paired:
    """A process of two runs: pairs (before, after), and the tasks that only one of them has."""

    name: str
    was: str  # its name before: another where it was renamed, "" where it is new
    before: ProcessRecord | None
    after: ProcessRecord | None
    pairs: list[tuple[Found, Found]] = field(default_factory=list)
    only_before: list[Found] = field(default_factory=list)
    only_after: list[Found] = field(default_factory=list)


def pair_runs(
    before: RunSummary, old_tasks: Tasks, after: RunSummary, new_tasks: Tasks
) -> list[Paired]:
    """Return the processes of both runs with their tasks paired, those of `after` first."""
    olds, news = _records(before, old_tasks), _records(after, new_tasks)
    hashes = (_hashes(old_tasks), _hashes(new_tasks))
    old_names = renamed(olds, news, hashes)
    found: list[Paired] = []
    descents: dict[str, _Descent] = {}
    for name, record in news.items():
        was = name if name in olds else old_names.get(name, "")
        paired = Paired(name, was, olds.get(was), record)
        above = [descents[each] for each in record.upstream if each in descents]
        _pair_tasks(paired, old_tasks.get(was, []), new_tasks.get(name, []), above)
        descents[name] = _Descent.of(paired)
        found.append(paired)
    for name in olds.keys() - news.keys() - set(old_names.values()):
        gone = Paired(name, name, olds[name], None, only_before=old_tasks.get(name, []))
        found.append(gone)
    return found


def _records(run: RunSummary, tasks: Tasks) -> dict[str, ProcessRecord]:
    """The run's processes in its order; one that only rows know has a record without components."""
    records = {record.name: record for record in run.processes}
    for name in sorted(tasks.keys() - records.keys()):
        records[name] = ProcessRecord(name=name, components=())
    return records


def _hashes(tasks: Tasks) -> dict[str, set[str]]:
    return {name: {task.made.hash for task in found} for name, found in tasks.items()}


def renamed(
    olds: Mapping[str, ProcessRecord],
    news: Mapping[str, ProcessRecord],
    hashes: tuple[Mapping[str, set[str]], Mapping[str, set[str]]] = ({}, {}),
) -> dict[str, str]:
    """Return new name -> old name of processes that have another name and the same work.

    The same work: a task with the same hash, or the same code. Of several, the one with most
    equal components.
    """
    left = [name for name in olds if name not in news]
    found: dict[str, str] = {}
    for name, record in news.items():
        if name in olds:
            continue
        same = [
            each
            for each in left
            if hashes[0].get(each, set()) & hashes[1].get(name, set())
            or _same_code(olds[each], record)
        ]
        if same:
            best = explain.nearest([olds[each].components for each in same], record.components)
            found[name] = same[best or 0]
            left.remove(found[name])
    return found


def _same_code(old: ProcessRecord, new: ProcessRecord) -> bool:
    return _code(old) != () and _code(old) == _code(new)


def _code(record: ProcessRecord) -> tuple[str, ...]:
    return tuple(each.digest for each in record.components if each.kind in CODE)


@dataclass(frozen=True, slots=True)
class _Descent:
    """Which item of a process is which of the other run's, to follow into the processes below.

    `olds` and `news` give the pair by (position, digest of an output): a task below that stands
    there and has that input descends from it. Operators that make positions anew or map values
    break the trace, which is then not followed.
    """

    olds: Mapping[tuple[str, str], int]
    news: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, paired: Paired) -> _Descent:
        olds: dict[tuple[str, str], int] = {}
        news: dict[tuple[str, str], int] = {}
        for number, (old, new) in enumerate(paired.pairs):
            for place, task in ((olds, old), (news, new)):
                for port in task.made.outputs:
                    place[_position(task), port.stored.digest] = number
        return cls(olds, news)


def _ancestor(task: Found, traces: Sequence[Mapping[tuple[str, str], int]]) -> Hashable:
    """The pairs that a task's inputs came from; None where no trace leads to one."""
    where = _position(task)
    found = {
        (above, trace[where, each.digest])
        for above, trace in enumerate(traces)
        for each in task.made.inputs
        if (where, each.digest) in trace
    }
    return frozenset(found) or None


def _pair_tasks(
    paired: Paired, olds: Sequence[Found], news: Sequence[Found], above: Sequence[_Descent]
) -> None:
    """Pair by one sign after the other, the surest first; what is left is in one run only.

    A value that came from above says little: an edit up there may turn one item's value into
    what another's was. So where an item can be followed from above, that goes before its inputs.
    """
    left_old, left_new = list(olds), list(news)

    def pair_by(old_key: Callable[[Found], Hashable], new_key: Callable[[Found], Hashable]) -> None:
        nonlocal left_old, left_new
        waiting: dict[Hashable, list[Found]] = defaultdict(list)
        for old in left_old:
            waiting[old_key(old)].append(old)
        waiting.pop(None, None)
        used: set[int] = set()
        rest: list[Found] = []
        for new in left_new:
            fitting = waiting.get(new_key(new))
            if fitting:
                old = fitting.pop(0)
                used.add(id(old))
                paired.pairs.append((old, new))
            else:
                rest.append(new)
        left_old, left_new = [old for old in left_old if id(old) not in used], rest

    pair_by(_tag_and_hash, _tag_and_hash)
    pair_by(_tag, _tag)
    old_traces, new_traces = [each.olds for each in above], [each.news for each in above]
    pair_by(lambda task: _ancestor(task, old_traces), lambda task: _ancestor(task, new_traces))
    pair_by(_called_and_hash, _called_and_hash)
    pair_by(_called, _called)
    pair_by(_hash, _hash)
    pair_by(_inputs, _inputs)
    left_old, left_new = _pair_nearest(paired, left_old, left_new)
    pair_by(_unnamed_place, _unnamed_place)
    if len(olds) == len(news) == len(left_old) == len(left_new) == 1 and not _position(news[0]):
        paired.pairs.append((left_old.pop(), left_new.pop()))
    paired.pairs.sort(key=lambda pair: parse_position(_position(pair[1])))
    paired.only_before, paired.only_after = left_old, left_new


def _pair_nearest(
    paired: Paired, olds: list[Found], news: list[Found]
) -> tuple[list[Found], list[Found]]:
    """Pair tasks that share some inputs, those that share most first."""
    by_input: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, old in enumerate(olds):
        for each in old.made.inputs:
            by_input[each.name, each.digest].append(index)
    shared: list[tuple[int, int, int]] = []
    for place, new in enumerate(news):
        counts: dict[int, int] = defaultdict(int)
        for each in new.made.inputs:
            fitting = by_input.get((each.name, each.digest), ())
            if len(fitting) > _COMMON:
                continue  # what every task has tells none apart
            for index in fitting:
                counts[index] += 1
        shared += [(-count, place, index) for index, count in counts.items()]
    used_old: set[int] = set()
    used_new: set[int] = set()
    for _, place, index in sorted(shared):
        if place not in used_new and index not in used_old:
            used_new.add(place)
            used_old.add(index)
            paired.pairs.append((olds[index], news[place]))
    return (
        [old for index, old in enumerate(olds) if index not in used_old],
        [new for place, new in enumerate(news) if place not in used_new],
    )


_COMMON = 200  # tasks with one input: comparing all with all would take a minute at 10,000


def _tag(task: Found) -> Hashable:
    return (task.use if task.use is not None else task.made).tag or None


def _tag_and_hash(task: Found) -> Hashable:
    tag = _tag(task)
    return None if tag is None else (tag, task.made.hash)


def _called(task: Found) -> Hashable:
    """What people tell the task by, wherever it stands: its tag, or its inputs that have a text."""
    texts = [(each.name, each.scalar or each.summary) for each in task.made.inputs if _text(each)]
    return _tag(task) or tuple(texts) or None


def _called_and_hash(task: Found) -> Hashable:
    return _called(task), task.made.hash


def _hash(task: Found) -> Hashable:
    return task.made.hash


def _text(each: InputSummary) -> bool:
    return each.scalar is not None or bool(each.summary and " " not in each.summary)


def _inputs(task: Found) -> Hashable:
    return frozenset((each.name, each.digest) for each in task.made.inputs) or None


def _unnamed_place(task: Found) -> Hashable:
    """The position, of a task that nothing else tells apart."""
    return _position(task) if _called(task) is None else None


def _position(task: Found) -> str:
    return (task.use if task.use is not None else task.made).position
