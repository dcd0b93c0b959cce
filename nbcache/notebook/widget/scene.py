"""A pipeline as SVG: one box per process that fills, one line per channel.

Pure. The same markup is the static picture (its colours inside, state drawn in) and the live one
(colours from the page, state set by the page's module), so the two share every coordinate.
Whatever comes from a user is escaped here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from nbcache.model.view import PlaceProgress, RunProgress
from nbcache.notebook import place_progress, render
from nbcache.notebook.widget.folding import Box, Drawn, Line, Pill, drawn
from nbcache.notebook.widget.layout import Placed, place
from nbcache.plan.dataflow.outline import Edge, Origin, Outline

BOX_HEIGHT = 62.0
BOX_WIDTHS = (232.0, 288.0)
PILL_HEIGHT = 26.0
_NAME_PX, _SMALL_PX = 7.9, 6.4  # a character of a name, and of small text

STATES = (
    *("pending", "ready", "running", "committing", "completed", "cached", "stored"),
    *("failed", "ignored", "aborted", "skipped"),
)
"""The order of counts in messages: states of tasks that are not done, then outcomes."""

ICONS: Mapping[str, str] = {  # paths in a box of 16 x 16: shapes differ, not only colours
    "pending": "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11zM8 4a4 4 0 1 1 0 8a4 4 0 1 1 0-8z",
    "running": "M4.5 2.5l9 5.5l-9 5.5z",
    "done": "M6.4 13.2L1.8 8.6l1.6-1.6l3 3l6.2-6.6l1.6 1.5z",
    "failed": "M8 1l7 7l-7 7l-7-7zM7.2 4.4v4.4h1.6v-4.4zM7.2 10v1.6h1.6v-1.6z",
    "cached": "M9.5 1L3 9h4l-1 6l6.5-8h-4z",
}

_STYLE = (
    ".nb-scene{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}"
    ".nb-box{fill:#fff;stroke:#767676}.nb-name{fill:#111;font-size:13px;font-weight:600}"
    ".nb-phrase,.nb-pill-name{fill:#444;font-size:11px;font-family:system-ui,sans-serif}"
    ".nb-times{fill:#444;font-size:12px}.nb-track{fill:#ddd}.nb-edge{fill:none;stroke:#8a8a8a;stroke-width:1.4}"
    ".nb-pill{fill:#f2f2f2;stroke:#8a8a8a;stroke-dasharray:3 2}"
    ".nb-count{fill:#767676;font-size:11px;font-family:system-ui,sans-serif}"
    + "".join(
        f".nb-part-{name}{{fill:{colour}}}.nb-is-{name} .nb-icon{{fill:{colour}}}"
        for name, colour in render.COLOURS.items()
    )
    + f".nb-is-failed .nb-box{{stroke:{render.COLOURS['failed']};stroke-width:2}}"
    f".nb-is-running .nb-box{{stroke:{render.COLOURS['running']};stroke-width:2}}"
)


@dataclass(frozen=True, slots=True)
class Scene:
    """An outline, what is drawn of it, and a place for each of that: boxes first, then pills."""

    outline: Outline
    drawn: Drawn
    sizes: tuple[tuple[float, float], ...]
    placed: Placed


def scene_of(outline: Outline, unfolded: Iterable[int] = ()) -> Scene:
    """Lay a pipeline out, with these of its groups unfolded."""
    shown = drawn(outline, unfolded)
    sizes = [(_box_width(box), BOX_HEIGHT) for box in shown.boxes]
    sizes += [(_pill_width(_pill_name(pill)), PILL_HEIGHT) for pill in shown.pills]
    lines = [(line.tail, line.head) for line in shown.lines]
    return Scene(outline, shown, tuple(sizes), place(sizes, lines))


def _box_width(box: Box) -> float:
    low, high = BOX_WIDTHS
    return min(high, max(low, 46 + _NAME_PX * cells(box.name) + _count_width(box)))


def _count_width(box: Box) -> float:
    return _NAME_PX * (len(_times(len(box.members))) + 1) if box.is_folded else 0.0


def _times(count: int) -> str:
    return f"×{count:,}"


def _pill_name(pill: Pill) -> str:
    return pill.name if pill.count == 1 else f"{pill.name} {_times(pill.count)}"


def _pill_width(name: str) -> float:
    return min(200.0, max(48.0, 22 + _SMALL_PX * cells(name)))


def draw(scene: Scene, progress: RunProgress | None, *, standalone: bool = False) -> str:
    """Return the picture of a run at one moment; of none, the picture that a page fills.

    standalone: with its own colours, for an `<img>`, which takes none from its page.
    """
    known = {each.name: each for each in progress.places} if progress is not None else {}
    names, shown = scene.outline.processes, scene.drawn
    parts = [
        _line(scene, line, route, line_items(scene, line, progress, known))
        for line, route in zip(shown.lines, scene.placed.routes, strict=True)
    ]
    places = zip(scene.placed.corners, scene.sizes, strict=True)
    for box, (corner, size) in zip(shown.boxes, places, strict=False):
        found = [known.get(names[k]) or blank(names[k]) for k in box.members]
        parts.append(_box(box, corner, size, found[0] if len(found) == 1 else together(found)))
    for k, pill in enumerate(shown.pills, len(shown.boxes)):
        parts.append(_pill(pill, scene.placed.corners[k], scene.sizes[k]))
    width, height = scene.placed.width, scene.placed.height
    style = f"<style>{_STYLE}</style>" if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="nb-scene" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}">{style}{"".join(parts)}</svg>'
    )


def as_drawn(scene: Scene, progress: RunProgress) -> tuple[Outline, RunProgress]:
    """Return a pipeline and how far it is as the picture tells of them: a group that is folded is
    one process of both, so that what a notebook keeps of 500 processes stays small."""
    shown = scene.drawn
    if not any(box.is_folded for box in shown.boxes):
        return scene.outline, progress
    known = {each.name: each for each in progress.places}
    names = [f"{box.name} {_times(len(box.members))}" if box.is_folded else box.name
             for box in shown.boxes]  # fmt: skip
    places = []
    for name, box in zip(names, shown.boxes, strict=True):
        members = [scene.outline.processes[k] for k in box.members]
        found = [known.get(each) or blank(each) for each in members]
        places.append(replace(together(found) if box.is_folded else found[0], name=name))
    keys = [*names, *(f"#{k}" for k in range(len(shown.pills)))]
    origins = tuple(
        Origin(f"#{k}", _pill_name(pill), -1, pill.is_value) for k, pill in enumerate(shown.pills)
    )
    edges: list[Edge] = []
    items: dict[int, int] = {}
    for k, line in enumerate(shown.lines):
        label = scene.outline.edges[line.edges[0]].label if len(line.edges) == 1 else ""
        edges.append(Edge(keys[line.tail], keys[line.head], k, label))
        count = line_items(scene, line, progress, known)
        if count is not None:
            items[k] = count
    told = replace(progress, places=tuple(places), items=items)
    return Outline(tuple(names), origins, tuple(edges)), told


def blank(name: str) -> PlaceProgress:
    """Return how far a process is of which nothing is known."""
    return PlaceProgress(name=name, upstream=(), counts={}, expected=None)


def together(places: Sequence[PlaceProgress]) -> PlaceProgress:
    """Return how far several processes are as one."""
    counts: dict[str, int] = {}
    for place_ in places:
        for name, count in place_.counts.items():
            counts[name] = counts.get(name, 0) + count
    known = [place_.expected for place_ in places if place_.expected is not None]
    expected = sum(known) if len(known) == len(places) else None
    equal = sum(place_.equal for place_ in places)
    return PlaceProgress(name="", upstream=(), counts=counts, expected=expected, equal=equal)


def line_items(
    scene: Scene, line: Line, progress: RunProgress | None, known: Mapping[str, PlaceProgress]
) -> int | None:
    """Return how many items came over a line; None where that is not known, or not counted."""
    if progress is None or is_quiet(scene, line):
        return None
    found = [edge_items(scene.outline.edges[k], progress, known) for k in line.edges]
    counted = [each for each in found if each is not None]
    return sum(counted) if counted else None


def is_quiet(scene: Scene, line: Line) -> bool:
    """Return whether a line is for value channels alone, of which one item is no news."""
    values = {each.node for each in scene.outline.origins if each.is_value}
    return all(scene.outline.edges[k].node in values for k in line.edges)


def edge_items(edge: Edge, progress: RunProgress, known: Mapping[str, PlaceProgress]) -> int | None:
    """Return how many items came over an edge so far.

    Of a run that the log tells of: as many as tasks of its tail have succeeded.
    """
    if edge.node in progress.items:
        return progress.items[edge.node]
    tail = known.get(edge.tail)
    if tail is None:
        return None
    return sum(tail.counts.get(name, 0) for name in ("completed", "cached", "stored"))


def state_of(place: PlaceProgress) -> str:
    """Return which of `ICONS` a process has."""
    return place_progress.place_colour(place)


def _box(
    box: Box, corner: tuple[float, float], size: tuple[float, float], place: PlaceProgress
) -> str:
    width, height = size
    phrase = place_progress.place_phrase(place)
    total = max(1, place_progress.expected_total(place))
    at, track, bars = 10.0, width - 20, []
    for part, count in place_progress.place_shares(place):
        if not count:
            continue
        wide = track * count / total
        bars.append(
            f'<rect class="nb-part nb-part-{part}" x="{at:.2f}" y="{height - 14:g}" '
            f'width="{wide:.2f}" height="6"/>'
        )
        at += wide
    kind, behind, times = "nb-node", "", ""
    if box.is_folded:
        kind = "nb-node nb-folded"
        behind = "".join(
            f'<rect class="nb-box nb-behind" x="{off}" y="{off}" width="{width:g}" '
            f'height="{height:g}" rx="6"/>'
            for off in (8, 4)
        )
        times = (
            f'<text class="nb-times" x="{width - 10:g}" y="22" text-anchor="end">'
            f"{_times(len(box.members))}</text>"
        )
    room = width - 40 - _count_width(box)
    return (
        f'<g class="{kind} nb-is-{state_of(place)}" data-key="{escape(box.name)}" '
        f'transform="translate({corner[0]:g} {corner[1]:g})">'
        f"<title>{escape(f'{box.name}: {phrase}')}</title>{behind}"
        f'<rect class="nb-box" width="{width:g}" height="{height:g}" rx="6"/>'
        f'<path class="nb-icon" transform="translate(9 9)" d="{ICONS[state_of(place)]}"/>'
        f'<text class="nb-name" x="31" y="22">{escape(_fit(box.name, room, _NAME_PX))}</text>'
        f'{times}<text class="nb-phrase" x="10" y="40">'
        f"{escape(_fit_phrase(phrase, width - 20))}"
        f'</text><rect class="nb-track" x="10" y="{height - 14:g}" width="{track:g}" height="6"/>'
        f"{''.join(bars)}</g>"
    )


def _pill(pill: Pill, corner: tuple[float, float], size: tuple[float, float]) -> str:
    width, height = size
    kind = "value" if pill.is_value else "channel"
    name = _pill_name(pill)
    return (
        f'<g class="nb-origin" transform="translate({corner[0]:g} {corner[1]:g})">'
        f"<title>{escape(f'{kind} {name}')}</title>"
        f'<rect class="nb-pill" width="{width:g}" height="{height:g}" rx="{height / 2:g}"/>'
        f'<text class="nb-pill-name" x="{width / 2:g}" y="17" text-anchor="middle">'
        f"{escape(_fit(name, width - 16, _SMALL_PX))}</text></g>"
    )


def _line(scene: Scene, line: Line, route: Sequence[tuple[float, float]], items: int | None) -> str:
    start, *rest = route
    path = [f"M{start[0]:g} {start[1]:g}"]
    at = start
    for point in rest:
        if point[1] == at[1]:
            path.append(f"H{point[0]:g}")
        else:
            bend = (at[0] + point[0]) / 2
            path.append(f"C{bend:g} {at[1]:g} {bend:g} {point[1]:g} {point[0]:g} {point[1]:g}")
        at = point
    middle = ((start[0] + rest[0][0]) / 2, (start[1] + rest[0][1]) / 2 - 4)
    text = "" if items is None else f"{items:,}"
    labels = [label for k in line.edges if (label := scene.outline.edges[k].label)]
    what = f" of {', '.join(labels[:5])}" if labels else ""
    return (
        f'<g class="nb-channel"><path class="nb-edge" d="{"".join(path)}"/>'
        f'<text class="nb-count" x="{middle[0]:g}" y="{middle[1]:g}" text-anchor="middle">'
        f"{text}</text><title>{escape(f'items{what}')}</title></g>"
    )


def _fit(text: str, room: float, character: float) -> str:
    """Shorten a text in its middle: names often differ at their end."""
    most = max(3, int(room / character))
    if cells(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{_taken(text, most - 1 - end)}…{_taken(text[::-1], end)[::-1]}"


def _fit_phrase(phrase: str, room: float) -> str:
    """Let a phrase of counts without room begin with what went wrong, and say no zeros.

    `picture.js` has the same, for counts that move.
    """
    most = int(room / _SMALL_PX)
    if len(phrase) <= most:
        return phrase
    joint = " · " if " · " in phrase else ", "
    parts = [each for each in phrase.split(joint) if not each.startswith("0 ")]
    parts.sort(key=lambda each: ("/" not in each, not each.endswith("failed")))
    brief = joint.join(parts)
    return brief if len(brief) <= most else f"{brief[: most - 1]}…"


def cells(text: str) -> int:
    """Return how many characters wide a text is: those of Chinese or Japanese are two."""
    return sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _taken(text: str, room: int) -> str:
    """Return the beginning of a text that is at most so wide."""
    wide = 0
    for at, character in enumerate(text):
        wide += _cell(character)
        if wide > room:
            return text[:at]
    return text
