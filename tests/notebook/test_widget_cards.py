"""What the card of a process tells a page, and what its buttons do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nbcache.engine.running.reasons import FIRST
from nbcache.engine.running.run import Run
from nbcache.errors import UsageError
from nbcache.model.view import CardView
from nbcache.notebook.live import CardBoard, CardScreen, watch
from nbcache.notebook.place_progress import place_phrase
from nbcache.notebook.progress import progress_from, record_of, summary_line
from nbcache.notebook.widget.card import CardDesk, Hands, LiveCard
from nbcache.notebook.widget.gallery import MOST, Gallery
from nbcache.notebook.widget.source import LiveRun, StoredRun
from nbcache.notebook.widget.state import head_of
from tests.engine.notebooks import Notebook
from tests.notebook.views import FIT, RecordedDisplays
from tests.waiting import PATIENCE_S

CELLS = [
    "%channel grid = product(depth=[8, 4, 2], rep=[0, 1])",
    "limit = 8",
    "%%process fit from grid\nscore = depth * rep",
    "%%process check from fit\nassert score != limit, 'no'\nok = score > 3",
]


class Cards:
    """Cards of a notebook's processes, asked and pressed as a page does."""

    def __init__(self, notebook: Notebook, *names: str) -> None:
        self.notebook = notebook
        self.board = CardBoard(RecordedDisplays())
        self.tried: list[tuple[str, str | None]] = []
        self.run: Run | None = None
        self.hands = Hands(
            self._follow,
            self._look,
            self._try,
            lambda view, static: None,
            self.board,
        )
        self.live: dict[str, LiveCard] = {}
        for name in names:
            view = self._look(name)
            desk = CardDesk(notebook.session, self.hands, lambda act: act(), view)
            self.live[name] = LiveCard(view, desk)
            self.board.place(view, _Placed(self.live[name]))

    def _try(self, name: str, item: str | None) -> bool:
        self.tried.append((name, item))
        return True

    def _look(self, name: str) -> CardView:
        return self.notebook.session.card(self.notebook.names[name])

    def _follow(self, run: Run) -> None:
        self.run = run
        watch(run, CardScreen(run, self.board), raising=False)

    def whole(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(self.live[name].whole()))
        return found

    def ask(self, name: str, ask: str, **more: object) -> Any:
        card = self.live[name]
        return card._desk.answer(card, {"ask": ask, **more})

    def buttons(self, name: str) -> dict[str, str]:
        return {each["label"]: each["why_not"] for each in self.whole(name)["head"]["controls"]}


class _Placed:
    """A live card without its widget: there is no kernel here."""

    def __init__(self, live: LiveCard) -> None:
        self.twin_id, self.frame = live.twin_id, live.frame
        self.follow, self.finish = live.follow, live.finish

    def bundle(self) -> tuple[dict[str, object], dict[str, object]]:
        return {}, {}


def test_a_card_says_what_a_run_would_do_and_then_what_it_did(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    cards = Cards(notebook, "fit", "check")
    assert cards.whole("fit")["card"]["plan"] == "6 tasks: 0 cached, 6 to run"
    assert cards.whole("check")["card"]["captures"] == "captures limit 8"
    assert not cards.whole("fit")["head"]["going"]

    cards.ask("check", "run")

    head = cards.whole("check")["head"]
    assert head["run"] == cards.run.id  # type: ignore[union-attr]
    assert [each["task"] for each in head["failures"]] == ["check[score=8]"]
    assert cards.whole("fit")["head"]["failures"] == []
    assert len(cards.whole("fit")["counts"]) == 1
    assert cards.buttons("check") == {"Run": "", "Try a failed one": ""}
    static = cards.board.placed["check"].last
    assert "1 failed" in static.text
    assert 'class="nbcache-twin"' in static.html


def test_cards_that_a_run_does_not_fill_say_when_the_next_one_can_begin(
    notebook: Notebook,
) -> None:
    notebook.cells([*CELLS, "%%process apart from grid\ndepth"])
    cards = Cards(notebook, "apart", "fit")
    seen: list[str] = []
    cards.board.turned = lambda: seen.append(cards.buttons("apart")["Run"])

    cards.ask("fit", "run")

    assert seen[-1] == ""
    assert len(seen) in (1, 2)  # at its end, and at its begin where it was seen going


def test_a_card_looks_again_at_what_a_run_would_do(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    cards = Cards(notebook, "check")
    cards.ask("check", "run")
    assert cards.ask("check", "card")["again"]  # what failed would run

    notebook.cell("limit = 9")
    looked = cards.ask("check", "card")
    assert looked["reason"].startswith("limit 8 → 9")
    cards.ask("check", "run")
    assert not cards.ask("check", "card")["again"]


def test_a_card_says_what_would_stop_a_run_apart_from_its_notes(notebook: Notebook) -> None:
    notebook.cells([*CELLS, "import sqlite3\ndb = sqlite3.connect(':memory:')"])
    notebook.cell("%%process asks from grid\nopen('data/x.csv')\nn = db.execute(str(depth))")
    record = Cards(notebook, "asks").whole("asks")["card"]

    assert record["plan"] == "cannot run yet"
    assert "captured name 'db' is a sqlite3 Connection" in record["hindrances"][0]
    assert record["notes"] == []


def test_a_trial_takes_one_that_failed_where_one_did(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    cards = Cards(notebook, "check")
    cards.ask("check", "try")
    cards.ask("check", "try_failed")
    assert cards.tried == [("check", None), ("check", "failed")]


def test_of_very_many_cards_of_one_cell_the_first_live(notebook: Notebook) -> None:
    notebook.cells(CELLS)
    cards = Cards(notebook, "fit")
    view, executions = cards.board.placed["fit"].view, ["first"]
    desk = CardDesk(notebook.session, cards.hands, lambda act: act(), view)
    gallery = Gallery(desk, lambda _: desk, lambda: ("cell", executions[-1]))

    opened = [gallery.open_card(view) is not None for _ in range(MOST + 2)]

    assert opened == [True] * MOST + [False] * 2
    executions.append("again")
    assert gallery.open_card(view) is not None


def test_a_process_that_nothing_feeds_can_not_be_run(notebook: Notebook) -> None:
    notebook.cell("%%process lonely(a, b)\nc = a + b")
    cards = Cards(notebook, "lonely")
    assert cards.buttons("lonely") == dict.fromkeys(("Run", "Try one"), "nothing feeds lonely yet")


def test_a_card_of_a_run_that_goes_offers_its_end(notebook: Notebook, tmp_path: Any) -> None:
    notebook.cells(
        [
            "%channel one = of(1)",
            f"%%process slow(n) from one\nimport pathlib, time\n"
            f"while not pathlib.Path({str(tmp_path / 'gate')!r}).exists(): time.sleep(.01)\nn",
        ]
    )
    cards = Cards(notebook, "slow")
    run = notebook.session.start()
    cards.live["slow"].turn_to(LiveRun(run))

    plan = cards._look("slow").plan
    assert plan is not None
    assert plan.reason == FIRST  # the run that goes is no earlier one
    assert cards.buttons("slow") == {"Cancel": ""}
    with pytest.raises(UsageError, match="is going"):
        cards.ask("slow", "run")
    cards.ask("slow", "cancel")
    assert run.wait(PATIENCE_S)
    assert run.status.value == "cancelled"


def test_a_live_card_comes_before_the_static_one_which_keeps_what_a_trial_showed(
    notebook: Notebook,
) -> None:
    displays = RecordedDisplays()
    board = CardBoard(displays)
    board.place(replace(FIT, name="fit"))
    assert len(displays.shown) == 1

    board.tried("fit", "fit[0]", [], "item depth=2 · 1 ms · not cached · score = 4")

    assert displays.replaced[0][0] == displays.shown[0][0]
    text = str(displays.replaced[0][1]["text/plain"])
    assert text.endswith("item depth=2 · 1 ms · not cached · score = 4")
    assert "18 to run" in text


def test_what_a_task_showed_is_picked_from_those_that_showed_something(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel grid = of(0, 1, 2, 3)",
            "%%process look(n) from grid\nif n != 2: print('looking at', n)\nassert n != 1",
        ]
    )
    cards = Cards(notebook, "look")
    cards.ask("look", "run")

    offered = cards.ask("look", "showing")
    assert offered["total"] == 3
    assert [each["label"] for each in offered["tasks"]] == ["look[n=0]", "look[n=1]", "look[n=3]"]
    static = cards.board.placed["look"]
    assert static.last.text.count("looking at") == 3  # the first, the failed, the last

    assert cards.ask("look", "show", position="3")["replaced"]
    assert not cards.ask("look", "show", position="3")["replaced"]  # it is there already
    assert "looking at 3" in static.last.text
    assert "looking at 0" not in static.last.text
    assert "2 more tasks showed something" in static.last.text
    cards.ask("look", "show", position=None)
    assert static.last.text.count("looking at") == 3


def test_equal_tasks_are_told_before_a_run_and_each_shows_what_the_one_that_ran_showed(
    notebook: Notebook,
) -> None:
    notebook.cells(
        [
            "%channel grid = product(depth=[8, 4], rep=[0, 1])",
            "%%process look(depth) from grid\nprint('looking at', depth)\nassert depth != 4",
        ]
    )
    cards = Cards(notebook, "look")
    plan = cards.whole("look")["card"]["plan"]
    assert plan == "4 tasks: 0 cached, 2 to run, 2 equal to one of them"

    cards.ask("look", "run")

    run = cards.run
    assert run is not None
    assert run.progress().own == 1  # the equal one of what failed failed, too
    assert StoredRun(notebook.session.cache, run.id).progress().own == 1
    stored = StoredRun(notebook.session.cache, run.id)
    assert head_of(run.progress())["hits"] == head_of(stored.progress())["hits"] == "0%"
    for told in (run.progress(), stored.progress(), progress_from(record_of(run.progress()))):
        assert place_phrase(told.places[0]) == "1 ran, 0 cached, 1 equal, 2 failed"
        assert summary_line(told).startswith("1 ran, 0 cached, 1 equal, 2 failed")
    assert cards.ask("look", "showing")["total"] == 4
    cards.ask("look", "show", position="1")
    assert "looking at 8" in cards.board.placed["look"].last.text


def test_a_page_that_hears_of_the_end_can_ask_at_once_what_tasks_showed(
    notebook: Notebook,
) -> None:
    notebook.cells(
        ["%channel grid = of(0, 1)", "%%process look(n) from grid\nprint('looking at', n, limit)"]
    )
    notebook.cell("limit = 8")
    cards = Cards(notebook, "look")
    live, offered = cards.live["look"], []

    class Asking(_Placed):
        def __init__(self) -> None:
            super().__init__(live)
            self.follow = self.hear

        def hear(self, run: Run, progress: Any) -> bool:
            moved = live.follow(run, progress)
            if not cards.whole("look")["head"]["going"]:
                offered.append(cards.ask("look", "showing")["total"])
            return moved

    cards.board.place(cards._look("look"), Asking())

    cards.ask("look", "run")
    assert offered[0] == 2
