"""What the failure of a task leads to, and what is told of it: to its user, and to processes that
look into failures."""

from __future__ import annotations

import dataclasses
import shlex
import zlib

from nbcache.engine.record.results import undecided_label
from nbcache.engine.running.course import Course
from nbcache.engine.running.decision import Decision
from nbcache.engine.spec import AttemptReport
from nbcache.engine.work.script_body import is_bash, script_argv
from nbcache.errors import NbcacheError, command
from nbcache.model.channel import Item
from nbcache.model.event import AttemptFailed, Resources, TaskKey
from nbcache.model.ids import format_position
from nbcache.model.row import AttemptRow
from nbcache.model.task import Outcome
from nbcache.model.value import KeptFolder
from nbcache.model.view import FailureView
from nbcache.plan.dataflow.retry import BACKOFF_S, NOT_FAILED, FailedAttempt, retry_delays
from nbcache.plan.language.places import Place, place_of_header, said_place

UNKEPT = "no cell is at fault: with a cache that takes results, run again"
SILENT = "it printed nothing: `set -x` as its first line shows the command that failed"
LOG_CHARACTERS = 100_000  # of what a failed task printed, for a process that looks into it
LOG_LINES = 20  # of it in a failure as it is shown


class Failures:
    """The failed attempts of one run."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._told: set[str] = set()  # labels of tasks
        self.keeps_nothing = False  # set where no result can be kept: the next one fares no better

    def fail(
        self, decision: Decision, number: int, report: AttemptReport | None, error: str
    ) -> None:
        """Attempt `number` of a task failed; with a report where it had begun."""
        course, task = self._course, decision.task
        if report is not None:
            course.note_row(task, report)
            decision.failed = FailedAttempt(report.exit, report.signal, error)
        else:
            decision.failed = FailedAttempt(error=error)
        try:
            action = course.decider.evaluator.action(decision, number)
            resources = course.decider.evaluator.resources(decision, number + 1)
        except NbcacheError as problem:  # a directive that is Python
            action, resources, error = "finish", Resources(), f"{error}; and {problem}"
        if self.keeps_nothing or (report is not None and report.unkept):
            action = "finish"
        if report is not None and report.row is not None:
            try:
                self._keep(decision, number, report.row, ignored=action == "ignore")
            except (NbcacheError, OSError) as problem:
                action, self.keeps_nothing = "finish", True
                error = error if report.unkept else f"{error}; and {problem}"
        wait = 0.0
        if action == "retry":
            wait = _wait_before_retry(decision, number)
            course.retrying[task] = number
        else:
            failure = self.view(decision, report, error, ignored=action == "ignore")
            self.tell(failure)
            course.failed[task] = (failure, decision.failed, number)
        course.inbox.tell(AttemptFailed(task, error, action, resources, wait))

    def tell(self, failure: FailureView) -> None:
        """Tell the user of a failure."""
        self._course.run.failures.append(failure)
        self._told.add(failure.task)

    def is_told(self, label: str) -> bool:
        """Say whether a failure was told of under this label, be it of an equal task."""
        return label in self._told

    def _keep(self, decision: Decision, number: int, row: AttemptRow, *, ignored: bool) -> None:
        """Append the row of a failed attempt where only the failure told what it means."""
        course = self._course
        if course.rows is None or course.decider.evaluator.failed_as(decision, number) is not None:
            return
        status = Outcome.IGNORED if ignored else Outcome.FAILED
        course.rows.append([dataclasses.replace(row, status=status.value)])

    def view(
        self,
        decision: Decision,
        report: AttemptReport | None,
        error: str,
        *,
        ignored: bool = False,
    ) -> FailureView:
        """Return a failure as it is shown: where, what was printed last, how to look inside."""
        where = script = ""
        unkept = self.keeps_nothing or (report is not None and report.unkept)
        way_out = UNKEPT if unkept else ""
        decl = decision.place.decl
        printed = self._printed(decision.task).strip()
        if report is not None:
            script = shlex.join(script_argv(decl))
            if report.signal and decl.language == "python":
                way_out = (
                    f"fix the cell and run again; {command('try')} runs it in this kernel, without "
                    "limits: what ended the worker may end that"
                )
            if report.exit and not printed and is_bash(decl):
                way_out = SILENT
            if report.where is not None:
                line, text = report.where
                where = said_place(decl, Place(line, text.strip()))
            elif report.undeclared:
                where = said_place(decl, place_of_header(decl))
        return FailureView(
            task=decision.label,
            process=decision.place.name,
            error=error,
            traceback=(report.traceback or "") if report is not None else "",
            where=where,
            workdir=report.workdir if report is not None else None,
            command=script,
            log="\n".join(printed.split("\n")[-LOG_LINES:]),
            position=format_position(decision.task[1]),
            ignored=ignored,
            way_out=way_out,
        )

    def item(self, task: TaskKey) -> Item:
        """Return what a forensic process takes of a failed task (`dataflow.failures.FIELDS`); on
        the operator thread."""
        course = self._course
        failure, failed, attempt = course.failed.get(task, (None, NOT_FAILED, 0))
        decision = course.decisions.get(task)
        error = failed.error or course.scheduler.task(task).error or ""
        folder = failure.workdir if failure is not None else None
        name = course.graph.nodes[task[0]].name
        item = (
            decision.label if decision is not None else undecided_label(name, task[1]),
            error,
            failure.traceback if failure is not None else error,
            self._printed(task)[-LOG_CHARACTERS:],
            None if folder is None else KeptFolder(folder),
            failed.exit,
            failed.signal,
            attempt,
        )
        course.run.looked_into[task] = item
        return item

    def _printed(self, task: TaskKey) -> str:
        chunks = self._course.run.chunks(task)
        return "".join(each.text for each in chunks if each.stream != "display")


def _wait_before_retry(decision: Decision, attempt: int) -> float:
    """Return seconds, other ones for each task: those that failed together come back apart."""
    backoff = decision.place.decl.directives.backoff or BACKOFF_S
    seed = zlib.crc32(f"{decision.label} {decision.hash}".encode())
    return retry_delays(attempt + 1, base_s=backoff, seed=seed)[-1]
