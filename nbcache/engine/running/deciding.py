"""Answer the scheduler's `Decide`: a hit, a miss with its reason, a task that is left out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from nbcache.engine.running.course import Course
from nbcache.engine.running.decision import Decision, Place, outcome_of_hit
from nbcache.engine.running.reasons import ENDED_AS, Reasons
from nbcache.errors import NbcacheError
from nbcache.model.command import Decide
from nbcache.model.event import Event, Hit, Missed, Refused, Skipped
from nbcache.model.task import Outcome
from nbcache.model.value import FilePath, Gathered, RemoteFile
from nbcache.model.view import WaitView

_RAN = (Outcome.COMPLETED, Outcome.FAILED, Outcome.IGNORED)


class Deciding:
    """Decides the tasks of one run, on the loop where that is quick, else on a thread."""

    def __init__(self, course: Course, reasons: Reasons | None) -> None:
        self._course, self._reasons = course, reasons
        self._not_counting: set[str] = set()  # processes of which a result was found in vain
        self._scripts: dict[str, dict[str, Decision]] = {}  # by process: a task of each that runs
        self._named_inputs: dict[str, Place] = {}  # processes whose reason is what inputs are new
        self._noting = threading.Lock()  # reasons are found on both threads
        self._is_settled = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nbcache-hashing")
        course.decider.downloads.told_to(self._show_download)

    def decide(self, command: Decide) -> None:
        """Decide at once, unless a file may have to be read: then on the hashing thread."""
        inputs = command.inputs.values()
        if self._course.decider.may_read(command.task[0]) or any(map(_may_read, inputs)):
            self._course.decider.expect(command.task, command.inputs)
            inbox = self._course.inbox
            self._thread.submit(lambda: inbox.tell_from_afar(self._answer(command)))
        else:
            self._course.inbox.tell(self._answer(command))

    def settle(self) -> None:
        """Let the reasons of processes name no inputs of tasks that were decided and never ran.
        What the hashing thread still decides has no say in them any more."""
        if self._reasons is None:
            return
        run, scheduler = self._course.run, self._course.scheduler
        with self._noting:
            self._is_settled = True
            for name, place in self._named_inputs.items():
                ran = self._reasons.line_of(
                    place, lambda task: scheduler.task(task).outcome in _RAN
                )
                if ran:
                    run.reasons[name] = ran

    def close(self) -> None:
        """Decide no more, and end downloads; nobody waits for what has begun."""
        self._course.decider.downloads.end()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _show_download(self, place: str, progress: str | None) -> None:
        wait = None if progress is None else WaitView(f"fetching {place}", progress)
        self._course.run.wait_for_another(place, wait)

    def _answer(self, command: Decide) -> Event:
        decider = self._course.decider
        try:
            decision = decider.decide(command.task, command.inputs)
            self._course.decisions[command.task] = decision
            if not decider.evaluator.is_wanted(decision):
                return Skipped(command.task)
            if decision.is_hit:
                assert decision.outputs is not None
                if decision.stored:
                    self._course.run.note(f"{decision.place.name}: {decision.reason}")
                outcome = outcome_of_hit(decision)
                return Hit(command.task, decision.hash, decision.outputs, outcome)
            decider.fetch(decision)
            decider.outline(decision)
            resources = decider.evaluator.resources(decision, 1)
            with self._noting:
                if not self._is_settled:
                    self._note_reason(decision)
            if decision.refused:
                self._course.run.note_refused(decision.task, decision.refused)
        except NbcacheError as error:
            return Refused(command.task, str(error))
        except Exception as error:  # a value's own code failed while it was identified
            return Refused(command.task, f"{type(error).__name__}: {error}")
        return Missed(command.task, decision.hash, resources)

    def _note_reason(self, decision: Decision) -> None:
        """Find out why a task runs. Its process has one reason, as a plan has it: that of a task
        whose result was found and does not count goes before what holds for the process; that
        tasks did not succeed before is said where it holds for all."""
        if self._reasons is None:
            return
        reasons = self._course.run.reasons
        name, own = decision.place.name, decision.reason if decision.place.is_kept else ""
        place = self._course.decider.place_of(decision.task)
        found = self._reasons.of(place, [decision])
        decision.reason = decision.reason or found
        scripts = self._scripts.setdefault(name, {})
        scripts[decision.place.key] = decision
        if len(scripts) > 1:
            found = self._reasons.of(place, list(scripts.values()))
        reasons.setdefault(name, own or found)
        if own and name not in self._not_counting:
            self._not_counting.add(name)
            reasons[name] = own
            self._named_inputs.pop(name, None)
        elif name not in self._not_counting:
            line = self._reasons.line(place)
            if line or found not in ENDED_AS:
                reasons[name] = line or found
            if line:
                self._named_inputs[name] = place


def _may_read(value: object) -> bool:
    """Whether finding a value's identity may take long: it is a file, or holds some."""
    if isinstance(value, (FilePath, RemoteFile)):
        return True
    return type(value) in (list, tuple, Gathered) and any(map(_may_read, value))  # type: ignore[call-overload]
