from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from nbcache.errors import RunFailed
from nbcache.model.view import FailureView, ShownChunk
from nbcache.notebook.live import (
    CARDS_S,
    STATIC_CARDS_S,
    CardBoard,
    CardScreen,
    NotebookScreen,
    RunInterrupted,
    detach,
    watch,
)
from nbcache.notebook.progress import RUN_MIME, SAID_MIME, record_of
from nbcache.notebook.render import Rendered
from nbcache.notebook.report import TerminalWatcher
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


class Listening:
    """A live card that counts what it is told."""

    def __init__(self, twin_id: str) -> None:
        self.twin_id, self.told = twin_id, 0

    def bundle(self) -> tuple[dict[str, object], dict[str, object]]:
        return {}, {}

    def frame(self, rendered: Rendered) -> Rendered:
        return rendered

    def follow(self, run: object, progress: object) -> bool:
        self.told += 1
        return True

    def finish(self, progress: object) -> None:
        self.told += 1


def test_very_many_cards_share_a_few_messages_a_second_and_all_hear_of_the_end() -> None:
    displays, now = RecordedDisplays(), 0.0
    board = CardBoard(displays)
    names = [f"fit_{k}" for k in range(100)]
    listening = [Listening(name) for name in names]
    for name, live in zip(names, listening, strict=True):
        board.place(replace(FIT, name=name), live)
    run = ScriptedRun(HALF)
    screen = CardScreen(run, board, lambda: now)

    for tick in range(200):  # 25 s, eight a second, in which all cards move
        now = tick / 8
        screen.update(running(*(place(name, completed=1 + tick % 17) for name in names)))

    assert 0.5 * CARDS_S < sum(each.told for each in listening) / 25 < 1.2 * CARDS_S
    assert len(displays.replaced) / 25 < STATIC_CARDS_S * 1.5
    before = [each.told for each in listening]
    screen.close(progress("succeeded", *(place(name, completed=18) for name in names)))
    assert all(each.told > was for each, was in zip(listening, before, strict=True))
    ends = [bundle for _, bundle in displays.replaced if "18 ran" in str(bundle["text/plain"])]
    assert len(ends) >= 100


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
    run = ScriptedRun(DONE, printed=["fit[0] | hello"])
    watch(run, NotebookScreen(run, CardBoard(displays), machine_readable=True))
    (_, said), (_, shown) = displays.shown
    assert said == {"text/plain": "fit[0] | hello", SAID_MIME: {}}
    assert shown[RUN_MIME]["name"] == "calm-otter"  # type: ignore[index]

    displays = RecordedDisplays()
    watch(run, NotebookScreen(run, CardBoard(displays)))
    assert set(displays.shown[0][1]) == {"text/plain", "text/html"}


def test_what_a_debug_process_prints_stands_between_the_lines_of_its_run() -> None:
    out = io.StringIO()
    watcher = TerminalWatcher(out, verbose=False)

    watcher.said("resuming")
    watcher.run_changed(record_of(HALF))
    watcher.said("fit[0] | hello")
    watcher.run_changed(record_of(DONE))

    lines = out.getvalue().splitlines()
    assert lines[:3] == ["resuming", "fit: 18 tasks", "fit[0] | hello"]


def test_without_a_terminal_only_changes_are_printed_each_once() -> None:
    out = io.StringIO()
    failure = FailureView(task="fit[\x1b[2J3]", process="fit", error="ValueError: \x1b[31m3")
    half = progress("running", place(completed=9, failed=1), failures=(failure,))
    run = ScriptedRun(HALF, HALF, half, half, progress("succeeded", place(completed=18)))

    watch(run, LineScreen(out))

    assert out.getvalue().splitlines() == [
        "fit: 18 tasks",
        "failed: fit[3] ValueError: 3",
        "fit: 18 ran, 0 cached",
        "18 ran, 0 cached, 9.1 s · run calm-otter",
    ]
