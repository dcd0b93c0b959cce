from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbcache.engine.record import history, task_ends
from nbcache.engine.record.explanations import why
from nbcache.engine.record.finding import find_task
from nbcache.engine.record.holding import cancel_request, hold_run
from nbcache.engine.record.nearest import nearest_earlier
from nbcache.engine.record.process_reasons import why_process
from nbcache.engine.record.query import fetch
from nbcache.engine.running.beginning import new_run
from nbcache.engine.upkeep.cleaning import run_facts
from nbcache.errors import RunError, UsageError
from nbcache.model.fingerprint import Component
from nbcache.model.ids import make_ulid, ulid_ms
from nbcache.model.row import InputSummary, ProcessRecord, RunRow
from nbcache.notebook import answers
from nbcache.notebook.verbs import parse_line
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from tests.engine.story import ONE, THREE, TWO, Story, digest


def test_runs_are_told_newest_first_with_status_counts_and_parameters(two_runs: Story) -> None:
    bold, calm = history.runs(two_runs.cache)

    assert (bold.name, bold.status, dict(bold.counts)) == (
        "bold-ant",
        "succeeded",
        {"completed": 2, "cached": 1},
    )
    assert (calm.name, calm.status, dict(calm.parameters)) == ("calm-otter", "failed", {"rep": "3"})
    assert calm.elapsed_s == pytest.approx(4.0)


def test_a_new_run_sorts_behind_all_others_but_those_that_are_no_runs_of_ours(story: Story) -> None:
    """Where a clock went back, rows of now stand in segments that are named by now."""

    def folded(run: str, at: int) -> None:
        row = RunRow(id=new_ulid(), at=at, run=run, name="calm-otter", status="running")
        story.cache.log.append([row])
        story.cache.log.rotate()
        story.cache.log.fold()

    now = time.time_ns() // 1_000_000
    runs = [make_ulid(now + 7_200_000, bytes(10))]
    folded(runs[0], (now + 7_200_000) * 1000)
    for strange in ("story-1", "7" + "Z" * 25):
        folded(strange, now * 1000)
    for _ in range(3):
        runs.append(new_run(story.cache))
        folded(runs[-1], now * 1000)

    assert runs == sorted(set(runs))
    assert ulid_ms(runs[-1]) < now + 7_300_000


def test_a_run_that_somebody_holds_goes_on_and_one_that_nobody_holds_is_interrupted(
    story: Story,
) -> None:
    story.begin(ONE, "calm-otter")  # its process lives, but has let go of the run
    story.begin(TWO, "bold-ant", pid=1)
    hold = hold_run(story.cache, TWO)
    assert hold is not None

    status = {run.name: run.status for run in history.runs(story.cache)}

    assert status == {"calm-otter": "interrupted", "bold-ant": "running"}
    (going,) = history.going_runs(story.cache)
    assert going.name == "bold-ant"

    def said(verb: str) -> str:
        return answers.perform(parse_line(verb), story.cache).rendered.text

    assert said("log bold-ant") == "no task of run bold-ant has ended yet"
    assert "none has ended yet" in said("show bold-ant")
    assert said("log calm-otter") == "run calm-otter had no tasks"
    story.attempt(TWO, 0, 2)
    none = "no task of run bold-ant fits, of those that have ended"
    assert said("log bold-ant --status failed") == none
    assert history.as_it_stands(story.cache, going).counts == {"completed": 1}
    hold.release()
    assert history.going_runs(story.cache) == []
    story.attempt(TWO, 1, 3, realtime=60.0)  # the last that ended before it was killed
    killed = history.as_it_stands(story.cache, history.find_run(story.cache, TWO))
    assert (killed.status, killed.counts) == ("interrupted", {"completed": 2})
    assert killed.elapsed_s == pytest.approx(62.0)
    assert run_facts(story.cache)[TWO].ended == killed.started + 62_000_000
    assert "has no row: resume bold-ant" in said("show bold-ant")
    with pytest.raises(UsageError, match=r"there are fit.*\n  it was killed.*: resume bold-ant"):
        find_task(story.cache, ["fit", "9"], run="bold-ant")
    in_sql = "SELECT duration, completed, cached, failed, counts FROM runs WHERE run = ?"
    assert fetch(story.cache, in_sql, [TWO]) == [(62.0, 2, 0, 0, {"completed": 2})]
    gone = story.attempt(ONE, 0, 7)
    story.use(ONE, 1, gone)
    story.begin(TWO, "bold-ant", session=2)  # goes on, and ends
    story.add(RunRow, run=TWO, name="bold-ant", status="failed", session=2, counts={"failed": 1})
    ended = history.as_it_stands(story.cache, history.find_run(story.cache, TWO))
    assert ended.elapsed_s == pytest.approx(63.0)
    assert ended.counts == {"failed": 1}
    assert fetch(story.cache, in_sql, [TWO]) == [(63.0, 0, 0, 1, {"failed": 1})]
    counts = {"cached": 1, "failed": 1, "ignored": 2}
    story.add(RunRow, run=TWO, name="bold-ant", status="failed", session=2, counts=counts)
    rates = [each.hit_rate for each in history.runs(story.cache) if each.id == TWO]
    assert fetch(story.cache, "SELECT hit_rate FROM runs WHERE run = ?", [TWO]) == [(0.25,)]
    assert rates == [0.25]
    equal = "SELECT completed, cached, hit_rate FROM runs WHERE run = ?"
    assert fetch(story.cache, equal, [ONE]) == [(1, 1, 0.0)]  # of an equal task: no hit


def test_a_clock_that_goes_back_between_sessions_or_in_one_changes_no_order(story: Story) -> None:
    day = 86_400
    story.step = 2 * day
    story.begin(ONE, "calm-otter")
    story.attempt(ONE, 0, 2, status="failed")
    story.end(ONE, "calm-otter", "failed", failed=1)
    story.step -= day
    story.begin(ONE, "calm-otter", code="v2", session=2)
    made = story.attempt(ONE, 0, 2, code="v2", session=2)
    story.step -= day
    how = {"status": "succeeded", "session": 2, "counts": {"completed": 1}, "duration": 5.5}
    story.add(RunRow, run=ONE, name="calm-otter", **how)

    run = history.find_run(story.cache, ONE)
    assert (run.status, run.counts, run.sessions) == ("succeeded", {"completed": 1}, 2)
    assert run.elapsed_s == 2.0 + 5.5  # the first session's row does not say how long it took
    in_sql = "SELECT status, completed, failed, duration FROM runs"
    assert fetch(story.cache, in_sql) == [("SUCCEEDED", 1, 0, 7.5)]
    assert fetch(story.cache, "SELECT status FROM tasks") == [("COMPLETED",)]
    known = {each.id: each for each in history.runs(story.cache)}
    earlier = nearest_earlier(story.cache, made, known)
    assert earlier is not None
    assert earlier.session == 1


def test_what_an_older_resume_does_not_tell_of_itself_follows_from_its_other_rows(
    story: Story,
) -> None:
    story.begin(ONE, "calm-otter")
    story.attempt(ONE, 0, 2, process="old")
    story.end(ONE, "calm-otter", "failed", completed=1)
    read = tuple(
        ProcessRecord(name=name, components=(), upstream=above)
        for name, above in (("load", ()), ("fit", ("load",)), ("plot", ("fit",)))
    )
    how = {"run": ONE, "name": "calm-otter", "session": 2}
    story.add(RunRow, **how, status="resuming", processes=read)
    story.attempt(ONE, 0, 2, session=2)
    story.add(RunRow, **how, status="succeeded")

    assert task_ends.last_rows(story.cache, ONE).keys() == {("fit", "0")}
    assert fetch(story.cache, "SELECT process FROM tasks") == [("fit",)]
    assert run_facts(story.cache)[ONE].handed_on == {"load", "fit"}
    for kept in ((), ("load",)):  # as this version says it
        story.add(RunRow, **how, status="succeeded", handed_on=kept)
        assert run_facts(story.cache)[ONE].handed_on == set(kept)


def test_a_hash_of_which_only_hits_are_left_is_said_to_have_lost_its_attempt(story: Story) -> None:
    story.begin(ONE, "calm-otter")
    made = story.attempt(ONE, 0, 2)
    story.use(ONE, 1, dataclasses.replace(made, id=TWO, hash=digest("another")))
    with pytest.raises(UsageError, match="an attempt of which the cache keeps no row any more"):
        find_task(story.cache, [digest("another")])


def test_a_run_is_held_until_its_process_is_killed(story: Story) -> None:
    story.begin(ONE, "calm-otter")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(story.cache.root), ONE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert history.find_run(story.cache, ONE).status == "running"
    assert hold_run(story.cache, ONE) is None
    holder.kill()
    holder.communicate()
    assert history.find_run(story.cache, ONE).status == "interrupted"


HOLDER = """
import sys
from nbcache.engine.record.holding import hold_run
from nbcache.engine.record.process_reasons import why_process
from nbcache.engine.record.query import fetch
from nbcache.store.cache import Cache
hold = hold_run(Cache.open(sys.argv[1]), sys.argv[2])
print("held", flush=True)
input()
"""


@pytest.mark.parametrize("word", [None, "last", "bold-ant", TWO, TWO[:5], TWO[:5].lower()])
def test_a_run_is_found_by_name_by_the_start_of_its_id_and_as_last(
    two_runs: Story, word: str | None
) -> None:
    assert history.find_run(two_runs.cache, word).id == TWO


def test_an_unknown_run_names_the_nearest(two_runs: Story) -> None:
    with pytest.raises(RunError, match="no run 'calm-oter'; the nearest: calm-otter"):
        history.find_run(two_runs.cache, "calm-oter")


def test_the_start_of_two_ids_lists_both(two_runs: Story) -> None:
    with pytest.raises(RunError, match=r"start of 2 run ids.*bold-ant.*calm-otter"):
        history.find_run(two_runs.cache, "01")


def test_without_any_run_the_answer_says_so(story: Story) -> None:
    with pytest.raises(RunError, match="has no runs yet"):
        history.find_run(story.cache, None)


def test_a_run_in_detail_has_its_processes_and_failed_tasks(two_runs: Story) -> None:
    detail = history.show_run(two_runs.cache, "calm-otter")

    (fit,) = detail.processes
    assert dict(fit.counts) == {"completed": 2, "failed": 1}
    assert fit.computed_s == pytest.approx(1.5)
    assert [row.error for row in detail.failures] == ["ZeroDivisionError: division by zero"]
    assert dict(history.show_run(two_runs.cache).processes[0].counts) == {
        "completed": 2,
        "cached": 1,
    }


def test_rows_of_others_that_are_odd_are_no_tasks_of_a_run(two_runs: Story, tmp_path: Path) -> None:
    cache, copy = two_runs.cache, tmp_path / "of somebody"
    (failed,) = history.show_run(cache, "calm-otter").failures
    row = {**failed.record(), "position": "9", "origin": "of somebody"}
    odd = [row | {"session": "x"}, row | {"hash": None}, row | {"inputs": [{"name": "x"}]}]
    used = {"kind": "use", "cached_from": failed.id, "position": "8"}
    odd += [row | {"kind": "run", "status": None}, row | used | {"session": None}]
    cache.log.adopt([each | {"id": make_ulid(1, bytes([n] * 10))} for n, each in enumerate(odd)])

    def told(cache: Cache) -> tuple[int, list[str]]:
        detail = history.show_run(cache, "calm-otter")
        return detail.processes[0].counts["failed"], [row.position for row in detail.failures]

    assert told(cache) == (1, ["2"])
    cache.log.rotate()
    assert cache.log.fold()
    folded = told(cache)
    assert folded == (2, ["2"])  # what a row says of its making is not read to count it
    shutil.copytree(cache.root, copy)
    with Cache.open(copy) as foreign:
        assert not foreign.is_own
        assert told(foreign) == folded


def test_only_the_last_attempt_of_a_task_counts(story: Story) -> None:
    story.begin(ONE, "calm-otter")
    story.attempt(ONE, 0, 2, status="failed", attempt=1)
    story.attempt(ONE, 0, 2, attempt=2)

    assert dict(history.show_run(story.cache).processes[0].counts) == {"completed": 1}


@pytest.mark.parametrize(
    ("words", "depth"),
    [
        (["fit", "1"], 4),
        (["fit", "depth=4"], 4),
        (["fit", "6"], 6),
        (["fit[depth=6]"], 6),  # as it is shown
        (["fit[2]"], 6),
        ([digest("v2 6").removeprefix("xxh3:")[:8]], 6),
        ([digest("v1 8")], 8),
    ],
)
def test_a_task_is_found_by_position_field_value_or_hash(
    two_runs: Story, words: list[str], depth: int
) -> None:
    assert find_task(two_runs.cache, words).made.inputs[0].scalar == str(depth)


def test_a_failed_task_is_found_in_the_run_that_is_named(two_runs: Story) -> None:
    found = find_task(two_runs.cache, ["fit", "failed"], run="calm-otter")

    assert found.label == "fit[depth=8]"


def test_words_that_fit_no_task_or_several_list_the_tasks(two_runs: Story) -> None:
    with pytest.raises(UsageError, match=r"no task of fit.*'depth=5'; there are fit\[depth=2\]"):
        find_task(two_runs.cache, ["fit", "depth=5"])
    with pytest.raises(UsageError, match="3 tasks of fit"):
        find_task(two_runs.cache, ["fit"])
    with pytest.raises(UsageError, match="no process or hash 'fot'; did you mean \"fit\""):
        find_task(two_runs.cache, ["fot"])


def test_the_nearest_earlier_row_is_that_of_the_same_inputs(two_runs: Story) -> None:
    known = {run.id: run for run in history.runs(two_runs.cache)}
    changed = find_task(two_runs.cache, ["fit", "depth=4"]).made
    new = find_task(two_runs.cache, ["fit", "depth=6"]).made

    nearest = nearest_earlier(two_runs.cache, changed, known)
    assert nearest is not None
    assert nearest.inputs[0].scalar == "4"
    beside = nearest_earlier(two_runs.cache, new, known)
    assert beside is not None
    assert beside.position == new.position


def test_why_names_what_changed_and_shows_the_source_of_both(two_runs: Story) -> None:
    told = why(two_runs.cache, ["fit", "depth=4"])

    assert told.head.startswith("fit[depth=4] ran")
    assert [each["kind"] for each in told.record()["differences"]] == ["code"]
    assert any("-v1" in text and "+v2" in text for _, text in told.details)


def test_why_of_a_process_groups_its_tasks_by_their_reasons(two_runs: Story) -> None:
    told = why_process(two_runs.cache, ["fit"])

    assert told is not None
    assert told.head == "fit: 2 ran, 1 cached in run bold-ant"
    assert told.lines[0] == (
        "1 cached: every component is equal to that of run calm-otter · fit[depth=2]"
    )
    assert [line for line in told.lines[1:] if "fit[depth=4]" in line]
    assert [each["kind"] for each in told.record()["differences"]] == ["code"]
    assert told.compared_with is not None
    failed = why_process(two_runs.cache, ["fit"], run="calm-otter")
    assert failed is not None
    assert "1 failed · fit[depth=8]" in failed.lines
    assert why_process(two_runs.cache, ["fit", "depth=4"]) is None


def test_why_of_a_process_stays_short_where_each_task_has_a_reason_of_its_own(story: Story) -> None:
    story.begin(ONE, "calm-otter")
    for position in range(9):
        story.attempt(ONE, position, position, reason=f"no earlier task has {position}")

    told = why_process(story.cache, ["fit"])

    assert told is not None
    assert told.lines[0] == "1 ran: no earlier task has 0 · fit[depth=0]"
    assert told.lines[5:] == ("4 more, for reasons of their own · such as fit[depth=5]",)


def test_why_of_a_new_input_says_that_no_earlier_task_has_it(two_runs: Story) -> None:
    two_runs.begin(THREE, "keen-fox", code="v2")
    two_runs.attempt(THREE, 0, 10, code="v2")

    told = why(two_runs.cache, ["fit", "depth=10"])

    assert "new input: no earlier task has depth 10" in told.head


def test_why_of_known_inputs_in_a_new_company_says_so(story: Story) -> None:
    def pair(run: str, position: int, depth: int, rep: int) -> None:
        values = {"depth": depth, "rep": rep}
        story.attempt(
            run,
            position,
            depth,
            code=f"v1 {rep}",
            inputs=tuple(
                InputSummary(name, digest(str(value)), str(value), json.dumps(value))
                for name, value in values.items()
            ),
            components=tuple(
                Component("input", name, 1, digest(str(value)), str(value))
                for name, value in values.items()
            ),
        )

    story.begin(ONE, "calm-otter")
    pair(ONE, 0, depth=2, rep=7)
    pair(ONE, 1, depth=4, rep=9)
    story.begin(TWO, "bold-ant")
    pair(TWO, 0, depth=2, rep=9)

    assert "new combination: no earlier task has" in why(story.cache, ["fit", "0"]).head


def test_why_of_a_file_that_is_gone_names_it(story: Story) -> None:
    depth = Component("input", "depth", 1, digest("2"), "2")
    gate = Component("file", "gate", 1, digest("gate"), "gate, named in the code")
    story.begin(ONE, "calm-otter")
    story.attempt(ONE, 0, 2, code="v1", components=(depth, gate))
    story.begin(TWO, "bold-ant")
    story.attempt(TWO, 0, 2, code="v1 again", components=(depth,))

    assert "ran: file gate is gone" in why(story.cache, ["fit", "0"]).head


def test_why_of_a_hit_says_which_run_made_the_result(two_runs: Story) -> None:
    told = why(two_runs.cache, ["fit", "depth=2"])

    assert told.head.startswith("fit[depth=2] was cached")
    assert "run calm-otter" in told.head


def test_a_request_to_cancel_is_left_for_the_run_that_is_going(story: Story) -> None:
    story.begin(ONE, "calm-otter")
    assert hold_run(story.cache, ONE) is not None

    run = history.request_cancel(story.cache, None)

    assert run.name == "calm-otter"
    assert cancel_request(story.cache, ONE).exists()


def test_a_run_that_has_ended_cannot_be_cancelled(two_runs: Story) -> None:
    with pytest.raises(RunError, match="calm-otter is not going: failed"):
        history.request_cancel(two_runs.cache, "calm-otter")
    with pytest.raises(RunError, match="no run is going"):
        history.request_cancel(two_runs.cache, None)
