"""The views of one kernel: a cell that runs again gets new ones, and its old ones end.

A widget is never freed by itself, so the oldest end too where there are very many: their static
pictures stay. Not those of the cell that runs, which its page is about to show: of very many cards
of one cell the first live.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from nbcache.model.view import CardView
from nbcache.notebook.widget.card import CardDesk, LiveCard
from nbcache.notebook.widget.source import Source
from nbcache.notebook.widget.view import Desk, Page, RunView

MOST = 100

View = TypeVar("View", bound=RunView)


@dataclass(frozen=True, slots=True)
class Hung:
    """A view and where it is: in which cell, by which execution of it ("" where unknown)."""

    view: RunView
    cell: str
    execution: str


class Gallery:
    """Opens views and ends those that nobody can see any more.

    `where` says in which cell and by which execution of it code runs now.
    """

    def __init__(
        self,
        desk: Desk,
        card_desk: Callable[[CardView], CardDesk],
        where: Callable[[], tuple[str, str]],
    ) -> None:
        self._desk, self._card_desk, self._where = desk, card_desk, where
        self._hung: list[Hung] = []

    def open(self, source: Source, page: Page | None = None) -> RunView:
        """Return a view for the cell that runs now; `page` as of `RunView`."""
        return self._hang(RunView(source, self._desk, page))

    def open_card(self, card: CardView) -> LiveCard | None:
        """Return a live card for the cell that runs now; None where it has `MOST` already."""
        _, execution = self._where()
        if execution and sum(each.execution == execution for each in self._hung) >= MOST:
            return None
        return self._hang(LiveCard(card, self._card_desk(card)))

    def refresh(self) -> None:
        """Let all views say how things stand: which buttons make sense, above all."""
        for each in list(self._hung):
            # A stored run may be gone, or its cache unreadable: views are decoration, and whatever
            # one of them cannot show must not end the cell that runs.
            with contextlib.suppress(Exception):
                each.view.refresh()

    def take_back(self, said: str) -> None:
        """Let no page say this any more: it was true when it was answered."""
        for each in list(self._hung):
            each.view.take_back(said)

    def _hang(self, view: View) -> View:
        cell, execution = self._where()
        gone = [each for each in self._hung if cell and each.cell == cell
                and each.execution != execution]  # fmt: skip
        left = [each for each in self._hung if each not in gone]
        old = [each for each in left if not (execution and each.execution == execution
               and isinstance(each.view, LiveCard))]  # fmt: skip
        gone += old[: max(0, len(left) - MOST + 1)]
        for each in gone:
            each.view.close()
        self._hung = [each for each in self._hung if each not in gone]
        self._hung.append(Hung(view, cell, execution))
        return view
