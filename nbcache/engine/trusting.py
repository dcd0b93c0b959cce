"""Take an edit for one that changes no meaning: `nbcache trust`, on a person's word.

The pipeline is decided as for a plan. Where a task of the named processes is missed, the newest
result with the very same inputs that differs in nothing but code and environment is taken, as if
somebody had said so; a row says it then: who, when, why. Data is never taken for equal. The row is
a word beside the result, not a result: it can be revoked, and `why` goes on telling what differs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nbcache.engine.host import Host
from nbcache.engine.record import history
from nbcache.engine.record.finding import is_hash
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.kept_components import components_of, with_text
from nbcache.engine.record.trusted import next_moment, standing_words
from nbcache.engine.running.decision import Decision, Place
from nbcache.engine.running.dry import DryRun, dry_run
from nbcache.engine.running.reasons import NOT_KEPT
from nbcache.engine.running.rows import user_name
from nbcache.errors import UsageError
from nbcache.model.digest import Digest, short
from nbcache.model.event import TaskKey
from nbcache.model.row import AttemptRow, TrustRow
from nbcache.model.task import Outcome
from nbcache.plan.identity import explain
from nbcache.plan.identity.explain import Difference
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid

EDITS = frozenset(
    "code helper sharing resource module interpreter tool package container lock python platform "
    "ignored".split()
)
"""Kinds of components that may differ; `captured` too, where only names changed."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In what some tasks differ from the results that are taken for theirs."""

    run: str  # the name of the run that made the result of the first of them
    tasks: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Trusting:
    """What is taken for equal in one process, after which edits, and why other tasks are not."""

    process: str
    words: tuple[TrustRow, ...]
    edits: tuple[Edit, ...]
    refused: Mapping[str, str]  # label -> why
    waiting: int  # tasks whose inputs another task has to make first

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "process": self.process,
            "tasks": len(self.words),
            "edits": [
                {
                    "run": each.run,
                    "tasks": each.tasks,
                    "changes": [explain.phrase(one, self.process) for one in each.differences],
                }
                for each in self.edits
            ],
            "refused": dict(self.refused),
            "not_known": self.waiting,
        }


def trust(host: Host, processes: Sequence[str], reason: str | None) -> list[Trusting]:
    """Take the results of earlier versions of processes for those of the present ones.

    reason: why the edit changes no meaning; None: only say what would be taken, write nothing.

    Raises:
        NbcacheError: the pipeline does not fit together. UsageError: there is no such process, the
            reason is empty, or the cache is one in which such words do not count.
    """
    cache = host.cache
    if reason is not None and not reason.strip():
        raise UsageError("--why is empty: say why the edit changes no result")
    if not cache.is_own:
        raise UsageError(f"{cache.root} is not your cache, and words count in one's own alone")
    prepared = host.prepare(processes)
    places = {index: place.decl.name for index, place in prepared.places.items()}
    for name in processes:
        if name not in places.values():
            raise UsageError(history.unknown("process", name, sorted(set(places.values()))))
    judge = _Judge(cache, {index for index, name in places.items() if name in processes})
    prepared.decider.would_trust = judge.result_for
    found = dry_run(prepared)
    answers: list[Trusting] = []
    for name in dict.fromkeys(places[index] for index in sorted(judge.places)):
        own = [each for each in prepared.graph.places.items() if places[each[1]] == name]
        waiting = sum(found.unknown[place] for place, _ in own)
        answers.append(judge.answer(name, {index for _, index in own}, found, reason, waiting))
    if reason is not None:
        cache.log.append([word for each in answers for word in each.words])
    return answers


def revoke(cache: Cache, target: str, reason: str = "") -> list[TrustRow]:
    """Take words back: those given for a process, or for a hash by its first digits.

    Raises:
        UsageError: none was given, or none that stands, or the digits are those of several.
    """
    standing = standing_words(cache.log).values()
    chosen = [row for row in standing if row.process == target]
    if not chosen and is_hash(target):
        start = target if target.startswith("xxh3:") else f"xxh3:{target}"
        chosen = [row for row in standing if row.hash.startswith(start)]
        if len(chosen) > 1:
            listed = ", ".join(sorted(short(row.hash) for row in chosen)[:6])
            raise UsageError(f"{len(chosen)} hashes that start with {target!r} are: {listed}")
    if not chosen:
        known = ", ".join(sorted({row.process for row in standing})) or "none"
        raise UsageError(f"nothing that is trusted is called {target!r}; trusted are: {known}")
    at = next_moment(cache.log)
    rows = [
        TrustRow(
            id=new_ulid(),
            at=at,
            hash=row.hash,
            same_as=row.same_as,
            revoked=True,
            reason=reason,
            process=row.process,
            user=user_name(),
        )
        for row in chosen
    ]
    cache.log.append(rows)
    return rows


class _Judge:
    """Says which earlier results may be taken for those of tasks, at the places that are named."""

    def __init__(self, cache: Cache, places: Collection[int]) -> None:
        self.places = places
        self._cache = cache
        self._runs: dict[str, RunSummary] = {run.id: run for run in history.runs(cache)}
        self._by_inputs: dict[str, dict[frozenset[tuple[str, str]], list[AttemptRow]]] = {}
        self._taken: dict[TaskKey, tuple[AttemptRow, tuple[Difference, ...]]] = {}
        self._refused: dict[TaskKey, str] = {}

    def result_for(self, decision: Decision) -> Digest | None:
        """Return the hash of the newest result that may be taken for a task's; notes why none."""
        if decision.task[0] not in self.places:
            return None
        inputs = frozenset((name, each.digest) for name, each in decision.inputs.items())
        why = "no earlier task has these inputs"
        for row in self._results(decision.place).get(inputs, ()):
            differences = self._differences(decision, row)
            other = _beyond_an_edit(differences)
            if other is not None:
                why = f"{explain.phrase(other, row.process)}: that is no edit of code"
            elif not differences or self._cache.log.find(row.hash) is None:
                why = "the earlier result is no longer in the cache"
            else:
                self._taken[decision.task] = row, differences
                return row.hash
        self._refused[decision.task] = why
        return None

    def answer(
        self, name: str, places: Collection[int], found: DryRun, reason: str | None, waiting: int
    ) -> Trusting:
        """Return what is taken for a process, which is used at `places`, after a dry run."""
        words: dict[Digest, TrustRow] = {}
        refused: dict[str, str] = {}
        alike: dict[object, list[tuple[AttemptRow, tuple[Difference, ...]]]] = {}
        at = next_moment(self._cache.log)
        for task, decision in sorted(found.decisions.items()):
            if task[0] not in places or found.outcomes.get(task) is Outcome.SKIPPED:
                continue
            if not decision.is_hit:
                kept = NOT_KEPT if decision.hash is None else self._refused.get(task, "")
                refused[decision.label] = found.errors.get(task) or kept or decision.reason
            elif task in self._taken and decision.hash not in words:
                assert decision.hash is not None
                row, differences = self._taken[task]
                exact = tuple(each.exact for each in differences)
                alike.setdefault(exact, []).append(self._taken[task])
                words[decision.hash] = TrustRow(
                    id=new_ulid(),
                    at=at,
                    hash=decision.hash,
                    same_as=row.hash,
                    reason=reason or "",
                    process=name,
                    user=user_name(),
                )
        refused |= {
            label: found.errors[task] for task, label in found.labels.items() if task[0] in places
        }
        edits = tuple(self._edit(members) for members in alike.values())
        return Trusting(name, tuple(words.values()), edits, refused, waiting)

    def _edit(self, members: Sequence[tuple[AttemptRow, tuple[Difference, ...]]]) -> Edit:
        row, differences = members[0]
        run = self._runs[row.run].name if row.run in self._runs else row.run
        with_texts = (
            Difference(
                each.change, with_text(self._cache, each.old), with_text(self._cache, each.new)
            )
            for each in differences
        )
        return Edit(run, len(members), tuple(with_texts))

    def _results(self, place: Place) -> Mapping[frozenset[tuple[str, str]], Sequence[AttemptRow]]:
        """Return the results that a process has had, by their inputs, the newest first."""
        if place.name not in self._by_inputs:
            rows = self._cache.log.attempts(process=place.name)
            held = self._by_inputs.setdefault(place.name, {})
            for row in sorted(rows, key=lambda row: (row.at, row.id), reverse=True):
                if row.status == Outcome.COMPLETED.value:
                    inputs = frozenset((each.name, each.digest) for each in row.inputs)
                    held.setdefault(inputs, []).append(row)
        return self._by_inputs[place.name]

    def _differences(self, decision: Decision, row: AttemptRow) -> tuple[Difference, ...]:
        """Return the components in which a task differs from an earlier result."""
        own = {(each.kind, each.name) for each in row.components if each.kind == "input"}
        before = [each for each in components_of(row, self._runs) if each.key not in own]
        return explain.differences(before, decision.place.shared.components)


def _beyond_an_edit(differences: Sequence[Difference]) -> Difference | None:
    """Return a difference in data, or None: captured values that only changed names are none."""
    held = [each for each in differences if each.component.kind == "captured"]
    before = sorted(each.old.digest for each in held if each.old is not None)
    after = sorted(each.new.digest for each in held if each.new is not None)
    for each in differences:
        if each.component.kind not in EDITS and (each not in held or before != after):
            return each
    return None
