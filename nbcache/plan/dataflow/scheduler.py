"""The pure scheduler: events in, commands out. No I/O, no clock, no threads.

It holds the streams of all channels and the life of every task. The set of tasks, their inputs and
the order of everything gathered depend on the graph and on the results only, never on the order of
events (tests/sim runs thousands of orders). Errors of channels, and `finish`, let running attempts
end and start no more; `stop` and a cancel kill them. A run always ends with one `End`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from nbcache.model import event as ev
from nbcache.model.channel import Graph, Item
from nbcache.model.command import Command, Decide, End, Kill, Load, Report, Start, Wait
from nbcache.model.event import Event, TaskKey
from nbcache.model.ids import Position, format_position
from nbcache.model.task import Outcome, RunStatus
from nbcache.model.value import HoleCause
from nbcache.plan.dataflow.ending import Ending
from nbcache.plan.dataflow.flow import Flow
from nbcache.plan.dataflow.lives import DONE, PENDING, READY, RUNNING, Census, SchedulerFault, Task
from nbcache.plan.dataflow.places import Inputs
from nbcache.plan.dataflow.recalls import Recalls
from nbcache.plan.dataflow.retry import GIVE_UP_AFTER, Patience
from nbcache.plan.dataflow.room import Levels, Ready, Room
from nbcache.plan.dataflow.streams import elements, same_content
from nbcache.plan.dataflow.twins import Twins


class Scheduler:
    """Decides what happens next in one run.

    The driver performs the commands and tells what happened, in any order: `Load` the items of a
    source, `Apply` an operator's function (`graph.nodes[node].function(*args)`, stored values
    decoded first), `Decide` whether the cache holds a task, `Start` an attempt, `Wait`, `Kill`.
    `Report` and `End` want no answer. Once `End` was given, events are ignored.

    Tasks with one hash run once: later ones wait as twins of the first and share its result, or
    its failure (equal inputs and code would fail again). If the first was aborted while the run
    goes on, the next twin runs. Failures of one process that come before any success end the run
    like `finish` after `give_up_after` of them (0: never); with `max_errors` it is so many failed
    tasks of the whole run instead. With `levels` a process starts only when those above it have
    ended. What goes on when the run is ending: see `Ending`.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        cpus: int,
        memory: int | None,
        gpus: int = 0,
        disk: int | None = None,
        max_parallel: int | None = None,
        levels: bool = False,
        max_errors: int | None = None,
        give_up_after: int = GIVE_UP_AFTER,
    ) -> None:
        self.graph = graph
        self.channel_errors: list[tuple[int, BaseException]] = []
        self.status = RunStatus.CREATED
        self._room = Room(cpus=cpus, memory=memory, gpus=gpus, disk=disk, max_parallel=max_parallel)
        self._ready = Ready(
            graph, self._room, Levels(graph, self._is_over).is_closed if levels else None
        )
        self._ending = Ending(graph, Patience(give_up_after, max_errors))
        self._recalls = Recalls()
        self._census = Census()
        self._tasks: dict[TaskKey, Task] = {}
        self._killed: set[TaskKey] = set()
        self._twins = Twins(self._queue, self._ending.is_over_for)
        self._loading: set[int] = set()
        self._is_plan = False
        self._flow = Flow(graph, self)
        self._commands = self._flow.commands
        self._handlers: dict[type[Event], Callable[..., None]] = {
            ev.SourceLoaded: self._on_loaded,
            ev.Applied: self._on_applied,
            ev.ChannelFailed: self._on_channel_failed,
            ev.Hit: self._on_hit,
            ev.Missed: self._on_missed,
            ev.Skipped: self._on_skipped,
            ev.Refused: self._on_refused,
            ev.Foreseen: self._on_foreseen,
            ev.AttemptStarted: self._on_started,
            ev.AttemptSucceeded: self._on_succeeded,
            ev.AttemptFailed: self._on_failed,
            ev.AttemptAborted: self._on_aborted,
            ev.AttemptPostponed: self._on_postponed,
            ev.OtherEnded: self._on_other_ended,
            ev.RetryDue: self._on_retry_due,
            ev.CancelRequested: self._on_cancel,
            ev.InputRecalled: self._on_recalled,
        }

    # What displays and drivers ask ------------------------------------------------------------

    @property
    def gave_up(self) -> str:
        """Why no more tasks were started, where failures were too many."""
        return self._ending.gave_up

    def counts(self, place: str) -> Mapping[str, int]:
        """Return how many tasks of a process are in each state or, once done, had each outcome."""
        return self._census.of(self.graph.places[place])

    def expected(self, place: str) -> int | None:
        """Return how many tasks a process will have, None while that is not known."""
        return self._flow.expected(self.graph.places[place])

    def lacks(self, place: str, position: Position) -> bool:
        """Whether it is known that no process of that name has a task at a position."""
        node = self.graph.places.get(place)
        return node is None or self._flow.streams[node].lacks(position)

    def items(self, node: int) -> int:
        """Return how many items a channel has given so far."""
        return self._flow.streams[node].items

    def _is_over(self, node: int) -> bool:
        if self._ending.is_over_for(node):
            return self._census.is_over(node, None)  # no more will come
        expected = self._flow.expected(node)
        return expected is not None and self._census.is_over(node, expected)

    def story(self, key: TaskKey) -> tuple[str, ...]:
        """Return what happened to a task, oldest first."""
        return tuple(self._tasks[key].story)

    def tasks(self) -> list[Task]:
        """Return all tasks that there are so far; to be read only."""
        return list(self._tasks.values())

    def task(self, key: TaskKey) -> Task:
        """Return what is known of a task; to be read only."""
        return self._tasks[key]

    def elements(self, node: int) -> list[tuple[Position, Item | HoleCause]]:
        """Return a channel's items and holes in order, as far as they are known without a gap."""
        return elements(self._flow.streams[node])

    def light(self, place: str, is_light: bool = True) -> None:
        """Say that attempts of a process take next to no time: more of them are started at once.

        Holds for attempts that ask for one cpu, no memory and no time, in processes without a
        limit of forks.
        """
        self._ready.light(self.graph.places[place], is_light)

    # Events and commands ----------------------------------------------------------------------

    def start(self) -> list[Command]:
        """Begin the run."""
        self.status = RunStatus.RUNNING
        for node in self.graph.nodes:
            if node.op == "source":
                self._loading.add(node.index)
                self._commands.append(Load(node.index))
        self._flow.start()
        return self._settle()

    def handle(self, event: Event) -> list[Command]:
        """Take one event and return what is to be done now."""
        return self.handle_many((event,))

    def handle_many(self, events: Iterable[Event]) -> list[Command]:
        """Take several events at once; cheaper than one by one, with the same meaning."""
        for event in events:
            if self.status is not RunStatus.RUNNING:
                break
            self._handlers[type(event)](event)
            self._travel()
        return self._settle()

    def _settle(self) -> list[Command]:
        self._travel()
        if not self._ending.starts_nothing:
            self._ready.start(self._begin)
        self._end_if_over()
        commands = list(self._commands)
        self._commands.clear()
        return commands

    def _end_if_over(self) -> None:
        if self.status is not RunStatus.RUNNING or self._census.alive:
            return
        if self._flow.asking:
            return
        if not self._ending.has_begun:
            if self._loading:
                return
            stuck = self._flow.unfinished()
            if stuck is not None and not self._is_plan:  # what chooses waits for what would run
                raise SchedulerFault(f"nothing is left to do, but {stuck.label!r} is not complete")
        self.status = self._ending.status()
        self._commands.append(End(self.status))

    # What the flow tells ----------------------------------------------------------------------

    def fail(self, node: int, error: BaseException) -> None:
        """A channel cannot give its items: the run ends without starting more (`Host`).

        Nothing below it goes on, also where it looks into failures: no answer would ever come.
        """
        self.channel_errors.append((node, error))
        if self._ending.drop_forensic(node) and self._ending.has_begun:
            self._abandon()
        self._finish_run(RunStatus.FAILED)

    def want(self, node: int, address: Position, inputs: Inputs, error: str | None) -> None:
        """Make a task, or give one other inputs (`Host`)."""
        if self._ending.is_over_for(node):
            return
        key = (node, address)
        known = self._tasks.get(key)
        if known is not None:
            self._renew(known, inputs)
            return
        task = Task(node, address, inputs)
        self._tasks[key] = task
        self._census.born(task)
        if error is not None:
            self._fail_task(task, error, "continue")
        else:
            self._commands.append(Decide(key, inputs))

    def _travel(self) -> None:
        """Let results travel; then those that waited for a result made again go on."""
        self._flow.drain()
        for task, producer in self._recalls.released():
            self._go_on(task, producer)
            self._flow.drain()

    def _on_loaded(self, event: ev.SourceLoaded) -> None:
        self._loading.discard(event.node)
        self._flow.load(self.graph.nodes[event.node], event.items)

    def _on_applied(self, event: ev.Applied) -> None:
        self._flow.answer(event.call, event.result)

    def _on_channel_failed(self, event: ev.ChannelFailed) -> None:
        self._loading.discard(event.node)
        self.fail(event.node, event.error)

    # Tasks -------------------------------------------------------------------------------------

    def _expecting(self, key: TaskKey, life: object) -> Task | None:
        """Return the task of an answer; None if the run's end has overtaken it."""
        task = self._tasks[key]
        if task.life is not life:
            if self._ending.has_begun:
                return None
            raise SchedulerFault(f"task {key} is {task.life.name}; so far: {' '.join(task.story)}")
        return task

    def _answered(self, key: TaskKey) -> Task | None:
        """Return the task whose Decide was answered; None if it has to be decided again."""
        task = self._expecting(key, PENDING)
        if task is not None and task.stale:
            task.stale = False
            self._commands.append(Decide(key, task.inputs))
            return None
        return task

    def _on_hit(self, event: ev.Hit) -> None:
        late = self._tasks[event.task]
        if late.life is RUNNING:  # another process made it while the attempt was about to start
            self._ready.leave(late)
            self._census.move(late, "reported")
            self._succeed(late, event.outcome, event.outputs)
            return
        task = self._answered(event.task)
        if task is not None:
            task.hash = event.hash
            self._succeed(task, event.outcome, event.outputs)

    def _on_skipped(self, event: ev.Skipped) -> None:
        task = self._answered(event.task)
        if task is not None:
            self._end_task(task, Outcome.SKIPPED)

    def _on_refused(self, event: ev.Refused) -> None:
        task = self._answered(event.task)
        if task is not None:
            self._fail_task(task, event.error, self._static_action(task))

    def _on_foreseen(self, event: ev.Foreseen) -> None:
        task = self._answered(event.task)
        self._is_plan = True
        if task is not None:
            outcome = Outcome.IGNORED if event.ignored else Outcome.FAILED
            self._end_task(task, outcome, error="it was not run", foreseen=not event.ignored)

    def _static_action(self, task: Task) -> str:
        decl = self.graph.nodes[task.node].decl
        action = decl.directives.on_error if decl is not None else "continue"
        return action if isinstance(action, str) and action != "retry" else "continue"

    def _on_missed(self, event: ev.Missed) -> None:
        task = self._answered(event.task)
        if task is None:
            return
        refusal = self._room.refusal(event.resources)
        if refusal is not None:
            self._fail_task(task, refusal, self._static_action(task))
            return
        task.hash, task.resources = event.hash, event.resources
        self._census.move(task, "missed")
        owner = self._twins.add(task)
        if owner is not None:
            self._share(owner, task)

    def _queue(self, task: Task) -> None:
        task.queued, task.passed_by = True, 0
        self._ready.add(task)

    def _begin(self, task: Task) -> None:
        task.queued = False
        self._census.move(task, "started")
        task.attempt += 1
        self._commands.append(Start(task.key, task.attempt))

    def _on_started(self, event: ev.AttemptStarted) -> None:
        self._tasks[event.task].story.append("attempt started")

    def _on_succeeded(self, event: ev.AttemptSucceeded) -> None:
        task = self._expecting(event.task, RUNNING)
        if task is None:
            return
        self._ready.leave(task)
        self._census.move(task, "reported")
        self._succeed(task, Outcome.COMPLETED, event.outputs)

    def _on_failed(self, event: ev.AttemptFailed) -> None:
        task = self._expecting(event.task, RUNNING)
        if task is None:
            return
        self._ready.leave(task)
        refusal = self._room.refusal(event.resources) if event.action == "retry" else None
        if event.action != "retry" or self._ending.is_over_for(task.node) or refusal is not None:
            error = f"{event.error}\n  the next attempt {refusal}" if refusal else event.error
            action = "continue" if event.action == "retry" else event.action
            self._fail_task(task, error, action)
            return
        self._census.move(task, "retried")
        task.resources = event.resources
        if event.after_s > 0:
            task.postponed = True
            self._commands.append(Wait(task.key, event.after_s))
        else:
            self._queue(task)

    def _on_postponed(self, event: ev.AttemptPostponed) -> None:
        task = self._expecting(event.task, RUNNING)
        if task is None:
            return
        self._ready.leave(task)
        task.attempt -= 1
        self._census.move(task, "postponed")
        task.postponed = True
        if self._ending.is_over_for(task.node):
            self._end_task(task, Outcome.ABORTED)
        elif task.stale:
            self._decide_anew(task)

    def _on_other_ended(self, event: ev.OtherEnded) -> None:
        task = self._tasks[event.task]
        if not task.postponed or task.hash != event.hash:
            return  # it was ended, or decided anew, and waits for nobody any more
        task.postponed = False
        if event.outputs is None:
            self._queue(task)
        else:
            self._succeed(task, Outcome.CACHED, event.outputs)

    def _on_retry_due(self, event: ev.RetryDue) -> None:
        task = self._tasks[event.task]
        if task.postponed:  # else it was ended, or is decided anew
            task.postponed = False
            self._queue(task)

    def _on_aborted(self, event: ev.AttemptAborted) -> None:
        task = self._expecting(event.task, RUNNING)
        if task is None:
            return
        self._ready.leave(task)
        self._ending.aborted()
        twins = self._twins.disown(task)
        self._end_task(task, Outcome.ABORTED)
        self._twins.adopt(twins)

    # Ends --------------------------------------------------------------------------------------

    def _succeed(self, task: Task, outcome: Outcome, outputs: Item) -> None:
        if task.outputs is not None and not same_content(task.outputs, outputs):
            self._replace_twins(task, outputs)
        task.outputs = outputs
        self._end_task(task, outcome, slot=outputs)
        if task.stale and not self._ending.has_begun:
            task.stale = False
            self._decide_again(task)

    def _share(self, owner: Task, twin: Task) -> None:
        """End a twin as its owner ended."""
        twin.owner = None
        assert owner.outcome is not None
        if owner.outcome.succeeded:
            assert owner.outputs is not None
            twin.outputs = owner.outputs
            self._end_task(twin, Outcome.CACHED, slot=owner.outputs, twin=owner.key)
            return
        action = self._static_action(twin)
        if action == "continue" and owner.outcome is Outcome.IGNORED:
            action = "ignore"
        self._fail_task(twin, owner.error or "", action, twin=owner.key)

    def _fail_task(self, task: Task, error: str, action: str, twin: TaskKey | None = None) -> None:
        task.error = error
        if action == "ignore":
            self._end_task(task, Outcome.IGNORED, error=error, twin=twin)
            return
        self._end_task(task, Outcome.FAILED, error=error, twin=twin)
        self._give_up(self._ending.failed())
        if action == "stop":
            self._stop_run(RunStatus.FAILED)
        elif action == "finish":
            self._finish_run(RunStatus.FAILED)

    def _end_task(
        self,
        task: Task,
        outcome: Outcome,
        *,
        slot: Item | None = None,
        error: str | None = None,
        twin: TaskKey | None = None,
        foreseen: bool = False,
    ) -> None:
        """The only way to DONE: count, report, let the slot travel, tell twins and waiters."""
        task.queued = task.postponed = False
        self._census.move(task, "ended", outcome)
        key = (task.node, task.position)
        self._commands.append(Report(key, outcome, error, twin))
        if task.waiters is not None:
            self._recalls.ended(task)
        if slot is None and task.outputs is None:
            failed = (twin or key) if outcome is Outcome.FAILED else None
            cause = HoleCause(outcome.value, self._label(task), task.node, failed, foreseen)
            self._flow.emit(task.node, task.position, cause)
        elif slot is not None:
            self._flow.emit(task.node, task.position, slot)
        if twin is None:
            self._give_up(self._ending.ended(task.node, outcome))
        if task.twins is not None and outcome is not Outcome.ABORTED:
            for other in self._twins.let_go(task):
                if other.life is READY:
                    self._share(task, other)

    def _label(self, task: Task) -> str:
        return f"{self.graph.nodes[task.node].name}[{format_position(task.position)}]"

    def _give_up(self, why: str) -> None:
        """Start no more, if there is a reason to."""
        if not why:
            return
        if not self._ending.has_begun:
            self._ending.gave_up = f"{why}: no more were started"
        self._finish_run(RunStatus.FAILED)

    def _finish_run(self, status: RunStatus) -> None:
        """Start nothing more; what runs may end."""
        if self._ending.begin(status):
            self._abandon()

    def _abandon(self) -> None:
        """End what has not started, except what looks into failures."""
        self._flow.stop(self._ending.forensic)
        if not self._ending.forensic:
            self._ready.clear()
        for task in list(self._tasks.values()):
            if (task.life is PENDING or task.life is READY) and self._ending.is_over_for(task.node):
                self._end_task(task, Outcome.ABORTED)

    def _stop_run(self, status: RunStatus) -> None:
        """End now: kill what runs, each task once."""
        cancelled = status is RunStatus.CANCELLED
        if cancelled and self._ending.drop_forensic() and self._ending.has_begun:
            self._abandon()
        self._finish_run(status)
        for task in self._tasks.values():
            is_going = task.life is RUNNING and task.key not in self._killed
            if is_going and self._ending.is_over_for(task.node):
                self._killed.add(task.key)
                self._commands.append(Kill(task.key))

    def _on_cancel(self, event: ev.CancelRequested) -> None:
        self._stop_run(RunStatus.CANCELLED)

    # Results that are gone -----------------------------------------------------------------------

    def _on_recalled(self, event: ev.InputRecalled) -> None:
        """Inputs of a task that was to start are gone: they are made again, then it goes on."""
        task = self._expecting(event.task, RUNNING)
        if task is None:
            return
        self._ready.leave(task)
        task.attempt -= 1
        twins = self._twins.disown(task)
        self._census.move(task, "recalled")
        self._twins.adopt(twins)
        if self._ending.has_begun:
            self._end_task(task, Outcome.ABORTED)
            return
        producers = [self._tasks[key] for key in event.producers]
        self._recalls.wait(task, producers)
        for producer in producers:
            if producer.life is DONE:
                self._decide_again(producer)

    def _decide_again(self, task: Task) -> None:
        """Take a done task back: its result is gone, or its inputs are others now."""
        self._twins.disown_result(task)
        self._census.move(task, "recalled")
        self._commands.append(Decide(task.key, task.inputs))

    def _replace_twins(self, task: Task, outputs: Item) -> None:
        """What was made again differs: tasks that had the result which is gone get the new one."""
        for twin in self._tasks.values():
            if twin.hash == task.hash and twin is not task and twin.life is DONE and twin.outputs:
                twin.outputs = outputs
                self._flow.emit(twin.node, twin.position, outputs)

    def _go_on(self, task: Task, producer: Task) -> None:
        """Decide a task whose lost inputs are all there again; fail it if one cannot be made."""
        assert producer.outcome is not None
        if producer.outcome.succeeded:
            task.stale = False
            self._commands.append(Decide(task.key, task.inputs))
            return
        self._fail_task(
            task,
            f"an input is gone, and {self._label(producer)} {producer.outcome.value} "
            "when it was made again",
            "continue",
        )

    def _renew(self, task: Task, inputs: Inputs) -> None:
        """Give a task other inputs; if their content differs, it is fingerprinted anew."""
        changed = not all(
            same_content(value, inputs.get(name)) for name, value in task.inputs.items()
        )
        task.inputs = inputs
        if not changed or task.waiting_for is not None:
            return
        if task.life is DONE:
            if cast(Outcome, task.outcome).succeeded:
                self._decide_again(task)
        elif task.life is READY:
            self._decide_anew(task)
        else:
            task.stale = True

    def _decide_anew(self, task: Task) -> None:
        """Take a task back that has not begun: its inputs are others now."""
        self._twins.adopt(self._twins.disown(task))
        self._twins.leave(task)
        task.queued = task.postponed = task.stale = False
        self._census.move(task, "recalled")
        self._commands.append(Decide(task.key, task.inputs))
