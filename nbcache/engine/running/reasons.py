"""Why the tasks of a process run: its shared components against those of the run before.

Looked up only when something has to run. The answer is one line for the card, the plan and the
rows; `why TASK` goes deeper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from weakref import WeakKeyDictionary

from nbcache.engine.declared.stubs import is_of_stub
from nbcache.engine.record.earlier_inputs import (
    NEW_COMBINATIONS,
    EarlierInputs,
    InputsOnRecord,
    NewInputs,
)
from nbcache.engine.record.rare_rows import rare_rows
from nbcache.engine.running.decision import Decision, Place
from nbcache.model.event import TaskKey
from nbcache.model.fingerprint import Component
from nbcache.model.row import AttemptRow, RunRow
from nbcache.model.task import Outcome, RunStatus
from nbcache.plan.identity.explain import Difference, differences, one_line
from nbcache.plan.identity.fingerprint import SCRIPT
from nbcache.store.cache import Cache
from nbcache.store.log import Log
from nbcache.store.segment import KEYS, read_hashes

FIRST = "first run of this code here"
_NEW_INPUT = "new inputs"
_ABORTED = Outcome.ABORTED.value
_SUCCEEDED = RunStatus.SUCCEEDED.value
_GOING = (RunStatus.CREATED, RunStatus.RUNNING, RunStatus.RESUMING)
_MOST_ATTEMPTS = 50_000  # in the log: the inputs of more would take too long to read on the loop
NOT_KEPT = "its results are not kept (--cache off)"
AGAIN = "an earlier attempt did not succeed"
CUT_SHORT = "an earlier run ended before it was done"
FROM_STORE = "its earlier result was only taken from a store folder"
_OF_SOME = {
    AGAIN: "whose earlier attempt did not succeed",
    CUT_SHORT: "that an earlier run left",
    FROM_STORE: "whose earlier result was only taken from a store folder",
}
ENDED_AS = {AGAIN: ("failed", "ignored"), CUT_SHORT: ("aborted",), FROM_STORE: ("stored",)}

_hashes: WeakKeyDictionary[Log, dict[tuple[str, str], frozenset[str]]] = WeakKeyDictionary()


class Reasons:
    """Compares places with the newest earlier run that had a process of the same name.

    An earlier session of a resumed run counts as an earlier run; `before` is the run that asks,
    whose last session does not.
    """

    def __init__(self, cache: Cache, notebook: str | None, *, before: str | None = None) -> None:
        self._cache, self._notebook, self._before = cache, notebook, before
        self._earlier: dict[tuple[str, bool], tuple[Component, ...]] | None = None
        self._ever: dict[str, set[frozenset[object]]] = {}  # by process: components of any run
        # By process: components before an edit since which no run of it succeeded.
        self._last_whole: dict[tuple[str, bool], tuple[Component, ...]] = {}
        self._killed: set[tuple[str, bool]] = set()  # processes of a run since then without an end
        self._said: dict[str, str] = {}
        self._set_back: set[str] = set()  # places that are as they were in a run before the newest
        self._record: InputsOnRecord | None = None
        self._inputs: dict[str, EarlierInputs] = {}
        self._new: dict[str, dict[TaskKey, list[Difference]]] = {}  # by place
        self._again: dict[str, dict[TaskKey, str]] = {}  # by place: what has no result of before
        self._lines: dict[str, NewInputs] = {}
        self._without: dict[str, str] | None = None
        self._is_broken = False  # else each task would read the damaged file again

    def of(self, place: Place, decisions: Sequence[Decision]) -> str:
        """Return in one line why these tasks of a place are not in the cache. Of a place of several
        scripts the one that they run is compared, unless that is as it was.

        Never raises: what is only said must fail no task, whatever became of the rows before.
        """
        if not place.is_kept:
            return NOT_KEPT
        if not self._is_broken:
            try:
                return self._of(self._compared(place, decisions), decisions)
            except Exception:  # a damaged rows file: of `StoreError`, Arrow's, the system's
                self._is_broken = True
        return _NEW_INPUT

    def _compared(self, place: Place, decisions: Sequence[Decision]) -> Place:
        own = {each.place.key: each.place for each in decisions}
        one = next(iter(own.values())) if place.scripts and len(own) == 1 else place
        return one if self._found(one) != _NEW_INPUT else place

    def _found(self, place: Place) -> str:
        if place.key not in self._said:
            self._said[place.key] = self._find(place)
        return self._said[place.key]

    def _of(self, place: Place, decisions: Sequence[Decision]) -> str:
        said = self._found(place)
        if said != _NEW_INPUT and place.key not in self._set_back:
            return said
        if self._without is None:  # in runs before: what fails from now on is no reason
            self._without = without_result(self._cache.log)
        again = {each.task: self._without.get(each.hash or "", "") for each in decisions}
        again = {task: word for task, word in again.items() if word}
        self._again.setdefault(place.key, {}).update(again)
        never = [each for each in decisions if each.task not in again]
        new = self._new_inputs(place, never) if never else ""
        hashes = {each.hash: again[each.task] for each in decisions if each.task in again}
        return self._also_again(place, new, hashes.values())

    def line(self, place: Place) -> str:
        """Return in one line why all tasks of a place ran that were asked for; "": as `of` said."""
        found = self._lines.get(place.key)
        if found is None:
            return ""
        return self._also_again(place, str(found), self._again[place.key].values())

    def line_of(self, place: Place, ran: Callable[[TaskKey], bool]) -> str:
        """The same of those tasks alone that did run: a run that was cut short began no others."""
        line = NewInputs(self._otherwise(place))
        tasks = {task: each for task, each in self._new.get(place.key, {}).items() if ran(task)}
        for task, found in tasks.items():
            line.add(task[1], found)
        again = [word for task, word in self._again.get(place.key, {}).items() if ran(task)]
        return self._also_again(place, str(line) if tasks else "", again)

    def _also_again(self, place: Place, new: str, again: Iterable[str]) -> str:
        """Return what is new of some tasks, and how many more have no result of before, and why:
        of all that runs were cut short before, also the edit that came before those runs."""
        counts = Counter(again)
        if not new and len(counts) <= 1:
            word = next(iter(counts), AGAIN)
            return self._cut_short(place) if word == CUT_SHORT else word
        more = [f"{counts[word]} {said}" for word, said in _OF_SOME.items() if counts[word]]
        return "; ".join([new, *more] if new else more)

    def _new_inputs(self, place: Place, decisions: Sequence[Decision]) -> str:
        if place.name not in self._inputs:
            if self._record is None:
                if sum(each.ids for each in self._cache.log.segments().values()) > _MOST_ATTEMPTS:
                    return _NEW_INPUT
                self._record = InputsOnRecord(self._cache.log)
            self._inputs[place.name] = self._record.of(place.name)
            if not self._inputs[place.name].any and not self._has_ended(place):
                self._said[place.key] = FIRST
                return FIRST
        earlier = self._inputs[place.name]
        here = NewInputs(self._otherwise(place))
        line = self._lines.setdefault(place.key, NewInputs(self._otherwise(place)))
        for decision in decisions:
            rows = {name: each.row(name) for name, each in decision.inputs.items()}
            found = earlier.new_among(rows)
            self._new.setdefault(place.key, {})[decision.task] = found
            here.add(decision.task[1], found)
            line.add(decision.task[1], found)
        return str(here)

    def _otherwise(self, place: Place) -> str:
        """What to say of tasks none of whose inputs is new."""
        said = self._said[place.key]
        if said != _NEW_INPUT:
            return said
        is_killed = (place.name, is_of_stub(place.recorded)) in self._killed
        return self._cut_short(place) if is_killed else NEW_COMBINATIONS

    def _cut_short(self, place: Place) -> str:
        """Return that a run ended before these tasks, and the edit that came before that run."""
        whole = self._last_whole.get((place.name, is_of_stub(place.recorded)))
        edit = self._edit(place, whole) if whole else ""
        return f"{edit}; {CUT_SHORT}" if edit else CUT_SHORT

    def _has_ended(self, place: Place) -> bool:
        """Whether any task of a process has: a run that was killed or cancelled may have none."""
        rows = self._cache.log.rows(("attempt", "use"), process=place.name)
        return any(not isinstance(row, AttemptRow) or row.status != _ABORTED for row in rows)

    def _find(self, place: Place) -> str:
        now = place.recorded
        earlier = self._components().get((place.name, is_of_stub(now)))
        if earlier is None:
            return FIRST
        found = self._edit(place, earlier)
        if not found:
            return place.asked or _NEW_INPUT
        if _as_set(now) in self._ever[place.name]:  # no edit has come between that run and this
            if place.asked:
                return place.asked
            self._set_back.add(place.key)
        return found

    def _edit(self, place: Place, earlier: Sequence[Component]) -> str:
        """Return what differs from a run before, "" where nothing does."""
        now = place.recorded
        known = {each.key for each in now}
        earlier = [each for each in earlier if each.kind != SCRIPT or each.key in known]
        found = differences(earlier, now)
        total = len({each.key for each in (*earlier, *now)})
        return one_line(place.name, found, total) if found else ""

    def _components(self) -> dict[tuple[str, bool], tuple[Component, ...]]:
        """By process, its body and its stub apart: neither is an edit of the other."""
        if self._earlier is None:
            runs: dict[tuple[str, bool], list[tuple[bool, int, str, tuple[Component, ...]]]] = {}
            self._ever = {}
            rows = list(rare_rows(self._cache.log, RunRow, readable=True))
            own = max((row.session for row in rows if row.run == self._before), default=None)
            for row in rows:
                if (row.run, row.session) == (self._before, own):
                    continue
                for record in row.processes:
                    self._ever.setdefault(record.name, set()).add(_as_set(record.components))
                    key = (record.name, is_of_stub(record.components))
                    told = (row.notebook == self._notebook, row.at, row.run, record.components)
                    runs.setdefault(key, []).append(told)
            done = {row.run for row in rows if row.status == _SUCCEEDED}
            ended = {row.run for row in rows if row.status not in _GOING}
            self._earlier = {}
            for key, several in runs.items():
                several.sort(key=lambda told: told[:2], reverse=True)
                newest = self._earlier[key] = several[0][3]
                for _, _, run, components in several:
                    if _as_set(components) != _as_set(newest):
                        self._last_whole[key] = components
                        break
                    if run in done:
                        break
                    if run not in ended:
                        self._killed.add(key)
        return self._earlier


def _as_set(components: Iterable[Component]) -> frozenset[object]:
    return frozenset((each.key, each.version, each.digest) for each in components)


def without_result(log: Log) -> dict[str, str]:
    """Return the hashes of all tasks that left no result in the cache, since they failed before, a
    run's end came before them or a store folder had it, and which in words; read once per segment.
    """
    found: dict[str, str] = {}
    for word in (FROM_STORE, CUT_SHORT, AGAIN):  # of several, what failed
        found.update(dict.fromkeys(_hashes_of(log, word), word))
    return found


def _hashes_of(log: Log, word: str) -> set[str]:
    known, statuses = _hashes.setdefault(log, {}), ENDED_AS[word]
    hashes: set[str] = set()
    for view in log.journals().values():
        for each in view.records_of(("attempt",)):
            if each.get("status") in statuses:
                hashes.add(str(each.get("hash")))
    segments = log.segments()
    for key in [key for key in known if key[0] not in segments]:
        known.pop(key, None)
    for name in segments:
        if (name, word) not in known:
            try:
                known[name, word] = read_hashes(log.root / "log" / (name + KEYS), statuses)
            except FileNotFoundError:  # merged into another one since the last look
                continue
        hashes |= known[name, word]
    return hashes
