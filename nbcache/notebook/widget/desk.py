"""What a view's questions get and its buttons do: all of it is what a magic does, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbcache.engine.running.run import Run
from nbcache.engine.session import Session
from nbcache.errors import UsageError
from nbcache.model.view import RunProgress
from nbcache.notebook import shown_view
from nbcache.notebook.render import Rendered
from nbcache.notebook.widget.acting import Actions, Asked, Quiet
from nbcache.notebook.widget.details import Json, task_chunks, task_detail, task_log, task_why
from nbcache.notebook.widget.runs import run_diff, run_page
from nbcache.notebook.widget.source import Source, source_of
from nbcache.notebook.widget.state import Control
from nbcache.notebook.widget.tables import TaskQuery, task_page
from nbcache.notebook.widget.view import RunView


class SessionDesk:
    """Answers for the views of one kernel.

    `follow` shows a run in a view from now on, `redraw` replaces a view's static picture.
    """

    def __init__(
        self,
        session: Session,
        follow: Callable[[Run, RunView], None],
        quiet: Quiet,
        redraw: Callable[[RunView, Rendered], None],
    ) -> None:
        self._session, self._follow, self._redraw = session, follow, redraw
        self._actions = Actions(session, quiet)

    def controls(self, source: Source, progress: RunProgress) -> list[Control]:
        """Return the buttons of a view, with why they make no sense now."""
        return self._actions.controls(source, progress)

    def answer(self, view: RunView, message: Mapping[str, Any]) -> object:
        """Return what a page asked for.

        Raises:
            NbcacheError: it cannot be answered.
        """
        ask = self.asks().get(message.get("ask"))
        if ask is None:
            raise UsageError(f"a page asked for {message.get('ask')!r}, which nothing answers")
        return ask(view, message)

    def asks(self) -> Mapping[object, Callable[[RunView, Mapping[str, Any]], object]]:
        """Return what can be asked, with what answers it."""
        acts = self._actions
        return {
            "cancel": lambda view, _: {"said": acts.cancel(view.source)},
            "run": lambda view, _: self._begun(view, acts.again(view.source)),
            "resume": lambda view, _: self._begun(view, *acts.resume(view.source)),
            "relaunch": lambda view, message: self._begun(
                view, acts.relaunch(view.source, Asked.from_message(message))
            ),
            "form": lambda view, _: acts.form(view.source),
            "plan": lambda view, message: acts.plan(view.source, Asked.from_message(message)),
            "tasks": self._tasks,
            "task": self._task,
            "log": self._log,
            "show": self._show,
            "why": self._why,
            "runs": self._runs,
            "open": self._open,
            "diff": self._diff,
            "fold": self._fold,
        }

    def _begun(self, view: RunView, run: Run, said: str = "") -> object:
        self._follow(run, view)
        return {"said": said or f"run {run.name} began"}

    # ------------------------------------------------------------------ looking

    def _runs(self, view: RunView, message: Mapping[str, Any]) -> object:
        offset, limit = int(message.get("offset", 0)), int(message.get("limit", 15))
        return run_page(
            self._session.cache,
            text=str(message.get("text", "")),
            offset=max(0, offset),
            limit=max(1, min(limit, 100)),
        )

    def _open(self, view: RunView, message: Mapping[str, Any]) -> object:
        source = source_of(self._session, str(message.get("run", "")))
        if view.has_shown:
            self._redraw(view, view.pick(None))
        view.turn_to(source)
        return {}

    def _fold(self, view: RunView, message: Mapping[str, Any]) -> object:
        view.fold(int(message.get("group", -1)), unfolded=bool(message.get("unfolded")))
        return {}

    def _diff(self, view: RunView, message: Mapping[str, Any]) -> object:
        return run_diff(self._session.cache, message)

    def _tasks(self, view: RunView, message: Mapping[str, Any]) -> object:
        query = TaskQuery.from_message(message)
        return task_page(self._session.cache, view.source.id, view.source.run, query)

    def _task(self, view: RunView, message: Mapping[str, Any]) -> Json:
        process, position = _task_of(message)
        cache, source = self._session.cache, view.source
        return task_detail(cache, source.id, source.run, process, position)

    def _log(self, view: RunView, message: Mapping[str, Any]) -> object:
        process, position = _task_of(message)
        session, source = self._session, view.source
        return task_log(session.cache, source.id, source.run, process, position, session.read_shown)

    def _show(self, view: RunView, message: Mapping[str, Any]) -> object:
        """Let what a task showed stand below the view, or nothing where none is named."""
        process, position = _task_of(message)
        if not position:
            self._redraw(view, view.pick(None))
            return {"said": "", "replaced": True}
        task = self._task(view, message)
        session, source = self._session, view.source
        chunks = task_chunks(
            session.cache, source.id, source.run, process, position, session.read_shown
        )
        title = f"{task['label']}, run {source.progress().name}"
        shown = shown_view.render_picked(title, task["status"], chunks)
        self._redraw(view, view.pick(shown, (process, position)))
        return {"said": "", "replaced": True}

    def _why(self, view: RunView, message: Mapping[str, Any]) -> object:
        return task_why(self._session.cache, view.source.id, *_task_of(message))


def _task_of(message: Mapping[str, Any]) -> tuple[str, str]:
    return str(message.get("process", "")), str(message.get("position", ""))
