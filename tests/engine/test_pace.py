"""Which processes are light: after enough quick attempts, until a slow one."""

from __future__ import annotations

from nbcache.engine.running.pace import ENOUGH, LIGHT_S, SLOW_S, Pace


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
