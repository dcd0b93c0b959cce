"""The card of a process, alive: what a run would do or does with it, and its buttons.

A view of one process in whatever run fills it, of none at the beginning. What its tasks showed is
not here: that stays in the notebook's own output, below, whose head this hides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

from nbcache.engine.running.run import Run
from nbcache.engine.session import Session
from nbcache.model.view import CardView, RunProgress
from nbcache.notebook import cards
from nbcache.notebook import progress as pictures
from nbcache.notebook.live import CardBoard
from nbcache.notebook.render import Rendered
from nbcache.notebook.widget.acting import Quiet
from nbcache.notebook.widget.desk import SessionDesk
from nbcache.notebook.widget.scene import Scene, scene_of
from nbcache.notebook.widget.source import LiveRun, Source
from nbcache.notebook.widget.state import Control
from nbcache.notebook.widget.twin import framed
from nbcache.notebook.widget.view import RunView
from nbcache.plan.dataflow.outline import Outline

MOST_SHOWING = 100  # in the picker of a card; others are found in the table of tasks


class CardRecord(TypedDict):
    """What a card says of its process, in words."""

    name: str
    signature: str  # what follows the name
    wiring: str
    captures: str
    plan: str
    reason: str  # why its tasks would run
    notes: list[str]
    hindrances: list[str]  # why a run would fail, as things were when this was made
    again: bool  # the plan was made after the last run, and has something to run


def card_record(view: CardView, *, again: bool = False) -> CardRecord:
    """Return a card as it crosses; `again`: it was looked at once more after a run."""
    return {
        "name": view.name,
        "signature": view.signature.removeprefix(view.name),
        "wiring": view.wiring,
        "captures": cards.captures_phrase(view),
        "plan": cards.standing(view),
        "reason": view.plan.reason if view.plan is not None else "",
        "notes": cards.notes_of(view),
        "hindrances": list(view.hindrances),
        "again": again and view.plan is not None and bool(view.plan.to_run or view.plan.unknown),
    }


class CardSource:
    """One process of a run, or of none yet."""

    def __init__(self, name: str, inner: Source | None = None) -> None:
        self.name, self._inner = name, inner

    @property
    def run(self) -> Run | None:
        return None if self._inner is None else self._inner.run

    @property
    def id(self) -> str:
        return "" if self._inner is None else self._inner.id

    @cached_property
    def scene(self) -> Scene:
        return scene_of(Outline((self.name,), (), ()))

    def progress(self) -> RunProgress:
        return (
            _NO_RUN if self._inner is None else pictures.of_one(self.name, self._inner.progress())
        )


_NO_RUN = RunProgress(
    run="", name="", status="", elapsed_s=0.0, left_s=None, saved_s=0.0, places=()
)


@dataclass(frozen=True, slots=True)
class Hands:
    """What a card's buttons need of the notebook.

    `follow` fills the cards while a run goes; `look` describes a process anew; `try_one` runs one
    item in the kernel, shows in the card what that showed and says whether that is new; `redraw`
    replaces the static picture of a view; `board` has the cards.
    """

    follow: Callable[[Run], None]
    look: Callable[[str], CardView]
    try_one: Callable[[str, str | None], bool]
    redraw: Callable[[RunView, Rendered], None]
    board: CardBoard


class CardDesk(SessionDesk):
    """Answers for one card."""

    def __init__(self, session: Session, hands: Hands, quiet: Quiet, card: CardView) -> None:
        super().__init__(session, lambda run, view: hands.follow(run), quiet, hands.redraw)
        self._hands, self._card = hands, card

    def controls(self, source: Source, progress: RunProgress) -> list[Control]:
        going = bool(progress.run) and progress.status not in pictures.ENDED
        if going:
            return [{"ask": "cancel", "label": "Cancel", "why_not": "", "first": False}]
        unwired = "" if self._card.wiring else f"nothing feeds {self._card.name} yet"
        failed = any(place.counts.get("failed") for place in progress.places)
        return [
            {"ask": "run", "label": "Run", "why_not": unwired or self._actions.busy(),
             "first": False},
            {"ask": "try_failed" if failed else "try",
             "label": "Try a failed one" if failed else "Try one", "why_not": unwired,
             "first": False},
        ]  # fmt: skip

    def asks(self) -> Mapping[object, Callable[[RunView, Mapping[str, Any]], object]]:
        own: dict[object, Callable[[RunView, Mapping[str, Any]], object]] = {
            "run": self._run_this,
            "try": lambda view, message: self._try(None),
            "try_failed": lambda view, message: self._try("failed"),
            "card": self._look,
            "showing": self._showing,
            "show": self._show,
        }
        return {**super().asks(), **own}

    def _run_this(self, view: RunView, message: Mapping[str, Any]) -> object:
        run = self._actions.begin([self._card.name])
        self._hands.follow(run)
        return {"said": ""}

    def _try(self, item: str | None) -> object:
        return {"said": "", "replaced": self._hands.try_one(self._card.name, item)}

    def _showing(self, view: RunView, message: Mapping[str, Any]) -> object:
        tasks = self._hands.board.showing(self._card.name)
        listed = [
            {"label": label, "outcome": outcome, "position": position}
            for label, outcome, position in tasks[:MOST_SHOWING]
        ]
        return {"tasks": listed, "total": len(tasks)}

    def _show(self, view: RunView, message: Mapping[str, Any]) -> object:
        position = message.get("position")
        name, wanted = self._card.name, None if position is None else str(position)
        return {"said": "", "replaced": self._hands.board.pick(name, wanted)}

    def _look(self, view: RunView, message: Mapping[str, Any]) -> object:
        self._card = self._hands.look(self._card.name)
        return card_record(self._card, again=True)


class LiveCard(RunView):
    """A card in a cell, which shows its process in the run that last had it."""

    def __init__(self, card: CardView, desk: CardDesk) -> None:
        self._card = card
        super().__init__(CardSource(card.name), desk, {"name": "card"})

    def whole(self) -> dict[str, object]:
        return {**super().whole(), "card": card_record(self._card)}

    def turn_to(self, source: Source) -> None:
        super().turn_to(CardSource(self._card.name, source))

    def follow(self, run: Run, progress: RunProgress) -> bool:
        """Show how far a run is with this process alone; return whether that is news."""
        turned = self.source.run is not run
        if turned:
            self.turn_to(LiveRun(run))
        return self.update(progress) or turned

    def finish(self, progress: RunProgress) -> None:
        """Show the last state, which is what a page keeps."""
        self.end(progress)

    def frame(self, rendered: Rendered) -> Rendered:
        """Return the static card so that the live one hides its head."""
        return framed(rendered, self.twin_id)
