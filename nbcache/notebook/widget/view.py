"""A live view of a run: its state told to the pages that show it, and their questions answered.

`update` is called by whoever follows the run, on any thread; questions come on the thread that the
kernel answers pages with, and what takes long is answered from a thread of its own. Messages have
numbers: a page that misses one asks for the whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypedDict
from uuid import uuid4

from nbcache.errors import NbcacheError
from nbcache.model.view import RunProgress
from nbcache.notebook.render import Rendered
from nbcache.notebook.widget.module import module, style
from nbcache.notebook.widget.scene import ICONS, Scene, draw, is_quiet, scene_of
from nbcache.notebook.widget.source import Source
from nbcache.notebook.widget.state import Control, State, delta, state_of
from nbcache.notebook.widget.twin import framed, render_twin, with_shown

if TYPE_CHECKING:
    from nbcache.notebook.widget.carrier import Carrier

_answering = ThreadPoolExecutor(4, thread_name_prefix="nbcache-view")


class Desk(Protocol):
    """Who answers and acts for a view: the notebook's front."""

    def controls(self, source: Source, progress: RunProgress) -> list[Control]:
        """Return the buttons of a view, with why they make no sense now."""

    def answer(self, view: RunView, message: Mapping[str, Any]) -> object:
        """Return what a page asked for, as JSON.

        Raises:
            NbcacheError: it cannot be answered; the text is for people.
        """


class Page(TypedDict, total=False):
    """What a view is, or has open at the beginning: "card" is the card of a process, "runs" a run
    with the table of runs below it, "diff" a run with two `runs` compared below it."""

    name: str
    runs: list[dict[str, str]]  # of "diff": the earlier one and the later one, as {run, name}
    asked: Mapping[str, object]  # of "diff": its options


class RunView:
    """One view: a static twin and a widget, which show one run and may turn to another."""

    def __init__(self, source: Source, desk: Desk, page: Page | None = None) -> None:
        self._page: Page = page or {}
        self.twin_id = f"nbcache-{uuid4().hex[:12]}"
        self.source, self._desk = source, desk
        self.awaited: Source | None = (
            None  # the run for which its cell waited, and failed if it did
        )
        self._lock = threading.Lock()
        self._seq = 0
        self._scene = source.scene
        self._state = self._now(source.progress())
        self._carrier: Carrier | None = None
        self._static = Rendered("", "")  # as it was drawn last, without its frame
        self._shown: Rendered | None = None  # what a task showed, where somebody asked for it
        self._below: tuple[str, str] | None = None  # that task's process and position
        self._pressed: dict[object, Future[Mapping[str, object]]] = {}  # by page and id

    def painter(self, source: Source) -> Callable[[RunProgress], Rendered]:
        """Return what draws the static picture of a run, whatever the view shows by then."""
        first = self.awaited
        is_older = first not in (None, source) and first.progress().status != "succeeded"
        older = self.twin_id if is_older else ""
        return lambda progress: self.frame(render_twin(source.scene, progress, older_error=older))

    def frame(self, rendered: Rendered) -> Rendered:
        """Return a static picture, with what a task showed, so that the live view hides it."""
        self._static = rendered
        return framed(with_shown(rendered, self._shown), self.twin_id)

    def pick(self, shown: Rendered | None, task: tuple[str, str] | None = None) -> Rendered:
        """Let what a task (process, position) showed stand below the static picture; returns both,
        and tells the pages which task that is."""
        with self._lock:
            self._shown, self._below = shown, task
            self._seq += 1
            if self._carrier is not None:
                self._carrier.tell({"kind": "delta", "seq": self._seq, "below": task})
        return self.frame(self._static)

    @property
    def has_shown(self) -> bool:
        """Whether what a task showed stands below the static picture."""
        return self._shown is not None

    def bundle(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return the widget's own output, with its metadata; made at the first call, on the
        kernel's thread."""
        from nbcache.notebook.widget.carrier import Carrier

        if self._carrier is None:
            self._carrier = Carrier(self.twin_id, self._page, self.whole, self.heard)
        return self._carrier.bundle()

    def update(self, progress: RunProgress) -> bool:
        """Tell the pages what changed since the last call; nothing where nothing did, or where
        the view shows another run by now. Returns whether something did."""
        with self._lock:
            if progress.run != self.source.id:
                return False
            state = self._now(progress)
            changed = delta(self._state, state)
            if not changed:
                return False
            self._state = state
            self._seq += 1
            if self._carrier is not None:
                self._carrier.tell({"kind": "delta", "seq": self._seq, **changed})
            return True

    def end(self, progress: RunProgress) -> None:
        """Tell the last state, so that what the page keeps is the end."""
        self.update(progress)
        if self._carrier is not None:
            self._carrier.renew()

    def turn_to(self, source: Source) -> None:
        """Show another run from now on, or the next session of this one; what a task showed no
        more belongs to it."""
        with self._lock:
            if source.scene.outline != self._scene.outline:
                self._scene = source.scene  # else what is unfolded stays so
            self.source = source
            self._shown = self._below = None
            self._state = self._now(source.progress())
            self._seq += 1
        self._tell_whole()

    def fold(self, group: int, *, unfolded: bool) -> None:
        """Draw each process of a group, or the group as one."""
        scene = self._scene
        now = scene.drawn.unfolded | {group} if unfolded else scene.drawn.unfolded - {group}
        laid_out = scene_of(scene.outline, now)
        with self._lock:
            if self._scene is scene:
                self._scene = laid_out
                self._seq += 1
        self._tell_whole()

    def _tell_whole(self) -> None:
        if self._carrier is not None:
            self._carrier.tell({"kind": "whole", **self.whole()})

    def take_back(self, said: str) -> None:
        """Let the pages say this no more."""
        if self._carrier is not None:
            self._carrier.tell({"kind": "over", "said": said})

    def close(self) -> None:
        """End the widget; the static picture stays."""
        if self._carrier is not None:
            self._carrier.close()

    def whole(self) -> dict[str, object]:
        """Return all that a page needs that comes in the middle."""
        with self._lock:
            scene = scene_record(self._scene)
            return {"seq": self._seq, "scene": scene, "below": self._below, **self._state}

    def _now(self, progress: RunProgress) -> State:
        source = self.source
        controls = self._desk.controls(source, progress)
        return state_of(source.scene, progress, controls, elsewhere=source.run is None)

    def heard(self, message: Mapping[str, Any]) -> None:
        """Take a page's question; returns at once."""
        if message.get("ask") == "sync":
            self.refresh()
            self._reply(message, {"answer": self.whole()})
        elif message.get("ask") == "library":
            self._reply(message, {"answer": {"module": module(), "style": style()}})
        else:
            self._answer_once(message)

    def _answer_once(self, message: Mapping[str, Any]) -> None:
        """Answer apart. A press that a page repeats, as none had heard it yet, acts once."""
        press = message.get("page"), message.get("id")
        if press not in self._pressed:
            answering = _answering.submit(self._answer, message)
            if message.get("once"):
                self._pressed[press] = answering
        elif self._pressed[press].done():  # else that answer is still to come
            self._reply(message, self._pressed[press].result())

    def refresh(self) -> None:
        """Look at the run now, where nobody follows it."""
        self.update(self.source.progress())

    def _answer(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        found: Mapping[str, object]
        try:
            found = {"answer": self._desk.answer(self, message)}
        except NbcacheError as error:
            found = {"error": str(error)}
        except Exception as error:  # a page waits for an answer, whatever went wrong
            found = {"error": f"{type(error).__name__}: {error}"}
        self._reply(message, found)
        return found

    def _reply(self, message: Mapping[str, Any], found: Mapping[str, object]) -> None:
        if self._carrier is not None:
            place = {"id": message.get("id"), "page": message.get("page")}
            self._carrier.tell({"kind": "answer", **place, **found})


def scene_record(scene: Scene) -> dict[str, object]:
    """Return a scene as it crosses: its markup, and what a page needs to fill and walk it.

    `names` and `reads` are of all processes; a box, a line and a group say which of these and of
    the outline's edges they are for.
    """
    names, shown = scene.outline.processes, scene.drawn
    index = {name: k for k, name in enumerate(names)}
    reads: list[list[int]] = [[] for _ in names]
    for edge in scene.outline.edges:
        if edge.tail in index:
            reads[index[edge.head]].append(index[edge.tail])
    before: list[list[int]] = [[] for _ in shown.boxes]
    after: list[list[int]] = [[] for _ in shown.boxes]
    for line in shown.lines:
        if line.tail < len(shown.boxes):
            after[line.tail].append(line.head)
            before[line.head].append(line.tail)
    boxes = [
        {
            "name": box.name,
            "members": list(box.members),
            "group": box.group,
            "corner": list(corner),
            "before": before[k],
            "after": after[k],
        }
        for k, (box, corner) in enumerate(zip(shown.boxes, scene.placed.corners, strict=False))
    ]
    return {
        "svg": draw(scene, None),
        "names": list(names),
        "reads": reads,
        "boxes": boxes,
        "lines": [
            {"edges": list(line.edges), "quiet": is_quiet(scene, line)} for line in shown.lines
        ],
        "groups": [
            {"name": each.name, "count": len(each.members), "unfolded": k in shown.unfolded}
            for k, each in enumerate(shown.groups)
        ],
        "icons": dict(ICONS),
    }
