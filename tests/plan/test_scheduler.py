"""Tasks and runs: starting, ending, limits, failures, twins, results that are gone."""

from __future__ import annotations

from typing import Any

import pytest

from nbcache.model import event as ev
from nbcache.model.channel import Graph, Item
from nbcache.model.command import Apply, Command, Decide, End, Kill, Load, Report, Start, Wait
from nbcache.model.digest import Digest
from nbcache.model.event import Resources, TaskKey
from nbcache.model.task import Outcome, RunStatus, TaskState
from nbcache.model.value import Stored
from nbcache.plan.dataflow.lives import SchedulerFault
from nbcache.plan.dataflow.retry import action_after_failure, retry_delays
from nbcache.plan.dataflow.room import PATIENCE, SHARES
from nbcache.plan.dataflow.scheduler import Scheduler
from tests.sim.pipelines import Process, compile_all, queue, value
from tests.sim.world import World

RESOURCES = Resources()


def graph_of(count: int = 3, **directives: Any) -> Graph:
    """A queue of `count` items and one process `p` that reads it."""
    return compile_all(None, p=Process("p", [queue(range(count), "n")], ["n"], ["x"], **directives))


class Bench:
    """A scheduler at work, with short words for what a driver would tell it."""

    def __init__(self, graph: Graph, **options: Any) -> None:
        options = {"cpus": 4, "memory": None, **options}
        self.scheduler = Scheduler(graph, **options)
        self.graph = graph
        self.commands: list[Command] = []
        self.take(self.scheduler.start())
        for command in list(self.commands):
            if isinstance(command, Load):
                load = graph.nodes[command.node].load
                assert load is not None
                self.tell(ev.SourceLoaded(command.node, load()))

    def take(self, commands: list[Command]) -> list[Command]:
        self.commands += commands
        return commands

    def tell(self, *events: ev.Event) -> list[Command]:
        return self.take(self.scheduler.handle_many(events))

    def task(self, place: str, *position: int) -> TaskKey:
        return (self.graph.places[place], position)

    def miss(self, key: TaskKey, resources: Resources = RESOURCES, same: str = "") -> list[Command]:
        return self.tell(ev.Missed(key, Digest(same or repr(key)), resources))

    def miss_all(self, place: str, count: int, resources: Resources = RESOURCES) -> list[Command]:
        keys = [self.task(place, number) for number in range(count)]
        return self.tell(*(ev.Missed(key, Digest(repr(key)), resources) for key in keys))

    def succeed(self, key: TaskKey, *outputs: object) -> list[Command]:
        return self.tell(ev.AttemptSucceeded(key, outputs or ("done",)))

    def fail(self, key: TaskKey, action: str = "continue", after: float = 0.0) -> list[Command]:
        return self.tell(ev.AttemptFailed(key, "it broke", action, RESOURCES, after))


def starts(commands: list[Command]) -> list[TaskKey]:
    return [command.task for command in commands if isinstance(command, Start)]


def reports(commands: list[Command]) -> dict[TaskKey, Outcome]:
    return {c.task: c.outcome for c in commands if isinstance(c, Report)}


def end(commands: list[Command]) -> RunStatus | None:
    return next((c.status for c in commands if isinstance(c, End)), None)


# Starting -----------------------------------------------------------------------------------------


def test_every_item_is_decided_before_anything_starts() -> None:
    bench = Bench(graph_of(3))
    decided = [c for c in bench.commands if isinstance(c, Decide)]
    assert [c.inputs for c in decided] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert bench.scheduler.expected("p") == 3
    assert bench.scheduler.counts("p") == {"pending": 3}


def test_a_hit_ends_a_task_without_an_attempt() -> None:
    bench = Bench(graph_of(1))
    key = bench.task("p", 0)
    commands = bench.tell(ev.Hit(key, Digest("h"), ("x",)))
    assert reports(commands) == {key: Outcome.CACHED}
    assert end(commands) is RunStatus.SUCCEEDED
    assert bench.scheduler.elements(key[0]) == [((0,), ("x",))]


def test_no_more_start_than_there_are_cpus() -> None:
    bench = Bench(graph_of(4), cpus=2)
    assert starts(bench.miss_all("p", 4)) == [bench.task("p", 0), bench.task("p", 1)]
    assert bench.scheduler.counts("p") == {"running": 2, "ready": 2}
    assert starts(bench.succeed(bench.task("p", 1))) == [bench.task("p", 2)]


def test_many_light_tasks_count_as_one_that_is_not() -> None:
    bench = Bench(graph_of(5 * SHARES), cpus=2)
    bench.miss_all("p", 5 * SHARES)
    bench.scheduler.light("p")
    assert len(starts(bench.succeed(bench.task("p", 0)))) == SHARES
    assert len(starts(bench.succeed(bench.task("p", 1)))) == SHARES
    assert bench.scheduler.counts("p")["running"] == 2 * SHARES

    bench.scheduler.light("p", False)
    ended = [bench.task("p", number) for number in range(2, 2 * SHARES + 2)]
    started = [starts(bench.succeed(key)) for key in ended]
    assert [len(each) for each in started] == 2 * ([0] * (SHARES - 1) + [1])


def test_light_tasks_with_limits_start_as_any_others() -> None:
    for resources in (Resources(cpus=2), Resources(memory=1), Resources(time=1.0)):
        bench = Bench(graph_of(20), cpus=2)
        bench.scheduler.light("p")
        assert len(starts(bench.miss_all("p", 20, resources))) == 2 // resources.cpus
    forks = Bench(graph_of(20, max_forks=1), cpus=2)
    forks.scheduler.light("p")
    assert len(starts(forks.miss_all("p", 20))) == 1


def test_memory_and_the_number_of_attempts_are_limits_too() -> None:
    gigabyte = Resources(memory=10**9)
    memory = Bench(graph_of(3), memory=2 * 10**9)
    assert len(starts(memory.miss_all("p", 3, gigabyte))) == 2
    parallel = Bench(graph_of(3), max_parallel=1)
    assert len(starts(parallel.miss_all("p", 3))) == 1


def test_room_on_the_disk_is_reserved_and_what_asks_for_more_starts_alone() -> None:
    bench = Bench(graph_of(4), disk=100)
    key = [bench.task("p", number) for number in range(4)]
    asked = (60, 40, 500, 1)
    started = bench.tell(
        *(
            ev.Missed(each, Digest(repr(each)), Resources(disk=disk))
            for each, disk in zip(key, asked, strict=True)
        )
    )
    assert starts(started) == key[:2]
    assert starts(bench.succeed(key[0])) == []
    assert starts(bench.succeed(key[1])) == [key[2]]  # its error is told where it runs
    assert starts(bench.succeed(key[2])) == [key[3]]


def test_room_is_not_reserved_for_what_works_on_another_disk() -> None:
    bench = Bench(graph_of(3, scratch="/scratch"), disk=100)
    assert len(starts(bench.miss_all("p", 3, Resources(disk=80)))) == 3


def test_max_forks_holds_one_process_only() -> None:
    numbers = queue(range(3), "n")
    bench = Bench(
        compile_all(
            None,
            a=Process("a", [numbers], outputs=["x"], max_forks=1),
            b=Process("b", [numbers], outputs=["x"]),
        ),
        cpus=8,
    )
    bench.miss_all("a", 3)
    bench.miss_all("b", 3)
    assert len(starts(bench.commands)) == 4


def test_a_task_that_asks_for_more_than_there_is_fails_and_says_so() -> None:
    bench = Bench(graph_of(3), cpus=4, memory=10**9)
    commands = bench.miss(bench.task("p", 0), Resources(cpus=16))
    commands += bench.miss(bench.task("p", 1), Resources(memory=3 * 10**9))
    commands += bench.miss(bench.task("p", 2), Resources(gpus=1))
    errors = [c.error for c in commands if isinstance(c, Report)]
    assert "asks for 16 cpus, but this run has 4" in str(errors[0])
    assert "asks for 3 GB of memory, but this run has 1 GB" in str(errors[1])
    assert "asks for 1 gpu, but this machine has none" in str(errors[2])
    assert end(commands) is RunStatus.FAILED


def test_gpus_are_refused_only_where_there_are_too_few_and_else_waited_for() -> None:
    bench = Bench(graph_of(3), cpus=8, gpus=2)
    keys = [bench.task("p", number) for number in range(3)]
    assert starts(bench.miss(keys[0], Resources(gpus=2))) == [keys[0]]  # as many as there are
    (error,) = [c.error for c in bench.miss(keys[1], Resources(gpus=3)) if isinstance(c, Report)]
    assert error == (
        "asks for 3 gpus, but this machine has 2; lower it (`--gpus`), or say which there are: "
        "NBCACHE_GPUS=0,1"
    )
    assert starts(bench.miss(keys[2], Resources(gpus=1))) == []
    assert starts(bench.succeed(keys[0])) == [keys[2]]


def test_deeper_processes_start_first_so_that_the_pipeline_drains() -> None:
    a = Process("a", [queue(range(3), "n")], outputs=["x"])
    bench = Bench(compile_all(None, b=Process("b", [a], outputs=["y"])), cpus=1)
    bench.miss_all("a", 3)
    bench.tell(ev.AttemptFailed(bench.task("a", 0), "", "retry", RESOURCES, 9.0))
    bench.succeed(bench.task("a", 1))
    bench.miss(bench.task("b", 1))
    assert starts(bench.succeed(bench.task("a", 2))) == [bench.task("b", 1)]


def test_a_large_task_is_passed_by_so_many_small_ones_and_then_they_wait_for_it() -> None:
    small = Process("small", [queue(range(60), "n")], outputs=["x"])
    large = Process("large", [queue([1], "n")], outputs=["x"])
    bench = Bench(compile_all(None, a_small=small, b_large=large))
    first, large_one = bench.task("small", 0), bench.task("large", 0)
    bench.miss(first)
    assert starts(bench.miss(large_one, Resources(cpus=4))) == []

    passed = 0
    while starts(bench.miss(bench.task("small", passed + 1))):
        passed += 1
        bench.succeed(bench.task("small", passed))

    assert passed == PATIENCE
    assert starts(bench.succeed(first)) == [large_one]


# Ends ---------------------------------------------------------------------------------------------


def test_others_go_on_after_a_failure_and_nothing_below_it_runs() -> None:
    a = Process("a", [queue(range(3), "n")], outputs=["x"])
    world = World(
        compile_all(None, b=Process("b", [a], outputs=["y"])),
        fault=lambda place, inputs, attempt: "continue" if inputs.get("n") == 1 else None,
    ).run()
    assert world.status is RunStatus.FAILED
    assert set(world.tasks("b")) == {(0,), (2,)}
    assert world.scheduler.counts("a") == {"completed": 2, "failed": 1}
    assert world.scheduler.expected("b") == 2


def test_ignored_failures_leave_the_run_successful() -> None:
    world = World(graph_of(), fault=lambda p, i, n: "ignore" if i["n"] == 1 else None).run()
    assert world.status is RunStatus.SUCCEEDED
    assert world.outcome("p", 1) is Outcome.IGNORED


def test_finish_lets_running_attempts_end_and_starts_no_more() -> None:
    bench = Bench(graph_of(4), cpus=2)
    bench.miss_all("p", 4)
    commands = bench.fail(bench.task("p", 0), "finish")
    assert not starts(commands)
    assert reports(commands)[bench.task("p", 3)] is Outcome.ABORTED
    assert end(commands) is None
    commands = bench.succeed(bench.task("p", 1))
    assert reports(commands) == {bench.task("p", 1): Outcome.COMPLETED}
    assert end(commands) is RunStatus.FAILED


def test_stop_kills_what_runs() -> None:
    bench = Bench(graph_of(3), cpus=2)
    bench.miss_all("p", 3)
    commands = bench.fail(bench.task("p", 0), "stop")
    assert [c.task for c in commands if isinstance(c, Kill)] == [bench.task("p", 1)]
    commands = bench.tell(ev.AttemptAborted(bench.task("p", 1)))
    assert end(commands) is RunStatus.FAILED


def test_cancel_kills_and_the_run_is_cancelled() -> None:
    bench = Bench(graph_of(3), cpus=1)
    bench.miss_all("p", 3)
    commands = bench.tell(ev.CancelRequested())
    assert [type(c) for c in commands].count(Kill) == 1
    assert not [c for c in bench.tell(ev.CancelRequested()) if isinstance(c, Kill)]
    assert end(bench.succeed(bench.task("p", 0))) is RunStatus.CANCELLED
    assert bench.tell(ev.AttemptAborted(bench.task("p", 0))) == []


def test_cancel_after_finish_kills_too() -> None:
    bench = Bench(graph_of(3), cpus=2)
    bench.miss_all("p", 3)
    bench.fail(bench.task("p", 0), "finish")
    commands = bench.tell(ev.CancelRequested())
    assert [c.task for c in commands if isinstance(c, Kill)] == [bench.task("p", 1)]
    assert end(bench.tell(ev.AttemptAborted(bench.task("p", 1)))) is RunStatus.CANCELLED


def test_when_the_first_five_of_a_process_fail_the_rest_does_not_start() -> None:
    world = World(graph_of(20), cpus=1, give_up_after=5, fault=lambda p, i, n: "continue").run()
    assert world.scheduler.counts("p") == {"failed": 5, "aborted": 15}
    mixed = World(graph_of(20), cpus=1, give_up_after=5, uniform=True,
                  fault=lambda p, i, n: "continue" if i["n"] != 2 else None).run()  # fmt: skip
    assert mixed.scheduler.counts("p") == {"failed": 19, "completed": 1}


def test_equal_tasks_that_share_a_failure_count_once_among_the_first_five() -> None:
    bench = Bench(graph_of(7), cpus=1, give_up_after=5)
    keys = [bench.task("p", number) for number in range(7)]
    for key in keys[:6]:
        bench.miss(key, same="h")
    bench.miss(keys[6])
    commands = bench.fail(keys[0])
    assert reports(commands) == dict.fromkeys(keys[:6], Outcome.FAILED)
    assert starts(commands) == [keys[6]]


def test_skipped_and_refused_tasks_make_no_attempt() -> None:
    bench = Bench(graph_of(2))
    commands = bench.tell(
        ev.Skipped(bench.task("p", 0)), ev.Refused(bench.task("p", 1), "no canonical form")
    )
    assert reports(commands) == {
        bench.task("p", 0): Outcome.SKIPPED, bench.task("p", 1): Outcome.FAILED,
    }  # fmt: skip
    assert end(commands) is RunStatus.FAILED


def test_a_retry_waits_and_has_the_next_number_and_resources() -> None:
    bench = Bench(graph_of(1), cpus=4)
    key = bench.task("p", 0)
    bench.miss(key)
    commands = bench.tell(ev.AttemptFailed(key, "", "retry", Resources(cpus=3), 2.5))
    assert commands == [Wait(key, 2.5)]
    assert bench.tell(ev.RetryDue(key)) == [Start(key, 2)]
    assert bench.scheduler.task(key).resources.cpus == 3
    bench.succeed(key)
    assert bench.scheduler.story(key) == (
        "missed", "started", "retried", "started", "reported", "completed",
    )  # fmt: skip


def test_a_retry_that_would_not_fit_fails_with_both_reasons() -> None:
    bench = Bench(graph_of(1), memory=100)
    key = bench.task("p", 0)
    bench.miss(key)
    (report, *_) = bench.tell(ev.AttemptFailed(key, "killed", "retry", Resources(memory=200)))
    assert isinstance(report, Report)
    assert "killed" in str(report.error)
    assert "asks for 200 B of memory" in str(report.error)


def test_an_empty_run_ends_at_once() -> None:
    scheduler = Scheduler(Graph((), {}, {}), cpus=1, memory=None)
    assert scheduler.start() == [End(RunStatus.SUCCEEDED)]


def test_a_source_that_cannot_be_loaded_ends_the_run() -> None:
    graph = graph_of()
    bench = Scheduler(graph, cpus=1, memory=None)
    bench.start()
    error = FileNotFoundError("data/*.fq")
    assert bench.handle(ev.ChannelFailed(0, error)) == [End(RunStatus.FAILED)]
    assert bench.channel_errors == [(0, error)]


def test_an_impossible_event_is_a_fault_that_tells_the_story() -> None:
    bench = Bench(graph_of(1))
    key = bench.task("p", 0)
    bench.miss(key)
    with pytest.raises(SchedulerFault, match="is running; so far: missed started"):
        bench.tell(ev.Skipped(key))


def test_an_item_of_another_shape_fails_its_task_only() -> None:
    rows = queue([((1, 2),), (3,)], "row").map(lambda row: row)
    world = World(compile_all(None, p=Process("p", [rows], ["a", "b"], ["x"]))).run()
    assert world.outcome("p", 0) is Outcome.COMPLETED
    report = world.reports[(world.graph.places["p"], (1,))][0]
    assert report.outcome is Outcome.FAILED
    assert "the item is one int, but 2 inputs" in str(report.error)


# Twins --------------------------------------------------------------------------------------------


def test_equal_tasks_run_once_and_share_the_result() -> None:
    bench = Bench(graph_of(3))
    one, two, three = (bench.task("p", n) for n in range(3))
    commands = bench.miss(one, same="h") + bench.miss(two, same="h")
    assert starts(commands) == [one]
    commands = bench.succeed(one, "result")
    assert [c for c in commands if isinstance(c, Report)] == [
        Report(one, Outcome.COMPLETED), Report(two, Outcome.CACHED, None, one),
    ]  # fmt: skip
    commands = bench.miss(three, same="h")
    assert reports(commands) == {three: Outcome.CACHED}
    assert end(commands) is RunStatus.SUCCEEDED


def test_a_failure_is_shared_too() -> None:
    bench = Bench(graph_of(3))
    one, two, three = (bench.task("p", n) for n in range(3))
    bench.miss(one, same="h")
    bench.miss(two, same="h")
    commands = bench.fail(one)
    assert reports(commands) == {one: Outcome.FAILED, two: Outcome.FAILED}
    assert Report(two, Outcome.FAILED, "it broke", one) in commands
    assert reports(bench.miss(three, same="h")) == {three: Outcome.FAILED}


def test_after_an_abort_the_next_twin_runs() -> None:
    bench = Bench(graph_of(3))
    one, two, three = (bench.task("p", n) for n in range(3))
    for key in (one, two, three):
        bench.miss(key, same="h")
    commands = bench.tell(ev.AttemptAborted(one))
    assert starts(commands) == [two]
    assert reports(bench.succeed(two)) == {two: Outcome.COMPLETED, three: Outcome.CACHED}


def test_tasks_without_a_hash_have_no_twins() -> None:
    bench = Bench(graph_of(2))
    keys = [bench.task("p", n) for n in range(2)]
    assert starts(bench.tell(*(ev.Missed(key, None, RESOURCES) for key in keys))) == keys


def test_level_by_level_the_upper_of_two_equal_tasks_runs_and_the_lower_waits_for_it() -> None:
    bench = Bench(two_steps(), levels=True)
    quick, late = bench.task("make", 0), bench.task("make", 1)
    bench.miss(quick, same="quick")
    bench.succeed(quick, "m")
    below = bench.task("use", 0)
    assert starts(bench.miss(below, same="h")) == []  # make has not ended

    commands = bench.miss(late, same="h")

    assert starts(commands) == [late]
    assert reports(bench.succeed(late, "m")) == {late: Outcome.COMPLETED, below: Outcome.CACHED}


# Results that are gone ----------------------------------------------------------------------------


def two_steps() -> Graph:
    make = Process("make", [queue(range(2), "n")], outputs=["m"])
    return compile_all(None, use=Process("use", [make], outputs=["u"]))


def recalled(bench: Bench) -> TaskKey:
    """`make` was a hit; `use` finds that its blob is gone."""
    make, use = bench.task("make", 0), bench.task("use", 0)
    bench.tell(ev.Hit(make, Digest("h"), ("m",)))
    bench.miss(use)
    commands = bench.tell(ev.InputRecalled(use, (make,)))
    assert commands == [Decide(make, {"n": 0})]
    return make


def test_a_lost_input_is_made_again_and_its_reader_goes_on() -> None:
    bench = Bench(two_steps())
    make, use = recalled(bench), bench.task("use", 0)
    assert starts(bench.miss(make, same="h")) == [make]
    commands = bench.succeed(make, "m")
    assert Decide(use, {"m": "m"}) in commands
    assert bench.miss(use) == [Start(use, 1)]


def test_a_reader_gets_what_was_made_again_and_readers_that_are_done_are_decided_anew() -> None:
    make = Process("make", [queue([1], "n")], outputs=["m"])
    fast = Process("fast", [make], outputs=["f"])
    bench = Bench(compile_all(None, fast=fast, use=Process("use", [make.collect()], outputs=["u"]),
                              last=Process("last", [fast], outputs=["x"])))  # fmt: skip
    made, use, quick = bench.task("make", 0), bench.task("use"), bench.task("fast", 0)
    bench.tell(ev.Hit(made, Digest("h"), ("old",)), ev.Hit(quick, Digest("q"), ("from old",)))
    bench.tell(ev.Hit(bench.task("last", 0), Digest("l"), ("last",)))
    bench.miss(use)
    bench.tell(ev.InputRecalled(use, (made,)))
    bench.miss(made, same="h")

    commands = bench.succeed(made, "new")

    assert Decide(use, {"m": ["new"]}) in commands
    assert Decide(quick, {"m": "new"}) in commands
    assert len([c for c in commands if isinstance(c, Decide)]) == 2
    assert bench.scheduler.task(quick).state is TaskState.PENDING
    commands = bench.tell(ev.Hit(quick, Digest("q2"), ("from new",)))
    assert Decide(bench.task("last", 0), {"f": "from new"}) in commands


@pytest.mark.parametrize("begun", [False, True])
def test_what_was_found_or_made_of_an_input_that_was_replaced_meanwhile_does_not_count(
    begun: bool,
) -> None:
    make = Process("make", [queue([1], "n")], outputs=["m"])
    fast = Process("fast", [make], outputs=["f"])
    use = Process("use", [make.collect()], outputs=["u"])
    bench = Bench(compile_all(None, fast=fast, use=use))
    made, use_all, quick = bench.task("make", 0), bench.task("use"), bench.task("fast", 0)
    bench.tell(ev.Hit(made, Digest("h"), ("old",)))
    if begun:
        bench.miss(quick)
    bench.miss(use_all)
    bench.tell(ev.InputRecalled(use_all, (made,)))
    bench.miss(made, same="h")
    assert not [c for c in bench.succeed(made, "new") if c == Decide(quick, {"m": "new"})]

    if begun:
        commands = bench.succeed(quick, "from old")
    else:
        commands = bench.tell(ev.Hit(quick, Digest("q"), ("from old",)))

    assert Decide(quick, {"m": "new"}) in commands
    bench.tell(ev.Hit(quick, Digest("q2"), ("from new",)))
    assert bench.scheduler.task(quick).outputs == ("from new",)


def test_what_another_made_while_an_attempt_was_about_to_start_ends_it_and_leaves_its_room() -> (
    None
):
    bench = Bench(graph_of(2), cpus=1)
    one, two = bench.task("p", 0), bench.task("p", 1)
    bench.miss_all("p", 2)

    commands = bench.tell(ev.Hit(one, Digest("h"), ("x",)))

    assert reports(commands) == {one: Outcome.CACHED}
    assert starts(commands) == [two]


def test_a_reader_fails_when_its_lost_input_cannot_be_made_again() -> None:
    bench = Bench(two_steps())
    make, use = recalled(bench), bench.task("use", 0)
    bench.miss(make, same="h")
    commands = bench.fail(make)
    assert reports(commands) == {make: Outcome.FAILED, use: Outcome.FAILED}
    assert "make[0] failed when it was made again" in str(
        [c.error for c in commands if isinstance(c, Report) and c.task == use]
    )


def test_a_twin_whose_shared_result_is_gone_makes_it_again() -> None:
    bench = Bench(two_steps())
    one, two = bench.task("make", 0), bench.task("make", 1)
    bench.miss(one, same="h")
    bench.miss(two, same="h")
    bench.succeed(one, "m")
    bench.miss(bench.task("use", 1))
    assert bench.tell(ev.InputRecalled(bench.task("use", 1), (two,))) == [Decide(two, {"n": 1})]
    assert starts(bench.miss(two, same="h")) == [two]


def test_content_that_is_made_again_in_other_bytes_asks_nothing_anew_below_twins() -> None:
    make = Process("make", [queue(range(2), "n")], outputs=["m"])
    use = Process("use", [make], outputs=["u"])
    bench = Bench(compile_all(None, use=use, top=make.map(lambda m: m)))
    one, two = bench.task("make", 0), bench.task("make", 1)
    before, after = [Stored(Digest("content"), "value", "json", n, inline=b"") for n in (1, 2)]
    bench.miss(one, same="h")
    bench.miss(two, same="h")
    bench.succeed(one, before)
    bench.miss(bench.task("use", 0))
    bench.tell(ev.InputRecalled(bench.task("use", 0), (one,)))
    bench.miss(one, same="h")

    commands = bench.succeed(one, after)

    assert [c.args for c in commands if isinstance(c, Apply)] == [((after,),)]  # of `one` itself


def test_a_twin_with_other_inputs_takes_nothing_of_what_it_waited_for() -> None:
    make = Process("make", [queue(range(2), "n")], outputs=["m"])
    use, other = Process("use", [make], outputs=["u"]), Process("other", [make], outputs=["z"])
    bench = Bench(compile_all(None, use=use, other=other))
    makers = [bench.task("make", number) for number in range(2)]
    users = [bench.task("use", number) for number in range(2)]
    others = [bench.task("other", number) for number in range(2)]
    bench.miss_all("make", 2)
    for maker in makers:
        bench.succeed(maker, "same")
    for user in users:
        bench.miss(user, same="u")
    bench.miss(others[1])
    bench.tell(ev.InputRecalled(others[1], (makers[1],)))
    bench.miss(makers[1])
    assert Decide(users[1], {"m": "new"}) in bench.succeed(makers[1], "new")
    bench.miss(others[0], Resources(cpus=3))
    assert starts(bench.miss(users[1], same="u of new")) == []  # it waits for room
    commands = bench.succeed(users[0], "of the same")
    assert reports(commands) == {users[0]: Outcome.COMPLETED}
    assert bench.scheduler.task(users[1]).outputs is None


@pytest.mark.parametrize("seed", range(30))
def test_any_number_of_lost_results_is_healed(seed: int) -> None:
    make = Process("make", [queue(range(4), "n")], outputs=["m"])
    again = Process("again", [make], outputs=["a"])
    total = Process("total", [again.collect(), value(1, "k")], outputs=["t"])
    graph = compile_all(None, total=total)
    cold = World(graph, seed=seed).run()
    lost = {key for key in cold.hashes if key[0] != graph.places["total"]}
    cache = {h: o for key, h in cold.hashes.items() if key in lost and (o := cold.cache[h])}
    world = World(graph, seed=seed + 1, cache=cache)

    def find_lost(reader: TaskKey) -> TaskKey | None:
        wanted = "again" if reader[0] == graph.places["total"] else "make"
        for key in sorted(lost):
            item: Item = cold.cache[cold.hashes[key]]
            if graph.nodes[key[0]].name == wanted and str(item[0]) in str(world.inputs[reader]):
                lost.discard(key)
                cache.pop(cold.hashes[key], None)
                return key
        return None

    world.lost = find_lost
    world.run()

    assert world.status is RunStatus.SUCCEEDED
    assert world.items("total") == cold.items("total")
    assert world.attempts[(graph.places["total"], ())] > 1


# Retries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "attempt", "retries", "dynamic", "action"),
    [
        ("continue", 1, 0, False, "continue"),
        ("continue", 2, 2, False, "retry"),
        ("ignore", 3, 2, False, "ignore"),
        ("stop", 1, 1, False, "retry"),
        ("retry", 1, 0, False, "retry"),
        ("retry", 2, 0, False, "continue"),
        ("retry", 3, 3, False, "retry"),
        ("retry", 4, 0, True, "retry"),
        ("retry", 11, 0, True, "continue"),
        ("ignore", 1, 5, True, "ignore"),
    ],
)
def test_what_follows_a_failure(
    on_error: str, attempt: int, retries: int, dynamic: bool, action: str
) -> None:
    found = action_after_failure(on_error, attempt=attempt, retries=retries, dynamic=dynamic)
    assert found == action


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match="one of continue, stop"):
        action_after_failure("explode", attempt=1, retries=0)


def test_waits_grow_are_capped_and_depend_on_the_seed() -> None:
    waits = retry_delays(12, base_s=1.0, cap_s=8.0, seed=3)
    assert len(waits) == 11
    assert all(0 <= wait <= min(8.0, 2.0**k) for k, wait in enumerate(waits))
    assert waits == retry_delays(12, base_s=1.0, cap_s=8.0, seed=3)
    assert waits != retry_delays(12, base_s=1.0, cap_s=8.0, seed=4)
    with pytest.raises(ValueError, match="at least 1"):
        retry_delays(0)
