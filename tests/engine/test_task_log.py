from __future__ import annotations

import pytest

from nbcache.engine.record import task_log
from nbcache.engine.work.shown import encode_chunks
from nbcache.errors import RunError, UsageError
from nbcache.model.digest import blob_digest
from nbcache.model.row import ProcessRecord, RunRow
from nbcache.model.value import Stored
from nbcache.model.view import ShownChunk
from tests.engine.story import ONE, TWO, Story


def test_the_log_of_a_run_has_its_tasks_in_order_with_the_fields_asked_for(
    two_runs: Story,
) -> None:
    rows = task_log.log_rows(two_runs.cache, [TWO], fields=("position", "status", "reason"))

    assert rows == [
        ("0", "CACHED", ""),
        ("1", "COMPLETED", "code changed"),
        ("2", "COMPLETED", ""),
    ]


def test_the_log_can_be_filtered_and_taken_of_all_runs(two_runs: Story) -> None:
    def positions(runs: list[str] | None, **how: str) -> list[str]:
        rows = task_log.log_rows(two_runs.cache, runs, fields=("position",), **how)
        return [row[0] for row in rows]

    assert positions([ONE], status="failed") == ["2"]
    assert positions([TWO], where="status = 'CACHED' AND process = 'fit' -- hits") == ["0"]
    assert len(positions(None)) == 6


def test_a_field_that_does_not_exist_and_a_wrong_condition_name_the_nearest(
    two_runs: Story,
) -> None:
    with pytest.raises(UsageError, match="no field 'statu'; did you mean \"status\""):
        task_log.log_rows(two_runs.cache, fields=("statu",))
    with pytest.raises(UsageError, match="no column 'realtme'; did you mean \"realtime\""):
        task_log.log_rows(two_runs.cache, where="realtme > 1")
    with pytest.raises(UsageError, match="cannot be answered"):
        task_log.log_rows(two_runs.cache, where="status ==")
    with pytest.raises(UsageError, match=r"LINE 2: \(attempt > 1\n *\^"):
        task_log.log_rows(two_runs.cache, where="(attempt > 1")


def test_a_process_and_a_status_that_do_not_exist_name_the_nearest(two_runs: Story) -> None:
    with pytest.raises(UsageError, match="no run has a process 'fitt'; did you mean \"fit\""):
        task_log.log_rows(two_runs.cache, process="fitt")
    with pytest.raises(UsageError, match="no status 'complete'; did you mean \"completed\""):
        task_log.log_rows(two_runs.cache, status="complete")
    assert task_log.log_rows(two_runs.cache, process="fit", status="aborted") == []


def test_runs_are_chosen_by_name_and_as_those_before_after_and_but(two_runs: Story) -> None:
    def chosen(*words: str, **ways: str) -> list[str] | None:
        given = {"before": None, "after": None, "but": None, **ways}
        return task_log.chosen_runs(two_runs.cache, words, **given)

    assert chosen() == [TWO]
    assert chosen("all") is None
    assert chosen("calm-otter", "last") == [ONE, TWO]
    assert chosen(before="last") == [ONE]
    assert chosen(after="calm-otter") == [TWO]
    assert chosen(after="bold-ant") == []
    assert chosen(but="bold-ant") == [ONE]
    with pytest.raises(UsageError, match="--before, --after, --but"):
        chosen("last", but="last")
    with pytest.raises(RunError, match="the nearest: bold-ant"):
        chosen(but="bald-ant")


def test_fields_reach_what_a_task_printed_its_source_its_inputs_and_nextflows_names(
    story: Story,
) -> None:
    chunks = [
        ShownChunk("stdout", "one\n"),
        ShownChunk("stderr", "careful\n"),
        ShownChunk("display", bundle={"text/plain": "<table>"}),
        ShownChunk("stdout", "two\n"),
    ]
    data = encode_chunks(chunks)
    kept = story.cache.blobs.put_bytes(data)
    shown = Stored(blob_digest(data), "value", "json", len(data), blob=kept)
    record = ProcessRecord(name="fit", components=(), source="y = x * 2")
    story.add(RunRow, run=ONE, name="calm-otter", status="running", processes=(record,))
    made = story.attempt(ONE, 0, 2, cpu_time=0.25, host="node7", shown=shown)
    story.begin(TWO, "bold-ant")
    story.use(TWO, 0, made)
    fields = ("stdout", "stderr", "log", "%cpu", "hostname", "inputs", "script")

    first, hit = (task_log.log_rows(story.cache, [run], fields=fields) for run in (ONE, TWO))

    printed = ("one\ntwo\n", "careful\n", "one\ncareful\n<table>two\n")
    assert first == [(*printed, 50.0, "node7", "depth=2", "y = x * 2")]
    assert hit[0][:6] == first[0][:6]
    story.cache.blobs.path(kept).chmod(0o644)
    story.cache.blobs.path(kept).unlink()
    assert task_log.log_rows(story.cache, [ONE], fields=("stdout",)) == [
        ("[no longer in the cache]",)
    ]


def test_every_field_that_is_listed_can_be_asked_for(two_runs: Story) -> None:
    known = task_log.known_fields(two_runs.cache)

    assert {"realtime", "%cpu", "peak_rss", "rchar", "wchar", "exit", "attempt"} < set(known)
    assert len(task_log.log_rows(two_runs.cache, [ONE], fields=known)[0]) == len(known)
    with pytest.raises(UsageError, match="no field is named; there are id, run"):
        task_log.log_rows(two_runs.cache, [ONE], fields=[])


def test_a_template_is_filled_in_for_each_task() -> None:
    for none in ("{", "{tag", "{{tag}}"):
        assert not task_log.fields_in(none)
    template = "{name} took {realtime} s {{sic}} {name} at {start}"

    assert task_log.fields_in(template) == ["name", "realtime", "start"]
    values = {"name": "fit (2)", "realtime": 0.5, "start": None}
    assert task_log.fill(template, values) == "fit (2) took 0.5 s {sic} fit (2) at "
