"""Take an edit for one that changes no meaning: `nbcache trust`, on a person's word.

For each task that an edit would run again it looks for the newest result with the very same
inputs that differs in nothing but code and environment, and writes a row that says so: who, when,
why. Data is never taken for equal. The row is a word beside the result, not a result: it can be
revoked, and `why` goes on telling what differs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from nbcache.engine.host import Host
from nbcache.engine.record import history
from nbcache.engine.record.history import RunSummary
from nbcache.engine.record.kept_components import components_of, with_text
from nbcache.engine.record.trusted import standing_words
from nbcache.engine.running.decision import Decision
from nbcache.engine.running.dry import dry_run
from nbcache.engine.running.rows import user_name
from nbcache.errors import UsageError
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
class Trusting:
    """What is taken for equal in one process, and why other tasks of it are not.

    `differences` are those of the first task: an edit is the same for all of them.
    """

    process: str
    words: tuple[TrustRow, ...]
    refused: dict[str, str] = field(default_factory=dict)  # label -> why
    differences: tuple[Difference, ...] = ()
    run: str = ""  # the name of the run that made the result of the first task

    def record(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "process": self.process,
            "tasks": len(self.words),
            "changes": [explain.phrase(each, self.process) for each in self.differences],
            "run": self.run,
            "refused": self.refused,
        }


def trust(host: Host, processes: Sequence[str], reason: str | None) -> list[Trusting]:
    """Take the results of earlier versions of processes for those of the present ones.

    What is below a process follows from its results, so they go in the order of the pipeline.
    reason: why the edit changes no meaning; None: only say what would be taken, write nothing.

    Raises:
        NbcacheError: the pipeline does not fit together. UsageError: there is no such process.
    """
    order = host.prepare(processes).graph.places
    found: list[Trusting] = []
    for name in sorted(processes, key=lambda name: order.get(name, -1)):
        if name not in order:
            raise UsageError(history.unknown("process", name, sorted(order)))
        each = _trusting(host, name, reason)
        if reason is not None:
            host.cache.log.append(each.words)
        found.append(each)
    return found


def revoke(cache: Cache, target: str, reason: str = "") -> list[TrustRow]:
    """Take words back: those given for a process, or for a hash by its first digits.

    Raises:
        UsageError: none was given, or none that stands.
    """
    start = target if target.startswith("xxh3:") else f"xxh3:{target}"
    standing = standing_words(cache.log).values()
    chosen = [row for row in standing if row.process == target or row.hash.startswith(start)]
    if not chosen:
        known = ", ".join(sorted({row.process for row in standing})) or "none"
        raise UsageError(f"nothing that is trusted is called {target!r}; trusted are: {known}")
    now = time.time_ns() // 1000
    rows = [
        TrustRow(
            id=new_ulid(),
            at=max(now, row.at + 1),
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


def _trusting(host: Host, name: str, reason: str | None) -> Trusting:
    prepared = host.prepare([name])
    index = prepared.graph.places[name]
    found = dry_run(prepared)
    waiting = [
        decision
        for task, decision in sorted(found.decisions.items())
        if task[0] == index
        and decision.hash is not None
        and not decision.is_hit
        and found.outcomes.get(task) is not Outcome.SKIPPED
    ]
    candidates = _Earlier(host.cache, name) if waiting else None
    words: dict[str, TrustRow] = {}
    refused: dict[str, str] = {}
    first: tuple[tuple[Difference, ...], str] = ((), "")
    for decision in waiting:
        assert candidates is not None
        assert decision.hash is not None
        result, why = candidates.result_for(decision)
        if result is None:
            refused[decision.label] = why
            continue
        first = first if words else (candidates.differences(decision, result), result.run)
        words[decision.hash] = TrustRow(
            id=new_ulid(),
            at=time.time_ns() // 1000,
            hash=decision.hash,
            same_as=result.hash,
            reason=reason or "",
            process=name,
            user=user_name(),
        )
    run = "" if candidates is None else candidates.name_of(first[1])
    differences = tuple(
        Difference(each.change, with_text(host.cache, each.old), with_text(host.cache, each.new))
        for each in first[0]
    )
    return Trusting(name, tuple(words.values()), refused, differences, run)


class _Earlier:
    """The results that a process has had, by their inputs."""

    def __init__(self, cache: Cache, process: str) -> None:
        self._cache = cache
        self._runs: dict[str, RunSummary] = {run.id: run for run in history.runs(cache)}
        self._by_inputs: dict[frozenset[tuple[str, str]], list[AttemptRow]] = {}
        for row in cache.log.attempts(process=process):
            if row.status == Outcome.COMPLETED.value:
                inputs = frozenset((each.name, each.digest) for each in row.inputs)
                self._by_inputs.setdefault(inputs, []).append(row)

    def name_of(self, run: str) -> str:
        """Return how people call a run."""
        return self._runs[run].name if run in self._runs else run

    def result_for(self, decision: Decision) -> tuple[AttemptRow | None, str]:
        """Return the newest result that may be taken for a task's, or why there is none."""
        inputs = frozenset((name, each.digest) for name, each in decision.inputs.items())
        why = "no earlier task has these inputs"
        rows = self._by_inputs.get(inputs, [])
        for row in sorted(rows, key=lambda row: (row.at, row.id), reverse=True):
            differences = self.differences(decision, row)
            other = _beyond_an_edit(differences)
            if other is not None:
                why = f"{explain.phrase(other, row.process)}: that is no edit of code"
            elif not differences:
                why = "its result is no longer in the cache"
            elif self._cache.log.find(row.hash) is None:
                why = "the earlier result is no longer in the cache"
            else:
                return row, ""
        return None, why

    def differences(self, decision: Decision, row: AttemptRow) -> tuple[Difference, ...]:
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
