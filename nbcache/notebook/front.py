"""What one kernel's front end holds: the shell, the cards, how it was started. No logic of runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from nbcache.errors import UsageError, speak
from nbcache.model.run_options import RunOptions
from nbcache.model.view import CardView, RunProgress
from nbcache.notebook import live, render
from nbcache.notebook.fetching import shown_while_waiting
from nbcache.notebook.live import CardBoard, CardScreen, NotebookDisplays, NotebookScreen
from nbcache.notebook.progress import SAID_MIME
from nbcache.notebook.render import Rendered
from nbcache.notebook.settings import Headless, Pending
from nbcache.notebook.shell_words import as_typed
from nbcache.notebook.terminal import Screen

if TYPE_CHECKING:
    from nbcache.engine.declared.process import Process
    from nbcache.engine.running.run import Run
    from nbcache.engine.session import Session
    from nbcache.notebook.trying import Trial
    from nbcache.notebook.widget.gallery import Gallery
    from nbcache.notebook.widget.view import Page, RunView


_A_CELL_RUNS = "a cell is running: wait for its end"
BETWEEN_S = 3.0  # how long a button waits for the end of the cell that runs


@dataclass
class Front:
    """One per shell; survives `%unload_ext`. `folder` is where the kernel was at the load."""

    shell: Any  # an IPython InteractiveShell
    folder: Path
    headless: Headless | None = None
    is_loaded: bool = False  # whether its magics are in the shell
    auto: bool = False  # whether a process runs as soon as its cell is executed
    board: CardBoard = field(default_factory=lambda: CardBoard(NotebookDisplays()))
    _processes: dict[str, Process] = field(default_factory=dict)  # those that have a card
    pending: Pending | None = None  # a run that goes on in this kernel, until its line comes
    _detached: list[tuple[Run, Thread]] = field(default_factory=list)  # and who shows each

    @classmethod
    def for_shell(cls, shell: Any) -> Front:
        """Return the front of a shell that is loading nbcache now."""
        headless = Headless.from_environment(os.environ)
        if headless is not None:  # who reads what this kernel says sits at a shell
            speak(partial(as_typed, place=headless.typed_cache))
        again = headless.again if headless is not None else None
        pending = None if again is None else Pending(again)
        return cls(shell, Path.cwd(), headless, pending=pending)

    @cached_property
    def session(self) -> Session:
        """The kernel's session, with what the command line asked for applied.

        Made at first use: the engine is most of nbcache, and loading the extension has to be quick.
        """
        from nbcache.engine import session as engine

        session = engine.current_session()
        is_unused = session.last_run is None and session.folder != self.folder
        if session.namespace is not self.shell.user_ns or is_unused:
            session = engine.Session(self.shell.user_ns, self.folder)
            engine.set_current_session(session)
        session.waiter = lambda run: self.watch(run, raising=False)
        session.teller, session.showing = self.say, shown_while_waiting
        session.cells = lambda: self.shell.history_manager.input_hist_raw
        if self.headless is not None:
            session.notebook = self.headless.notebook or session.notebook
            session.given = dict(self.headless.parameters)
            session.manner = RunOptions().but(self.headless.choices).manner()
            session.is_dry = self.headless.is_dry
            if self.headless.cache:
                session.use(self.headless.cache)
        return session

    @cached_property
    def views(self) -> Gallery:
        """The live views of this kernel."""
        from nbcache.notebook.widget.card import CardDesk, Hands
        from nbcache.notebook.widget.desk import SessionDesk
        from nbcache.notebook.widget.gallery import Gallery

        hands = Hands(
            self._follow_in_cards, self._look_again, self._try_in_card, self._redraw, self.board
        )

        def card_desk(card: CardView) -> CardDesk:
            return CardDesk(self.session, hands, self._between_cells, card)

        desk = SessionDesk(self.session, self._follow, self._between_cells, self._redraw)
        gallery = Gallery(desk, card_desk, self._where)
        self.board.turned = gallery.refresh
        return gallery

    def _between_cells(self, act: Callable[[], Any]) -> Any:
        """Call a function on the kernel's own thread, while no cell runs.

        Raises:
            UsageError: a cell runs, and goes on running.
        """
        done: Future[Any] = Future()

        def perform() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(act())
                except BaseException as error:
                    done.set_exception(error)
            else:
                self.views.take_back(_A_CELL_RUNS)

        self.shell.kernel.io_loop.add_callback(perform)
        try:
            return done.result(BETWEEN_S)
        except FutureTimeout:
            if done.cancel():
                raise UsageError(_A_CELL_RUNS) from None
            return done.result()

    def _where(self) -> tuple[str, str]:
        """The cell that runs now and this execution of it, as the notebook's page calls them."""
        parent = self._parent()
        cell = parent.get("metadata", {}).get("cellId", "")
        return cell, parent.get("header", {}).get("msg_id", "")

    def _parent(self) -> dict[str, Any]:
        """The message that asked for what runs now."""
        ask = getattr(self.shell.kernel, "get_parent", dict)  # not every kernel is ipykernel
        parent: dict[str, Any] = ask()
        return parent

    @property
    def has_session(self) -> bool:
        """Whether anything needed the session yet."""
        return "session" in self.__dict__

    @property
    def in_notebook(self) -> bool:
        """Whether displays can be replaced and show HTML (a Jupyter kernel)."""
        return getattr(self.shell, "kernel", None) is not None

    @property
    def has_pages(self) -> bool:
        """Whether somebody looks at this cell in a page whose buttons this kernel hears.

        nbconvert and papermill run a notebook and keep it: a front end that answers no question
        presses no button either, and a view that was kept without its kernel helps nobody.
        """
        if not self.in_notebook or self.headless is not None:
            return False
        return bool(self._parent().get("content", {}).get("allow_stdin", True))

    @property
    def cell_name(self) -> str:
        """How people find the cell that runs now: "cell [5]"."""
        return f"cell [{self.cell_number}]"

    @property
    def cell_number(self) -> int:
        """The number of the cell that runs now.

        Not `execution_count`: some versions of IPython raise it before the cell runs, others after.
        """
        history = self.shell.history_manager
        number = len(history.input_hist_parsed) - 1 if history is not None else 0
        return number if number > 0 else int(self.shell.execution_count)

    def before_cell(self, info: Any) -> None:
        """Learn which notebook this is from an editor that only says it in a variable.

        A cell that names nbcache may use its plain Python: that shall find this kernel's session.
        """
        if not self.has_session and "nbcache" not in (info.raw_cell or ""):
            return
        named = self.shell.user_ns.get("__vsc_ipynb_file__")
        if self.session.notebook is None and isinstance(named, str):
            self.session.notebook = named

    def filename_for(self, source: str) -> str:
        """Return a file name that tracebacks and debuggers resolve to `source`, line 1 being its
        first line, and that IPython shows as this cell."""
        compiler = self.shell.compile
        name: str = compiler.cache(source, self.cell_number, raw_code=source)
        return name

    def watch(self, run: Run, *, raising: bool = True) -> None:
        """Show a run until it has ended."""
        live.watch(run, self.screen(run, raising=raising), raising=raising)

    def detach(self, run: Run) -> None:
        """Show a run in this cell while others go on."""
        showing = live.detach(run, self.screen(run, detached=True))
        self._detached = [each for each in self._detached if each[1].is_alive()]
        self._detached.append((run, showing))

    def leave(self, *, cancelled: bool, hurried: bool = False) -> None:
        """Wait, after the last cell, for the runs that go on, or end them in order; send what a
        shared cache lacks, unless `hurried`; then do what is done when the kernel ends.

        Raises:
            RunFailed: tasks failed. RunError: a run was cancelled, by an interrupt too.
        """
        going = [run for run, _ in self._detached if not run.done and not run.cancelled]
        for run, showing in self._detached:
            if cancelled:
                run.cancel()
            try:
                run.wait()
            except KeyboardInterrupt:
                cancelled = hurried = True
                run.cancel()
            showing.join(live.GRACE_S)
        tier = None if hurried else self.session.tier()
        try:
            if tier is not None:
                tier.finish()
        finally:
            self.session.performer.leave()
        for run in going:
            run.raise_for_status()

    def screen(self, run: Run, *, detached: bool = False, raising: bool = False) -> Screen:
        """Return where a run is shown; `raising`: its cell ends in an error if the run does."""
        if not self.in_notebook:
            return live.screen_in_terminal(run, detached=detached)
        from nbcache.notebook.widget.source import LiveRun
        from nbcache.notebook.widget.twin import render_twin

        source = LiveRun(run)
        if not self.has_pages:  # nobody looks at pages now, but at the notebook later

            def paint(progress: RunProgress) -> Rendered:
                return render_twin(source.scene, progress)

            told = self.headless is not None
            return NotebookScreen(run, self.board, paint=paint, machine_readable=told)
        view = self.views.open(source)
        if raising:
            view.awaited = source
        return NotebookScreen(run, self.board, paint=view.painter(source), view=view)

    def show_run(self, run_id: str, told: Rendered, *, page: Page | None = None) -> None:
        """Show a run of the log, live; `told` says in words what stays where no kernel is.

        page: what is open below the picture; None: nothing.
        """
        from nbcache.notebook.widget.source import source_of
        from nbcache.notebook.widget.twin import image_of

        source = source_of(self.session, run_id)
        if page is None:
            image = image_of(source.scene, source.progress())
            told = Rendered(told.text, told.html + image)
        if not self.has_pages:
            self.show(told)
            return
        view = self.views.open(source, page)
        data, metadata = view.bundle()
        self.board.displays.show(data, f"{view.twin_id}-view", metadata)
        self.board.displays.show(view.frame(told).bundle(), view.twin_id)

    def _follow(self, run: Run, view: RunView) -> None:
        """Let a view that is in a cell already show another run, while cells go on."""
        from nbcache.notebook.widget.source import LiveRun

        source = LiveRun(run)
        view.turn_to(source)
        paint = view.painter(source)
        live.detach(run, NotebookScreen(run, self.board, paint=paint, view=view, placed=True))

    def _redraw(self, view: RunView, static: Rendered) -> None:
        """Replace the static picture of a view."""
        self.board.displays.replace(static.bundle(), view.twin_id)

    def place_card(self, process: Process, view: CardView) -> None:
        """Show a process's card in the cell that runs."""
        self._processes[view.name] = process
        self.board.place(view, self.views.open_card(view) if self.has_pages else None)

    def _look_again(self, name: str) -> CardView:
        return self.session.card(self._processes[name])

    def _follow_in_cards(self, run: Run) -> None:
        """Let the cards show a run, while cells go on."""
        live.detach(run, CardScreen(run, self.board))

    def _try_in_card(self, name: str, item: str | None) -> bool:
        """Try an item between cells; its card shows what that showed, and how it went."""
        from nbcache.notebook.trying import try_apart

        def act() -> Trial:
            return try_apart(self.shell, name, lambda: self.session.try_one(name, item))

        trial: Trial = self._between_cells(act)
        return self.board.tried(name, trial.label, trial.shown, trial.said)

    def say(self, text: str) -> None:
        """Say something about a run that is about to begin."""
        if self.in_notebook:
            lines = render.stack([render.line(each) for each in text.split("\n")])
            self.show_said(Rendered(lines.text, render.box(lines.html)))
        else:
            print(text)

    def show_said(self, rendered: Rendered) -> None:
        """Show something that `nbcache run` prints as well."""
        self.show(rendered, {SAID_MIME: {}} if self.headless is not None else {})

    def show(self, rendered: Rendered, extra: Mapping[str, object] | None = None) -> None:
        """Show something once in the cell that runs."""
        from IPython.display import display

        display({**rendered.bundle(), **(extra or {})}, raw=True)
