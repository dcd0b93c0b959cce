from __future__ import annotations

import io
from typing import Any

import pytest

from nbcache.errors import RunFailed
from nbcache.model.view import FailureView, ShownChunk
from nbcache.notebook.live import CardBoard, NotebookScreen, RunInterrupted, detach, watch
from nbcache.notebook.progress import RUN_MIME
from nbcache.notebook.terminal import LineScreen
from tests.notebook.views import (
    FIT,
    RecordedDisplays,
    ScriptedRun,
    place,
    progress,
    running,
)
from tests.waiting import PATIENCE_S

HALF = running(place(completed=9, running=2))
DONE = progress("succeeded", place(completed=18))


def texts(recorded: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [bundle["text/plain"] for _, bundle in recorded]


def test_a_run_is_one_display_that_is_replaced_until_it_ends() -> None:
    displays = RecordedDisplays()
    run = ScriptedRun(HALF, HALF, HALF, DONE)

    watch(run, NotebookScreen(run, CardBoard(displays)))

    assert len(displays.shown) == 1
    assert texts(displays.replaced) == ["18 ran, 0 cached, 9.1 s · run calm-otter"]
    assert {display_id for display_id, _ in displays.replaced} == {displays.shown[0][0]}


def test_a_run_that_ends_at_once_is_shown_once() -> None:
    displays = RecordedDisplays()
    run = ScriptedRun(DONE)

    watch(run, NotebookScreen(run, CardBoard(displays)))

    assert texts(displays.shown) == ["18 ran, 0 cached, 9.1 s · run calm-otter"]
    assert displays.replaced == []


def test_the_card_in_its_own_cell_gets_counts_and_what_the_tasks_showed() -> None:
    displays = RecordedDisplays()
    board = CardBoard(displays)
    board.place(FIT)
    printed = [("fit[0]", "completed", [ShownChunk("stdout", "hello\n")])]
    run = ScriptedRun(DONE, shown={"fit": printed})

    watch(run, NotebookScreen(run, board))

    card_id, bundle = displays.replaced[-1]
    assert card_id == displays.shown[0][0]
    assert "18 ran, 0 cached" in bundle["text/plain"]  # type: ignore[operator]
    assert "hello" in bundle["text/plain"]  # type: ignore[operator]


def test_a_failed_run_is_shown_and_then_raises() -> None:
    displays = RecordedDisplays()
    run = ScriptedRun(progress("failed", place(completed=17, failed=1)))

    with pytest.raises(RunFailed, match="ZeroDivisionError"):
        watch(run, NotebookScreen(run, CardBoard(displays)))

    assert "17 ran, 0 cached, 1 failed" in texts(displays.shown)[0]


def test_an_interrupt_cancels_in_order_and_shows_what_is_kept() -> None:
    displays = RecordedDisplays()
    cancelled = progress("cancelled", place(completed=9, aborted=9))
    run = ScriptedRun(HALF, HALF, HALF, DONE, interrupt_at=2, when_cancelled=cancelled)

    with pytest.raises(RunInterrupted, match="9 of 18 done and kept"):
        watch(run, NotebookScreen(run, CardBoard(displays)))

    assert run.cancelled
    assert "calm-otter cancelled" in texts(displays.replaced)[-1]


def test_a_detached_run_only_replaces_what_it_showed_before_it_returned() -> None:
    displays = RecordedDisplays()
    run = ScriptedRun(HALF, HALF, DONE)

    thread = detach(run, NotebookScreen(run, CardBoard(displays)))
    thread.join(PATIENCE_S)

    assert len(displays.shown) == 1
    assert texts(displays.replaced)[-1] == "18 ran, 0 cached, 9.1 s · run calm-otter"


def test_outside_a_kernel_of_nbcache_run_no_machine_readable_part_is_kept() -> None:
    displays = RecordedDisplays()
    run = ScriptedRun(DONE)
    watch(run, NotebookScreen(run, CardBoard(displays), machine_readable=True))
    assert displays.shown[0][1][RUN_MIME]["name"] == "calm-otter"  # type: ignore[index]

    displays = RecordedDisplays()
    watch(run, NotebookScreen(run, CardBoard(displays)))
    assert set(displays.shown[0][1]) == {"text/plain", "text/html"}


def test_without_a_terminal_only_changes_are_printed_each_once() -> None:
    out = io.StringIO()
    failure = FailureView(task="fit[3]", process="fit", error="ValueError: 3")
    half = progress("running", place(completed=9, failed=1), failures=(failure,))
    run = ScriptedRun(HALF, HALF, half, half, progress("succeeded", place(completed=18)))

    watch(run, LineScreen(out))

    assert out.getvalue().splitlines() == [
        "fit: 18 tasks",
        "failed: fit[3] ValueError: 3",
        "fit: 18 ran, 0 cached",
        "18 ran, 0 cached, 9.1 s · run calm-otter",
    ]
