"""What a view's buttons do and its questions get: all of it is what a magic does, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbcache.engine.run import Run
from nbcache.engine.session import Session
from nbcache.errors import UsageError
from nbcache.notebook.widget.details import task_detail, task_log, task_why
from nbcache.notebook.widget.source import Source
from nbcache.notebook.widget.state import Control
from nbcache.notebook.widget.tables import TaskQuery, task_page
from nbcache.notebook.widget.view import RunView


class SessionDesk:
    """Answers for the views of one kernel. `follow` shows a run in a view from now on."""

    def __init__(self, session: Session, follow: Callable[[Run, RunView], None]) -> None:
        self._session, self._follow = session, follow

    def controls(self, source: Source) -> list[Control]:
        """Return the buttons of a view, with why they make no sense now."""
        run, last = source.run, self._session.last_run
        going = last if last is not None and not last.done else None
        cancel, again = "", ""
        if run is None or run.done:
            cancel = "this run has ended" if run is not None else "it is no run of this kernel"
        if going is not None:
            again = f"run {going.name} is going"
        return [
            {"ask": "cancel", "label": "Cancel", "why_not": cancel},
            {"ask": "run", "label": "Run again", "why_not": again},
        ]

    def answer(self, view: RunView, message: Mapping[str, Any]) -> object:
        """Return what a page asked for.

        Raises:
            NbcacheError: it cannot be answered.
        """
        asks: dict[object, Callable[[RunView, Mapping[str, Any]], object]] = {
            "cancel": self._cancel,
            "run": self._run,
            "tasks": self._tasks,
            "task": self._task,
            "log": self._log,
            "why": self._why,
        }
        ask = asks.get(message.get("ask"))
        if ask is None:
            raise UsageError(f"a page asked for {message.get('ask')!r}, which nothing answers")
        return ask(view, message)

    def _cancel(self, view: RunView, message: Mapping[str, Any]) -> object:
        run = view.source.run
        if run is None or run.done:
            raise UsageError("this run has ended already")
        run.cancel()
        return {"said": f"run {run.name} is ending; what has finished is kept"}

    def _run(self, view: RunView, message: Mapping[str, Any]) -> object:
        before = view.source.run
        run = self._session.start(before.targets if before else (), detached=True)
        self._follow(run, view)
        return {"said": f"run {run.name} started"}

    def _tasks(self, view: RunView, message: Mapping[str, Any]) -> object:
        query = TaskQuery.from_message(message)
        return task_page(self._session.cache, view.source.id, view.source.run, query)

    def _task(self, view: RunView, message: Mapping[str, Any]) -> object:
        process, position = _task_of(message)
        cache, source = self._session.cache, view.source
        return task_detail(cache, source.id, source.run, process, position)

    def _log(self, view: RunView, message: Mapping[str, Any]) -> object:
        process, position = _task_of(message)
        session, source = self._session, view.source
        return task_log(session.cache, source.id, source.run, process, position, session.read_shown)

    def _why(self, view: RunView, message: Mapping[str, Any]) -> object:
        return task_why(self._session.cache, view.source.id, *_task_of(message))


def _task_of(message: Mapping[str, Any]) -> tuple[str, str]:
    return str(message.get("process", "")), str(message.get("position", ""))
