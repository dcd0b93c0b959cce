"""The rows that the kernel makes: templates of attempts, uses, refusals, status of the run.

Workers fill in and append the rows of their attempts; what is made here is appended by the
kernel. Ids and times are taken here and nowhere else in the engine.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import socket
import time
from collections.abc import Collection, Sequence
from typing import Any

from nbcache.engine.record.task_ends import NOT_BEGUN, NOT_RETRIED, End, counts_of
from nbcache.engine.running.beginning import Beginning
from nbcache.engine.running.decision import Decision, Place
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.run import Run
from nbcache.engine.work.harvest import to_ports
from nbcache.engine.work.shown import hide_secrets
from nbcache.model.channel import upstream_of
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.event import Resources, TaskKey
from nbcache.model.fingerprint import Component
from nbcache.model.ids import Position, format_position, parse_position
from nbcache.model.row import AttemptRow, ListRow, ProcessRecord, Row, RunRow, UseRow
from nbcache.model.task import Outcome, RunStatus
from nbcache.plan.dataflow.outline import outline_record
from nbcache.plan.identity.confidential import confidential_texts, is_confidential
from nbcache.plan.identity.fingerprint import KINDS
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid


def now_us() -> int:
    """Return microseconds since 1970."""
    return time.time_ns() // 1000


def user_name() -> str:
    """Return who runs this, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


class RowMaker:
    """Makes the rows of one run and appends them to the log."""

    def __init__(self, cache: Cache, run: Run, beginning: Beginning) -> None:
        self._cache, self._run, self._beginning = cache, run, beginning
        self._session, self._earlier = beginning.session, beginning.earlier
        self._lists: set[Digest] = set()  # whose rows are written
        self._host, self._user = socket.gethostname(), user_name()
        self._executor = beginning.options.executor.partition(":")[0]

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows; they are durable on return."""
        self._cache.log.append(rows)

    def attempt(
        self, decision: Decision, number: int, resources: Resources, *, status: str = "completed"
    ) -> AttemptRow:
        """Return the row of an attempt with all that is known before it starts.

        `number` counts in this session; the row's goes on from those of earlier sessions.
        """
        assert decision.hash is not None
        position = format_position(decision.task[1])
        earlier = self._earlier.attempts.get((decision.place.name, position), 0)
        inputs = tuple(each.row(name) for name, each in decision.inputs.items())
        now = now_us()
        return AttemptRow(
            id=new_ulid(),
            at=now,
            run=self._run.id,
            session=self._session,
            process=decision.place.name,
            position=position,
            tag=decision.tag,
            hash=decision.hash,
            generation=self._cache.log.next_generation(decision.hash),
            status=status,
            attempt=earlier + number,
            submit=now,
            host=self._host,
            user=self._user,
            executor=self._executor,
            cpus=resources.cpus,
            memory=resources.memory,
            time=resources.time,
            gpus=resources.gpus or None,
            disk=resources.disk,
            components=(
                *(
                    Component(
                        *("input", each.name, KINDS["input"], each.digest, each.summary),
                        decision.inputs[each.name].outline,
                    )
                    for each in inputs
                ),
                *decision.place.own,
                *decision.own,
            ),
            inputs=inputs,
            reason=decision.reason or self._run.reasons.get(decision.place.name, ""),
        )

    def is_own(self, decision: Decision, row_id: str) -> bool:
        """Whether a row is of the very same task in an earlier session of this run."""
        key = (decision.place.name, format_position(decision.task[1]))
        return row_id in self._earlier.made.get(key, ())

    def use(self, decision: Decision, source: str, attempts: int) -> UseRow:
        """Return the slim row of a hit, after so many attempts in this session that failed."""
        assert decision.hash is not None
        position = format_position(decision.task[1])
        if attempts:
            attempts += self._earlier.attempts.get((decision.place.name, position), 0)
        return UseRow(
            id=new_ulid(),
            at=now_us(),
            run=self._run.id,
            session=self._session,
            process=decision.place.name,
            position=position,
            tag=decision.tag,
            hash=decision.hash,
            cached_from=source,
            attempt=attempts,
        )

    def refused(self, decision: Decision, outcome: Outcome, error: str) -> AttemptRow:
        """Return the row of a task that failed without an attempt."""
        row = self.attempt(decision, 1, Resources(), status=outcome.value)
        return dataclasses.replace(row, error=_first_line(error), complete=row.submit)

    def not_begun(self, task: TaskKey, process: str, decision: Decision | None) -> AttemptRow:
        """Return the slim row of a task that had not begun when the run ended.

        It says what the task was, and not what it was to be made with: a run may leave very many.
        """
        row = self.unidentified(task, process, Outcome.ABORTED, NOT_BEGUN, number=0)
        if decision is None or decision.hash is None:
            return row
        inputs = tuple(each.row(name) for name, each in decision.inputs.items())
        return dataclasses.replace(row, hash=decision.hash, tag=decision.tag, inputs=inputs)

    def not_retried(self, decision: Decision, attempts: int) -> AttemptRow:
        """Return the row of a task that the run left between two attempts, after so many of it."""
        row = self.attempt(decision, attempts, Resources(), status=Outcome.ABORTED.value)
        failed = _first_line(decision.failed.error or "")
        error = f"{NOT_RETRIED}; its last attempt: {failed}"
        return dataclasses.replace(row, error=error, complete=row.submit)

    def has_made(self, process: str, position: Position) -> bool:
        """Whether an earlier session of this run has a result of a task."""
        return (process, format_position(position)) in self._earlier.made

    def unidentified(
        self, task: TaskKey, process: str, outcome: Outcome, error: str, number: int = 1
    ) -> AttemptRow:
        """Return the row of a task whose inputs could not be identified; its hash is no other's."""
        position = format_position(task[1])
        now = now_us()
        return AttemptRow(
            id=new_ulid(),
            at=now,
            run=self._run.id,
            session=self._session,
            process=process,
            position=position,
            hash=identity_digest(f"run {self._run.id} {process}[{position}]".encode()),
            status=outcome.value,
            attempt=self._earlier.attempts.get((process, position), 0) + number,
            submit=now,
            complete=now,
            host=self._host,
            user=self._user,
            executor=self._executor,
            error=_first_line(error),
        )

    def stored(self, decision: Decision) -> AttemptRow:
        """Return the row of a task whose result a store folder held."""
        row = self.attempt(decision, 1, Resources(), status=Outcome.STORED.value)
        return dataclasses.replace(
            row, outputs=to_ports(decision.ports), reason=decision.reason, complete=row.submit
        )

    def skipped(self, decision: Decision) -> AttemptRow:
        """Return the row of a task that its `when`, or an input that was not made, left out."""
        row = self.attempt(decision, 1, Resources(), status=Outcome.SKIPPED.value)
        when = decision.place.decl.directives.when
        reason = "an input of it was not made" if when is None else f"when {when.text} did not hold"
        return dataclasses.replace(row, reason=reason)

    def lists(self, decision: Decision) -> list[ListRow]:
        """Return what the gathered inputs of a task hold, each list once in a run."""
        rows = []
        for each in decision.inputs.values():
            if each.members and each.digest not in self._lists:
                self._lists.add(each.digest)
                rows.append(
                    ListRow(
                        id=new_ulid(),
                        at=now_us(),
                        run=self._run.id,
                        session=self._session,
                        hash=each.digest,
                        inputs=each.members,
                    )
                )
        return rows

    def started(self, prepared: Prepared, *, notebook: str | None) -> RunRow:
        """Return the first row of a session: all that it began with."""
        beginning = self._beginning
        status = RunStatus.RUNNING if self._session == 1 else RunStatus.RESUMING
        return self._run_row(
            status,
            notebook=notebook,
            parent=beginning.parent,
            parameters={  # for one that is left out a resume takes the notebook's, or what -p gives
                name: text
                for name, text in beginning.parameters.items()
                if not is_confidential(name, text)
            },
            options=beginning.options.texts(),
            targets=beginning.targets,
            processes=process_records(prepared),
            retention=beginning.retention,
            outline=outline_record(self._run.outline),
            wiring=prepared.wiring,
        )

    def _run_row(self, status: RunStatus, **columns: Any) -> RunRow:
        return RunRow(
            id=new_ulid(),
            at=now_us(),
            run=self._run.id,
            session=self._session,
            name=self._run.name,
            status=status.value,
            host=self._host,
            user=self._user,
            pid=os.getpid(),
            **columns,
        )

    def ended(self, status: RunStatus, error: str) -> RunRow:
        """Return the row of the end of a session: how the run stands then."""
        counts, own = self._run.counts(), len(self._run.own)
        settled: tuple[str, ...] = ()
        if self._session > 1:
            settled = self._settled(status)
            counts, own = counts_of(self._ends(settled))
        return self._run_row(
            status,
            duration=self._run.stop_clock(),
            counts=counts,
            own=own,
            settled=settled,
            saved=self._run.saved_s,
            items={str(node): count for node, count in self._run.progress().items.items()},
            handed_on=self._run.handed_on,
            error=hide_secrets(error, confidential_texts({})) or None,
        )

    def _settled(self, status: RunStatus) -> tuple[str, ...]:
        """Return the processes of which this session leaves no task of earlier ones in doubt: each
        has a row of it, or is none any more, as its item is gone or its failure healed."""
        names = {name for name, _ in self._earlier.last}
        if status is RunStatus.SUCCEEDED:
            return tuple(sorted(names))
        run, places = self._run, self._run.graph.places
        for name, position in self._earlier.last:
            at = parse_position(position)
            task = run.tasks.get((places[name], at)) if name in places else None
            if task is not None:
                is_left = task.outcome is Outcome.ABORTED and self.has_made(name, at)
            else:
                is_left = not run.lacks(name, at)
            if is_left:
                names.discard(name)
        return tuple(sorted(names))

    def _ends(self, settled: Collection[str]) -> Collection[End]:
        """Return how the tasks of the run ended, over its sessions, as their rows will tell."""
        run = self._run
        ends = {key: end for key, end in self._earlier.last.items() if key[0] not in settled}
        for task, told in run.tasks.items():
            name = run.graph.nodes[task[0]].name
            if told.outcome is Outcome.ABORTED and not told.hash and self.has_made(name, task[1]):
                continue  # the session has left no row of it
            outcome = Outcome.COMPLETED if task in run.kept else told.outcome
            ends[name, format_position(task[1])] = End(outcome.value, told.row)
        return ends.values()


def process_records(prepared: Prepared) -> tuple[ProcessRecord, ...]:
    """Return what a run records of its processes."""
    return tuple(
        _process_record(place, upstream_of(prepared.graph, index))
        for index, place in prepared.places.items()
    )


def _process_record(place: Place, upstream: tuple[str, ...]) -> ProcessRecord:
    decl = place.decl
    return ProcessRecord(
        name=place.name,
        components=place.recorded,
        source=decl.source or decl.body,
        cell=decl.cell,
        language=decl.language,
        inputs=tuple(place.node.filling),
        outputs=tuple(output.name for output in place.outputs),
        upstream=upstream,
        labels=decl.directives.label,
    )


def _first_line(error: str) -> str:
    """Return what is wrong: below it a refusal says where, and the ways out."""
    return hide_secrets(error, confidential_texts({})).strip().split("\n")[0][:500]
