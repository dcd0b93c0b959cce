"""Which processes are light: after enough quick attempts, until a slow one."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from nbcache.engine.running.pace import ENOUGH, LIGHT_S, SLOW_S, Pace, left_to_run
from nbcache.engine.running.run import Run
from nbcache.model.channel import Graph
from nbcache.model.ids import RunId
from nbcache.model.view import PlaceProgress


def said(pace: Pace, times: list[float]) -> list[bool | None]:
    return [pace.note("p", each) for each in times]


def test_a_process_is_light_after_enough_quick_attempts_and_this_is_said_once() -> None:
    assert (
        said(Pace(), [LIGHT_S / 4] * 2 * ENOUGH) == [None] * (ENOUGH - 1) + [True] + [None] * ENOUGH
    )


def test_a_slow_attempt_ends_it_and_it_may_come_again() -> None:
    pace = Pace()
    said(pace, [LIGHT_S / 4] * ENOUGH)
    assert pace.note("p", 2 * SLOW_S) is False
    assert True in said(pace, [LIGHT_S / 4] * 4 * ENOUGH)


def test_a_process_whose_attempts_take_a_while_is_not_light() -> None:
    assert said(Pace(), [3 * LIGHT_S] * 3 * ENOUGH) == [None] * 3 * ENOUGH


def test_processes_are_judged_one_by_one() -> None:
    pace = Pace()
    said(pace, [LIGHT_S / 4] * ENOUGH)
    assert pace.note("other", LIGHT_S / 4) is None


def test_the_mean_time_of_a_process_is_that_of_all_its_attempts() -> None:
    pace = Pace()
    said(pace, [1.0, 2.0, 6.0])

    assert pace.mean_s("p") == 3.0
    assert pace.mean_s("other") is None


def test_what_is_left_goes_on_as_fast_as_what_was_done() -> None:
    pace = Pace()
    assert pace.left_s({"fit": 18}, [], 1.0) is None  # no attempt has ended: nothing tells
    for took_s in (60.0, 60.0, 60.0, 60.0):
        pace.note("fit", took_s)

    # Four side by side, and the next four are half done: 8 x 60 s less 4 x 30 s, four at a time.
    assert pace.left_s({"fit": 8}, [("fit", 30.0)] * 4, 90.0) == pytest.approx(90.0)
    # Of a process of which none has ended, a task takes as long as all others on average.
    assert pace.left_s({"fit": 0, "best": 4}, [], 60.0) == pytest.approx(60.0)
    assert pace.left_s({"fit": 0, "best": 0}, [], 60.0) is None
    # All that is left has gone on for longer than its like: nothing tells how much longer it will.
    assert pace.left_s({"fit": 2}, [("fit", 61.0), ("fit", 90.0)], 150.0) is None


def test_what_is_left_becomes_less_while_no_task_ends_and_is_not_said_once_it_is_over() -> None:
    run = Run(RunId("01"), "calm-otter", Graph((), {}, {}), cast(Any, None), lambda stored: ())
    assert run.progress().left_s is None

    run.ends_at = time.monotonic() + 1000
    first, second = (run.progress().left_s for _ in range(2))
    assert first is not None
    assert second is not None
    assert second < first <= 1000
    run.ends_at = time.monotonic()
    assert run.progress().left_s is None


def test_what_a_task_costs_beside_its_body_counts_for_the_time_that_is_left() -> None:
    pace = Pace()
    for _ in range(100):
        pace.note("fit", 0.001)

    assert pace.left_s({"fit": 900}, [], 1.0) == pytest.approx(9.0)


def test_of_tasks_not_decided_yet_as_many_are_to_run_as_of_the_others() -> None:
    def place(expected: int | None, **counts: int) -> PlaceProgress:
        return PlaceProgress(name="fit", upstream=(), counts=counts, expected=expected)

    assert left_to_run(place(100)) == 100  # nothing tells
    assert left_to_run(place(1000, cached=396, completed=3, running=1, pending=1)) == 7
    assert left_to_run(place(10, cached=4, ready=6)) == 6
    assert left_to_run(place(None, failed=1, completed=1, ready=1, pending=2)) == 3
    assert left_to_run(place(8, cached=8)) == 0
