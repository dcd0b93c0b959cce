from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from nbcache.engine.running import reasons
from nbcache.model.view import FailureView, PlacePlan, PlaceProgress
from nbcache.notebook.place_progress import hit_share
from nbcache.notebook.progress import (
    progress_from,
    progress_line,
    reason_lines,
    record_of,
    render_plan,
    render_progress,
    summary_line,
)
from tests.notebook.views import place, progress, running

ZONE = timezone(timedelta(hours=1))
NOW = datetime(2026, 11, 22, 18, 0, tzinfo=ZONE)


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def test_a_going_run_says_done_running_and_time_left() -> None:
    assert progress_line(running(place(completed=9, cached=2, running=2, ready=5))) == (
        "11/18 · 2 running · about 6 s left"
    )


def test_a_run_that_is_being_cancelled_counts_no_task_as_done_that_it_gave_up() -> None:
    cancelled = place(completed=2, running=1, aborted=15)
    assert progress_line(running(cancelled)).startswith("2/18 · 1 running · 15 aborted")
    assert "2/18 · 1 running · 15 aborted" in render_progress(running(cancelled)).text


def test_an_ended_run_says_what_ran_how_long_and_its_name() -> None:
    assert summary_line(progress("succeeded", place(completed=18))) == (
        "18 ran, 0 cached, 9.1 s · run calm-otter"
    )


def test_a_fully_cached_run_becomes_a_badge() -> None:
    made = datetime(2026, 11, 22, 10, 42, tzinfo=ZONE)
    run = progress(
        "succeeded", place(cached=18), saved_s=9.1, cached_at=micros(made), cached_by=("you",)
    )

    assert summary_line(run, NOW) == "18 cached · today 10:42 · by you · saved 9.1 s"


def test_a_badge_of_older_results_gives_the_day() -> None:
    def badge(made: datetime) -> str:
        return summary_line(progress("succeeded", place(cached=1), cached_at=micros(made)), NOW)

    assert badge(NOW - timedelta(days=1)) == "1 cached · yesterday 18:00"
    assert badge(datetime(2026, 3, 12, 9, 0, tzinfo=ZONE)) == "1 cached · 12 Mar 09:00"
    assert badge(datetime(2025, 3, 12, 9, 0, tzinfo=ZONE)) == "1 cached · 12 Mar 2025 09:00"


def test_a_badge_that_a_notebook_keeps_has_a_date_that_holds_on_other_days() -> None:
    made = datetime(2026, 11, 22, 10, 42).astimezone()  # in the zone of this machine
    run = progress("succeeded", place(cached=18), cached_at=micros(made))

    assert summary_line(run, kept=True) == "18 cached · 22 Nov 2026 10:42"
    assert render_progress(run).text == "18 cached · 22 Nov 2026 10:42"
    assert render_progress(run, kept=False).text == summary_line(run)


def test_a_cancelled_run_says_so() -> None:
    line = summary_line(progress("cancelled", place(completed=7, aborted=2), elapsed_s=3.0))

    assert line == "7 ran, 0 cached, 2 aborted, 3.0 s · run calm-otter cancelled"


def test_reasons_stand_below_an_ended_run() -> None:
    fit = place(completed=18)
    changed = type(fit)(
        name="fit",
        upstream=(),
        counts=fit.counts,
        expected=18,
        reason="helper norm changed (cell 3, line 4); other components equal",
    )

    assert render_progress(progress("succeeded", changed)).text.splitlines()[0] == (
        "fit: 18 ran: helper norm changed (cell 3, line 4); other components equal"
    )


def test_one_reason_of_many_processes_is_one_line() -> None:
    places = [replace(place(f"p{k}", 2, completed=2), reason="helper norm changed")
              for k in range(100)]  # fmt: skip
    other = replace(place("q", 1, completed=1), reason="limit 8 → 9")

    assert reason_lines(progress("succeeded", *places, other)) == [
        "p0, p1, p2 and 97 more: 200 ran: helper norm changed",
        "q: 1 ran: limit 8 → 9",
    ]


def test_that_a_process_never_ran_before_is_no_news() -> None:
    first = PlaceProgress(
        name="fit", upstream=(), counts={"completed": 1}, expected=1, reason=reasons.FIRST
    )

    assert reason_lines(progress("succeeded", first)) == []


def test_failures_are_listed_with_their_log_one_click_away() -> None:
    failure = FailureView(
        task="fit[depth=8]",
        process="fit",
        error="ZeroDivisionError: division by zero",
        traceback="Traceback ...",
        where="cell [5] line 4: score = 1 / (rep - 1)",
        workdir="/somewhere/1",
    )
    rendered = render_progress(
        progress("failed", place(completed=17, failed=1), failures=(failure,))
    )

    assert "fit[depth=8] ZeroDivisionError: division by zero, cell [5] line 4" in rendered.text
    assert "<details><summary>" in rendered.html
    assert "Traceback ..." in rendered.html

    endless = replace(failure, traceback="in the middle\n" * 20_000)
    long = render_progress(progress("failed", place(failed=1), failures=(endless,))).html
    assert len(long) < 25_000
    assert "left out: %nbcache log RUN -t &#x27;{traceback}&#x27; …" in long


def test_an_ignored_failure_is_called_so_here_and_in_a_shell() -> None:
    failure = FailureView(task="fit[2]", process="fit", error="ValueError: no", ignored=True)
    seen = progress("succeeded", place(completed=1, ignored=1), failures=(failure,))
    assert "fit[2] ignored: ValueError: no" in render_progress(seen).text
    assert progress_from(record_of(seen)).failures == (failure,)


def test_failures_of_one_kind_are_a_line_of_text_and_each_has_its_way_out_a_click_away() -> None:
    failures = tuple(
        FailureView(task=f"fit[{k}]", process="fit", error="no file x.csv\n  declare it: ...")
        for k in range(3)
    )
    rendered = render_progress(progress("failed", place(failed=3), failures=failures))

    assert "declare it" not in rendered.text
    assert rendered.text.startswith("fit[0] and 2 more: no file x.csv\n")
    assert rendered.html.count("declare it: ...") == 3


def test_a_plan_is_a_table_with_a_sum() -> None:
    plans = (
        PlacePlan(name="fit", tasks=20, cached=15, to_run=3, equal=2, expected_s=4.0),
        PlacePlan(name="best", tasks=None, cached=0, to_run=0, unknown=1),
    )

    lines = render_plan(plans).text.splitlines()

    headers = "process tasks cached to run equal to these not known yet time"
    assert lines[0].split() == headers.split()
    assert lines[1].split()[:4] == ["fit", "20", "15", "3"]
    assert lines[-1] == (
        "15 cached, 3 to run, 2 equal to these, 1 known when the processes above have run"
        " · about 4 s of computing"
    )


def test_a_plan_says_once_what_would_fail_and_why() -> None:
    plans = (
        PlacePlan(name="fit", tasks=2, cached=0, to_run=0, failing=2, error="a\n  b", reason="a"),
        PlacePlan(name="best", tasks=None, cached=0, to_run=0, error="a\n  b", reason="a\n  b"),
    )

    lines = render_plan(plans).text.splitlines()

    assert lines[1].split() == ["fit", "2", "0", "0", "2", "a"]
    assert lines[-3:] == ["0 cached, 0 to run, 2 would fail", "a", "  b"]


def test_a_view_says_the_hit_rate_as_the_history_has_it_and_all_only_of_all() -> None:
    assert (hit_share({}, 0), hit_share({"failed": 2}, 0)) == ("", "0%")
    assert hit_share({"completed": 15, "cached": 4, "failed": 1, "skipped": 3}, 0) == "20%"
    assert hit_share({"completed": 2, "cached": 2}, 2) == "0%"
    assert hit_share({"completed": 999, "cached": 1}, 0) == "under 1%"
    assert hit_share({"completed": 1, "cached": 999}, 0) == "99%"
    assert hit_share({"cached": 999, "ignored": 1}, 0) == "99%"
    assert hit_share({"cached": 999, "stored": 1}, 0) == "100%"


def test_a_run_survives_the_way_out_of_the_kernel_as_json() -> None:
    failure = FailureView(task="fit[3]", process="fit", error="ValueError: 3", where="cell [2]")
    run = progress(
        "failed", place(completed=1, failed=1), failures=(failure,), notes=("read undeclared",)
    )

    record: dict[str, Any] = json.loads(json.dumps(record_of(run)))
    for each in (record, *record["places"], *record["failures"]):
        each["told_by_a_later_version"] = 1
    back = progress_from(record)

    assert summary_line(back) == summary_line(run)
    assert back.failures == run.failures
    assert back.notes == run.notes
