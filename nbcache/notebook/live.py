"""Show a run while it goes: the cell that waits for it, a detached one, the cards of its processes.

The waiting cell polls snapshots from its own thread; the engine is never waited for in any other
way and never calls in here. A detached run has a thread that only *updates* displays by their id:
a new display from a thread would wander to whatever cell runs then.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

from nbcache.errors import command
from nbcache.model.view import CardView, RunProgress, ShownChunk
from nbcache.notebook import cards, shown_view
from nbcache.notebook import progress as pictures
from nbcache.notebook.render import Rendered
from nbcache.notebook.terminal import Screen, terminal_screen

TICK_S = 0.125  # at most eight pictures a second
CARD_TICK_S = 0.5
CARDS_S = 80  # messages of all live cards together, a second: ten move as often as the picture
STATIC_CARDS_S = 20  # and static cards that are replaced
TWIN_TICK_S = 1.5  # of the static picture, where a live view is there as well
TWIN_BYTES_S = 100_000  # and it is drawn so seldom that no more crosses for it, in bytes a second
GRACE_S = 15.0  # for a cancelled run to end in order


class WatchedRun(Protocol):
    """What is asked of a run."""

    @property
    def name(self) -> str: ...
    @property
    def done(self) -> bool: ...
    def progress(self) -> RunProgress: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def cancel(self) -> None: ...
    def raise_for_status(self) -> None: ...
    def showing(self, place: str) -> list[tuple[str, str, str]]: ...
    def shown(
        self, place: str, only: Collection[str] | None = None
    ) -> list[tuple[str, str, list[ShownChunk]]]: ...
    def printed(self) -> list[str]: ...


class RunInterrupted(KeyboardInterrupt):
    """The user interrupted the cell that waits for a run; the run was ended in order."""

    def _render_traceback_(self) -> list[str]:
        return [f"\x1b[31mKeyboardInterrupt\x1b[0m: {self}"]


class Displays(Protocol):
    """Where bundles go: a notebook's display system, or a list in a test."""

    def show(
        self,
        bundle: Mapping[str, object],
        display_id: str,
        metadata: Mapping[str, object] | None = None,
    ) -> None: ...
    def replace(self, bundle: Mapping[str, object], display_id: str) -> None: ...


class NotebookDisplays:
    """IPython's display system."""

    def show(
        self,
        bundle: Mapping[str, object],
        display_id: str,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Show a bundle in the cell that runs."""
        from IPython.display import display

        display(dict(bundle), raw=True, display_id=display_id, metadata=dict(metadata or {}))

    def replace(self, bundle: Mapping[str, object], display_id: str) -> None:
        """Replace what was shown under that id, in whatever cell it stands."""
        from IPython.display import display

        display(dict(bundle), raw=True, display_id=display_id, update=True)


class LiveCard(Protocol):
    """A widget above a static card, whose head it hides."""

    twin_id: str

    def bundle(self) -> tuple[Mapping[str, object], Mapping[str, object]]: ...
    def frame(self, rendered: Rendered) -> Rendered: ...
    def follow(self, run: Any, progress: RunProgress) -> bool: ...
    def finish(self, progress: RunProgress) -> None: ...


@dataclass
class PlacedCard:
    """A card in a cell: what it showed last, and the id to replace it by."""

    view: CardView
    display_id: str
    last: Rendered
    live: LiveCard | None = None
    progress: RunProgress | None = None  # how far the last run was with it
    run: WatchedRun | None = None  # that run


@dataclass
class CardBoard:
    """The cards of the processes, each in its own cell; a re-run cell replaces its card."""

    displays: Displays
    placed: dict[str, PlacedCard] = field(default_factory=dict)
    turned: Callable[[], None] = lambda: None
    """Called when a run begins to be shown and when it has ended: buttons depend on it."""

    def place(self, view: CardView, live: LiveCard | None = None) -> None:
        """Show a process's card in the cell that runs now, with a live one where there is one."""
        rendered = cards.render_card(view)
        if live is None:
            display_id = f"nbcache-card-{uuid4().hex[:12]}"
        else:  # first, since it stands for the head of the other
            display_id, rendered = live.twin_id, live.frame(rendered)
            data, metadata = live.bundle()
            self.displays.show(data, f"{display_id}-view", metadata)
        self.displays.show(rendered.bundle(), display_id)
        self.placed[view.name] = PlacedCard(view, display_id, rendered, live)

    def tell(self, run: WatchedRun, progress: RunProgress) -> int:
        """Tell the live cards of a run's processes how far they are; return how many have moved.

        A page that hears of the end asks at once what the tasks of that run showed.
        """
        moved = 0
        for card, mine in self._cards_of(progress):
            card.run = run
            if card.live is not None:
                moved += card.live.follow(run, mine)
        return moved

    def count(self, progress: RunProgress) -> int:
        """Fill the static cards of a run's processes with counts; return how many have moved."""
        moved = 0
        for card, mine in self._cards_of(progress):
            card.progress = mine
            moved += self._replace(card, cards.render_card(card.view, mine))
        return moved

    def finish(self, run: WatchedRun, progress: RunProgress) -> None:
        """Fill the cards of a run that has ended with counts and what its tasks showed."""
        for card, mine in self._cards_of(progress):
            card.progress, card.run = mine, run
            self.pick(card.view.name, None)
            if card.live is not None:
                card.live.finish(mine)

    def showing(self, name: str) -> list[tuple[str, str, str]]:
        """Return (label, outcome, position) of those tasks of a card that showed something."""
        card = self.placed.get(name)
        return card.run.showing(name) if card is not None and card.run is not None else []

    def pick(self, name: str, position: str | None) -> bool:
        """Show in a card what the task at a position showed; None: the first, failed, and last.

        Returns whether that is something else than the card showed before.
        """
        card = self.placed.get(name)
        if card is None or card.run is None:
            return False
        tasks = card.run.showing(name)
        wanted = (
            [each for _, _, each in shown_view.choose_shown(tasks)]
            if position is None
            else [position]
        )
        shown = card.run.shown(name, wanted)
        rendered = cards.render_card(card.view, card.progress, shown, showing=len(tasks))
        return self._replace(card, rendered)

    def _cards_of(self, progress: RunProgress) -> list[tuple[PlacedCard, RunProgress]]:
        """The cards of the processes that a run has tasks of, with what it says of each alone."""
        return [
            (self.placed[mine.places[0].name], mine)
            for mine in pictures.of_each(progress, self.placed)
            if any(mine.places[0].counts.values())
        ]

    def tried(self, name: str, label: str, shown: Sequence[ShownChunk], said: str) -> bool:
        """Show in a card what a trial of one item showed, and how it went; returns as `pick`."""
        card = self.placed.get(name)
        if card is None:
            return False
        output = [(label, "completed", shown)]
        return self._replace(card, cards.render_card(card.view, card.progress, output, said))

    def _replace(self, card: PlacedCard, rendered: Rendered) -> bool:
        rendered = rendered if card.live is None else card.live.frame(rendered)
        if rendered == card.last:
            return False
        card.last = rendered
        self.displays.replace(rendered.bundle(), card.display_id)
        return True


class CardScreen:
    """A run that a card began: its picture is the cards of its processes."""

    def __init__(
        self, run: WatchedRun, board: CardBoard, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._board, self._clock = run, board, clock
        self._due = clock() + CARD_TICK_S
        self._tell_due = clock()
        self._begun = False

    def update(self, progress: RunProgress) -> None:
        """Let the cards move, each the more seldom the more of them do."""
        now = self._clock()
        if now >= self._tell_due:
            self._tell_due = now + self._board.tell(self._run, progress) / CARDS_S
        if not self._begun:
            self._begun = True
            self._board.turned()
        if now >= self._due:
            moved = self._board.count(progress)
            self._due = now + max(CARD_TICK_S, moved / STATIC_CARDS_S)

    def say(self, lines: str) -> None:
        print(lines, flush=True)

    def close(self, progress: RunProgress) -> None:
        self._board.tell(self._run, progress)
        self._board.finish(self._run, progress)
        self._board.turned()


class LiveView(Protocol):
    """A widget above the static picture, which shows the same and more."""

    twin_id: str

    def bundle(self) -> tuple[Mapping[str, object], Mapping[str, object]]: ...
    def update(self, progress: RunProgress) -> bool: ...
    def end(self, progress: RunProgress) -> None: ...


class NotebookScreen:
    """A run's picture in the cell that waits for it, and in the cards of its processes.

    `paint` draws the static picture. With a live `view`, that is drawn less often. `placed`: both
    are in a cell already (a button of the view started this run).
    """

    def __init__(
        self,
        run: WatchedRun,
        board: CardBoard,
        *,
        paint: Callable[[RunProgress], Rendered] = pictures.render_progress,
        view: LiveView | None = None,
        placed: bool = False,
        machine_readable: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._board, self._clock = run, board, clock
        self._paint, self._view = paint, view
        self._machine_readable = machine_readable
        self._display_id = view.twin_id if view else f"nbcache-run-{uuid4().hex[:12]}"
        self._last: dict[str, object] | None = {} if placed else None
        self._cards = CardScreen(run, board, clock)
        self._twin_due = clock()

    def update(self, progress: RunProgress) -> None:
        if self._view is not None and self._last is not None:
            self._view.update(progress)
        if self._clock() >= self._twin_due:
            self._draw(progress)
            self._twin_due = self._clock() + self._twin_pause()
        self._cards.update(progress)

    def _twin_pause(self) -> float:
        if self._view is None or self._last is None:
            return 0.0
        return max(TWIN_TICK_S, len(str(self._last.get("text/html", ""))) / TWIN_BYTES_S)

    def say(self, lines: str) -> None:
        if not self._machine_readable:
            print(lines, flush=True)
            return
        said = {"text/plain": lines, pictures.SAID_MIME: {}}
        self._board.displays.show(said, f"nbcache-said-{uuid4().hex[:12]}")

    def close(self, progress: RunProgress) -> None:
        self._draw(progress)
        if self._view is not None:
            self._view.end(progress)
        self._cards.close(progress)

    def _draw(self, progress: RunProgress) -> None:
        bundle = self._paint(progress).bundle()
        if self._machine_readable:
            bundle[pictures.RUN_MIME] = pictures.record_of(progress)
        if self._last is None:
            if self._view is not None:  # first, since it stands for the head of the other
                data, metadata = self._view.bundle()
                self._board.displays.show(data, f"{self._display_id}-view", metadata)
            self._board.displays.show(bundle, self._display_id)
        elif bundle != self._last:
            self._board.displays.replace(bundle, self._display_id)
        self._last = bundle


def watch(run: WatchedRun, screen: Screen, *, raising: bool = True) -> None:
    """Show a run until it has ended, then raise what it failed with (unless not `raising`).

    Raises:
        RunFailed: tasks failed. RunInterrupted: the user interrupted; the run is cancelled.
    """
    try:
        _follow(run, screen)
    except KeyboardInterrupt:
        raise _cancel_in_order(run, screen) from None
    screen.close(run.progress())
    if raising:
        run.raise_for_status()


def _follow(run: WatchedRun, screen: Screen) -> None:
    while not run.wait(TICK_S):
        _say_lines(run, screen)
        screen.update(run.progress())
    _say_lines(run, screen)


def _say_lines(run: WatchedRun, screen: Screen) -> None:
    """Show what `debug` processes printed, in the cell that waits for them."""
    lines = run.printed()
    if lines:
        screen.say("\n".join(lines))


def _cancel_in_order(run: WatchedRun, screen: Screen) -> RunInterrupted:
    run.cancel()
    try:
        run.wait(GRACE_S)
    except KeyboardInterrupt:
        print("still ending the run; it goes on in the background", file=sys.stderr)
    progress = run.progress()
    screen.close(progress)
    counts = pictures.counts_of(progress)
    kept = sum(counts.get(name, 0) for name in ("completed", "cached", "stored"))
    wanted = pictures.total_of(progress) - counts.get("skipped", 0)
    return RunInterrupted(
        f"run {run.name} was cancelled: {kept} of {wanted} done and kept; "
        f"{command('run')} goes on from there"
    )


def detach(run: WatchedRun, screen: Screen) -> threading.Thread:
    """Show a run from a thread that only replaces what is there already; returns at once."""
    screen.update(run.progress())

    def follow() -> None:
        _follow(run, screen)
        screen.close(run.progress())

    context = contextvars.copy_context()  # displays belong to the cell that started the run
    thread = threading.Thread(target=context.run, args=(follow,), name="nbcache-live", daemon=True)
    thread.start()
    return thread


class QuietScreen:
    """A detached run in a terminal: says one line at the end, never draws over the prompt."""

    def update(self, progress: RunProgress) -> None:
        """Nothing: the prompt is the user's."""

    def say(self, lines: str) -> None:
        print(lines, flush=True)

    def close(self, progress: RunProgress) -> None:
        print(pictures.summary_line(progress), flush=True)


class TalkingScreen:
    """A run in a terminal that ends with what its tasks showed, as a notebook's cards do."""

    def __init__(self, screen: Screen, run: WatchedRun) -> None:
        self._screen, self._run = screen, run

    def update(self, progress: RunProgress) -> None:
        self._screen.update(progress)

    def say(self, lines: str) -> None:
        self._screen.say(lines)

    def close(self, progress: RunProgress) -> None:
        self._screen.close(progress)
        for place in progress.places:
            tasks = self._run.showing(place.name)
            chosen = [position for _, _, position in shown_view.choose_shown(tasks)]
            shown = self._run.shown(place.name, chosen)
            text = shown_view.render_shown(shown, len(tasks)).text.strip("\n")
            if text:
                print(f"{place.name}:\n{text}", flush=True)


def screen_in_terminal(run: WatchedRun, *, detached: bool = False) -> Screen:
    """Return the screen that fits a terminal."""
    return QuietScreen() if detached else TalkingScreen(terminal_screen(), run)
