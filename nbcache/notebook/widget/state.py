"""What of a run crosses to the page: a full state, and then only what changed. Pure.

Counts of a process are a list in the order of `scene.STATES`, then the expected number of tasks
(-1: not known yet). A delta names processes and edges by their place in the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, TypeVar

from nbcache.model.view import FailureView, PlaceProgress, RunProgress
from nbcache.notebook import place_progress
from nbcache.notebook import progress as pictures
from nbcache.notebook.widget.scene import STATES, Scene, edge_items

T = TypeVar("T")

MOST_FAILURES = 20  # with their text; the table has the others


class Control(TypedDict):
    """A button: what it asks for, and why not, where it makes no sense now."""

    ask: str
    label: str
    why_not: str
    first: bool  # the one that helps most now


class FailureLine(TypedDict):
    """One failed task in the list below the picture."""

    task: str
    process: str
    position: str | None
    error: str
    where: str


class Head(TypedDict):
    """What is said of the run as a whole."""

    run: str
    name: str
    status: str
    going: bool
    elsewhere: bool  # nobody in this kernel follows it
    line: str
    elapsed_s: float
    saved_s: float
    done: int
    hits: str  # "67%": which part of the results other runs made; "" where there is none
    total: int
    notes: list[str]
    reasons: list[str]
    failures: list[FailureLine]
    more_failures: int
    error: str
    controls: list[Control]


class State(TypedDict):
    """A run at one moment."""

    head: Head
    counts: list[list[int]]  # per process of the scene
    items: list[int]  # per edge of the scene; -1: not known


class Delta(TypedDict, total=False):
    """What changed since the message before; keys of counts and items are indices as text, as JSON
    has them, of the head its fields."""

    head: dict[str, object]
    counts: dict[str, list[int]]
    items: dict[str, int]


def state_of(
    scene: Scene,
    progress: RunProgress,
    controls: Sequence[Control] = (),
    *,
    elsewhere: bool = False,
) -> State:
    """Return everything of a run that moves; `elsewhere`: it is no run of this kernel."""
    known = {place.name: place for place in progress.places}
    items = [edge_items(edge, progress, known) for edge in scene.outline.edges]
    return {
        "head": {**head_of(progress, controls), "elsewhere": elsewhere},
        "counts": [counts_of(known.get(name)) for name in scene.outline.processes],
        "items": [-1 if each is None else each for each in items],
    }


def counts_of(place: PlaceProgress | None) -> list[int]:
    """Return a process's counts as they cross: of `STATES`, then how many tasks are expected (-1:
    not known), and how many of those cached are equal to one of this run."""
    if place is None:
        return [*([0] * len(STATES)), -1, 0]
    expected = -1 if place.expected is None else place.expected
    return [*(place.counts.get(name, 0) for name in STATES), expected, place.equal]


def head_of(progress: RunProgress, controls: Sequence[Control] = ()) -> Head:
    """Return what is said of the run as a whole."""
    counts = pictures.counts_of(progress)
    over = progress.status in pictures.ENDED
    going = bool(progress.run) and not over
    shown = progress.failures[:MOST_FAILURES]
    return {
        "run": progress.run,
        "name": progress.name,
        "status": progress.status,
        "going": going,
        "elsewhere": False,
        "line": pictures.summary_line(progress) if over else pictures.progress_line(progress),
        "elapsed_s": round(progress.elapsed_s, 1),
        "saved_s": round(progress.saved_s, 3),
        "done": place_progress.done(counts),
        "hits": place_progress.hit_share(counts, progress.own),
        "total": pictures.total_of(progress),
        "notes": [*progress.notes, *(each.text for each in progress.waits)],
        "reasons": pictures.reason_lines(progress),
        "failures": [_failure(each) for each in shown],
        "more_failures": len(progress.failures) - len(shown),
        "error": progress.error,
        "controls": list(controls),
    }


def _failure(failure: FailureView) -> FailureLine:
    return {
        "task": failure.task,
        "process": failure.process,
        "position": failure.position,
        "error": failure.told,
        "where": failure.where,
    }


def delta(before: State, after: State) -> Delta:
    """Return what a page that has `before` needs for `after`; empty where nothing moved.

    The time that passed is no change: the page has a clock of its own.
    """
    found: Delta = {}
    head = {name: new for name, new in after["head"].items() if before["head"].get(name) != new}
    if head.keys() - {"elapsed_s"}:
        found["head"] = head
    counts = _changed(before["counts"], after["counts"])
    if counts:
        found["counts"] = counts
    items = _changed(before["items"], after["items"])
    if items:
        found["items"] = items
    return found


def _changed(before: Sequence[T], after: Sequence[T]) -> dict[str, T]:
    pairs = enumerate(zip(before, after, strict=True))
    return {str(k): new for k, (old, new) in pairs if old != new}
