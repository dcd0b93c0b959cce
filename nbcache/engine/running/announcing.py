"""Obey the scheduler's `Report`: write what became of tasks, then tell it, then publish.

What is appended comes before what is announced, so that nothing is lost that was told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from nbcache.engine.record.results import TaskResult, undecided_label
from nbcache.engine.running.course import Course
from nbcache.engine.running.decision import Decision
from nbcache.engine.running.failing import Failures
from nbcache.engine.running.publish import Publisher
from nbcache.engine.running.rows import RowMaker
from nbcache.model.channel import Item
from nbcache.model.command import Report
from nbcache.model.event import TaskKey
from nbcache.model.row import Row
from nbcache.model.task import Outcome, RunStatus
from nbcache.model.view import FailureView
from nbcache.plan.dataflow.lives import RUNNING


class Announcer:
    """Tells the user's `Run` how its tasks ended."""

    def __init__(self, course: Course, publisher: Publisher, failures: Failures) -> None:
        self._course, self._publisher, self._failures = course, publisher, failures

    def report(self, reports: Sequence[Report]) -> None:
        """Write the rows of tasks that were not attempted in one go, then announce."""
        self._append(reports)
        for each in reports:
            self._announce(each)

    def break_off(self) -> None:
        """The run ends by a fault of ours: tell how each task of it ends that nobody told of."""
        run = self._course.run
        left = [task for task in self._course.scheduler.tasks() if task.key not in run.tasks]
        ends = [Report(task.key, task.outcome or Outcome.ABORTED, task.error) for task in left]
        with contextlib.suppress(Exception):  # it may be the log that cannot be written
            self._append(ends)
        for task, end in zip(left, ends, strict=True):
            self._note_end(end, task.outputs)

    async def finish(self, status: RunStatus) -> RunStatus:
        """Wait until all results are published; one that could not be makes the run fail."""
        run = self._course.run
        is_whole = status is RunStatus.SUCCEEDED and not run.counts().get("ignored")
        failed = await asyncio.to_thread(
            self._publisher.finish, cancelled=status is RunStatus.CANCELLED, is_whole=is_whole
        )
        for text in self._publisher.said():
            self._course.run.note(text)
        for decision, error in failed:
            self._failures.tell(
                FailureView(
                    task=decision.label,
                    process=decision.place.name,
                    error=f"its result is kept, but {error}",
                    way_out="then run again: nothing else is left to do",
                )
            )
        return RunStatus.FAILED if failed and status is RunStatus.SUCCEEDED else status

    def _append(self, reports: Sequence[Report]) -> None:
        maker = self._course.rows
        if maker is not None:
            rows = [row for each in reports if (row := self._row(maker, each)) is not None]
            if rows:
                maker.append(rows)

    def _row(self, maker: RowMaker, report: Report) -> Row | None:
        """Return the row of a task that was not attempted; None: it has one, or needs none."""
        course, task = self._course, report.task
        decision = course.decisions.get(task)
        if report.outcome in (Outcome.FAILED, Outcome.IGNORED):
            return None if task in course.row_ids else self._row_of_failure(maker, report, decision)
        if report.outcome is Outcome.ABORTED:
            return self._row_of_end(maker, task, decision)
        if decision is None:
            return None
        if report.outcome is Outcome.CACHED or report.twin is not None:
            return self._row_of_use(maker, report, decision)
        if decision.hash is None:
            return None
        if report.outcome is Outcome.STORED:
            row = maker.stored(decision)
            course.row_ids[task] = row.id
            return row
        return maker.skipped(decision) if report.outcome is Outcome.SKIPPED else None

    def _row_of_failure(self, maker: RowMaker, report: Report, decision: Decision | None) -> Row:
        error = report.error or ""
        if decision is None or decision.hash is None:
            name = self._course.graph.nodes[report.task[0]].name
            return maker.unidentified(report.task, name, report.outcome, error)
        return maker.refused(decision, report.outcome, error)

    def _row_of_end(self, maker: RowMaker, task: TaskKey, decision: Decision | None) -> Row | None:
        """Return the row of a task that had not begun when the run ended; None: it needs none."""
        course = self._course
        if task in course.retrying and decision is not None:
            return maker.not_retried(decision, course.retrying[task])
        has_begun = task in course.begun and course.scheduler.task(task).life is RUNNING
        if task in course.row_ids or has_begun:
            return None  # its attempt has left its row, or will
        name = course.graph.nodes[task[0]].name
        is_unknown = decision is None or decision.hash is None
        if is_unknown and maker.has_made(name, task[1]):
            return None
        return maker.not_begun(task, name, decision)

    def _row_of_use(self, maker: RowMaker, report: Report, decision: Decision) -> Row | None:
        """Return what says that an earlier result, or that of a twin, was used."""
        course = self._course
        source = decision.entry.row_id if decision.entry is not None else ""
        if report.twin is not None:
            source = course.row_ids.get(report.twin, source)
        if not source or not report.outcome.succeeded:
            return None
        if decision.is_shared and course.cache.shared is not None:
            course.cache.shared.note_used(source)
        course.row_ids[report.task] = source
        return maker.use(decision, source, course.retrying.pop(report.task, 0))

    def _announce(self, report: Report) -> None:
        run, task = self._course.run, report.task
        decision = self._course.decisions.get(task)
        if decision is None:
            label = self._note_end(report, None)
            if report.error:
                place = self._course.graph.nodes[task[0]].name
                self._failures.tell(FailureView(task=label, process=place, error=report.error))
            return
        outputs = decision.outputs
        if outputs is None and report.twin is not None:
            outputs = self._course.decisions[report.twin].outputs
        if not report.outcome.succeeded:
            outputs = None
        if report.outcome is Outcome.CACHED:
            self._announce_hit(decision)
        if report.twin is not None:
            run.note_equal(task, report.twin)
        self._note_end(report, outputs)
        if outputs is not None:
            self._publisher.publish(decision, outputs)
            self._course.note_outputs(task, outputs)
        if report.outcome is Outcome.FAILED and not self._failures.is_told(decision.label):
            self._failures.tell(self._failures.view(decision, None, report.error or "failed"))

    def _note_end(self, report: Report, outputs: Item | None) -> str:
        """Let the run know how a task ended; return its label."""
        course, task = self._course, report.task
        decision = course.decisions.get(task)
        if decision is None:  # it could not even be identified
            label = undecided_label(course.graph.nodes[task[0]].name, task[1])
            known = TaskResult(task[1], label, report.outcome, {}, None, report.error)
        else:
            known = TaskResult(
                task[1],
                decision.label,
                report.outcome,
                decision.values(),
                outputs,
                report.error,
                decision.hash or "",
                course.row_ids.get(task, ""),
            )
        course.run.note_end(task, known)
        return known.label

    def _announce_hit(self, decision: Decision) -> None:
        """Tell whose result it is, and what its task showed."""
        run, task, entry = self._course.run, decision.task, decision.entry
        if entry is None:
            return
        rows = self._course.rows
        kept = rows is not None and rows.is_own(decision, entry.row_id)
        run.note_hit(task, entry, kept=kept, trusted=decision.is_trusted)
        is_shown = entry.shown is not None and not (decision.is_known_only and entry.shown.blob)
        if entry.shown is not None and is_shown:
            run.shown_stored[task] = entry.shown
        if decision.place.talks:
            run.talk.hear(task, decision.label, run.chunks(task))
            run.talk.end(task, decision.label)
