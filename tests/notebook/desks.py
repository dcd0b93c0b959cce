"""Asks and presses as a page does, without one: what crosses is JSON both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbcache.engine.running.run import Run
from nbcache.notebook.render import Rendered
from nbcache.notebook.widget.desk import SessionDesk
from nbcache.notebook.widget.source import LiveRun, Source
from nbcache.notebook.widget.view import RunView
from tests.engine.notebooks import Notebook
from tests.waiting import PATIENCE_S


def text_of(nodes: Any) -> str:
    """Return the text of markup as it crosses."""
    return "".join(each if isinstance(each, str) else text_of(each[3]) for each in nodes)


class Desk:
    """A view of a run, and the runs that its buttons have begun."""

    def __init__(self, notebook: Notebook, source: Source) -> None:
        self.followed: list[Run] = []
        self.quiet = 0  # how often something waited until no cell runs
        self.static: Rendered | None = None  # what replaced the view's static picture
        self.desk = SessionDesk(notebook.session, self._follow, self._quietly, self._redraw)
        self.view = RunView(source, self.desk)

    def _follow(self, run: Run, view: RunView) -> None:
        self.followed.append(run)
        view.turn_to(LiveRun(run))

    def _redraw(self, view: RunView, static: Rendered) -> None:
        self.static = static

    def _quietly(self, act: Any) -> Any:
        self.quiet += 1
        return act()

    def ask(self, ask: str, **more: object) -> Any:
        message: Mapping[str, object] = {"ask": ask, **more}
        return json.loads(json.dumps(self.desk.answer(self.view, message)))

    def press(self, ask: str, **more: object) -> Run:
        """Press a button that begins a run, and wait for the run's end."""
        self.ask(ask, **more)
        run = self.followed[-1]
        assert run.wait(PATIENCE_S), run.progress()
        return run

    def why_not(self) -> dict[str, str]:
        """Return what each button says against being pressed."""
        source = self.view.source
        controls = self.desk.controls(source, source.progress())
        return {each["ask"]: each["why_not"] for each in controls}
